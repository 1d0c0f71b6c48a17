"""Copies of a video have its fingerprint, other people in the same studio have not."""

import csv
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import yaml

from unmask.data import fingerprints
from unmask.data.fingerprints import digest_pictures, fingerprint_videos, hash_picture, hash_video
from unmask.data.near_hashes import PICTURE_BITS
from unmask.records import Fingerprint
from unmask.runtime.disk import content_digest
from unmask.runtime.record_files import read_fingerprints, write_fingerprints
from unmask.video import coded
from unmask.video.decode import read_frames
from unmask.video.encode import write_video

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "data/sources"
SPEAKER = SOURCES / "talking_heads/bbaf2n.mp4"
SIGNER = SOURCES / "sign_language/again.mkv"
RATIO = yaml.safe_load((ROOT / "params.yaml").read_text())["raw"]["alike_ratio"]


def differing(first, second):
    """Return the share of bits in which the closest of two videos' hashes differ."""
    return min(
        (int(one, 16) ^ int(other, 16)).bit_count() / PICTURE_BITS
        for one in first
        for other in second
    )


# Pictures


def test_a_hash_is_256_bits_half_of_them_set():
    rng = np.random.default_rng(0)
    found = hash_picture(rng.integers(0, 256, (90, 160, 3), dtype=np.uint8))
    assert found.shape == (32,)
    assert np.bitwise_count(found).sum() == PICTURE_BITS // 2


def test_a_hash_knows_which_frequency_a_picture_holds():
    """A cosine across the picture is one coefficient of the DCT: the only one far above 0."""
    waves = np.cos(np.pi * (np.arange(64) + 0.5) * 7 / 64)
    grey_HW = np.broadcast_to(128 + 100 * waves, (64, 64)).astype(np.uint8)
    lone = hash_picture(np.repeat(grey_HW[..., None], 3, axis=2))
    # Coefficient (0, 7) is bit 6, as the mean (0, 0) is left out.
    assert np.unpackbits(lone)[6] == 1
    negative = hash_picture(255 - np.repeat(grey_HW[..., None], 3, axis=2))
    assert np.unpackbits(negative)[6] == 0


@pytest.mark.parametrize("grey", [0, 16, 128, 255])
def test_plain_pictures_have_no_hash(grey):
    plain = np.full((90, 160, 3), grey, np.uint8)
    assert hash_picture(plain) is None
    noise = np.random.default_rng(1).normal(0, 6, plain.shape)
    assert hash_picture(np.clip(plain + noise, 0, 255).astype(np.uint8)) is None


