"""The tables against the metrics' own curves, and the pictures."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from unmask.errors import UnmaskError
from unmask.evaluation import plots
from unmask.scoring import metrics
from unmask.scoring.scores import sigmoid

PICTURES = {  # inches at 150 dots an inch
    "roc.png": (840, 780),
    "precision_recall.png": (840, 780),
    "reliability.png": (840, 960),
    "confusion.png": (1170, 585),
    "histogram.png": (960, 780),
}
TABLES = ("roc.csv", "precision_recall.csv", "reliability.csv", "confusion.csv", "histogram.csv")
REAL_ONLY = np.zeros(3, dtype=int), np.array([0.0, 0.5, 1.0])


def draw_scores(seed, count):
    """Return labels, half of them fake, and overlapping probabilities with ties."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % 2)
    return labels, np.round(sigmoid(2 * generator.normal(size=count) + labels), 2)


SPLITS = {"validation": draw_scores(1, 20), "test": draw_scores(2, 41)}


def read_table(path):
    with path.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    return header, rows


def read_columns(path, *, split):
    """Return the numbers of a split's rows, by column."""
    header, rows = read_table(path)
    assert header[-1] == "split"
    return np.array([[float(cell) for cell in row[:-1]] for row in rows if row[-1] == split]).T


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "plots" / "evaluation"
    plots.write_plots(path, SPLITS)
    return path


@pytest.fixture
def figures(monkeypatch):
    """Return the figures that would be saved, by file name; nothing is written."""
    kept = {}
    monkeypatch.setattr(plots, "save", lambda figure, path: kept.update({path.name: figure}))
    return kept


# Tables


def test_nothing_but_the_tables_and_pictures_is_written(folder):
    assert {path.name for path in folder.iterdir()} == {*TABLES, *PICTURES}


@pytest.mark.parametrize("split", SPLITS)
def test_tables_hold_the_curves_of_the_metrics_to_the_last_digit(folder, split):
    roc = metrics.roc_curve(*SPLITS[split])
    found = read_columns(folder / "roc.csv", split=split)
    assert np.array_equal(found, [roc.fpr_K, roc.tpr_K])

    curve = metrics.precision_recall_curve(*SPLITS[split])
    found = read_columns(folder / "precision_recall.csv", split=split)
    assert np.array_equal(found, [curve.recall_K, curve.precision_K])

    curve = metrics.reliability_curve(*SPLITS[split])
    found = read_columns(folder / "reliability.csv", split=split)
    assert np.array_equal(found, [curve.mean_scores_K, curve.fake_fractions_K, curve.counts_K])


def test_areas_can_be_worked_out_from_the_tables_alone(folder):
    fpr, tpr = read_columns(folder / "roc.csv", split="test")
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.roc_auc(*SPLITS["test"]))
    recall, precision = read_columns(folder / "precision_recall.csv", split="test")
    area = np.sum(np.diff(recall) * precision[1:])
    assert area == pytest.approx(metrics.average_precision(*SPLITS["test"]))


def test_confusion_has_a_row_for_each_test_video_in_order(folder):
    header, rows = read_table(folder / "confusion.csv")
    labels, scores = SPLITS["test"]
    assert header == ["actual", "predicted"]
    assert [row[0] for row in rows] == [("real", "fake")[label] for label in labels]
    assert [row[1] for row in rows] == ["fake" if score >= 0.5 else "real" for score in scores]
    cells = metrics.confusion(labels, scores)
    assert rows.count(["real", "fake"]) == cells.real_as_fake
    assert rows.count(["fake", "real"]) == cells.fake_as_real


def test_histogram_counts_every_test_video_once(folder):
    header, rows = read_table(folder / "histogram.csv")
    labels, _ = SPLITS["test"]
    assert header == ["score", "real", "fake"]
    assert [row[0] for row in rows[:2]] == ["0.025", "0.075"]
    assert len(rows) == 20
    assert sum(int(real) for _, real, _ in rows) == np.sum(labels == 0)
    assert sum(int(fake) for _, _, fake in rows) == np.sum(labels == 1)


def test_histogram_bins_hold_their_lower_edge_and_the_last_both(tmp_path, figures):
    scores = np.array([0.0, 0.05, 0.5, 0.95, 1.0, 0.4999])
    plots.write_plots(tmp_path, {"test": (np.array([0, 0, 1, 1, 1, 0]), scores)})
    _, rows = read_table(tmp_path / "histogram.csv")
    filled = {score: (int(real), int(fake)) for score, real, fake in rows if real + fake != "00"}
    assert filled == {
        "0.025": (1, 0), "0.075": (1, 0), "0.475": (1, 0), "0.525": (0, 1), "0.975": (0, 2),
    }  # fmt: skip
    assert len(figures) == len(PICTURES)


