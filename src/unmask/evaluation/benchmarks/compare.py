"""Detectors on benchmarks, in numbers: metrics with intervals, differences, groups, pairs.

Everything is of the videos that a detector scored, with its coverage beside it; differences are of
the videos that both scored. All intervals of a benchmark redraw its sources, in the same resamples
for every detector.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unmask.data.trained_on import is_among
from unmask.errors import DatasetError, UnmaskError
from unmask.evaluation.benchmarks.compared import GROUPED_BY, Compared, Difference, Group, Row
from unmask.evaluation.benchmarks.drawn import Drawn, value_of
from unmask.evaluation.benchmarks.gather import FROZEN_NET, SHARPNESS, WIDTH, Benchmark
from unmask.evaluation.benchmarks.scores_file import Detector, FrameScores, Scores
from unmask.params import Evaluate
from unmask.scoring import baselines, delong, redraws
from unmask.scoring.metrics import NOT_MEASURED, Measured
from unmask.scoring.scores import Floats, Ints, roc_auc


def compare(benchmark: Benchmark, settings: Evaluate, *, first: str | None = None) -> Compared:
    """Return the benchmark's detectors beside the first: the one of that name, else the list's.

    Raises:
        DatasetError: none has that name.
    """
    scored = list(benchmark.detectors)
    if first is not None and first in [each.detector.name for each in scored]:
        scored.sort(key=lambda each: each.detector.name != first)
    asked = _Asked(benchmark, settings)
    entries = [_Entry.of(each) for each in scored]
    entries += asked.without_detector()
    rows: list[Row] = []
    for entry in entries:
        rows.append(asked.row_of(entry, entries[0]))
    labels = asked.labels_N
    return Compared(
        benchmark.name, len(labels), int(labels.sum()), len(set(asked.sources)), rows,
        0 if asked.pairs is None else asked.pairs.count, benchmark.chosen,
    )  # fmt: skip


def check_first(first: str | None, benchmarks: Sequence[Benchmark]) -> None:
    """Pass if some benchmark has scores of that detector, or none is asked for.

    Raises:
        DatasetError: none has.
    """
    there = sorted({each.detector.name for b in benchmarks for each in b.detectors})
    if first is not None and first not in there:
        raise DatasetError(
            f"Asked for differences to the detector {first}; there are {', '.join(there)}. Name "
            "one of them."
        )


# ---------------------------------------------------------------- one benchmark


@dataclass(frozen=True, eq=False)
class _Entry:
    """What is ranked: a detector's scores, or a quantity of the videos."""

    detector: Detector
    words: str
    is_detector: bool
    ranks_N: Floats  # NaN where there is none
    probabilities_N: Floats  # the same
    verdicts: Sequence[str]
    frames: Mapping[str, FrameScores] = field(default_factory=dict)

    @classmethod
    def of(cls, scores: Scores) -> "_Entry":
        rows = scores.rows
        return cls(
            scores.detector, scores.detector.name, True, _floats([row.rank for row in rows]),
            _floats([row.probability for row in rows]), [row.verdict for row in rows],
            scores.frames,
        )  # fmt: skip

    @property
    def scored_M(self) -> Ints:
        """Return the places of the videos that have a score."""
        return np.flatnonzero(~np.isnan(self.ranks_N))


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], np.float64)


