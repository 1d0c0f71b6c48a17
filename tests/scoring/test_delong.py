"""DeLong's test against published values and against its definition, over all pairs."""

import math

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from unmask.errors import OneClassError, UnmaskError
from unmask.scoring import delong
from unmask.scoring.scores import roc_auc

# The example of DeLong et al. 1988, as SAS/STAT's manual prints it: albumin, total protein, K-G
# score and outcome of 43 patients (The LOGISTIC Procedure, "Comparing Receiver Operating
# Characteristic Curves"). Its output gives the areas, their standard errors and the differences.
PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0
1.6 5.6 5 1   3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1
4.3 7.0 4 1   3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1
3.0 4.7 8 0   4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1
3.2 5.1 5 1   2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1
3.5 6.2 5 1   2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1
3.6 6.6 5 1
"""
ALBUMIN, PROTEIN, KG_SCORE, OUTCOME = np.array(PATIENTS.split(), float).reshape(-1, 4).T
KG_SCORE = 10 - KG_SCORE


def test_the_published_example_comes_out() -> None:
    assert len(OUTCOME) == 43
    found = delong.aucs(OUTCOME, np.stack([ALBUMIN, PROTEIN, KG_SCORE]))
    assert found.aucs_D.round(4).tolist() == [0.7366, 0.6478, 0.7258]
    errors = np.sqrt(np.diag(found.covariance_DD))
    assert errors.round(4).tolist() == [0.0927, 0.1, 0.1028]
    albumin = delong.compare(OUTCOME, ALBUMIN, KG_SCORE)
    assert [round(value, 4) for value in (albumin.value, albumin.low, albumin.high, albumin.p)] == [
        0.0108, -0.1761, 0.1976, 0.9102,
    ]  # fmt: skip
    protein = delong.compare(OUTCOME, PROTEIN, KG_SCORE)
    assert [round(value, 4) for value in (protein.value, protein.low, protein.high, protein.p)] == [
        -0.078, -0.283, 0.1271, 0.4561,
    ]  # fmt: skip
    # The test of all three at once, which needs the covariances: chi-square 2.5340 of 2 degrees.
    contrast = np.array([[1, 0, -1], [0, 1, -1]])
    apart = contrast @ found.aucs_D
    spread = contrast @ found.covariance_DD @ contrast.T
    assert round(float(apart @ np.linalg.solve(spread, apart)), 4) == 2.534


def by_definition(
    labels: ArrayLike, scores: NDArray[np.float64]
) -> tuple[list[float], list[list[float]]]:
    """Return AUCs and covariance from the kernel of every pair (DeLong et al. 1988, eq. 3 to 7)."""
    fakes = [row[np.asarray(labels) == 1].tolist() for row in scores]
    reals = [row[np.asarray(labels) == 0].tolist() for row in scores]
    m, n, detectors = len(fakes[0]), len(reals[0]), range(len(scores))

    def psi(fake: float, real: float) -> float:
        return 1.0 if fake > real else 0.5 if fake == real else 0.0

    v10 = [[sum(psi(x, y) for y in reals[d]) / n for x in fakes[d]] for d in detectors]
    v01 = [[sum(psi(x, y) for x in fakes[d]) / m for y in reals[d]] for d in detectors]
    means = [sum(v10[d]) / m for d in detectors]

    def s(parts: list[list[float]], r: int, k: int, count: int) -> float:
        products = zip(parts[r], parts[k], strict=True)
        return sum((a - means[r]) * (b - means[k]) for a, b in products) / (count - 1)

    return means, [
        [s(v10, r, k, m) / m + s(v01, r, k, n) / n for k in detectors] for r in detectors
    ]


@pytest.mark.parametrize("distinct", [2, 5, 1000])
def test_it_is_the_definition_over_all_pairs_with_many_ties_or_few(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    labels = (rng.random(60) < 0.4).astype(int)
    scores = rng.integers(0, distinct, (3, 60)) + labels * rng.integers(0, 2, (3, 60))
    found = delong.aucs(labels, scores)
    means, covariance = by_definition(labels, scores.astype(float))
    np.testing.assert_allclose(found.aucs_D, means, rtol=1e-12)
    np.testing.assert_allclose(found.covariance_DD, covariance, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.aucs_D, [roc_auc(labels, row) for row in scores], rtol=1e-12)


def test_four_videos_by_hand() -> None:
    # Of the fakes 2 and 4 among the reals 1 and 3: one is above half of them, one above all.
    found = delong.aucs([1, 1, 0, 0], [[2, 4, 1, 3]])
    assert found.aucs_D.tolist() == [0.75]
    # Variance of (0.5, 1) and of (1, 0.5): 0.125 each; each by its count of 2.
    assert found.covariance_DD.tolist() == [[0.125]]


def test_two_detectors_of_one_order_do_not_differ() -> None:
    scores = np.array([0.1, 0.9, 0.4, 0.6, 0.5, 0.2])
    labels = [0, 1, 0, 1, 1, 0]
    found = delong.compare(labels, scores, np.exp(scores))
    assert (found.value, found.z, found.p) == (0.0, 0.0, 1.0)


def test_a_difference_without_any_variance_is_certain() -> None:
    labels = [0, 0, 1, 1]
    found = delong.compare(labels, [1, 1, 2, 2], [2, 2, 1, 1])
    assert (found.value, found.z, found.p) == (1.0, math.inf, 0.0)


def test_one_class_or_one_video_of_a_class_has_no_variance() -> None:
    with pytest.raises(OneClassError):
        delong.aucs([1, 1], [[0.1, 0.2]])
    with pytest.raises(UnmaskError, match="1 fakes and 2 real"):
        delong.aucs([1, 0, 0], [[0.1, 0.2, 0.3]])
    with pytest.raises(UnmaskError, match="finite"):
        delong.compare([1, 1, 0, 0], [1, 2, 3, 4], [1, 2, 3, math.nan])


def test_its_intervals_hold_the_truth_as_often_as_they_say() -> None:
    # Fakes N(1, 1), real videos N(0, 1): the AUC is Phi(1 / sqrt(2)) = 0.7602.
    rng, truth, held = np.random.default_rng(7), 0.760249938906, 0
    labels = np.repeat([1, 0], [80, 120])
    for _ in range(400):
        found = delong.aucs(labels, rng.normal(labels, 1.0))
        error = math.sqrt(found.covariance_DD[0, 0])
        held += abs(found.aucs_D[0] - truth) <= 1.96 * error
    assert 0.92 <= held / 400 <= 0.98
