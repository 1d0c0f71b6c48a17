"""What a process of `unmask serve` does: it holds the model and answers one video after another."""

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.answers.answers_file import RunInfo, to_row
from unmask.answers.file_says import FileSays
from unmask.errors import UnmaskError
from unmask.records import Reason
from unmask.runtime import confinement
from unmask.runtime.child import count_beats

if TYPE_CHECKING:  # these take time to import, which the server itself does without
    from unmask.answers.analysis import Answer

_log = logging.getLogger(__name__)

_LOOK_S = 0.3  # between two words on how far the faces are
_FACES, _SCORES, _PAGE = 0.75, 0.9, 0.97  # how far an answer is when these are done

# Beyond the loaded model: decoding, scoring, and the gradients of a report.
MEMORY_BYTES = 6 * confinement.GIB

Tell = Callable[["Step"], None]


class Refused(StrEnum):
    """Why there is no answer, beside the reasons of a video that was read."""

    NOT_A_VIDEO = "not_a_video"
    UNREADABLE = "unreadable"
    TOO_LONG = "too_long"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    CANCELLED = "cancelled"
    FAILED = "failed"  # this machine did: its disk is full, say
    BROKEN = "broken"  # this program did: a mistake of ours


class Part(StrEnum):
    """What the time from a video's first byte to its answer is spent on."""

    UPLOAD = "upload"
    QUEUE = "queue"  # it waits for its turn
    READING = "reading"  # this and the next three: in a worker
    FACES = "faces"
    SCORING = "scoring"
    REPORT = "report"


@dataclass(frozen=True)
class Settings:
    """What answers are made with, and what a report says of it."""

    model_dir: Path
    beside: Path  # the folder whose metrics and dvc.lock may be the model's
    mlflow_db: Path | None
    command: tuple[str, ...]
    root: Path | None = None  # the checkout whose commit is told; None asks nothing of Git
    threads: int | None = None  # that score a video; None: one a core. They change no score
    model_source: str | None = None  # hf:OWNER/NAME@COMMIT of a model of the Hub


@dataclass(frozen=True)
class Task:
    """One video to answer."""

    video: Path
    name: str  # as whoever sent it calls it
    wants_report: bool
    max_video_s: float
    says: FileSays  # what the file says of itself, which another process has read


@dataclass(frozen=True)
class Step:
    """What is being done, and how far all of it is, in [0, 1]."""

    words: str
    done: float
    part: Part | None = None


READING = Step("Reading the file", 0.0, Part.READING)


@dataclass(frozen=True)
class Result:
    """An answer: the row that predict prints as JSON, in words, as a page."""

    row: dict[str, Any]
    headline: str
    sentence: str
    doubts: tuple[str, ...]
    page: str | None  # HTML, if it was asked for
    promise: tuple[str, ...] = ()  # what the verdict rests on; nothing without a promise
    origin: str | None = None  # who trained the model, and its licence, where others did


@dataclass(frozen=True)
class Refusal:
    """No answer, and why."""

    kind: Refused
    words: str


_OUT_OF_MEMORY = Refusal(
    Refused.OUT_OF_MEMORY,
    f"Answering this video takes more than the {MEMORY_BYTES // confinement.GIB} GiB of memory "
    "that one video may have here. Convert it to a smaller size, for example 1080p.",
)
_BROKEN = Refusal(
    Refused.BROKEN,
    "The server failed on this video by a mistake of its own, which it has written into its log.",
)


def work(connection: Connection, settings: Settings, start: Callable[[], None]) -> None:
    """Load the model, then answer what comes, until the parent closes the connection or dies."""
    start()
    try:
        worker = _InferenceWorker(settings)
    except UnmaskError as error:
        connection.send(error)
        return
    connection.send(worker.run_info)
    limit = confinement.MemoryLimit(MEMORY_BYTES)
    while True:
        task = connection.recv()
        try:
            answer = worker.answer(task, connection.send)
            connection.send(_OUT_OF_MEMORY if limit.is_spent() else answer)
        except UnmaskError as error:
            connection.send(Refusal(Refused.FAILED, str(error)))
        # A mistake of this program costs one answer, not the process that holds the model.
        except Exception as error:  # noqa: BLE001 -- which mistakes there are, nobody knows; it is logged
            if confinement.is_out_of_memory(error):
                connection.send(_OUT_OF_MEMORY)
            else:
                _log.exception("Asked for the answer of a video; this program failed on it")
                connection.send(_BROKEN)  # where the parent is gone this ends the process
        if limit.is_spent():  # another process has all of its memory again
            return


