import json
import os
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from unmask import records
from unmask.errors import DatasetError
from unmask.records import (
    FaceTrack,
    FileDoubt,
    Fingerprint,
    ForgedPart,
    Reason,
    TrackScore,
    VideoFaces,
    VideoRecord,
    VideoScore,
)
from unmask.runtime import disk, record_files

REAL = VideoRecord("aaaa", "aaaa.mp4", 0, "person 1", "real", "train")
FAKE = VideoRecord("bbbb", "sub/bbbb.mp4", 1, "person 1", "swap", "train")
HEADER = "video_id,file,label,source_id,method,split,donors\n"
TRACK = FaceTrack(
    track=3,
    file="aaaa/3.mp4",
    times_T=(0.0, 0.1, 1 / 3),
    boxes_T4=((0.0, 1.5, 20.0, 21.5), (1e-9, 2.5, 20.0, 22.5), (-3.25, 0.1 + 0.2, 1e6, 7.0)),
    scores_T=(0.99, 0.5, 1.0),
    points_T52=(((1.5, 2.0), (3.0, 4.1)), ((1e-9, 2.0), (-3.0, 0.1 + 0.2)), ()),
)
FACES = VideoFaces("aaaa", "0f3c", (TRACK, replace(TRACK, track=4, file="aaaa/4.mp4")))
TRICKY = [
    "comma,comma",
    'a "quoted" word',
    '"',
    "'",
    "naïve 视频 🎭",
    "two\nlines",
    "two\u2028lines, or\x85three",
    "carriage\rreturn",
    "both\r\n",
    " spaces ",
    "semi;colon\ttab",
    "{}[]:\\",
    "null",
    "",
]

# ---------------------------------------------------------------- index.csv


def test_an_index_is_plain_csv_sorted_by_id(tmp_path: Path) -> None:
    path = tmp_path / "raw" / "sample" / "index.csv"  # its folder is made
    swap = replace(FAKE, donors=("person 2", "person 3"))
    record_files.write_index(path, [swap, REAL])
    assert path.read_text(encoding="utf-8") == (
        HEADER
        + "aaaa,aaaa.mp4,0,person 1,real,train,\n"
        + "bbbb,sub/bbbb.mp4,1,person 1,swap,train,person 2|person 3\n"
    )
    assert record_files.read_index(path) == [REAL, swap]
    assert swap.identities == ("person 1", "person 2", "person 3")


def test_the_order_of_writing_does_not_show_in_the_file(tmp_path: Path) -> None:
    videos = [replace(REAL, video_id=f"video {number}") for number in range(12)]
    record_files.write_index(tmp_path / "a.csv", videos)
    record_files.write_index(tmp_path / "b.csv", reversed(videos))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("text", TRICKY)
def test_an_index_keeps_every_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    video = replace(
        REAL, video_id=text, file=f"{text}.mp4", source_id=text, method=text, donors=(text, "b")
    )
    record_files.write_index(path, [video, FAKE])
    assert sorted(record_files.read_index(path), key=lambda v: v.label) == [video, FAKE]


@pytest.mark.parametrize("split", records.SPLITS)
def test_an_index_keeps_every_split(split: records.Split, tmp_path: Path) -> None:
    record_files.write_index(tmp_path / "index.csv", [replace(FAKE, split=split)])
    assert record_files.read_index(tmp_path / "index.csv")[0].split == split


def test_an_index_may_be_empty(tmp_path: Path) -> None:
    record_files.write_index(tmp_path / "index.csv", [])
    assert (tmp_path / "index.csv").read_text(encoding="utf-8") == HEADER
    assert record_files.read_index(tmp_path / "index.csv") == []


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text(
        "split,label,donors,file,video_id,method,source_id\ntrain,0,,aaaa.mp4,aaaa,real,person 1\n",
        encoding="utf-8",
    )
    assert record_files.read_index(tmp_path / "index.csv") == [REAL]


