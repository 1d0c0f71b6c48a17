"""The files that hold a detector's scores on a benchmark: read, written and checked.

A detector has three files. A CSV holds a row for each video of the benchmark; a JSON file says what
the detector is, on which list of videos it was scored, and the digests of the other two; a second
CSV, which may be missing, holds a row for each frame or clip that was scored.

    the pipeline's model   metrics/benchmarks/<benchmark>/scores.csv, detector.json, frames.csv
    any other detector     metrics/detectors/<benchmark>/<detector>.csv, <detector>.json,
                           frames/<detector>.csv
"""

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from unmask.errors import MALFORMED, DatasetError
from unmask.records import VideoRecord
from unmask.runtime.disk import read_regular, write_atomically
from unmask.runtime.plain_text import cell_text, plain_cell

FORMAT = 1
PIPELINE = "model"  # what the pipeline's model is called among detectors; no other may be
# What a detector's numbers are: "probability" lies in [0, 1]; "logit" is the logarithm of the odds,
# whose sigmoid is the probability; "ranking" is any number, higher meaning fake.
Scale = Literal["probability", "logit", "ranking"]
VERDICTS = ("fake", "real", "inconclusive")
NAME = re.compile(r"\w[\w.-]{0,99}")  # of a benchmark or a detector: each becomes a file's name
FRAME_COLUMNS = ("video_id", "frame", "score")
LIST_SEPARATOR = "|"
_MOST_BYTES = 2**28  # of scores: a million videos
_MOST_FRAME_BYTES = 2**30
_MOST_JSON_BYTES = 2**20


@dataclass(frozen=True)
class ScoreRow:
    """One video of a benchmark and what a detector says of it.

    Which numbers are there follows from the detector's scale: `probability`; `logit` and its
    `probability`; or `score`. A video without a score has none of them, and a reason.
    """

    video_id: str
    label: int  # 1 is fake
    source_id: str
    method: str
    compression: str = ""  # such as c23; empty where nobody says, as for the next
    generator: str = ""  # the program or net that made a fake
    probability: float | None = None  # that the video is fake
    logit: float | None = None
    score: float | None = None  # of the scale "ranking"
    reason: str = ""  # why there is no score, such as no_face
    verdict: str = ""  # one of VERDICTS; empty where the detector gives none
    doubts: tuple[str, ...] = ()

    @property
    def rank(self) -> float | None:
        """Return the number that the video is ranked by; None without a score."""
        for value in (self.score, self.logit, self.probability):
            if value is not None:
                return value
        return None


COLUMNS = tuple(each.name for each in fields(ScoreRow))
_WORDS = ("video_id", "source_id", "method", "compression", "generator", "reason", "verdict")
_NUMBERS = ("probability", "logit", "score")
_NUMBERS_OF: dict[str, set[str]] = {
    "probability": {"probability"}, "logit": {"probability", "logit"}, "ranking": {"score"},
}  # fmt: skip


@dataclass(frozen=True)
class Detector:
    """What a detector is, in the words of whoever scored it or handed its scores in."""

    name: str
    scale: Scale
    version: str = ""  # a release, a commit, or whatever tells it from other versions
    model_digest: str = ""  # runtime.digests.model_digest of a model of unmask's
    # Names of the data that it saw in training; empty for none; None where nobody says.
    trained_on: tuple[str, ...] | None = None
    licence: str = ""
    origin: Literal["scored", "imported"] = "scored"
    # What else is on record; of an import the file's digest, and which column was taken for what.
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameScores:
    """The scores of a video's frames or clips, higher meaning fake, all on one scale."""

    names: tuple[str, ...]  # of each: its number or its time
    scores: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Scores:
    """A detector's scores on a benchmark."""

    benchmark: str
    detector: Detector
    rows: Sequence[ScoreRow]  # in the order of video ids
    frames: Mapping[str, FrameScores] = field(default_factory=dict)  # by video id

    @property
    def list_sha256(self) -> str:
        """Return the digest of the list of videos that was scored."""
        return list_digest(self.rows)


@dataclass(frozen=True)
class Place:
    """Where a detector's files lie."""

    scores: Path
    detector: Path
    frames: Path


