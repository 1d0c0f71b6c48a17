"""The comparison as text: for a terminal, as Markdown, and as CSV for programs."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from unmask.evaluation.benchmarks.compared import Across, Compared, Row, across
from unmask.runtime.plain_text import plain_cell, shown_name
from unmask.scoring import metrics
from unmask.scoring.metrics import Measured

NOTES = (
    "AUC, frame AUC, AP and the rates of fakes found are better the higher; EER, log-loss and "
    "false alarms are better the lower. 95% intervals redraw whole sources (people or recordings). "
    "A video without a score counts in coverage alone. Where no video is misjudged, none is in any "
    "resample: an interval without width, such as 1 to 1, is no certainty.",
    "TPR at 1% (5%) is the largest share of fakes above a threshold that at most 1% (5%) of the "
    "real videos pass, without interpolation. False alarms and fakes found are of the verdicts "
    "that a detector gives.",
    "The difference is the AUC minus the first detector's, on the videos that both scored; its "
    "interval redraws sources, the same for both. p is of DeLong's test (1988), two-sided. The "
    "test takes videos for independent of each other: where sources have several videos p can be "
    "far too small, and the interval is what counts.",
    "On like pairs is the AUC over pairs of a fake and a real video whose faces are within 1.3 x "
    "in width and 0.7 in the logarithm of sharpness. What needs no detector (face width, file "
    "size ...) is ranked in the direction that training videos show; where that is not known, in "
    "the direction of these videos, which favours it a little.",
    "Trained on is what whoever scored or imported the detector says; ? where nobody does. A "
    "dagger marks a detector that saw the benchmark in training: its number there is no test, and "
    "its mean leaves it out. A mean is given where one version of a detector has scores on every "
    "benchmark that holds both classes; its interval takes the benchmarks for independent.",
)
DAGGER = "†"
CSV_COLUMNS = (
    "benchmark", "detector", "kind", "measure", "by", "group", "videos", "value", "low", "high",
    "p",
)  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """One table: its title, its columns' titles and its cells."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def sheets(compared: Sequence[Compared]) -> Iterator[Sheet]:
    """Yield the tables: detectors across benchmarks, then each benchmark's."""
    if len(compared) > 1:
        yield _across_sheet(compared)
    for each in compared:
        yield from _benchmark_sheets(each)


def _across_sheet(compared: Sequence[Compared]) -> Sheet:
    rows = []
    for mean in across(compared):
        cells = [mean.name]
        for each in compared:
            row = next((row for row in each.detectors if row.detector.name == mean.name), None)
            cells.append("-" if row is None else auc_cell(row))
        rows.append([*cells, _mean_cell(mean)])
    return Sheet(
        "AUC across benchmarks",
        ["detector", *(each.name for each in compared), "mean of those not trained on"],
        rows,
    )


def _mean_cell(mean: Across) -> str:
    if mean.auc["value"] is None:
        return "-"
    return f"{metrics.shown(mean.auc)} of {mean.benchmarks}"


def auc_cell(row: Row) -> str:
    """Return a detector's AUC on a benchmark, with a mark where it saw that in training."""
    return metrics.shown(row.measures["roc_auc"]) + (DAGGER if row.saw_it else "")


def title_of(compared: Compared) -> str:
    """Return a benchmark's name, its size and whose choice it is, in words."""
    chosen = f" ({compared.chosen})" if compared.chosen else ""
    return (
        f"{compared.name}: {compared.videos:,} videos, {compared.videos - compared.fakes:,} real "
        f"and {compared.fakes:,} fake, of {compared.sources:,} sources{chosen}"
    )


def _benchmark_sheets(compared: Compared) -> Iterator[Sheet]:
    def cells(row: Row, *names: str) -> list[str]:
        return [metrics.shown(row.measures[name]) for name in names]

    rows = compared.rows
    yield Sheet(
        title_of(compared),
        ["detector", "AUC", "frame AUC", "AP", "EER"],
        [
            [row.words, auc_cell(row), *cells(
                row, "frame_auc", "average_precision", "equal_error_rate"
            )]
            for row in rows
        ],
    )  # fmt: skip
    yield Sheet(
        f"{compared.name}: at few false alarms",
        ["detector", "TPR at 1%", "TPR at 5%", "log-loss", "false alarms", "fakes found",
         "coverage"],
        [
            [row.words, *cells(
                row, "tpr_at_fpr_1", "tpr_at_fpr_5", "log_loss", "false_alarms", "found"
            ), f"{row.scored / compared.videos:.1%}"]
            for row in rows
        ],
    )  # fmt: skip
    first = rows[0].words
    yield Sheet(
        f"{compared.name}: beside {first}, and on {compared.pairs:,} pairs of like quality",
        ["detector", f"difference to {first}", "p (DeLong)", "on like pairs", "worst group",
         "trained on"],
        [
            [row.words, difference_cell(row), p_cell(row), *cells(row, "matched_auc"),
             worst_cell(row), trained_cell(row)]
            for row in rows
        ],
    )  # fmt: skip
    if groups := _group_rows(compared):
        yield Sheet(
            f"{compared.name}: AUC by method, generator and compression",
            ["group", "fakes", "real", *(row.words for row in compared.detectors)],
            groups,
        )


