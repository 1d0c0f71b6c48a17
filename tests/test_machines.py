"""Two machines crop a chunk each, a third collects: with the commands of docs/machines.md."""

import json
import re
import shutil

import cv2
import pytest
import yaml
from small_project import CARRIED, RATE_FPS, ROOT, SIDE_PX, STILLS, call, commit, run, swaying
from test_remote import files

from unmask.video import write_video

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
    for name in CARRIED:
        source, target = ROOT / name, root / name
        target.parent.mkdir(exist_ok=True, parents=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
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
    type_in(origin, "dvc repro faces")  # one machine crops both
    third = clone(origin, "third")
    fetch, note = collect.split("dvc repro --pull faces\n")
    type_in(third, fetch)
    crops = {path: path.stat().st_mtime_ns for path in third.glob("faces/*/*.mp4")}
    assert len(crops) == 12
    type_in(third, "dvc repro --pull faces\n" + note)
    assert {path: path.stat().st_mtime_ns for path in crops} == crops  # none was made anew
    assert files(third, ["faces"]) == files(origin, ["faces"])
    locks = [yaml.safe_load((root / "dvc.lock").read_text()) for root in (origin, third)]
    assert locks[0] == locks[1]
    assert call(third, "dvc", "status", "faces").stdout == "Data and pipelines are up to date.\n"
