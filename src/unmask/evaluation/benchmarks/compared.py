"""What is known of detectors beside each other, once it is computed: rows, groups, means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unmask.evaluation.benchmarks.scores_file import Detector
from unmask.scoring.metrics import NOT_MEASURED, Measured
from unmask.scoring.scores import Floats, Ints

GROUPED_BY = ("method", "generator", "compression")
MEASURES = (
    "roc_auc", "average_precision", "equal_error_rate", "tpr_at_fpr_1", "tpr_at_fpr_5",
    "frame_auc", "log_loss", "false_alarms", "found", "matched_auc",
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """A detector's AUC on the videos of one method, generator or compression.

    Of a method or generator the fakes are set against all real videos; of a compression both
    classes are of it.
    """

    by: str
    name: str
    fakes: int
    reals: int
    auc: Measured


@dataclass(frozen=True)
class Difference:
    """How much higher a detector's AUC is than the first one's, on the videos that both scored.

    Its interval redraws sources. p is DeLong's, which takes videos for independent: where sources
    have several it can be far too small. None where a class has fewer than two videos.
    """

    videos: int
    auc: Measured
    p: float | None


@dataclass(frozen=True, eq=False)
class Row:
    """A detector on a benchmark, or something that needs no detector."""

    detector: Detector
    is_detector: bool
    words: str  # what the table calls it
    scored: int
    measures: Mapping[str, Measured]  # by MEASURES
    groups: Sequence[Group]
    to_first: Difference | None  # None for the first itself
    # Whether it was trained on the benchmark, by name; None where nobody says what it saw.
    saw_it: bool | None
    auc_R: Floats  # in each resample
    labels_M: Ints  # of the videos it scored, for curves and histograms
    ranks_M: Floats
    probabilities_M: Floats | None

    @property
    def worst(self) -> Group | None:
        """Return the group with the lowest AUC, of those that are not all there is."""
        counts = {by: sum(group.by == by for group in self.groups) for by in GROUPED_BY}
        known = [g for g in self.groups if counts[g.by] > 1 and g.auc["value"] is not None]
        return min(known, key=lambda group: group.auc["value"] or 0.0, default=None)


@dataclass(frozen=True, eq=False)
class Compared:
    """All detectors on one benchmark."""

    name: str
    videos: int
    fakes: int
    sources: int
    rows: Sequence[Row]  # detectors, the first first; then what needs none
    pairs: int  # of like quality; 0 where nobody looked

    @property
    def detectors(self) -> list[Row]:
        """Return the rows of detectors."""
        return [row for row in self.rows if row.is_detector]


@dataclass(frozen=True)
class Across:
    """A detector's mean AUC over the benchmarks that it did not see in training."""

    name: str
    auc: Measured
    benchmarks: int


def across(compared: Sequence[Compared]) -> list[Across]:
    """Return each detector's mean AUC over the benchmarks that it was not trained on.

    Only a detector that has a score on every one of those has a mean; its interval takes the
    benchmarks for independent of each other.
    """
    found = []
    for name in dict.fromkeys(row.detector.name for each in compared for row in each.detectors):
        rows = [
            row for each in compared for row in each.detectors if row.detector.name == name
        ]  # fmt: skip
        unseen = [row for row in rows if not row.saw_it]
        seen = len(rows) - len(unseen)
        aucs = [row.measures["roc_auc"]["value"] for row in unseen]
        if not unseen or None in aucs or len(unseen) + seen < len(compared):
            found.append(Across(name, dict(NOT_MEASURED), len(unseen)))
            continue
        means_R = np.mean([row.auc_R for row in unseen], axis=0)
        known = means_R[~np.isnan(means_R)]
        whole = all(row.measures["roc_auc"]["low"] is not None for row in unseen)
        low, high = (
            (float(each) for each in np.quantile(known, [0.025, 0.975])) if whole else (None, None)
        )
        mean = float(np.mean(np.array(aucs, np.float64)))
        found.append(Across(name, {"value": mean, "low": low, "high": high}, len(unseen)))
    return found
