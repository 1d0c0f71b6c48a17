"""What a run leaves for people: pictures, and the tables that DVC plots.

Tables hold full precision; pictures are the same bytes for the same numbers. Matplotlib is loaded
only when a picture is drawn.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unmask.records import EPOCH_COLUMNS, Epoch
from unmask.runtime.disk import write_atomically
from unmask.scoring import metrics
from unmask.scoring.scores import Floats, Ints, roc_auc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scored = tuple[Ints, Floats]  # labels_N, scores_N
Row = Sequence[object]

CLASS_NAMES = ("real", "fake")  # by label
HISTOGRAM_BINS = 20
DOTS_PER_INCH = 150

# Okabe & Ito, "Color universal design", 2008: told apart by colour-blind readers. Splits also
# differ in dash and marker, classes in hatching, for readers of a grey print.
_LOOKS: dict[str, dict[str, Any]] = {
    "train": {"color": "#CC79A7", "linestyle": ":", "marker": "^"},
    "validation": {"color": "#009E73", "linestyle": "--", "marker": "s"},
    "test": {"color": "#000000", "linestyle": "-", "marker": "o"},
    "head": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "top layers": {"color": "#E69F00", "linestyle": "--", "marker": "s"},
}
_OTHER_LOOK: dict[str, Any] = {"color": "#56B4E9", "linestyle": "-.", "marker": "D"}
_CLASS_LOOKS = (("#56B4E9", ""), ("#D55E00", "////"))
_GUIDE: dict[str, Any] = {"color": "0.6", "linewidth": 1.0, "linestyle": "-", "zorder": 1.8}

# ---------------------------------------------------------------- an evaluation


def write_plots(folder: Path, splits: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
    """Write the tables and pictures of an evaluation into folder.

    splits maps a split's name to the labels and the probabilities of its videos. A split of one
    class has no ROC and no precision-recall curve: the tables have no row of it, the picture says
    why. confusion.csv and histogram.csv are of the test split, without counts where it is missing.

    Raises:
        UnmaskError: a split is empty or has a score outside [0, 1].
    """
    scored = {
        split: (np.asarray(labels, dtype=np.int64), np.asarray(scores, dtype=np.float64))
        for split, (labels, scores) in splits.items()
    }
    _write_curves(folder, scored)
    _write_test_tables(folder, *scored.get("test", (np.empty(0, np.int64), np.empty(0))))
    save(_draw_roc(scored), folder / "roc.png")
    save(_draw_precision_recall(scored), folder / "precision_recall.png")
    save(_draw_reliability(scored), folder / "reliability.png")
    save(_draw_confusion(scored), folder / "confusion.png")
    save(_draw_histogram(scored), folder / "histogram.png")


def _write_curves(folder: Path, splits: Mapping[str, Scored]) -> None:
    roc: list[Row] = []
    precision_recall: list[Row] = []
    reliability: list[Row] = []
    for split, (labels, scores) in splits.items():
        promises = metrics.reliability_curve(labels, scores)
        reliability += _rows(
            promises.mean_scores_K, promises.fake_fractions_K, promises.counts_K, split=split
        )
        if _lone_class(labels) is None:
            rates = metrics.roc_curve(labels, scores)
            roc += _rows(rates.fpr_K, rates.tpr_K, split=split)
            found = metrics.precision_recall_curve(labels, scores)
            precision_recall += _rows(found.recall_K, found.precision_K, split=split)
    _write_table(folder / "roc.csv", ("fpr", "tpr", "split"), roc)
    _write_table(
        folder / "precision_recall.csv", ("recall", "precision", "split"), precision_recall
    )
    _write_table(
        folder / "reliability.csv", ("mean_score", "fraction_fake", "count", "split"), reliability
    )


def _rows(*columns: NDArray[Any], split: str) -> Iterable[Row]:
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield *row, split


def _write_test_tables(folder: Path, labels: Ints, scores: Floats) -> None:
    called = (scores >= metrics.FAKE_THRESHOLD).astype(np.int64)
    _write_table(
        folder / "confusion.csv",
        ("actual", "predicted"),
        ((CLASS_NAMES[is_], CLASS_NAMES[call]) for is_, call in zip(labels, called, strict=True)),
    )
    # k / 40 written out is short; the mean of two edges is not.
    centres = [(2 * index + 1) / (2 * HISTOGRAM_BINS) for index in range(HISTOGRAM_BINS)]
    real, fake = _count_scores(labels, scores)
    _write_table(
        folder / "histogram.csv",
        ("score", *CLASS_NAMES),
        zip(centres, real.tolist(), fake.tolist(), strict=True),
    )


def _count_scores(labels: Ints, scores: Floats) -> tuple[Ints, Ints]:
    """Return how many real and how many fake videos fall into each bin.

    A bin holds its lower edge, the last one both edges: so none straddles the threshold, at which
    a video is called fake.
    """
    edges = np.arange(HISTOGRAM_BINS + 1) / HISTOGRAM_BINS
    real, fake = (np.histogram(scores[labels == label], edges)[0] for label in (0, 1))
    return real.astype(np.int64), fake.astype(np.int64)


def _lone_class(labels: Ints) -> str | None:
    """Return the name of the only class there is, or None where there are two."""
    return CLASS_NAMES[labels[0]] if (labels == labels[0]).all() else None


def _draw_roc(splits: Mapping[str, Scored]) -> "Figure":
    figure, axes = _new_square("ROC: fakes found against false alarms")
    axes.plot([0, 1], [0, 1], label="chance: AUC 0.5", **_GUIDE)
    for split, (labels, scores) in splits.items():
        if _lone_class(labels) is not None:
            _explain_absence(axes, split, labels)
            continue
        curve = metrics.roc_curve(labels, scores)
        label = f"{split}: AUC {roc_auc(labels, scores):.3f} ({_class_counts(labels)})"
        axes.plot(curve.fpr_K, curve.tpr_K, label=label, **_line_of(split))
    axes.set_xlabel("False positive rate (share of real videos called fake)")
    axes.set_ylabel("True positive rate (share of fake videos called fake)")
    axes.legend(loc="lower right", fontsize="small")
    return figure


def _draw_precision_recall(splits: Mapping[str, Scored]) -> "Figure":
    figure, axes = _new_square("Precision against recall")
    for split, (labels, scores) in splits.items():
        if _lone_class(labels) is not None:
            _explain_absence(axes, split, labels)
            continue
        curve = metrics.precision_recall_curve(labels, scores)
        area = metrics.average_precision(labels, scores)
        label = f"{split}: average precision {area:.3f} ({_class_counts(labels)})"
        # Steps, since average precision is a sum of steps; a straight line would promise more.
        line = _line_of(split) | {"drawstyle": "steps-pre"}
        axes.plot(curve.recall_K, curve.precision_K, label=label, **line)
        axes.axhline(
            float(labels.mean()), label=f"{split}: chance, the share of fakes",
            **(_line_of(split) | {"linewidth": 0.8, "alpha": 0.5}),
        )  # fmt: skip
    axes.set_xlabel("Recall (share of fake videos called fake)")
    axes.set_ylabel("Precision (share of videos called fake that are fake)")
    axes.legend(loc="lower left", fontsize="small")
    return figure


def _draw_reliability(splits: Mapping[str, Scored]) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(5.6, 6.4)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    upper.set_title("Reliability: does a score keep its promise?")
    upper.plot([0, 1], [0, 1], label="perfectly calibrated", **_GUIDE)
    for split, (labels, scores) in splits.items():
        curve = metrics.reliability_curve(labels, scores)
        error = metrics.calibration_error(labels, scores)
        look = _LOOKS.get(split, _OTHER_LOOK) | {"markersize": 5, "linewidth": 1.0}
        upper.plot(
            curve.mean_scores_K, curve.fake_fractions_K,
            label=f"{split}: calibration error {error:.3f}", **look,
        )  # fmt: skip
        lower.plot(
            curve.mean_scores_K, curve.counts_K, label=f"{split}: {len(labels)} videos", **look
        )
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="Fraction of videos that are fake")
    lower.set(xlabel="Mean score of the bin: probability of fake (0 to 1)", ylabel="Videos (count)")
    lower.set_ylim(bottom=0)
    lower.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in (upper, lower):
        axes.grid(color="0.9")
        axes.legend(loc="best", fontsize="small")
    return figure


def _draw_confusion(splits: Mapping[str, Scored]) -> "Figure":
    figure = new_figure(0.6 + 3.6 * len(splits), 3.9)
    panels = figure.subplots(1, len(splits), squeeze=False)[0]
    for axes, (split, (labels, scores)) in zip(panels, splits.items(), strict=True):
        cells = metrics.confusion(labels, scores)
        counts = np.array(
            [[cells.real_as_real, cells.real_as_fake], [cells.fake_as_real, cells.fake_as_fake]]
        )
        row_sums = counts.sum(axis=1, keepdims=True)
        shares = counts / np.maximum(row_sums, 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            share = f"{shares[row, column]:.0%} of {CLASS_NAMES[row]}" if row_sums[row] else "none"
            colour = "white" if shares[row, column] > 0.65 else "black"
            axes.text(column, row, f"{count}\n{share}", ha="center", va="center", color=colour)
        axes.set_title(f"{split}: {counts.sum()} videos")
        axes.set_xticks((0, 1), CLASS_NAMES)
        axes.set_yticks((0, 1), CLASS_NAMES)
        axes.set_xlabel(f"Called (fake at a score of {metrics.FAKE_THRESHOLD} and above)")
        axes.set_ylabel("Is (videos)")
    return figure


def _draw_histogram(splits: Mapping[str, Scored]) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(6.4, 0.8 + 2.2 * len(splits))
    panels = figure.subplots(len(splits), 1, squeeze=False, sharex=True)[:, 0]
    width = 0.42 / HISTOGRAM_BINS
    centres = (np.arange(HISTOGRAM_BINS) + 0.5) / HISTOGRAM_BINS
    for axes, (split, (labels, scores)) in zip(panels, splits.items(), strict=True):
        for label, counts in enumerate(_count_scores(labels, scores)):
            colour, hatch = _CLASS_LOOKS[label]
            axes.bar(
                centres + (label - 0.5) * width, counts, width, color=colour, hatch=hatch,
                edgecolor="white", linewidth=0.0, label=CLASS_NAMES[label],
            )  # fmt: skip
        axes.axvline(metrics.FAKE_THRESHOLD, **_GUIDE)
        axes.set_title(f"{split}: {_class_counts(labels)}", loc="left")
        axes.set_ylabel("Videos (count)")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    panels[-1].set_xlim(0, 1)
    # Above the panels: inside, it would hide bars.
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=2, fontsize="small")
    panels[-1].set_xlabel("Score: probability of fake (0 to 1); called fake right of the line")
    return figure


def _explain_absence(axes: "Axes", split: str, labels: Ints) -> None:
    """Put a line into the legend where a curve would stand."""
    count = len(labels)
    axes.plot(
        [], [], linestyle="none",
        label=f"{split}: no curve, all videos are {_lone_class(labels)} ({count})",
    )  # fmt: skip


def _class_counts(labels: Ints) -> str:
    fakes = int(labels.sum())
    return f"{len(labels) - fakes} real, {fakes} fake"


def _line_of(split: str) -> dict[str, Any]:
    """Return how a split's curve looks; markers at every point would hide it."""
    return _LOOKS.get(split, _OTHER_LOOK) | {"marker": ""}


