"""Rows, their lines, and a file of them that outlives what is done to it."""

import csv
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from promised import PROMISE

from unmask.answers import answers_file
from unmask.answers.analysis import Answer, FaceAnswer, Moment
from unmask.answers.answers_file import (
    AnswersFileError,
    RunInfo,
    csv_line,
    human_line,
    json_line,
    open_answers,
    stamp_of,
    to_row,
)
from unmask.records import FaceTrack, Reason, TrackScore
from unmask.runtime.disk import content_digest
from unmask.scoring.verdicts import Doubt, FaceQuality, Part, Verdict

MAKER = RunInfo("a" * 64, "1.0")
FORMS = ["json", "csv"]


def answer(path, *, probability=0.25, verdict=Verdict.REAL, doubts=(), reason=None):
    """Return an answer with one face, or none where there is no probability."""
    moment = Moment(62.5, 0.5)
    score = TrackScore(0, 1.0, (0.0,), (1.0,))
    track = FaceTrack(0, "0.mp4", (1.0, 1.1, 9.0), ((0.0, 0.0, 9.0, 9.0),) * 3, (1.0,) * 3)
    quality = FaceQuality(face_px=90.0, track_s=8.0, sharpness=0.1, brightness=0.5)
    part = Part(1.0, 9.0, probability or 0.0, 1, 0.5)
    face = FaceAnswer(track, score, probability or 0.0, verdict, doubts, (moment,), quality, part)
    sha256 = content_digest(path) if path.is_file() else None
    has_face = probability is not None
    return Answer(
        path, sha256, 70.0, 1.2, probability, verdict, doubts, (face,) * has_face,
        ((0, moment),) * has_face, reason, reason or "",
    )  # fmt: skip


def row_of(path, **others):
    return to_row(answer(path, **others), stamp_of(path), MAKER)


