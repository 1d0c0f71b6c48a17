"""Other people's scores: what is read of them, and what is refused and why."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import pytest

from unmask.errors import DatasetError
from unmask.evaluation.benchmarks import imported, score_table
from unmask.evaluation.benchmarks.imported import Imported, Meaning
from unmask.evaluation.benchmarks.matching import Matcher
from unmask.evaluation.benchmarks.score_table import Columns
from unmask.records import VideoRecord

RECORDS = [
    VideoRecord("a", "a.mp4", 0, "ann", "real", "test"),
    VideoRecord("b", "b.mp4", 1, "ann", "swap", "test"),
    VideoRecord("c", "c.mp4", 1, "cy", "swap", "test"),
]
BY_ID = Columns("score", video_id="id")
PROBABILITIES = Meaning("probability", "fake")


def take(
    tmp_path: Path,
    content: str | bytes,
    columns: Columns = BY_ID,
    meaning: Meaning = PROBABILITIES,
    **options: Any,
) -> Imported:
    path = tmp_path / "scores.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return imported.read(path, Matcher(RECORDS), RECORDS, columns, meaning, **options)


WHOLE = "id,score\nc,0.75\na,0.1\nb,1\n"


def test_every_video_gets_its_score_and_the_benchmarks_truth(tmp_path: Path) -> None:
    found = take(tmp_path, WHOLE)
    assert [(row.video_id, row.probability, row.label) for row in found.rows] == [
        ("a", 0.1, 0), ("b", 1.0, 1), ("c", 0.75, 1),
    ]  # fmt: skip
    assert [(row.source_id, row.method) for row in found.rows] == [
        ("ann", "real"), ("ann", "swap"), ("cy", "swap"),
    ]  # fmt: skip
    assert (found.row_count, found.unmatched_count, found.missing, found.frames) == (3, 0, [], {})
    assert found.sha256 == hashlib.sha256(WHOLE.encode()).hexdigest()


def test_excels_mark_and_line_ends_and_other_delimiters_are_read(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode()
    assert [row.rank for row in take(tmp_path, content).rows] == [0.1, 1.0, 0.75]
    content = b"junk;id;score\r\n" + b"".join(b"x;%c;0.5\r\n\r\n" % name for name in b"abc")
    assert len(take(tmp_path, content, delimiter=";").rows) == 3


@pytest.mark.parametrize(
    ("meaning", "wanted"),
    [
        (Meaning("probability", "real"), {"probability": 0.75}),
        (Meaning("logit", "fake"), {"logit": 0.25, "probability": 0.5621765008857981}),
        (Meaning("logit", "real"), {"logit": -0.25, "probability": 0.43782349911420193}),
        (Meaning("ranking", "real"), {"score": -0.25}),
    ],
)
def test_a_number_means_what_it_is_said_to(
    meaning: Meaning, wanted: dict[str, float], tmp_path: Path
) -> None:
    row = take(tmp_path, "id,score\na,0.25\nb,0.5\nc,0.5\n", meaning=meaning).rows[0]
    found = {name: getattr(row, name) for name in ("probability", "logit", "score")}
    assert {name: value for name, value in found.items() if value is not None} == pytest.approx(
        wanted
    )


def test_a_threshold_makes_verdicts(tmp_path: Path) -> None:
    meaning = Meaning("probability", "real", threshold=0.3)
    rows = take(tmp_path, "id,score\na,0.4\nb,0.3\nc,0.1\n", meaning=meaning).rows
    assert [row.verdict for row in rows] == ["real", "fake", "fake"]


@pytest.mark.parametrize(("pool", "pooled"), [("mean", 0.5), ("max", 0.9)])
def test_frames_make_a_videos_score(pool: Any, pooled: float, tmp_path: Path) -> None:
    content = "id,frame,score\na,0,0.1\nb,7,0.9\na,1,0.9\nb,3,\nc,0,0.2\na,2,0.5\n"
    columns = Columns("score", video_id="id", frame="frame")
    found = take(tmp_path, content, columns, Meaning("probability", "fake", pool=pool))
    assert found.rows[0].probability == pytest.approx(pooled)
    assert found.frames["a"].names == ("0", "1", "2")
    assert found.frames["a"].scores == (0.1, 0.9, 0.5)
    assert found.frames["b"].names == ("7",)  # the other has no score


def test_rows_of_other_videos_are_counted_and_the_first_named(tmp_path: Path) -> None:
    content = WHOLE + "".join(f"train_{n},0.5\n" for n in range(9))
    found = take(tmp_path, content)
    assert found.unmatched_count == 9
    assert imported.said_unmatched(found) == (
        "9 row(s) name no video of the benchmark: 'train_0', 'train_1', 'train_2', 'train_3', "
        "'train_4' and 4 more."
    )


def test_videos_without_a_score_are_refused_unless_allowed(tmp_path: Path) -> None:
    content = "id,score\na,0.1\nb,\nz,0.3\n"
    with pytest.raises(imported.IncompleteError) as caught:
        take(tmp_path, content)
    assert "one for 1 of them in 3 rows. Without one: 'b', 'c'." in str(caught.value)
    assert "1 row(s) name no video of the benchmark: 'z'." in str(caught.value)
    assert "--allow-missing" in str(caught.value)
    found = take(tmp_path, content, allow_missing=True)
    assert found.missing == ["b", "c"]
    assert [row.reason for row in found.rows] == ["", "not_given", "not_given"]
    with pytest.raises(imported.IncompleteError) as caught:  # not one is too few for any option
        take(tmp_path, "id,score\nz,0.3\n", allow_missing=True)
    assert "one for 0 of them" in str(caught.value)
    assert caught.value.unmatched == ["z"]


NUMBERS = "a,0.1\nb,0.2\nc,{}\n"
BAD = {
    "no such column": (
        "video,score\na,0.1\n", {},
        "asked for the column 'id'; it is not there. There are 'video', 'score'.",
    ),
    "a column twice": ("id,score,id\na,0.1,b\n", {}, "there are two or more of it"),
    "another delimiter": ("id;score\na;0.1\n", {}, "Is it another --delimiter?"),
    "empty": ("", {}, "it is empty"),
    "no row": ("id,score\n", {}, "a header and no row"),
    "NaN": ("id,score\n" + NUMBERS.format("NaN"), {}, "no finite numbers: line 4: 'NaN'"),
    "infinity": ("id,score\n" + NUMBERS.format("-inf"), {}, "no finite numbers: line 4: '-inf'"),
    "1_0": ("id,score\n" + NUMBERS.format("1_0"), {}, "no finite numbers: line 4: '1_0'"),
    "1e999": ("id,score\n" + NUMBERS.format("1e999"), {}, "no finite numbers: line 4: '1e999'"),
    "a word": ("id,score\n" + NUMBERS.format("fake"), {}, "no finite numbers: line 4: 'fake'"),
    "a comma": ('id,score\n' + NUMBERS.format('"0,5"'), {}, "Write them with a point"),
    "above 1": (
        "id,score\n" + NUMBERS.format("1.5"), {},
        "outside [0, 1], which are no probabilities: line 4: '1.5'",
    ),
    "below 0": ("id,score\n" + NUMBERS.format("-0.5"), {}, "--logits, or --ranking"),
    "twice": (WHOLE + "a,0.1\n", {}, "more than one score: line 5: 'a' (and in line 3)"),
    "cells": ("id,score\na,0.1,2\n", {}, "line 2: expected 2 cells, found 3"),
    "a quote": ('id,score\n"a,0.1\nb,0.2\n', {}, "it is no CSV"),
    "a long cell": ("id,score\n" + "a" * 140_000 + ",0.1\n", {}, "it is no CSV"),
    "a long line": ("id,score\n" + "a," * 600_000, {}, "a line of more than"),
    "many columns": (",".join(map(str, range(10_001))) + "\n", {}, "10,001 columns"),
    "Latin 1": (b"id,score\n\xe9,0.1\n", {}, "it is no UTF-8 (byte 0xe9"),
    "UTF-16": (WHOLE.encode("utf-16"), {}, "it is no UTF-8 (byte 0xff"),
    "NUL": (b"id,score\n\0,0.1\n", {}, "1 row(s) name no video"),
    "a label": (
        "id,score,y\na,0.1,1\nb,0.2,fake\nc,0.5,FAKE\n",
        {"columns": Columns("score", video_id="id", label="y")},
        "labels that are not the benchmark's: line 2: 'a' is REAL, the file says '1'",
    ),
    "a label that is none": (
        "id,score,y\na,0.1,genuine\nb,0.2,1\nc,0.5,1.0\n",
        {"columns": Columns("score", video_id="id", label="y")},
        "'a' is REAL, the file says 'genuine'",
    ),
    "a frame twice": (
        "id,score,f\na,0.1,1\na,0.2,1\n",
        {"columns": Columns("score", video_id="id", frame="f")},
        "line 3: 'a' frame '1' (and in line 2)",
    ),
    "two words for one video": (
        "id,score,f,q\na,0.1,1,c23\na,0.2,2,c40\n",
        {"columns": Columns("score", video_id="id", frame="f", compression="q")},
        "compression 'c40', before 'c23'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_clear_is_refused(case: str, tmp_path: Path) -> None:
    content, options, said = BAD[case]
    with pytest.raises(DatasetError) as caught:
        take(tmp_path, content, **options)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_a_name_of_two_videos_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("path,score\n000.mp4,0.5\n")
    records = [VideoRecord(name, f"{name}.mp4", 0, name, "real", "test") for name in "xy"]
    matcher = Matcher(records, {"x": ["one/000.mp4"], "y": ["two/000.mp4"]})
    with pytest.raises(DatasetError, match=r"two videos: line 2: '000.mp4' is 'x', 'y'"):
        imported.read(path, matcher, records, Columns("score", path="path"), PROBABILITIES)


def test_only_the_first_five_flaws_are_named(tmp_path: Path) -> None:
    content = "id,score\n" + "a,7\n" + "".join(f"b,{n}\n" for n in range(9))
    with pytest.raises(DatasetError) as caught:
        take(tmp_path, content)
    assert re.search(r"line 8: 'b' \(and in line 3\) and 3 more\.", str(caught.value))


def test_a_file_of_10_gb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)  # a hole: it takes no room
    with pytest.raises(DatasetError, match="10,737,418,240 bytes, more than 1,073,741,824"):
        imported.read(path, Matcher(RECORDS), RECORDS, BY_ID, PROBABILITIES)


def test_more_rows_than_any_benchmark_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imported, "MOST_ROWS", 2)
    with pytest.raises(DatasetError, match="more than 2 rows"):
        take(tmp_path, WHOLE)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in (
        (tmp_path / "pipe", "no regular file"), (tmp_path, "no regular file|Is a directory"),
        (tmp_path / "gone", "No such file"), (tmp_path / "a\0b", "null"),
    ):  # fmt: skip
        with pytest.raises(DatasetError, match=said):
            score_table.open_table(path)
