"""What is counted, what is left out, and what a reader of the tables sees."""

import csv
import json

import pytest

from unmask import params
from unmask.errors import DatasetError
from unmask.evaluation.evaluate import ScoredVideo, evaluate, scores_csv, summarise, table
from unmask.models.predict import pool
from unmask.records import Reason, TrackScore, VideoRecord
from unmask.scoring import metrics
from unmask.scoring.scores import sigmoid
from unmask.tracking.tracker import NullTracker

SETTINGS = params.load().evaluate.model_copy(update={"bootstrap_resamples": 100})


def scored(name, label, logits, *, method="real", source=None, split="test", reason=None):
    """Return a video with one face whose clips have these logits."""
    record = VideoRecord(name, f"{name}.mp4", label, source or name, method, split)
    tracks = [
        TrackScore(0, sum(logits) / len(logits), tuple(map(float, range(len(logits)))), logits)
    ]
    return ScoredVideo("chunk", record, pool(name, tracks if logits else [], reason, 1.0))


def unscored(name, label, reason, **more):
    """Return a video without an answer."""
    record = VideoRecord(name, f"{name}.mp4", label, name, more.get("method", "real"), "test")
    return ScoredVideo("chunk", record, pool(name, [], reason, 1.0))


HISTORY = [
    {
        "epoch": 0,
        "train_loss": 0.7,
        "val_loss": 0.6,
        "val_auc": 0.7,
        "lr_head": 1e-3,
        "lr_top": None,
    }
]
VIDEOS = [
    scored("a", 0, (-2.0, -1.0), source="s1"),
    scored("b", 0, (0.5, 1.5), source="s2"),
    scored("c", 1, (2.0, 3.0), method="swap", source="s1"),
    scored("d", 1, (0.0, 1.0), method="blend", source="s2"),
    unscored("e", 1, Reason.NO_FACE, method="swap"),
]


def test_metrics_are_those_of_the_scored_videos():
    summary = summarise(VIDEOS, SETTINGS, temperature=1.0)
    scores = sigmoid([-1.5, 1.0, 2.5, 0.5])
    assert summary["videos"] == 5
    assert summary["sources"] == 3
    assert summary["coverage"] == 0.8
    assert summary["reasons"] == {"no_face": 1}
    assert summary["video"]["count"] == 4
    assert summary["video"]["roc_auc"]["value"] == 0.75
    expected = metrics.log_loss([0, 0, 1, 1], scores)
    assert summary["video"]["log_loss"]["value"] == pytest.approx(expected)


def test_a_method_stands_against_all_real_videos():
    methods = summarise(VIDEOS, SETTINGS, temperature=1.0)["methods"]
    assert {name: part["count"] for name, part in methods.items()} == {"blend": 3, "swap": 3}
    assert methods["swap"]["roc_auc"]["value"] == 1.0
    assert methods["blend"]["roc_auc"]["value"] == 0.5


def test_clips_are_calibrated_and_counted_one_by_one():
    clip = summarise(VIDEOS, SETTINGS, temperature=2.0)["clip"]
    scores = sigmoid([-1.0, -0.5, 0.25, 0.75, 1.0, 1.5, 0.0, 0.5])
    assert clip["count"] == 8
    assert clip["log_loss"]["value"] == pytest.approx(metrics.log_loss([0] * 4 + [1] * 4, scores))


def test_one_class_has_no_auc():
    summary = summarise(VIDEOS[:2], SETTINGS, temperature=1.0)
    assert summary["video"]["roc_auc"]["value"] is None
    assert summary["methods"] == {}
    assert "-" in table({"test": summary})


def test_real_videos_alone_have_false_alarms_and_no_ranking(tmp_path):
    videos = [
        *VIDEOS[:2],
        scored("v", 0, (-1.0,), split="validation"),
        scored("w", 0, (-3.0, 0.5), split="validation"),
    ]
    summaries = evaluate(
        videos, 1.0, SETTINGS, HISTORY, tmp_path / "metrics", tmp_path / "plots", NullTracker()
    )
    test = json.loads((tmp_path / "metrics/test.json").read_text())["video"]
    for name in ("roc_auc", "average_precision", "equal_error_rate"):
        assert test[name] == {"value": None, "low": None, "high": None}
    assert test["accuracy"]["value"] == 0.5  # of a and b, b is called fake
    assert summaries["validation"]["video"]["accuracy"]["value"] == 1.0
    assert (tmp_path / "plots/evaluation/confusion.csv").read_text().split() == [
        "actual,predicted", "real,real", "real,fake",
    ]  # fmt: skip
    assert (tmp_path / "plots/evaluation/roc.csv").read_text() == "fpr,tpr,split\n"
    [row] = [line.split() for line in table(summaries).splitlines() if "roc_auc" in line]
    assert row == ["roc_auc", "-", "-"]


def test_a_split_without_answers_is_an_error():
    with pytest.raises(DatasetError, match="none of 1 has one"):
        summarise(VIDEOS[4:], SETTINGS, temperature=1.0)


def test_every_video_has_a_row_with_its_worst_moments_first():
    rows = {row["video_id"]: row for row in csv.DictReader(scores_csv(VIDEOS, 1.0).splitlines())}
    assert set(rows) == set("abcde")
    assert rows["b"]["worst_moments_s"] == "1.0:0.818 0.0:0.622"
    assert rows["b"]["probability"] == "0.731059"
    assert (rows["b"]["logit"], rows["e"]["logit"]) == ("1.0", "")
    assert "0.25" in [row["logit"] for row in csv.DictReader(scores_csv(VIDEOS, 4.0).splitlines())]
    assert (rows["e"]["probability"], rows["e"]["reason"]) == ("", "no_face")


def test_files_are_written_for_each_split(tmp_path):
    validation = [
        scored("v", 0, (-1.0,), split="validation"),
        scored("w", 1, (1.0,), split="validation", method="swap"),
    ]
    summaries = evaluate(
        [*VIDEOS, *validation], 1.0, SETTINGS, HISTORY, tmp_path / "metrics", tmp_path / "plots",
        NullTracker(),
    )  # fmt: skip
    written = json.loads((tmp_path / "metrics/test.json").read_text())
    assert written == json.loads(json.dumps(summaries["test"]))
    assert json.loads((tmp_path / "metrics/validation.json").read_text())["videos"] == 2
    assert len((tmp_path / "metrics/scores.csv").read_text().splitlines()) == 8
    assert list((tmp_path / "plots/evaluation").glob("*.png"))
    assert (tmp_path / "plots/training/training.png").is_file()
    summary = json.loads((tmp_path / "metrics/summary.json").read_text())
    assert summary["test"]["roc_auc"] == written["video"]["roc_auc"]["value"]
    assert summary["test"]["coverage"] == 0.8
    assert set(summary) == {"validation", "test"}
    assert "0.750 [" in table(summaries)
