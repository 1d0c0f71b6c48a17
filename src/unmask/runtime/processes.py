"""Worker processes: replaced when a job kills or stalls them, gone when their parent is killed."""

import ctypes
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.sharedctypes import RawValue
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_LOOK_S = 0.5  # between two looks at the workers' beats
_START_S = 600.0  # torch from a cold network drive takes minutes

_beats = ctypes.c_uint64()  # in a worker: shared with its parent


def beat() -> None:
    """Tell the parent of this worker that its job gets on; elsewhere it does nothing."""
    _beats.value += 1


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Job], Result],
    start: Callable[[], None],
    workers: int,
    *,
    crashed: Callable[[Job], Result],
    stalled: Callable[[Job], Result] | None = None,
    stall_s: float = math.inf,
) -> Iterator[Result]:
    """Yield what work makes of each job as it is done, by worker processes that begin with start.

    Each worker is a pool of one process that has one job at a time. So when a codec crashes, it is
    known which job did it: its result is crashed(job), that worker is replaced, and the others
    notice nothing. The same goes for a job that has not called beat() for stall_s seconds: its
    worker is killed, as nothing else ends a loop in C, and its result is stalled(job).

    What work raises is raised here. Then, and where the caller stops early, the jobs in hand are
    killed.

    Raises:
        BrokenProcessPool: a worker crashed before it had a job.
        TimeoutError: a worker was not ready for a job within ten minutes.
    """
    assert (stalled is None) == math.isinf(stall_s), "a budget and what to do when it is spent"
    waiting = deque(jobs)
    running: dict[Future[list[Result]], _Worker[Job]] = {}

    def add_worker() -> None:
        worker = _Worker[Job]()
        running[worker.pool.submit(_start, start)] = worker

    try:
        for _ in range(min(workers, len(jobs))):
            add_worker()
        looked_s = time.monotonic()
        while running:
            done, pending = wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            # While this process was stopped (Ctrl-Z), the workers most likely were, too.
            passed_s = min(time.monotonic() - looked_s, _LOOK_S)
            looked_s = time.monotonic()
            for future in pending:
                worker = running[future]
                if worker.count_silence(passed_s) < (_START_S if worker.job is None else stall_s):
                    continue
                del running[future]
                worker.kill()
                if worker.job is None or stalled is None:
                    raise TimeoutError(f"a worker process did not start within {_START_S:g} s")
                if waiting:
                    add_worker()
                yield stalled(worker.job)
            for future in done:
                worker = running[future]
                try:
                    results = future.result()
                except BrokenProcessPool:
                    if worker.job is None:
                        raise
                    results = [crashed(worker.job)]
                    del running[future]
                    worker.kill()
                    if waiting:
                        add_worker()
                else:
                    del running[future]
                    if waiting:
                        try:
                            running[worker.pool.submit(_work, work, waiting[0])] = worker
                            worker.take(waiting.popleft())
                        except BrokenProcessPool:  # somebody killed it while it had no job
                            add_worker()
                    else:
                        worker.pool.shutdown(wait=False)
                yield from results
    finally:
        for worker in running.values():
            worker.kill()


class _Worker(Generic[Job]):
    """A process, the job it has, and for how long it has given no sign of life."""

    def __init__(self) -> None:
        self.job: Job | None = None  # None while it starts
        self._beats = RawValue(ctypes.c_uint64)
        self._heard, self._silent_s = 0, 0.0
        # "spawn", as a fork of a process in which torch has run threads deadlocks.
        self.pool = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_attach, initargs=(self._beats,)
        )

    def take(self, job: Job) -> None:
        self.job, self._silent_s = job, 0.0

    def count_silence(self, passed_s: float) -> float:
        """Return the seconds without a beat, now that some more have passed."""
        heard = self._beats.value
        self._silent_s = self._silent_s + passed_s if heard == self._heard else 0.0
        self._heard = heard
        return self._silent_s

    def kill(self) -> None:
        # Only Python 3.14 has a public way: ProcessPoolExecutor.kill_workers.
        for process in list(self.pool._processes.values()):
            process.kill()
        self.pool.shutdown(cancel_futures=True)


def _start(start: Callable[[], None]) -> list[Any]:
    start()
    return []


def _work(work: Callable[[Job], Result], job: Job) -> list[Result]:
    try:
        return [work(job)]
    except Exception as error:
        error.add_note(f"This was the job: {job}")
        raise


def _attach(beats: ctypes.c_uint64) -> None:
    """Make this process a worker that beats for its parent, and ends with it."""
    global _beats
    _beats = beats

    # A worker of a killed parent would wait for work for ever, or write beside the next run.
    def watch() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
