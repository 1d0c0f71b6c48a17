"""A detector's files: what is written is read, and what was changed is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from unmask.errors import DatasetError
from unmask.evaluation.benchmarks import scores_file
from unmask.evaluation.benchmarks.scores_file import Detector, FrameScores, ScoreRow, Scores
from unmask.records import VideoRecord

ROWS = (
    ScoreRow("a", 0, "ann", "real", "c23", probability=0.1 + 0.2, verdict="real"),
    ScoreRow("b", 1, "bob", "swap", "c23", "net,1", probability=1e-300, doubts=("one", "two")),
    ScoreRow("=c\r\u2028d", 1, "ann\n", "'=swap", reason="no_face", verdict="inconclusive"),
)
DETECTOR = Detector(
    "x-1.0", "probability", version="v1", trained_on=("ff++", "dfdc"), licence="MIT",
    origin="imported", notes={"score": "fake_prob"},
)  # fmt: skip
FRAMES = {"a": FrameScores(("0", "1.5 s"), (0.25, -3.5))}


def put(tmp_path: Path, **changes: Any) -> scores_file.Place:
    scores = Scores("celeb", DETECTOR, sorted(ROWS, key=lambda row: row.video_id), FRAMES)
    place = scores_file.detector_place(tmp_path, "celeb", "x-1.0")
    scores_file.write(place, dataclasses.replace(scores, **changes))
    return place


def test_what_is_written_is_read_to_the_last_digit(tmp_path: Path) -> None:
    found = scores_file.read(put(tmp_path))
    assert {row.video_id: row for row in found.rows} == {row.video_id: row for row in ROWS}
    assert (found.benchmark, found.detector, found.frames) == ("celeb", DETECTOR, FRAMES)
    header, first = (tmp_path / "detectors/celeb/x-1.0.csv").read_bytes().split(b"\n")[:2]
    assert header.decode() == ",".join(scores_file.COLUMNS)
    assert first.startswith(b"\"'=c\r")  # no spreadsheet takes it for a formula


@pytest.mark.parametrize(
    ("scale", "row", "rank"),
    [
        ("probability", ScoreRow("a", 0, "s", "real", probability=0.25), 0.25),
        ("logit", ScoreRow("a", 0, "s", "real", probability=0.5, logit=0.0), 0.0),
        ("ranking", ScoreRow("a", 0, "s", "real", score=-17.5), -17.5),
        ("ranking", ScoreRow("a", 0, "s", "real", reason="not_given"), None),
    ],
)
def test_a_video_is_ranked_by_the_number_of_its_scale(
    scale: Any, row: ScoreRow, rank: float | None, tmp_path: Path
) -> None:
    detector = dataclasses.replace(DETECTOR, scale=scale)
    (found,) = scores_file.read(put(tmp_path, detector=detector, rows=[row], frames={})).rows
    assert found == row
    assert found.rank == rank


def test_frames_of_an_earlier_run_go(tmp_path: Path) -> None:
    place = put(tmp_path)
    assert place.frames.is_file()
    put(tmp_path, frames={})
    assert not place.frames.exists()
    assert scores_file.read(place).frames == {}


def test_the_digest_of_a_list_is_of_ids_labels_sources_and_methods(tmp_path: Path) -> None:
    records = [
        VideoRecord(row.video_id, f"{n}.mp4", row.label, row.source_id, row.method, "test")
        for n, row in enumerate(ROWS)
    ]
    wanted = scores_file.list_digest(ROWS)
    assert (
        scores_file.list_digest(records[::-1])
        == wanted
        == scores_file.read(put(tmp_path)).list_sha256
    )
    for name, value in (("video_id", "z"), ("label", 0), ("source_id", "z"), ("method", "z")):
        other = [*ROWS[:-1], dataclasses.replace(ROWS[-1], **{name: value})]
        assert scores_file.list_digest(other) != wanted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"probability": 1.5}, "not in [0, 1]"),
        ({"probability": float("nan")}, "not finite"),
        ({"probability": None}, "either a score or a reason"),
        ({"reason": "no_face"}, "either a score or a reason"),
        ({"logit": 0.0}, "should have probability"),
        ({"label": 2}, "neither 0 nor 1"),
        ({"verdict": "sure"}, "the verdict 'sure'"),
        ({"doubts": ("a|b",)}, "a doubt holds"),
    ],
)
def test_a_row_that_breaks_the_scale_is_not_written(
    changes: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError) as caught:
        put(tmp_path, rows=[dataclasses.replace(ROWS[0], **changes)])
    assert said in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_a_video_that_is_there_twice_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="twice"):
        put(tmp_path, rows=[ROWS[0], ROWS[0]])


@pytest.mark.parametrize(
    "frames",
    [
        {"z": FrameScores(("0",), (0.5,))},
        {"a": FrameScores((), ())},
        {"a": FrameScores(("0",), (float("inf"),))},
    ],
)
def test_frames_of_no_video_or_without_a_score_are_not_written(frames: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        put(tmp_path, frames=frames)


def test_files_that_were_changed_are_refused(tmp_path: Path) -> None:
    place = put(tmp_path)
    for path in (place.scores, place.frames):
        whole = path.read_bytes()
        path.unlink()
        path.write_bytes(whole.replace(b"0.", b"0.9", 1) if path == place.scores else whole + b"\n")
        with pytest.raises(DatasetError, match="SHA-256 differs"):
            scores_file.read(place)
        path.write_bytes(whole)
    about = json.loads(place.detector.read_text())
    for changed in (
        about | {"format": 2}, about | {"list_sha256": "0" * 64}, about | {"detector": []},
        about | {"detector": about["detector"] | {"scale": "percent"}}, [],
    ):  # fmt: skip
        place.detector.write_text(json.dumps(changed))
        with pytest.raises(DatasetError, match="again"):
            scores_file.read(place)
    place.detector.write_text(json.dumps(about))
    place.scores.unlink()
    with pytest.raises(DatasetError, match=r"can't be read \(No such file"):
        scores_file.read(place)


@pytest.mark.parametrize("name", ["", "-x", "../x", "a/b", "a b", "x\n", "x" * 101, ".x"])
def test_a_name_that_could_not_be_a_files_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Give it another name"):
        scores_file.detector_place(tmp_path, "celeb", name)
    with pytest.raises(DatasetError, match="Give it another name"):
        scores_file.pipeline_place(tmp_path, name)


def test_the_pipelines_scores_come_first(tmp_path: Path) -> None:
    assert scores_file.places(tmp_path, "celeb") == []
    other = put(tmp_path)
    assert scores_file.places(tmp_path, "celeb") == [other]
    ours = scores_file.pipeline_place(tmp_path, "celeb")
    scores_file.write(ours, Scores("celeb", dataclasses.replace(DETECTOR, name="model"), ROWS))
    assert scores_file.places(tmp_path, "celeb") == [ours, other]
