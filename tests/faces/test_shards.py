"""A chunk in shards: cut by content, cropped in folders of their own, taken in whole or not."""

import doctest
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from painted import SETTINGS, load_squares
from shard_videos import contents, load_moody, make_project

from unmask.engine import on_cpu
from unmask.errors import DatasetError
from unmask.faces import shards
from unmask.faces.crops import Job, crop_chunk, find_missing, find_videos
from unmask.faces.shards import Shard, ShardError
from unmask.records import Reason
from unmask.runtime.disk import content_digest
from unmask.runtime.record_files import read_faces

FACES = SETTINGS.model_copy(update={"stall_s": 2.0})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    make_project(root, [f"v{number}" for number in range(7)])
    crop_here(root, "by_one_run")
    return root


@pytest.fixture
def root(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(project, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"


def crop_here(root: Path, name: str) -> None:
    # Rows name their videos as the stage does: from the project's folder.
    before = Path.cwd()
    os.chdir(root)
    try:
        videos = find_videos(Path("raw/wild/videos"))
        list(crop_chunk(videos, Path(name), FACES, workers=1, load_detector=load_squares))
    finally:
        os.chdir(before)


def missing(faces_dir: str = "faces/wild") -> list[Job]:
    return find_missing(find_videos(Path("raw/wild/videos")), Path(faces_dir), FACES, workers=1)


def crop(shard: Shard, folder: Path) -> dict[str, str]:
    return shards.crop(shard, folder, workers=1, load_detector=load_squares)


def finish() -> list[Job]:
    """Crop the chunk by shards of 3 videos, and return what was asked of them."""
    asked: list[Job] = []

    def crop_missing(jobs):
        asked.extend(jobs)
        for number, shard in enumerate(shards.cut(jobs, 3)):
            folder = Path(f".shards/{number}")
            yield from shards.take_in(folder, shard, crop(shard, folder))

    videos = find_videos(Path("raw/wild/videos"))
    list(crop_chunk(videos, Path("faces/wild"), FACES, workers=1, crop_missing=crop_missing))
    return asked


def test_docstring_examples_hold():
    result = doctest.testmod(shards)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.usefixtures("root")
def test_shards_are_as_large_as_each_other_and_hold_everything_once():
    jobs = missing()
    assert len(jobs) == 8  # text.mp4 is cropped, too: to a row that says it is no video
    for most, sizes in ((1, [1] * 8), (3, [2, 3, 3]), (7, [4, 4]), (8, [8]), (99, [8])):
        cut = shards.cut(jobs, most)
        assert [len(shard.jobs) for shard in cut] == sizes
        assert {job.video_id for shard in cut for job in shard.jobs} == {j.video_id for j in jobs}
        assert cut == shards.cut(jobs[::-1], most)
        keys = [job.key for shard in cut for job in shard.jobs]
        assert keys == sorted(keys)
        assert len({shard.name for shard in cut}) == len(cut)
    assert shards.cut([], 3) == []


def test_a_shard_s_name_is_that_of_its_content(root):
    before = {shard.name for shard in shards.cut(missing(), 99)}
    (root / "raw/wild/videos/v0.mp4").touch()
    assert {shard.name for shard in shards.cut(missing(), 99)} == before
    shutil.copy(root / "raw/wild/videos/v1.mp4", root / "raw/wild/videos/v0.mp4")
    assert {shard.name for shard in shards.cut(missing(), 99)} != before


def test_a_chunk_of_shards_is_that_of_one_run_and_nothing_is_asked_twice(root):
    assert len(finish()) == 8
    assert contents(root / "faces/wild") == contents(root / "by_one_run")
    assert finish() == []
    (root / "faces/wild/v3_0.mp4").unlink()
    assert [job.video_id for job in finish()] == ["v3"]
    assert contents(root / "faces/wild") == contents(root / "by_one_run")


def test_a_failure_that_may_pass_is_taken_in_and_tried_again(tmp_path, monkeypatch):
    make_project(tmp_path / "root", ["a", "crash", "hang", "b"])
    monkeypatch.chdir(tmp_path / "root")
    [shard] = shards.cut(missing(), 9)
    digests = shards.crop(shard, Path("attempt"), workers=1, load_detector=load_moody)
    Path("faces/wild").mkdir(parents=True)
    rows = {row.video_id: row for row in shards.take_in(Path("attempt"), shard, digests)}
    assert {name: row.reason for name, row in rows.items() if name != "text"} == {
        "a": None, "b": None, "crash": Reason.CRASHED, "hang": Reason.TIMED_OUT,
    }  # fmt: skip
    assert "raw/wild/videos/crash.mp4: asked for its faces, but the decoder" in rows["crash"].detail


@pytest.mark.usefixtures("root")
def test_half_of_a_shard_is_taken_in_from_what_a_killed_run_left():
    [shard] = shards.cut(missing(), 99)
    videos = [(job.video_id, job.path) for job in shard.jobs]
    rows = crop_chunk(videos, Path(".shards/dead"), FACES, workers=1, load_detector=load_squares)
    done = {next(rows).video_id for _ in range(3)}
    rows.close()
    # A row whose crop never reached the disk, and an attempt at other videos.
    lost, *kept = sorted(done & {f"v{number}" for number in range(7)})
    Path(f".shards/dead/{lost}_0.mp4").unlink()
    Path(".shards/other").mkdir()
    Path("faces/wild").mkdir(parents=True)
    folders = [Path(".shards/dead"), Path(".shards/other")]
    found = {row.video_id for row in shards.take_in_leftovers(folders, shard.jobs)}
    assert found == done - {lost}
    assert all(Path(f"faces/wild/{name}_0.mp4").is_file() for name in kept)
    assert not any(folder.exists() for folder in folders)


@pytest.mark.usefixtures("root")
def test_leftovers_of_other_content_are_not_taken_in():
    [shard] = shards.cut(missing(), 99)
    crop(shard, Path("attempt"))
    shutil.copy("raw/wild/videos/v1.mp4", "raw/wild/videos/v0.mp4")
    Path("faces/wild").mkdir(parents=True)
    found = shards.take_in_leftovers([Path("attempt")], missing())
    assert "v0" not in {row.video_id for row in found}


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: spoil(Path("attempt/v2_0.mp4")), "asked for the crop attempt/v2_0.mp4; found"),
        (lambda: Path("attempt/v2_0.mp4").unlink(), "found no such file"),
        (lambda: shutil.rmtree("attempt"), "found no row of it in attempt"),
    ],
)
def test_a_shard_that_came_back_otherwise_is_refused(change, said):
    [shard] = shards.cut(missing(), 99)
    digests = crop(shard, Path("attempt"))
    change()
    Path("faces/wild").mkdir(parents=True)
    with pytest.raises(ShardError, match=said):
        list(shards.take_in(Path("attempt"), shard, digests))


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("name", ["../../../secret.mp4", "index.jsonl", "/tmp/secret.mp4"])
def test_a_row_that_names_another_file_moves_nothing(name):
    """Whoever writes into a shard's folder may not say which files are moved, and to where."""
    [shard] = [s for s in shards.cut(missing(), 1) if s.jobs[0].video_id == "v2"]
    folder = Path(".crop_shards/wild/a")
    digests = crop(shard, folder)
    index = folder / "index.jsonl"
    index.write_text(index.read_text().replace('"v2_0.mp4"', f'"{name}"'))
    Path("secret.mp4").write_text("mine")
    Path("faces/wild").mkdir(parents=True)
    digests[name] = content_digest(folder / name) if (folder / name).is_file() else ""
    with pytest.raises(ShardError, match="found no row of it"):
        list(shards.take_in(folder, shard, digests))
    assert list(shards.take_in_leftovers([folder], shard.jobs)) == []
    assert Path("secret.mp4").read_text() == "mine"
    assert list(Path("faces/wild").iterdir()) == []


