"""What a change runs again, and what it leaves alone: the table of docs/reruns.md."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from small_project import RATE_FPS, ran, run, set_params

from unmask.video.decode import read_frames
from unmask.video.encode import write_video

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A copy of the finished project, to be changed."""
    return Path(shutil.copytree(project, tmp_path / "copy", symlinks=True))


@pytest.fixture(scope="module")
def dry(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which nothing runs: who changes a file puts it back."""
    root = Path(shutil.copytree(project, tmp_path_factory.mktemp("dry") / "copy", symlinks=True))
    (root / "README.md").touch()
    return root


@contextmanager
def restored(path: Path) -> Iterator[None]:
    """Put a file's content back in the end, with the time from which DVC knows it."""
    content, times = path.read_bytes(), path.stat()
    yield
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def due(root: Path) -> set[str]:
    """Return the stages that `dvc repro` would run first."""
    return ran(run(root, "dvc", "repro", "--dry"))


def add_line(root: Path, file: str, line: str) -> None:
    path = root / file
    path.write_text(path.read_text() + line + "\n")


def crops(root: Path, chunk: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (root / "faces" / chunk).glob("*.mp4")}


def metadata_of(root: Path, chunk: str) -> dict[str, dict[str, str]]:
    path = root / "data/chunks" / chunk / "metadata.json"
    content: dict[str, dict[str, str]] = json.loads(path.read_text())
    return content


def write_metadata(root: Path, chunk: str, content: dict[str, dict[str, str]]) -> None:
    (root / "data/chunks" / chunk / "metadata.json").write_text(json.dumps(content))


MEASURES = {"evaluate", "robustness"}  # stages that read the model and change none
BASELINES = {"baselines"}  # which reads only what evaluate wrote of it


@pytest.mark.parametrize(
    ("file", "line", "stages"),
    [
        ("README.md", "More words.", set()),
        ("src/unmask/tracking/mlflow_tracker.py", "# changed", set()),
        ("src/unmask/cli/common.py", "# changed", set()),
        ("src/unmask/scoring/metrics.py", "# changed", MEASURES | BASELINES),
        ("src/unmask/evaluation/plots.py", "# changed", MEASURES),
        ("src/unmask/evaluation/evaluate.py", "# changed", MEASURES),
        ("src/unmask/forgeries/degrade.py", "# changed", {"robustness"}),
        ("src/unmask/scoring/baselines.py", "# changed", BASELINES),
        ("src/unmask/evaluation/looks.py", "# changed", BASELINES),
        ("src/unmask/models/classifier.py", "# changed", {"train"}),
        ("src/unmask/data/datasets.py", "# changed", {"raw@wild"}),
        ("src/unmask/faces/tracks.py", "# changed", {"faces@wild"}),
    ],
)
def test_an_edit_runs_what_imports_it(file: str, line: str, stages: set[str], dry: Path) -> None:
    with restored(dry / file):
        add_line(dry, file, line)
        found = due(dry)
    # Whatever comes first in the graph; later stages follow if its outputs differ.
    assert stages <= found
    assert ("faces@wild" in found) == (stages == {"faces@wild"})
    assert bool(found) == bool(stages)
    if stages <= MEASURES | BASELINES:
        assert found == stages


@pytest.mark.parametrize(
    ("values", "first"),
    [
        ({"evaluate__bootstrap_resamples": 51}, {"params", *MEASURES, *BASELINES}),
        ({"robustness__seed": 2}, {"params", "robustness"}),
        ({"train__epochs": 1}, {"params", "train"}),
        ({"augment__flip": 0.1}, {"params", "train"}),
    ],
)
def test_a_param_runs_what_reads_it(values: dict[str, object], first: set[str], dry: Path) -> None:
    with restored(dry / "params.yaml"):
        set_params(dry, **values)
        found = due(dry)
    assert first <= found <= first | MEASURES | BASELINES


def test_what_is_known_of_a_video_crops_nothing(copy: Path) -> None:
    before = crops(copy, "wild")
    content = metadata_of(copy, "wild")
    content["fake0.mp4"]["method"] = "self_blend"
    write_metadata(copy, "wild", content)
    said = run(copy, "dvc", "repro", "faces@wild")
    assert ran(said) == {"raw@wild"}
    assert crops(copy, "wild") == before
    assert "train" in due(copy)


def test_a_new_split_crops_nothing(copy: Path) -> None:
    before = crops(copy, "wild")
    set_params(copy, raw__seed=7)
    assert ran(run(copy, "dvc", "repro", "faces@wild")) >= {"params", "raw@wild"}
    after = crops(copy, "wild")
    assert {name: after[name] for name in before if name in after} == {
        name: time for name, time in before.items() if name in after
    }
    assert "train" in due(copy)


def test_new_videos_are_cropped_alone(copy: Path) -> None:
    before, content = crops(copy, "wild"), metadata_of(copy, "wild")
    folder = copy / "data/chunks/wild"
    for name in ("real1", "fake1"):  # other pictures: the same ones again would count once
        mirrored = (frame.rgb_HWC()[:, ::-1] for frame in read_frames(folder / f"{name}.mp4"))
        write_video(folder / f"new_{name}.mp4", mirrored, rate_fps=RATE_FPS, crf=20)
        content[f"new_{name}.mp4"] = dict(content[f"{name}.mp4"]) | {
            "source": content_source(content, name)
        }
    write_metadata(copy, "wild", content)
    assert ran(run(copy, "dvc", "repro", "faces@wild")) == {"raw@wild", "faces@wild"}
    after = crops(copy, "wild")
    assert {name: after[name] for name in before} == before
    assert {name.rsplit("_", 1)[0] for name in set(after) - set(before)} == {
        "new_real1", "new_fake1"
    }  # fmt: skip
    assert "train" in due(copy)


def content_source(content: dict[str, dict[str, str]], name: str) -> str:
    """Return the source that a video counts as: copies of a person's videos stay with him."""
    row = content[f"{name}.mp4"]
    return row.get("source") or Path(row.get("original", f"{name}.mp4")).stem


def test_a_new_chunk_leaves_the_others_alone_and_one_may_leave(copy: Path) -> None:
    before = crops(copy, "wild")
    content = metadata_of(copy, "wild")
    (copy / "data/chunks/more").mkdir()
    few = {name: row for name, row in content.items() if name[4:5] in "0123" and name[5:] == ".mp4"}
    assert len(few) == 8  # four people's videos and their fakes
    for name in few:
        shutil.copy(copy / "data/chunks/wild" / name, copy / "data/chunks/more")
    write_metadata(copy, "more", few)
    set_params(copy, chunks=["wild", "more"])
    assert ran(run(copy, "dvc", "repro", "faces@wild", "faces@more")) == {
        "params", "raw@more", "faces@more",
    }  # fmt: skip
    assert crops(copy, "wild") == before
    assert "train" in due(copy)
    set_params(copy, chunks=["more"])
    assert not ran(run(copy, "dvc", "repro", "faces@more")) - {"params"}
    assert crops(copy, "wild") == before  # kept for when it comes back


def test_every_row_of_the_table_names_stages_that_exist() -> None:
    root = Path(__file__).parents[2]
    graph = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    rows = [
        line.split("|")[2] for line in (root / "docs/reruns.md").read_text().splitlines()
        if line.startswith("|")
    ][2:]  # fmt: skip
    assert rows
    named: Iterator[str] = (word for row in rows for word in re.findall(r"[a-z_]+", row))
    assert {word for word in named if word in graph} == set(graph)
