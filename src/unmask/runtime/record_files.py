"""The files of records: what the stages hand to each other on disk."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from unmask.errors import MALFORMED, DatasetError
from unmask.records import (
    DONOR_SEPARATOR,
    EPOCH_COLUMNS,
    FORGED_COLUMNS,
    SPLITS,
    Chunk,
    Epoch,
    FaceTrack,
    FileDoubt,
    Fingerprint,
    ForgedPart,
    Reason,
    VideoFaces,
    VideoRecord,
)
from unmask.runtime.disk import write_atomically
from unmask.runtime.packed_faces import PackedFaces

_SELDOM = {"doubts", "same_T", "held_s"}


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


def read_faces(path: Path) -> PackedFaces:
    """Return what was found in each video of a chunk's faces/index.jsonl, by video id.

    Rows take little memory; each look-up parses one.

    Raises:
        DatasetError: the file is missing or a line is not what faces_line writes.
    """
    if not path.is_file():
        raise DatasetError(
            f"Asked for the face index {path}; there is no such file. Run `dvc repro` to make it."
        )
    found = PackedFaces(faces_from_line)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                found.add(line)
            except MALFORMED as error:
                raise DatasetError(
                    f"{path}, line {number}: not a row of a face index. Delete the file and run "
                    "`dvc repro`; crops that exist are kept."
                ) from error
    return found


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
            missing = VideoFaces(record.video_id, "", (), Reason.MISSING, detail)
            faces.add(faces_line(missing).encode())
    return Chunk(name, records, faces, faces_dir)