class _InferenceWorker:
    """The model and the detector, loaded once."""

    def __init__(self, settings: Settings) -> None:
        from unmask.faces.detector import start_worker
        from unmask.models.predict import Predictor
        from unmask.runtime.digests import model_digest

        self._settings = settings
        self._predictor = Predictor.load(settings.model_dir, threads=settings.threads)
        self._faces = self._predictor.checkpoint.faces
        start_worker(self._faces.detect)
        assert self._predictor.net  # loads it
        self.run_info = RunInfo(
            model_digest(settings.model_dir), version("unmask"),
            self._predictor.checkpoint.licence, settings.model_source,
        )  # fmt: skip

    def answer(self, task: Task, tell: Tell) -> Result | Refusal:
        """Return what is to be said of a video; all that is written lies beside it."""
        from unmask.video import still
        from unmask.video.decode import probe
        from unmask.video.failures import DecodeError

        scratch = task.video.parent
        # However this process ends, its parent deletes that folder.
        tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
        tell(READING)
        is_still = still.is_still(task.video)
        try:
            duration_s = None if is_still else probe(task.video).duration_s
        except DecodeError as error:
            return _refuse(error.reason)
        if duration_s is not None and duration_s > task.max_video_s:
            return Refusal(
                Refused.TOO_LONG,
                f"The video is {duration_s:.0f} s long; at most {task.max_video_s:g} s are "
                "answered here. Cut out the part that matters.",
            )
        crops_dir = scratch / "crops"
        crops_dir.mkdir()
        answer = self._analyse(task, crops_dir, duration_s, tell)
        if is_still and not answer.still:  # its decoder refused it, and says why
            words = answer.detail.replace(str(task.video), task.name or "picture")
            return Refusal(Refused.UNREADABLE, words)
        page = None
        if task.wants_report:
            tell(Step("Writing the report", _SCORES, Part.REPORT))
            page = self._page(task, answer, crops_dir)
        tell(Step("Done", 1.0))
        return self._result(task, answer, page)

    def _analyse(
        self, task: Task, crops_dir: Path, duration_s: float | None, tell: Tell
    ) -> "Answer":
        from unmask.answers import analysis
        from unmask.faces.files import crop_file

        with _telling_frames((duration_s or 0) * self._faces.rate_fps, tell):
            cropped = crop_file(task.video, self._faces, crops_dir=crops_dir)
        faces = len(cropped.found.tracks)
        tell(Step(f"Scoring {faces} face{'s' * (faces != 1)}", _FACES, Part.SCORING))
        moments = analysis.PAGE_MOMENTS if task.wants_report else None
        return analysis.answer(self._predictor, cropped, moments)

    def _page(self, task: Task, answer: "Answer", crops_dir: Path) -> str:
        from unmask.answers import html_report, provenance

        found = provenance.collect(
            self._settings.root, run_key=self._predictor.checkpoint.run_key,
            command=self._settings.command, mlflow_db=self._settings.mlflow_db,
            beside=self._settings.beside,
        )  # fmt: skip
        source = html_report.Source(
            self._settings.model_dir, self._settings.beside, found, name=task.name or None,
            model_source=self._settings.model_source,
        )  # fmt: skip
        out = task.video.with_name("report.html")
        html_report.write(out, answer, self._predictor, crops_dir, source, task.says)
        return out.read_text(encoding="utf-8")

    def _result(self, task: Task, answer: "Answer", page: str | None) -> Result:
        from unmask.answers import messages

        name = task.name or "video"
        row = to_row(
            replace(
                answer, path=Path(name), detail=answer.detail.replace(str(task.video), name)
            ),
            (task.video.stat().st_size, None), self.run_info, task.says,
        )  # fmt: skip
        return Result(
            row,
            headline=messages.HEADLINES[answer.verdict],
            sentence=messages.sentence(answer),
            doubts=tuple(messages.doubts_of(answer)),
            page=page,
            promise=tuple(messages.promise_of(answer)),
            origin=messages.origin_of(self._predictor.checkpoint),
        )


@contextmanager
def _telling_frames(ticks: float, tell: Tell) -> Iterator[None]:
    """Say meanwhile how far the faces are, by how many frames were looked at."""
    done = threading.Event()
    # No worker of run_jobs, so nobody else counts these; cropping beats twice a frame.
    begun = count_beats()

    def watch() -> None:
        while not done.wait(_LOOK_S):
            frames = (count_beats() - begun) / 2
            share = min(frames / ticks, 1.0) if ticks else 0.5
            tell(Step("Looking for faces", _FACES * share, Part.FACES))

    tell(Step("Looking for faces", 0.0, Part.FACES))
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