def pipeline_place(metrics_dir: Path, benchmark: str) -> Place:
    """Return where the pipeline keeps its model's scores on a benchmark."""
    folder = metrics_dir / "benchmarks" / checked_name("benchmark", benchmark)
    return Place(folder / "scores.csv", folder / "detector.json", folder / "frames.csv")


def detector_place(metrics_dir: Path, benchmark: str, detector: str) -> Place:
    """Return where the scores of any other detector are kept.

    Raises:
        DatasetError: a name could not be a file's, or the detector's is that of the pipeline's.
    """
    folder = metrics_dir / "detectors" / checked_name("benchmark", benchmark)
    name = checked_name("detector", detector)
    if name == PIPELINE:
        raise DatasetError(
            f"Asked for a detector named {name}, in {folder}; that is the name of the pipeline's "
            "own model in tables. Give it another name."
        )
    return Place(folder / f"{name}.csv", folder / f"{name}.json", folder / "frames" / f"{name}.csv")


def places(metrics_dir: Path, benchmark: str) -> list[Place]:
    """Return where detectors' scores on a benchmark lie: the pipeline's first, then by name."""
    ours = pipeline_place(metrics_dir, benchmark)
    folder = metrics_dir / "detectors" / benchmark
    others = [
        detector_place(metrics_dir, benchmark, path.stem) for path in sorted(folder.glob("*.json"))
    ]
    return [ours] * ours.detector.is_file() + others


def checked_name(kind: str, name: str) -> str:
    """Return the name of a benchmark or a detector, once it is one.

    Raises:
        DatasetError: it could not be a file's, or would be an option of a command.
    """
    if not NAME.fullmatch(name):
        raise DatasetError(
            f"Asked for a {kind} named {name[:120]!r}; a name is letters, digits, '_', '.' and "
            "'-', begins with a letter or digit and has 100 at most. Give it another name."
        )
    return name


