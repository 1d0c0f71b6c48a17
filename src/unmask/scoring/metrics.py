"""How well scores tell fake from real: metrics, curves and intervals.

Label 1 is fake. Ranking metrics take any finite scores, the others P(fake) in [0, 1].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from unmask.errors import OneClassError, UnmaskError
from unmask.scoring.scores import (
    Floats,
    Ints,
    count_above,
    read_labels_and_scores,
    roc_auc,
)

Metric = Callable[[ArrayLike, ArrayLike], float]
Measured = dict[str, float | None]  # value, low, high
NOT_MEASURED: Measured = {"value": None, "low": None, "high": None}

# Keeps a confident mistake finite: one wrong certainty costs at most -ln(1e-7) = 16.1.
LOG_LOSS_CLIP = 1e-7
FAKE_THRESHOLD = 0.5
BIN_COUNT = 10


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Rates as the threshold falls; a video is called fake at or above the threshold.

    The first point is (0, 0), where nothing is called fake: its threshold is inf.
    """

    fpr_K: Floats
    tpr_K: Floats
    thresholds_K: Floats


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """Precision and recall as the threshold falls; recall never decreases.

    The first point, where nothing is called fake, has recall 0, threshold inf and, by
    convention, precision 1.
    """

    precision_K: Floats
    recall_K: Floats
    thresholds_K: Floats


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Promise against outcome in each non-empty bin, by rising score."""

    mean_scores_K: Floats
    fake_fractions_K: Floats
    counts_K: Ints


@dataclass(frozen=True)
class Confusion:
    """Counts of what a video is and what it was called."""

    real_as_real: int
    real_as_fake: int
    fake_as_real: int
    fake_as_fake: int


@dataclass(frozen=True)
class Interval:
    """Bounds of a bootstrap interval and how many resamples they come from."""

    low: float
    high: float
    resamples: int


def log_loss(labels_N: ArrayLike, scores_N: ArrayLike) -> float:
    """Return the mean negative natural log of the probability given to the true label.

    Scores are clipped to [1e-7, 1 - 1e-7]. One class is enough.

    Raises:
        UnmaskError: a score is NaN or outside [0, 1].

    >>> round(log_loss([0, 1], [0.5, 0.5]), 4)  # ln 2
    0.6931
    """
    labels, scores = _read_probabilities("log_loss", labels_N, scores_N)
    clipped = np.clip(scores, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return float(-np.where(labels == 1, np.log(clipped), np.log1p(-clipped)).mean())


def accuracy(labels_N: ArrayLike, scores_N: ArrayLike) -> float:
    """Return the fraction of videos called right, where 0.5 and above is called fake.

    >>> accuracy([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9])
    0.75
    """
    labels, scores = _read_probabilities("accuracy", labels_N, scores_N)
    return float(((scores >= FAKE_THRESHOLD) == (labels == 1)).mean())


def confusion(labels_N: ArrayLike, scores_N: ArrayLike) -> Confusion:
    """Return the 2 x 2 counts, where 0.5 and above is called fake."""
    labels, scores = _read_probabilities("confusion", labels_N, scores_N)
    cells = np.bincount(2 * labels + (scores >= FAKE_THRESHOLD), minlength=4)
    return Confusion(*(int(count) for count in cells))


def roc_curve(labels_N: ArrayLike, scores_N: ArrayLike) -> RocCurve:
    """Return the ROC with one point a distinct score, none left out.

    Raises:
        OneClassError: labels_N holds a single class.
    """
    true_fakes, false_fakes, thresholds = count_above("roc_curve", labels_N, scores_N)
    return RocCurve(false_fakes / false_fakes[-1], true_fakes / true_fakes[-1], thresholds)


def equal_error_rate(labels_N: ArrayLike, scores_N: ArrayLike) -> float:
    """Return the error rate where false accepts equal false rejects, in [0, 1].

    scores_N holds any real numbers, higher meaning fake. Tied scores share one threshold; the
    crossing is interpolated linearly between neighbours on the ROC.

    Raises:
        OneClassError: labels_N holds a single class.

    >>> equal_error_rate([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.5
    """
    true_fakes, false_fakes, _ = count_above("equal_error_rate", labels_N, scores_N)
    fake_count, real_count = true_fakes[-1], false_fakes[-1]
    # fpr - fnr, times both counts so that it stays whole: it rises strictly, from below zero to
    # above it, because every threshold adds at least one video. So there is one crossing.
    gaps = false_fakes * fake_count + true_fakes * real_count - fake_count * real_count
    after = int(np.searchsorted(gaps, 0))
    step_share = -gaps[after - 1] / (gaps[after] - gaps[after - 1])
    reals = false_fakes[after - 1] + step_share * (false_fakes[after] - false_fakes[after - 1])
    return float(reals / real_count)


def precision_recall_curve(labels_N: ArrayLike, scores_N: ArrayLike) -> PrecisionRecallCurve:
    """Return precision and recall with one point a distinct score, none left out.

    Raises:
        OneClassError: labels_N holds a single class.
    """
    true_fakes, false_fakes, thresholds = count_above("precision_recall_curve", labels_N, scores_N)
    precision_after_first = true_fakes[1:] / (true_fakes[1:] + false_fakes[1:])
    precision = np.concatenate(([1.0], precision_after_first))
    return PrecisionRecallCurve(precision, true_fakes / true_fakes[-1], thresholds)


def average_precision(labels_N: ArrayLike, scores_N: ArrayLike) -> float:
    """Return the precision at each threshold, weighted by the recall that threshold adds.

    A step-wise sum without interpolation, as in scikit-learn's average_precision_score. What a
    coin would reach is the share of fakes, so compare only over the same share.

    Raises:
        OneClassError: labels_N holds a single class.
    """
    curve = precision_recall_curve(labels_N, scores_N)
    return float(np.sum(np.diff(curve.recall_K) * curve.precision_K[1:]))


def reliability_curve(labels_N: ArrayLike, scores_N: ArrayLike) -> ReliabilityCurve:
    """Return mean score, fraction of fakes and count for each non-empty bin of ten.

    Bin m of 1..10 is ((m - 1) / 10, m / 10], as in Guo et al. 2017 sec. 2; a score of 0 goes to
    the first.
    """
    labels, scores = _read_probabilities("reliability_curve", labels_N, scores_N)
    # k / 10 is the float people write; linspace(0, 1, 11)[3] is 0.30000000000000004.
    inner_edges = np.arange(1, BIN_COUNT) / BIN_COUNT
    bins = np.searchsorted(inner_edges, scores, side="left")
    counts = np.bincount(bins, minlength=BIN_COUNT)
    filled = counts > 0
    score_sums = np.bincount(bins, weights=scores, minlength=BIN_COUNT)[filled]
    fake_sums = np.bincount(bins, weights=labels, minlength=BIN_COUNT)[filled]
    return ReliabilityCurve(score_sums / counts[filled], fake_sums / counts[filled], counts[filled])


def calibration_error(labels_N: ArrayLike, scores_N: ArrayLike) -> float:
    """Return the expected calibration error, in [0, 1]: 0 keeps every promise.

    The sum over the bins of `reliability_curve` of (count / N) * |fraction fake - mean score|:
    Guo et al. 2017 sec. 2 with P(fake) in the place of confidence and the fraction of fakes in
    the place of accuracy. It is biased upwards when bins hold few videos.

    >>> round(calibration_error([0, 1, 1, 1], [0.8, 0.8, 0.8, 0.8]), 4)  # |3/4 - 0.8|
    0.05
    """
    curve = reliability_curve(labels_N, scores_N)
    gaps = np.abs(curve.fake_fractions_K - curve.mean_scores_K)
    return float(np.sum(curve.counts_K * gaps) / np.sum(curve.counts_K))


def bootstrap_interval(
    metric: Metric,
    labels_N: ArrayLike,
    scores_N: ArrayLike,
    groups_N: ArrayLike,
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> Interval | None:
    """Return the percentile bootstrap interval of metric, drawing whole groups.

    groups_N holds source ids. A real video and the fakes made from it are not independent, so
    groups, not videos, are drawn with replacement, as many as there are (cluster bootstrap, Field
    & Welsh 2007). One seed draws the same resamples for every metric.

    Resamples where metric raises OneClassError are dropped, and Interval.resamples counts the
    rest. None if more than half are dropped, or if there is one group, which cannot vary.
    """
    labels, scores = read_labels_and_scores("bootstrap_interval", labels_N, scores_N)
    return interval_over_groups(
        lambda rows: metric(labels[rows], scores[rows]),
        groups_N, count=len(labels), resamples=resamples, seed=seed, level=level,
    )  # fmt: skip


def paired_interval(
    metric: Metric,
    labels_N: ArrayLike,
    scores_N: ArrayLike,
    others_N: ArrayLike,
    groups_N: ArrayLike,
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> Interval | None:
    """Return the interval of how far metric over scores_N is above that over others_N.

    As bootstrap_interval; both are scores of the same videos, and each resample draws the same of
    both. So what makes a video hard for both does not widen it.
    """
    labels, scores = read_labels_and_scores("paired_interval", labels_N, scores_N)
    _, others = read_labels_and_scores("paired_interval", labels_N, others_N)
    return interval_over_groups(
        lambda rows: metric(labels[rows], scores[rows]) - metric(labels[rows], others[rows]),
        groups_N, count=len(labels), resamples=resamples, seed=seed, level=level,
    )  # fmt: skip


def interval_over_groups(
    value_of: Callable[[Ints], float],
    groups_N: ArrayLike,
    *,
    count: int,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> Interval | None:
    """Return the interval of what value_of returns for the places of the videos that are drawn.

    As bootstrap_interval, for what is no metric of labels and scores alone. count is the number of
    videos; a place, from 0 on, stands in value_of's argument as often as its video was drawn.
    """
    if resamples < 1 or not 0 < level < 1:
        raise UnmaskError(
            f"bootstrap_interval: asked for {resamples} resamples at level {level}; pass at least "
            "1 resample and a level between 0 and 1."
        )
    names_G, group_of_N = np.unique(np.asarray(groups_N), return_inverse=True)
    if group_of_N.shape != (count,):
        raise UnmaskError(
            f"bootstrap_interval: expected one group a label, got {len(group_of_N)} groups for "
            f"{count} labels. Pass the source id of every video."
        )
    group_count = len(names_G)
    if group_count == 1:
        return None
    generator = np.random.default_rng(seed)
    rows_N = np.arange(count)
    values = []
    for _ in range(resamples):
        drawn_G = generator.integers(group_count, size=group_count)
        times_drawn_G = np.bincount(drawn_G, minlength=group_count)
        try:
            values.append(value_of(np.repeat(rows_N, times_drawn_G[group_of_N])))
        except OneClassError:
            continue
    if 2 * len(values) < resamples:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), len(values))


METRICS: dict[str, Metric] = {
    "log_loss": log_loss,
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "accuracy": accuracy,
    "equal_error_rate": equal_error_rate,
    "calibration_error": calibration_error,
}


def measure(
    metric: Metric,
    labels_N: ArrayLike,
    scores_N: ArrayLike,
    groups_N: ArrayLike,
    *,
    resamples: int,
    seed: int,
) -> Measured:
    """Return a metric's value, low and high (95 % interval), ready for JSON.

    All are None over one class where the metric needs two; low and high are None where
    `bootstrap_interval` is.
    """
    try:
        value = metric(labels_N, scores_N)
    except OneClassError:
        return dict(NOT_MEASURED)
    interval = bootstrap_interval(
        metric, labels_N, scores_N, groups_N, resamples=resamples, seed=seed
    )
    return as_measured(value, interval)


def measure_difference(
    metric: Metric,
    labels_N: Sequence[int],
    scores_N: Sequence[float | None],
    others_N: Sequence[float | None],
    groups_N: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> Measured:
    """Return by how much metric over scores_N is above that over others_N, as measure does.

    A video that either has no score of is left out of both; all are None where none is left.
    """
    columns = zip(labels_N, scores_N, others_N, groups_N, strict=True)
    both = [row for row in columns if None not in row]
    if not both:
        return dict(NOT_MEASURED)
    labels, scores, others, groups = zip(*both, strict=True)
    try:
        value = metric(labels, scores) - metric(labels, others)
    except OneClassError:
        return dict(NOT_MEASURED)
    interval = paired_interval(
        metric, labels, scores, others, groups, resamples=resamples, seed=seed
    )
    return as_measured(value, interval)


def as_measured(value: float, interval: Interval | None) -> Measured:
    """Return a value and its interval, ready for JSON."""
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {"value": value, "low": low, "high": high}


def shown(measured: Mapping[str, float | None], *, sign: str = "") -> str:
    """Return what was measured for people; sign is "+" for a difference.

    >>> shown({"value": 0.5, "low": 0.25, "high": 0.75}), shown(NOT_MEASURED)
    ('0.500 [0.250, 0.750]', '-')
    """
    value, low, high = (measured[name] for name in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:{sign}.3f}" + ("" if low is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]")


def summarise(
    labels_N: ArrayLike, scores_N: ArrayLike, groups_N: ArrayLike, *, resamples: int, seed: int
) -> dict[str, Measured]:
    """Return what `measure` does of every metric."""
    return {
        name: measure(metric, labels_N, scores_N, groups_N, resamples=resamples, seed=seed)
        for name, metric in METRICS.items()
    }


def _read_probabilities(
    asked_by: str, labels_N: ArrayLike, scores_N: ArrayLike
) -> tuple[Ints, Floats]:
    labels, scores = read_labels_and_scores(asked_by, labels_N, scores_N)
    outside = np.flatnonzero((scores < 0) | (scores > 1))
    if len(outside):
        raise UnmaskError(
            f"{asked_by} needs scores in [0, 1]; found {len(outside)} outside, the first "
            f"{scores[outside[0]]} at {outside[0]}. Turn logits into scores with sigmoid."
        )
    return labels, scores
