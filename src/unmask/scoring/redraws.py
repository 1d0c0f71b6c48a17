"""Bootstrap intervals over sources for many detectors: all resamples of a metric at once.

They are the intervals of metrics.bootstrap_interval, which calls a metric once a resample. Here a
resample is a row of weights, how often each video was drawn, and the curves of all of them are
cumulative sums over one order of the scores.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unmask.errors import UnmaskError
from unmask.scoring.baselines import MatchedPairs
from unmask.scoring.metrics import Interval
from unmask.scoring.operating_point import SLACK
from unmask.scoring.scores import Floats, Ints, read_labels_and_scores

# Fakes and reals at or above each distinct score, from none to all, a row for each resample.
CurveMetric = Callable[[Floats, Floats], Floats]
_MOST_CELLS = 2**17  # of a matrix that is worked on at a time: it should stay in a core's cache
_MOST_PAIR_CELLS = 2**22
_MOST_PAIRS = 2**26  # above that, sorting is faster than comparing all pairs
_MOST_STEPS = 2048

Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Redraws:
    """How often each of a benchmark's sources was drawn in each of R resamples."""

    times_RG: Matrix
    group_of_N: Ints  # of each video

    def weights(self, rows_M: Ints) -> Iterator[tuple[slice, Matrix]]:
        """Yield how often the videos at these places were drawn, for some resamples at a time."""
        groups_M = self.group_of_N[rows_M]
        step = max(1, _MOST_CELLS // max(1, len(rows_M)))
        for start in range(0, len(self.times_RG), step):
            part = slice(start, start + step)
            yield part, np.take(self.times_RG[part], groups_M, axis=1)


def draw(groups_N: ArrayLike, *, resamples: int, seed: int) -> Redraws:
    """Return resamples of the videos' sources, the same that metrics.bootstrap_interval draws.

    Raises:
        UnmaskError: resamples is below 1.
    """
    if resamples < 1:
        raise UnmaskError(f"Asked for {resamples} resamples; pass at least 1.")
    names_G, group_of_N = np.unique(np.asarray(groups_N), return_inverse=True)
    count, generator = len(names_G), np.random.default_rng(seed)
    times_RG = np.empty((resamples, count), np.float32)
    for times in times_RG:
        times[:] = np.bincount(generator.integers(count, size=count), minlength=count)
    return Redraws(times_RG, group_of_N.astype(np.int64))


# ---------------------------------------------------------------- metrics of curves


def _auc(fakes_RK: Floats, reals_RK: Floats) -> Floats:
    doubled = np.sum(np.diff(reals_RK) * (fakes_RK[:, 1:] + fakes_RK[:, :-1]), axis=1)
    return np.asarray(doubled / (2 * fakes_RK[:, -1] * reals_RK[:, -1]))


def _average_precision(fakes_RK: Floats, reals_RK: Floats) -> Floats:
    above = fakes_RK[:, 1:] + reals_RK[:, 1:]
    precision = fakes_RK[:, 1:] / np.maximum(above, 1.0)  # where nothing is above, no recall comes
    return np.asarray(np.sum(np.diff(fakes_RK) * precision, axis=1) / fakes_RK[:, -1])


def _equal_error_rate(fakes_RK: Floats, reals_RK: Floats) -> Floats:
    fakes, reals = fakes_RK[:, -1:], reals_RK[:, -1:]
    gaps = reals_RK * fakes + fakes_RK * reals - fakes * reals  # see metrics.equal_error_rate
    after = np.argmax(gaps >= 0, axis=1)
    rows = np.arange(len(gaps))
    before, step = (
        np.maximum(after - 1, 0),
        gaps[rows, after] - gaps[rows, np.maximum(after - 1, 0)],
    )
    share = -gaps[rows, before] / step
    crossed = reals_RK[rows, before] + share * (reals_RK[rows, after] - reals_RK[rows, before])
    return np.asarray(crossed / reals_RK[:, -1])


def _tpr_at(fakes_RK: Floats, reals_RK: Floats, *, max_fpr: float) -> Floats:
    allowed = reals_RK <= max_fpr * reals_RK[:, -1:] + SLACK
    last = allowed.shape[1] - 1 - np.argmax(allowed[:, ::-1], axis=1)
    return np.asarray(fakes_RK[np.arange(len(last)), last] / fakes_RK[:, -1])


CURVE_METRICS: Mapping[str, CurveMetric] = {
    "roc_auc": _auc,
    "average_precision": _average_precision,
    "equal_error_rate": _equal_error_rate,
    "tpr_at_fpr_1": partial(_tpr_at, max_fpr=0.01),
    "tpr_at_fpr_5": partial(_tpr_at, max_fpr=0.05),
}


def curve_values(
    labels_M: ArrayLike,
    scores_M: ArrayLike,
    rows_M: Ints,
    redraws: Redraws,
    metrics: Mapping[str, CurveMetric] = CURVE_METRICS,
) -> dict[str, Floats]:
    """Return each metric's value in each resample; NaN where one has a single class.

    labels_M and scores_M are those of the videos, or of their frames, at the places rows_M of the
    benchmark's list.

    Raises:
        UnmaskError: labels or scores are not what metrics take.
    """
    labels, scores = read_labels_and_scores("curve_values", labels_M, scores_M)
    order = np.argsort(-scores, kind="stable")
    is_fake, ordered = (labels[order] == 1).astype(np.float32), scores[order]
    last_of_tie = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    found = {name: np.full(len(redraws.times_RG), np.nan) for name in metrics}
    for part, weights in redraws.weights(np.asarray(rows_M)[order]):
        fakes, total = _above(weights * is_fake, last_of_tie), _above(weights, last_of_tie)
        _fill(found, part, fakes, total - fakes, metrics)
    return found


def _above(weights_RM: NDArray[np.floating[Any]], last_of_tie: Ints) -> Floats:
    """Return the sum of weights down to each distinct score, after a 0."""
    sums = np.zeros((len(weights_RM), weights_RM.shape[1] + 1))
    np.cumsum(weights_RM, axis=1, out=sums[:, 1:])
    if len(last_of_tie) == weights_RM.shape[1]:
        return sums
    return np.take(sums, np.append(0, last_of_tie + 1), axis=1)


def _fill(
    found: Mapping[str, Floats],
    part: slice,
    fakes_RK: Floats,
    reals_RK: Floats,
    metrics: Mapping[str, CurveMetric],
) -> None:
    """Write the metrics of some resamples into their places; those of one class are left out."""
    usable = (fakes_RK[:, -1] > 0) & (reals_RK[:, -1] > 0)
    if not usable.all():
        fakes_RK, reals_RK = fakes_RK[usable], reals_RK[usable]
    places = np.arange(part.start, part.start + len(usable))[usable]
    if len(places):
        for name, metric in metrics.items():
            found[name][places] = metric(fakes_RK, reals_RK)


def auc_values(labels_M: ArrayLike, scores_M: ArrayLike, rows_M: Ints, redraws: Redraws) -> Floats:
    """Return what curve_values does of the AUC alone, sooner.

    Each source's fakes are compared with each source's real videos once; a resample weights these.
    """
    labels, scores = read_labels_and_scores("auc_values", labels_M, scores_M)
    groups_M = redraws.group_of_N[np.asarray(rows_M)]
    order = np.argsort(groups_M, kind="stable")  # then no pair has to be moved
    fakes, reals = order[labels[order] == 1], order[labels[order] == 0]
    if len(fakes) * len(reals) > _MOST_PAIRS:
        only = {"roc_auc": CURVE_METRICS["roc_auc"]}
        return curve_values(labels, scores, rows_M, redraws, only)["roc_auc"]

    def above(part: slice) -> Matrix:
        some, others = scores[fakes[part]][:, None], scores[reals][None, :]
        return np.asarray((some > others) + np.float32(0.5) * (some == others), np.float32)

    won = _of_sources(above, groups_M[fakes], groups_M[reals], redraws)
    pairs = _drawn_of(groups_M[fakes], redraws) * _drawn_of(groups_M[reals], redraws)
    return _shares(won, pairs)


def stepped_auc_values(
    labels_M: ArrayLike, scores_M: ArrayLike, rows_M: Ints, redraws: Redraws
) -> Floats:
    """Return what auc_values does, for hundreds of thousands of frames.

    Where there are more than 2,048 distinct scores they are put into about so many steps of equal
    count, within which frames tie: that moves an AUC by at most 1 / 4,096.
    """
    labels, scores = read_labels_and_scores("stepped_auc_values", labels_M, scores_M)
    edges = np.unique(scores)
    if len(edges) > _MOST_STEPS:
        edges = np.unique(np.sort(scores)[:: -(-len(scores) // _MOST_STEPS)])
    steps = len(edges) - np.searchsorted(edges, scores, side="right")  # the highest scores first
    count = len(edges)
    groups_M = redraws.group_of_N[np.asarray(rows_M)]
    curves = []
    for label in (1, 0):
        own = labels == label
        held = np.bincount(
            groups_M[own] * count + steps[own], minlength=redraws.times_RG.shape[1] * count
        )
        drawn = redraws.times_RG @ held.reshape(-1, count).astype(np.float32)
        curves.append(_above(drawn, np.arange(count)))
    found = {"roc_auc": np.full(len(redraws.times_RG), np.nan)}
    every = slice(0, len(redraws.times_RG))
    _fill(found, every, curves[0], curves[1], {"roc_auc": CURVE_METRICS["roc_auc"]})
    return found["roc_auc"]


# ---------------------------------------------------------------- means and pairs


def mean_values(values_M: ArrayLike, rows_M: Ints, redraws: Redraws) -> Floats:
    """Return the mean of the videos' values in each resample; NaN where none of them is drawn."""
    groups_M, count = redraws.group_of_N[np.asarray(rows_M)], redraws.times_RG.shape[1]
    of_groups = np.bincount(groups_M, np.asarray(values_M, np.float64), minlength=count)
    sums = np.asarray(redraws.times_RG @ of_groups, np.float64)
    return _shares(sums, _drawn_of(groups_M, redraws))


def _drawn_of(groups_M: Ints, redraws: Redraws) -> Floats:
    """Return how many of these videos there are in each resample."""
    counts_G = np.bincount(groups_M, minlength=redraws.times_RG.shape[1])
    return np.asarray(redraws.times_RG @ counts_G.astype(np.float32), np.float64)


def _shares(parts_R: Floats, wholes_R: Floats) -> Floats:
    """Return parts by wholes; NaN where there is nothing."""
    nothing = np.full(len(parts_R), np.nan)
    return np.asarray(np.divide(parts_R, wholes_R, out=nothing, where=wholes_R > 0))


def pair_values(scores_N: ArrayLike, pairs: MatchedPairs, redraws: Redraws) -> tuple[float, Floats]:
    """Return the share of the pairs whose fake scores higher: over all videos, in each resample.

    As baselines.measure_pairs; a score of NaN is in no pair. NaN where no pair is left.
    """
    scores = np.asarray(scores_N, np.float64)
    reals = scores[pairs.reals_R][None, :]
    groups = redraws.group_of_N[pairs.fakes_F], redraws.group_of_N[pairs.reals_R]
    all_won = all_pairs = 0.0

    def matched(part: slice) -> Matrix:
        fakes = scores[pairs.fakes_F[part]][:, None]
        return (pairs.matched_FR[part] & ~np.isnan(fakes) & ~np.isnan(reals)).astype(np.float32)

    def won(part: slice) -> Matrix:
        nonlocal all_won, all_pairs
        fakes, there = scores[pairs.fakes_F[part]][:, None], matched(part)
        found = there * ((fakes > reals) + np.float32(0.5) * (fakes == reals))
        all_won += float(found.sum(dtype=np.float64))
        all_pairs += float(there.sum(dtype=np.float64))
        return np.asarray(found, np.float32)

    won_R = _of_sources(won, *groups, redraws)
    pairs_R = _of_sources(matched, *groups, redraws)
    return all_won / all_pairs if all_pairs else np.nan, _shares(won_R, pairs_R)


def _of_sources(
    value_of: Callable[[slice], Matrix], groups_F: Ints, groups_R: Ints, redraws: Redraws
) -> Floats:
    """Return the sum, in each resample, of a value of each pair of a fake and a real video.

    value_of returns the values of some fakes, a row each, with all real videos. Each pair counts
    as often as its two sources were drawn, multiplied. Sums of halves are exact in float32 as long
    as they are below 2^23, which is what one real video can win of all fakes.
    """
    if not len(groups_F) or not len(groups_R):
        return np.zeros(len(redraws.times_RG))
    # Neighbours of one source are added up; a source that comes in several places gets its sum.
    begins_R = np.append(0, np.flatnonzero(np.diff(groups_R)) + 1)
    sources_F, at_F = np.unique(groups_F, return_inverse=True)
    sums = np.zeros((len(sources_F), len(begins_R)), np.float32)
    step = max(1, _MOST_PAIR_CELLS // len(groups_R))
    for start in range(0, len(groups_F), step):
        part = slice(start, start + step)
        at = at_F[part]
        begins = np.append(0, np.flatnonzero(np.diff(at)) + 1)
        of_fakes = np.add.reduceat(value_of(part), begins, axis=0)
        of_both = np.add.reduceat(of_fakes, begins_R, axis=1)
        np.add.at(sums, at[begins], of_both)
    won = redraws.times_RG[:, sources_F] @ sums
    drawn = redraws.times_RG[:, groups_R[begins_R]]
    return np.asarray(np.einsum("rs,rs->r", won, drawn, dtype=np.float64))


def interval(
    values_R: Floats, redraws: Redraws, *, places_M: Ints | None = None, level: float = 0.95
) -> Interval | None:
    """Return the percentile interval of a metric's values in the resamples.

    places_M says which videos the metric is of; None: of all. NaN are left out. None if more than
    half are, or if the videos are of one source, which cannot vary.
    """
    known = values_R[~np.isnan(values_R)]
    groups = redraws.group_of_N if places_M is None else redraws.group_of_N[places_M]
    if len(np.unique(groups)) < 2 or 2 * len(known) < len(values_R):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), len(known))
