"""What a ranking is worth beside none: plain quantities, a linear model, pairs of equal quality.

Label 1 is fake. A detector that ranks no better than the width of a face has learned how the two
classes were filmed, not what was done to one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unmask.errors import OneClassError, UnmaskError
from unmask.scoring import metrics
from unmask.scoring.scores import Floats, Ints, read_two_classes, roc_auc, sigmoid

MAX_WIDTH_RATIO = 1.3  # between two faces of like quality
MAX_LOG_SHARPNESS = 0.7  # natural logarithm: one is at most twice as sharp as the other
# Of the linear model, against a mean loss over standardised features, whose length grows with
# their number: so the strength is stated for features of length one.
RIDGE = 1.0
_MAX_STEPS = 50
_TOLERANCE = 1e-8

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MatchedPairs:
    """Every fake beside all real videos whose main face is about as wide and as sharp."""

    fakes_F: Ints  # places among the videos
    reals_R: Ints
    matched_FR: Bools

    @property
    def count(self) -> int:
        """Return the number of pairs."""
        return int(self.matched_FR.sum())

    @property
    def fake_count(self) -> int:
        """Return how many fakes are in a pair."""
        return int(self.matched_FR.any(axis=1).sum())

    @property
    def real_count(self) -> int:
        """Return how many real videos are in a pair."""
        return int(self.matched_FR.any(axis=0).sum())


def match_pairs(
    labels_N: ArrayLike, widths_px_N: ArrayLike, sharpness_N: ArrayLike
) -> MatchedPairs:
    """Return the pairs of a fake and a real video whose faces differ little in quality.

    Their widths are within a factor of MAX_WIDTH_RATIO, and the logarithms of their sharpness
    within MAX_LOG_SHARPNESS.

    Raises:
        UnmaskError: a width is not above 0, or a sharpness is below it.

    >>> match_pairs([1, 0, 0], [130.0, 100.0, 99.0], [0.1, 0.1, 0.1]).matched_FR.tolist()
    [[True, False]]
    """
    labels = np.asarray(labels_N)
    widths, sharpness = (np.asarray(some, np.float64) for some in (widths_px_N, sharpness_N))
    if not ((widths > 0).all() and (sharpness >= 0).all()):
        raise UnmaskError(
            "match_pairs needs widths above 0 and sharpness from 0 on; found "
            f"{widths.min(initial=np.inf)} and {sharpness.min(initial=np.inf)}. Leave out videos "
            "whose face was not measured."
        )
    fakes, reals = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    # A plain crop has sharpness 0; no face is so plain, and its logarithm has to be a number.
    logs = np.log(widths), np.log(np.maximum(sharpness, 1e-9))
    apart = [np.abs(log[fakes][:, None] - log[reals][None, :]) for log in logs]
    # 130 / 100 is 1.3, the difference of their logarithms a little more.
    slack = 1e-9
    matched = (apart[0] <= np.log(MAX_WIDTH_RATIO) + slack) & (
        apart[1] <= MAX_LOG_SHARPNESS + slack
    )
    return MatchedPairs(fakes, reals, matched)


def measure_pairs(
    scores_N: ArrayLike, pairs: MatchedPairs, groups_N: ArrayLike, *, resamples: int, seed: int
) -> metrics.Measured:
    """Return the share of the pairs whose fake scores higher, a tie counting half; its interval.

    Each pair counts once, so a fake that has many counterparts counts more often. A score of NaN is
    in no pair. The interval redraws whole groups, as metrics.bootstrap_interval does. All are None
    where there is no pair.
    """
    scores = np.asarray(scores_N, np.float64)
    known = ~np.isnan(scores)
    fakes, reals = scores[pairs.fakes_F][:, None], scores[pairs.reals_R][None, :]
    matched_FR = pairs.matched_FR & known[pairs.fakes_F][:, None] & known[pairs.reals_R][None, :]
    won_FR = matched_FR * ((fakes > reals) + 0.5 * (fakes == reals))

    def value_of(rows: Ints) -> float:
        times = np.bincount(rows, minlength=len(scores)).astype(np.float64)
        of_fakes, of_reals = times[pairs.fakes_F], times[pairs.reals_R]
        weight = float(of_fakes @ matched_FR @ of_reals)
        if weight == 0:
            raise OneClassError("measure_pairs needs a pair of a fake and a real video; found none")
        return float(of_fakes @ won_FR @ of_reals) / weight

    if not matched_FR.any():
        return dict(metrics.NOT_MEASURED)
    interval = metrics.interval_over_groups(
        value_of, groups_N, count=len(scores), resamples=resamples, seed=seed
    )
    return metrics.as_measured(value_of(np.arange(len(scores))), interval)


def direction(labels_N: ArrayLike, values_N: ArrayLike) -> int:
    """Return 1 if fakes have more of a quantity than real videos, else -1; 1 where neither has.

    Raises:
        OneClassError: labels_N holds a single class.

    >>> direction([0, 0, 1], [3.0, 2.0, 1.0])
    -1
    """
    return 1 if roc_auc(labels_N, values_N) >= 0.5 else -1


# ---------------------------------------------------------------- a linear model


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Logistic regression on standardised features."""

    mean_D: Floats
    deviation_D: Floats
    weights_D: Floats
    bias: float

    def logits(self, features_ND: ArrayLike) -> Floats:
        """Return the logits of rows of features, higher meaning fake."""
        standard = (np.asarray(features_ND, np.float64) - self.mean_D) / self.deviation_D
        return np.asarray(standard @ self.weights_D + self.bias)