def list_digest(videos: Iterable[VideoRecord | ScoreRow]) -> str:
    """Return the SHA-256 of a list of videos: their ids, labels, sources and methods.

    The order makes no difference. Scores of two lists with one digest can be compared.
    """
    lines = sorted(
        json.dumps([video.video_id, video.label, video.source_id, video.method]) for video in videos
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# ---------------------------------------------------------------- writing


def write(place: Place, scores: Scores) -> None:
    """Write a detector's files; the one that vouches for the others is written last.

    Numbers are written in full. Frames that an earlier run left are deleted where there are none.

    Raises:
        DatasetError: a row is not what the detector's scale asks for, or a video is there twice.
        DiskError: the disk takes no more.
    """
    checked_name("benchmark", scores.benchmark)
    checked_name("detector", scores.detector.name)
    _check_rows(scores.rows, scores.detector.scale, str(place.scores))
    _check_frames(scores.frames, scores.rows, str(place.frames))
    table = _rows_csv(scores.rows)
    frames = _frames_csv(scores.frames) if scores.frames else None
    about = {
        "format": FORMAT,
        "benchmark": scores.benchmark,
        "videos": len(scores.rows),
        "list_sha256": scores.list_sha256,
        "scores_sha256": _digest(table),
        "frames_sha256": None if frames is None else _digest(frames),
        "detector": asdict(scores.detector),
    }
    write_atomically(place.scores, table)
    if frames is None:
        place.frames.unlink(missing_ok=True)
    else:
        write_atomically(place.frames, frames)
    write_atomically(place.detector, json.dumps(about, indent=2) + "\n")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _rows_csv(rows: Iterable[ScoreRow]) -> bytes:
    lines = [",".join(COLUMNS)]
    for row in sorted(rows, key=lambda row: row.video_id):
        lines.append(",".join(_cell(getattr(row, name)) for name in COLUMNS))
    return ("\n".join(lines) + "\n").encode()


def _frames_csv(frames: Mapping[str, FrameScores]) -> bytes:
    lines = [",".join(FRAME_COLUMNS)]
    for video_id, found in sorted(frames.items()):
        name = _cell(video_id)
        pairs = zip(found.names, found.scores, strict=True)
        lines += [f"{name},{_cell(frame)},{score!r}" for frame, score in pairs]
    return ("\n".join(lines) + "\n").encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        value = LIST_SEPARATOR.join(value)
    if not isinstance(value, str):
        return repr(value)
    value = plain_cell(value)
    # csv.writer leaves a lone carriage return bare before Python 3.13, and can't read it again.
    return '"' + value.replace('"', '""') + '"' if set(value) & set(',"\n\r') else value


# ---------------------------------------------------------------- reading


def read(place: Place) -> Scores:
    """Return what `write` wrote.

    Raises:
        DatasetError: a file is missing, damaged or changed, or a row is not what it should be.
    """
    about = _read_json(place.detector)
    table = _read_bytes(place.scores, _MOST_BYTES)
    _check_digest(place.scores, table, about.scores_sha256)
    rows = list(_read_rows(table, str(place.scores)))
    _check_rows(rows, about.detector.scale, str(place.scores))
    if list_digest(rows) != about.list_sha256:
        raise DatasetError(
            f"{place.detector} is about another list of videos than {place.scores} holds. Score or "
            "import the detector again."
        )
    frames: dict[str, FrameScores] = {}
    if about.frames_sha256 is not None:
        content = _read_bytes(place.frames, _MOST_FRAME_BYTES)
        _check_digest(place.frames, content, about.frames_sha256)
        frames = _read_frames(content, str(place.frames))
        _check_frames(frames, rows, str(place.frames))
    return Scores(about.benchmark, about.detector, rows, frames)


@dataclass(frozen=True)
class _About:
    benchmark: str
    list_sha256: str
    scores_sha256: str
    frames_sha256: str | None
    detector: Detector


def _read_json(path: Path) -> _About:
    try:
        values = json.loads(_read_bytes(path, _MOST_JSON_BYTES))
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r} is not {FORMAT}")
        frames = values["frames_sha256"]
        return _About(
            _word(values["benchmark"]), _word(values["list_sha256"]),
            _word(values["scores_sha256"]), None if frames is None else _word(frames),
            _read_detector(values["detector"]),
        )  # fmt: skip
    except MALFORMED as error:
        raise DatasetError(
            f"Asked for what {path} says of a detector; it is not what `unmask benchmark` writes "
            f"({str(error)[:200]}). Score or import the detector again."
        ) from error


def _read_detector(values: Any) -> Detector:
    trained_on = values["trained_on"]
    if values["scale"] not in get_args(Scale) or values["origin"] not in ("scored", "imported"):
        raise ValueError(f"scale {values['scale']!r}, origin {values['origin']!r}")
    if not NAME.fullmatch(_word(values["name"])):
        raise ValueError(f"name {values['name']!r}")
    return Detector(
        name=values["name"], scale=values["scale"], version=_word(values["version"]),
        model_digest=_word(values["model_digest"]),
        trained_on=None if trained_on is None else tuple(_word(name) for name in trained_on),
        licence=_word(values["licence"]), origin=values["origin"],
        notes={_word(key): _word(value) for key, value in values["notes"].items()},
    )  # fmt: skip


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]!r} is no text")
    return value


def _read_bytes(path: Path, most_bytes: int) -> bytes:
    try:
        return read_regular(path, most_bytes)
    except OSError as error:
        raise DatasetError(
            f"Asked for a detector's scores in {path}; it can't be read ({error.strerror}). Score "
            "or import the detector again."
        ) from error


def _check_digest(path: Path, content: bytes, wanted: str) -> None:
    if _digest(content) != wanted:
        raise DatasetError(
            f"{path} is not the file that was written with what is said of the detector: its "
            "SHA-256 differs. Score or import the detector again."
        )