def test_a_missing_index_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"lost\.csv; there is no such file\. Run `dvc repro`"):
        record_files.read_index(tmp_path / "lost.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER.replace("label,", "") + "a,a.mp4,s,real,train,\n", "expected the columns"),
        (HEADER.replace("method", "kind") + "a,a.mp4,0,s,real,train,\n", "expected the columns"),
        (HEADER + "a,a.mp4,0,s,real,train,\nb,b.mp4,2,s,swap,train,\n", "line 3: label 2 and"),
        (HEADER + "a,a.mp4,-1,s,real,train,\n", "line 2: label -1"),
        (HEADER + "a,a.mp4,FAKE,s,real,train,\n", "line 2: expected a row of an index, found"),
        (HEADER + "a,a.mp4,0.5,s,real,train,\n", "line 2: expected a row of an index, found"),
        (HEADER + "a,a.mp4,,s,real,train,\n", "line 2: expected a row of an index, found"),
        (HEADER + "a,a.mp4,0,s,real,training,\n", "'training' should be"),
        (HEADER + "a,a.mp4,0,s,real,,\n", "one of train, validation, test"),
        (HEADER + "a,a.mp4,0,s,real\n", "line 2: "),
        (HEADER + "a,a.mp4\n", "line 2: expected a row"),
        (HEADER + "a,a.mp4,0,s,real,train,more,yet more\n", "line 2: expected a row"),
        (HEADER + '"a\nb",b.mp4,0,s,real,train,\nc,c.mp4\n', "line 4: expected a row"),
        ("", "line 1: expected the columns"),
        ("video_id,file\n", "line 1: expected the columns"),
    ],
)
def test_a_bad_index_names_the_file_and_the_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        record_files.read_index(path)
    assert str(caught.value).startswith(f"{path}, line ")
    assert said in str(caught.value)


def test_an_index_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_bytes(b"\xff\xfe" + HEADER.encode("utf-16-le"))
    with pytest.raises(DatasetError, match="found what is no CSV"):
        record_files.read_index(tmp_path / "index.csv")


@pytest.mark.parametrize("video_id", TRICKY)
def test_fingerprints_survive_the_way_to_a_file_and_back(video_id: str, tmp_path: Path) -> None:
    path = tmp_path / "fingerprints.csv"
    rows = [
        Fingerprint(video_id, "0" * 64, "ab12", ("f" * 64, "1" * 64)),
        Fingerprint("blind", "a" * 64, "", ()),
    ]
    record_files.write_fingerprints(path, rows)
    assert record_files.read_fingerprints(path) == {row.video_id: row for row in rows}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("video_id,sha256,recipe\n", "line 1: expected the columns .*; pictures, stream not found"),
        ("{header}a,{digest},r,{digest},\nb,{digest},r,\n", "line 3: .*found"),
        ("{header}a,0000,r,,\n", "line 2: expected digests of 64 hex digits"),
        ("{header}a,{digest},r,{digest} 00,\n", "line 2: expected digests of 64 hex digits"),
        ("{header}a,{digest},r,{digest},00\n", "line 2: expected digests of 64 hex digits"),
    ],
)
def test_bad_fingerprints_name_the_file_and_the_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "fingerprints.csv"
    path.write_text(text.format(header="video_id,sha256,recipe,pictures,stream\n", digest="0" * 64))
    with pytest.raises(DatasetError, match=f"fingerprints.csv, {said}"):
        record_files.read_fingerprints(path)


# ---------------------------------------------------------------- faces/index.jsonl


@pytest.mark.parametrize(
    "faces",
    [
        FACES,
        VideoFaces("aaaa", "k", (), Reason.NO_FACE),
        VideoFaces("aaaa", "k", (TRACK,), Reason.TRUNCATED, "no frame after 1.20 s"),
        VideoFaces("aaaa", "k", (FaceTrack(3, "aaaa/3.mp4", (), (), ()),)),
        *[VideoFaces("aaaa", "k", (), reason) for reason in Reason],
        VideoFaces("aaaa", "k", (replace(TRACK, same_T=(1, 2), held_s=0.7),), doubts=(*FileDoubt,)),
        *[VideoFaces(text, text, (replace(TRACK, file=text),), None, text) for text in TRICKY],
    ],
)
def test_faces_survive_the_way_to_a_line_and_back(faces: VideoFaces) -> None:
    line = record_files.faces_line(faces)
    assert "\n" not in line
    back = record_files.faces_from_line(line)
    assert back == faces  # to the last bit of every float
    assert type(back.reason) is type(faces.reason)
    assert hash(back) == hash(faces)  # tuples all the way down, lists nowhere


def test_a_line_of_faces_is_json_that_others_can_read() -> None:
    row = json.loads(record_files.faces_line(replace(FACES, reason=Reason.TRUNCATED)))
    assert row["video_id"] == "aaaa"
    assert row["reason"] == "truncated"
    assert row["tracks"][0]["boxes_T4"][0] == [0.0, 1.5, 20.0, 21.5]
    assert row["tracks"][0]["points_T52"][0] == [[1.5, 2.0], [3.0, 4.1]]


