"""What is said of a model that ranks worse than the width of a face, and of one that doesn't."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unmask import params
from unmask.errors import DatasetError
from unmask.evaluation import baselines
from unmask.evaluation.baselines import Seen
from unmask.evaluation.looks import Look
from unmask.records import Chunk, FaceTrack, VideoFaces, VideoRecord
from unmask.tracking.tracker import NullTracker
from unmask.video.encode import write_video

SETTINGS = params.load().evaluate.model_copy(update={"bootstrap_resamples": 200})


def seen(label, score, *, width=100.0, sharpness=0.1, group=None, feature=0.0, **quantities):
    """Return a video with these quantities and two pictures of one feature."""
    known = {"face_px": width, "sharpness": sharpness, "grain": 1.0, **quantities}
    look = Look(known, np.full((2, 1), feature, np.float32))
    method = "swap" if label else "real"
    return Seen("wild", method, label, group or f"{label}{score}{width}", score, look)


# The fakes' faces are wider; the model ranks by nothing.
BLIND = [
    seen(n % 2, 0.5 + (n // 2) / 100, width=100.0 + n % 2 * 60 + n, group=f"p{n // 2}")
    for n in range(40)
]
GOOD = [seen(v.label, 0.1 + 0.8 * v.label, width=100.0, group=v.group) for v in BLIND]


def rows_of(summary):
    """Return the rows by name."""
    return {row["name"]: row for row in summary["rows"]}


def test_a_model_below_the_width_of_a_face_is_told_so():
    summary = baselines.summarise(BLIND, None, SETTINGS)
    width = rows_of(summary)["face_px"]
    assert summary["model"]["roc_auc"]["value"] == 0.5
    assert width["roc_auc"]["value"] == 1.0
    assert width["fakes_have"] == "more"
    assert width["above_model"]["value"] == 0.5
    assert width["above_model"]["low"] > 0
    assert summary["above_model"] == ["face_px"]
    [said] = baselines.warnings_of(summary)
    assert "face width (px) (more in fakes) alone ranks these videos better than the model" in said
    shown = baselines.table("wild", summary)
    assert "The model is NOT SHOWN TO BE BETTER THAN CHANCE (0.5). It is BELOW what needs" in shown
    assert "BELOW what needs no detector: face width (px). It is not shown to be better" in shown
    assert f"WARNING: {said}." in shown
    [line] = [line for line in shown.splitlines() if line.startswith("face width")]
    assert "ABOVE THE MODEL" in line


def test_a_model_that_sees_more_is_not_warned_of():
    summary = baselines.summarise(GOOD, None, SETTINGS)
    assert summary["above_model"] == []
    assert baselines.warnings_of(summary) == []
    assert rows_of(summary)["grain"]["above_model"]["value"] == -0.5
    assert "The model is better than each of these" in baselines.table("wild", summary)
    assert "WARNING" not in baselines.table("wild", summary)


def test_a_model_that_is_level_with_something_is_told_that_nothing_shows_it_to_be_better():
    by_width = [seen(v.label, v.look.quantities["face_px"], width=v.look.quantities["face_px"],
                     group=v.group) for v in BLIND]  # fmt: skip
    summary = baselines.summarise(by_width, None, SETTINGS)
    assert set(rows_of(summary)["face_px"]["above_model"].values()) == {0.0}
    assert baselines.verdict_on(summary) == "It is not shown to be better than face width (px)."
    one_source = [replace(video, group="one") for video in GOOD]
    said = baselines.verdict_on(baselines.summarise(one_source, None, SETTINGS))
    assert said.startswith(
        "The model is NOT SHOWN TO BE BETTER THAN CHANCE (0.5). It is not shown to be better than "
        "face width (px), sharpness, grain"
    )


def test_what_fakes_have_less_of_is_told_in_its_direction():
    narrow = [replace(v, label=1 - v.label) for v in BLIND]
    summary = baselines.summarise(narrow, None, SETTINGS)
    assert rows_of(summary)["face_px"]["roc_auc"]["value"] == 0.0
    [said] = baselines.warnings_of(summary)
    assert said.startswith("face width (px) (less in fakes) alone")
    assert "AUC 1.000 [1.000, 1.000] against 0.500" in said


def test_an_auc_is_of_the_quantity_as_it_is_and_its_direction_is_the_training_videos():
    fewer = [seen(label, score, width=width, group=f"{n}")
             for n, (label, score, width) in enumerate([
                 (0, 0.1, 200.0), (0, 0.9, 190.0), (1, 0.2, 90.0), (1, 0.8, 195.0)])]  # fmt: skip
    summary = baselines.summarise(fewer, None, SETTINGS)
    width = rows_of(summary)["face_px"]
    # Of four pairs the wider one is the fake in one: 195 against 190.
    assert width["roc_auc"]["value"] == 0.25
    assert width["fakes_have"] == "less"
    assert summary["direction_from"] == "these videos"
    assert width["above_model"]["value"] == 0.75 - 0.5
    # Trained on videos where fakes are wider, that direction counts, though it is wrong here.
    learned = baselines.learn([seen(0, None, width=100.0), seen(1, None, width=150.0)])
    told = baselines.summarise(fewer, learned, SETTINGS)
    width = rows_of(told)["face_px"]
    assert told["direction_from"] == "training videos"
    assert width["roc_auc"]["value"] == 0.25
    assert width["fakes_have"] == "more"
    assert width["above_model"]["value"] == 0.25 - 0.5


def test_pairs_of_like_quality_are_counted_and_ranked():
    some = [
        seen(1, 0.9, width=100.0), seen(1, 0.2, width=400.0),
        seen(0, 0.5, width=110.0), seen(0, 0.95, width=120.0), seen(0, 0.1, width=900.0),
    ]  # fmt: skip
    summary = baselines.summarise(some, None, SETTINGS)
    assert summary["matched"] == {
        "pairs": 2, "fakes": 1, "reals": 2, "max_width_ratio": 1.3, "max_log_sharpness": 0.7,
    }  # fmt: skip
    assert summary["model"]["matched_roc_auc"]["value"] == 0.5  # .9 beats .5 and not .95
    assert rows_of(summary)["face_px"]["matched_roc_auc"]["value"] == 0.0
    assert "The pairs: 2, of 1 fakes and 2 real" in baselines.table("wild", summary)


def test_a_quantity_that_few_have_is_ranked_among_them():
    some = [seen(1, 0.9, file_bytes=10.0), seen(0, 0.1, file_bytes=5.0), seen(0, 0.2)]
    row = rows_of(baselines.summarise(some, None, SETTINGS))["file_bytes"]
    assert (row["videos"], row["roc_auc"]["value"]) == (2, 1.0)
    none = rows_of(baselines.summarise(some, None, SETTINGS))["bits_per_s"]
    assert (none["videos"], none["roc_auc"]["value"]) == (0, None)


def test_only_videos_that_the_model_answered_are_compared():
    some = [*GOOD, seen(1, None, width=1.0), seen(0, None, width=999.0)]
    assert baselines.summarise(some, None, SETTINGS)["videos"] == len(GOOD)
    unasked = [seen(video.label, None, width=video.look.quantities["face_px"]) for video in BLIND]
    alone = baselines.summarise(unasked, None, SETTINGS)
    assert alone["videos"] == len(BLIND)
    assert rows_of(alone)["face_px"]["roc_auc"]["value"] == 1.0
    assert alone["above_model"] == []
    assert "Not compared with the model." in baselines.table("wild", alone)


def test_nothing_to_compare_is_an_error():
    with pytest.raises(DatasetError, match="takes videos with a face; none was found"):
        baselines.summarise([], None, SETTINGS)


def test_one_class_is_measured_as_none():
    summary = baselines.summarise([v for v in GOOD if v.label == 0], None, SETTINGS)
    assert {row["roc_auc"]["value"] for row in summary["rows"]} == {None}
    assert summary["above_model"] == []
    assert baselines.learn([v for v in GOOD if v.label == 0]) is None


# ---------------------------------------------------------------- the frozen net


def test_the_frozen_net_ranks_by_what_the_training_videos_taught():
    trained = [seen(label, None, feature=label + n / 100) for label in (0, 1) for n in range(20)]
    learned = baselines.learn(trained)
    assert learned is not None
    tested = [seen(label, 0.5, feature=0.7 * label, group=f"{n}") for n, label in
              enumerate([0, 1] * 10)]  # fmt: skip
    row = rows_of(baselines.summarise(tested, learned, SETTINGS))["frozen_net"]
    assert row["roc_auc"]["value"] == 1.0
    assert row["above_model"]["value"] == 0.5


def test_without_training_videos_it_is_fitted_without_the_person_it_ranks():
    # Each person's feature is their own, and says nothing of others: a model that had seen them
    # would be right of all.
    rng = np.random.default_rng(0)
    some = []
    for person in range(60):
        feature = rng.normal()
        some += [seen(person % 2, 0.5, feature=feature, group=f"p{person}") for _ in range(3)]
    logits = baselines.cross_fitted_logits(some)
    assert None not in logits
    auc = baselines.roc_auc([video.label for video in some], logits)
    assert 0.3 < auc < 0.7
    by_group = {}
    for video, logit in zip(some, logits, strict=True):
        by_group.setdefault(video.group, set()).add(logit)
    assert all(len(found) == 1 for found in by_group.values())  # one feature, one fold


# ---------------------------------------------------------------- chunks and files


class RedNet:
    """A picture's feature is its mean red."""

    def features(self, frames_THWC):
        """Return a row for each picture."""
        return frames_THWC[..., 0].mean((1, 2))[:, None].astype(np.float32)


