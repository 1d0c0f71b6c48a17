"""Bootstrap intervals over sources for many detectors: all resamples of a metric at once.

They are the intervals of metrics.bootstrap_interval, which calls a metric once a resample. Here a
resample is a row of weights, how often each video was drawn, and the curves of all of them are
cumulative sums over one order of the scores.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unmask.errors import UnmaskError
from unmask.scoring.baselines import MatchedPairs
from unmask.scoring.metrics import Interval
from unmask.scoring.operating_point import SLACK
from unmask.scoring.scores import Floats, Ints, read_labels_and_scores

# Fakes and reals at or above each distinct score, from none to all, a row for each resample.
CurveMetric = Callable[[Floats, Floats], Floats]
_MOST_CELLS = 2**21  # of a matrix that is worked on at a time: it should stay in a core's cache
_MOST_PAIR_CELLS = 2**24


@dataclass(frozen=True, eq=False)
class Redraws:
    """How often each of a benchmark's sources was drawn in each of R resamples."""

    times_RG: NDArray[np.float32]
    group_of_N: Ints  # of each video

    def weights(self, rows_M: Ints) -> Iterator[tuple[slice, Floats]]:
        """Yield how often the videos at these places were drawn, for some resamples at a time."""
        groups_M = self.group_of_N[rows_M]
        step = max(1, _MOST_CELLS // max(1, len(rows_M)))
        for start in range(0, len(self.times_RG), step):
            part = slice(start, start + step)
            yield part, self.times_RG[part][:, groups_M].astype(np.float64)


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
    is_fake, ordered = labels[order] == 1, scores[order]
    last_of_tie = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    found = {name: np.full(len(redraws.times_RG), np.nan) for name in metrics}
    for part, weights in redraws.weights(np.asarray(rows_M)[order]):
        total = np.cumsum(weights, axis=1)[:, last_of_tie]
        fakes = np.cumsum(weights * is_fake, axis=1)[:, last_of_tie]
        curves = [np.pad(some, ((0, 0), (1, 0))) for some in (fakes, total - fakes)]
        usable = (curves[0][:, -1] > 0) & (curves[1][:, -1] > 0)
        places = np.arange(part.start, part.start + len(weights))[usable]
        if len(places):
            for name, metric in metrics.items():
                found[name][places] = metric(curves[0][usable], curves[1][usable])
    return found


# ---------------------------------------------------------------- means and pairs


def mean_values(values_M: ArrayLike, rows_M: Ints, redraws: Redraws) -> Floats:
    """Return the mean of the videos' values in each resample; NaN where none of them is drawn."""
    values = np.asarray(values_M, np.float64)
    found = np.full(len(redraws.times_RG), np.nan)
    for part, weights in redraws.weights(rows_M):
        drawn = weights.sum(axis=1)
        sums = weights @ values
        found[part] = np.divide(sums, drawn, out=np.full(len(sums), np.nan), where=drawn > 0)
    return found


def pair_values(scores_N: ArrayLike, pairs: MatchedPairs, redraws: Redraws) -> tuple[float, Floats]:
    """Return the share of the pairs whose fake scores higher: over all videos, in each resample.

    As baselines.measure_pairs; a score of NaN is in no pair. NaN where no pair is left.
    """
    scores = np.asarray(scores_N, np.float64)
    resamples = len(redraws.times_RG)
    won, weight = np.zeros(resamples + 1), np.zeros(resamples + 1)
    reals = scores[pairs.reals_R][None, :]
    of_reals = _drawn(redraws, pairs.reals_R)
    step = max(1, _MOST_PAIR_CELLS // max(1, len(pairs.reals_R)))
    for start in range(0, len(pairs.fakes_F), step):
        part = slice(start, start + step)
        fakes = scores[pairs.fakes_F[part]][:, None]
        matched = pairs.matched_FR[part] & ~np.isnan(fakes) & ~np.isnan(reals)
        above = matched * ((fakes > reals) + np.float32(0.5) * (fakes == reals))
        of_fakes = _drawn(redraws, pairs.fakes_F[part])
        won += ((of_fakes @ above.astype(np.float32)) * of_reals).sum(axis=1, dtype=np.float64)
        weight += ((of_fakes @ matched.astype(np.float32)) * of_reals).sum(axis=1, dtype=np.float64)
    shares = np.divide(won, weight, out=np.full(len(won), np.nan), where=weight > 0)
    return float(shares[0]), shares[1:]


def _drawn(redraws: Redraws, rows_M: Ints) -> NDArray[np.float32]:
    """Return how often these videos were drawn; the first row is all of them, once."""
    groups_M = redraws.group_of_N[rows_M]
    once = np.ones((1, len(groups_M)), np.float32)
    return np.concatenate([once, redraws.times_RG[:, groups_M]])


def interval(values_R: Floats, redraws: Redraws, *, level: float = 0.95) -> Interval | None:
    """Return the percentile interval of a metric's values in the resamples.

    NaN are left out. None if more than half are, or if there is one source, which cannot vary.
    """
    known = values_R[~np.isnan(values_R)]
    if redraws.times_RG.shape[1] == 1 or 2 * len(known) < len(values_R):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), len(known))