# ---------------------------------------------------------------- a training


def write_training_curves(folder: Path, history: Sequence[Epoch]) -> None:
    """Write training.csv and training.png into folder, one row an epoch.

    lr_top is blank until the top layers join, val_auc where validation holds one class.
    """
    assert history, "training ended without an epoch"
    rows = ([epoch.get(column) for column in EPOCH_COLUMNS] for epoch in history)
    _write_table(folder / "training.csv", EPOCH_COLUMNS, rows)
    save(_draw_training(history), folder / "training.png")


def _draw_training(history: Sequence[Epoch]) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(10.5, 3.2)
    losses, ranking, rates = figure.subplots(1, 3)
    _draw_series(losses, history, {"train_loss": "train", "val_loss": "validation"})
    losses.set(title="Loss", ylabel="Log-loss (nats per clip)")
    _draw_series(ranking, history, {"val_auc": "validation"})
    ranking.set(title="Ranking", ylabel="AUC of clips (0.5 is chance)")
    _draw_series(rates, history, {"lr_head": "head", "lr_top": "top layers"})
    rates.set(title="Learning rates", ylabel="Learning rate (log scale)", yscale="log")
    scored = [
        (loss, epoch["epoch"])
        for epoch in history
        if (loss := epoch.get("val_loss")) is not None and math.isfinite(loss)
    ]
    first, last = (history[index]["epoch"] for index in (0, -1))
    assert first is not None
    assert last is not None
    for axes in (losses, ranking, rates):
        if scored:
            _, best = min(scored, key=lambda pair: pair[0])
            assert best is not None
            axes.axvline(
                best, label=f"best epoch: {best}", **(_GUIDE | {"color": "0.2", "linestyle": ":"})
            )
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(first - 0.5, last + 0.5)
        axes.grid(color="0.9")
        axes.legend(loc="best", fontsize="small")
    return figure


