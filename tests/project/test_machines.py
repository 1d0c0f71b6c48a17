"""Two machines crop a chunk each, a third collects: with the commands of docs/machines.md."""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest
import yaml
from small_project import RATE_FPS, ROOT, SIDE_PX, STILLS, call, carry, commit, run, swaying

from tests.project.test_dvc_remote import files
from unmask.video.encode import write_video

CHUNKS = ("part_00", "part_01")
SPLITS = ("train", "validation", "test")

pytestmark = pytest.mark.slow


def blocks():
    """Return the commands of the page: to draw, to crop part_00, to collect."""
    draw, crop, collect = re.findall(
        "```bash\n(.*?)```", (ROOT / "docs/machines.md").read_text(), re.DOTALL
    )
    return draw, crop, collect


def type_in(root, commands):
    """Return what commands said, typed one after the other by somebody with a name."""
    author = {f"GIT_{role}_{what}": "ada@example.org" for role in ("AUTHOR", "COMMITTER")
              for what in ("NAME", "EMAIL")}  # fmt: skip
    return run(root, "bash", "-ec", commands, UNMASK_TRACKER="none", **author)


def make_chunk(folder, stills):
    """Write a real and a fake video of a person for each split; the fake is merely green."""
    folder.mkdir(parents=True)
    metadata = {}
    for split, path in zip(SPLITS, stills, strict=True):
        real = cv2.resize(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), (SIDE_PX, SIDE_PX))
        fake = real.copy()
        fake[..., 1] += (255 - fake[..., 1]) // 8
        for name, picture, label in ((path.stem, real, "REAL"), (f"{path.stem}f", fake, "FAKE")):
            write_video(folder / f"{name}.mp4", swaying([picture]), rate_fps=RATE_FPS, crf=20)
            metadata[f"{name}.mp4"] = {"label": label, "split": split}
        metadata[f"{path.stem}f.mp4"]["original"] = f"{path.stem}.mp4"
    (folder / "metadata.json").write_text(json.dumps(metadata))


@pytest.fixture
def origin(tmp_path):
    """The repository that all machines clone; its remote is a folder beside it."""
    root = tmp_path / "first"
    carry(root)
    for chunk, first in zip(CHUNKS, (0, 3), strict=True):
        make_chunk(root / "data/chunks" / chunk, STILLS[first : first + 3])
    settings = yaml.safe_load((root / "params.yaml").read_text())
    settings["chunks"] = list(CHUNKS)
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    graph["stages"].pop("sample")  # this project has no sources
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    (tmp_path / "remote").mkdir()
    run(root, "git", "init", "--quiet")
    run(root, "git", "init", "--quiet", "--bare", "../origin.git")
    run(root, "git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    run(root, "dvc", "remote", "add", "-d", "shared", str(tmp_path / "remote"))
    run(root, "dvc", "add", *(f"data/chunks/{chunk}" for chunk in CHUNKS))
    run(root, "dvc", "repro", "params")  # some dvc.lock is committed, as in this repository
    commit(root, "Add two chunks")
    type_in(root, blocks()[0])
    return root


def clone(origin, name):
    """Return another machine's clone."""
    root = origin.with_name(name)
    run(origin, "git", "clone", "--quiet", "../origin.git", str(root))
    return root


def test_two_machines_make_what_one_makes(origin):
    _, crop, collect = blocks()
    for chunk in CHUNKS:
        machine = clone(origin, f"machine-{chunk}")
        said = type_in(machine, crop.replace("part_00", chunk))
        assert f"chunk {chunk}: 6 videos, 6 with a face" in said
        assert [path.name for path in (machine / "faces").iterdir()] == [chunk]
        assert [path.name for path in (machine / "raw").iterdir()] == [chunk]
    crop_both_twice(origin)
    third = clone(origin, "third")
    fetch, note = collect.split("dvc repro")
    type_in(third, fetch)
    check_nothing_is_cropped(third)
    type_in(third, "dvc repro" + note)
    assert files(third, ["faces"]) == files(origin, ["faces"])
    locks = [yaml.safe_load((root / "dvc.lock").read_text()) for root in (origin, third)]
    assert locks[0] == locks[1]
    for root in (origin, third):
        said = call(root, "dvc", "status", "faces").stdout
        assert said == "Data and pipelines are up to date.\n"
    check_that_dvc_only_notes_what_was_cropped_before(clone(origin, "fourth"), locks[0])


def check_that_dvc_only_notes_what_was_cropped_before(root, lock):
    """Crop by `unmask crop` first: `dvc repro` keeps every file, and writes the same dvc.lock."""
    run(root, "dvc", "pull", "raw")
    run(root, sys.executable, "-m", "unmask", "crop")
    crops = {path: path.stat().st_ino for path in root.glob("faces/*/*.mp4")}
    assert len(crops) == 6 * len(CHUNKS)
    run(root, sys.executable, "-m", "unmask", "crop")
    assert {path: path.stat().st_ino for path in crops} == crops
    run(root, "dvc", "repro", "--pull", "faces")
    noted = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    faces = {name: noted[name] for name in noted if name.startswith("faces@")}
    assert faces == {name: lock["stages"][name] for name in lock["stages"] if name in faces}
    assert len(faces) == len(CHUNKS)


def crop_both_twice(root):
    """Type `dvc repro` twice at the same moment: one of them crops, DVC refuses the other."""
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: call(root, "dvc", "repro", "faces"), range(2)))
    done, refused = sorted(both, key=lambda ended: ended.returncode)
    assert (done.returncode, refused.returncode) == (0, 255), done.stderr + refused.stderr
    assert "is busy" in refused.stderr or "Unable to acquire lock" in refused.stderr
    assert "Running stage" not in refused.stdout


def check_nothing_is_cropped(root):
    """Run the stage by hand, as DVC itself copies what it runs a stage on."""
    run(root, "dvc", "pull", "raw")
    crops = {path: path.stat().st_mtime_ns for path in root.glob("faces/*/*.mp4")}
    assert len(crops) == 6 * len(CHUNKS)
    for chunk in CHUNKS:
        folders = f"raw/{chunk}/videos", f"faces/{chunk}"
        run(root, sys.executable, "stages/faces.py", *folders)
    assert {path: path.stat().st_mtime_ns for path in crops} == crops
