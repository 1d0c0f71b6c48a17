"""The comparison's table from made-up experiments in a real repository."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from unmask.runtime.digests import dvc_digest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import compare  # noqa: E402  a script, found by the line above

RUNS = {
    "compare-x3d_xs": ("model.backbone=x3d_xs",),
    "compare-lite0": ("model.backbone=efficientnet_lite0", "model.weights=imagenet"),
}
_STAGES = {
    "train": {"cmd": "true", "outs": ["model"]},
    "evaluate": {"cmd": "true", "deps": ["model"], "outs": ["metrics/scores.csv"]},
}
_HEAD = "chunk,video_id,split,source_id,label,probability,logit\n"


def run(root: Path, *command: str) -> str:
    author = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}
    committer = {name.replace("AUTHOR", "COMMITTER"): text for name, text in author.items()}
    variables = os.environ | author | committer | {"DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        command, cwd=root, check=True, capture_output=True, text=True, env=variables
    )
    return done.stdout.strip()


def logit_of(score: float) -> float:
    return math.log(score / (1 - score)) if 0 < score < 1 else 1000.0 * (2 * score - 1)


def commit_run(
    root: Path,
    auc: float,
    scores: Sequence[float | None],
    robustness: dict[str, Any] | None = None,
    **model: str,
) -> str:
    """Commit what a finished run leaves in Git and DVC's cache, return the commit.

    The scores are of two real videos, then two fakes, of four people.
    """
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["model"] |= model
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    found = {"value": auc, "low": auc - 0.0625, "high": 1.0}
    video = {"roc_auc": found, "log_loss": found}
    test = {"videos": 68, "sources": 30, "coverage": 1.0, "video": video}
    for name in ("metrics", "model"):
        (root / name).mkdir(exist_ok=True)
    (root / "metrics/test.json").write_text(json.dumps(test))
    (root / "metrics/robustness.json").unlink(missing_ok=True)
    if robustness:
        (root / "metrics/robustness.json").write_text(json.dumps(robustness))
    (root / "model/weights").write_text(str(scores))
    rows = [
        f"sample,v{n},test,s{n},{n // 2},"
        + (",\n" if score is None else f"{score:.1f},{logit_of(score)!r}\n")
        for n, score in enumerate(scores)
    ]
    learned = "sample,v9,validation,s9,0,0.9,2.2\n"
    (root / "metrics/scores.csv").write_text(_HEAD + "".join([learned, *rows]))
    run(root, "dvc", "commit", "--quiet", "--force")
    run(root, "git", "add", ".")
    run(root, "git", "commit", "--quiet", "-m", "A run")
    return run(root, "git", "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose last commit ran x3d_xs, and which has two experiments."""
    root = tmp_path_factory.mktemp("compare")
    run(root, "git", "init", "--quiet")
    run(root, "dvc", "init", "--quiet")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": _STAGES}))
    (root / ".gitignore").write_text("/model\n/metrics/scores.csv\n")
    head = commit_run(root, 0.875, (0.25, 0.5, 0.75, 1.0))
    drops = {"crf32": 0.25, "blur": 0.5, "noise": None}
    rows = [
        {"degradation": name, "drop": {"roc_auc": {"value": drop, "low": None, "high": None}}}
        for name, drop in drops.items()
    ]
    lite0 = {"backbone": "efficientnet_lite0", "weights": "imagenet"}
    other = commit_run(
        root, 0.75, (0.25, 0.875, 0.75, None), {"rows": [{"degradation": "none"}, *rows]}, **lite0
    )
    experiments = f"refs/exps/{head[:2]}/{head[2:]}"
    run(root, "git", "update-ref", f"{experiments}/compare-lite0", other)
    run(root, "git", "update-ref", f"{experiments}/compare-x3d_xs", head)
    run(root, "git", "update-ref", "refs/exps/ab/cdef/compare-old", other)  # another commit's
    run(root, "git", "reset", "--quiet", "--hard", head)
    run(root, "dvc", "checkout", "--quiet")
    return root


