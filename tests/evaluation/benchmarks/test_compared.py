"""What follows from rows beside each other: means over benchmarks, the worst group."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import detectors
import numpy as np
import pytest

from unmask.evaluation.benchmarks import compare, gather
from unmask.evaluation.benchmarks.compared import Compared, Group, Row, across
from unmask.evaluation.benchmarks.scores_file import Detector
from unmask.params import Evaluate
from unmask.scoring.metrics import NOT_MEASURED
from unmask.scoring.scores import roc_auc

SETTINGS = Evaluate(bootstrap_resamples=60, seed=1)


def test_the_mean_leaves_out_what_was_seen_in_training(tmp_path: Path) -> None:
    for benchmark, numbers in (("celeb", detectors.GOOD), ("dfdc", detectors.POOR)):
        detectors.put(tmp_path, "model", numbers, benchmark=benchmark, trained_on=())
        detectors.put(tmp_path, "seen", numbers, benchmark=benchmark, trained_on=("ff", "DFDC"))
    detectors.put(tmp_path, "once", detectors.GOOD)
    found = [compare.compare(gather.read(tmp_path, name), SETTINGS) for name in ("celeb", "dfdc")]
    means = {mean.name: mean for mean in across(found)}
    poor = roc_auc(detectors.LABELS, detectors.POOR)
    assert means["model"].auc["value"] == pytest.approx((15 / 16 + poor) / 2)
    assert means["model"].benchmarks == 2
    assert means["seen"].auc["value"] == 15 / 16
    assert means["seen"].benchmarks == 1
    assert means["once"].auc["value"] is None
    assert [row.saw_it for row in found[1].rows] == [False, True]


def row_of(benchmark: str, auc_R: list[float], fakes: int, **said: Any) -> Compared:
    """Return a benchmark of ten videos with one detector, whose AUC is that of the resamples."""
    values = np.array(auc_R)
    auc = {"value": values.mean(), "low": values.min(), "high": values.max()}
    row = Row(
        Detector("x", "ranking", **said), True, "x", 10,
        {"roc_auc": auc if 0 < fakes < 10 else dict(NOT_MEASURED)},
        [], None, None, values, np.array([]), np.array([]), None,
    )  # fmt: skip
    return Compared(benchmark, 10, fakes, 5, [row], 0)


def test_a_benchmark_of_one_class_takes_no_mean_away() -> None:
    [mean] = across([row_of("a", [0.5, 0.7], 5), row_of("b", [0.9, 0.9], 5), row_of("c", [0], 0)])
    assert (mean.auc["value"], mean.benchmarks) == (pytest.approx(0.75), 2)


def test_the_draws_of_two_benchmarks_are_independent() -> None:
    up = np.linspace(0.5, 0.9, 400).tolist()
    [mean] = across([row_of("a", up, 5), row_of("b", up[::-1], 5)])
    # Of two uniform draws of width w the mean is triangular: 2.5% lie below w * sqrt(0.025 / 2).
    low = 0.5 + 0.4 * np.sqrt(0.025 / 2)
    assert mean.auc["low"] == pytest.approx(low, abs=0.02)
    assert mean.auc["high"] == pytest.approx(1.4 - low, abs=0.02)


def test_two_models_under_one_name_have_no_mean() -> None:
    def mean(**said: tuple[str, str]) -> float | None:
        pairs = [{name: values[n] for name, values in said.items()} for n in (0, 1)]
        [found] = across([row_of(str(n), [0.6, 0.8], 5, **pair) for n, pair in enumerate(pairs)])
        return found.auc["value"]

    assert mean(version=("1", "2")) is None
    assert mean(model_digest=("aa", "bb")) is None
    assert mean(version=("1", "1")) == mean(version=("1", "")) == pytest.approx(0.7)
    # One model that two releases of unmask scored.
    assert mean(version=("1", "2"), model_digest=("aa", "aa")) == pytest.approx(0.7)


def test_the_worst_group_is_of_several(tmp_path: Path) -> None:
    detectors.put(tmp_path, "model", detectors.GOOD)
    (row,) = compare.compare(gather.read(tmp_path, "celeb"), SETTINGS).rows
    groups = [
        Group(by, name, 1, 1, {"value": value, "low": None, "high": None})
        for by, name, value in (
            ("method", "only", 0.1), ("generator", "a", 0.6), ("generator", "b", None),
            ("compression", "c23", 0.7), ("compression", "c40", 0.65),
        )
    ]  # fmt: skip
    worst = replace(row, groups=groups).worst
    assert worst is not None
    assert worst.name == "a"
    assert replace(row, groups=groups[:1]).worst is None