def _lines(content: bytes, columns: Sequence[str], where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a CSV after its header, with the number of its line."""
    try:
        reader = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
        header = next(reader, [])
        if header != list(columns):
            raise DatasetError(
                f"{where}, line 1: expected the columns {', '.join(columns)}; found "
                f"{', '.join(header)[:300] or 'none'}. Score or import the detector again."
            )
        for row in reader:
            if len(row) != len(columns):
                raise ValueError(f"line {reader.line_num} has {len(row)} cells")
            yield reader.line_num, row
    except (ValueError, csv.Error) as error:
        raise DatasetError(
            f"{where}: expected a table of {len(columns)} columns in UTF-8, found {error}. Score "
            "or import the detector again."
        ) from error


def _read_rows(content: bytes, where: str) -> Iterator[ScoreRow]:
    for number, cells in _lines(content, COLUMNS, where):
        found = dict(zip(COLUMNS, cells, strict=True))
        try:
            words = {name: cell_text(found[name]) for name in _WORDS}
            numbers = {name: float(found[name]) if found[name] else None for name in _NUMBERS}
            doubts = cell_text(found["doubts"])
            yield ScoreRow(
                **cast(dict[str, Any], words | numbers),
                label=int(found["label"]),
                doubts=tuple(doubts.split(LIST_SEPARATOR)) if doubts else (),
            )
        except ValueError as error:
            raise DatasetError(
                f"{where}, line {number}: expected a video's scores, found {error}. Score or "
                "import the detector again."
            ) from error


def _read_frames(content: bytes, where: str) -> dict[str, FrameScores]:
    names: dict[str, list[str]] = {}
    scores: dict[str, list[float]] = {}
    for number, (video_id, frame, score) in _lines(content, FRAME_COLUMNS, where):
        try:
            value = float(score)
        except ValueError as error:
            raise DatasetError(
                f"{where}, line {number}: {score[:80]!r} is no score of a frame. Score or import "
                "the detector again."
            ) from error
        key = cell_text(video_id)
        names.setdefault(key, []).append(cell_text(frame))
        scores.setdefault(key, []).append(value)
    return {key: FrameScores(tuple(names[key]), tuple(scores[key])) for key in names}


# ---------------------------------------------------------------- checking


def _check_rows(rows: Sequence[ScoreRow], scale: str, where: str) -> None:
    if not rows:
        raise DatasetError(f"{where}: expected a row for each video of a benchmark, found none.")
    wanted, seen = _NUMBERS_OF[scale], set()
    for row in rows:
        flaw = _flaw(row, wanted)
        if row.video_id in seen:
            flaw = "it is there twice"
        seen.add(row.video_id)
        if flaw:
            raise DatasetError(
                f"{where}: video {row.video_id[:120]!r}, of a detector whose numbers are of the "
                f"scale {scale!r}: {flaw}. Score or import the detector again."
            )


def _flaw(row: ScoreRow, wanted: set[str]) -> str:
    there = {name for name in _NUMBERS if getattr(row, name) is not None}
    if row.label not in (0, 1):
        return f"label {row.label} is neither 0 nor 1"
    if there != (wanted if there else set()):
        return f"it has {', '.join(sorted(there))}, and should have {', '.join(sorted(wanted))}"
    if bool(there) == bool(row.reason):
        return "it should have either a score or a reason why there is none"
    if not all(math.isfinite(getattr(row, name)) for name in there):
        return "a number is not finite"
    if row.probability is not None and not 0 <= row.probability <= 1:
        return f"the probability {row.probability} is not in [0, 1]"
    if row.verdict and row.verdict not in VERDICTS:
        return f"the verdict {row.verdict[:80]!r} is none of {', '.join(VERDICTS)}"
    if not row.video_id or any(not doubt or LIST_SEPARATOR in doubt for doubt in row.doubts):
        return "its id or a doubt is empty, or a doubt holds '|'"
    return ""


def _check_frames(frames: Mapping[str, FrameScores], rows: Sequence[ScoreRow], where: str) -> None:
    known = {row.video_id for row in rows}
    for video_id, found in frames.items():
        if video_id not in known:
            raise DatasetError(f"{where}: frames of {video_id[:120]!r}, which is not on the list.")
        if not found.scores or len(found.names) != len(found.scores):
            raise DatasetError(f"{where}: {video_id[:120]!r} should have a score a frame.")
        if not all(map(math.isfinite, found.scores)):
            raise DatasetError(f"{where}: a frame of {video_id[:120]!r} has a score without end.")