@pytest.mark.usefixtures("root")
def test_a_machine_that_sees_other_videos_is_refused():
    """Its rows have other keys, or none: as on a node whose folder of that name is its own."""
    [shard] = shards.cut(missing(), 99)
    shutil.copy("raw/wild/videos/v1.mp4", "raw/wild/videos/v0.mp4")
    Path("raw/wild/videos/v5.mp4").unlink()
    digests = crop(shard, Path("attempt"))
    Path("faces/wild").mkdir(parents=True)
    for name in ("v0", "v5"):
        one = Shard(tuple(job for job in shard.jobs if job.video_id == name))
        with pytest.raises(ShardError, match=f"videos/{name}.mp4; its content, or the code"):
            list(shards.take_in(Path("attempt"), one, digests))


@pytest.mark.usefixtures("root")
def test_crops_come_from_another_disk_whole(monkeypatch):
    [shard] = shards.cut(missing(), 99)
    digests = crop(shard, Path("attempt"))
    replace = os.replace

    def over_disks(source, target):
        if Path(source).parent.name == "attempt":
            raise OSError(18, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", over_disks)
    Path("faces/wild").mkdir(parents=True)
    list(shards.take_in(Path("attempt"), shard, digests))
    assert {path.name: content_digest(path) for path in Path("faces/wild").iterdir()} == digests


@pytest.mark.usefixtures("root")
def test_too_many_failures_are_the_chunk_s_business():
    """Of a shard all may fail; of the chunk one in eight does, and more are refused."""
    [one] = [s for s in shards.cut(missing(), 1) if s.jobs[0].video_id == "text"]
    assert crop(one, Path("attempt")) == {}
    finish()
    assert read_faces(Path("faces/wild/index.jsonl"))["text"].reason == Reason.NOT_A_VIDEO
    for number in range(1, 6):
        Path(f"raw/wild/videos/v{number}.mp4").write_text(f"no video {number}")
    with pytest.raises(DatasetError, match="at most 50% of 8 videos may be unreadable"):
        finish()


@pytest.mark.usefixtures("root")
def test_what_is_missing_is_said_with_its_assumption(monkeypatch):
    monkeypatch.setattr(shards, "ASSUMED_BYTES_PER_HOUR", 1000.0)
    cut = shards.cut(missing(), 3)
    size = sum(path.stat().st_size for path in Path("raw/wild/videos").iterdir())
    assert sum(shard.size_bytes for shard in cut) == size
    said = shards.describe(cut)
    assert said.startswith(f"8 videos are missing, in 3 shard(s), {size / 1e9:.3f} GB; about ")
    assert f"about {size / 1000:,.2f} core-hours, assuming" in said


@pytest.mark.parametrize("library", ["openvino", "onnxruntime"])
def test_machines_differ_by_what_runs_nets_on_them(monkeypatch, library):
    monkeypatch.setattr(on_cpu, "library", lambda: library)
    here = shards.this_machine(FACES)
    assert here[library] == version(library)
    assert len({"openvino", "onnxruntime"} & here.keys()) == 1


def test_machines_differ_by_code_and_by_packages(monkeypatch):
    here = shards.this_machine(FACES)
    assert here["av"].startswith("18.")
    assert here == shards.this_machine(FACES.model_copy(update={"stall_s": 5.0}))
    other = shards.this_machine(FACES.model_copy(update={"crf": 20}))
    assert {name for name in here if here[name] != other[name]} == {"the code of unmask"}
    monkeypatch.setattr(shards, "_PACKAGES", ("no such package",))
    assert shards.this_machine(FACES)["no such package"] == "none"
