"""What a detector finds where it may raise few false alarms, in plain numpy."""

import numpy as np
from numpy.typing import ArrayLike

from unmask.scoring.metrics import roc_curve


def tpr_at_fpr(labels_N: ArrayLike, scores_N: ArrayLike, max_fpr: float) -> float:
    """Return the largest share of fakes found by a threshold with at most max_fpr false alarms.

    Only thresholds that the scores allow count; nothing is interpolated. So of fewer than
    1 / max_fpr real videos it is the share of fakes that score above all of them.

    Raises:
        OneClassError: labels_N holds a single class.

    >>> tpr_at_fpr([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.01)
    0.5
    """
    curve = roc_curve(labels_N, scores_N)
    # 1 of 100 real videos is 0.01, whatever its last bit.
    allowed = curve.fpr_K <= max_fpr + 1e-12
    return float(np.max(curve.tpr_K[allowed]))
