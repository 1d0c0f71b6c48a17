"""Detectors' files of one list come together; of two lists, two names, two truths they do not."""

import dataclasses
import json
from pathlib import Path

import detectors
import pytest

from unmask.errors import DatasetError
from unmask.evaluation.benchmarks import gather, scores_file
from unmask.evaluation.benchmarks.scores_file import Scores
from unmask.records import VideoRecord


def test_the_pipelines_model_comes_first_and_names_are_found(tmp_path: Path) -> None:
    detectors.put(tmp_path, "alpha", detectors.POOR)
    detectors.put(tmp_path, "model", detectors.GOOD)
    detectors.put(tmp_path, "alpha", detectors.GOOD, benchmark="dfdc")
    assert gather.names(tmp_path) == ["celeb", "dfdc"]
    found = gather.read(tmp_path, "celeb")
    assert [each.detector.name for each in found.detectors] == ["model", "alpha"]
    assert {video.video_id: video.label for video in found.videos} == dict(
        zip(detectors.IDS, detectors.LABELS, strict=True)
    )
    assert found.looks is gather.NO_LOOKS
    with pytest.raises(DatasetError, match="There are scores on: celeb, dfdc"):
        gather.read(tmp_path, "celebs")


def test_scores_of_another_list_are_refused(tmp_path: Path) -> None:
    place = detectors.put(tmp_path, "alpha", detectors.POOR)
    detectors.put(tmp_path, "model", detectors.GOOD)
    listed = [
        VideoRecord(
            row.video_id, f"{row.video_id}.mp4", row.label, row.source_id, row.method, "test"
        )
        for row in detectors.rows_of(detectors.GOOD)
    ]
    assert gather.read(tmp_path, "celeb", listed).name == "celeb"
    with pytest.raises(
        DatasetError, match=r"model, alpha scored on another list .* that it has now"
    ):
        gather.read(tmp_path, "celeb", listed[:-1])
    found = scores_file.read(place)
    changed = [dataclasses.replace(found.rows[0], label=0), *found.rows[1:]]
    scores_file.write(place, Scores("celeb", found.detector, changed))
    with pytest.raises(DatasetError, match=r"alpha scored on another list of .* as model was"):
        gather.read(tmp_path, "celeb")


def test_two_of_one_name_and_files_of_another_benchmark_are_refused(tmp_path: Path) -> None:
    place = detectors.put(tmp_path, "alpha", detectors.GOOD)
    other = scores_file.pipeline_place(tmp_path, "celeb")
    scores_file.write(other, scores_file.read(place))
    with pytest.raises(DatasetError, match="two are called alpha"):
        gather.read(tmp_path, "celeb")
    found = scores_file.read(place)
    scores_file.write(
        other, Scores("dfdc", dataclasses.replace(found.detector, name="b"), found.rows)
    )
    with pytest.raises(DatasetError, match="it was scored on dfdc"):
        gather.read(tmp_path, "celeb")


def test_conditions_are_whoevers_says_them_unless_two_disagree(tmp_path: Path) -> None:
    detectors.put(tmp_path, "alpha", detectors.GOOD)
    place = detectors.put(tmp_path, "beta", detectors.GOOD)
    found = scores_file.read(place)
    without = [dataclasses.replace(row, compression="") for row in found.rows]
    scores_file.write(place, Scores("celeb", found.detector, without))
    videos = gather.read(tmp_path, "celeb").videos
    assert {v.video_id: v.compression for v in videos}["r1"] == "c40"
    other = [dataclasses.replace(row, compression="raw") for row in found.rows]
    scores_file.write(place, Scores("celeb", found.detector, other))
    with pytest.raises(DatasetError, match="disagree on the compression of 'a0': c23 and raw"):
        gather.read(tmp_path, "celeb")


def test_looks_are_read_with_their_words_and_directions(tmp_path: Path) -> None:
    detectors.put(tmp_path, "model", detectors.GOOD)
    path = detectors.put_looks(tmp_path)
    looks = gather.read(tmp_path, "celeb").looks
    assert list(looks.values) == ["face_px", "sharpness", "file_bytes", "frozen_net"]
    assert looks.values["face_px"]["r1"] == 200.0
    assert "b1" not in looks.values["file_bytes"]
    assert (looks.words, looks.directions) == ({}, {})
    rows = [
        {"name": "face_px", "words": "face width (px)", "fakes_have": "less"},
        {"name": "frozen_net", "words": "a net", "fakes_have": None},
    ]
    plain = {"rows": rows, "direction_from": "training videos"}
    summary = tmp_path / "benchmarks/celeb.json"
    summary.write_text(json.dumps({"video": {}, "details": [{"without_detector": plain}]}))
    looks = gather.read(tmp_path, "celeb").looks
    assert looks.words["face_px"] == "face width (px)"
    assert looks.directions == {"face_px": -1}
    summary.write_text("[]")
    with pytest.raises(DatasetError, match="what the pipeline says of a benchmark"):
        gather.read(tmp_path, "celeb")
    summary.unlink()
    for damaged in (
        "video_id,face_px\nzz,1\n",
        "video_id,face_px\nr0,nan\n",
        "face_px\n1\n",
        "\xff",
    ):
        path.write_text(damaged, encoding="latin-1")
        with pytest.raises(DatasetError, match="dvc repro benchmark@celeb"):
            gather.read(tmp_path, "celeb")


def test_it_is_said_whose_test_videos_they_are_and_what_is_missing(tmp_path: Path) -> None:
    def chosen(details: object) -> str:
        summary.write_text(json.dumps({"video": {}, "details": [details]}))
        return gather.read(tmp_path, "celeb").chosen

    detectors.put(tmp_path, "other", detectors.POOR)
    summary = tmp_path / "benchmarks/celeb.json"
    summary.parent.mkdir()
    official = {
        "by": "official protocol", "taken": 259, "of": 6529, "protocol": "celeb-df-v2",
        "version": 1, "named": 518, "missing": 259, "list_sha256": "0",
    }  # fmt: skip
    assert chosen({"chosen": official}) == ""  # an older list's: the pipeline has no scores
    detectors.put(tmp_path, "model", detectors.GOOD)
    assert chosen({"chosen": official}) == (
        "official protocol celeb-df-v2, version 1, of which 259 of 518 videos are missing"
    )
    left = {"file": 1, "pictures": 2, "identity": 0}
    assert chosen({"chosen": {"by": "all videos"}, "left_out": left}) == (
        "all videos, without 3 of which training has seen something"
    )
    assert chosen({}) == ""
    for damaged in ({"chosen": "all"}, {"chosen": {"by": "a", "protocol": "p"}}, 7):
        with pytest.raises(DatasetError, match="not what the pipeline writes"):
            chosen(damaged)
