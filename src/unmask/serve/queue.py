"""The queue of videos, and the worker processes that answer them, one video at a time each.

A worker is stopped by killing it. The server itself decodes nothing: a file that crashes or stalls
a decoder costs only its own answer.
"""

import math
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from pickle import UnpicklingError

from unmask.answers.answers_file import RunInfo
from unmask.errors import UnmaskError
from unmask.runtime.confinement import Confinement
from unmask.runtime.disk import writing
from unmask.serve.file_reader import FileReader
from unmask.serve.inference import (
    MEMORY_BYTES,
    READING,
    Part,
    Refusal,
    Refused,
    Result,
    Settings,
    Step,
    Task,
)
from unmask.serve.observer import Observer, OfVideo, Parts
from unmask.serve.worker import LOOK_S, Worker

WAITING = Step("Waiting", 0.0)
_UNCLAIMED_S = 20.0  # from the end of an upload until somebody asks for its answer
# When all places are taken, an upload older than _SLOW_S that is slower than this is dropped.
_SLOW_S, _FLOOR_BYTES_S = 3.0, 32_000
_PENALTY_S = 60.0  # how long an address whose upload was too slow gets no place
_MOST_PENALTIES = 10_000
_USUAL_S = 20.0  # estimate of an answer's time before the first was given
_CANCELLED = Refusal(Refused.CANCELLED, "Cancelled.")


class State(StrEnum):
    """The state of a job; states are passed through in this order."""

    ARRIVING = "arriving"
    HERE = "here"  # the upload is complete, and nobody has asked for an answer yet
    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"


@dataclass(frozen=True)
class Limits:
    """Limits on one video, and on how many videos may be here."""

    max_bytes: int
    max_video_s: float
    timeout_s: float  # for an answer, counted from its start
    waiting: int  # videos that may wait or be on their way
    jobs: int  # videos that are answered at once
    each: int | None = None  # videos of one client's address; None: no limit of its own


class FullError(UnmaskError):
    """No place is free; retry_s is how many seconds to wait before trying again."""

    def __init__(self, message: str, *, retry_s: int = 1) -> None:
        super().__init__(message)
        self.retry_s = retry_s


@dataclass(eq=False)
class QueuedJob:
    """A video to answer. It has a folder of its own, which is deleted when the job is dropped."""

    token: str  # can't be guessed: whoever knows it may see the answer
    folder: Path
    client: str = ""  # the address it came from
    owner: str | None = None  # the browser session; None for a program, which can hang up to cancel
    name: str = ""  # the sender's name for it: for display, never used as a path
    state: State = State.ARRIVING
    since_s: float = field(default_factory=time.monotonic)  # when it entered its state
    wants_report: bool = True
    step: Step = WAITING
    outcome: Result | Refusal | None = None
    is_dropped: bool = False
    request_id: str = ""  # of the request that brought it
    seconds: dict[Part, float] = field(default_factory=dict)  # what it spent time on so far

    @property
    def video(self) -> Path:
        """Return the path that the upload is written to."""
        return self.folder / "video"

    def enter(self, state: State) -> None:
        """Go on to another state."""
        self.state, self.since_s = state, time.monotonic()


