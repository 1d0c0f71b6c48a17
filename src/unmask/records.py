"""Typed rows and their files: what the stages hand to each other."""

import csv
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from unmask.errors import MALFORMED, DatasetError
from unmask.runtime.disk import create, delete_stale, give_name, new_name, writing

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
DONOR_SEPARATOR = "|"  # between donors in index.csv; no identity holds it
# What a list of videos and index.csv may say of a fake, as ForgedPart's fields.
FORGED_COLUMNS = ("fake_box", "fake_from_s", "fake_to_s")
Epoch = Mapping[str, float | int | None]  # a training's numbers, by EPOCH_COLUMNS
EPOCH_COLUMNS = ("epoch", "train_loss", "val_loss", "val_auc", "lr_head", "lr_top")
_SELDOM = {"doubts", "same_T", "held_s"}
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the upright frame
Points = tuple[tuple[float, float], ...]  # left eye, right eye, nose, mouth left and right


class Reason(StrEnum):
    """Why a video has no score, or why its tracks end before it does."""

    MISSING = "missing"  # no file of that name, or a link to none
    FORBIDDEN = "forbidden"  # it may not be read
    EMPTY = "empty"  # zero bytes
    NOT_A_VIDEO = "not_a_video"  # another kind of file, or nothing but sound
    UNREADABLE = "unreadable"  # a video of which no frame decodes
    CRASHED = "crashed"  # the process that read it, which memory may have failed
    OUT_OF_MEMORY = "out_of_memory"  # it asks for more than one file may have
    TIMED_OUT = "timed_out"  # no new frame for faces.stall_s
    TRUNCATED = "truncated"  # the file ends before its video does
    INCOMPLETE = "incomplete"  # some of what it shows can't be decoded: the detail counts it
    NO_FACE = "no_face"
    TOO_SHORT = "too_short"
    TOO_FEW_FRAMES = "too_few_frames"  # a face is there for long enough, but hardly ever changes


class FileDoubt(StrEnum):
    """Why an answer about all of a file can't be relied on, whatever its faces look like."""

    NOT_ALL_SEEN = "not_all_seen"  # then it is never called real
    COLOUR_NOT_UNDERSTOOD = "colour_not_understood"  # then neither fake nor real


# What the next run may not meet again: memory ran out, or a disk was busy.
PASSING = frozenset({Reason.CRASHED, Reason.OUT_OF_MEMORY, Reason.TIMED_OUT})


@dataclass(frozen=True)
class ForgedPart:
    """Where in a fake the forged face is; what is None, nobody says."""

    box_xyxy: Box | None = None  # in pixels of the upright frame: holds the face's centre
    from_s: float | None = None  # from the first frame
    to_s: float | None = None

    def holds(self, time_s: float, box_xyxy: Box) -> bool:
        """Say whether a face that is seen in that box at that time is the forged one."""
        x0, y0, x1, y1 = self.box_xyxy or (-math.inf, -math.inf, math.inf, math.inf)
        x, y = (box_xyxy[0] + box_xyxy[2]) / 2, (box_xyxy[1] + box_xyxy[3]) / 2
        from_s = 0.0 if self.from_s is None else self.from_s
        to_s = math.inf if self.to_s is None else self.to_s
        return x0 <= x <= x1 and y0 <= y <= y1 and from_s <= time_s <= to_s


@dataclass(frozen=True)
class VideoRecord:
    """One labelled video of a chunk."""

    video_id: str  # the file's name without its extension
    file: str  # relative to the chunk's videos folder
    label: int  # 1 is fake
    source_id: str  # videos that share it show the same recording or person: never split them
    method: str  # how a fake was made; "real" for a real one, "unknown" where nobody says
    split: Split
    donors: tuple[str, ...] = ()  # whose faces a swap pasted in: they too stay on one side
    forged: ForgedPart | None = None  # None: all faces of a fake are taken for forged

    @property
    def identities(self) -> tuple[str, ...]:
        """Return everybody the video shows a face of: its source, then its donors."""
        return self.source_id, *self.donors


