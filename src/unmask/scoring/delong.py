"""DeLong's test: how sure an AUC is, and whether two detectors' AUCs on the same videos differ.

DeLong, DeLong & Clarke-Pearson, "Comparing the Areas under Two or More Correlated Receiver
Operating Characteristic Curves: A Nonparametric Approach", Biometrics 44 (1988), in the form of
Sun & Xu, "Fast Implementation of DeLong's Algorithm for Comparing the Areas Under Correlated
Receiver Operating Characteristic Curves", IEEE Signal Processing Letters 21 (2014), which takes
ranks in place of all pairs.

It takes each video for independent of the others. Videos of one recording are not, so that where
sources have several videos the interval can be far too narrow and the p-value too small: beside it
belongs the bootstrap over sources of metrics.paired_interval.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from unmask.errors import UnmaskError
from unmask.scoring.scores import Floats, read_two_classes

_NORMAL_975 = 1.959963984540054  # the normal distribution's quantile of 97.5%


@dataclass(frozen=True, eq=False)
class Aucs:
    """The AUCs of D detectors on the same videos."""

    aucs_D: Floats
    covariance_DD: Floats


@dataclass(frozen=True)
class Difference:
    """How much higher one detector's AUC is than another's, with DeLong's interval and test."""

    value: float
    low: float
    high: float
    z: float  # the difference by its standard error
    p: float  # two-sided: of a difference at least as large if the AUCs were equal


def aucs(labels_N: ArrayLike, scores_DN: ArrayLike) -> Aucs:
    """Return the AUCs of D detectors and their covariance (DeLong et al. 1988, eq. 5 to 7).

    scores_DN has a row for each detector; a tie counts half.

    Raises:
        OneClassError: labels_N holds a single class.
        UnmaskError: fewer than two videos of a class, which have no variance; or scores that
            metrics refuse.
    """
    scores = np.atleast_2d(np.asarray(scores_DN, np.float64))
    for row in scores:
        labels, _ = read_two_classes("delong.aucs", labels_N, row)
    fakes, reals = scores[:, labels == 1], scores[:, labels == 0]
    count, other = fakes.shape[1], reals.shape[1]
    if min(count, other) < 2:
        raise UnmaskError(
            f"DeLong's variance needs two videos of each class; found {count} fakes and {other} "
            "real videos. Score more of them."
        )
    together = _midranks(np.concatenate([fakes, reals], axis=1))
    # Of each fake the share of real videos below it, of each real video the share of fakes above.
    above_DF = (together[:, :count] - _midranks(fakes)) / other
    below_DR = 1.0 - (together[:, count:] - _midranks(reals)) / count
    covariance = np.atleast_2d(np.cov(above_DF)) / count + np.atleast_2d(np.cov(below_DR)) / other
    return Aucs(above_DF.mean(axis=1), covariance)


def compare(labels_N: ArrayLike, scores_N: ArrayLike, others_N: ArrayLike) -> Difference:
    """Return how much higher the AUC of scores_N is than that of others_N on the same videos.

    Two detectors whose every pair of videos is in the same order do not differ: z is 0 and p is 1.

    Raises:
        OneClassError, UnmaskError: as `aucs` does.
    """
    both = aucs(labels_N, np.stack([np.asarray(scores_N, float), np.asarray(others_N, float)]))
    value = float(both.aucs_D[0] - both.aucs_D[1])
    (first, shared), (_, second) = both.covariance_DD
    error = math.sqrt(max(0.0, float(first + second - 2 * shared)))
    # Rounding leaves about 1e-9 of a variance that is 0.
    if error < 1e-8:
        z = 0.0 if abs(value) < 1e-12 else math.copysign(math.inf, value)
    else:
        z = value / error
    width = _NORMAL_975 * error
    return Difference(value, value - width, value + width, z, math.erfc(abs(z) / math.sqrt(2)))


def _midranks(values_DN: Floats) -> Floats:
    """Return each row's ranks from 1 on; values that tie share the mean of theirs."""
    count = values_DN.shape[1]
    ranks_DN = np.empty(values_DN.shape)
    for ranks, values in zip(ranks_DN, values_DN, strict=True):
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        begins = np.concatenate(([0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1))
        ends = np.append(begins[1:], count)
        ranks[order] = np.repeat((begins + 1 + ends) / 2, ends - begins)
    return ranks_DN
