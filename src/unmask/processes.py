"""Worker processes: replaced when a job kills them, and gone when their parent is killed."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Job], Result],
    start: Callable[[], None],
    workers: int,
    *,
    crashed: Callable[[Job], Result],
) -> Iterator[Result]:
    """Yield what work makes of each job as it is done, by worker processes that begin with start.

    Each worker is a pool of one process that has one job at a time. So when a codec crashes, it is
    known which job did it: its result is crashed(job), that worker is replaced, and the others
    notice nothing. What work raises is raised here.
    """
    waiting = deque(jobs)
    running: dict[Future[list[Result]], tuple[ProcessPoolExecutor, Job | None]] = {}

    def add_worker() -> None:
        # "spawn", as a fork of a process in which torch has run threads deadlocks.
        pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_end_with_parent)
        running[pool.submit(_start, start)] = pool, None

    try:
        for _ in range(min(workers, len(jobs))):
            add_worker()
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                pool, job = running[future]
                try:
                    results = future.result()
                except BrokenProcessPool:
                    if job is None:  # it crashed before it had a job
                        raise
                    results = [crashed(job)]
                    pool.shutdown()
                    if waiting:
                        add_worker()
                else:
                    if waiting:
                        job = waiting.popleft()
                        running[pool.submit(_work, work, job)] = pool, job
                    else:
                        pool.shutdown(wait=False)
                del running[future]
                yield from results
    finally:
        for pool, _ in running.values():
            pool.shutdown(cancel_futures=True)


def _start(start: Callable[[], None]) -> list[Any]:
    start()
    return []


def _work(work: Callable[[Job], Result], job: Job) -> list[Result]:
    return [work(job)]


def _end_with_parent() -> None:
    # A worker of a killed parent would wait for work for ever, or write beside the next run.
    def watch() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
