"""The share of fakes found where few false alarms are allowed, beside scikit-learn's curve."""

import doctest

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from unmask.errors import OneClassError
from unmask.scoring import operating_point
from unmask.scoring.operating_point import tpr_at_fpr


def test_the_examples_hold() -> None:
    assert doctest.testmod(operating_point).failed == 0


def test_one_false_alarm_in_a_hundred_is_one_per_cent() -> None:
    labels = [0] * 100 + [1] * 4
    scores = [*np.linspace(0, 0.99, 99), 2.0, 3.0, 1.5, 1.0, 0.5]
    assert tpr_at_fpr(labels, scores, 0.01) == 0.75  # the false alarm is at 2.0
    assert tpr_at_fpr(labels, scores, 0.009) == 0.25
    assert tpr_at_fpr(labels, scores, 1.0) == 1.0


@pytest.mark.parametrize("max_fpr", [0.01, 0.05, 0.2])
def test_it_is_the_highest_point_of_the_curve_there(max_fpr: float) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 500)
    scores = np.round(rng.normal(labels, 1.0), 1)  # with ties
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert tpr_at_fpr(labels, scores, max_fpr) == pytest.approx(tpr[fpr <= max_fpr].max())


def test_of_one_class_there_is_none() -> None:
    with pytest.raises(OneClassError):
        tpr_at_fpr([1, 1], [0.1, 0.2], 0.01)