def test_brightness_and_size_do_not_matter():
    rgb = next(read_frames(SPEAKER)).rgb_HWC()
    own = hash_picture(rgb)
    for changed in (
        np.clip(rgb * 1.1, 0, 255).astype(np.uint8),
        (rgb // 2 + 60).astype(np.uint8),
        cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        cv2.resize(rgb, (640, 640), interpolation=cv2.INTER_LINEAR),
    ):
        assert np.bitwise_count(own ^ hash_picture(changed)).sum() <= 12


def test_other_people_in_the_same_studio_are_told_apart():
    """About a hundred people, framed alike in front of one grey wall: the hardest there are."""
    with (SOURCES / "sources.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["file"].startswith("stills/")]
    people = [row["person"] for row in rows]
    hashes = np.stack(
        [
            hash_picture(cv2.imread(str(SOURCES / row["file"]))[..., ::-1].copy())
            for row in rows
        ]
    )  # fmt: skip
    bits_NN = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=-1)
    others = [bits_NN[i, j] for i, j in combinations(range(len(rows)), 2) if people[i] != people[j]]
    assert len(set(people)) > 90
    assert min(others) / PICTURE_BITS > 1.5 * RATIO


# Videos


def frames_of(path):
    return [frame.rgb_HWC() for frame in read_frames(path)]


def halve(frames):
    return [
        cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for frame in frames
    ]


def brighten(frames):
    return [np.clip(frame * 1.1, 0, 255).astype(np.uint8) for frame in frames]


COPIES: dict[str, Callable] = {
    "crf 35": lambda frames: (frames, 25, 35),
    "half size": lambda frames: (halve(frames), 25, 23),
    "12.5 frames/s": lambda frames: (frames[::2], 12.5, 23),
    "0.5 s cut off": lambda frames: (frames[13:], 25, 23),
    "1 s and the end cut off": lambda frames: (frames[25:-5], 25, 23),
    "brighter": lambda frames: (brighten(frames), 25, 23),
    "all at once": lambda frames: (brighten(halve(frames[13:])), 25, 35),
}


@pytest.mark.parametrize(
    ("path", "change"), [*((SPEAKER, change) for change in COPIES), (SIGNER, "all at once")]
)
def test_a_copy_is_found(path, change, tmp_path):
    frames, rate_fps, crf = COPIES[change](frames_of(path))
    if path == SIGNER:  # filmed at 30 frames/s
        rate_fps *= 1.2
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    copy = tmp_path / "copy.mp4"
    write_video(copy, [f[:height, :width] for f in frames], rate_fps=rate_fps, crf=crf)
    assert differing(hash_video(path), hash_video(copy)) <= RATIO


def test_real_videos_of_others_are_told_apart():
    paths = [*sorted(SPEAKER.parent.glob("*.mp4")), *sorted(SIGNER.parent.glob("*.mkv"))]
    with (SOURCES / "sources.csv").open(newline="") as lines:
        people = {row["file"]: row["person"] for row in csv.DictReader(lines)}
    with ProcessPoolExecutor(2) as pool:
        hashes = list(pool.map(hash_video, paths))
    named = [people[path.relative_to(SOURCES).as_posix()] for path in paths]
    distances = [
        differing(hashes[i], hashes[j])
        for i, j in combinations(range(len(paths)), 2)
        if named[i] != named[j]
    ]
    assert len(distances) > 300
    assert min(distances) > 1.5 * RATIO


def test_what_is_cut_at_a_keyframe_is_found(tmp_path, make_video):
    """The copy begins after the frames of the first seconds, with no encoding between."""

    def paint(index, _):
        rng = np.random.default_rng(index // 5)
        return np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)

    whole = make_video(tmp_path / "a.mp4", frames=200, rate_fps=25, paint=paint,
                       options={"g": "50", "sc_threshold": "0"})  # fmt: skip
    cut = make_video(tmp_path / "b.mp4", frames=100, rate_fps=25,
                     paint=lambda index, size: paint(index + 100, size))  # fmt: skip
    assert differing(hash_video(whole), hash_video(cut)) <= RATIO
    assert differing(hash_video(whole)[:5], hash_video(cut)) > 0.2


@pytest.mark.parametrize("grey", [0, 90])
def test_a_plain_start_is_passed_over(tmp_path, make_video, index_pictures, grey):
    pictures = list(index_pictures(60))

    def paint(index, size):
        return np.full((*size[::-1], 3), grey, np.uint8) if index < 20 else pictures[index]

    fading = make_video(tmp_path / "a.mp4", frames=60, paint=paint)
    plain = make_video(tmp_path / "b.mp4", frames=20, paint=paint)
    assert hash_video(plain) == ()
    assert 0 < len(hash_video(fading)) < 6


# Chunks


@pytest.fixture
def videos(tmp_path, make_video):
    """Three videos and three files that are none, by id."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, size in (("a", (128, 96)), ("b", (96, 96)), ("c", (64, 48))):
        make_video(folder / f"{name}.mp4", frames=90, size=size)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("<html>404</html>")
    whole = (folder / "a.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 9 // 10])
    return [(path.stem, path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_video_has_its_digest_and_stops_nothing(videos, tmp_path, workers):
    path = tmp_path / "fingerprints.csv"
    rows = {row.video_id: row for row in fingerprint_videos(videos, path, workers=workers)}
    assert read_fingerprints(path) == rows
    assert {name: row.sha256 for name, row in rows.items()} == {
        name: content_digest(file) for name, file in videos
    }
    assert {name for name, row in rows.items() if not row.pictures} == {"empty", "text"}
    assert set(rows["cut"].pictures) <= set(rows["a"].pictures)


def test_what_has_not_changed_is_not_decoded_again(videos, tmp_path):
    path = tmp_path / "fingerprints.csv"
    before = {row.video_id: row for row in fingerprint_videos(videos, path, workers=1)}
    marked = {name: replace(row, pictures=("0" * 64,)) for name, row in before.items()}
    write_fingerprints(path, marked.values())
    shutil.copyfile(dict(videos)["b"], dict(videos)["c"])
    after = {row.video_id: row for row in fingerprint_videos(videos, path, workers=1)}
    copy = replace(before["b"], video_id="c")
    assert after == marked | {"c": copy}
    assert list(fingerprint_videos(videos[:2], path, workers=1))
    assert read_fingerprints(path).keys() == {name for name, _ in videos[:2]}


def test_a_run_that_is_killed_keeps_what_an_earlier_one_knew(videos, tmp_path, monkeypatch, caplog):
    path = tmp_path / "fingerprints.csv"
    list(fingerprint_videos(videos[:2], path, workers=1))
    monkeypatch.setattr(fingerprints, "_SAVE_EVERY", 1)
    late_first = [videos[2], *videos[:2]]
    run = fingerprint_videos(late_first, path, workers=1)
    next(run)
    run.close()
    next(run := fingerprint_videos(late_first, path, workers=1))
    run.close()
    assert read_fingerprints(path).keys() == {name for name, _ in late_first}
    caplog.set_level("INFO")
    list(fingerprint_videos(videos[1:4], path, workers=1))
    assert "3 fingerprints, 1 of them new" in caplog.text
    assert read_fingerprints(path).keys() == {name for name, _ in videos[1:4]}


@pytest.mark.parametrize("spoil", ["another recipe", "damage"])
def test_what_other_code_took_is_taken_anew(videos, tmp_path, spoil):
    path = tmp_path / "fingerprints.csv"
    before = list(fingerprint_videos(videos[:2], path, workers=1))
    if spoil == "damage":
        path.write_text(path.read_text()[:-30])
    else:
        old = [Fingerprint(row.video_id, row.sha256, "old", ("0" * 64,)) for row in before]
        write_fingerprints(path, old)
    assert list(fingerprint_videos(videos[:2], path, workers=1)) == before


def test_a_file_in_dvc_s_cache_is_never_written_to(videos, tmp_path):
    path, cached = tmp_path / "fingerprints.csv", tmp_path / "cached"
    list(fingerprint_videos(videos[:1], path, workers=1))
    os.link(path, cached)
    before = cached.read_text()
    list(fingerprint_videos(videos, path, workers=1))
    assert cached.read_text() == before != path.read_text()


@pytest.mark.parametrize("failed", [fingerprints._row_of_crash, fingerprints._row_of_stall])
def test_a_decoder_that_crashed_or_hung_is_tried_again_next_time(videos, failed):
    name, file = videos[0]
    row = failed(fingerprints._Job(name, file, "recipe", None))
    assert row == Fingerprint(name, content_digest(file), "", ())


# Coded pictures


def remux(source, target):
    """Copy the coded pictures into another container."""
    with av.open(source) as read, av.open(target, "w") as written:
        written.metadata["comment"] = "a copy"
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    return target


@pytest.mark.parametrize("ending", ["mov", "mkv", "ts", "flv"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_another_container_leaves_the_coded_pictures_alone(codec, ending, tmp_path):
    if (codec, ending) == ("libx265", "flv"):
        ending = "mp4"  # FLV has no H.265 of old; the comment differs
    source = tmp_path / "source.mp4"
    with av.open(source, "w") as written:
        stream = written.add_stream(codec, rate=8, width=96, height=64, pix_fmt="yuv420p")
        for level in range(12):
            picture = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 20 * level, np.uint8))
            written.mux(stream.encode(picture))
        written.mux(stream.encode())
    copy = remux(source, tmp_path / f"copy.{ending}")
    assert content_digest(copy) != content_digest(source)
    assert digest_pictures(copy) == digest_pictures(source)


def test_other_pictures_and_an_encoding_of_their_own_have_another_digest(tmp_path):
    frames = [frame.rgb_HWC() for frame in read_frames(SPEAKER)]
    digests = {digest_pictures(SPEAKER), digest_pictures(SIGNER)}
    for name, crf in (("a", 20), ("b", 21)):
        write_video(tmp_path / f"{name}.mp4", frames, rate_fps=25, crf=crf)
        digests.add(digest_pictures(tmp_path / f"{name}.mp4"))
    write_video(tmp_path / "c.mp4", frames[:-1], rate_fps=25, crf=20)
    digests.add(digest_pictures(tmp_path / "c.mp4"))
    assert len(digests) == 5


def test_the_slices_of_a_packet_are_those_of_the_standards():
    """H.264: types 1 to 5 of five bits. H.265: types below 32 of six bits, one bit further left."""
    parameters, access, picture = b"\x67abc", b"\x09\xf0", b"\x65data\x00\x01"
    annex_b = b"\0\0\0\1" + access + b"\0\0\0\1" + parameters + b"\0\0\1" + picture + b"\0\0"
    with_lengths = b"".join(len(unit).to_bytes(4) + unit for unit in (parameters, picture))
    assert list(coded._slices("h264", annex_b, 0)) == [picture]
    assert list(coded._slices("h264", with_lengths, 4)) == [picture]
    units = [bytes([kind << 1, 1, 7]) for kind in (1, 19, 32, 35, 39)]  # two pictures, then VPS ...
    packet = b"".join(len(unit).to_bytes(2) + unit for unit in units)
    assert list(coded._slices("hevc", packet, 2)) == units[:2]
    assert list(coded._slices("vp9", b"abc", 0)) == [b"abc"]


def test_the_stream_is_part_of_a_fingerprint(tmp_path):
    copy = remux(SPEAKER, tmp_path / "copy.mkv")
    (tmp_path / "none.mp4").write_bytes(b"no video")
    videos = [("a", SPEAKER), ("b", copy), ("c", tmp_path / "none.mp4")]
    rows = list(fingerprint_videos(videos, tmp_path / "fingerprints.csv", workers=1))
    found = {row.video_id: row.stream for row in rows}
    assert found == {"a": digest_pictures(SPEAKER), "b": digest_pictures(SPEAKER), "c": ""}
    assert read_fingerprints(tmp_path / "fingerprints.csv")["b"].stream == found["b"]
