"""What a process of `unmask serve` does: it holds the model, and answers one video after another."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import version
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask import processes
from unmask.answers_file import Maker, to_row
from unmask.errors import UnmaskError
from unmask.records import Reason

if TYPE_CHECKING:  # these import torch, which the server itself does without
    from unmask.analysis import Answer

_LOOK_S = 0.3  # between two words on how far the faces are
_FACES, _SCORES, _PAGE = 0.75, 0.9, 0.97  # how far an answer is when these are done
_PAGE_MOMENTS = 60  # of a face's timeline, as in predict's reports


class Refused(StrEnum):
    """Why there is no answer, beside the reasons of a video that was read."""

    NOT_A_VIDEO = "not_a_video"
    UNREADABLE = "unreadable"
    TOO_LONG = "too_long"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    CANCELLED = "cancelled"
    FAILED = "failed"  # this machine did: its disk is full, say


@dataclass(frozen=True)
class Settings:
    """What answers are made with, and what a report says of it."""

    model_dir: Path
    root: Path  # the checkout
    mlflow_db: Path | None
    command: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One video to answer."""

    video: Path
    name: str  # as whoever sent it calls it
    wants_report: bool
    max_video_s: float


@dataclass(frozen=True)
class Step:
    """What is being done, and how far all of it is, in [0, 1]."""

    words: str
    done: float


@dataclass(frozen=True)
class Result:
    """An answer: the row that predict prints as JSON, in words, as a page."""

    row: dict[str, Any]
    headline: str
    sentence: str
    doubts: tuple[str, ...]
    page: str | None  # HTML, if it was asked for


@dataclass(frozen=True)
class Refusal:
    """No answer, and why."""

    kind: Refused
    words: str


def work(connection: Connection, settings: Settings, start: Callable[[], None]) -> None:
    """Load the model, then answer what comes, until the parent closes the connection or dies."""
    os.setsid()  # Ctrl-C is the parent's; and all that is started here can be killed together
    _end_with_parent()
    start()
    try:
        analyst = _Analyst(settings)
    except UnmaskError as error:
        connection.send(error)
        return
    connection.send(analyst.maker)
    while True:
        task = connection.recv()
        try:
            connection.send(analyst.answer(task, connection.send))
        except UnmaskError as error:
            connection.send(Refusal(Refused.FAILED, str(error)))


def _end_with_parent() -> None:
    def watch() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Analyst:
    """The model, loaded once."""

    def __init__(self, settings: Settings) -> None:
        from unmask.digests import model_digest
        from unmask.predict import Predictor

        self._settings = settings
        self._predictor = Predictor.load(settings.model_dir)
        self.maker = Maker(model_digest(settings.model_dir), version("unmask"))

    def answer(self, task: Task, tell: Callable[[Step], None]) -> Result | Refusal:
        """Return what is to be said of a video; what is written lies in its folder."""
        from unmask.video import DecodeError, probe

        scratch = task.video.parent
        # Whatever ends this process, its parent deletes that folder.
        tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
        tell(Step("Reading the file", 0.0))
        try:
            duration_s = probe(task.video).duration_s
        except DecodeError as error:
            return _refuse(error.reason)
        if duration_s is not None and duration_s > task.max_video_s:
            return Refusal(
                Refused.TOO_LONG,
                f"The video is {duration_s:.0f} s long; at most {task.max_video_s:g} s are "
                "answered here. Cut out the part that matters.",
            )
        answer = self._analyse(task.video, scratch / "crops", duration_s, tell)
        if answer.reason in (Reason.NOT_A_VIDEO, Reason.EMPTY, Reason.UNREADABLE):
            return _refuse(answer.reason)
        page = None
        if task.wants_report:
            tell(Step("Writing the report", _SCORES))
            page = self._page(answer, scratch)
        tell(Step("Done", 1.0))
        named = replace(answer, path=Path(task.name or "video"))
        row = to_row(named, (task.video.stat().st_size, None), self.maker)
        return Result(row, *_words(answer), page=page)

    def _analyse(
        self, video: Path, crops_dir: Path, duration_s: float | None, tell: Callable[[Step], None]
    ) -> "Answer":
        crops_dir.mkdir()
        ticks = (duration_s or 0) * self._predictor.checkpoint.faces.rate_fps
        with _telling_frames(ticks, tell):
            found = stub_crop(self._predictor, video, crops_dir)
        tell(Step(f"Scoring {len(found.tracks)} face(s)", _FACES))
        return stub_answer(self._predictor, video, crops_dir, found, duration_s)

    def _page(self, answer: "Answer", scratch: Path) -> str:
        return f"<!doctype html><title>Report</title><h1>{answer.verdict}</h1>"