@pytest.fixture
def chunk(tmp_path: Path) -> Chunk:
    """Return a chunk of one person's video in each split and one without a face; fakes are red."""
    faces_dir, videos = tmp_path / "faces", tmp_path / "raw/wild/videos"
    faces_dir.mkdir()
    videos.mkdir(parents=True)
    records, faces = [], {}
    for split in ("train", "validation", "test"):
        for label in (0, 1):
            name = f"{split}{label}"
            crop = np.full((64, 64, 3), (220 if label else 60, 90, 90), np.uint8)
            write_video(faces_dir / f"{name}.mp4", [crop] * 6, rate_fps=10.0, crf=4)
            write_video(videos / f"{name}.mp4", [crop] * 6, rate_fps=10.0, crf=4)
            method = "swap" if label else "real"
            records.append(VideoRecord(name, f"{name}.mp4", label, split, method, split))
            times = tuple(n / 10 for n in range(6))
            box = (0.0, 0.0, 120.0, 120.0)
            track = FaceTrack(0, f"{name}.mp4", times, (box,) * 6, (1.0,) * 6)
            faces[name] = VideoFaces(name, "", (track,))
    records.append(VideoRecord("empty", "empty.mp4", 0, "empty", "real", "test"))
    faces["empty"] = VideoFaces("empty", "", ())
    return Chunk("wild", records, faces, faces_dir)


