"""A benchmark's metrics, beside scikit-learn and numbers worked out by hand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from unmask import params
from unmask.errors import DatasetError
from unmask.evaluation.baselines import Seen, learn
from unmask.evaluation.benchmarks import measures
from unmask.evaluation.benchmarks.scores_file import Detector, FrameScores, ScoreRow, Scores
from unmask.evaluation.looks import Look
from unmask.scoring.scores import sigmoid
from unmask.tracking.tracker import NullTracker

SETTINGS = params.load().evaluate.model_copy(update={"bootstrap_resamples": 50})
OURS = Detector("ours", "logit", trained_on=("studio",))


def row(name: str, label: int, logit: float | None, **more: object) -> ScoreRow:
    values = {"source_id": name, "method": "swap" if label else "real"} | more
    if logit is None:
        return ScoreRow(name, label, reason="no_face", **values)
    return ScoreRow(name, label, logit=logit, probability=float(sigmoid(logit)), **values)


ROWS = [
    row("f1", 1, 2.0, source_id="r1", compression="c23", generator="net", verdict="fake"),
    row("f2", 1, -2.0, source_id="r2", method="blend", compression="c40", verdict="inconclusive"),
    row("f3", 1, None, source_id="r2"),
    row("r1", 0, 1.0, compression="c23", verdict="fake"),
    row("r2", 0, -1.0, compression="c40", verdict="real"),
]
FRAMES = {
    "f1": FrameScores(("0", "1"), (3.0, 1.0)),
    "r1": FrameScores(("0", "1"), (2.0, 0.0)),
}


def summary_of(rows: list[ScoreRow], frames: dict[str, FrameScores] | None = None) -> dict:
    return measures.summarise(Scores("wild", OURS, rows, frames or {}), SETTINGS)


def test_counts_and_coverage() -> None:
    found = summary_of(ROWS, FRAMES)
    assert (found["benchmark"], found["detector"]) == ("wild", "ours")
    assert (found["videos"], found["real"], found["fake"], found["sources"]) == (5, 2, 3, 2)
    assert found["coverage"] == 0.8
    assert found["reasons"] == {"no_face": 1}


def test_values_worked_out_by_hand() -> None:
    found = summary_of(ROWS, FRAMES)
    values = {name: found["video"][name]["value"] for name in measures.HEADLINE}
    # The fakes 2 and -2 against the real videos 1 and -1: two of four pairs are right.
    assert values["roc_auc"] == 0.5
    assert values["tpr_at_fpr_1"] == values["tpr_at_fpr_5"] == 0.5
    assert values["equal_error_rate"] == 0.5
    assert values["average_precision"] == 0.5 * 1 + 0.5 * 0.5
    # Clips: 3 and 1 against 2 and 0.
    assert found["clip"] == {"count": 4, "roc_auc": found["clip"]["roc_auc"]}
    assert found["clip"]["roc_auc"]["value"] == 0.75
    # A method, a generator: its fakes against all real videos. A compression: its own of both.
    assert found["methods"]["swap"]["roc_auc"]["value"] == 1.0
    assert found["methods"]["blend"]["roc_auc"]["value"] == 0.0
    assert found["generators"].keys() == {"net"}
    assert found["compressions"]["c23"]["count"] == 2
    assert found["compressions"]["c40"]["roc_auc"]["value"] == 0.0


def test_verdicts_are_counted_and_false_alarms_are_of_real_videos() -> None:
    verdicts = summary_of(ROWS)["verdicts"]
    assert verdicts["real"] == {"fake": 1, "real": 1, "inconclusive": 0}
    assert verdicts["fake"] == {"fake": 1, "real": 0, "inconclusive": 1}
    assert verdicts["false_alarms"]["value"] == 0.5
    assert verdicts["found"]["value"] == 0.5
    without = [row("f", 1, 1.0), row("r", 0, 0.0)]
    assert summary_of(without)["verdicts"] is None


def test_metrics_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 200)
    logits = rng.normal(labels, 1.5)
    rows = [
        row(f"v{n}", int(label), float(logit), source_id=f"s{n // 3}")
        for n, (label, logit) in enumerate(zip(labels, logits, strict=True))
    ]
    video = summary_of(rows)["video"]
    assert video["roc_auc"]["value"] == pytest.approx(roc_auc_score(labels, logits))
    expected = average_precision_score(labels, logits)
    assert video["average_precision"]["value"] == pytest.approx(expected)
    assert video["log_loss"]["value"] == pytest.approx(log_loss(labels, sigmoid(logits)))
    assert video["roc_auc"]["low"] < video["roc_auc"]["value"] < video["roc_auc"]["high"]


def test_one_class_and_a_mere_ranking_have_no_metric_that_needs_more() -> None:
    video = summary_of([row("f1", 1, 2.0), row("f2", 1, 1.0)])["video"]
    assert video["roc_auc"] == video["tpr_at_fpr_1"] == dict.fromkeys(("value", "low", "high"))
    assert video["log_loss"]["value"] is not None
    ranked = [ScoreRow("f", 1, "f", "swap", score=7.0), ScoreRow("r", 0, "r", "real", score=-7.0)]
    video = measures.summarise(
        Scores("wild", Detector("theirs", "ranking"), ranked), SETTINGS
    )["video"]  # fmt: skip
    assert video["roc_auc"]["value"] == 1.0
    assert video["log_loss"] == dict.fromkeys(("value", "low", "high"))


def test_without_any_score_there_is_an_error() -> None:
    with pytest.raises(DatasetError, match="none of 1 videos has a score"):
        summary_of([row("a", 1, None)])


def test_what_is_written_is_read_by_dvc_and_shown(tmp_path: Path) -> None:
    summary = summary_of(ROWS, FRAMES)
    measures.write(summary, tmp_path / "wild.json", [], NullTracker())
    content = json.loads((tmp_path / "wild.json").read_text())
    assert content["video"]["roc_auc"] == 0.5
    assert content["video"]["coverage"] == 0.8
    assert content["details"] == [json.loads(json.dumps(summary))]
    lines = measures.table(summary).splitlines()
    assert lines[0] == "wild: ours, 2 real and 3 fake videos of 2 sources, 80% scored"
    assert [line.split()[0] for line in lines[2:]] == [
        "all", "blend", "swap", "net", "c23", "c40", "Verdicts:"
    ]  # fmt: skip
    scores = Scores("wild", OURS, ROWS, FRAMES)
    measures.write_plots(tmp_path / "plots", scores)
    with (tmp_path / "plots/histogram.csv").open(newline="") as file:
        bins = list(csv.DictReader(file))
    assert sum(int(each["fake"]) for each in bins) == 2
    assert (tmp_path / "plots/roc.png").is_file()


def test_looks_are_a_row_a_video() -> None:
    def seen(label: int, width: float) -> Seen:
        features = np.full((1, 2), width, np.float32)
        return Seen("wild", "swap", label, "p", 0.0, Look({"face_px": width}, features))

    videos = {"b": seen(1, 120.0), "a": seen(0, 80.5)}
    learned = learn(list(videos.values()))
    first, second = list(csv.DictReader(measures.looks_csv(videos, learned).splitlines()))
    assert (first["video_id"], first["face_px"], first["grain"]) == ("a", "80.5", "")
    assert float(first["frozen_net"]) < 0 < float(second["frozen_net"])
    [unknown, _] = csv.DictReader(measures.looks_csv(videos, None).splitlines())
    assert unknown["frozen_net"] == ""
