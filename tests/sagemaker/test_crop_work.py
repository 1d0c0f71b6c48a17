"""The work of a cropping job in this process: what a job that was taken back had done."""

import os
import shutil
from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import pytest
from painted import SETTINGS, load_squares
from shard_videos import make_project

from unmask.faces import crops, shard_store, shards
from unmask.sagemaker import crop_work
from unmask.sagemaker.crop_contract import FILES, Video, Work
from unmask.storage.blobs import StoredFile

pytestmark = pytest.mark.slow


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Three videos whose contents are in the store below tmp_path/inputs, which is current."""
    root = make_project(tmp_path / "root", ["v0", "v1", "v2"])
    (root / "raw/wild/videos/text.mp4").unlink()
    monkeypatch.chdir(root)
    found = crops.find_videos(Path("raw/wild/videos"))
    videos = []
    for job in crops.find_missing(found, Path("faces/wild"), SETTINGS, workers=1):
        content = job.path.read_bytes()
        file = StoredFile(job.path.as_posix(), md5(content).hexdigest(), len(content))
        place = tmp_path / "inputs" / FILES / file.stored
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(job.path, place)
        result = shard_store.name_of(job)
        videos.append(Video(file, job.video_id, "faces/wild", is_track=False, result=result))
    monkeypatch.chdir(tmp_path)
    return Work(shards.this_machine(SETTINGS), SETTINGS, tuple(videos))


def crop(work: Work, output: Path) -> set[str]:
    """Return the ids of the videos that a new machine crops, with a disk of its own."""
    scratch = output.with_name(f"scratch{len(os.listdir(output.parent))}")
    rows = crop_work.crop(
        work, output.with_name("inputs"), output, scratch, workers=1, load_detector=load_squares
    )
    return {row.video_id for row in rows}


def contents(output: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in output.rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\0\0\0 ftyp")])
def test_a_result_whose_crop_did_not_arrive_is_made_again(
    work: Work, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """The service keeps no order: a row may be in its copy before the row's crop is."""
    output = tmp_path / "output"
    assert crop(work, output) == {"v0", "v1", "v2"}
    whole = contents(output)
    [crop_file] = output.glob("wild/*/v1_0.mp4")
    damage(crop_file)
    assert crop(work, output) == {"v1"}
    assert contents(output) == whole
    assert crop(work, output) == set()
