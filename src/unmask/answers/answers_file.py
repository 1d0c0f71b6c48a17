"""Answers as rows, for people, as JSON or CSV; and a file of them that the next run goes on from.

A row is a JSON object; docs/predict.md says what its fields mean. A CSV has the flat ones.
"""

import csv
import io
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unmask.errors import MALFORMED, UnmaskError
from unmask.records import PASSING
from unmask.runtime import system
from unmask.runtime.disk import content_digest, create, give_name, new_name, writing
from unmask.runtime.plain_text import cell_text, plain_cell, shown_name
from unmask.scoring.verdicts import LEAST_LOOKED_AT, Verdict

if TYPE_CHECKING:  # these take time to import
    from unmask.answers.analysis import Answer, FaceAnswer, Moment
    from unmask.answers.file_says import FileSays

_log = logging.getLogger(__name__)

Form = Literal["json", "csv"]
Row = dict[str, Any]

COLUMNS = (
    "path", "verdict", "probability", "doubts", "reason", "detail", "worst_time_s", "worst_face",
    "stretch_start_s", "stretch_end_s", "stretch_probability", "stretch_face",
    "faces", "duration_s", "bytes", "mtime_ns", "sha256", "model", "version",
)  # fmt: skip
NO_ANSWER = "without an answer"
OUTCOMES = ("fake", "real", "inconclusive", NO_ANSWER)
_STRETCH = ("start_s", "end_s", "probability", "face")
LIST_SEPARATOR = "|"
_KINDS = {  # what is read of a row that is gone on from
    "path": str, "verdict": str, "model": str, "version": str, "sha256": str | None,
    "reason": str | None, "bytes": int | None, "mtime_ns": int | None,
}  # fmt: skip


class AnswersFileError(UnmaskError):
    """A file of answers can't be gone on with."""


@dataclass(frozen=True)
class RunInfo:
    """What rows of one file have in common."""

    model: str  # SHA-256 of the model's folder
    version: str  # of unmask
    licence: str | None = None  # of the weights, where others trained them
    source: str | None = None  # hf:OWNER/NAME@COMMIT of a model of the Hub


# ---------------------------------------------------------------- rows


def to_row(
    answer: "Answer",
    stamp: tuple[int, int | None] | None,
    run_info: RunInfo,
    said: "FileSays | None" = None,
) -> Row:
    """Return the answer as a JSON object; stamp is the file's size and time before it was read.

    said is what the file says of itself, where it was asked.
    """
    size, mtime_ns = stamp or (None, None)
    return {
        "path": str(answer.path),
        "verdict": str(answer.verdict),
        "probability": answer.probability,
        "doubts": [str(doubt) for doubt in answer.doubts],
        "reason": None if answer.reason is None else str(answer.reason),
        "detail": answer.detail,
        "promise": _promise(answer),
        "worst": [{"face": face, **_moment(moment)} for face, moment in answer.worst],
        "stretch": _worst_stretch(answer),
        "faces": [_face(face) for face in answer.faces],
        "duration_s": answer.duration_s,
        "clip_s": answer.clip_s,
        "bytes": size,
        "mtime_ns": mtime_ns,
        "sha256": answer.sha256,
        "model": run_info.model,
        "version": run_info.version,
        **({} if run_info.licence is None else {"licence": run_info.licence}),
        **({} if run_info.source is None else {"model_source": run_info.source}),
        **({} if said is None else {"file_says": said.model_dump(mode="json")}),
    }


def _promise(answer: "Answer") -> Row | None:
    """Return what the verdict rests on, in short: the model's card and settings have all of it."""
    promise = answer.promise
    if promise is None or answer.still:  # it is about videos
        return None
    names = ("kind", "genuine", "fakes", "max_false_alarms", "power", "power_low", "power_high")
    return {name: getattr(promise, name) for name in names}


def _worst_stretch(answer: "Answer") -> Row | None:
    if not answer.faces:
        return None
    place = max(range(len(answer.faces)), key=lambda n: answer.faces[n].part.probability)
    return {"face": place, **_stretch(answer.faces[place])}


def _stretch(face: "FaceAnswer") -> Row:
    part = face.part
    return {
        "start_s": round(part.start_s, 3),
        "end_s": round(part.end_s, 3),
        "probability": part.probability,
    }


