"""What follows from rows beside each other: means over benchmarks, the worst group."""

from dataclasses import replace
from pathlib import Path

import detectors
import pytest

from unmask.evaluation.benchmarks import compare, gather
from unmask.evaluation.benchmarks.compared import Group, across
from unmask.params import Evaluate
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
