"""Curves, histograms and intervals as the numbers that a page's SVG is drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unmask.errors import OneClassError
from unmask.evaluation.benchmarks.compared import Compared, Row
from unmask.scoring import metrics
from unmask.scoring.metrics import Measured
from unmask.scoring.scores import Floats

ROC_PX = 400  # the side of the ROC's square, in units of its SVG
STRIP_PX = 120  # the width of the axis that intervals lie on
BINS = 24
BIN_PX, HALF_PX = 10, 46  # of a histogram: a bar's width, the height of each half
LOOKS = 8  # colours of detectors: then they come again, dashed


@dataclass(frozen=True)
class Curve:
    """A detector's ROC."""

    look: int  # its colour, from 0 on
    dash: int  # 0 for a full line
    words: str
    path: str  # an SVG path in a square of ROC_PX


@dataclass(frozen=True)
class Strip:
    """A value with its interval on an axis of STRIP_PX; chance is where 0.5 lies."""

    x: float
    x0: float
    x1: float
    chance: float


@dataclass(frozen=True)
class Histogram:
    """Which share of the fakes and of the real videos have which score."""

    fakes: str  # SVG paths; the fakes' above the axis, the real videos' below it
    reals: str
    low: str  # the axis' ends in words
    high: str


def curve_of(row: Row, place: int) -> Curve | None:
    """Return a row's ROC, as a path without the points that nobody could see.

    None of one class, and where no video has a score.
    """
    if not len(row.labels_M):
        return None
    try:
        found = metrics.roc_curve(row.labels_M, row.ranks_M)
    except OneClassError:
        return None
    x, y = np.rint(found.fpr_K * ROC_PX * 4) / 4, np.rint((1 - found.tpr_K) * ROC_PX * 4) / 4
    return Curve(place % LOOKS, place // LOOKS, row.words, _path(x, y))


def _path(x_K: Floats, y_K: Floats) -> str:
    """Return a path through the points that turn: those on a line between neighbours go."""
    x, y = np.append(x_K, np.nan), np.append(y_K, np.nan)
    turns = (np.diff(x[:-1], append=np.nan) * np.diff(y[:-1], prepend=np.nan)) != (
        np.diff(y[:-1], append=np.nan) * np.diff(x[:-1], prepend=np.nan)
    )
    turns[[0, -1]] = True
    same = np.append(False, (np.diff(x_K) == 0) & (np.diff(y_K) == 0))
    keep = turns & ~same
    keep[-1] = True
    points = zip(x_K[keep].tolist(), y_K[keep].tolist(), strict=True)
    return "M" + " ".join(f"{px:g} {py:g}" for px, py in points)


def axis_of(compared: Compared) -> tuple[float, float]:
    """Return the ends of the axis that holds all AUCs and their intervals, in tenths."""
    ends = [
        value
        for row in compared.rows
        for value in row.measures["roc_auc"].values()
        if value is not None
    ]
    low = min([*ends, 0.5])
    return float(np.floor(low * 10) / 10), 1.0


def strip_of(measured: Measured, axis: tuple[float, float]) -> Strip | None:
    """Return where a value and its interval lie; None where nothing was measured."""
    value, low, high = measured["value"], measured["low"], measured["high"]
    if value is None:
        return None
    begin, end = axis

    def place(number: float) -> float:
        return round(4 + (STRIP_PX - 8) * (number - begin) / (end - begin), 1)

    return Strip(
        place(value), place(value if low is None else low), place(value if high is None else high),
        place(0.5),
    )  # fmt: skip


def histogram_of(row: Row) -> Histogram | None:
    """Return how a detector's scores are spread: probabilities from 0 to 1, other numbers as found.

    None where no video has a score.
    """
    if not len(row.labels_M):
        return None
    if row.probabilities_M is not None:
        values, low, high = row.probabilities_M, 0.0, 1.0
    else:
        values = row.ranks_M
        low, high = float(values.min()), float(values.max())
    # In halves: the width of the range may be more than a float holds.
    span = high / 2 - low / 2
    shares = np.zeros(len(values)) if span == 0 else (values / 2 - low / 2) / span
    bins = np.minimum((shares * BINS).astype(np.int64), BINS - 1)
    counts = [np.bincount(bins[row.labels_M == label], minlength=BINS) for label in (0, 1)]
    parts = [count / max(1, count.sum()) for count in counts]
    tallest = max(float(part.max()) for part in parts) or 1.0
    reals, fakes = (
        _bars(part / tallest, up) for part, up in zip(parts, (False, True), strict=True)
    )
    return Histogram(fakes, reals, f"{low:.3g}", f"{high:.3g}")


def _bars(heights: Sequence[float] | Floats, up: bool) -> str:
    """Return the outline of bars that stand on the axis, or hang from it."""
    parts = [f"M0 {HALF_PX}"]
    for height in heights:
        y = HALF_PX - HALF_PX * height if up else HALF_PX + HALF_PX * height
        parts.append(f"V{y:.1f}h{BIN_PX}")
    return "".join([*parts, f"V{HALF_PX}z"])


def shade_of(measured: Measured) -> int:
    """Return how good an AUC is in ten steps, from 0 (chance or worse) to 10."""
    value = measured["value"]
    return 0 if value is None else max(0, min(10, round((value - 0.5) * 20)))