def _face(face: "FaceAnswer") -> Row:
    return {
        "track": face.track.track,
        "start_s": face.track.times_T[0],
        "end_s": face.track.end_s,
        "probability": face.probability,
        "verdict": str(face.verdict),
        "doubts": [str(doubt) for doubt in face.doubts],
        "face_px": face.quality.face_px,
        "track_s": face.quality.track_s,
        "sharpness": face.quality.sharpness,
        "brightness": face.quality.brightness,
        "looked_at_ratio": face.quality.looked_at_ratio,
        "likeness": None if face.likeness is None else face.likeness.p_value,
        "stretch": _stretch(face),
        "timeline": [_moment(moment) for moment in face.timeline],
    }


def _moment(moment: "Moment") -> Row:
    return {"time_s": round(moment.time_s, 3), "probability": moment.probability}


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Return a file's size and time of change; None where there is none to be had."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


# ---------------------------------------------------------------- text


def json_line(row: Row) -> bytes:
    r"""Return the row as a line of ASCII; a name's bytes that are no UTF-8 are \udc80 and on."""
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def csv_line(row: Row) -> bytes:
    """Return the row's flat fields; a name's bytes stand as they are, but see plain_cell."""
    worst = row["worst"][0] if row["worst"] else {}
    faces = row["faces"]
    stretch = row["stretch"] or {}
    flat = row | {
        "doubts": LIST_SEPARATOR.join(row["doubts"]),
        "worst_time_s": worst.get("time_s"),
        "worst_face": worst.get("face"),
        **{f"stretch_{name}": stretch.get(name) for name in _STRETCH},
        "faces": faces if isinstance(faces, int) else len(faces),
    }
    return _csv_record([flat[name] for name in COLUMNS])


def csv_header() -> bytes:
    """Return the first line of a CSV."""
    return _csv_record(COLUMNS)


def _csv_record(values: Sequence[object]) -> bytes:
    text = io.StringIO()
    safe = [plain_cell(value) if isinstance(value, str) else value for value in values]
    csv.writer(text, lineterminator="\n").writerow(safe)
    return text.getvalue().encode(errors="surrogateescape")


def human_line(row: Row, *, width: int) -> str:
    """Return verdict, probability, when it looks worst, the path padded to width, and why.

    Why is: the doubts and the reason, from when to when a part looks fake, how much was looked at.
    """
    probability = "-" if row["probability"] is None else f"{row['probability']:.3f}"
    worst = f"at {_clock(row['worst'][0]['time_s'])}" if row["worst"] else ""
    words = [word for word in (*row["doubts"], row["reason"]) if word and word != "no_score"]
    said = [word.replace("_", " ") for word in dict.fromkeys(words)]
    why = ", ".join([*said, *_local_words(row)])
    name = shown_name(row["path"])
    return f"{row['verdict']:<12} {probability:>5}  {worst:<10}  {name:<{width}}  {why}".rstrip()


def _local_words(row: Row) -> Iterator[str]:
    """Yield from when to when a part of a face looks fake, and how much of a face was looked at."""
    stretch, faces = row["stretch"], row["faces"]
    if not stretch or isinstance(faces, int):  # of a CSV
        return
    face = faces[stretch["face"]]
    whole = round(face["start_s"], 3), round(face["end_s"], 3)  # as a stretch's are
    is_part = whole != (stretch["start_s"], stretch["end_s"])
    if (row["verdict"] == "fake" and is_part) or "suspicious_stretch" in row["doubts"]:
        begin, end = _clock(stretch["start_s"]), _clock(stretch["end_s"])
        yield f"from {begin} to {end} {stretch['probability']:.3f}"
    if (least := min(each["looked_at_ratio"] for each in faces)) < LEAST_LOOKED_AT:
        yield f"{least:.0%} looked at"


def _can_be_shown(row: Row) -> bool:
    """Say whether a row that was read holds what each form of it needs."""
    try:
        Verdict(row["verdict"])
        human_line(row, width=0)
        csv_line(row)
    except MALFORMED:
        return False
    return True


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(round(time_s, 1), 60)
    return f"{minutes:.0f}:{seconds:04.1f}"


def outcome(row: Row) -> str:
    """Return one of OUTCOMES, as which the row counts."""
    return NO_ANSWER if row["probability"] is None else str(row["verdict"])


