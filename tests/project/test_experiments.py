"""The grid as a user types it: experiments, compared, and the best one brought back."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from small_project import ask_mlflow, commit, leave_out, run

ROOT = Path(__file__).parents[2]
GRID = ("BACKBONES=x3d_xs", "LAYERS=1 2", "RATES=1e-3", "BATCHES=4")
NAMES = {"x3d_xs-layers1-lr1e-3-batch4", "x3d_xs-layers2-lr1e-3-batch4"}

pytestmark = pytest.mark.slow


def grid(root: Path) -> str:
    # The project has no environment of its own: `install` counts as done.
    binaries = Path(sys.executable).parent
    return run(root, "make", f"BIN={binaries}", "-o", "install", "grid", *GRID)


@pytest.fixture(scope="module")
def tried(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished project in which the grid has run."""
    root = tmp_path_factory.mktemp("tried") / "project"
    shutil.copytree(project, root, symlinks=True)
    shutil.copyfile(ROOT / "Makefile", root / "Makefile")
    settings = yaml.safe_load((root / "params.yaml").read_text())
    settings["train"]["epochs"] = 1
    settings["train"]["milestone"] = 0
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    leave_out(root, "robustness", "baselines")  # an experiment is whole without
    run(root, "dvc", "add", "--quiet", "data/chunks/wild")  # so that a copy of the project has it
    commit(root, "Try less")
    grid(root)
    return root


def experiments(root: Path) -> dict[str, dict[str, object]]:
    """Return the metrics of each experiment by its name."""
    said = run(root, "dvc", "exp", "show", "--csv")
    header, *rows = [line.split(",") for line in said.splitlines() if "," in line]
    named = (dict(zip(header, row, strict=False)) for row in rows)
    return {row["Experiment"]: row for row in named if row["Experiment"] in NAMES}


def test_every_setting_is_an_experiment_with_its_metrics(tried: Path) -> None:
    found = experiments(tried)
    assert set(found) == NAMES
    assert all(0 <= float(str(row["test.log_loss"])) < 10 for row in found.values())


def test_the_table_shows_what_differs(tried: Path) -> None:
    said = grid(tried)
    assert said.count("done before") == len(NAMES)
    table = [line for line in said.splitlines() if line.startswith("|")]
    assert {"test.log_loss", "train.unfreeze_top_layers"} <= {
        cell.strip() for cell in table[0].split("|")
    }
    assert "train.milestone" not in table[0]
    assert sum("x3d_xs-layers" in line for line in table) == len(NAMES)


def test_each_is_one_run_in_mlflow_under_its_name(tried: Path) -> None:
    script = (
        "runs = mlflow.search_runs(experiment_names=['unmask'], output_format='list')\n"
        "answer = [[r.info.run_name, sorted(r.data.metrics)] for r in runs]"
    )
    runs = [(name, metrics) for name, metrics in ask_mlflow(tried, script) if name in NAMES]
    assert sorted(name for name, _ in runs) == sorted(NAMES)
    assert all("test.video.log_loss.value" in metrics for _, metrics in runs)


def test_the_best_comes_back_and_compares(tried: Path) -> None:
    best = min(experiments(tried).items(), key=lambda item: float(str(item[1]["test.log_loss"])))[0]
    run(tried, "dvc", "exp", "apply", best)
    layers = int(best.split("-")[1].removeprefix("layers"))
    settings = yaml.safe_load((tried / "params.yaml").read_text())
    assert settings["train"]["unfreeze_top_layers"] == layers
    summary = json.loads((tried / "metrics/summary.json").read_text())
    shown = json.loads(run(tried, "dvc", "metrics", "diff", "--json").splitlines()[0])
    change = shown["metrics/summary.json"]["test.log_loss"]
    assert change["new"] == pytest.approx(summary["test"]["log_loss"])
    assert change["old"] != change["new"]
    run(tried, "dvc", "plots", "diff", "--out", "compared")
    page = (tried / "compared/index.html").read_text()
    assert "ROC" in page
    assert "workspace" in page
    assert "up to date" in run(tried, "dvc", "repro")