class _Asked:
    """A benchmark's videos, and the resamples of their sources that all rows share."""

    def __init__(self, benchmark: Benchmark, settings: Evaluate) -> None:
        videos = benchmark.videos
        self.benchmark = benchmark
        self.ids = [video.video_id for video in videos]
        self.sources = [video.source_id for video in videos]
        self.drawn = Drawn([video.label for video in videos], self.sources, settings)
        self.labels_N = self.drawn.labels_N
        self.members = list(self._members())
        self._auc_of_first: dict[bytes, Floats] = {}

    def _members(
        self,
    ) -> list[tuple[str, str, NDArray[np.bool_]]]:
        is_fake = self.labels_N == 1
        found = []
        for by in GROUPED_BY:
            words = np.array([getattr(video, by) for video in self.benchmark.videos])
            of_fakes = by != "compression"
            for name in sorted(set(words[is_fake] if of_fakes else words) - {""}):
                is_named = words == name
                found.append(
                    (by, str(name), is_named & is_fake | ~is_fake if of_fakes else is_named)
                )
        return found

    @cached_property
    def pairs(self) -> baselines.MatchedPairs | None:
        """Return the pairs of like quality; None where faces were not measured."""
        values = self.benchmark.looks.values
        widths, sharpness = (
            np.array([values.get(name, {}).get(i, math.nan) for i in self.ids])
            for name in (WIDTH, SHARPNESS)
        )
        known = np.flatnonzero(~np.isnan(widths) & ~np.isnan(sharpness) & (widths > 0))
        known = known[
            np.argsort(self.drawn.redraws.group_of_N[known], kind="stable")
        ]  # see redraws
        if not len(known):
            return None
        found = baselines.match_pairs(self.labels_N[known], widths[known], sharpness[known])
        return baselines.MatchedPairs(
            known[found.fakes_F], known[found.reals_R], found.matched_FR
        )  # fmt: skip

    def without_detector(self) -> list[_Entry]:
        """Return what was measured of the videos as rankings, each in the direction of fakes.

        The direction is the one that training videos showed; where nobody says, that of these
        videos, which favours it a little.
        """
        looks, found = self.benchmark.looks, []
        for name, values in looks.values.items():
            ranks = _floats([values.get(video_id) for video_id in self.ids])
            known = ~np.isnan(ranks)
            words = looks.words.get(name, name.replace("_", " "))
            sign = 1 if name == FROZEN_NET else looks.directions.get(name, 0)
            try:
                sign = sign or baselines.direction(self.labels_N[known], ranks[known])
            except UnmaskError:  # of one class, or of none: it has no direction
                sign = 1
            if name != FROZEN_NET:
                words += ", the more" if sign > 0 else ", the less"
            about = Detector(name, "ranking", trained_on=None)
            nothing = np.full(len(ranks), math.nan)
            found.append(_Entry(about, words, False, sign * ranks, nothing, [""] * len(ranks)))
        return found

    def row_of(self, entry: _Entry, first: _Entry) -> Row:
        """Return all that the table says of an entry."""
        places, drawn = entry.scored_M, self.drawn
        labels, ranks = self.labels_N[places], entry.ranks_N[places]
        probabilities = entry.probabilities_N[places]
        curves = drawn.curves(places, ranks)
        measured = {
            **drawn.ranking(places, ranks, curves),
            "log_loss": drawn.log_loss(places, probabilities),
            "frame_auc": drawn.frame_auc([entry.frames.get(i) for i in self.ids]),
            "false_alarms": drawn.called_fake(0, entry.verdicts),
            "found": drawn.called_fake(1, entry.verdicts),
            "matched_auc": self._matched_auc(entry),
        }
        auc_R = curves.get("roc_auc", np.full(len(drawn.redraws.times_RG), math.nan))
        trained_on = entry.detector.trained_on
        return Row(
            detector=entry.detector, is_detector=entry.is_detector, words=entry.words,
            scored=len(places), measures=measured,
            groups=self._groups(entry) if entry.is_detector else [],
            to_first=None if entry is first else self._to_first(entry, first, auc_R),
            saw_it=None if trained_on is None else is_among(self.benchmark.name, trained_on),
            auc_R=auc_R, labels_M=labels, ranks_M=ranks,
            probabilities_M=None if np.isnan(probabilities).any() else probabilities,
        )  # fmt: skip

    def _matched_auc(self, entry: _Entry) -> Measured:
        if self.pairs is None:
            return dict(NOT_MEASURED)
        value, values_R = redraws.pair_values(entry.ranks_N, self.pairs, self.drawn.redraws)
        places = np.concatenate([self.pairs.fakes_F, self.pairs.reals_R])
        return self.drawn.measured(
            None if math.isnan(value) else value, values_R, places[~np.isnan(entry.ranks_N[places])]
        )

    def _groups(self, entry: _Entry) -> list[Group]:
        known, found = ~np.isnan(entry.ranks_N), []
        for by, name, is_member in self.members:
            places = np.flatnonzero(known & is_member)
            labels = self.labels_N[places]
            fakes = int(labels.sum())
            auc = self.drawn.auc(places, entry.ranks_N[places])
            found.append(Group(by, name, fakes, len(labels) - fakes, auc))
        return found

    def _to_first(self, entry: _Entry, first: _Entry, auc_R: Floats) -> Difference:
        both = np.flatnonzero(~np.isnan(entry.ranks_N) & ~np.isnan(first.ranks_N))
        labels = self.labels_N[both]
        own, others = entry.ranks_N[both], first.ranks_N[both]
        value, other = value_of(roc_auc, labels, own), value_of(roc_auc, labels, others)
        if value is None or other is None:
            return Difference(len(both), dict(NOT_MEASURED), None)
        drawn = self.drawn.redraws
        if len(both) < len(entry.scored_M):
            auc_R = redraws.auc_values(labels, own, both, drawn)
        key = both.tobytes()
        if key not in self._auc_of_first:
            self._auc_of_first[key] = redraws.auc_values(labels, others, both, drawn)
        apart_R = auc_R - self._auc_of_first[key]
        return Difference(
            len(both), self.drawn.measured(value - other, apart_R, both), _p(labels, own, others)
        )


def _p(labels_M: Ints, ranks_M: Floats, others_M: Floats) -> float | None:
    """Return DeLong's p; None where the test says nothing.

    That is where a class has fewer than two videos, and where two AUCs differ and neither varies:
    of 1 and 0 on four videos it would be sure.
    """
    try:
        found = delong.compare(labels_M, ranks_M, others_M)
    except UnmaskError:
        return None
    return found.p if math.isfinite(found.z) else None