@dataclass(frozen=True)
class Fingerprint:
    """What tells a video from others: its file's content, and what some of its frames look like."""

    video_id: str
    sha256: str
    recipe: str  # digest of the code that took it; empty where it should be taken again
    pictures: tuple[str, ...]  # perceptual hashes, 256 bits in hex; none where nothing decodes
    stream: str = ""  # SHA-256 of the coded pictures, whatever container holds them


@dataclass(frozen=True)
class FaceTrack:
    """One face followed through a video, and the crop file that shows it."""

    track: int
    file: str  # relative to the chunk's faces folder
    times_T: tuple[float, ...]  # seconds from the first frame, one per frame of the crop file
    boxes_T4: tuple[Box, ...]  # the square that was cut out
    scores_T: tuple[float, ...]  # detection scores, carried over between detections
    points_T52: tuple[Points, ...] = ()  # pixels of the upright frame
    same_T: tuple[int, ...] = ()  # places in times_T of frames that look as the one before
    held_s: float = 0.0  # how much longer than a tick of the crops the last frame is shown

    @property
    def end_s(self) -> float:
        """Return when the face is last seen: at its last frame, or while that is held."""
        return self.times_T[-1] + self.held_s


@dataclass(frozen=True)
class VideoFaces:
    """What the cropper found in one video; with a reason where it found less than hoped.

    detail says the reason in a sentence, then what else is to be said of the file.
    """

    video_id: str
    key: str  # digest of the video's content, the params and the code that cropped it
    tracks: tuple[FaceTrack, ...]
    reason: Reason | None = None
    detail: str = ""
    doubts: tuple[FileDoubt, ...] = ()


@dataclass(frozen=True)
class TrackScore:
    """The scores of one face over time."""

    track: int
    logit: float  # mean over its clips, before temperature
    clip_starts_s: tuple[float, ...]
    clip_logits: tuple[float, ...]


@dataclass(frozen=True)
class VideoScore:
    """A video's answer: the probability that it is fake, or the reason there is none."""

    video_id: str
    probability: float | None
    reason: Reason | None
    tracks: tuple[TrackScore, ...]

    @property
    def worst(self) -> TrackScore | None:
        """Return the most suspicious face, whose score is the video's."""
        return max(self.tracks, key=lambda track: track.logit, default=None)


