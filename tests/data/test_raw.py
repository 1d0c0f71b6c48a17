"""The raw stage as a whole: from a folder or a zip of any layout to videos, sides and prints."""

import errno
import json
import logging
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from unmask import params
from unmask.data import raw
from unmask.errors import DatasetError, DiskError
from unmask.records import ForgedPart
from unmask.runtime.disk import sole_writer
from unmask.runtime.record_files import read_fingerprints, read_index
from unmask.video.decode import read_frames
from unmask.video.encode import write_video

PEOPLE = 16
SETTINGS = params.load().raw.model_copy(
    update={"validation_ratio": 0.25, "test_ratio": 0.25, "honour_split": False}
)


def watch(items, *, total, label):  # noqa: ARG001  # the protocol's
    yield from items


def fill(chunk: Path, raw_dir: Path, **changes: object) -> None:
    settings = SETTINGS.model_copy(update=changes)
    raw.fill(chunk, raw_dir, settings, workers=1, watch=watch)


@pytest.fixture
def film() -> Callable[[Path, int], None]:
    """Write a short video of a picture of its own."""

    def write(path: Path, seed: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
        write_video(path, [np.kron(coarse, np.ones((12, 12, 1), np.uint8))] * 8, rate_fps=8, crf=20)

    return write


@pytest.fixture
def faceforensics(tmp_path: Path, film: Callable[[Path, int], None]) -> Path:
    """Sixteen people in pairs who are swapped both ways by two methods."""
    root = tmp_path / "ff"
    for number in range(PEOPLE):
        film(root / f"original_sequences/youtube/c23/videos/{number:03}.mp4", number)
    for number in range(PEOPLE):
        other = number ^ 1
        for place, method in enumerate(("Deepfakes", "Face2Face")):
            name = f"{number:03}_{other:03}.mp4"
            film(
                root / f"manipulated_sequences/{method}/c23/videos/{name}",
                100 + 10 * number + place,
            )
    return root


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_second_run_is_refused_and_leaves_the_index(faceforensics: Path, tmp_path: Path) -> None:
    raw_dir = tmp_path / "raw/ff"
    fill(faceforensics, raw_dir)
    before = contents(raw_dir)
    with sole_writer(raw_dir), pytest.raises(DiskError, match="another run is writing there"):
        fill(faceforensics, raw_dir)
    assert contents(raw_dir) == before


@pytest.mark.parametrize("is_zip", [False, True])
def test_a_full_disk_ends_the_copying_in_one_line(
    is_zip: bool, faceforensics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse_link)  # as between two disks
    chunk = zipped(faceforensics) if is_zip else faceforensics
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # the kernel refuses longer files
    try:
        with pytest.raises(DiskError, match="File too large"):
            fill(chunk, tmp_path / "raw/ff")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert contents(tmp_path / "raw/ff/videos") == {}


def refuse_link(*_: object) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_both_people_of_a_swap_stay_on_one_side(faceforensics: Path, tmp_path: Path) -> None:
    fill(faceforensics, tmp_path / "raw/ff", fakes_per_real=2.0)
    records = read_index(tmp_path / "raw/ff/index.csv")
    assert len(records) == 3 * PEOPLE
    sides: dict[str, set[str]] = {}
    for record in records:
        for identity in record.identities:
            sides.setdefault(identity, set()).add(record.split)
    assert len(sides) == PEOPLE
    assert all(len(found) == 1 for found in sides.values())
    assert {record.method for record in records} == {"real", "Deepfakes", "Face2Face"}
    prints = read_fingerprints(tmp_path / "raw/ff/fingerprints.csv")
    assert set(prints) == {record.video_id for record in records}
    assert all(row.pictures for row in prints.values())


def test_a_zip_gives_what_its_folder_gives(faceforensics: Path, tmp_path: Path) -> None:
    fill(faceforensics, tmp_path / "a/ff", max_real=5)
    fill(zipped(faceforensics), tmp_path / "b/ff", max_real=5)
    for name in ("index.csv", "fingerprints.csv"):
        assert (tmp_path / "a/ff" / name).read_bytes() == (tmp_path / "b/ff" / name).read_bytes()
    found = contents(tmp_path / "a/ff/videos")
    assert found == contents(tmp_path / "b/ff/videos")
    assert len(found) < 3 * PEOPLE  # only what was drawn


def test_what_an_interrupted_run_took_out_is_kept(faceforensics: Path, tmp_path: Path) -> None:
    packed, raw_dir = zipped(faceforensics), tmp_path / "raw/ff"
    fill(packed, raw_dir)
    before = contents(raw_dir / "videos")
    kept, cut, *_ = sorted((raw_dir / "videos").iterdir())
    cut.write_bytes(cut.read_bytes()[:99])  # never so by us: as a power failure may leave it
    (raw_dir / "videos/.half.mp4.partial").write_bytes(b"half")
    (raw_dir / "videos/left.mp4").write_bytes(b"of another draw")
    (raw_dir / "index.csv").unlink()
    inode = kept.stat().st_ino
    fill(packed, raw_dir)
    assert kept.stat().st_ino == inode
    assert contents(raw_dir / "videos") == before


def test_of_half_a_download_what_is_there_is_drawn(faceforensics: Path, tmp_path: Path) -> None:
    """A manifest lists each video, and twice as many that are not there."""
    rows = ["path,label,source"]
    for path in sorted(faceforensics.rglob("*.mp4")):
        name, source = path.relative_to(faceforensics).as_posix(), int(path.stem[:3]) // 2
        label = int("_" in path.stem)
        rows += [f"{start}{name},{label},pair{source}" for start in ("", "gone/", "lost/")]
    (faceforensics / "original_sequences").rename(faceforensics / "a")
    (faceforensics / "manipulated_sequences").rename(faceforensics / "b")
    text = "\n".join(rows).replace("original_sequences", "a").replace("manipulated_sequences", "b")
    (faceforensics / "manifest.csv").write_text(text)
    fill(faceforensics, tmp_path / "raw/ff", max_real=8)
    drawn = {record.file for record in read_index(tmp_path / "raw/ff/index.csv")}
    assert drawn == set(contents(tmp_path / "raw/ff/videos"))
    assert len(drawn) == 16


def test_a_side_without_a_file_fails_at_once(faceforensics: Path, tmp_path: Path) -> None:
    rows = ["path,label,split,source"]
    for number in range(6):
        split = ("train", "val", "test")[number // 2]
        rows += [f"{number}.mp4,{number % 2},{split},pair{number // 2}"]
        if split != "test":
            source = faceforensics / f"original_sequences/youtube/c23/videos/{number:03}.mp4"
            source.rename(faceforensics / f"{number}.mp4")
    for name in ("original_sequences", "manipulated_sequences"):
        (faceforensics / name).rename(faceforensics / f"not_{name}")
    (faceforensics / "manifest.csv").write_text("\n".join(rows))
    with pytest.raises(DatasetError, match="ff, test: 0 real and 0 fake whose file is there"):
        fill(faceforensics, tmp_path / "raw/ff", honour_split=True)
    assert not (tmp_path / "raw/ff/index.csv").exists()


def test_a_file_on_two_sides_goes_to_train_where_we_draw_the_sides(
    faceforensics: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos = faceforensics / "original_sequences/youtube/c23/videos"
    fill(faceforensics, tmp_path / "raw/ff", fakes_per_real=2.0)
    by_split = {}
    for record in read_index(tmp_path / "raw/ff/index.csv"):
        by_split.setdefault(record.split, record.source_id)
    one, other = by_split["train"], by_split["test"]
    (videos / f"{other}.mp4").write_bytes((videos / f"{one}.mp4").read_bytes())
    caplog.set_level(logging.INFO)
    fill(faceforensics, tmp_path / "raw/ff", fakes_per_real=2.0)
    found = {record.source_id: record.split for record in read_index(tmp_path / "raw/ff/index.csv")}
    assert found[one] == found[other] == "train"
    assert "moved to train" in caplog.text


def test_a_chunks_own_splits_that_leak_fail_by_name_and_leave_no_index(
    tmp_path: Path, film: Callable[[Path, int], None]
) -> None:
    chunk, metadata = tmp_path / "own", {}
    for number, split in enumerate(("train", "validation", "test")):
        for label in ("REAL", "FAKE"):
            name = f"{label.lower()}{number}.mp4"
            film(chunk / name, 10 * number + (label == "FAKE"))
            metadata[name] = {"label": label, "split": split, "source": f"person {number}"}
    (chunk / "metadata.json").write_text(json.dumps(metadata))
    fill(chunk, tmp_path / "raw/own", honour_split=True)
    assert (tmp_path / "raw/own/index.csv").is_file()
    (chunk / "real2.mp4").write_bytes((chunk / "real0.mp4").read_bytes())
    with pytest.raises(
        DatasetError, match=r"1 file\(s\) on two sides: own/real2.mp4 \(test\) and own/real0.mp4"
    ):
        fill(chunk, tmp_path / "raw/own", honour_split=True)
    assert not (tmp_path / "raw/own/index.csv").exists()


def test_a_folder_inside_the_chunk_is_refused(faceforensics: Path) -> None:
    with pytest.raises(DatasetError, match="one lies in the other"):
        fill(faceforensics, faceforensics / "raw")
    assert len(list(faceforensics.rglob("*.mp4"))) == 3 * PEOPLE


# The same pictures twice


@pytest.fixture
def twice(tmp_path: Path, film: Callable[[Path, int], None]) -> Path:
    """Write a chunk of eight people, a real video and a fake each, with sides of its own."""
    chunk, rows = tmp_path / "twice", ["path,label,source,split"]
    for number in range(8):
        split = ("train", "train", "validation", "test")[number % 4]
        for label, kind in enumerate(("real", "fake")):
            film(chunk / f"{kind}{number}.mp4", 10 * number + label)
            rows.append(f"{kind}{number}.mp4,{label},p{number},{split}")
    (chunk / "manifest.csv").write_text("\n".join(rows))
    return chunk


def remux(source: Path, target: Path) -> None:
    """Copy the coded pictures into another container."""
    with av.open(source) as read, av.open(target, "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)


def list_again(chunk: Path, *rows: str) -> None:
    with (chunk / "manifest.csv").open("a") as manifest:
        manifest.write("\n" + "\n".join(rows))


def put_copy(how: str, source: Path, target: Path) -> None:
    match how:
        case "a file":
            target.write_bytes(source.read_bytes())
        case "a hard link":
            target.hardlink_to(source)
        case "a link":
            target.symlink_to(source)
        case "a container":
            remux(source, target)
        case "a comment":
            write_video(
                target, [frame.rgb_HWC() for frame in read_frames(source)], rate_fps=8, crf=12,
                metadata={"comment": "another"},
            )  # fmt: skip


FOUND = {"a file": "one file", "a hard link": "one file", "a link": "one file",
         "a container": "the same pictures in two files", "a comment": "encoded again"}  # fmt: skip


@pytest.mark.parametrize("how", FOUND)
@pytest.mark.parametrize("source", ["p0", "p1"])  # of its own person, or of another on one side
def test_a_video_with_both_labels_is_refused_by_name_or_dropped(
    how: str, source: str, twice: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_copy(how, twice / "real0.mp4", twice / "copy.mkv")
    list_again(twice, f"copy.mkv,FAKE,{source},train")
    asked = rf"1 video\(s\) are labelled both .*: raw/.*copy.mkv FAKE.* \({FOUND[how]}\)\. Correct"
    with pytest.raises(DatasetError, match=asked) as caught:
        fill(twice, tmp_path / "raw", honour_split=True, fakes_per_real=2.0)
    assert "raw/real0.mp4 REAL" in str(caught.value)
    assert not (tmp_path / "raw/index.csv").exists()
    fill(twice, tmp_path / "raw", honour_split=True, contradictions="drop", fakes_per_real=2.0)
    left = {record.file for record in read_index(tmp_path / "raw/index.csv")}
    assert len(left) == 15
    assert not left & {"real0.mp4", "copy.mkv"}
    assert set(contents(tmp_path / "raw/videos")) == left
    assert (
        "2 video(s) left out, as the same pictures are labelled both REAL and FAKE" in caplog.text
    )


@pytest.mark.parametrize("how", ["a file", "a hard link", "a link", "a container"])
def test_a_video_that_is_there_twice_counts_once(
    how: str, twice: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_copy(how, twice / "real0.mp4", twice / "a_copy.mkv")
    list_again(twice, "a_copy.mkv,REAL,p1,train")
    with pytest.raises(
        DatasetError, match=r"more than once: raw/a_copy.mkv REAL = raw/real0.mp4 REAL"
    ):
        fill(twice, tmp_path / "raw", honour_split=True, copies="refuse")
    assert not (tmp_path / "raw/index.csv").exists()
    fill(twice, tmp_path / "raw", honour_split=True, copies="drop")
    left = {record.file for record in read_index(tmp_path / "raw/index.csv")}
    assert len(left) == 16
    assert "real0.mp4" not in left  # the first by its name stays
    assert set(contents(tmp_path / "raw/videos")) == left
    assert "1 video(s) left out, as a copy of each is there under the same label" in caplog.text


def test_what_is_marked_forged_comes_into_the_index(twice: Path, tmp_path: Path) -> None:
    text = (twice / "manifest.csv").read_text().splitlines()
    rows = [text[0] + ",fake_from_s", *(line + "," for line in text[1:])]
    rows[2] += "0.5"
    (twice / "manifest.csv").write_text("\n".join(rows))
    fill(twice, tmp_path / "raw", honour_split=True)
    found = {r.file: r.forged for r in read_index(tmp_path / "raw/index.csv")}
    assert found.pop("fake0.mp4") == ForgedPart(None, 0.5)
    assert set(found.values()) == {None}