def test_what_few_files_have_is_in_a_line_only_where_it_is_there() -> None:
    row = json.loads(record_files.faces_line(FACES))
    assert set(row) == {"video_id", "key", "tracks", "reason", "detail"}
    assert not {"same_T", "held_s"} & set(row["tracks"][0])
    held = replace(FACES, doubts=(FileDoubt.NOT_ALL_SEEN,), tracks=(replace(TRACK, held_s=0.7),))
    row = json.loads(record_files.faces_line(held))
    assert row["doubts"] == ["not_all_seen"]
    assert row["tracks"][0]["held_s"] == 0.7
    assert held.tracks[0].end_s == TRACK.times_T[-1] + 0.7


def test_a_face_index_is_read_by_video_id(tmp_path: Path) -> None:
    path = tmp_path / "index.jsonl"
    videos = [replace(FACES, video_id=text, detail=text) for text in TRICKY]
    path.write_text("".join(record_files.faces_line(v) + "\n" for v in videos), encoding="utf-8")
    assert record_files.read_faces(path) == dict(zip(TRICKY, videos, strict=True))


def test_a_missing_face_index_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"lost\.jsonl; there is no such file\. Run `dvc repro`"):
        record_files.read_faces(tmp_path / "lost.jsonl")


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        record_files.faces_line(FACES)[:-9],  # cut short
        "{}",
        "[]",
        "null",
        record_files.faces_line(FACES).replace('"tracks":', '"track":'),
        '{"video_id":"a","key":"k","tracks":[],"reason":"bored","detail":""}',
        '{"video_id":"a","key":"k","tracks":[7],"reason":null,"detail":""}',
        record_files.faces_line(FACES).replace("[0.0,1.5,20.0,21.5]", "[0.0,1.5]"),
        record_files.faces_line(FACES).replace("[1.5,2.0]", "[1.5]"),
        record_files.faces_line(FACES).replace("points_T52", "points"),
        "[" * 2000,
    ],
)
def test_a_bad_line_of_a_face_index_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "index.jsonl"
    path.write_text(f"{record_files.faces_line(FACES)}\n{line}\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="line 2: not a row of a face index"):
        record_files.read_faces(path)


# ---------------------------------------------------------------- writing


def test_a_file_is_replaced_and_its_hard_link_is_not(tmp_path: Path) -> None:
    path, cached = tmp_path / "index.csv", tmp_path / "cache" / "d41d"
    disk.write_atomically(path, "old")
    cached.parent.mkdir()
    os.link(path, cached)
    disk.write_atomically(path, "new ü")
    assert path.read_text(encoding="utf-8") == "new ü"
    assert cached.read_text(encoding="utf-8") == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "index.csv"]  # nothing left over


def test_a_symbolic_link_is_replaced_and_what_it_shows_is_not(tmp_path: Path) -> None:
    (tmp_path / "cached").write_text("old", encoding="utf-8")
    path = tmp_path / "index.csv"
    path.symlink_to(tmp_path / "cached")
    disk.write_atomically(path, "new")
    assert not path.is_symlink()
    assert (tmp_path / "cached").read_text(encoding="utf-8") == "old"


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index.csv"
    record_files.write_index(path, [REAL])
    before = path.read_bytes()

    def full_disk(*_: object, **__: object) -> int:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        record_files.write_index(path, [FAKE])
    assert path.read_bytes() == before


# ---------------------------------------------------------------- scores


def score(track: int, logit: float) -> TrackScore:
    return TrackScore(track, logit, (0.0,), (logit,))


def test_the_worst_face_is_the_one_with_the_highest_logit() -> None:
    tracks = (score(1, -2.0), score(2, 3.5), score(3, 1.0))
    assert VideoScore("aaaa", 0.9, None, tracks).worst == tracks[1]
    assert VideoScore("aaaa", 0.1, None, (score(5, -9.0),)).worst == score(5, -9.0)


def test_of_equal_faces_the_first_is_the_worst() -> None:
    assert VideoScore("aaaa", 0.5, None, (score(1, 0.0), score(2, 0.0))).worst == score(1, 0.0)


def test_a_video_without_a_face_has_no_worst_one() -> None:
    assert VideoScore("aaaa", None, Reason.NO_FACE, ()).worst is None


def test_rows_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        REAL.label = 1  # type: ignore[misc]  # the point of the test


def test_a_reason_prints_as_its_word() -> None:
    assert f"{Reason.NO_FACE}" == "no_face"
    assert Reason("too_short") is Reason.TOO_SHORT


# ---------------------------------------------------------------- history.csv