def test_a_chunk_is_looked_at_split_by_split(chunk: Chunk, tmp_path: Path):
    scores = {("wild", "test0"): 0.25, ("wild", "test1"): 0.5}
    found = list(
        baselines.look_at_chunks(
            [chunk], tmp_path / "raw", scores, RedNet(), margin_ratio=0.1, workers=1
        )
    )
    assert [split for split, _ in found] == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    test = [video for split, video in found if split == "test"]
    assert [video.score for video in test] == [0.25, 0.5]
    assert [video.group for video in test] == ["test", "test"]
    size = (tmp_path / "raw/wild/videos/test1.mp4").stat().st_size
    assert test[1].look.quantities["file_bytes"] == size
    assert test[1].look.quantities["bits_per_s"] == pytest.approx(8 * size / 0.6, rel=0.01)
    learned = baselines.learn([video for split, video in found if split == "train"])
    assert learned is not None
    low, high = baselines.linear_logits(learned.linear, test)
    assert low < 0 < high


def test_training_videos_are_taken_evenly_up_to_a_number(chunk: Chunk, monkeypatch):
    many = [
        VideoRecord(f"t{n}", "t.mp4", n % 2, f"t{n}", "swap" if n % 2 else "real", "train")
        for n in range(25)
    ]
    faces = chunk.faces | {record.video_id: VideoFaces(record.video_id, "", ()) for record in many}
    monkeypatch.setattr(baselines, "MOST_TRAINED", 10)
    chosen = baselines.choose([Chunk("wild", many + chunk.records, faces, chunk.faces_dir)])
    names = [record.video_id for _, record in chosen if record.split == "train"]
    assert names == ["t0", "t3", "t6", "t9", "t12", "t15", "t18", "t21", "t24"]
    # Both classes are among them, and nothing of the other splits is left out.
    assert sum(record.split != "train" for _, record in chosen) == 5


def test_answers_come_from_evaluates_table(tmp_path: Path):
    path = tmp_path / "scores.csv"
    path.write_text("chunk,video_id,probability,logit\nwild,a,1.000000,23.5\nwild,b,,\n")
    assert baselines.read_scores(path) == {("wild", "a"): 23.5}
    for broken in ("chunk,video_id\nwild,a\n", "chunk,video_id,logit\nwild,a,much\n"):
        path.write_text(broken)
        with pytest.raises(DatasetError, match="found no table of evaluate's"):
            baselines.read_scores(path)
    with pytest.raises(DatasetError, match="dvc repro evaluate"):
        baselines.read_scores(tmp_path / "gone.csv")


def test_the_file_of_metrics_has_a_small_head_for_tables(tmp_path: Path):
    summary = baselines.summarise(BLIND, None, SETTINGS)
    path = tmp_path / "baselines.json"
    baselines.write({"test": summary}, path, NullTracker())
    found = json.loads(path.read_text())
    assert found["baselines"]["test"] == {
        # A fake of 160 + n px matches real ones of 100 + m with m above n, whose scores are higher.
        "model_on_pairs_auc": 0.0,
        "frozen_net_auc": 0.5,
        "strongest_quantity_auc": 1.0,
    }
    [split] = found["splits"]
    assert split["split"] == "test"
    assert split["above_model"] == ["face_px"]
    assert split["frozen_net"] == "efficientnet_lite0"
