"""By clip against by source: who stands where, that nothing else differs, what the numbers mean."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.models.test_train import make_chunk, small_settings
from unmask import params
from unmask.errors import UnmaskError
from unmask.evaluation.split_study import (
    WAYS,
    HeldOut,
    deal,
    leave_out,
    run,
    side,
    summarise,
    table,
    write,
)
from unmask.records import VideoRecord
from unmask.scoring import metrics

EVALUATE = params.Evaluate(bootstrap_resamples=200, seed=1)


def listed(sources=20, fakes=2):
    """Return the records of a chunk: each source has a real video and some fakes."""
    rows = [
        VideoRecord(f"{source}_{number}", "", int(number > 0), f"s{source}", "m", "train")
        for source in range(sources)
        for number in range(fakes + 1)
    ]
    return {("c", row.video_id): row for row in rows}


def test_by_source_a_group_has_one_fold_and_by_clip_classes_are_dealt_evenly():
    records = listed()
    swap = VideoRecord("swap", "", 1, "s0", "m", "train", donors=("s1",))
    records["c", "swap"] = swap
    by_source = deal(records, "source", 5, seed=1)
    folds_of = {}
    for place, record in records.items():
        folds_of.setdefault(record.source_id, set()).add(by_source[place])
    assert all(len(folds) == 1 for folds in folds_of.values())
    assert folds_of["s0"] == folds_of["s1"]
    by_clip = deal(records, "clip", 5, seed=1)
    counts = Counter((records[place].label, fold) for place, fold in by_clip.items())
    assert set(counts.values()) <= {4, 8, 9}  # 20 real, 41 fakes
    assert max(Counter(by_source.values()).values()) - min(Counter(by_source.values()).values()) < 4
    assert deal(records, "clip", 5, seed=2) != by_clip


def test_each_fold_is_the_test_once_and_validation_once():
    sides = [[side(fold, turn, 4) for fold in range(4)] for turn in range(4)]
    assert all(Counter(turn) == {"train": 2, "validation": 1, "test": 1} for turn in sides)
    assert all(Counter(fold)["test"] == 1 for fold in zip(*sides, strict=True))


@pytest.mark.parametrize(("sources", "folds"), [(2, 3), (20, 2)])
@pytest.mark.parametrize("way", WAYS)
def test_too_few_groups_or_folds_are_refused(sources, folds, way):
    with pytest.raises(UnmaskError, match=f"{folds} folds of {sources} groups"):
        deal(listed(sources), way, folds, seed=1)


def test_the_study_trains_both_ways_and_goes_on_from_what_is_done(tmp_path):
    chunk = make_chunk(tmp_path / "crops", splits=("train",) * 4 + ("validation",) * 3 + ("test",))
    (chunk,) = leave_out([chunk], {"test"})

    def study():
        found = {way: [] for way in WAYS}
        turns = run(
            [chunk], small_settings(epochs=1), tmp_path / "scratch", folds=3, seed=1, workers=0,
            weights_cache=tmp_path,
        )  # fmt: skip
        for way, rows in turns:
            found[way] += rows
        return found

    first = study()
    assert sorted(path.suffix for path in (tmp_path / "scratch").iterdir()) == [".csv"] * 6
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "scratch").iterdir()}
    assert study() == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "scratch").iterdir()} == written
    ids = {record.video_id for record in chunk.records}
    assert "real7" not in ids
    for way in WAYS:
        assert sorted(row.video_id for row in first[way]) == sorted(ids)
    assert not any(row.source_trained_on for row in first["source"])
    assert any(row.source_trained_on for row in first["clip"])
    summary = summarise(first, EVALUATE)
    assert (summary["videos"], summary["scored"], summary["sources"]) == (15, 14, 7)
    write(summary, tmp_path / "out")
    assert (tmp_path / "out/split_study.png").read_bytes().startswith(b"\x89PNG")
    assert "| by source (ours) | 0% |" in table(summary)


def answers(way, noise):
    rng = np.random.default_rng(7)
    return [
        HeldOut("c", f"{source}_{label}", f"s{source}", label,
               float(np.clip(0.5 + 0.2 * (2 * label - 1) + noise * rng.normal(), 0, 1)),
               way == "clip")
        for source in range(30) for label in (0, 1)
    ]  # fmt: skip


def test_a_way_that_scores_better_shows_it_and_one_that_scores_the_same_does_not():
    good, bad = answers("clip", 0.1), answers("source", 0.5)
    summary = summarise({"clip": good, "source": bad}, EVALUATE)
    labels, scores = zip(*((row.label, row.probability) for row in good), strict=True)
    assert summary["clip"]["roc_auc"]["value"] == metrics.METRICS["roc_auc"](labels, scores)
    assert summary["clip_minus_source"]["roc_auc"]["low"] > 0
    assert summary["clip_minus_source"]["log_loss"]["high"] < 0
    same = summarise({"clip": good, "source": good}, EVALUATE)["clip_minus_source"]
    assert same["roc_auc"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_video_that_one_way_lacks_is_refused_and_one_without_a_score_is_left_out_of_both():
    rows = answers("clip", 0.3)
    with pytest.raises(UnmaskError, match="every video once"):
        summarise({"clip": rows, "source": rows[1:]}, EVALUATE)
    blind = [replace(rows[0], probability=None), *rows[1:]]
    assert summarise({"clip": blind, "source": rows}, EVALUATE)["scored"] == len(rows) - 1


def test_a_paired_interval_is_that_of_the_difference():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 60)
    scores, groups = np.clip(labels * 0.3 + rng.random(120) * 0.6, 0, 1), np.arange(120) // 2
    shifted = np.clip(scores + rng.normal(0, 0.02, 120), 0, 1)
    loss = metrics.METRICS["log_loss"]
    paired = metrics.paired_interval(
        loss, labels, shifted, scores, groups, resamples=500, seed=1
    )  # fmt: skip
    alone = metrics.bootstrap_interval(loss, labels, scores, groups, resamples=500, seed=1)
    assert paired.low <= loss(labels, shifted) - loss(labels, scores) <= paired.high
    assert paired.high - paired.low < (alone.high - alone.low) / 2
