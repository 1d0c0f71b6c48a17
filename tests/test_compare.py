"""The comparison's table from made-up experiments in a real repository."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import compare  # noqa: E402  a script, found by the line above

RUNS = {
    "compare-x3d_xs": ("model.backbone=x3d_xs",),
    "compare-lite0": ("model.backbone=efficientnet_lite0", "model.weights=imagenet"),
}


def git(root: Path, *words: str) -> str:
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(
        ["git", *author, *words], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def write(root: Path, auc: float, robustness: dict[str, Any] | None = None, **model: str) -> None:
    """Write what a finished run leaves in Git."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["model"] |= model
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    found = {"value": auc, "low": auc - 0.0625, "high": 1.0}
    test = {"videos": 68, "sources": 30, "video": {"roc_auc": found, "log_loss": found}}
    (root / "metrics").mkdir(exist_ok=True)
    (root / "metrics/test.json").write_text(json.dumps(test))
    (root / "metrics/robustness.json").unlink(missing_ok=True)
    if robustness:
        (root / "metrics/robustness.json").write_text(json.dumps(robustness))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository whose last commit ran x3d_xs, and which has two experiments."""
    git(tmp_path, "init", "--quiet")
    write(tmp_path, 0.875)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "Run x3d_xs")
    head = git(tmp_path, "rev-parse", "HEAD")
    drops = {"crf32": 0.25, "blur": 0.5, "noise": None}
    rows = [
        {"degradation": name, "drop": {"roc_auc": {"value": drop}}} for name, drop in drops.items()
    ]
    robustness = {"rows": [{"degradation": "none"}, *rows]}
    write(tmp_path, 0.75, robustness, backbone="efficientnet_lite0", weights="imagenet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "An experiment")
    git(tmp_path, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/compare-lite0", "HEAD")
    git(tmp_path, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/compare-x3d_xs", head)
    git(tmp_path, "update-ref", "refs/exps/ab/cdef/compare-old", "HEAD")  # another commit's
    git(tmp_path, "reset", "--quiet", "--hard", head)
    return tmp_path


def test_only_what_the_last_commit_lacks_is_run(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(compare.experiments(root)) == {"compare-lite0", "compare-x3d_xs"}
    binaries = tmp_path_factory.mktemp("bin")
    (binaries / "dvc").write_text(f'#!/bin/sh\necho "$@" >> {binaries}/asked\n')
    (binaries / "dvc").chmod(0o755)
    monkeypatch.setenv("PATH", str(binaries), prepend=":")
    more = {"compare-s": ("model.backbone=x3d_s",), "compare-m": ("model.backbone=x3d_m", "a.b=c")}
    compare.run_missing(root, {**RUNS, **more})
    assert (binaries / "asked").read_text().splitlines() == [
        "exp run --temp --name compare-s -S model.backbone=x3d_s",
        "exp run --temp --name compare-m -S model.backbone=x3d_m -S a.b=c",
    ]


def test_the_table_is_what_the_runs_left(root: Path) -> None:
    runs = compare.read_runs(root, RUNS)
    assert [run.model["backbone"] for run in runs] == ["x3d_xs", "efficientnet_lite0"]
    nets = [
        compare.Net(2_978_772, run.clips.geometry(run.model["backbone"]), 12.34, gpu)
        for run, gpu in zip(runs, (None, 1234.5), strict=True)
    ]
    head, line, own, lite0, *rest = compare.table(runs, nets)
    assert head.count("|") == line.count("|") == own.count("|") == lite0.count("|")
    assert own == (
        "| `x3d_xs` | `weights/x3d_xs.safetensors` | 3.0 M | 4 x 182 px | 12.3 | not measured "
        "| 0.875 [0.812, 1.000] | 0.875 [0.812, 1.000] | - |"
    )
    assert lite0.startswith("| `efficientnet_lite0` | `imagenet` | 3.0 M | 4 x 224 px |")
    assert lite0.endswith("| 1234 | 0.750 [0.688, 1.000] | 0.750 [0.688, 1.000] | 0.500 (blur) |")
    assert any("68 test videos of 30 sources" in line for line in rest)


def test_a_run_that_is_not_there_is_not_made_up(root: Path) -> None:
    with pytest.raises(SystemExit, match=r"should have model\.backbone=x3d_s; found x3d_xs"):
        compare.read_runs(root, {"compare-x3d_xs": ("model.backbone=x3d_s",)})


def test_edits_since_the_last_commit_are_refused(root: Path) -> None:
    (root / "README.md").write_text("A table.")
    git(root, "add", "README.md")
    compare.check_committed(root)
    (root / "params.yaml").write_text("{}")
    with pytest.raises(SystemExit, match=r"params\.yaml differ"):
        compare.check_committed(root)


def test_the_table_takes_the_place_of_the_one_before() -> None:
    page = f"Above.\n\n{compare.BEGIN}\n{compare.END}\n\nBelow.\n"
    once = compare.between_marks(page, ["| a |", "| b |"])
    assert once == f"Above.\n\n{compare.BEGIN}\n| a |\n| b |\n{compare.END}\n\nBelow.\n"
    assert compare.between_marks(compare.between_marks(page, ["| c |"]), ["| a |", "| b |"]) == once
    for text in ("", compare.BEGIN, f"{compare.END}{compare.BEGIN}", page + page):
        with pytest.raises(SystemExit, match="should stand once each"):
            compare.between_marks(text, [])
    compare.between_marks((ROOT / "README.md").read_text(encoding="utf-8"), [])


def test_speed_and_size_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "AT_LEAST_S", 0.0)
    monkeypatch.setattr(compare, "BATCH", 1)
    net = compare.measure("efficientnet_lite0", compare.Geometry(2, 0.4, 64))
    assert net.parameters == 3_373_570
    assert net.cpu_clips_per_s > 0
    assert (net.gpu_clips_per_s is not None) == compare.torch.cuda.is_available()
