"""Metrics of some of a benchmark's videos, each with the interval that redraws its sources.

The pipeline's summary and the table of detectors take their numbers from here, so that one
detector has one number. All of a benchmark's metrics share its resamples.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from unmask.errors import OneClassError
from unmask.evaluation.benchmarks.scores_file import FrameScores
from unmask.params import Evaluate
from unmask.scoring import metrics, redraws
from unmask.scoring.metrics import NOT_MEASURED, Measured
from unmask.scoring.operating_point import tpr_at_fpr
from unmask.scoring.redraws import Redraws
from unmask.scoring.scores import Floats, Ints, roc_auc

RANKING: Mapping[str, metrics.Metric] = {
    "roc_auc": roc_auc,
    "average_precision": metrics.average_precision,
    "equal_error_rate": metrics.equal_error_rate,
    "tpr_at_fpr_1": partial(tpr_at_fpr, max_fpr=0.01),
    "tpr_at_fpr_5": partial(tpr_at_fpr, max_fpr=0.05),
}


class Drawn:
    """A benchmark's labels, and the resamples of its sources that all of its metrics share.

    Methods take places_M, the videos that a metric is of: places in the benchmark's list, in rising
    order. A metric that needs two classes is NOT_MEASURED of one, as all are of no video.
    """

    def __init__(self, labels_N: Sequence[int], sources_N: Sequence[str], settings: Evaluate):
        """Draw the resamples."""
        self.labels_N: Ints = np.array(labels_N, np.int64)
        self.redraws: Redraws = redraws.draw(
            sources_N, resamples=settings.bootstrap_resamples, seed=settings.seed
        )

    def curves(self, places_M: Ints, ranks_M: Floats) -> dict[str, Floats]:
        """Return each metric of RANKING in each resample; nothing of one class."""
        labels = self.labels_N[places_M]
        if len(set(labels.tolist())) < 2:
            return {}
        return redraws.curve_values(labels, ranks_M, places_M, self.redraws)

    def ranking(
        self, places_M: Ints, ranks_M: Floats, curves: Mapping[str, Floats] | None = None
    ) -> dict[str, Measured]:
        """Return the metrics of RANKING; curves are theirs in each resample, where known."""
        found = self.curves(places_M, ranks_M) if curves is None else curves
        return {
            name: self.measured(
                value_of(metric, self.labels_N[places_M], ranks_M), found.get(name), places_M
            )
            for name, metric in RANKING.items()
        }

    def auc(self, places_M: Ints, ranks_M: Floats) -> Measured:
        """Return the AUC alone, sooner."""
        labels = self.labels_N[places_M]
        value = value_of(roc_auc, labels, ranks_M)
        if value is None:
            return dict(NOT_MEASURED)
        values_R = redraws.auc_values(labels, ranks_M, places_M, self.redraws)
        return self.measured(value, values_R, places_M)

    def log_loss(self, places_M: Ints, probabilities_M: Floats) -> Measured:
        """Return metrics.log_loss; NOT_MEASURED where a video has no probability: it is NaN."""
        if np.isnan(probabilities_M).any():
            return dict(NOT_MEASURED)
        clip = metrics.LOG_LOSS_CLIP
        clipped = np.clip(probabilities_M, clip, 1 - clip)
        is_fake = self.labels_N[places_M] == 1
        return self.mean(-np.where(is_fake, np.log(clipped), np.log1p(-clipped)), places_M)

    def frame_auc(self, frames_N: Sequence[FrameScores | None]) -> Measured:
        """Return the AUC of all frames or clips; each video of the list has some, or None."""
        counts = [0 if frames is None else len(frames.scores) for frames in frames_N]
        places = np.repeat(np.arange(len(counts)), counts)
        scores = np.array([s for frames in frames_N if frames for s in frames.scores], np.float64)
        labels = self.labels_N[places]
        value = value_of(roc_auc, labels, scores)
        if value is None:
            return dict(NOT_MEASURED)
        values_R = redraws.stepped_auc_values(labels, scores, places, self.redraws)
        return self.measured(value, values_R, places)

    def called_fake(self, label: int, verdicts_N: Sequence[str]) -> Measured:
        """Return the share of the videos of that label with a verdict that are called fake."""
        judged = np.array([bool(verdict) for verdict in verdicts_N])
        places = np.flatnonzero(judged & (self.labels_N == label))
        called = np.array([float(verdicts_N[n] == "fake") for n in places.tolist()])
        return self.mean(called, places)

    def mean(self, values_M: Floats, places_M: Ints) -> Measured:
        """Return the mean of the videos' values."""
        if not len(places_M):
            return dict(NOT_MEASURED)
        values_R = redraws.mean_values(values_M, places_M, self.redraws)
        return self.measured(float(values_M.mean()), values_R, places_M)

    def measured(self, value: float | None, values_R: Floats | None, places_M: Ints) -> Measured:
        """Return a metric's value with the interval of its values in the resamples."""
        if value is None or values_R is None:
            return dict(NOT_MEASURED)
        interval = redraws.interval(values_R, self.redraws, places_M=places_M)
        return metrics.as_measured(value, interval)


def value_of(metric: metrics.Metric, labels_M: Ints, scores_M: Floats) -> float | None:
    """Return a metric of videos; None of none, and where it needs two classes."""
    if not len(labels_M):
        return None
    try:
        return metric(labels_M, scores_M)
    except OneClassError:
        return None