# Pictures


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_decode_at_their_size_and_are_small(folder, name):
    with Image.open(folder / name) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.size == PICTURES[name]
        assert picture.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        assert "Software" not in picture.info
    assert (folder / name).stat().st_size < 100_000


def test_another_process_writes_the_same_bytes_without_pyplot(folder, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.evaluation.test_plots import SPLITS; from unmask.evaluation import plots\n"
        "assert 'matplotlib' not in sys.modules, 'loaded before a picture is asked for'\n"
        "plots.write_plots(Path(sys.argv[1]), SPLITS)\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    for name in (*TABLES, *PICTURES):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_rewrite_leaves_a_hard_link_to_the_old_file_alone(tmp_path):
    # DVC's cache may be such a link: writing in place would change what it holds.
    history = [{"epoch": 0, "train_loss": 0.7, "val_loss": 0.6, "val_auc": 0.5, "lr_head": 1e-3}]
    plots.write_training_curves(tmp_path, history)
    before = {}
    for name in ("training.csv", "training.png"):
        os.link(tmp_path / name, tmp_path / f"cached_{name}")
        before[name] = (tmp_path / name).read_bytes()
    plots.write_training_curves(tmp_path, [*history, history[0] | {"epoch": 1}])
    for name, content in before.items():
        assert (tmp_path / f"cached_{name}").read_bytes() == content
        assert (tmp_path / name).read_bytes() != content


def test_curves_show_both_splits_and_their_areas(tmp_path, figures):
    plots.write_plots(tmp_path, SPLITS)
    roc = figures["roc.png"].axes[0]
    assert legend_of(roc) == [
        "chance: AUC 0.5",
        f"validation: AUC {metrics.roc_auc(*SPLITS['validation']):.3f} (10 real, 10 fake)",
        f"test: AUC {metrics.roc_auc(*SPLITS['test']):.3f} (21 real, 20 fake)",
    ]
    curve = metrics.roc_curve(*SPLITS["test"])
    assert np.array_equal(roc.lines[2].get_xydata(), np.stack([curve.fpr_K, curve.tpr_K], axis=1))
    for figure in figures.values():
        assert all(axes.get_ylabel() for axes in figure.axes)
        assert figure.axes[-1].get_xlabel()


def test_a_split_of_one_class_writes_what_is_defined_and_says_why(tmp_path, figures):
    plots.write_plots(tmp_path, {"validation": SPLITS["validation"], "test": REAL_ONLY})
    for name in ("roc.csv", "precision_recall.csv"):
        _, rows = read_table(tmp_path / name)
        assert {row[-1] for row in rows} == {"validation"}
    reliability = read_columns(tmp_path / "reliability.csv", split="test")
    assert reliability.tolist() == [[0.0, 0.5, 1.0], [0.0] * 3, [1.0] * 3]
    _, rows = read_table(tmp_path / "confusion.csv")
    assert rows == [["real", "real"], ["real", "fake"], ["real", "fake"]]
    for name in ("roc.png", "precision_recall.png"):
        assert "test: no curve, all videos are real (3)" in legend_of(figures[name].axes[0])
    confusion = [text.get_text() for text in figures["confusion.png"].axes[1].texts]
    assert confusion == ["1\n33% of real", "2\n67% of real", "0\nnone", "0\nnone"]


def test_a_split_of_one_class_can_be_drawn(tmp_path):
    plots.write_plots(tmp_path, {"test": REAL_ONLY})
    with Image.open(tmp_path / "roc.png") as picture:
        assert picture.size == PICTURES["roc.png"]
    assert read_table(tmp_path / "roc.csv") == (["fpr", "tpr", "split"], [])


def test_without_a_test_split_its_tables_count_nothing(tmp_path, figures):
    plots.write_plots(tmp_path, {"validation": SPLITS["validation"]})
    assert read_table(tmp_path / "confusion.csv") == (["actual", "predicted"], [])
    _, rows = read_table(tmp_path / "histogram.csv")
    assert {(real, fake) for _, real, fake in rows} == {("0", "0")}
    assert len(figures["confusion.png"].axes) == 1


@pytest.mark.parametrize("scores", [[], [0.5, 1.5]])
def test_an_empty_split_or_a_logit_is_refused(tmp_path, scores):
    labels = [0, 1][: len(scores)]
    with pytest.raises(UnmaskError, match="reliability_curve needs"):
        plots.write_plots(tmp_path, {"test": (labels, scores)})
    assert not list(tmp_path.iterdir())


# Training curves

HISTORY = [
    {"epoch": 0, "train_loss": 0.7, "val_loss": 0.65, "val_auc": None, "lr_head": 1e-3},
    {"epoch": 1, "train_loss": 0.5, "val_loss": 0.4, "val_auc": 0.8, "lr_head": 1e-3,
     "lr_top": None},
    {"epoch": 2, "train_loss": 0.3, "val_loss": 0.45, "val_auc": 0.9, "lr_head": 1e-4,
     "lr_top": 1e-4},
]  # fmt: skip


def test_training_table_leaves_what_is_not_there_blank(tmp_path):
    plots.write_training_curves(tmp_path / "training", HISTORY)
    assert (tmp_path / "training" / "training.csv").read_text(encoding="utf-8") == (
        "epoch,train_loss,val_loss,val_auc,lr_head,lr_top\n"
        "0,0.7,0.65,,0.001,\n"
        "1,0.5,0.4,0.8,0.001,\n"
        "2,0.3,0.45,0.9,0.0001,0.0001\n"
    )
    with Image.open(tmp_path / "training" / "training.png") as picture:
        assert picture.size == (1575, 480)
    assert (tmp_path / "training" / "training.png").stat().st_size < 100_000


def test_training_picture_marks_the_best_epoch_and_starts_the_top_layers_late(tmp_path, figures):
    plots.write_training_curves(tmp_path, HISTORY)
    losses, ranking, rates = figures["training.png"].axes
    for axes in (losses, ranking, rates):
        assert legend_of(axes)[-1] == "best epoch: 1"
    lines = {line.get_label(): line.get_xydata().tolist() for line in rates.lines}
    assert lines["head"] == [[0, 1e-3], [1, 1e-3], [2, 1e-4]]
    assert lines["top layers"] == [[2, 1e-4]]
    assert rates.get_yscale() == "log"
    assert ranking.lines[0].get_xydata().tolist() == [[1, 0.8], [2, 0.9]]


def test_one_epoch_with_frozen_layers_can_be_drawn(tmp_path, figures):
    plots.write_training_curves(tmp_path, HISTORY[:1])
    _, ranking, rates = figures["training.png"].axes
    assert legend_of(ranking) == ["validation: no value", "best epoch: 0"]
    assert legend_of(rates) == ["head", "top layers: no value", "best epoch: 0"]


def test_a_loss_that_is_no_number_is_never_the_best(tmp_path, figures):
    plots.write_training_curves(tmp_path, [HISTORY[0] | {"val_loss": float("nan")}, HISTORY[1]])
    assert legend_of(figures["training.png"].axes[0])[-1] == "best epoch: 1"


# The model card


# Degraded videos


def cell(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def degraded(name, auc, **more):
    metrics_of = {"roc_auc": auc, "log_loss": cell(0.3, 0.2, 0.4), "accuracy": cell(0.9)}
    return {"degradation": name, "videos": 8, "coverage": cell(0.5), **metrics_of, **more}


def test_degradations_have_a_row_each_and_what_has_no_value_is_left_blank(tmp_path):
    drop = {"videos": 4, "roc_auc": cell(0.1, 0.0, 0.2), "log_loss": cell(0.2), "accuracy": cell(0)}
    rows = [
        degraded("clean", cell(0.9, 0.8, 1.0)),
        degraded("blur", cell(0.8, 0.7, 0.9), drop=drop),
        degraded("black", cell(None), drop=dict.fromkeys(drop, cell(None))),
    ]
    plots.write_robustness(tmp_path, rows)
    header, found = read_table(tmp_path / "robustness.csv")
    clean, blur, black = (dict(zip(header, row, strict=True)) for row in found)
    assert (clean["roc_auc"], clean["roc_auc_low"], clean["roc_auc_drop"]) == ("0.9", "0.8", "")
    assert (blur["roc_auc_drop"], blur["roc_auc_drop_high"]) == ("0.1", "0.2")
    assert (black["roc_auc"], black["coverage"]) == ("", "0.5")
    again = (tmp_path / "robustness.png").read_bytes()
    plots.write_robustness(tmp_path, rows)
    assert (tmp_path / "robustness.png").read_bytes() == again


def test_degradations_of_one_class_have_no_auc_but_a_picture(tmp_path):
    drop = {"videos": 4, "roc_auc": cell(None), "log_loss": cell(0.2), "accuracy": cell(0)}
    rows = [degraded("clean", cell(None)), degraded("blur", cell(None), drop=drop)]
    plots.write_robustness(tmp_path, rows)
    assert (tmp_path / "robustness.png").stat().st_size > 1000
