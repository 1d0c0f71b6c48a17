"""Whether a video is unlike those that a model was calibrated on, as a conformal p-value.

Plain numpy. The new video is put among the known ones, and each of them all is measured against all
the others in the same way. If the new one is like them, its place in that order is any place with
the same chance: the p-value is the share that is as far off, itself included, whatever is measured
(full conformal prediction: Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World, 2005,
chapter 2; as a test for outliers: Bates et al., 2023, arXiv:2104.08279).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# What a look has numbers for, and how far two looks of one video may well lie apart in each: a
# spread below it, such as of clips that are all of one size, counts as that.
QUALITIES = {
    "size": 0.05,  # log of the face's size in px
    "sharpness": 0.1,  # log of FaceQuality.sharpness
    "grain": 0.1,  # log of FaceQuality.grain
    "light": 0.02,  # FaceQuality.brightness
    "bitrate": 0.1,  # log of bits a pixel of the picture and second
    "time": 0.1,  # log of the seconds that all of the video's faces are seen for
}
_NEIGHBOURS = 3
_SPREAD_FLOOR = 0.1  # of the log of a distance


@dataclass(frozen=True, eq=False)
class Look:
    """What a video's face looks like."""

    qualities_Q: Floats  # by QUALITIES; nan where it is not known
    features_D: Floats | None  # of the net, of length 1
    codec: str


@dataclass(frozen=True)
class Likeness:
    """How like a face is to those of the calibration."""

    p_value: float  # share of like videos that are as far off; small: it is unlike them
    by: str  # what sets it apart most: features, codec or one of QUALITIES


def likeness(known: Sequence[Look], new: Look) -> Likeness:
    """Return how like a new look is to known ones."""
    return likeness_among([*known, new])[-1]


def likeness_among(looks: Sequence[Look]) -> list[Likeness]:
    """Return how like each look is to all the others: as if it were new to them."""
    offness_NC, names = _offness(looks)
    order = offness_NC.max(1)
    found = []
    for place, own_C in enumerate(offness_NC):
        by = names[int(own_C.argmax())]
        if by == "quality":
            by = _farthest_quality(looks, place)
        found.append(Likeness(float((order >= order[place]).sum()) / len(looks), by))
    return found


def _offness(looks: Sequence[Look]) -> tuple[Floats, list[str]]:
    """Return how far off each look is from all others by each measure, in spreads of all looks.

    Each column is symmetric in the looks, which is all that a p-value needs to be valid.
    """
    columns = [_standard(np.log(_quality_distances(looks) + 1e-3))]
    names = ["quality"]
    if all(look.features_D is not None for look in looks):
        columns.append(_standard(np.log(_feature_distances(looks) + 1e-6)))
        names.append("features")
    columns.append(_standard(_codec_distances(looks)))
    names.append("codec")
    return np.stack(columns, 1), names


def _standard(values_N: Floats) -> Floats:
    middle = np.median(values_N)
    spread = 1.4826 * np.median(np.abs(values_N - middle))  # a normal distribution's deviation
    return np.asarray((values_N - middle) / max(float(spread), _SPREAD_FLOOR))


def _filled(looks: Sequence[Look]) -> Floats:
    """Return qualities_NQ. A number that nobody knows is the median of all: it says nothing."""
    table_NQ = np.stack([look.qualities_Q for look in looks])
    for column_N in table_NQ.T:
        known = column_N[np.isfinite(column_N)]
        column_N[~np.isfinite(column_N)] = np.median(known) if len(known) else 0.0
    return table_NQ


def _quality_distances(looks: Sequence[Look]) -> Floats:
    """Return each look's Mahalanobis distance from the others' mean by the others' covariance.

    The covariance is shrunk towards its diagonal, more so where there are few looks.
    """
    table_NQ = _filled(looks)
    count, width = table_NQ.shape
    floor = np.diag(np.square(list(QUALITIES.values())))
    kept = count / (count + 2 * width)
    found = []
    for place in range(count):
        others = np.delete(table_NQ, place, 0)
        spread_QQ = np.cov(others, rowvar=False) if len(others) > 1 else np.zeros((width, width))
        shrunk_QQ = kept * spread_QQ + (1 - kept) * np.diag(np.diag(spread_QQ)) + floor
        off_Q = table_NQ[place] - others.mean(0)
        found.append(float(off_Q @ np.linalg.solve(shrunk_QQ, off_Q)))
    return np.sqrt(found)


def _feature_distances(looks: Sequence[Look]) -> Floats:
    """Return each look's mean cosine distance from its nearest neighbours by features."""
    features_ND = np.stack([look.features_D for look in looks if look.features_D is not None])
    distances_NN = np.clip(1 - features_ND @ features_ND.T, 0, 2)
    np.fill_diagonal(distances_NN, np.inf)
    nearest = min(_NEIGHBOURS, len(looks) - 1)
    return np.asarray(np.sort(distances_NN, 1)[:, :nearest].mean(1))


def _codec_distances(looks: Sequence[Look]) -> Floats:
    codecs = [look.codec for look in looks]
    return np.asarray([np.log(len(codecs) / codecs.count(codec)) for codec in codecs])


def _farthest_quality(looks: Sequence[Look], place: int) -> str:
    table_NQ = _filled(looks)
    others, own_Q = np.delete(table_NQ, place, 0), table_NQ[place]
    spread_Q = np.maximum(others.std(0), list(QUALITIES.values()))
    off_Q = np.abs(own_Q - others.mean(0)) / spread_Q
    return list(QUALITIES)[int(off_Q.argmax())]
