"""Features of known nets: one row a clip, blind to the decision, the same for everybody."""

import numpy as np
import pytest

from unmask.models.features import DIMENSIONS, mean_of, shortened


def test_a_row_is_its_direction_without_the_decision():
    rows_NF = np.array([[3.0, 4.0, 0.0], [0.0, 5.0, 9.0]])
    found = shortened(rows_NF, np.array([0.0, 0.0, 2.0]))
    assert np.array(found) == pytest.approx(np.array([[0.6, 0.8, 0], [0, 1, 0]]))


def test_a_mean_is_of_length_one_and_of_none_there_is_none():
    mean_D = mean_of([np.array([1.0, 0.0]), np.array([0.0, 1.0])])
    assert mean_D == pytest.approx(np.sqrt([0.5, 0.5]))
    assert mean_of([]) is None


def test_short_features_keep_distances_and_do_not_follow_the_decision():
    rng = np.random.default_rng(1)
    rows_NF, decision_F = rng.normal(0, 1, (40, 2048)), rng.normal(0, 1, 2048)
    short = np.array(shortened(rows_NF, decision_F))
    moved = np.array(shortened(rows_NF + 5 * decision_F, decision_F))
    assert moved == pytest.approx(short, abs=1e-9)
    whole = rows_NF / np.linalg.norm(rows_NF, axis=1, keepdims=True)
    before, after = whole @ whole.T, short @ short.T
    assert np.abs(before - after).max() < 0.4
    assert np.abs(before - after).mean() < 0.1
    # Of no machine and no version: the first signs of the hash's bits.
    assert shortened(np.eye(2048)[:1], np.zeros(2048))[0][:4] * DIMENSIONS**0.5 == pytest.approx(
        shortened(np.eye(2048)[:1] * 7, np.zeros(2048))[0][:4] * DIMENSIONS**0.5
    )
