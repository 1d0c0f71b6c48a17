"""The comparison as one page that can be mailed: nothing in it asks for another file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.evaluation.benchmarks import drawing, table
from unmask.evaluation.benchmarks.compared import Across, Compared, Group, Row, across
from unmask.runtime.templates import read_template

TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class RowView:
    """What the page shows of a detector on a benchmark."""

    row: Row
    look: int
    dash: int
    strip: drawing.Strip | None
    histogram: drawing.Histogram | None


@dataclass(frozen=True)
class BenchmarkView:
    """What the page shows of a benchmark."""

    compared: Compared
    rows: Sequence[RowView]
    curves: Sequence[drawing.Curve]
    without_detector: Sequence[drawing.Curve]
    axis: tuple[float, float]
    groups: Sequence[tuple[str, str, Sequence[Group]]]  # by, name, one for each detector


def render(compared: Sequence[Compared]) -> str:
    """Return the page's HTML."""
    looks = _looks(compared)
    return read_template(TEMPLATE).render(
        benchmarks=[_view(each, looks) for each in compared],
        overview=_overview(compared) if len(compared) > 1 else [],
        titles=[each.name for each in compared],
        detectors=_detectors(compared), count=len(looks), looks=looks, table=table, drawing=drawing,
        notes=table.NOTES, cell=_cell,
    )  # fmt: skip


def _looks(compared: Sequence[Compared]) -> dict[str, int]:
    """Return a number for each detector, the same on every benchmark: it says its colour."""
    names = dict.fromkeys(row.detector.name for each in compared for row in each.detectors)
    return {name: place for place, name in enumerate(names)}


def _detectors(compared: Sequence[Compared]) -> list[Row]:
    """Return a row of each detector, for what is said of it once: more where that differs."""
    rows: dict[tuple[object, ...], Row] = {}
    for each in compared:
        for row in each.detectors:
            said = row.detector
            rows.setdefault(
                (said.name, said.version, said.trained_on, said.licence, said.scale, said.origin),
                row,
            )
    return list(rows.values())


def _overview(compared: Sequence[Compared]) -> list[tuple[Across, list[Row | None]]]:
    """Return each detector's mean and its row on each benchmark."""
    return [
        (mean, [
            next((row for row in each.detectors if row.detector.name == mean.name), None)
            for each in compared
        ])
        for mean in across(compared)
    ]  # fmt: skip


def _view(compared: Compared, looks: dict[str, int]) -> BenchmarkView:
    axis = drawing.axis_of(compared)
    rows: list[RowView] = []
    curves: list[drawing.Curve] = []
    plain: list[drawing.Curve] = []
    for row in compared.rows:
        place = looks[row.detector.name] if row.is_detector else 0
        curve = drawing.curve_of(row, place)
        if curve is not None:
            (curves if row.is_detector else plain).append(curve)
        rows.append(
            RowView(
                row, place % drawing.LOOKS, place // drawing.LOOKS,
                drawing.strip_of(row.measures["roc_auc"], axis),
                drawing.histogram_of(row) if row.is_detector else None,
            )
        )  # fmt: skip
    return BenchmarkView(compared, rows, curves, plain, axis, _groups(compared))


def _groups(compared: Compared) -> list[tuple[str, str, list[Group]]]:
    by_row = [row.groups for row in compared.detectors]
    found = [(groups[0].by, groups[0].name, list(groups)) for groups in zip(*by_row, strict=True)]
    several = {by for by, _, _ in found if sum(other == by for other, _, _ in found) > 1}
    return [each for each in found if each[0] in several]


def _cell(measured: Any, sign: str = "") -> tuple[str, str]:
    """Return a value and its interval in words, each by itself."""
    value, low, high = measured["value"], measured["low"], measured["high"]
    if value is None:
        return "\u2013", ""
    return f"{value:{sign}.3f}", "" if low is None else f"{low:{sign}.3f} to {high:{sign}.3f}"
