"""Jobs in worker processes: order, crashes, mistakes, and the end with the parent."""

import ctypes
import hashlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest

from unmask.runtime import processes
from unmask.runtime.processes import beat, run_jobs


def ready() -> None:
    """Start a worker that needs nothing."""


def die_at_start() -> None:
    os._exit(9)


def crash_on_b(job: str) -> str:
    if job == "b":
        os._exit(9)
    time.sleep(0.1)
    return job.upper()


def hang_at_start() -> None:
    ctypes.CDLL(None).pause()


def start_slowly() -> None:
    time.sleep(2)


def do_as_named(job: str) -> str:
    if job == "sleep":
        ctypes.CDLL(None).pause()
    elif job == "loop in C":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
    elif job == "loop in C with the GIL":
        re.match("(a+)+$", "a" * 60 + "b")
    elif job == "slow":
        for _ in range(12):
            time.sleep(0.25)
            beat()
    elif job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif job == "out of memory":  # as the kernel ends it
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{job} done"


def fail(job: str) -> str:
    raise ZeroDivisionError(job)


def lament(job: str) -> str:
    return f"{job} crashed"


def give_up(job: str) -> str:
    return f"{job} stalled"


def test_a_job_that_kills_its_worker_costs_only_itself() -> None:
    found = run_jobs(["a", "b", "c", "d"], crash_on_b, ready, 2, crashed=lament)
    assert sorted(found) == ["A", "C", "D", "b crashed"]


def test_one_worker_does_the_jobs_in_their_order() -> None:
    assert list(run_jobs("cad", crash_on_b, ready, 1, crashed=lament)) == ["C", "A", "D"]


def test_no_jobs_start_no_worker() -> None:
    assert list(run_jobs([], crash_on_b, die_at_start, 2, crashed=lament)) == []


def test_a_mistake_of_ours_in_a_worker_propagates() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        list(run_jobs(["a"], fail, ready, 1, crashed=lament))
    assert raised.value.__notes__ == ["This was the job: a"]


def test_workers_that_cannot_start_are_no_fault_of_the_jobs() -> None:
    with pytest.raises(BrokenProcessPool):
        list(run_jobs(["a", "b"], crash_on_b, die_at_start, 2, crashed=lament))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_without_a_beat_is_killed_and_costs_only_itself(workers: int) -> None:
    hangs = ["sleep", "loop in C", "loop in C with the GIL"]
    jobs = ["quick", *hangs, "slow", "crash", "out of memory", "last"]
    started = time.monotonic()
    found = list(
        run_jobs(jobs, do_as_named, ready, workers, crashed=lament, stalled=give_up, stall_s=1.5)
    )
    assert sorted(found) == sorted([
        "quick done", *(f"{hang} stalled" for hang in hangs), "slow done", "crash crashed",
        "out of memory crashed", "last done",
    ])  # fmt: skip
    assert time.monotonic() - started < 60


def test_a_slow_start_is_not_counted_against_the_first_job() -> None:
    run = run_jobs("a", do_as_named, start_slowly, 1, crashed=lament, stalled=give_up, stall_s=0.7)
    assert list(run) == ["a done"]


def test_a_worker_that_hangs_at_start_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_START_S", 1.0)
    with pytest.raises(TimeoutError, match="did not start within 1 s"):
        list(run_jobs(["a"], do_as_named, hang_at_start, 1, crashed=lament))
    assert not multiprocessing.active_children()


def test_a_run_that_is_left_early_waits_for_no_job() -> None:
    run = run_jobs(["quick", "sleep"], do_as_named, ready, 2, crashed=lament)
    assert next(run) == "quick done"
    run.close()
    assert not multiprocessing.active_children()


def test_a_beat_outside_a_worker_does_nothing() -> None:
    beat()


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
