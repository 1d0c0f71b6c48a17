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
_CODEC_FLOOR = 0.3  # the same of the log of how rare a video's codec is
_FLOORS = [*QUALITIES.values(), _CODEC_FLOOR]
_NEIGHBOURS = 3


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
    """Return how like each look is to all the others: as if it were new to them.

    Each look has a rank by quality and one by features. How far off it is altogether is the sum of
    the logs of both (Fisher, Statistical Methods for Research Workers, 4th edition, 1932, section
    21.1), and the p-value is its rank by that sum: so that the two need not be independent.
    """
    if len(looks) == 1:
        return [Likeness(1.0, "features")]
    table_NQ = _table(looks)
    ranks = {"quality": _ranks(_quality_distances(table_NQ))}
    if all(look.features_D is not None for look in looks):
        ranks["features"] = _ranks(_feature_distances(looks))
    off_N = -np.sum([np.log(ranks_N) for ranks_N in ranks.values()], axis=0)
    found = []
    for place, p_value in enumerate(_ranks(off_N)):
        by = min(ranks, key=lambda name: ranks[name][place])
        if by == "quality":
            by = _farthest_quality(table_NQ, place)
        found.append(Likeness(float(p_value), by))
    return found


def _ranks(off_N: Floats) -> Floats:
    """Return for each value the share of all that are as high, to a rounding error."""
    return np.asarray((off_N[None, :] >= off_N[:, None] - 1e-9).mean(1))


def _table(looks: Sequence[Look]) -> Floats:
    """Return a column for each of QUALITIES, and one of how rare the video's codec is.

    A number that nobody knows is the median of all: it says nothing.
    """
    table_NQ = np.stack([look.qualities_Q for look in looks])
    for column_N in table_NQ.T:
        known = column_N[np.isfinite(column_N)]
        column_N[~np.isfinite(column_N)] = np.median(known) if len(known) else 0.0
    codecs = [look.codec for look in looks]
    rarity_N = [np.log(len(codecs) / codecs.count(codec)) for codec in codecs]
    return np.column_stack([table_NQ, rarity_N])


def _quality_distances(table_NQ: Floats) -> Floats:
    """Return each look's Mahalanobis distance from the others' mean by the others' covariance.

    The covariance is shrunk towards its diagonal, more so where there are few looks.
    """
    count, width = table_NQ.shape
    off_NQ = table_NQ - table_NQ.mean(0)
    # Without one of them: the sum of squares loses count / (count - 1) times its own.
    own_NQQ = off_NQ[:, :, None] * off_NQ[:, None, :]
    spread_NQQ = (own_NQQ.sum(0) - own_NQQ * count / (count - 1)) / max(count - 2, 1)
    kept = count / (count + 2 * width)
    mask_QQ = np.where(np.eye(width, dtype=bool), 1.0, kept)
    shrunk_NQQ = spread_NQQ * mask_QQ + np.diag(np.square(_FLOORS))
    from_others_NQ = off_NQ * count / (count - 1)
    solved_NQ = np.linalg.solve(shrunk_NQQ, from_others_NQ[:, :, None])[:, :, 0]
    return np.asarray(np.sqrt(np.maximum((from_others_NQ * solved_NQ).sum(1), 0.0)))


def _feature_distances(looks: Sequence[Look]) -> Floats:
    """Return each look's mean cosine distance from its nearest neighbours by features."""
    features_ND = np.stack([look.features_D for look in looks if look.features_D is not None])
    distances_NN = np.clip(1 - features_ND @ features_ND.T, 0, 2)
    np.fill_diagonal(distances_NN, np.inf)
    nearest = min(_NEIGHBOURS, len(looks) - 1)
    return np.asarray(np.sort(distances_NN, 1)[:, :nearest].mean(1))


def _farthest_quality(table_NQ: Floats, place: int) -> str:
    others, own_Q = np.delete(table_NQ, place, 0), table_NQ[place]
    off_Q = np.abs(own_Q - others.mean(0)) / np.maximum(others.std(0), _FLOORS)
    return [*QUALITIES, "codec"][int(off_Q.argmax())]
