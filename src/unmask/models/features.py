"""What a net makes of a clip before its last layer, short and without what that layer says of it.

The features are for asking whether a video is like others. What makes a fake one to the net is the
last layer's direction: it is taken out, so that a fake is not unlike because it is a fake. They are
projected onto few directions, which are drawn once and for all. That keeps distances (Johnson &
Lindenstrauss, 1984) and, unlike principal components, knows nothing of the videos that are
compared: so a p-value that is made of them stays exact.
"""

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 128  # distances are kept to about a tenth
Features = NDArray[np.float64]


def shortened(rows_NF: Features, decision_F: Features) -> list[Features]:
    """Return features_D of length 1 for each row, which the decision's direction does not move."""
    length = np.linalg.norm(decision_F)
    unit_F = decision_F / length if length else decision_F
    rest_NF = rows_NF - np.outer(rows_NF @ unit_F, unit_F)
    if rest_NF.shape[1] > DIMENSIONS:
        rest_NF = rest_NF @ _directions(rest_NF.shape[1])
    return [row_D / max(float(np.linalg.norm(row_D)), 1e-12) for row_D in rest_NF]


def mean_of(features: Sequence[Features]) -> Features | None:
    """Return the mean of clips' features, of length 1; None of none."""
    if not features:
        return None
    mean_D = np.mean(features, axis=0)
    return np.asarray(mean_D / max(float(np.linalg.norm(mean_D)), 1e-12))


@cache
def _directions(width: int) -> Features:
    """Return (width, DIMENSIONS) signs from a hash: the same on every machine and version."""
    stream = hashlib.shake_256(f"unmask features {width}".encode())
    bits = np.unpackbits(np.frombuffer(stream.digest(width * DIMENSIONS // 8), np.uint8))
    return np.asarray((bits.reshape(width, DIMENSIONS) * 2.0 - 1) / np.sqrt(DIMENSIONS))