def difference_cell(row: Row) -> str:
    """Return how much higher the AUC is than the first detector's."""
    return "-" if row.to_first is None else metrics.shown(row.to_first.auc, sign="+")


def p_cell(row: Row) -> str:
    """Return DeLong's p."""
    p = None if row.to_first is None else row.to_first.p
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def worst_cell(row: Row) -> str:
    """Return the group with the lowest AUC, by name."""
    worst = row.worst
    return "-" if worst is None else f"{metrics.shown(worst.auc)} {worst.name}"


def trained_cell(row: Row) -> str:
    """Return what a detector saw in training, as far as somebody says."""
    if not row.is_detector:
        return ""
    trained_on = row.detector.trained_on
    return "?" if trained_on is None else ", ".join(trained_on) or "nothing"


def _group_rows(compared: Compared) -> list[list[str]]:
    """Return a row for each group; nothing where all of a benchmark is one group."""
    by_row = [{(g.by, g.name): g for g in row.groups} for row in compared.detectors]
    counts: dict[str, int] = {}
    for by, _ in by_row[0]:
        counts[by] = counts.get(by, 0) + 1
    found = []
    for key in by_row[0]:
        if counts[key[0]] > 1:
            groups = [groups[key] for groups in by_row]
            most = max(groups, key=lambda group: group.fakes + group.reals)
            found.append(
                [f"{key[0]} {key[1]}", f"{most.fakes:,}", f"{most.reals:,}",
                 *(metrics.shown(group.auc) for group in groups)]
            )  # fmt: skip
    return found


# ---------------------------------------------------------------- forms


def for_terminal(compared: Sequence[Compared]) -> str:
    """Return the tables with columns in line, as text that draws nothing."""
    blocks = []
    for sheet in sheets(compared):
        cells = [[shown_name(cell) for cell in row] for row in (sheet.header, *sheet.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(
                cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
            )]).rstrip()
            for row in cells
        ]  # fmt: skip
        blocks.append("\n".join([shown_name(sheet.title), *lines]))
    return "\n\n".join([*blocks, "\n".join(NOTES)])


# What Markdown, or HTML in it, would take for more than a letter.
_MARKS = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def as_markdown(compared: Sequence[Compared]) -> str:
    """Return the tables as GitHub-flavoured Markdown."""
    lines = ["# Detectors on benchmarks", ""]
    for sheet in sheets(compared):
        lines += [f"## {_plain(sheet.title)}", "", _line(sheet.header)]
        lines.append("| --- |" + " ---: |" * (len(sheet.header) - 1))
        lines += [*map(_line, sheet.rows), ""]
    return "\n".join([*lines, *(f"- {_plain(note)}" for note in NOTES)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    """Return a stranger's text as Markdown that shows it and does nothing else."""
    return _MARKS.sub(r"\\\1", shown_name(text)).replace("\n", " ")


def as_csv(compared: Sequence[Compared]) -> str:
    """Return a row for each number, with its interval, in full precision."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for each in compared:
        for row in each.rows:
            for found in _numbers(each, row):
                cells = {"benchmark": each.name, "detector": row.detector.name, **found}
                table.writerow([_csv_cell(cells.get(column)) for column in CSV_COLUMNS])
    if len(compared) > 1:
        for mean in across(compared):
            cells = {"benchmark": "", "detector": mean.name, "kind": "detector",
                     "measure": "mean_roc_auc_of_unseen", "videos": "", **mean.auc}  # fmt: skip
            table.writerow([_csv_cell(cells.get(column)) for column in CSV_COLUMNS])
    return out.getvalue()


def _numbers(compared: Compared, row: Row) -> Iterator[Mapping[str, object]]:
    base = {"kind": "detector" if row.is_detector else "no detector", "videos": row.scored}
    yield {**base, "measure": "coverage", "value": row.scored / compared.videos}
    for name, measured in row.measures.items():
        yield from _known({**base, "measure": name}, measured)
    if row.to_first is not None:
        about = {"measure": "roc_auc_minus_first", "videos": row.to_first.videos,
                 "p": row.to_first.p}  # fmt: skip
        yield from _known({**base, **about}, row.to_first.auc)
    for group in row.groups:
        about = {"measure": "roc_auc", "by": group.by, "group": group.name,
                 "videos": group.fakes + group.reals}  # fmt: skip
        yield from _known({**base, **about}, group.auc)


def _known(about: Mapping[str, object], measured: Measured) -> Iterator[Mapping[str, object]]:
    if measured["value"] is not None:
        yield {**about, **measured}


def _csv_cell(value: object) -> object:
    return "" if value is None else plain_cell(value) if isinstance(value, str) else value
