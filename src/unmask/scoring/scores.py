"""What training needs of the metrics: probabilities, their ranking, and the temperature.

Apart from metrics.py, so that an edit there trains nothing again. Label 1 is fake.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unmask.errors import OneClassError, UnmaskError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TEMPERATURE_BOUNDS = (0.05, 20.0)


def sigmoid(logits: ArrayLike) -> Floats:
    """Return 1 / (1 + exp(-logits)) in the shape of logits, without overflow at either end.

    >>> sigmoid([-1000.0, 0.0, 1000.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    logits_float = np.asarray(logits, dtype=np.float64)
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits_float)))


def roc_auc(labels_N: ArrayLike, scores_N: ArrayLike) -> float:
    """Return the chance that a fake scores above a real video, a tie counting half.

    It is the area under the ROC by trapezoids (Hanley & McNeil 1982).

    Raises:
        OneClassError: labels_N holds a single class.

    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])  # 3 pairs won, 1 tied, of 4
    0.875
    """
    true_fakes, false_fakes, _ = count_above("roc_auc", labels_N, scores_N)
    # Whole numbers until the one division: the result does not depend on summation order.
    doubled_pairs = np.sum(np.diff(false_fakes) * (true_fakes[1:] + true_fakes[:-1]))
    return float(doubled_pairs / (2 * true_fakes[-1] * false_fakes[-1]))


def fit_temperature(labels_N: ArrayLike, logits_N: ArrayLike) -> float:
    """Return the T in [0.05, 20] that minimises the log loss of sigmoid(logits / T).

    Guo et al. 2017 sec. 4.2, with Platt's targets (1999, sec. 2.2) in place of 0 and 1: the n
    videos of a class count as (n + 1) of (n + 2), so a few that happen to be separated do not
    make the model certain. The loss is convex in 1 / T, so the sign of its slope is bisected;
    logits that rank the classes backwards end at 20.

    Raises:
        OneClassError: labels_N holds a single class.
    """
    labels, logits = read_two_classes("fit_temperature", labels_N, logits_N)
    fakes = int(labels.sum())
    reals = len(labels) - fakes
    targets = np.where(labels == 1, (fakes + 1) / (fakes + 2), 1 / (reals + 2))

    def loss_falls(inverse_temperature: float) -> bool:
        slope = np.mean(logits * (sigmoid(inverse_temperature * logits) - targets))
        return bool(slope <= 0)

    coldest, hottest = TEMPERATURE_BOUNDS
    if loss_falls(1 / coldest):
        return coldest if logits.any() else 1.0
    if not loss_falls(1 / hottest):
        return hottest
    low, high = 1 / hottest, 1 / coldest
    for _ in range(64):  # 20 / 2**64 is below the spacing of floats near 0.05
        middle = (low + high) / 2
        low, high = (middle, high) if loss_falls(middle) else (low, middle)
    return 2 / (low + high)


def count_above(
    asked_by: str, labels_N: ArrayLike, scores_N: ArrayLike
) -> tuple[Ints, Ints, Floats]:
    """Return fakes and reals at or above each distinct score, from inf downwards."""
    labels, scores = read_two_classes(asked_by, labels_N, scores_N)
    order = np.argsort(-scores)
    labels, scores = labels[order], scores[order]
    # Videos that tie must pass the threshold together, so only the last of each tie is a point.
    last_of_tie = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    true_fakes = np.concatenate(([0], np.cumsum(labels)[last_of_tie]))
    false_fakes = np.concatenate(([0], last_of_tie + 1)) - true_fakes
    return true_fakes, false_fakes, np.concatenate(([np.inf], scores[last_of_tie]))


def read_two_classes(
    asked_by: str, labels_N: ArrayLike, scores_N: ArrayLike
) -> tuple[Ints, Floats]:
    """Return labels and scores as arrays, once both classes are there; asked_by is who asks.

    Raises:
        OneClassError: labels_N holds a single class.
    """
    labels, scores = read_labels_and_scores(asked_by, labels_N, scores_N)
    if labels.min() == labels.max():
        raise OneClassError(
            f"{asked_by} needs labels 0 (real) and 1 (fake); found {len(labels)} labels, all "
            f"{labels[0]}. Score videos of both classes or leave this metric out."
        )
    return labels, scores


def read_labels_and_scores(
    asked_by: str, labels_N: ArrayLike, scores_N: ArrayLike
) -> tuple[Ints, Floats]:
    """Return labels and scores as arrays, once they are what metrics take.

    Raises:
        UnmaskError: lengths differ or are 0, a label is not 0 or 1, or a score is not finite.
    """
    labels, scores = np.asarray(labels_N), np.asarray(scores_N, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape or not len(labels):
        raise UnmaskError(
            f"{asked_by} needs as many labels as scores, at least one; found shapes "
            f"{labels.shape} and {scores.shape}. Pass two lists in the same order."
        )
    if not ((labels == 0) | (labels == 1)).all():
        raise UnmaskError(
            f"{asked_by} needs labels 0 (real) and 1 (fake); found "
            f"{np.unique(labels)[:5].tolist()}. Map the labels first."
        )
    if not np.isfinite(scores).all():
        raise UnmaskError(
            f"{asked_by} needs finite scores; found {scores[~np.isfinite(scores)][0]} at "
            f"{np.flatnonzero(~np.isfinite(scores))[0]}. Drop videos without a score first."
        )
    return labels.astype(np.int64), scores
