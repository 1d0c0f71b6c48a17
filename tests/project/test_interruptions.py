"""kill -9 in the middle of every stage: the next `dvc repro` goes on, to the very same numbers."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from small_project import leave_out

ROOT = Path(__file__).parents[2]
# A clip of a living face, and stills, in each split.
SIGNERS = ("again", "eat", "book")
STILLS = {"train": 2, "validation": 2, "test": 1}

pytestmark = pytest.mark.slow


def make_project(root: Path) -> Path:
    """Write a repository like this one, with few sources and small clips."""
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvc/config", ".dvcignore", ".gitignore"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    header, *rows = (ROOT / "data/sources/sources.csv").read_text().splitlines()
    kept = [row for row in rows if any(f"/{name}.mkv," in row for name in SIGNERS)]
    kept += [row for row in rows if "_neutral.jpg" in row]
    (root / "data/sources").mkdir(parents=True)
    (root / "data/sources/sources.csv").write_text("\n".join([header, *kept]) + "\n")
    for file in (row.split(",")[0] for row in kept):
        (root / "data/sources" / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "data/sources" / file, root / "data/sources" / file)
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["sample"].update(still_people=STILLS, seconds=1.6)
    settings["clips"].update(side_px=64, max_per_track=2)
    settings["model"]["weights"] = "none"
    settings["train"].update(epochs=4, milestone=1, batch_size=4, patience=4)
    settings["evaluate"]["bootstrap_resamples"] = 20
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    graph["stages"]["train"]["deps"].remove("weights/x3d_xs.safetensors")
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    leave_out(root, "baselines", "robustness")  # nothing is killed that late; test_robustness does
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return root


def start(root: Path) -> subprocess.Popen[str]:
    """Start `dvc repro` as the leader of its own process group, its words in repro.log."""
    environment = {**os.environ, "UNMASK_TRACKER": "none"}
    environment.pop("PYTHONPATH", None)
    with (root / "repro.log").open("w") as words:
        return subprocess.Popen(
            ["dvc", "repro"], cwd=root, env=environment, stdout=words, stderr=words, text=True,
            start_new_session=True,
        )  # fmt: skip


def repro(root: Path) -> str:
    process = start(root)
    assert process.wait(500) == 0, (root / "repro.log").read_text()
    return (root / "repro.log").read_text()


def kill_when(root: Path, due: Callable[[], bool]) -> None:
    """Run `dvc repro` until it is due, then kill it and all it has started."""
    process = start(root)
    give_up = time.monotonic() + 300
    while not due():
        assert process.poll() is None, f"too late: {(root / 'repro.log').read_text()}"
        assert time.monotonic() < give_up, (root / "repro.log").read_text()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def digests(root: Path, *folders: str) -> dict[str, str]:
    """Return what every file in the folders holds."""
    return {
        path.relative_to(root).as_posix(): sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }


OUTS = ("data/chunks/sample", "raw", "faces", "model", "metrics")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the outputs of a run that nothing disturbed."""
    root = make_project(tmp_path_factory.mktemp("undisturbed"))
    repro(root)
    return digests(root, *OUTS)


def test_whatever_is_killed_goes_on_to_the_same_result(
    undisturbed: dict[str, str], tmp_path: Path
) -> None:
    root = make_project(tmp_path / "disturbed")
    sample, faces, scratch = (
        root / name for name in ("data/chunks/sample", "faces/sample", ".model.training")
    )

    def count(folder: Path, pattern: str, least: int) -> Callable[[], bool]:
        return lambda: len(list(folder.glob(pattern))) >= least

    # sample: at the very start, after some pairs
    kill_when(root, count(sample, "*", 1))
    kill_when(root, count(sample, "[!.]*.mp4", 7))
    # raw: while it links and looks at the videos
    kill_when(root, count(root / "raw/sample/videos", "*.mp4", 5))
    kill_when(root, count(root / "raw/sample/videos", "*.mp4", len(list(sample.glob("*.mp4")))))
    # faces: after the first crop, after some more
    kill_when(root, count(faces, "[!.]*.mp4", 1))
    kill_when(root, count(faces, "[!.]*.mp4", 6))
    # The crops that the journal names: one that arrived a moment before the kill is made again.
    rows = (faces / ".index.jsonl.partial").read_text().splitlines()
    noted = [faces / track["file"] for row in rows for track in json.loads(row)["tracks"]]
    early = {path: path.stat().st_mtime_ns for path in noted}
    assert len(early) >= 4
    # train: in the first epoch, later, and while the model is written
    kill_when(root, scratch.exists)
    kill_when(root, count(scratch, "*.ckpt", 1))
    said = (root / "repro.log").read_text()
    assert "Running stage 'faces" not in said
    kill_when(root, (root / "model").exists)
    repro(root)
    assert json.loads((root / "metrics/summary.json").read_text())["test"]["coverage"] > 0.8
    assert digests(root, *OUTS) == undisturbed
    crops = {path: path.stat().st_mtime_ns for path in early}
    assert crops == early  # cropped once
    assert "Data and pipelines are up to date" in repro(root)