@pytest.fixture
def clips(tmp_path):
    paths = [tmp_path / f"clip{number}.mp4" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(b"video" * 10 + bytes([number]))  # of one size
    return paths


def write(file, form, rows, **others):
    with open_answers(file, form, MAKER, again=False, **others) as answers:
        for row in rows:
            answers.add(row)


def known(file, form, videos, run_info=MAKER, *, again=False):
    with open_answers(file, form, run_info, again=again) as answers:
        return answers.reuse(videos)


def read(file, form):
    if form == "json":
        return [json.loads(line) for line in file.read_text().splitlines()]
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


# ---------------------------------------------------------------- lines


def test_a_row_says_all_that_an_answer_does(clips):
    row = row_of(clips[0], verdict=Verdict.INCONCLUSIVE, doubts=(Doubt.TOO_BLURRED,))
    assert json.loads(json_line(row)) == row
    [face] = row["faces"]
    assert row["worst"] == [{"face": 0, "time_s": 62.5, "probability": 0.5}]
    assert (face["start_s"], face["end_s"], face["doubts"]) == (1.0, 9.0, ["too_blurred"])
    assert face["timeline"] == [{"time_s": 62.5, "probability": 0.5}]
    assert (row["bytes"], row["sha256"]) == (51, content_digest(clips[0]))


def test_people_read_columns_and_words(clips):
    rows = [
        row_of(clips[0], probability=0.98765, verdict=Verdict.FAKE),
        row_of(
            clips[1], verdict=Verdict.INCONCLUSIVE, doubts=(Doubt.TOO_SHORT, Doubt.BROKEN_OFF),
            reason=Reason.TRUNCATED,
        ),
        row_of(
            Path("gone.mp4"), probability=None, verdict=Verdict.INCONCLUSIVE,
            doubts=(Doubt.NO_SCORE,), reason=Reason.MISSING,
        ),
    ]  # fmt: skip
    for row, name in zip(rows, ("a.mp4", "long.mp4", "gone.mp4"), strict=True):
        row["path"] = name
    assert [human_line(row, width=8) for row in rows] == [
        "fake         0.988  at 1:02.5   a.mp4",
        "inconclusive 0.250  at 1:02.5   long.mp4  too short, broken off, truncated",
        "inconclusive     -              gone.mp4  missing",
    ]


def test_a_face_that_is_fake_all_the_time_has_no_part_that_is():
    path = Path("a.mp4")
    whole = answer(path, probability=0.98765, verdict=Verdict.FAKE)
    [face] = whole.faces
    times_T = (1 / 30, 2.0, 149 / 30)  # a row's faces are not rounded, its stretches are
    track = replace(face.track, times_T=times_T)
    part = replace(face.part, start_s=times_T[0], end_s=times_T[-1])
    row = to_row(
        replace(whole, faces=(replace(face, track=track, part=part),)), stamp_of(path), MAKER
    )
    assert human_line(row, width=5) == "fake         0.988  at 1:02.5   a.mp4"


def test_a_promise_is_of_videos_alone():
    whole = replace(answer(Path("a.mp4")), promise=PROMISE)
    assert to_row(whole, None, MAKER)["promise"]["genuine"] == PROMISE.genuine
    assert to_row(replace(whole, still="PNG"), None, MAKER)["promise"] is None


def test_a_name_of_any_bytes_is_printed_and_steers_no_terminal():
    path = Path(os.fsdecode(b"\xff\x1b[31m\n.mp4"))
    row = row_of(path, probability=None, reason=Reason.MISSING)
    assert "  \\xff\\x1b[31m\\n.mp4  " in human_line(row, width=1)
    assert Path(json.loads(json_line(row))["path"]) == path
    assert csv_line(row).startswith(b'"\xff\x1b[31m\n.mp4",')


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize("form", FORMS)
def test_what_is_in_the_file_is_known_to_the_next_run(tmp_path, clips, form):
    file = tmp_path / "answers"
    rows = [row_of(path) for path in clips[:2]]
    write(file, form, rows)
    before = file.read_bytes()
    found = known(file, form, clips)
    assert list(found) == clips[:2]
    for row, path in zip(rows, clips, strict=False):
        assert human_line(found[path], width=9) == human_line(row, width=9)
    assert file.read_bytes() == before
    write(file, form, [row_of(clips[2])])
    assert [row["path"] for row in read(file, form)] == [str(path) for path in clips]


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_known_by_its_content_and_scored_anew_when_that_changes(tmp_path, clips, form):
    file = tmp_path / "answers"
    write(file, form, [row_of(path) for path in clips])
    os.utime(clips[0], (1, 1))  # touched
    moved = clips[1].rename(tmp_path / "moved.mp4")
    clips[2].write_bytes(b"other" * 10 + b"!")  # of the same size
    assert set(known(file, form, [clips[0], moved, clips[2]])) == {clips[0], moved}
    rows = {row["path"]: row for row in read(file, form)}
    # What was moved keeps its old row: nobody asked for that path now.
    assert set(rows) == {str(clips[0]), str(clips[1]), str(moved)}
    assert int(rows[str(clips[0])]["mtime_ns"]) == 10**9


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reason", [Reason.MISSING, Reason.CRASHED, Reason.TIMED_OUT])
def test_what_may_pass_is_tried_again(tmp_path, clips, form, reason):
    file, video = tmp_path / "answers", clips[0]
    row = row_of(video, probability=None, reason=reason)
    write(file, form, [row | {"sha256": None} if reason == Reason.MISSING else row])
    assert known(file, form, [video]) == {}
    write(file, form, [row_of(video)])
    assert len(read(file, form)) == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_line_that_was_cut_off_anywhere_is_lost_alone(tmp_path, clips, form):
    whole, file = tmp_path / "whole", tmp_path / "answers"
    # Quoted line breaks in a CSV are no line's end.
    odd = clips[1].rename(tmp_path / 'clip\n"1",.mp4')
    write(whole, form, [row_of(clips[0]), row_of(odd)])
    content = whole.read_bytes()
    first = content.index(b"\n", 250 if form == "csv" else 0) + 1
    for end in {
        0,
        5,
        first - 1,
        first,
        len(content) - 1,
        *random.Random(1).sample(range(first, len(content)), 30),
    }:
        file.write_bytes(content[:end])
        found = known(file, form, [clips[0], odd])
        assert set(found) == ({clips[0]} if end >= first else set()), content[:end]
        write(file, form, [row_of(path) for path in (clips[0], odd) if path not in found])
        assert file.read_bytes() == content


@pytest.mark.parametrize("form", FORMS)
def test_another_models_answers_stay_unless_told(tmp_path, clips, form):
    file = tmp_path / "answers"
    write(file, form, [row_of(clips[0])])
    before = file.read_bytes()
    for other in (RunInfo("b" * 64, "1.0"), RunInfo("a" * 64, "2.0")):
        with pytest.raises(AnswersFileError, match=r"a{12} by unmask 1\.0, not of .* --again"):
            known(file, form, clips, other)
        assert file.read_bytes() == before
    assert known(file, form, clips, RunInfo("b" * 64, "1.0"), again=True) == {}
    assert read(file, form) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "text",
    [
        "Dear diary,\n", "[1]\n", "{}\n", "path,verdict\n", "no line's end", "[" * 2000 + "\n",
        '{"path": "a", "verdict": "fake", "sha256": "0", "bytes": 1, "model": "m", "version": "1",'
        ' "mtime_ns": 1, "reason": [{}]}\n',
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_never_overwritten(tmp_path, form, text):
    file = tmp_path / "diary"
    file.write_text(text)
    for again in (False, True):
        with pytest.raises(AnswersFileError, match="something else than answers"):
            known(file, form, [], again=again)
    assert file.read_text() == text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", ["1e999", "-1e999", "nan"])
def test_numbers_without_end_are_no_answers(tmp_path, clips, form, number):
    """Python's parsers take them, and then no line could be written again."""
    file = tmp_path / "answers"
    write(file, form, [row_of(clips[0])])
    text = file.read_text()
    assert text.count("0.25") >= 1
    file.write_text(text.replace("0.25", number if form == "csv" else number.replace("nan", "NaN")))
    with pytest.raises(AnswersFileError, match="something else than answers"):
        known(file, form, [])


def test_one_run_at_a_time_writes(tmp_path, clips):
    file = tmp_path / "answers"
    write(file, "json", [row_of(clips[0])] * 2)
    with open_answers(file, "json", MAKER, again=False) as answers:
        answers.reuse(clips)  # another file stands in its place now
        with pytest.raises(AnswersFileError, match="another run is writing"):
            known(file, "json", clips)
        answers.add(row_of(clips[1]))
    assert len(read(file, "json")) == 2


def test_a_file_that_can_not_be_is_an_error(tmp_path):
    for path, said in ((tmp_path, "no file"), (tmp_path / "none/x", "No such file or directory")):
        with pytest.raises(AnswersFileError, match=said):
            known(path, "json", [])


def test_every_column_is_a_rows_field(clips):
    own = {name for name in answers_file.COLUMNS if name.startswith(("worst_", "stretch_"))}
    assert set(answers_file.COLUMNS) - own <= row_of(clips[0]).keys()


def test_names_that_spreadsheets_take_for_formulas_are_text_and_come_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["=HYPERLINK(1).mp4", "+1.mp4", "-1.mp4", "@a.mp4", "\ta.mp4", "'=x.mp4", "'a'.mp4"]
    for name in names:
        Path(name).write_bytes(name.encode())
    rows = [row_of(Path(name)) for name in names]
    write(Path("a.csv"), "csv", rows)
    with open("a.csv", newline="", encoding="utf-8") as lines:
        cells = [line[0] for line in csv.reader(lines)][1:]
    assert cells == [
        "'=HYPERLINK(1).mp4", "'+1.mp4", "'-1.mp4", "'@a.mp4", "'\ta.mp4", "''=x.mp4", "'a'.mp4"
    ]  # fmt: skip
    found = known(Path("a.csv"), "csv", [Path(name) for name in names])
    assert [str(path) for path in found] == names


@pytest.mark.parametrize("form", FORMS)
def test_no_link_is_written_through(tmp_path, clips, form):
    victim, out = tmp_path / "victim", tmp_path / f"out.{form}"
    out.symlink_to(victim)
    with pytest.raises(AnswersFileError, match="that is a link"):
        write(out, form, [])
    assert not victim.exists()
    out.unlink()
    (tmp_path / f".out.{form}.partial").symlink_to(victim)
    write(out, form, [row_of(clip) for clip in clips])
    with open_answers(out, form, MAKER, again=False) as answers:
        answers.forget(clips[:1])  # which writes all anew
    assert len(out.read_bytes().splitlines()) == 2 + (form == "csv")
    assert not victim.exists()
    assert not out.is_symlink()


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("probability", "high"), ("verdict", "nonsense"), ("doubts", 5), ("worst", {"a": 1}),
        ("stretch", {"face": 7}), ("faces", None),
    ],
)  # fmt: skip
def test_a_row_that_was_damaged_is_asked_anew(clips, tmp_path, name, odd):
    """Somebody edited one of two rows: it can't be printed, and the other one still holds."""
    file = tmp_path / "answers.jsonl"
    rows = [row_of(clip) for clip in clips[:2]]
    file.write_bytes(json_line(rows[0] | {name: odd}) + json_line(rows[1]))
    with open_answers(file, "json", MAKER, again=False) as answers:
        assert answers.reuse(clips[:2]).keys() == {clips[1]}
    assert file.read_bytes() == json_line(rows[1])
