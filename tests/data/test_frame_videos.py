"""Folders of frames through the raw stage: made into videos once, and what is left out counted."""

import logging
import zipfile

import cv2
import numpy as np
import pytest
from miniatures import frames, write

from tests.data.test_raw import fill
from unmask.data import archive, datasets, frame_videos
from unmask.runtime.record_files import read_fingerprints, read_index
from unmask.video import pictures
from unmask.video.decode import read_frames


def picture(seed, number=0):
    """Return a PNG of a scene that moves."""
    scene = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    scene = np.roll(np.kron(scene, np.ones((12, 12, 1), np.uint8)), number, axis=1)
    return cv2.imencode(".png", scene)[1].tobytes()


def folder(path, seed, numbers=range(14)):
    """Return the files of a folder of frames."""
    named = frames(path, numbers)
    return {name: picture(seed, number) for name, number in zip(named, numbers, strict=True)}


def place(chunk, videos):
    """Put all of a chunk's videos in place; return their names."""
    with archive.open_chunk(chunk) as files:
        return list(frame_videos.fill(files, datasets.read(files), videos))


def warned(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.fixture
def chunk(tmp_path):
    return write(tmp_path / "chunk", folder("real/a", 1) | folder("fake/x/a", 2))


def test_a_chunk_of_frames_goes_through_the_raw_stage(tmp_path):
    files = {}
    for number in range(16):
        files |= folder(f"Celeb-real/frames/id{number}_0000", number)
        files |= folder(f"Celeb-synthesis/frames/id{number}_id{number ^ 1}_0000", 100 + number)
    raw_dir = tmp_path / "raw"
    fill(write(tmp_path / "celeb", files), raw_dir)
    rows = read_index(raw_dir / "index.csv")
    assert {row.label for row in rows} == {0, 1}
    assert all(row.file.endswith(".mov") for row in rows)
    prints = read_fingerprints(raw_dir / "fingerprints.csv")
    assert all(prints[row.video_id].pictures for row in rows)
    assert {row.file for row in rows} <= pictures.read_tracks(raw_dir / "videos")
    assert len(list(read_frames(raw_dir / "videos" / rows[0].file))) == 14


def test_a_video_is_made_once(tmp_path, chunk):
    videos = tmp_path / "videos"
    assert place(chunk, videos) == ["fake_x_a.mov", "real_a.mov"]
    before = {path.name: path.stat().st_ino for path in videos.iterdir()}
    place(chunk, videos)
    assert {path.name: path.stat().st_ino for path in videos.iterdir()} == before
    # One picture changes: its video alone is made anew.
    (chunk / "real/a/003.png").write_bytes(picture(9))
    place(chunk, videos)
    after = {path.name: path.stat().st_ino for path in videos.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"real_a.mov", ".frames.json"}


def test_a_video_that_was_cut_or_replaced_is_made_anew(tmp_path, chunk):
    videos = tmp_path / "videos"
    place(chunk, videos)
    whole = (videos / "real_a.mov").read_bytes()
    (videos / "real_a.mov").unlink()
    (videos / "real_a.mov").write_bytes(whole[:-9])
    (videos / "fake_x_a.mov").unlink()
    (videos / "fake_x_a.mov").symlink_to(tmp_path / "elsewhere")
    place(chunk, videos)
    assert (videos / "real_a.mov").read_bytes() == whole
    assert not (videos / "fake_x_a.mov").is_symlink()


def test_a_folder_that_left_the_chunk_takes_its_video_with_it(tmp_path, chunk):
    videos = tmp_path / "videos"
    place(chunk, videos)
    for path in (chunk / "fake/x/a").iterdir():
        path.unlink()
    assert place(chunk, videos) == ["real_a.mov"]
    assert {path.name for path in videos.iterdir()} == {"real_a.mov", ".frames.json"}
    assert pictures.read_notes(videos).keys() == {"real_a.mov"}


def test_damaged_notes_cost_time_only(tmp_path, chunk, caplog):
    videos = tmp_path / "videos"
    place(chunk, videos)
    pictures.write_notes(videos, {})
    (videos / pictures.NOTES).write_text("{")
    assert len(place(chunk, videos)) == 2
    assert pictures.read_notes(videos).keys() == {"fake_x_a.mov", "real_a.mov"}
    assert warned(caplog)[0].endswith("All are made anew.")


def test_what_is_left_out_is_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    files = folder("real/a", 1, [0, 1, 2, 5, 6]) | folder("fake/x", 2)
    files["real/a/001.png"] = b"\x89PNG\r\n\x1a\n"
    files["real/a/6.jpg"] = b"a number that is there twice"
    files["fake/x/000.png"] = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    files |= {"fake/broken/0.png": b"", "fake/broken/1.png": b"no"}
    chunk = write(tmp_path / "chunk", files)
    assert place(chunk, tmp_path / "videos") == ["fake_x.mov", "real_a.mov"]
    assert warned(caplog) == [
        f"{chunk}: pictures left out: 1 damaged, 2 neither PNG nor JPEG, 1 of a number that is "
        "there twice, 1 of another size",
        f"{chunk}: 1 folders of frames without a picture that can be shown: 'fake/broken'",
    ]
    said = [r.getMessage() for r in caplog.records if "folders of frames, " in r.getMessage()]
    assert said == [
        f"{chunk}: 2 folders of frames, 17 pictures, at 25 frames/s; 2 are face tracks; 2 numbers "
        "are missing"
    ]


def test_a_picture_that_is_too_large_is_not_read(tmp_path, chunk, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PICTURE_BYTES", 10)
    assert place(chunk, tmp_path / "videos") == []


def test_frames_come_out_of_a_zip_too(tmp_path, chunk):
    with zipfile.ZipFile(tmp_path / "chunk.zip", "w") as packed:
        for path in sorted(chunk.rglob("*.png")):
            packed.write(path, path.relative_to(chunk))
    place(chunk, tmp_path / "one")
    place(tmp_path / "chunk.zip", tmp_path / "other")
    assert (tmp_path / "one/real_a.mov").read_bytes() == (
        tmp_path / "other/real_a.mov"
    ).read_bytes()