def _draw_series(axes: "Axes", history: Sequence[Epoch], names: Mapping[str, str]) -> None:
    """Draw one line a column, with a dot an epoch; a column without values says so."""
    for column, name in names.items():
        points = [
            (epoch["epoch"], value) for epoch in history if (value := epoch.get(column)) is not None
        ]
        if not points:
            axes.plot([], [], linestyle="none", label=f"{name}: no value")
            continue
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, label=name, markersize=4, **_LOOKS[name])


# ---------------------------------------------------------------- degraded videos

_PANELS = (
    ("AUC", "roc_auc", "AUC (0.5 is chance)"),
    ("AUC lost", "roc_auc_drop", "AUC without, less AUC with"),
    ("Log-loss grown", "log_loss_drop", "Log-loss with, less log-loss without"),
)


def write_robustness(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write robustness.csv and robustness.png of robustness.summarise's rows into folder."""
    flat = [_flatten(row) for row in rows]
    _write_table(folder / "robustness.csv", list(flat[-1]), ([*row.values()] for row in flat))
    save(_draw_robustness(flat), folder / "robustness.png")


def _flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with a column for each value and each end of its interval; None where none."""
    names = ("coverage", "roc_auc", "log_loss", "accuracy")
    cells = {name: row[name] for name in names}
    drop = row.get("drop", {})
    cells |= {f"{name}_drop": drop.get(name, {}) for name in names[1:]}
    flat: dict[str, Any] = {"degradation": row["degradation"], "videos": row["videos"]}
    for name, cell in cells.items():
        ends = {"": "value", "_low": "low", "_high": "high"}
        flat |= {f"{name}{ending}": cell.get(end) for ending, end in ends.items()}
    return flat


def _draw_robustness(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw a row a degradation: a dot with its interval in each panel."""
    figure = new_figure(10.5, 1.3 + 0.28 * len(rows))
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    clean = rows[0]
    for axes, (title, name, label) in zip(panels, _PANELS, strict=True):
        unchanged = clean["roc_auc"] if name == "roc_auc" else 0.0
        if unchanged is not None:  # of one class there is no AUC
            axes.axvline(unchanged, **_GUIDE)
        for place, row in enumerate(rows):
            if row[name] is None:
                continue
            low, high = (row[f"{name}_{end}"] for end in ("low", "high"))
            if low is not None:
                axes.plot([low, high], [place, place], color="#56B4E9", linewidth=2.5)
            axes.plot(row[name], place, "o", color="#000000", markersize=5)
        axes.set(title=title, xlabel=label)
        axes.grid(color="0.9")
    names = [f"{row['degradation']} ({row['coverage']:.0%})" for row in rows]
    panels[0].set_yticks(range(len(rows)), names)
    panels[0].invert_yaxis()
    panels[0].set_ylabel("Degradation (share of videos with an answer)")
    figure.supxlabel(
        f"{clean['videos']} test videos, with and without the degradation; dots with 95% "
        "intervals. The grey line is no change",
        fontsize="small",
    )  # fmt: skip
    return figure


# ---------------------------------------------------------------- files


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a CSV; floats in the shortest digits that read back the same, None as nothing."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    write_atomically(path, out.getvalue())


def new_figure(width_in: float, height_in: float) -> "Figure":
    """Return an empty figure of that size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), dpi=DOTS_PER_INCH, layout="constrained")


def _new_square(title: str) -> tuple["Figure", "Axes"]:
    """Return axes from 0 to 1 in both directions."""
    figure = new_figure(5.6, 5.2)
    axes = figure.subplots()
    axes.set(title=title, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(color="0.9")
    return figure, axes


def save(figure: "Figure", path: Path) -> None:
    """Write a PNG through a new file, as write_atomically does."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    # 128 colours take a third of the bytes. Maximum coverage keeps the rare ones: no channel is
    # off by more than 8 of 255, where median cut turned a lone green marker blue. Matplotlib's
    # signature is not carried over, so the bytes don't change with its version alone.
    picture = (
        Image.open(drawn)
        .convert("RGB")
        .quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    coded = io.BytesIO()
    picture.save(coded, format="PNG", optimize=True, dpi=(DOTS_PER_INCH, DOTS_PER_INCH))
    write_atomically(path, coded.getvalue())
