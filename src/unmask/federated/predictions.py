"""Predictions as they travel, and the benchmark's metrics of them.

Every label meets the prediction of its own video, by name: a benchmark that pairs two lists by
their order scores noise as soon as one of them is sorted otherwise. Plain numpy, as a task of it
should take no longer than its start.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unmask.errors import MALFORMED
from unmask.federated.samples import FederatedError, Videos
from unmask.records import VideoScore
from unmask.runtime.disk import write_atomically
from unmask.scoring import metrics
from unmask.scoring.scores import read_two_classes, roc_auc

FORMAT = 1


def write_predictions(path: Path, names: Sequence[str], scores: Sequence[VideoScore]) -> None:
    """Write for each video, by its name, its probability to be fake or why there is none."""
    rows = [
        {"video": name, "probability": score.probability, "reason": score.reason}
        for name, score in zip(names, scores, strict=True)
    ]
    text = json.dumps({"format": FORMAT, "scores": rows}, indent=1, allow_nan=False)
    write_atomically(path, text + "\n")


def log_loss(videos: Videos, predictions: Path) -> float:
    """Return the mean log loss of the videos that have a probability, clipped at 1e-7.

    Raises:
        FederatedError: the predictions are not of these videos, or one is no probability.
        OneClassError: the videos that have one are all real, or all fake.
    """
    labels, scores = _scored(videos, predictions)
    read_two_classes("log_loss", labels, scores)
    return metrics.log_loss(labels, scores)


def auc(videos: Videos, predictions: Path) -> float:
    """Return the chance that a fake's probability is above a real one's.

    Raises:
        FederatedError: the predictions are not of these videos, or one is no probability.
        OneClassError: the videos that have one are all real, or all fake.
    """
    return roc_auc(*_scored(videos, predictions))


def coverage(videos: Videos, predictions: Path) -> float:
    """Return the share of the videos that have a probability.

    The other metrics leave a video without one out, so they are read beside this.

    Raises:
        FederatedError: the predictions are not of these videos, or one is no probability.
    """
    return len(_scored(videos, predictions)[0]) / len(videos.rows)


def _scored(videos: Videos, predictions: Path) -> tuple[list[int], list[float]]:
    """Return label and probability of each video that has one, in the videos' order."""
    answers = read_predictions(videos, predictions)
    pairs = [(a, b) for a, b in zip(videos.labels, answers, strict=True) if b is not None]
    return [label for label, _ in pairs], [value for _, value in pairs]


def read_predictions(videos: Videos, predictions: Path) -> list[float | None]:
    """Return each video's probability in the videos' order; None where there is none.

    Raises:
        FederatedError: the predictions are not of these videos, or one is no probability.
    """
    found = _read(predictions)
    if len(found) != len(videos.rows) or set(found) != set(videos.names):
        strange, missing = set(found) - set(videos.names), set(videos.names) - set(found)
        raise FederatedError(
            f"Asked for one prediction for each of {len(videos.rows)} videos; found "
            f"{len(found)}, of which {len(strange)} are of others, and {len(missing)} videos "
            "without. Predict the dataset's videos, by the names that its opener gives."
        )
    return [found[name] for name in videos.names]


def _read(path: Path) -> dict[str, float | None]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']}, this version reads {FORMAT}")
        pairs = [(str(row["video"]), row["probability"]) for row in values["scores"]]
    except (OSError, *MALFORMED) as error:
        raise FederatedError(
            f"Asked for predictions; {path} holds none ({error!r}). Write them as "
            "unmask.federated.predictions.write_predictions does."
        ) from error
    if len(found := dict(pairs)) != len(pairs):
        raise FederatedError(
            f"Asked for one prediction a video; {path} has {len(pairs)} of {len(found)} videos. "
            "Leave one of each."
        )
    for name, value in pairs:
        if value is None:
            continue
        if type(value) not in (int, float) or not 0 <= value <= 1:  # NaN is not either
            raise FederatedError(
                f"Asked for probabilities of being fake; {path} gives {name} {value!r}. Turn "
                "logits into numbers from 0 to 1, or give null where there is none."
            )
    return found