@contextmanager
def _telling_frames(ticks: float, tell: Callable[[Step], None]) -> Iterator[None]:
    """Say meanwhile how far the faces are, by how many frames were looked at."""
    done = threading.Event()
    # No worker of run_jobs, so nobody else counts these; cropping beats twice a frame.
    begun = processes._beats.value

    def watch() -> None:
        while not done.wait(_LOOK_S):
            frames = (processes._beats.value - begun) / 2
            share = min(frames / ticks, 1.0) if ticks else 0.5
            tell(Step("Looking for faces", _FACES * share))

    tell(Step("Looking for faces", 0.0))
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _refuse(reason: Reason) -> Refusal:
    if reason in (Reason.NOT_A_VIDEO, Reason.EMPTY):
        return Refusal(
            Refused.NOT_A_VIDEO,
            "This file is not a video, or has no picture. Send an MP4, MOV, MKV, WebM or AVI.",
        )
    return Refusal(
        Refused.UNREADABLE,
        "No picture of this video can be decoded: it is damaged or cut off. Send it once more, or "
        "convert it, for example to MP4.",
    )


def _words(answer: "Answer") -> tuple[str, str, tuple[str, ...]]:
    return str(answer.verdict), "…", tuple(str(d) for d in answer.doubts)


# STUB until analysis is there ------------------------------------------------
def stub_crop(predictor, video, crops_dir):
    from unmask.detector import Detector
    from unmask.faces import crop_video

    if predictor._detector is None:
        predictor._detector = Detector(predictor.checkpoint.faces.detect, "cpu")
    return crop_video(
        video, "0", crops_dir, predictor.checkpoint.faces, predictor._detector, key=""
    )


def stub_answer(predictor, video, crops_dir, found, duration_s):
    from unmask.analysis import Answer, FaceAnswer, Moment
    from unmask.predict import probability
    from unmask.records import content_digest
    from unmask.verdicts import Doubt, Look, Verdict

    T = predictor.checkpoint.temperature
    faces = []
    for track, score in zip(
        found.tracks, predictor.score_tracks(crops_dir, found.tracks), strict=True
    ):
        p = probability(score.logit, T)
        v = Verdict.FAKE if p > 0.8 else Verdict.REAL if p < 0.2 else Verdict.INCONCLUSIVE
        faces.append(
            FaceAnswer(
                track,
                score,
                p,
                v,
                (),
                tuple(
                    Moment(s, probability(l, T))
                    for s, l in zip(score.clip_starts_s, score.clip_logits)
                ),
                Look(100.0, 3.0, 1.0, 0.5),
            )
        )
    moments = sorted(
        ((i, m) for i, f in enumerate(faces) for m in f.timeline), key=lambda e: -e[1].probability
    )
    top = max(faces, key=lambda f: f.probability, default=None)
    return Answer(
        video,
        content_digest(video),
        duration_s,
        predictor.checkpoint.geometry.span_s,
        top.probability if top else None,
        top.verdict if top else Verdict.INCONCLUSIVE,
        () if top else (Doubt.NO_SCORE,),
        tuple(faces),
        tuple(moments[:3]),
        found.reason,
        found.detail,
    )
