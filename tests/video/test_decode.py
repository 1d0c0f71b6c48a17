"""Decoding is checked to the frame: each made picture spells its own index."""

import contextlib
import gc
import itertools
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from waiting import wait_until

from unmask.records import Reason
from unmask.video import ahead, encode, failures, streams
from unmask.video import decode as decoding
from unmask.video import frame as frames
from unmask.video.failures import DecodeError

Picture = NDArray[np.uint8]
MakeVideo = Callable[..., Path]
ReadIndex = Callable[[Picture], int]

PATCHES_RGB = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (90, 140, 200))


def paint_patches(_: int, size: tuple[int, int]) -> Picture:
    width, height = size
    patch = np.arange(width) * len(PATCHES_RGB) // width
    row_WC = np.array(PATCHES_RGB, np.uint8)[patch]
    return np.repeat(row_WC[None], height, axis=0)


def paint_slopes(index: int, size: tuple[int, int]) -> Picture:
    """Smooth and within what YUV can tell; no two places far apart are alike."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    waves = (x, y, 0.5 + 0.5 * np.sin(6 * x + 4 * y + index))
    return (np.stack(waves, axis=2) * 128 + 64).astype(np.uint8)


@pytest.fixture
def read_indices(read_index: ReadIndex) -> Callable[..., list[int]]:
    def read(path: Path, rate_fps: float | None = None) -> list[int]:
        return [read_index(f.rgb_HWC()) for f in decoding.read_frames(path, rate_fps=rate_fps)]

    return read


def times_of(path: Path, rate_fps: float | None = None) -> list[float]:
    return [frame.time_s for frame in decoding.read_frames(path, rate_fps=rate_fps)]


# --- which frames, and when ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.h264"])
def test_every_frame_comes_once_in_order_at_its_time(tmp_path, make_video, read_indices, name):
    path = make_video(tmp_path / name, frames=40, rate_fps=25)
    assert read_indices(path) == list(range(40))
    assert times_of(path) == pytest.approx([k / 25 for k in range(40)], abs=1e-9)


def test_ten_frames_a_second_out_of_thirty_are_every_third(tmp_path, make_video, read_indices):
    path = make_video(tmp_path / "a.mp4", frames=60, rate_fps=30)
    assert read_indices(path, 10) == list(range(0, 60, 3))


def test_ten_frames_a_second_out_of_25_are_those_on_screen(tmp_path, make_video, read_indices):
    path = make_video(tmp_path / "a.mp4", frames=50, rate_fps=25)
    # Tick 0.1 s falls into frame 2 (0.08 to 0.12 s), tick 0.2 s starts frame 5.
    assert read_indices(path, 10)[:6] == [0, 2, 5, 7, 10, 12]
    assert read_indices(path, 10) == [5 * tick // 2 for tick in range(20)]


def test_millisecond_timestamps_do_not_shift_the_ticks(tmp_path, make_video, read_indices):
    path = make_video(tmp_path / "a.mkv", frames=60, rate_fps=30)  # 0.0333 s is stored as 0.033
    assert read_indices(path, 15) == list(range(0, 60, 2))


def test_ntsc_rate_falls_behind_the_ticks_by_a_frame_a_thousand(tmp_path, make_video, read_indices):
    path = make_video(tmp_path / "a.mp4", frames=60, rate_fps=30_000 / 1001)
    # Frame 12 starts at 0.4004 s, within 0.5 ms of its tick; 18, at 0.6006 s, does not.
    indices = read_indices(path, 10)
    assert indices[:5] == [0, 3, 6, 9, 12]
    assert indices[6:11] == [17, 20, 23, 26, 29]


def test_a_rate_above_the_video_s_own_repeats_nothing(tmp_path, make_video, read_indices):
    path = make_video(tmp_path / "a.mp4", frames=12, rate_fps=6)
    assert read_indices(path, 10) == list(range(12))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_rate_keeps_its_times_and_shows_the_last_started(
    tmp_path, make_video, read_indices, name
):
    times_s = [0, 0.04, 0.08, 0.5, 0.51, 0.52, 0.97, 1.3]
    path = make_video(tmp_path / name, times_s=times_s)
    assert times_of(path) == pytest.approx(times_s, abs=1e-3)
    # Ticks 0, .1-.4, .5, .6-.9, 1-1.2, 1.3: what a viewer sees then.
    assert read_indices(path, 10) == [0, 2, 3, 5, 6, 7]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_time_counts_from_the_first_frame(tmp_path, make_video, read_indices, name):
    path = make_video(tmp_path / name, times_s=[5 + k / 20 for k in range(60)])
    assert times_of(path) == pytest.approx([k / 20 for k in range(60)], abs=1e-3)
    assert read_indices(path, 10) == list(range(0, 60, 2))


@pytest.mark.parametrize("rate_fps", [None, 10])
def test_a_single_frame_is_a_video(tmp_path, make_video, read_indices, rate_fps):
    assert read_indices(make_video(tmp_path / "a.mp4", frames=1), rate_fps) == [0]


def test_keyframes_are_those_that_need_no_other(tmp_path, make_video, read_index):
    path = make_video(tmp_path / "a.mp4", frames=50, options={"g": "20", "sc_threshold": "0"})
    found = [(read_index(f.rgb_HWC()), round(f.time_s, 3)) for f in decoding.read_keyframes(path)]
    assert found == [(0, 0.0), (20, 0.667), (40, 1.333)]
    data = path.read_bytes()
    pictures = len(data) - data.index(b"mdat")
    path.write_bytes(data[: -pictures // 4])
    assert [read_index(f.rgb_HWC()) for f in decoding.read_keyframes(path)] == [0, 20]


@pytest.mark.parametrize("rate_fps", [10, 7.3])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mkv", "libx264", {"bf": "8", "b-pyramid": "normal"}),
        ("a.ts", "libx264", {"x264-params": "open-gop=1:keyint=20"}),
        ("a.mp4", "libx265", {"x265-params": "log-level=error"}),
        ("a.webm", "libvpx-vp9", {"lag-in-frames": "25"}),
        ("a.mpg", "mpeg2video", {"bf": "2"}),
        ("a.avi", "mpeg4", {"bf": "2"}),
    ],
)
def test_frames_that_no_tick_shows_need_not_be_decoded(
    tmp_path, make_video, monkeypatch, rate_fps, name, codec, options
):
    path = make_video(
        tmp_path / name, frames=100, rate_fps=30, codec=codec, options=options, paint=paint_slopes
    )

    def read():
        decoded, decode = [], decoding._decode

        def count(*args, **kwargs):
            for frame in decode(*args, **kwargs):
                decoded.append(frame)
                yield frame

        with monkeypatch.context() as patch:
            patch.setattr(decoding, "_decode", count)
            frames = list(decoding.read_frames(path, rate_fps=rate_fps))
        return [(frame.time_s, frame.rgb_HWC().tobytes()) for frame in frames], len(decoded)

    frames, decoded = read()
    monkeypatch.setattr(decoding._Skipper, "_is_needed", lambda *_: True)
    all_frames, all_decoded = read()
    assert frames == all_frames
    assert all_decoded == 100
    if codec in ("libx264", "mpeg2video"):  # others decode all the same, or have no such frames
        assert len(frames) <= decoded < all_decoded


def test_reading_ahead_changes_neither_frames_nor_errors(tmp_path, make_video, read_index):
    path = make_video(tmp_path / "a.mkv", frames=60)
    taken = []

    def read():
        for frame in decoding.read_frames(path):
            taken.append(frame)
            yield frame

    frames = ahead.read_ahead(read())
    assert read_index(next(frames).rgb_HWC()) == 0
    wait_until(lambda: len(taken) > 2)
    time.sleep(0.1)  # time for more than it should take
    assert len(taken) <= 20
    assert [read_index(frame.rgb_HWC()) for frame in frames] == list(range(1, 60))

    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = []
    with pytest.raises(failures.TruncatedError):
        found.extend(ahead.read_ahead(decoding.read_frames(path)))
    assert len(found) == len(taken_until_it_breaks(path))


def taken_until_it_breaks(path):
    frames = []
    with contextlib.suppress(failures.TruncatedError):
        frames.extend(decoding.read_frames(path))
    return frames


def test_who_reads_ahead_may_stop_early(tmp_path, make_video):
    threads = threading.active_count()
    frames = ahead.read_ahead(decoding.read_frames(make_video(tmp_path / "a.mp4", frames=60)))
    next(frames)
    frames.close()
    assert threading.active_count() == threads


def test_frames_are_decoded_only_as_they_are_taken(tmp_path, make_video, read_index):
    path = truncate(make_video(tmp_path / "a.mp4", frames=600), keep=0.5)
    first = list(
        itertools.islice(decoding.read_frames(path), 3)
    )  # the end, which raises, is far off
    assert [read_index(frame.rgb_HWC()) for frame in first] == [0, 1, 2]


def test_memory_does_not_grow_with_length(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", frames=300, size=(1280, 720), paint=paint_half_seconds)
    process = psutil.Process()
    seen_bytes = []
    gc.disable()  # a picture that waits for the garbage collector is memory too
    try:
        for frame in decoding.read_frames(path):
            frame.thumbnail_HW()
            frame.reduced_rgb_HWC(320)
            frame.crop_rgb_HWC((100, 100, 300, 300))
            frame.reduced_crop_rgb_HWC((100, 100, 300, 300), 48)
            seen_bytes.append(process.memory_info().rss)
    finally:
        gc.enable()
    assert len(seen_bytes) == 300  # 415 MB of pictures
    assert max(seen_bytes) - seen_bytes[50] < 60e6


def paint_half_seconds(index: int, size: tuple[int, int]) -> Picture:
    return np.full((size[1], size[0], 3), index // 15 * 7 % 256, np.uint8)


# --- the picture --------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_pictures_are_upright(tmp_path, make_video, read_index, rotation_deg):
    path = make_video(tmp_path / "a.mp4", frames=40, size=(96, 128), rotation_deg=rotation_deg)
    info = decoding.probe(path)
    assert (info.width, info.height, info.rotation_deg) == (96, 128, rotation_deg)
    for index, frame in enumerate(decoding.read_frames(path)):
        assert (frame.width, frame.height) == (96, 128)
        assert frame.rgb_HWC().shape == (128, 96, 3)
        assert frame.reduced_rgb_HWC(64).shape == (64, 48, 3)
        assert read_index(frame.rgb_HWC()) == read_index(frame.reduced_rgb_HWC(64)) == index
        whole_HWC = frame.rgb_HWC()
        assert np.array_equal(frame.crop_rgb_HWC((11, 20, 60, 101)), whole_HWC[20:101, 11:60])


def test_a_quarter_turn_is_written_as_phones_write_it(tmp_path, make_video):
    # ISO 14496-12, 8.3.2: the matrix of a portrait phone video is (0 1 0; -1 0 0), in 16.16.
    data = make_video(tmp_path / "a.mp4", size=(96, 128), rotation_deg=90).read_bytes()
    matrix = np.frombuffer(data, ">i4", count=6, offset=data.index(b"tkhd") + 44)
    assert (matrix / 65536).tolist() == [0, 1, 0, -1, 0, 0]


@pytest.mark.parametrize(
    ("size", "max_side_px", "expected_size"),
    [
        ((320, 180), 160, (160, 90)),
        ((180, 320), 160, (90, 160)),
        ((320, 180), 100, (100, 56)),
        ((320, 180), 640, (320, 180)),
    ],
)
def test_reduced_picture_has_its_longest_side(
    tmp_path, make_video, size, max_side_px, expected_size
):
    path = make_video(tmp_path / "a.mp4", frames=1, size=size)
    (frame,) = decoding.read_frames(path)
    assert frame.reduced_rgb_HWC(max_side_px).shape == (*expected_size[::-1], 3)


def test_reducing_averages_the_pixels(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", frames=1, size=(320, 180), paint=paint_slopes)
    (frame,) = decoding.read_frames(path)
    blocks = frame.rgb_HWC().reshape(45, 4, 80, 4, 3).mean(axis=(1, 3))
    assert np.abs(frame.reduced_rgb_HWC(80) - blocks).max() <= 4


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("libx264", "yuv420p", (160, 120)),
        ("libx264", "yuv420p", (158, 118)),
        ("libx264", "yuv422p", (160, 120)),
        ("libx264", "yuv444p", (160, 120)),
        ("libx264", "yuv444p", (159, 119)),
        ("libx264", "yuv420p10le", (160, 120)),
        ("ffv1", "yuv420p10le", (159, 120)),
        ("libx264", "yuv422p10le", (160, 120)),
        ("mjpeg", "yuvj420p", (159, 120)),
        ("mjpeg", "yuvj420p", (159, 119)),
        ("rawvideo", "yuv411p", (160, 120)),
        ("rawvideo", "bgr24", (160, 120)),
    ],
)
def test_a_crop_equals_the_same_part_of_the_whole(tmp_path, make_video, codec, pix_fmt, size):
    kind = {"codec": codec, "pix_fmt": pix_fmt, "size": size}
    path = make_video(tmp_path / "a.avi", frames=1, paint=paint_slopes, **kind)
    (frame,) = decoding.read_frames(path)
    whole_HWC = frame.rgb_HWC()
    for box in [(0, 0, *size), (3, 5, 4, 6), (33, 17, 96, 80), (99, 61, *size)]:
        left, top, right, bottom = box
        crop_HWC = frame.crop_rgb_HWC(box)
        assert crop_HWC.shape == (bottom - top, right - left, 3)
        # swscale dithers what has 10 bits, by where a pixel lies.
        most = 4 if pix_fmt.endswith("10le") else 2
        assert np.abs(crop_HWC.astype(int) - whole_HWC[top:bottom, left:right]).max() <= most


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 129, 5), (5, 5, 5, 9), (0, 90, 5, 97)])
def test_a_box_outside_the_frame_is_a_mistake(tmp_path, make_video, box):
    (frame,) = decoding.read_frames(make_video(tmp_path / "a.mp4", frames=1))
    with pytest.raises(AssertionError, match="128x96"):
        frame.crop_rgb_HWC(box)


@pytest.mark.parametrize("colorspace", [1, 2, 6])
def test_colours_survive_whichever_way_they_are_read(tmp_path, make_video, colorspace):
    path = make_video(
        tmp_path / "a.mp4",
        frames=1,
        size=(192, 64),
        paint=paint_patches,
        colorspace=colorspace,
        options={"crf": "1"},
    )
    (frame,) = decoding.read_frames(path)
    for patch, rgb in enumerate(PATCHES_RGB):
        left = patch * 32
        crop_HWC = frame.crop_rgb_HWC((left + 8, 8, left + 24, 56))
        assert np.abs(crop_HWC - np.array(rgb)).max() <= 5
        assert np.abs(frame.rgb_HWC()[32, left + 16] - np.array(rgb)).max() <= 5
        assert np.abs(frame.reduced_rgb_HWC(96)[16, patch * 16 + 8] - np.array(rgb)).max() <= 5


def test_probe_tells_what_the_file_says(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", frames=50, rate_fps=25, size=(128, 96))
    assert decoding.probe(path) == decoding.Info(128, 96, 2.0, 25.0, "h264", 0)


def test_probe_of_a_late_start_tells_the_length_not_the_end(tmp_path, make_video):
    path = make_video(tmp_path / "a.mkv", times_s=[5 + k / 20 for k in range(60)])
    assert decoding.probe(path).duration_s == pytest.approx(3, abs=0.06)


def test_probe_does_not_count_sound_that_goes_on(tmp_path, make_video, read_indices):
    path = make_video(tmp_path / "a.mkv", frames=30, sound_s=8)
    assert decoding.probe(path).duration_s == pytest.approx(1, abs=0.01)
    assert read_indices(path) == list(range(30))


# --- what cannot be read ------------------------------------------------------------------------


def truncate(path: Path, keep: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv"])
@pytest.mark.parametrize(("rate_fps", "step"), [(None, 1), (10, 3)])
def test_a_truncated_video_gives_what_it_has_then_says_where_it_stops(
    tmp_path, make_video, read_index, name, rate_fps, step
):
    path = make_video(tmp_path / name, frames=300, rate_fps=30, options={"bf": "0"})
    frames = decoding.read_frames(truncate(path, keep=0.6), rate_fps=rate_fps)
    indices: list[int] = []  # extend keeps what comes before the exception
    with pytest.raises(
        failures.TruncatedError, match=r"end at .* s of 10\.\d\d s\. Download"
    ) as info:
        indices.extend(read_index(frame.rgb_HWC()) for frame in frames)
    assert 60 < len(indices) * step < 240
    assert indices == list(range(0, len(indices) * step, step))
    frames_decoded = round(info.value.last_s * 30)
    assert indices[-1] < frames_decoded <= indices[-1] + step


def test_a_cut_of_the_last_second_is_told_by_the_container(tmp_path, make_video, read_index):
    path = truncate(make_video(tmp_path / "a.mp4", frames=300), keep=0.95)
    indices: list[int] = []
    with pytest.raises(failures.TruncatedError, match="ends within a box of the kind 'mdat'"):
        indices.extend(read_index(frame.rgb_HWC()) for frame in decoding.read_frames(path))
    assert 240 < len(indices) < 300


def test_errors_survive_a_process_pool():
    error = pickle.loads(pickle.dumps(failures.TruncatedError("stops", last_s=4.5)))
    assert (str(error), error.last_s, type(error)) == ("stops", 4.5, failures.TruncatedError)
    error = pickle.loads(pickle.dumps(DecodeError("no", reason=Reason.FORBIDDEN)))
    assert (str(error), error.reason, type(error)) == ("no", Reason.FORBIDDEN, DecodeError)


def test_a_hole_in_the_middle_costs_only_its_own_frames(tmp_path, make_video, read_index, caplog):
    path = make_video(tmp_path / "a.mp4", frames=300, options={"g": "10", "bf": "0"})
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + len(data) // 10] = bytes(len(data) // 10)
    path.write_bytes(data)
    account = decoding.Account()
    indices = [read_index(f.rgb_HWC()) for f in decoding.read_frames(path, account=account)]
    assert indices[:100] == list(range(100))
    assert indices[-100:] == list(range(200, 300))
    assert account.left_out.total() == 300 - len(indices) > 0
    assert "damaged packets" in caplog.text


def write_text(path: Path) -> None:
    path.write_text("These are not the frames you are looking for.\n" * 50)


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(20_000))


def write_playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n")


def write_photo(path: Path) -> None:
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", width=64, height=48, pix_fmt="rgb24")
        container.mux(stream.encode(av.VideoFrame(64, 48, "rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    "read",
    [
        decoding.probe,
        lambda path: next(decoding.read_frames(path)),
        lambda path: next(decoding.read_keyframes(path)),
    ],
)
@pytest.mark.parametrize(
    ("write", "found"),
    [
        (lambda _: None, "found no file there"),
        (Path.mkdir, "found a folder"),
        (write_nothing, "found an empty file"),
        (write_text, "found no whole video file"),
        (write_noise, "found no whole video file"),
        (write_playlist, "found no whole video file"),
        (write_photo, "found no whole video file"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path, read, write, found):
    path = tmp_path / "a.mp4"
    write(path)
    with pytest.raises(DecodeError, match=found) as info:
        read(path)
    assert str(info.value).startswith(f"{path}: asked for the frames of a video")
    assert "\n" not in str(info.value)
    assert not isinstance(info.value, failures.TruncatedError)


@pytest.mark.parametrize("covers", [0, 1])
def test_sound_is_not_a_video_even_with_a_cover_picture(tmp_path, covers):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", 48_000)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        silence.sample_rate = 48_000
        for _ in range(covers):
            cover = container.add_stream("mjpeg", width=64, height=48, pix_fmt="yuvj420p")
            cover.disposition = av.stream.Disposition.attached_pic
            container.mux(cover.encode(av.VideoFrame(64, 48, "yuvj420p")))
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    with pytest.raises(DecodeError, match="no video stream, only audio"):
        list(decoding.read_frames(path))


def test_a_video_without_a_decodable_frame_is_refused(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4")
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))
    for read in (
        decoding.probe,
        lambda path: list(decoding.read_frames(path)),
        lambda path: list(decoding.read_keyframes(path)),
    ):
        with pytest.raises(DecodeError, match="found none that decodes"):
            read(path)


def test_metadata_in_another_alphabet_does_not_matter(tmp_path, read_indices, index_pictures):
    path = tmp_path / "a.mp4"
    encode.write_video(path, index_pictures(3), rate_fps=10, crf=18, metadata={"comment": "Grusse"})
    path.write_bytes(path.read_bytes().replace(b"Grusse", b"Gr\xfc\xdfe "))  # Latin-1
    assert read_indices(path) == [0, 1, 2]


@pytest.mark.parametrize(
    "name", ["a b.mp4", "vidéo 脸.mp4", "-rf.mp4", "12:30.mp4", "50%d.mp4", "a?b#c.mp4"]
)
def test_any_name_will_do(tmp_path, monkeypatch, read_indices, name, index_pictures):
    monkeypatch.chdir(tmp_path)  # a bare name, as a shell gives it
    encode.write_video(Path(name), index_pictures(3), rate_fps=10, crf=18)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert read_indices(Path(name)) == [0, 1, 2]


# --- writing ------------------------------------------------------------------------------------


def test_what_is_written_reads_back(tmp_path, read_indices, index_pictures):
    path = tmp_path / "a.mp4"
    count = encode.write_video(
        path, index_pictures(25), rate_fps=29.97, crf=18, metadata={"comment": "crops/1"}
    )
    assert count == 25
    assert read_indices(path) == list(range(25))
    assert decoding.probe(path).rate_fps == pytest.approx(29.97)
    with av.open(str(path)) as container:
        assert container.metadata["comment"] == "crops/1"
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays while it downloads


def test_written_colours_read_back(tmp_path):
    path = tmp_path / "a.mp4"
    patches_HWC = paint_patches(0, (192, 64))
    encode.write_video(path, [patches_HWC], rate_fps=10, crf=1)
    (frame,) = decoding.read_frames(path)
    centres = slice(16, None, 32)
    seen = frame.rgb_HWC()[32, centres].astype(int)
    assert np.abs(seen - patches_HWC[32, centres]).max() <= 5


def test_the_same_frames_give_the_same_bytes_and_no_versions(tmp_path):
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (12, 64, 64, 3), dtype=np.uint8))
    written = []
    for name in ("a.mp4", "b.mp4"):
        encode.write_video(tmp_path / name, frames, rate_fps=10, crf=20)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    assert b"x264" not in written[0]
    assert b"Lav" not in written[0]


def test_a_failure_leaves_neither_a_part_nor_a_changed_file(tmp_path, index_pictures):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"what was there before")

    def break_off() -> Iterator[Picture]:
        yield from index_pictures(60)
        raise RuntimeError("the camera fell")

    with pytest.raises(RuntimeError, match="camera"):
        encode.write_video(path, break_off(), rate_fps=10, crf=18)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"what was there before"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [([], "needs a frame"), ([(127, 96)], "even"), ([(128, 96), (64, 96)], "128, 96")],
)
def test_frames_that_make_no_video_are_a_mistake(tmp_path, sizes, message):
    frames = (np.zeros((height, width, 3), np.uint8) for width, height in sizes)
    with pytest.raises(AssertionError, match=message):
        encode.write_video(tmp_path / "a.mp4", frames, rate_fps=10, crf=18)
    assert list(tmp_path.iterdir()) == []


def test_several_writers_at_once_and_one_discarded(tmp_path, read_indices, index_pictures):
    paths = [tmp_path / f"{k}.mp4" for k in range(3)]
    writers = [encode.VideoWriter(path, rate_fps=10, crf=18, preset="ultrafast") for path in paths]
    for frame_HWC in index_pictures(20):
        for writer in writers:
            writer.write(frame_HWC)
    assert not any(path.exists() for path in paths)
    writers[1].discard()
    for writer in writers:
        writer.close()
    assert sorted(tmp_path.iterdir()) == [paths[0], paths[2]]
    assert read_indices(paths[0]) == read_indices(paths[2]) == list(range(20))


def test_a_missing_folder_keeps_its_own_error(tmp_path, index_pictures):
    with pytest.raises(FileNotFoundError):
        encode.write_video(tmp_path / "no" / "a.mp4", index_pictures(3), rate_fps=10, crf=18)


# ---------------------------------------------------------------- what benchmarks/fuzz.py found


def test_a_stream_that_appears_after_the_start_is_passed_over(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    path = make_video(tmp_path / "a.ts", frames=60)
    whole = path.read_bytes()
    packets = [whole[at : at + 188] for at in range(0, len(whole), 188)]
    is_video = [packet[1] % 32 * 256 + packet[2] == 256 for packet in packets]
    late = [
        packet[:1] + bytes([packet[1] // 32 * 32 + 300 // 256, 300 % 256]) + packet[3:]
        for packet in itertools.compress(packets, is_video)
    ]
    path.write_bytes(whole + b"".join(late))
    assert len(list(decoding.read_frames(path))) == 60


@pytest.mark.parametrize("colorspace", [8, 10, 14])  # YCgCo, BT.2020 of constant luminance, ICtCp
def test_colours_that_cannot_be_converted_count_as_unspecified(
    colorspace: int, make_video: MakeVideo, tmp_path: Path
) -> None:
    odd, plain = (
        make_video(tmp_path / f"{number}.mp4", frames=2, colorspace=number, paint=paint_patches)
        for number in (colorspace, 2)
    )
    for frame, expected in zip(decoding.read_frames(odd), decoding.read_frames(plain), strict=True):
        assert np.array_equal(frame.rgb_HWC(), expected.rgb_HWC())
        assert np.array_equal(frame.reduced_rgb_HWC(50), expected.reduced_rgb_HWC(50))


def test_a_pixel_format_that_cannot_be_converted_is_the_video_s_fault() -> None:
    frame = frames.Frame(0.0, 0.1, av.VideoFrame(64, 48, "x2rgb10be"))
    for convert in (frame.rgb_HWC, lambda: frame.reduced_rgb_HWC(32)):
        with pytest.raises(DecodeError, match=r"64 x 48 pixels.*x2rgb10be.*Convert the video"):
            convert()


def test_frames_larger_than_8k_are_refused(
    make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a.mp4", frames=3, size=(128, 96))
    monkeypatch.setattr(streams, "_MAX_PIXELS", 128 * 96)
    assert len(list(decoding.read_frames(path))) == 3
    monkeypatch.setattr(streams, "_MAX_PIXELS", 128 * 96 - 1)
    with pytest.raises(DecodeError, match=r"128 x 96 pixels.*8K at most"):
        next(decoding.read_frames(path))


def test_a_header_that_declares_a_giant_frame_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", 10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(64, 48, "rgb8")))
        container.mux(stream.encode(None))
    whole = path.read_bytes()
    assert len(list(decoding.read_frames(path))) == 3
    path.write_bytes(whole[:6] + b"\xe0\x2e\xe0\x2e" + whole[10:])  # 12000 x 12000
    with pytest.raises(DecodeError, match="none that decodes"):
        next(decoding.read_frames(path))


def test_8k_is_read(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=1, size=(7680, 4320))
    (frame,) = decoding.read_frames(path)
    assert frame.reduced_rgb_HWC(640).shape == (360, 640, 3)
