"""The share of fakes caught at a false-positive rate allowed."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from unmask.errors import OneClassError, UnmaskError
from unmask.scoring.operating_point import tpr_at_fpr


def test_a_threshold_lets_pass_as_many_real_videos_as_allowed_and_no_more() -> None:
    # 100 real videos score 0 .. 99; 4 fakes score above all, above all but 1, but 2, but 6.
    labels = [0] * 100 + [1] * 4
    scores = [*range(100), 99.5, 98.5, 97.5, 93.5]
    assert tpr_at_fpr(labels, scores, 0.0) == 0.25
    assert tpr_at_fpr(labels, scores, 0.01) == 0.5
    assert tpr_at_fpr(labels, scores, 0.02) == 0.75
    assert tpr_at_fpr(labels, scores, 0.05) == 0.75
    assert tpr_at_fpr(labels, scores, 0.06) == 1.0
    assert tpr_at_fpr(labels, scores, 1.0) == 1.0


def test_a_real_video_at_the_top_leaves_nothing() -> None:
    assert tpr_at_fpr([0, 1, 1], [0.9, 0.8, 0.7], 0.05) == 0.0
    assert tpr_at_fpr([0, 1, 1], [0.9, 0.9, 0.7], 0.05) == 0.0  # a tie passes together


def test_a_rate_that_is_exact_in_tenths_only_is_allowed() -> None:
    labels = [0] * 10 + [1]
    assert tpr_at_fpr(labels, [*range(10), 6.5], 0.3) == 1.0  # 0.3 * 10 < 3 in floats elsewhere
    assert tpr_at_fpr(labels, [*range(10), 6.5], 0.29) == 0.0


@pytest.mark.parametrize("max_fpr", [0.01, 0.05, 0.3])
def test_it_is_scikit_learns_curve_without_interpolation(max_fpr: float) -> None:
    rng = np.random.default_rng(5)
    for distinct in (4, 40, 10_000):
        labels = rng.integers(0, 2, 300)
        scores = rng.integers(0, distinct, 300) + labels * distinct / 4
        fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
        assert tpr_at_fpr(labels, scores, max_fpr) == tpr[fpr <= max_fpr].max()


def test_bad_input_is_refused() -> None:
    with pytest.raises(OneClassError):
        tpr_at_fpr([1, 1], [0.1, 0.2], 0.05)
    with pytest.raises(UnmaskError, match=r"a number in \[0, 1\]"):
        tpr_at_fpr([0, 1], [0.1, 0.2], 5.0)
