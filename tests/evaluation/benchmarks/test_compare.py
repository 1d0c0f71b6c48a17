"""The numbers of a comparison: by hand, by scikit-learn, by one resample at a time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import detectors
import numpy as np
import pytest
import sklearn.metrics

from unmask.errors import DatasetError
from unmask.evaluation.benchmarks import compare, gather, measures
from unmask.evaluation.benchmarks.compared import MEASURES, Compared, Row
from unmask.evaluation.benchmarks.drawn import RANKING
from unmask.evaluation.benchmarks.scores_file import Detector, FrameScores, ScoreRow, Scores
from unmask.params import Evaluate
from unmask.scoring import delong, metrics
from unmask.scoring.scores import roc_auc

SETTINGS = Evaluate(bootstrap_resamples=60, seed=1)


def compared(tmp_path: Path, **options: Any) -> Compared:
    return compare.compare(gather.read(tmp_path, "celeb"), SETTINGS, **options)


def value(row: Row, name: str) -> float | None:
    return row.measures[name]["value"]


def test_a_detector_by_hand(tmp_path: Path) -> None:
    verdicts = ["real", "fake", "inconclusive", "real", "fake", "fake", "", "real"]
    frames = {"r0": FrameScores(("0", "1"), (0.1, 0.4)), "a0": FrameScores(("0", "1"), (0.3, 0.9))}
    detectors.put(tmp_path, "model", detectors.GOOD, verdicts=verdicts, frames=frames)
    found = compared(tmp_path)
    assert (found.videos, found.fakes, found.sources, found.pairs) == (8, 4, 4, 0)
    (row,) = found.rows
    assert set(row.measures) == set(MEASURES)
    assert value(row, "roc_auc") == 15 / 16
    assert value(row, "tpr_at_fpr_1") == value(row, "tpr_at_fpr_5") == 0.75  # three above 0.6
    assert value(row, "false_alarms") == 0.25  # one of four real videos
    assert value(row, "found") == pytest.approx(2 / 3)  # the video without a verdict is not judged
    assert value(row, "frame_auc") == 0.75  # .3 and .9 against .1 and .4: three of four
    assert value(row, "matched_auc") is None
    assert row.to_first is None
    assert row.saw_it is None
    groups = {(group.by, group.name): group.auc["value"] for group in row.groups}
    assert groups == {
        ("method", "blend"): 7 / 8, ("method", "swap"): 1.0,
        ("compression", "c23"): 1.0,  # 0.9 and 0.7 against 0.1 and 0.3
        ("compression", "c40"): 0.75,  # 0.8 and 0.4 against 0.2 and 0.6
    }  # fmt: skip
    assert row.worst is not None
    assert (row.worst.name, row.worst.fakes, row.worst.reals) == ("c40", 2, 2)


def test_metrics_agree_with_scikit_learn(tmp_path: Path) -> None:
    detectors.put(tmp_path, "model", detectors.POOR)
    (row,) = compared(tmp_path).rows
    labels, scores = np.array(detectors.LABELS), np.array(detectors.POOR)
    assert value(row, "roc_auc") == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores))
    wanted = sklearn.metrics.average_precision_score(labels, scores)
    assert value(row, "average_precision") == pytest.approx(wanted)
    assert value(row, "log_loss") == pytest.approx(sklearn.metrics.log_loss(labels, scores))


def test_a_difference_is_of_the_videos_that_both_scored(tmp_path: Path) -> None:
    partly = (None, *detectors.POOR[1:7], None)
    detectors.put(tmp_path, "model", detectors.GOOD)
    detectors.put(tmp_path, "partly", partly)
    first, row = compared(tmp_path).rows
    labels, good, poor = (
        np.array(each)[1:7] for each in (detectors.LABELS, detectors.GOOD, detectors.POOR)
    )
    assert row.scored == 6
    assert row.to_first is not None
    assert row.to_first.videos == 6
    assert row.to_first.auc["value"] == pytest.approx(roc_auc(labels, poor) - roc_auc(labels, good))
    assert row.to_first.p == pytest.approx(delong.compare(labels, poor, good).p)
    assert value(first, "roc_auc") == 15 / 16  # of all its own


def many(seed: int, count: int = 200) -> list[Scores]:
    """Return two detectors on videos of forty sources, at random."""
    rng = np.random.default_rng(seed)
    found = []
    for name in ("model", "other"):
        rows = [
            ScoreRow(f"v{n:03}", n % 3 % 2, f"s{n // 5}", "m" if n % 3 % 2 else "real",
                     probability=float(np.clip(rng.normal(0.4 + 0.2 * (n % 3 % 2), 0.2), 0, 1)))
            for n in range(count)
        ]  # fmt: skip
        found.append(Scores("celeb", Detector(name, "probability"), rows))
    return found


def test_intervals_are_those_of_redrawn_sources() -> None:
    scores = many(3)
    benchmark = gather.Benchmark("celeb", scores[0].rows, scores)
    first, other = compare.compare(benchmark, SETTINGS).rows
    labels, groups = [r.label for r in scores[0].rows], [r.source_id for r in scores[0].rows]
    ranks = [[row.rank or 0.0 for row in each.rows] for each in scores]
    draws = {"resamples": 60, "seed": 1}
    for name in ("roc_auc", "average_precision", "equal_error_rate", "log_loss"):
        wanted = metrics.measure(metrics.METRICS[name], labels, ranks[0], groups, **draws)
        assert first.measures[name] == pytest.approx(wanted, abs=1e-9), name
    apart = metrics.measure_difference(roc_auc, labels, ranks[1], ranks[0], groups, **draws)
    assert other.to_first is not None
    assert other.to_first.auc == pytest.approx(apart, abs=1e-9)


def test_the_summary_of_the_pipeline_has_the_same_numbers() -> None:
    [scores, _] = many(5, count=60)
    frames = {r.video_id: FrameScores(("0", "1"), (r.rank or 0.0, 0.5)) for r in scores.rows}
    # Nobody has scored the first two of twelve sources, which are drawn all the same.
    rows = [
        replace(row, probability=None, reason="no_face") if n < 10
        else replace(row, verdict="fake" if n % 7 < 3 else "real", compression=f"c{n % 2}")
        for n, row in enumerate(scores.rows)
    ]  # fmt: skip
    frames = {row.video_id: frames[row.video_id] for row in rows[10:]}
    ours = Scores("celeb", scores.detector, rows, frames)
    (row,) = compare.compare(gather.Benchmark("celeb", rows, [ours]), SETTINGS).rows
    found = measures.summarise(ours, SETTINGS)
    for name in (*RANKING, "log_loss"):
        assert found["video"][name] == row.measures[name], name
    assert found["clip"]["roc_auc"] == row.measures["frame_auc"]
    assert found["verdicts"]["false_alarms"] == row.measures["false_alarms"]
    groups = {group.name: group.auc for group in row.groups}
    for word in ("c0", "c1"):
        assert found["compressions"][word]["roc_auc"] == pytest.approx(groups[word], abs=1e-12)
    assert row.measures["roc_auc"]["low"] is not None


def test_p_is_not_told_where_no_auc_varies(tmp_path: Path) -> None:
    detectors.put(tmp_path, "model", (0.1, 0.2, None, None, 0.9, 0.8, None, None))
    detectors.put(tmp_path, "turned", (0.9, 0.8, None, None, 0.1, 0.2, None, None))
    detectors.put(tmp_path, "same", (0.1, 0.2, None, None, 0.9, 0.8, None, None))
    _, same, turned = compared(tmp_path).rows
    assert turned.to_first is not None
    assert (turned.to_first.auc["value"], turned.to_first.p) == (-1.0, None)
    assert same.to_first is not None
    assert (same.to_first.auc["value"], same.to_first.p) == (0.0, 1.0)


def test_what_needs_no_detector_stands_below_in_the_direction_of_fakes(tmp_path: Path) -> None:
    detectors.put(tmp_path, "model", detectors.GOOD)
    detectors.put_looks(tmp_path)
    found = compared(tmp_path)
    assert [row.words for row in found.rows] == [
        "model", "face px, the more", "sharpness, the more", "file bytes, the less", "frozen net",
    ]  # fmt: skip
    assert [row.is_detector for row in found.rows] == [True] + [False] * 4
    by_name = {row.detector.name: row for row in found.rows}
    assert value(by_name["face_px"], "roc_auc") == 0.5
    assert value(by_name["file_bytes"], "roc_auc") == 1.0  # fakes' files are smaller
    assert by_name["file_bytes"].scored == 7
    assert value(by_name["frozen_net"], "roc_auc") == 1.0
    # Only a source's two videos have faces of about one width: of four such pairs three are won.
    assert found.pairs == 4
    assert value(by_name["model"], "matched_auc") == 0.75
    assert value(by_name["frozen_net"], "log_loss") is None
    difference = by_name["frozen_net"].to_first
    assert difference is not None
    assert difference.auc["value"] == 1 / 16


def test_another_detector_can_be_the_first(tmp_path: Path) -> None:
    detectors.put(tmp_path, "model", detectors.GOOD)
    detectors.put(tmp_path, "other", detectors.POOR)
    found = compared(tmp_path, first="other")
    assert [row.words for row in found.rows] == ["other", "model"]
    compare.check_first("other", [gather.read(tmp_path, "celeb")])
    with pytest.raises(DatasetError, match="there are model, other"):
        compare.check_first("others", [gather.read(tmp_path, "celeb")])


def test_a_ranking_has_no_log_loss_and_one_class_no_auc(tmp_path: Path) -> None:
    detectors.put(tmp_path, "model", [1e6 * score for score in detectors.GOOD], scale="ranking")
    detectors.put(tmp_path, "reals", [*detectors.GOOD[:4], *[None] * 4])
    first, reals = compared(tmp_path).rows
    assert value(first, "roc_auc") == 15 / 16
    assert value(first, "log_loss") is None
    assert value(reals, "roc_auc") is None
    assert value(reals, "log_loss") is not None
    assert reals.to_first is not None
    assert (reals.to_first.auc["value"], reals.to_first.p) == (None, None)


def test_what_was_trained_on_is_known_in_other_spellings(tmp_path: Path) -> None:
    def saw(*trained_on: str, benchmark: str = "celeb-df_v2.zip") -> bool | None:
        detectors.put(tmp_path, "x", detectors.GOOD, benchmark=benchmark, trained_on=trained_on)
        [row] = compare.compare(gather.read(tmp_path, benchmark), SETTINGS).rows
        return row.saw_it

    assert saw("dfdc", "Celeb-DF (v2)") is True
    assert saw("celeb df v2.zip") is True
    assert saw("Celeb-DF") is False
    assert saw("ff++", benchmark="ff") is False
    assert saw() is False