def summary(counts: Counter[str]) -> str:
    """Return how many got which outcome."""
    parts = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name])
    return f"{counts.total()} video{'s' * (counts.total() != 1)}: {parts}"


# ---------------------------------------------------------------- a file that grows


class AnswersFile:
    """A file of rows, held by one run: what it knows, and a line more for each answer."""

    def __init__(self, path: Path, form: Form, handle: int, rows: list[Row]) -> None:
        self._path, self._form, self._handle = path, form, handle
        self._rows = {str(row["path"]): row for row in rows}

    def reuse(self, videos: Sequence[Path]) -> dict[Path, Row]:
        """Return the rows that still hold for these videos, and take their other rows away.

        A row holds for a file of the same path, size and time, or else of the same content, under
        whatever name. One for which no content could be read, whose reading broke down, or that was
        damaged, holds for nothing.
        """
        sizes: dict[int, list[Row]] = {}
        for row in self._rows.values():
            if row["sha256"] and row["reason"] not in PASSING and _can_be_shown(row):
                sizes.setdefault(row["bytes"], []).append(row)
        known: dict[Path, Row] = {}
        for video in videos:
            stamp = stamp_of(video)
            if stamp and (held := self._holding(video, stamp, sizes.get(stamp[0], []))):
                known[video] = held
        self._keep(self._rows | {str(video): held for video, held in known.items()}, known, videos)
        return known

    def forget(self, videos: Sequence[Path]) -> None:
        """Take the rows of these videos away."""
        self._keep(dict(self._rows), {}, videos)

    def _keep(
        self, kept: dict[str, Row], known: Mapping[Path, Row], videos: Sequence[Path]
    ) -> None:
        for video in set(videos) - known.keys():
            kept.pop(str(video), None)
        if kept != self._rows:
            self._rows = kept
            self._rewrite()

    def _holding(self, video: Path, stamp: tuple[int, int], rows: list[Row]) -> Row | None:
        own = next((row for row in rows if row["path"] == str(video)), None)
        if own and own["mtime_ns"] == stamp[1]:
            return own
        try:
            content = content_digest(video) if rows and video.is_file() else None
        except OSError:
            return None
        same = [row for row in rows if row["sha256"] == content]
        return same[0] | {"path": str(video), "mtime_ns": stamp[1]} if same else None

    def add(self, row: Row) -> None:
        """Write one more line, at once and whole.

        Raises:
            DiskError: the disk takes no more; the next run takes half a line away.
        """
        with writing(self._path):
            _write_all(self._handle, _line(row, self._form))

    def tidy(self, content: bytes) -> None:
        """Rewrite the file if content is not exactly the known rows."""
        if content != self._content():
            self._rewrite()

    def _content(self) -> bytes:
        header = csv_header() if self._form == "csv" else b""
        return header + b"".join(_line(row, self._form) for row in self._rows.values())

    def _rewrite(self) -> None:
        partial = new_name(self._path, "partial")
        try:
            with writing(self._path):
                handle = _locked(create(partial), partial)
                _write_all(handle, self._content())
                give_name(partial, self._path)
        finally:
            partial.unlink(missing_ok=True)
        self._handle, before = handle, self._handle
        os.close(before)

    def close(self) -> None:
        """Let other runs write."""
        os.close(self._handle)


@contextmanager
def open_answers(
    path: Path, form: Form, run_info: RunInfo, *, again: bool
) -> Iterator[AnswersFile]:
    """Keep other runs out of the file meanwhile; a new one begins where there is none.

    With again all that it holds is forgotten.

    Raises:
        AnswersFileError: another run writes there, or it holds something else than answers, or,
            if not again, answers of another model or version.
        DiskError: nothing can be written there.
    """
    if path.is_symlink():
        raise AnswersFileError(
            f"Asked to write answers into {path}; that is a link, which somebody else may have put "
            "there. Name the file itself."
        )
    if path.exists() and not path.is_file():
        raise AnswersFileError(f"Asked to write answers into {path}; that is no file. Name a file.")
    handle = _open_locked(path)
    try:
        content = path.read_bytes()
        rows = _read(path, content, form)
        others = [
            row
            for row in rows
            if (row["model"], row["version"]) != (run_info.model, run_info.version)
        ]
        if others and not again:
            raise AnswersFileError(
                f"Asked to go on with {path}; it holds answers of the model "
                f"{others[0]['model']:.12} by unmask {others[0]['version']}, not of "
                f"{run_info.model:.12} by {run_info.version}. Name another file, or begin this one "
                "anew by --again."
            )
        answers = AnswersFile(path, form, handle, [] if again else rows)
        answers.tidy(content)
    except BaseException:
        os.close(handle)
        raise
    try:
        yield answers
    finally:
        answers.close()


