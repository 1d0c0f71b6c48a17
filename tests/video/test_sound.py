"""Sound that is copied beside pictures, heard again by decoding it."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.runtime.test_disk import limit
from unmask.errors import DiskError
from unmask.video import sound
from unmask.video.decode import probe
from unmask.video.encode import write_video

RATE_HZ = 48_000
CLICK_S = 1.0  # when it is heard in every source


def write_source(path: Path, codec: str, *, starts_s: float = 0.0, seconds: float = 2.0) -> Path:
    """Write a video whose pictures start late, with a click a second after the first of them."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", 25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        speech = container.add_stream(codec, RATE_HZ, layout="stereo")
        tone_2N = np.zeros((2, round((starts_s + seconds) * RATE_HZ)), np.float32)
        at = round((starts_s + CLICK_S) * RATE_HZ)
        tone_2N[:, at : at + 4800] = np.sin(np.arange(4800) / RATE_HZ * 2 * np.pi * 1000) * 0.8
        for start in range(0, tone_2N.shape[1], 960):
            part = np.ascontiguousarray(tone_2N[:, start : start + 960])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
            container.mux(speech.encode(frame))
        for index in range(round(seconds * 25)):
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.pts, picture.time_base = index + round(starts_s * 25), Fraction(1, 25)
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode(None))
        container.mux(speech.encode(None))
    return path


def write_pictures(path: Path, seconds: float) -> Path:
    """Write as many frames as annotate would, and its comment."""
    frames = (np.full((48, 64, 3), 90, np.uint8) for _ in range(round(seconds * 25)))
    write_video(path, frames, rate_fps=25, crf=30, metadata={"comment": "ours"})
    return path


def clicks(path: Path) -> tuple[float, float]:
    """Return when the click begins, and when all sound ends, in seconds after the first picture."""
    with av.open(str(path)) as container:
        seen, heard = container.streams.video[0], container.streams.audio[0]
        first_s = float((seen.start_time or 0) * seen.time_base)
        loud_s, end_s = [], 0.0
        for frame in container.decode(heard):
            level_N = np.abs(frame.to_ndarray().astype(np.float64)).reshape(-1, frame.samples)[0]
            level_N = level_N / (1 if "flt" in frame.format.name else 2**15)
            end_s = frame.time + frame.samples / RATE_HZ - first_s
            loud_s += [frame.time + at / RATE_HZ - first_s for at in np.flatnonzero(level_N > 0.3)]
    return loud_s[0], end_s


@pytest.mark.parametrize(
    ("name", "codec", "starts_s"),
    [
        ("a.mp4", "aac", 0.0), ("a.mp4", "aac", 0.48), ("a.mov", "alac", 0.0),
        ("a.mkv", "libopus", 0.0), ("a.mkv", "libopus", 0.48), ("a.mkv", "flac", 0.0),
        ("a.avi", "libmp3lame", 0.0), ("a.ts", "aac", 0.0), ("a.ts", "aac", 0.48),
        ("a.mkv", "ac3", 0.0),
    ],
)  # fmt: skip
def test_sound_is_heard_when_it_was_heard(tmp_path, name, codec, starts_s):
    source = write_source(tmp_path / name, codec, starts_s=starts_s)
    before_s, _ = clicks(source)
    out = tmp_path / "out.mp4"
    sound.add(write_pictures(tmp_path / "silent.mp4", 2.0), source, out)
    click_s, end_s = clicks(out)
    assert click_s == pytest.approx(before_s, abs=0.003)
    assert click_s == pytest.approx(CLICK_S, abs=0.06)
    assert end_s == pytest.approx(2.0, abs=0.1)
    assert probe(out).duration_s == pytest.approx(2.0, abs=0.05)
    with av.open(str(out)) as container:
        assert container.metadata["comment"] == "ours"
        assert sum(1 for _ in container.decode(video=0)) == 50


def test_sound_ends_with_pictures_that_broke_off(tmp_path):
    source = write_source(tmp_path / "a.mp4", "aac", seconds=6.0)
    sound.add(write_pictures(tmp_path / "silent.mp4", 2.0), source, tmp_path / "out.mp4")
    click_s, end_s = clicks(tmp_path / "out.mp4")
    assert (click_s, end_s) == (pytest.approx(1.0, abs=0.06), pytest.approx(2.0, abs=0.05))


def test_sound_that_breaks_off_is_kept_as_far_as_it_goes(tmp_path):
    source = write_source(tmp_path / "a.mkv", "libopus", seconds=20.0)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    sound.add(write_pictures(tmp_path / "silent.mp4", 20.0), source, tmp_path / "out.mp4")
    click_s, end_s = clicks(tmp_path / "out.mp4")
    assert click_s == pytest.approx(1.0, abs=0.06)
    assert 2 < end_s < 18


def test_sound_whose_times_jump_back_is_left_out(tmp_path, caplog):
    source = write_source(tmp_path / "a.ts", "aac")
    source.write_bytes(source.read_bytes() * 2)  # two recordings in one file
    pictures = write_pictures(tmp_path / "silent.mp4", 4.0)
    content = pictures.read_bytes()
    sound.add(pictures, source, tmp_path / "out.mp4")
    assert "its sound can't be copied (Invalid argument)" in caplog.text
    assert (tmp_path / "out.mp4").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ts", "out.mp4"]


def test_a_full_disk_is_a_plain_error_and_leaves_nothing(tmp_path):
    source = write_source(tmp_path / "a.mp4", "aac")
    pictures = write_pictures(tmp_path / "silent.mp4", 2.0)
    before = set(tmp_path.iterdir())
    with limit(1000), pytest.raises(DiskError, match="File too large"):
        sound.add(pictures, source, tmp_path / "out.mp4")
    assert set(tmp_path.iterdir()) == before


def test_no_planted_link_is_written_through(tmp_path):
    source = write_source(tmp_path / "a.mp4", "aac")
    pictures = write_pictures(tmp_path / "silent.mp4", 2.0)
    victim = tmp_path / "victim"
    for name in (f".out.mp4.{os.getpid()}.part", "out.mp4"):
        (tmp_path / name).symlink_to(victim)
    sound.add(pictures, source, tmp_path / "out.mp4")
    assert not victim.exists()
    assert not (tmp_path / "out.mp4").is_symlink()


def test_without_sound_or_with_one_of_another_kind_there_are_the_pictures(
    tmp_path, make_video, caplog
):
    mute = make_video(tmp_path / "mute.mp4", frames=10)
    wave = write_source(tmp_path / "wave.avi", "pcm_s16le")
    for source, said in ((mute, ""), (wave, "its sound, pcm_s16le, can't be copied into an MP4")):
        pictures = write_pictures(tmp_path / "silent.mp4", 1.0)
        content = pictures.read_bytes()
        sound.add(pictures, source, tmp_path / "out.mp4")
        assert (tmp_path / "out.mp4").read_bytes() == content
        assert said in caplog.text
        assert bool(said) == bool(caplog.text)
