"""Metrics of some videos of a benchmark, with numbers that can be worked out on paper."""

import math

import numpy as np
import pytest

from unmask.evaluation.benchmarks.drawn import RANKING, Drawn
from unmask.evaluation.benchmarks.scores_file import FrameScores
from unmask.params import Evaluate
from unmask.scoring.metrics import NOT_MEASURED

# Two real videos and two fakes of two sources, and one of each of a third.
DRAWN = Drawn(
    [0, 1, 0, 1, 0, 1], ["a", "a", "b", "b", "c", "c"], Evaluate(bootstrap_resamples=200, seed=1)
)
EVERY = np.arange(6)


def test_values_by_hand() -> None:
    ranks = np.array([0.1, 0.9, 0.2, 0.8, 0.7, 0.3])  # one of nine pairs is lost: 0.7 above 0.3
    found = DRAWN.ranking(EVERY, ranks)
    assert set(found) == set(RANKING)
    assert found["roc_auc"]["value"] == DRAWN.auc(EVERY, ranks)["value"] == pytest.approx(8 / 9)
    assert found["tpr_at_fpr_5"]["value"] == pytest.approx(2 / 3)
    # Alone, c is 0 and the others are 1: all and none are drawn often enough.
    assert (found["roc_auc"]["low"], found["roc_auc"]["high"]) == (0.0, 1.0)
    even = DRAWN.log_loss(EVERY, np.full(6, 0.5))
    assert [even[name] for name in ("value", "low", "high")] == pytest.approx([math.log(2)] * 3)
    frames = [FrameScores(("0", "1"), (0.1, 0.6)), FrameScores(("0",), (0.5,)), None, None]
    assert DRAWN.frame_auc([*frames, None, None])["value"] == 0.5  # above 0.1, below 0.6


def test_of_one_source_nothing_varies() -> None:
    ranks = np.array([0.1, 0.9])
    alone = {"value": 1.0, "low": None, "high": None}
    assert DRAWN.ranking(np.array([0, 1]), ranks)["roc_auc"] == alone
    assert DRAWN.auc(np.array([0, 1]), ranks) == alone
    verdicts = ["fake", "", "", "", "", ""]
    assert DRAWN.called_fake(0, verdicts) == alone
    assert DRAWN.called_fake(0, ["fake", "", "fake", "", "", ""])["low"] == 1.0  # of two


def test_of_one_class_or_of_no_video_there_is_no_auc() -> None:
    assert DRAWN.ranking(np.array([0, 2]), np.array([0.1, 0.2]))["roc_auc"] == NOT_MEASURED
    nothing = np.array([], np.int64)
    assert DRAWN.auc(nothing, np.array([])) == NOT_MEASURED
    assert DRAWN.log_loss(nothing, np.array([])) == NOT_MEASURED
    assert DRAWN.called_fake(1, [""] * 6) == NOT_MEASURED
    assert DRAWN.frame_auc([None] * 6) == NOT_MEASURED
    assert DRAWN.log_loss(np.array([0, 2]), np.array([0.5, math.nan])) == NOT_MEASURED