def _open_locked(path: Path) -> int:
    try:
        with writing(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | system.NO_LINK | system.AS_IT_IS
            handle = os.open(path, flags | system.NOT_INHERITED, 0o666)
    except OSError as error:
        raise AnswersFileError(
            f"Asked to write answers into {path}; the system said: {error.strerror}. Name a file "
            "in a folder where you may write."
        ) from error
    return _locked(handle, path)


def _locked(handle: int, path: Path) -> int:
    """Return the handle of the file at path, which no other run may write to from now on."""
    try:
        system.lock(handle)
        # Its last holder may have put another file in its place since it was opened.
        is_it = os.path.samestat(os.fstat(handle), path.stat())
    except BlockingIOError:
        is_it = False
    except OSError as error:  # not every file system can
        _log.warning(
            "%s can't be locked (%s): don't start a second run on it.", path, error.strerror
        )
        return handle
    if not is_it:
        os.close(handle)
        raise AnswersFileError(
            f"Asked to write answers into {path}; another run is writing there. Wait until it has "
            "ended, or name another file."
        )
    return handle


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]


def _line(row: Row, form: Form) -> bytes:
    return json_line(row) if form == "json" else csv_line(row)


def _read(path: Path, content: bytes, form: Form) -> list[Row]:
    """Return the rows of a file's whole lines: a last one without its end was cut off."""
    whole = content[: content.rfind(b"\n") + 1]
    beginning = csv_header() if form == "csv" else b'{"path": "'
    if not whole and content[: len(beginning)] == beginning[: len(content)]:
        return []
    try:
        return _read_json(whole or content) if form == "json" else _read_csv(whole or content)
    except (csv.Error, *MALFORMED) as error:
        raise AnswersFileError(
            f"Asked to go on with {path}; it holds something else than answers as {form}: {error}. "
            "It stays as it is: name another file."
        ) from error


def _read_json(content: bytes) -> list[Row]:
    rows = [json.loads(line) for line in content.splitlines()]
    for row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{row!r:.40} is no object")
        if missing := _KINDS.keys() - row.keys():
            raise ValueError(f"a line has no {', '.join(sorted(missing))}")
        if odd := [name for name, kind in _KINDS.items() if not isinstance(row[name], kind)]:
            raise ValueError(f"a line has the {odd[0]} {row[odd[0]]!r:.40}")
        json_line(row)  # refuses what is no number: NaN, and 1e999, which Python reads as infinite
    return rows


def _read_csv(content: bytes) -> list[Row]:
    lines = csv.reader(io.StringIO(content.decode(errors="surrogateescape"), newline=""))
    header = next(lines, [])
    if header and tuple(header) != COLUMNS:
        raise ValueError(f"its columns are {', '.join(header):.80}")
    # One that was cut off within a quoted line break has fewer fields.
    return [_from_csv(dict(zip(COLUMNS, one, strict=True))) for one in lines if len(one) > 1]


def _from_csv(flat: Mapping[str, str]) -> Row:
    def number(name: str, kind: type) -> Any:
        value = kind(flat[name]) if flat[name] else None
        if value is not None and not math.isfinite(value):
            raise ValueError(f"a line has the {name} {flat[name]:.40}")
        return value

    worst = {"face": number("worst_face", int), "time_s": number("worst_time_s", float)}
    texts = {name: cell_text(value) for name, value in flat.items()}
    return texts | {
        "probability": number("probability", float),
        "doubts": [word for word in flat["doubts"].split(LIST_SEPARATOR) if word],
        "reason": flat["reason"] or None,
        "worst": [worst] if flat["worst_time_s"] else [],
        "stretch": {
            name: number(f"stretch_{name}", int if name == "face" else float) for name in _STRETCH
        }
        if flat["stretch_face"]
        else None,
        "faces": int(flat["faces"]),
        "duration_s": number("duration_s", float),
        "bytes": number("bytes", int),
        "mtime_ns": number("mtime_ns", int),
        "sha256": flat["sha256"] or None,
    }
