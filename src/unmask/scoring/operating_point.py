"""What a detector catches where it may hardly ever call a real video fake."""

import numpy as np
from numpy.typing import ArrayLike

from unmask.errors import UnmaskError
from unmask.scoring.scores import count_above

SLACK = 1e-9  # 5% of 20 videos is 1, the product of the floats a little less or more


def tpr_at_fpr(labels_N: ArrayLike, scores_N: ArrayLike, max_fpr: float) -> float:
    """Return the largest share of fakes that a threshold catches at a false-positive rate allowed.

    Thresholds are those that the scores have, so nothing is interpolated: with fewer than
    1 / max_fpr real videos it is the share of fakes above all real videos, 0 where the highest
    score is a real video's. Videos that tie pass a threshold together.

    Raises:
        OneClassError: labels_N holds a single class.
        UnmaskError: max_fpr is not in [0, 1].

    >>> tpr_at_fpr([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.7, 0.3, 0.8, 0.9], 0.05)
    0.6666666666666666
    """
    if not 0 <= max_fpr <= 1:
        raise UnmaskError(
            f"tpr_at_fpr: asked for a rate of {max_fpr}; it is a share. Pass a number in [0, 1]."
        )
    true_fakes, false_fakes, _ = count_above("tpr_at_fpr", labels_N, scores_N)
    allowed = false_fakes <= max_fpr * false_fakes[-1] + SLACK
    return float(true_fakes[np.flatnonzero(allowed)[-1]] / true_fakes[-1])