# ---------------------------------------------------------------- files


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file by content at once, through a new file.

    Never in place: the old one may be a hard link into DVC's cache, which would change with it.

    Raises:
        DiskError: the disk takes no more; then the old file is as it was.
    """
    partial = new_name(path, "partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        delete_stale(path, "partial")
        try:
            with os.fdopen(create(partial), "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                give_name(partial, path)  # while its lock is held: nobody takes it for stale
        finally:
            partial.unlink(missing_ok=True)


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_index(path: Path, records: Iterable[VideoRecord]) -> None:
    """Write a chunk's index.csv, one row a video, in the order of ids.

    It has the columns of forged parts only where a video has one.
    """
    records = sorted(records, key=lambda record: record.video_id)
    names = [field.name for field in fields(VideoRecord) if field.name != "forged"]
    if any(record.forged for record in records):
        names += FORGED_COLUMNS
    lines = [",".join(names)]
    for record in records:
        row = asdict(record) | {"donors": DONOR_SEPARATOR.join(record.donors)}
        part = record.forged or ForgedPart()
        times = ("" if value is None else repr(value) for value in (part.from_s, part.to_s))
        row |= zip(FORGED_COLUMNS, (" ".join(map(repr, part.box_xyxy or ())), *times), strict=True)
        lines.append(",".join(_quoted(str(row[name])) for name in names))
    write_atomically(path, "\n".join(lines) + "\n")


def _quoted(value: str) -> str:
    # csv.writer leaves a lone carriage return bare before Python 3.13, and can't read it again.
    return '"' + value.replace('"', '""') + '"' if set(value) & set(',"\n\r') else value


def read_index(path: Path) -> list[VideoRecord]:
    """Return the videos of a chunk's index.csv.

    Raises:
        DatasetError: the file is missing, lacks a column, or a row does not parse.
    """
    records = []
    names = [field.name for field in fields(VideoRecord) if field.name != "forged"]
    for number, row in _read_rows(path, names):
        try:
            record = VideoRecord(
                video_id=row["video_id"], file=row["file"], label=int(row["label"]),
                source_id=row["source_id"], method=row["method"], split=row["split"],  # type: ignore[arg-type]  # checked below
                donors=tuple(row["donors"].split(DONOR_SEPARATOR)) if row["donors"] else (),
                forged=_read_part(row),
            )  # fmt: skip
        except ValueError as error:
            raise DatasetError(
                f"{path}, line {number}: expected a row of an index, found {row}. "
                "Delete the file and run `dvc repro`."
            ) from error
        if record.label not in (0, 1) or record.split not in SPLITS:
            raise DatasetError(
                f"{path}, line {number}: label {record.label} and split {record.split!r} should "
                f"be 0 or 1 and one of {', '.join(SPLITS)}. Delete the file and run `dvc repro`."
            )
        records.append(record)
    return records


def _read_part(row: Mapping[str, str]) -> ForgedPart | None:
    box, from_s, to_s = (row.get(name, "") for name in FORGED_COLUMNS)
    if not (box or from_s or to_s):
        return None
    box_xyxy = None
    if box:
        x0, y0, x1, y1 = (float(side) for side in box.split())
        box_xyxy = x0, y0, x1, y1
    return ForgedPart(box_xyxy, float(from_s) if from_s else None, float(to_s) if to_s else None)


def _read_rows(path: Path, names: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of a CSV file that a stage wrote, with the number of its line."""
    if not path.is_file():
        raise DatasetError(
            f"Asked for the index {path}; there is no such file. Run `dvc repro` to make it."
        )
    with path.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        try:
            columns = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(
                f"{path}: expected an index, found what is no CSV ({error}). Delete the file and "
                "run `dvc repro`."
            ) from error
    if missing := sorted(set(names) - set(columns)):
        raise DatasetError(
            f"{path}, line 1: expected the columns {', '.join(names)}; {', '.join(missing)} not "
            "found. Delete the file and run `dvc repro`."
        )
    for number, row in rows:
        if None in row or None in row.values():
            raise DatasetError(
                f"{path}, line {number}: expected a row of an index, found {row}. "
                "Delete the file and run `dvc repro`."
            )
        yield number, row


def write_fingerprints(path: Path, fingerprints: Iterable[Fingerprint]) -> None:
    """Write a chunk's fingerprints.csv, one row a video, in the order of ids."""
    lines = [",".join(field.name for field in fields(Fingerprint))]
    for row in sorted(fingerprints, key=lambda row: row.video_id):
        pictures = " ".join(row.pictures)
        values = _quoted(row.video_id), row.sha256, row.recipe, pictures, row.stream
        lines.append(",".join(values))
    write_atomically(path, "\n".join(lines) + "\n")


def read_fingerprints(path: Path) -> dict[str, Fingerprint]:
    """Return the fingerprints of a chunk's fingerprints.csv, by video id.

    Raises:
        DatasetError: the file is missing, lacks a column, or a row does not parse.
    """
    found = {}
    for number, row in _read_rows(path, [field.name for field in fields(Fingerprint)]):
        pictures = tuple(row["pictures"].split())
        digests = row["sha256"], *pictures, *([row["stream"]] if row["stream"] else [])
        if not all(re.fullmatch("[0-9a-f]{64}", each) for each in digests):
            raise DatasetError(
                f"{path}, line {number}: expected digests of 64 hex digits, found {row}. Delete "
                "the file and run `dvc repro`."
            )
        found[row["video_id"]] = Fingerprint(
            row["video_id"], row["sha256"], row["recipe"], pictures, row["stream"]
        )
    return found


def write_history(path: Path, history: Iterable[Epoch]) -> None:
    """Write a training's history.csv, one row an epoch; what is missing or None is left blank."""
    rows = [[epoch.get(column) for column in EPOCH_COLUMNS] for epoch in history]
    lines = [",".join("" if value is None else repr(value) for value in row) for row in rows]
    write_atomically(path, "\n".join([",".join(EPOCH_COLUMNS), *lines]) + "\n")


def epoch_line(row: Epoch) -> str:
    """Return the line of a log that says an epoch's numbers; without an AUC where there is none.

    job.METRICS reads it.
    """
    values = [(name, row[name]) for name in ("train_loss", "val_loss", "val_auc")]
    said = [f"{name}={value:.6f}" for name, value in values if value is not None]
    return " ".join([f"unmask epoch={row['epoch']}", *said])