def fit_linear(features_ND: ArrayLike, labels_N: ArrayLike, *, ridge: float = RIDGE) -> LinearModel:
    """Return logistic regression fitted by Newton's method (Bishop, PRML, 2006, section 4.3.3).

    Features are standardised by their own mean and deviation, then divided by the root of their
    number. What is minimised is the sum of the log-losses + ridge / 2 * |w|^2; the bias is free.

    Raises:
        OneClassError: labels_N holds a single class.
    """
    features = np.asarray(features_ND, np.float64)
    labels, _ = read_two_classes("fit_linear", labels_N, features[:, 0])
    mean, deviation = features.mean(0), features.std(0)
    scale = np.where(deviation > 0, deviation, 1.0) * np.sqrt(features.shape[1])
    rows = np.column_stack([(features - mean) / scale, np.ones(len(labels))])
    penalty = np.full(rows.shape[1], ridge)
    penalty[-1] = 0.0

    def loss(weights: Floats) -> float:
        logits = rows @ weights
        losses = np.logaddexp(0.0, np.where(labels == 1, -logits, logits)).sum()
        return float(losses + 0.5 * (penalty * weights) @ weights)

    weights = np.zeros(rows.shape[1])
    for _ in range(_MAX_STEPS):
        chances = sigmoid(rows @ weights)
        slope = rows.T @ (chances - labels) + penalty * weights
        curvature = (rows * (chances * (1 - chances))[:, None]).T @ rows + np.diag(penalty)
        step = np.linalg.solve(curvature, slope)
        share, now = 1.0, loss(weights)
        while share > 1e-6 and loss(weights - share * step) > now:
            share /= 2
        weights = weights - share * step
        if np.abs(slope).max() < _TOLERANCE * len(labels):
            break
    return LinearModel(mean, scale, weights[:-1], float(weights[-1]))


def fold_by_group(groups_N: Sequence[str], folds: int) -> Ints:
    """Return a fold for each video, from 0 on: all of a group are in one, and folds fill evenly.

    >>> fold_by_group(["a", "a", "b", "c"], 2).tolist()
    [0, 0, 1, 1]
    """
    names, counts = np.unique(np.asarray(groups_N), return_counts=True)
    filled = np.zeros(folds, np.int64)
    fold_of: dict[str, int] = {}
    for place in np.lexsort((names, -counts)):
        fold = int(filled.argmin())
        fold_of[str(names[place])] = fold
        filled[fold] += counts[place]
    return np.array([fold_of[group] for group in groups_N], np.int64)
