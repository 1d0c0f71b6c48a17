"""Jobs in worker processes: order, crashes, mistakes, and the end with the parent."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest

from unmask.processes import run_jobs


def ready() -> None:
    """Start a worker that needs nothing."""


def die_at_start() -> None:
    os._exit(9)


def crash_on_b(job: str) -> str:
    if job == "b":
        os._exit(9)
    time.sleep(0.1)
    return job.upper()


def fail(job: str) -> str:
    raise ZeroDivisionError(job)


def lament(job: str) -> str:
    return f"{job} crashed"


def test_a_job_that_kills_its_worker_costs_only_itself() -> None:
    found = run_jobs(["a", "b", "c", "d"], crash_on_b, ready, 2, crashed=lament)
    assert sorted(found) == ["A", "C", "D", "b crashed"]


def test_one_worker_does_the_jobs_in_their_order() -> None:
    assert list(run_jobs("cad", crash_on_b, ready, 1, crashed=lament)) == ["C", "A", "D"]


def test_no_jobs_start_no_worker() -> None:
    assert list(run_jobs([], crash_on_b, die_at_start, 2, crashed=lament)) == []


def test_a_mistake_of_ours_in_a_worker_propagates() -> None:
    with pytest.raises(ZeroDivisionError):
        list(run_jobs(["a"], fail, ready, 1, crashed=lament))


def test_workers_that_cannot_start_are_no_fault_of_the_jobs() -> None:
    with pytest.raises(BrokenProcessPool):
        list(run_jobs(["a", "b"], crash_on_b, die_at_start, 2, crashed=lament))


def test_workers_end_when_their_parent_is_killed() -> None:
    code = (
        "import gc, time; from unmask import processes\n"
        "run = processes.run_jobs([0.1, 60], time.sleep, gc.collect, 1, crashed=print)\n"
        "[None for _ in run]"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    workers: list[psutil.Process] = []
    deadline = time.monotonic() + 30
    while not workers and time.monotonic() < deadline:
        time.sleep(0.1)
        children = psutil.Process(parent.pid).children()
        workers = [c for c in children if "spawn_main" in " ".join(c.cmdline())]
    time.sleep(2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    gone, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert gone
    assert not alive