def read_history(path: Path) -> list[Epoch]:
    """Return what write_history wrote.

    Raises:
        DatasetError: the file is missing or not a history.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        if not rows:
            raise ValueError("no epoch")
        return [
            {"epoch": int(row["epoch"])}
            | {name: float(row[name]) if row[name] else None for name in EPOCH_COLUMNS[1:]}
            for row in rows
        ]
    except (OSError, csv.Error, *MALFORMED) as error:
        raise DatasetError(
            f"Asked for the training's history {path}; found: {error!r}. Run `dvc repro` to train "
            "again, or `dvc checkout` to take it from the cache."
        ) from error


def faces_line(faces: VideoFaces) -> str:
    """Return one line of JSON, in ASCII, for a video's faces.

    A name may hold what has no place in UTF-8: Python's stand-in for a byte that is none. What
    few files have is left out where it is empty.
    """
    row = asdict(faces)
    for part in (row, *row["tracks"]):
        for name in _SELDOM & part.keys():
            if not part[name]:
                del part[name]
    return json.dumps(row, separators=(",", ":"))


def faces_from_line(line: str) -> VideoFaces:
    """Return the faces that faces_line wrote."""
    row: dict[str, Any] = json.loads(line)
    tracks = tuple(
        FaceTrack(
            track=track["track"], file=track["file"], times_T=tuple(track["times_T"]),
            boxes_T4=tuple((box[0], box[1], box[2], box[3]) for box in track["boxes_T4"]),
            scores_T=tuple(track["scores_T"]),
            points_T52=tuple(tuple((x, y) for x, y in face) for face in track["points_T52"]),
            same_T=tuple(track.get("same_T", ())), held_s=track.get("held_s", 0.0),
        )
        for track in row["tracks"]
    )  # fmt: skip
    reason = None if row["reason"] is None else Reason(row["reason"])
    doubts = tuple(FileDoubt(word) for word in row.get("doubts", ()))
    return VideoFaces(row["video_id"], row["key"], tracks, reason, row["detail"], doubts)


def read_faces(path: Path) -> dict[str, VideoFaces]:
    """Return what was found in each video of a chunk's faces/index.jsonl, by video id.

    Raises:
        DatasetError: the file is missing or a line is not what faces_line writes.
    """
    if not path.is_file():
        raise DatasetError(
            f"Asked for the face index {path}; there is no such file. Run `dvc repro` to make it."
        )
    found = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            faces = faces_from_line(line.decode())
        except MALFORMED as error:
            raise DatasetError(
                f"{path}, line {number}: not a row of a face index. Delete the file and run "
                "`dvc repro`; crops that exist are kept."
            ) from error
        found[faces.video_id] = faces
    return found


# ---------------------------------------------------------------- a chunk's rows together


@dataclass(frozen=True)
class Chunk:
    """One chunk's index and its cropped faces."""

    name: str
    records: list[VideoRecord]
    faces: dict[str, VideoFaces]
    faces_dir: Path

    def of(self, split: Split) -> list[tuple[VideoRecord, VideoFaces]]:
        """Return the split's videos with what was found in each."""
        return [(r, self.faces[r.video_id]) for r in self.records if r.split == split]


def read_chunks(names: Sequence[str], raw_dir: Path, faces_dir: Path) -> list[Chunk]:
    """Return the named chunks; a folder that is there but not named is left alone.

    copies.settle makes one data set of them.
    """
    return [read_chunk(name, raw_dir / name / "index.csv", faces_dir / name) for name in names]


def read_chunk(name: str, index: Path, faces_dir: Path) -> Chunk:
    """Return a chunk's rows; a video that was listed without a file gets that as its reason.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    records, faces = read_index(index), read_faces(faces_dir / "index.jsonl")
    for record in records:
        if record.video_id not in faces:
            detail = f"{record.file} is listed in the chunk's metadata, but is not there."
            faces[record.video_id] = VideoFaces(record.video_id, "", (), Reason.MISSING, detail)
    return Chunk(name, records, faces, faces_dir)
