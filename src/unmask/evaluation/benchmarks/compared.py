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
    have several it can be far too small. None where a class has fewer than two videos, or where the
    AUCs differ and neither varies.
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
    chosen: str = ""  # by whose word these are its test videos, as gather.Benchmark has it

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

    Benchmarks of one class have no AUC and count nowhere. Only a detector that has a score on every
    other one has a mean, and only one: where scores under a name are of several models or versions,
    their mean would be nobody's. The interval takes the benchmarks for independent of each other.
    """
    both = [each for each in compared if 0 < each.fakes < each.videos]
    found = []
    for name in dict.fromkeys(row.detector.name for each in compared for row in each.detectors):
        rows = [
            (place, row)
            for place, each in enumerate(both)
            for row in each.detectors
            if row.detector.name == name
        ]
        unseen = [(place, row) for place, row in rows if not row.saw_it]
        measured = dict(NOT_MEASURED)
        if len(rows) == len(both) and _is_one([row.detector for _, row in rows]):
            measured = _mean(unseen)
        found.append(Across(name, measured, len(unseen)))
    return found


def _is_one(detectors: Sequence[Detector]) -> bool:
    """Say whether these may be one detector: no two have another model, or another version."""
    digests = {each.model_digest for each in detectors}
    versions = {each.version for each in detectors if not each.model_digest} - {""}
    return len(digests) == 1 and len(versions) <= 1


def _mean(unseen: Sequence[tuple[int, Row]]) -> Measured:
    """Return the mean AUC of a detector's rows, each with its benchmark's place."""
    aucs = [row.measures["roc_auc"]["value"] for _, row in unseen]
    if not unseen or None in aucs:
        return dict(NOT_MEASURED)
    low = high = None
    if all(row.measures["roc_auc"]["low"] is not None for _, row in unseen):
        # All benchmarks draw by one seed. Added up in that order, what a draw does to the first
        # sources of one would go with what it does to the first sources of the others.
        values_BR = [
            np.random.default_rng(place).permutation(row.auc_R[~np.isnan(row.auc_R)])
            for place, row in unseen
        ]
        fewest = min(map(len, values_BR))
        means = np.mean([values[:fewest] for values in values_BR], axis=0)
        low, high = (float(each) for each in np.quantile(means, [0.025, 0.975]))
    return {"value": float(np.mean(np.array(aucs, np.float64))), "low": low, "high": high}