def test_a_history_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "model" / "history.csv"
    rates = {"lr_head": 2e-05, "lr_top": None}
    epochs = [
        {"epoch": 0, "train_loss": 0.7, "val_loss": 1 / 3, "val_auc": None, **rates},
        {"epoch": 1, "train_loss": 0.5, "val_loss": float("inf"), "val_auc": 0.5, **rates},
    ]
    record_files.write_history(path, epochs)
    assert path.read_text().splitlines()[1] == "0,0.7,0.3333333333333333,,2e-05,"
    assert record_files.read_history(path) == epochs


def test_an_epochs_line_says_what_there_is() -> None:
    row = {"epoch": 3, "train_loss": 0.5, "val_loss": 1 / 3, "val_auc": None, "lr_head": 1e-3}
    line = "unmask epoch=3 train_loss=0.500000 val_loss=0.333333"
    assert record_files.epoch_line(row) == line
    assert record_files.epoch_line(row | {"val_auc": 1.0}) == f"{line} val_auc=1.000000"


@pytest.mark.parametrize(
    "text", [None, "", "epoch,train_loss\n0,1\n", "a\nb\n", "a\n" + "9" * 200_000]
)
def test_a_history_that_is_none_says_what_to_do(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DatasetError, match="dvc repro"):
        record_files.read_history(path)


def test_an_index_has_columns_of_forged_parts_only_where_there_are_some(tmp_path: Path) -> None:
    parts = [
        ForgedPart((1.0, 2.5, 3.0, 4.0), 0.1, 7.0), ForgedPart(None, None, 2.0),
        ForgedPart((0.0, 0.0, 1.0, 1.0)),
    ]  # fmt: skip
    videos = [replace(FAKE, video_id=str(n), forged=part) for n, part in enumerate([*parts, None])]
    record_files.write_index(tmp_path / "with.csv", videos)
    lines = (tmp_path / "with.csv").read_text().splitlines()
    assert lines[0] == HEADER.strip() + ",fake_box,fake_from_s,fake_to_s"
    assert [line.split(",")[-3:] for line in lines[1:]] == [
        ["1.0 2.5 3.0 4.0", "0.1", "7.0"], ["", "", "2.0"], ["0.0 0.0 1.0 1.0", "", ""],
        ["", "", ""],
    ]  # fmt: skip
    assert record_files.read_index(tmp_path / "with.csv") == videos
    record_files.write_index(tmp_path / "without.csv", [FAKE])
    assert (tmp_path / "without.csv").read_text().startswith(HEADER)
    (tmp_path / "with.csv").write_text("\n".join(lines).replace("1.0 2.5", "1.0"))
    with pytest.raises(DatasetError, match="line 2: expected a row of an index"):
        record_files.read_index(tmp_path / "with.csv")


def test_a_forged_part_holds_a_face_by_the_centre_of_its_box() -> None:
    part = ForgedPart((10.0, 10.0, 20.0, 20.0), 1.0, 2.0)
    assert part.holds(1.0, (0.0, 0.0, 20.0, 20.0))  # its centre is the corner at 10, 10
    assert part.holds(2.0, (5.0, 5.0, 35.0, 35.0))
    assert not part.holds(1.5, (0.0, 0.0, 19.0, 20.0))
    assert not part.holds(0.9, (10.0, 10.0, 20.0, 20.0))
    assert not part.holds(2.1, (10.0, 10.0, 20.0, 20.0))
    assert ForgedPart(None, None, 2.0).holds(0.0, (0.0, 0.0, 1.0, 1.0))
    assert ForgedPart((0.0, 0.0, 9.0, 9.0)).holds(1e6, (0.0, 0.0, 1.0, 1.0))


def test_no_planted_link_is_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("dear")
    for name in (".index.csv.partial", "index.csv"):
        (tmp_path / name).symlink_to(victim)
    disk.write_atomically(tmp_path / "index.csv", "rows")
    assert victim.read_text() == "dear"
    assert (tmp_path / "index.csv").read_text() == "rows"
    assert not (tmp_path / "index.csv").is_symlink()


def test_what_a_killed_writer_left_goes_and_what_is_being_written_stays(tmp_path):
    path = tmp_path / "index.csv"
    left, held = disk.new_name(path, "partial"), disk.new_name(path, "partial")
    left.write_text("half")
    handle = disk.create(held)
    others = tmp_path / f".other.csv.{'0' * 16}.partial"
    others.touch()
    disk.write_atomically(path, "whole")
    assert {each.name for each in tmp_path.iterdir()} == {path.name, held.name, others.name}
    os.close(handle)
    long = tmp_path / ("é" * 127)  # of 254 bytes, the longest name there is
    disk.write_atomically(long, "whole")
    assert long.read_text() == "whole"
