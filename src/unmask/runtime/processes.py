"""Jobs shared out among worker processes: one that a job kills or stalls is replaced."""

import logging
import math
import pickle
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pickle import UnpicklingError
from typing import Any, Generic, TypeVar

from unmask.runtime import confinement, wire
from unmask.runtime.child import Child
from unmask.runtime.confinement import Confinement, MemoryLimit

Job = TypeVar("Job")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)

_LOOK_S = 0.5  # between two looks at the workers' beats
_START_S = 600.0  # torch from a cold network drive takes minutes
_END_S = 5.0  # for a worker without work to leave by itself


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Job], Result],
    start: Callable[[], None],
    workers: int,
    *,
    crashed: Callable[[Job], Result],
    exhausted: Callable[[Job], Result] | None = None,
    stalled: Callable[[Job], Result] | None = None,
    stall_s: float = math.inf,
    confined: Confinement | None = None,
) -> Iterator[Result]:
    """Yield what work makes of each job as it is done, by worker processes that begin with start.

    Each worker has one job at a time. So when a codec crashes, it is known which job did it: its
    result is crashed(job), that worker is replaced, and the others notice nothing. The same goes
    for a job that has not called heartbeat() for stall_s seconds: its worker is killed, as nothing
    else ends a loop in C, and its result is stalled(job). A job that finds no memory, or asks for
    more than confined allows, ends as exhausted(job), or as crashed(job) without such a function.

    What work raises is raised here. Then, and where the caller stops early, the jobs in hand are
    killed. Results hold plain data, see wire.loads; work, start and jobs are pickled, and their
    functions belong to modules that can be imported.

    Raises:
        BrokenProcessPool: a worker crashed before it had a job.
        TimeoutError: a worker was not ready for a job within ten minutes.
    """
    assert (stalled is None) == math.isinf(stall_s), "a budget and what to do when it is spent"
    waiting = deque(jobs)
    crew: list[_Worker[Job]] = []
    leaving: list[Child] = []

    def add_worker() -> None:
        crew.append(_Worker(work, start, confined))

    def dismiss(worker: _Worker[Job]) -> None:
        crew.remove(worker)
        worker.child.kill()
        if waiting:
            add_worker()

    try:
        for _ in range(min(workers, len(jobs))):
            add_worker()
        looked_s = time.monotonic()
        while crew:
            ready = wait([worker.child.connection for worker in crew], _LOOK_S)
            # While this process was stopped (Ctrl-Z), the workers most likely were, too.
            passed_s = min(time.monotonic() - looked_s, _LOOK_S)
            looked_s = time.monotonic()
            for worker in list(crew):
                job = worker.job
                if worker.child.connection not in ready:
                    if worker.idle_seconds(passed_s) < (_START_S if job is None else stall_s):
                        continue
                    if job is None or stalled is None:
                        raise TimeoutError(f"a worker process did not start within {_START_S:g} s")
                    dismiss(worker)
                    yield stalled(job)
                    continue
                said = worker.receive()
                if isinstance(said, _Failed):
                    raise said.restore()
                if isinstance(said, _Died | _Exhausted):
                    if job is None:
                        raise BrokenProcessPool(
                            "A worker process ended while it started. See its words above; a "
                            "machine short of memory kills such processes."
                        )
                    dismiss(worker)
                    is_memory = isinstance(said, _Exhausted)
                    yield (exhausted if is_memory and exhausted else crashed)(job)
                    continue
                if not waiting:
                    crew.remove(worker)
                    worker.child.connection.close()
                    leaving.append(worker.child)
                elif worker.give(waiting[0]):
                    waiting.popleft()
                else:  # somebody killed it while it had no job
                    dismiss(worker)
                if job is not None:
                    yield said.result
    finally:
        for worker in crew:
            worker.child.kill()
        for child in leaving:
            child.await_end(_END_S)


@dataclass(frozen=True)
class _Done:
    """What a job came to; nothing when the worker has just started."""

    result: Any = None


@dataclass(frozen=True)
class _Exhausted:
    """The job found no memory."""


@dataclass(frozen=True)
class _Died:
    """The worker ended, or said what can't be understood."""


@dataclass(frozen=True)
class _Failed:
    """What work raised."""

    error: bytes  # pickled; empty where that can't be done
    words: str  # its traceback

    def restore(self) -> Exception:
        """Return the exception, caused by its traceback in the worker."""
        error: Exception = RuntimeError(self.words)
        with suppress(UnpicklingError):
            if self.error and isinstance(found := wire.loads(self.error), Exception):
                error = found
                error.__cause__ = _InWorkerError(f"\n{self.words}")
        return error


class _InWorkerError(Exception):
    """Shows a worker's traceback above its parent's."""


class _Worker(Generic[Job]):
    """A process, the job it has, and for how long it has given no sign of life."""

    def __init__(
        self, work: Callable[[Job], Any], start: Callable[[], None], confined: Confinement | None
    ) -> None:
        self.job: Job | None = None  # None while it starts
        self._silent_s = 0.0
        self.child = Child(_do_jobs, work, start, confined, confined=confined)

    def give(self, job: Job) -> bool:
        """Give it a job; say whether it took it."""
        message = pickle.dumps(job)
        try:
            self.child.connection.send_bytes(message)
        except OSError:
            return False
        self.job, self._silent_s = job, 0.0
        return True

    def receive(self) -> "_Done | _Exhausted | _Died | _Failed":
        try:
            said = wire.loads(self.child.connection.recv_bytes())
        except (EOFError, OSError):
            return _Died()
        except UnpicklingError as error:  # a decoder that was taken over, or a mistake of ours
            _log.error("A worker process said what is not accepted. %s", error)
            return _Died()
        return said if isinstance(said, _Done | _Exhausted | _Failed) else _Died()

    def idle_seconds(self, passed_s: float) -> float:
        """Return the seconds without a beat, now that some more have passed."""
        self._silent_s = 0.0 if self.child.has_beaten() else self._silent_s + passed_s
        return self._silent_s


def _do_jobs(
    connection: Connection,
    work: Callable[[Job], Any],
    start: Callable[[], None],
    confined: Confinement | None,
) -> None:
    """Do what comes, until the parent hangs up; runs in a worker."""

    connection.send_bytes(_outcome(start, None))
    limit = MemoryLimit(confined.memory_bytes) if confined else None
    while True:
        job = pickle.loads(connection.recv_bytes())  # a parent's word is trusted
        connection.send_bytes(_outcome(partial(_work, work, job), limit))


def _work(work: Callable[[Job], Result], job: Job) -> Result:
    try:
        return work(job)
    except Exception as error:
        error.add_note(f"This was the job: {job}")
        raise


def _outcome(do: Callable[[], Any], limit: MemoryLimit | None) -> bytes:
    try:
        done = wire.dumps(_Done(do()))
        return wire.dumps(_Exhausted()) if limit and limit.is_spent() else done
    except Exception as error:  # noqa: BLE001 - the parent raises it again, whatever it is
        if confinement.is_out_of_memory(error) or (limit and limit.is_spent()):
            return wire.dumps(_Exhausted())
        words = "".join(traceback.format_exception(error))
        try:
            return wire.dumps(_Failed(wire.dumps(error), words))
        except Exception:  # noqa: BLE001 - not every exception pickles, and then anything is raised
            return wire.dumps(_Failed(b"", words))