class JobQueue:
    """Queues uploaded videos and answers up to limits.jobs of them at once."""

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        settings: Settings,
        start: Callable[[], None],
        *,
        trusted_pem: str | None = None,
    ) -> None:
        """Keep all files in folder. Workers call start first, which sets up their logging.

        A file's signature is called trusted if it leads to a certificate in trusted_pem.
        """
        self.limits = limits
        self._folder, self._trusted_pem = folder, trusted_pem
        self._jobs: dict[str, QueuedJob] = {}
        self._waiting: deque[QueuedJob] = deque()
        self._changed = threading.Condition()
        self._penalties: dict[str, float] = {}  # until when, by address
        self.is_ending = False
        self._took_s = _USUAL_S
        confined = Confinement((folder,), MEMORY_BYTES, has_gpu=True)
        self._slots = [Worker(settings, start, confined) for _ in range(limits.jobs)]
        self._threads = [
            threading.Thread(target=self._serve, args=(slot,), daemon=True) for slot in self._slots
        ]
        self.run_info: RunInfo | None = None
        self.observer = Observer()
        # Called from worker threads with each video that came to something.
        self.on_answer: Callable[[QueuedJob, Result | Refusal], None] = lambda *_: None

    def open(self) -> None:
        """Begin to load the model."""
        for slot in self._slots:
            slot.spawn()

    def await_model(self) -> None:
        """Wait until every worker has loaded the model, then begin to answer.

        Raises:
            UnmaskError: there is no model, or it is not one of this version.
        """
        for slot in self._slots:
            self.run_info = slot.await_model(lambda: self.is_ending)
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Start no more work and cancel what is under way; safe to call in a signal handler."""
        self.is_ending = True

    def close(self) -> None:
        """Stop all work at once."""
        self.end()
        with self._changed:
            self._changed.notify_all()
        for slot, thread in zip(self._slots, self._threads, strict=True):
            if thread.ident is None:
                slot.kill()
            else:  # the thread kills its worker: two closes of one descriptor may hit another file
                thread.join()

    @property
    def is_ready(self) -> bool:
        """Say whether videos are answered: some worker has its model, and this does not end."""
        return self.workers_ready > 0 and not self.is_ending

    @property
    def workers_ready(self) -> int:
        """Return how many workers have their model."""
        return sum(slot.is_ready for slot in self._slots)

    def spent(self, job: QueuedJob, part: Part, seconds: float) -> None:
        """Note for how long a video was in a part of its way."""
        OfVideo(self.observer, job.seconds).spent(part, seconds)

    def count(self, state: State) -> int:
        """Return how many videos are in a state."""
        with self._changed:
            return sum(job.state is state for job in self._jobs.values())

    # ------------------------------------------------------------ the way of a job

    def admit(self, client: str = "") -> QueuedJob:
        """Return a new job for a video that is about to arrive from a client's address.

        Raises:
            FullError: no place is free, the address has its share of them, or it was penalised.
            DiskError: the disk is full or can't be written to.
        """
        most = self.limits.waiting + self.limits.jobs
        self._drop_unclaimed()  # worker threads do this too, but may be busy loading a model
        if len(self._jobs) >= most:
            self._drop_slow()
        with self._changed:
            if (wait_s := self._penalties.get(client, 0.0) - time.monotonic()) > 0:
                raise FullError(
                    "Asked for an answer; the last upload from your address was too slow, and "
                    f"others need places too. Come again in {math.ceil(wait_s)} s.",
                    retry_s=math.ceil(wait_s),
                )
            retry_s = max(1, round(self._took_s))
            if len(self._jobs) >= most:
                raise FullError(
                    f"Asked for an answer; {len(self._jobs)} videos are here already, and no "
                    f"more may wait. Come again in {retry_s} s.",
                    retry_s=retry_s,
                )
            theirs = sum(job.client == client for job in self._jobs.values())
            if self.limits.each is not None and theirs >= self.limits.each:
                raise FullError(
                    f"Asked for an answer; {theirs} videos from your address are here already, and "
                    f"others need places too. Come again in {retry_s} s.",
                    retry_s=retry_s,
                )
            token = secrets.token_urlsafe(16)
            job = QueuedJob(token, self._folder / token, client)
            with writing(job.folder):  # first, so that a job that fails here takes no place
                job.folder.mkdir()
            self._jobs[token] = job
        return job

    def penalise(self, client: str) -> None:
        """Refuse a client whose upload was too slow for a while.

        Does nothing without a limit for each address, as all clients may then share one.
        """
        if self.limits.each is None:
            return
        now_s = time.monotonic()
        with self._changed:
            if len(self._penalties) >= _MOST_PENALTIES:
                self._penalties = {
                    c: end_s for c, end_s in self._penalties.items() if end_s > now_s
                }
            if len(self._penalties) < _MOST_PENALTIES:
                self._penalties[client] = now_s + _PENALTY_S

    def find(self, token: str) -> QueuedJob | None:
        """Return the job of a token if its upload is complete and not yet submitted."""
        with self._changed:
            job = self._jobs.get(token)
            return job if job and job.state is State.HERE else None

    def submit(self, job: QueuedJob) -> None:
        """Queue a job whose upload is complete."""
        with self._changed:
            if job.is_dropped:  # a moment ago: nobody had claimed it, or its browser left
                return
            job.enter(State.WAITING)
            self._waiting.append(job)
            self._changed.notify()

    def count_before(self, job: QueuedJob) -> int:
        """Return how many videos are ahead of this one: being answered, or before it in line."""
        with self._changed:
            if job not in self._waiting:
                return 0
            working = sum(job.state is State.WORKING for job in self._jobs.values())
            return working + self._waiting.index(job)

    def drop(self, job: QueuedJob) -> None:
        """Cancel a job and delete its files; a job under way is ended by its own thread."""
        with self._changed:
            job.is_dropped = True
            if job in self._waiting:
                self._waiting.remove(job)
            if job.state is State.WORKING:  # the thread that answers it sees is_dropped
                return
            job.outcome = job.outcome or _CANCELLED  # a request may be waiting for it
            self._jobs.pop(job.token, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def drop_all_of(self, owner: str) -> None:
        """Drop all jobs of a browser session that has left or cancels."""
        with self._changed:
            own = [job for job in self._jobs.values() if job.owner == owner]
        for job in own:
            self.drop(job)

    def holds_any_of(self, owner: str) -> bool:
        """Say whether a video of a browser's session is here."""
        with self._changed:
            return any(job.owner == owner for job in self._jobs.values())

    def _drop_unclaimed(self) -> None:
        before_s = time.monotonic() - _UNCLAIMED_S
        with self._changed:
            late = [t for t in self._jobs.values() if t.state is State.HERE]
        for job in late:
            if job.since_s < before_s:
                self.drop(job)

    def _drop_slow(self) -> None:
        """Drop and penalise slow uploads, which could otherwise hold all places."""
        now_s = time.monotonic()
        with self._changed:
            arriving = [t for t in self._jobs.values() if t.state is State.ARRIVING]
        for job in arriving:
            age_s = now_s - job.since_s
            arrived = job.video.stat().st_size if job.video.exists() else 0
            if age_s > _SLOW_S and arrived < _FLOOR_BYTES_S * age_s:
                self.penalise(job.client)
                self.drop(job)

    # ------------------------------------------------------------ work

    def _serve(self, slot: Worker) -> None:
        """Answer one job after another; runs in a thread."""
        with closing(FileReader(self._trusted_pem)) as reader:
            self._serve_with(slot, reader)

    def _serve_with(self, slot: Worker, reader: FileReader) -> None:
        while True:
            reader.prepare()
            with self._changed:
                if not self._waiting and not self.is_ending:
                    self._changed.wait(1.0)
                if self.is_ending:
                    slot.kill()
                    return
                job = self._waiting.popleft() if self._waiting and slot.is_ready else None
                if job:
                    self.spent(job, Part.QUEUE, time.monotonic() - job.since_s)
                    job.enter(State.WORKING)
            if job:
                with Parts(OfVideo(self.observer, job.seconds)) as parts:
                    outcome = self._answer(slot, reader, job, parts)
                self.observer.answered(outcome)
                self.on_answer(job, outcome)
                with self._changed:
                    job.outcome = outcome
                    job.enter(State.DONE)
                if job.is_dropped:
                    self.drop(job)
            elif not slot.is_ready:
                slot.revive(lambda: self.is_ending)
            self._drop_unclaimed()

    def _answer(
        self, slot: Worker, reader: FileReader, job: QueuedJob, parts: Parts
    ) -> Result | Refusal:
        begun_s = time.monotonic()
        job.step = READING
        parts.enter(READING.part)
        says = reader.read(job.video, lambda: self._stop(job, begun_s) is not None)
        if refusal := self._stop(job, begun_s):
            return refusal
        task = Task(job.video, job.name, job.wants_report, self.limits.max_video_s, says)
        try:
            slot.send(task)
            while True:
                while slot.has_said(LOOK_S):
                    said = slot.receive()
                    if isinstance(said, Step):
                        job.step = said
                        parts.enter(said.part)
                    else:
                        self._took_s += 0.3 * (time.monotonic() - begun_s - self._took_s)
                        return _outcome(said)
                if refusal := self._stop(job, begun_s):
                    slot.kill()
                    return refusal
                self._drop_unclaimed()
        except (EOFError, OSError, UnpicklingError):
            slot.kill()
            return Refusal(
                Refused.CRASHED,
                "The process that read this file crashed. The file may be damaged: convert it, "
                "for example to MP4, and try once more.",
            )

    def _stop(self, job: QueuedJob, begun_s: float) -> Refusal | None:
        if job.is_dropped or self.is_ending:
            return _CANCELLED
        if time.monotonic() - begun_s > self.limits.timeout_s:
            return Refusal(
                Refused.TIMED_OUT,
                f"This video takes longer than the {self.limits.timeout_s:g} s that an answer may "
                "take here. Cut out the part that matters.",
            )
        return None


def _outcome(said: object) -> Result | Refusal:
    if not isinstance(said, Result | Refusal):
        raise UnpicklingError(f"Asked for an answer; found {type(said).__name__}.")
    return said