def test_only_what_the_last_commit_lacks_is_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(compare.experiments(root)) == {"compare-lite0", "compare-x3d_xs"}
    (tmp_path / "dvc").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (tmp_path / "dvc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    more = {"compare-s": ("model.backbone=x3d_s",), "compare-m": ("model.backbone=x3d_m", "a.b=c")}
    compare.run_missing(root, {**RUNS, **more})
    assert (tmp_path / "asked").read_text().splitlines() == [
        "exp run --temp --name compare-s -S model.backbone=x3d_s",
        "exp run --temp --name compare-m -S model.backbone=x3d_m -S a.b=c",
    ]


def test_the_table_is_what_the_runs_left(root: Path) -> None:
    runs = compare.read_runs(root, RUNS)
    nets = [
        compare.Net(2_978_772, run.clips.geometry(run.model["backbone"]), 12.34, gpu)
        for run, gpu in zip(runs, (None, 1234.5), strict=True)
    ]
    summary = compare.summarise(runs, nets)
    first, second = summary["rows"]
    assert first["model_md5"] == dvc_digest(root / "model")  # the last commit's lies there
    assert second["model_md5"] != first["model_md5"]
    # Of the three videos that both scored, X3D ranks the fake above both real ones, the other one.
    assert second["first_minus_this"]["roc_auc"]["value"] == 1.0 - 0.5
    head, line, own, lite0, *rest = compare.table(json.loads(json.dumps(summary)))
    assert head.count("|") == line.count("|") == own.count("|") == lite0.count("|")
    assert own == (
        "| `x3d_xs` | `weights/x3d_xs.safetensors` | 3.0 M | 4 x 182 px | 12.3 | not measured "
        "| 0.875 [0.812, 1.000] |  | 0.875 [0.812, 1.000] |  | - |"
    )
    assert lite0.startswith("| `efficientnet_lite0` | `imagenet` | 3.0 M | 4 x 224 px |")
    assert "| 1234 | 0.750 [0.688, 1.000] | +0.500" in lite0
    assert lite0.endswith(" | 0.500 (blur) |")
    assert any("68 test videos of 30 sources" in line for line in rest)


def test_answers_that_six_digits_make_one_are_told_apart() -> None:
    rows = "sample,a,test,a,0,0.000000,-20.0\nsample,b,test,b,1,0.000000,-15.0\n"
    scores = compare._read_scores(_HEAD + rows + "sample,c,test,c,1,,\n")
    low, high, none = (each.probability for each in scores.values())
    assert low == pytest.approx(math.exp(-20), rel=1e-6)
    assert high == pytest.approx(math.exp(-15), rel=1e-6)
    assert none is None


def test_a_run_that_is_not_there_is_not_made_up(root: Path) -> None:
    with pytest.raises(SystemExit, match=r"should have model\.backbone=x3d_s; found x3d_xs"):
        compare.read_runs(root, {"compare-x3d_xs": ("model.backbone=x3d_s",)})


def test_edits_since_the_last_commit_are_refused(root: Path) -> None:
    for name in ("docs/backbones.md", "metrics/comparison.json"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("What the script writes.")
        run(root, "git", "add", name)
    compare.check_committed(root)
    settings = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text("{}")
    with pytest.raises(SystemExit, match=r"params\.yaml differ"):
        compare.check_committed(root)
    (root / "params.yaml").write_text(settings)


def test_the_table_takes_the_place_of_the_one_before() -> None:
    page = f"Above.\n\n{compare.BEGIN}\n{compare.END}\n\nBelow.\n"
    once = compare.between_marks(page, ["| a |", "| b |"])
    assert once == f"Above.\n\n{compare.BEGIN}\n| a |\n| b |\n{compare.END}\n\nBelow.\n"
    assert compare.between_marks(compare.between_marks(page, ["| c |"]), ["| a |", "| b |"]) == once
    for text in ("", compare.BEGIN, f"{compare.END}{compare.BEGIN}", page + page):
        with pytest.raises(SystemExit, match="should stand once each"):
            compare.between_marks(text, [])
    compare.between_marks((ROOT / compare.PAGE).read_text(encoding="utf-8"), [])


def test_speed_and_size_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "AT_LEAST_S", 0.0)
    monkeypatch.setattr(compare, "BATCH", 1)
    net = compare.measure("efficientnet_lite0", compare.Geometry(2, 0.4, 64))
    assert net.parameters == 3_373_570
    assert net.cpu_clips_per_s > 0
    assert (net.gpu_clips_per_s is not None) == compare.torch.cuda.is_available()
