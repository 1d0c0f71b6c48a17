"""Jobs in worker processes: order, crashes, mistakes, and the end with the parent."""

import ctypes
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
from waiting import wait_until

from tests.conftest import find_workers
from unmask.runtime import child, processes
from unmask.runtime.child import heartbeat
from unmask.runtime.code import PACKAGE
from unmask.runtime.confinement import Confinement
from unmask.runtime.processes import run_jobs


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
            heartbeat()
    elif job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif job == "out of memory":  # as the kernel ends it
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{job} done"


def fail(job: str) -> str:
    raise ZeroDivisionError(job)


def on_crash(job: str) -> str:
    return f"{job} crashed"


def give_up(job: str) -> str:
    return f"{job} stalled"


def test_a_job_that_kills_its_worker_costs_only_itself() -> None:
    found = run_jobs(["a", "b", "c", "d"], crash_on_b, ready, 2, crashed=on_crash)
    assert sorted(found) == ["A", "C", "D", "b crashed"]


def test_one_worker_does_the_jobs_in_their_order() -> None:
    assert list(run_jobs("cad", crash_on_b, ready, 1, crashed=on_crash)) == ["C", "A", "D"]


def test_no_jobs_start_no_worker() -> None:
    assert list(run_jobs([], crash_on_b, die_at_start, 2, crashed=on_crash)) == []


def test_a_mistake_of_ours_in_a_worker_propagates() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        list(run_jobs(["a"], fail, ready, 1, crashed=on_crash))
    assert raised.value.__notes__ == ["This was the job: a"]


def test_workers_that_cannot_start_are_no_fault_of_the_jobs() -> None:
    with pytest.raises(BrokenProcessPool):
        list(run_jobs(["a", "b"], crash_on_b, die_at_start, 2, crashed=on_crash))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_without_a_beat_is_killed_and_costs_only_itself(workers: int) -> None:
    hangs = ["sleep", "loop in C", "loop in C with the GIL"]
    jobs = ["quick", *hangs, "slow", "crash", "out of memory", "last"]
    started = time.monotonic()
    found = list(
        run_jobs(jobs, do_as_named, ready, workers, crashed=on_crash, stalled=give_up, stall_s=1.5)
    )
    assert sorted(found) == sorted([
        "quick done", *(f"{hang} stalled" for hang in hangs), "slow done", "crash crashed",
        "out of memory crashed", "last done",
    ])  # fmt: skip
    assert time.monotonic() - started < 60


def test_a_slow_start_is_not_counted_against_the_first_job() -> None:
    run = run_jobs(
        "a", do_as_named, start_slowly, 1, crashed=on_crash, stalled=give_up, stall_s=0.7
    )
    assert list(run) == ["a done"]


def test_a_worker_that_hangs_at_start_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_START_S", 1.0)
    with pytest.raises(TimeoutError, match="did not start within 1 s"):
        list(run_jobs(["a"], do_as_named, hang_at_start, 1, crashed=on_crash))
    assert not find_workers()


def test_a_run_that_is_left_early_waits_for_no_job() -> None:
    run = run_jobs(["quick", "sleep"], do_as_named, ready, 2, crashed=on_crash)
    assert next(run) == "quick done"
    run.close()
    assert not find_workers()


def test_a_beat_outside_a_worker_does_nothing() -> None:
    heartbeat()


def test_workers_end_when_their_parent_is_killed() -> None:
    code = (
        "import gc, time; from unmask.runtime import processes\n"
        "run = processes.run_jobs([0.1, 60], time.sleep, gc.collect, 1, crashed=print)\n"
        "[None for _ in run]"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: find_workers(parent.pid))
    time.sleep(2)
    workers = find_workers(parent.pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    gone, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert gone
    assert not alive


def say_much(connection: Connection, first: str) -> None:
    connection.send(first)
    getattr(connection, first)(b"x") if first.startswith("send") else getattr(connection, first)()
    while True:
        connection.send("more")


@pytest.mark.parametrize("at", ["send", "send_bytes", "recv", "recv_bytes"])
def test_a_worker_whose_words_nobody_reads_ends_without_a_word(
    at: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its connection is then reset, which is not the end of file that a closed one has."""
    worker = child.Child(say_much, at)
    while not worker.connection.poll(1):
        assert worker.is_alive()
    worker.await_end(30)
    assert worker._process.returncode == 0
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------- whoever the parent is

USE = """
from time import sleep
from gc import collect
from unmask.runtime.processes import run_jobs
open("runs", "a").write("x")  # what a script does beside it is done once
def use():
    print(list(run_jobs([0.01, 0.02], sleep, collect, 2, crashed=str)), flush=True)
"""
IN_A_THREAD = "import threading\nrun = threading.Thread(target=use)\nrun.start()\nrun.join()\n"
IN_A_DAEMON = """
import multiprocessing
server = multiprocessing.get_context("fork").Process(target=use, daemon=True)
server.start()
server.join()
"""
IN_A_FORK = "import os\nif not os.fork():\n    use()\n    os._exit(0)\nos.wait()\n"
AS_A_NOTEBOOK = """
import sys
main = sys.modules["__main__"]
vars(main).pop("__file__", None)
vars(main).pop("__spec__", None)
use()
"""
IN_ANOTHER_FOLDER = "import os\nos.mkdir('deeper')\nos.chdir('deeper')\nuse()\n"
IN_A_DELETED_FOLDER = "import os\nos.mkdir('gone')\nos.chdir('gone')\nos.rmdir('../gone')\nuse()\n"
WITHOUT_SIGNALS = (
    "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    "signal.signal(signal.SIGIO, signal.SIG_IGN)\nuse()\n"
)


def run_python(
    *arguments: str, cwd: Path, stdin: str = "", env: dict[str, str] | None = None
) -> str:
    """Run Python in a folder, with no standard input but this; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, input=stdin, capture_output=True, text=True,
        timeout=120, env={**os.environ, **(env or {})}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "then",
    [
        "use()\n", IN_A_THREAD, IN_A_DAEMON, IN_A_FORK, AS_A_NOTEBOOK, IN_ANOTHER_FOLDER,
        IN_A_DELETED_FOLDER, WITHOUT_SIGNALS,
    ],
    ids=[
        "plain", "thread", "daemon", "fork", "notebook", "another folder", "deleted folder",
        "signals",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["file", "stdin", "-c", "-i", "-m", "-I"])
def test_a_program_without_a_main_guard_is_run_once(form: str, then: str, tmp_path: Path) -> None:
    program = USE + "\n" + then
    (tmp_path / "example.py").write_text(program)
    match form:
        case "stdin":
            said = run_python(cwd=tmp_path, stdin=program)
        case "-i":  # line by line, as one types: a definition ends with an empty one
            typed = program.replace("    print", "  print").replace("\n\n", "\n")
            typed = re.sub(r"\n(?=\S)", "\n\n", typed)
            said = run_python("-i", cwd=tmp_path, stdin=typed)
        case "-c":
            said = run_python("-c", program, cwd=tmp_path)
        case "-m":
            said = run_python("-m", "example", cwd=tmp_path)
        case "-I":
            said = run_python("-I", "example.py", cwd=tmp_path)
        case _:
            said = run_python("example.py", cwd=tmp_path)
    assert "[None, None]" in said
    assert (tmp_path / "runs").read_text() == "x"


PLANTED = "raise SystemExit('a stranger says hello')\n"


@pytest.mark.parametrize("env", [{}, {"PYTHONPATH": ""}, {"PYTHONPATH": f"{os.pathsep}."}])
def test_workers_import_nothing_from_the_current_directory(
    env: dict[str, str], tmp_path: Path
) -> None:
    here = tmp_path / "strange"
    here.mkdir()
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    # The parent reads its own modules first: what is tested is its workers.
    script.write_text(
        "import os, sys\n"
        "import modules_of_workers, unmask.runtime.processes\n"
        "os.chdir(sys.argv[1])\n"
        "sys.path.insert(0, '')\n"
        "sys.path.insert(0, os.getcwd())\n"
        "from gc import collect\n"
        "names = ['av', 'numpy', 'unmask', 'cv2', 'json']\n"
        "found = unmask.runtime.processes.run_jobs(names, modules_of_workers.find, collect, 1,"
        " crashed=lambda name: name + ' was planted')\n"
        "print(*found)\n"
    )
    (script.parent / "modules_of_workers.py").write_text(
        "import importlib\n"
        "def find(name):\n"
        "    module = importlib.import_module(name)\n"
        "    return module.__file__\n"
    )
    names = ["av", "numpy", "unmask", "cv2", "json", "pickle", "struct", "sitecustomize", "ctypes"]
    for name in names:
        (here / f"{name}.py").write_text(PLANTED)
    said = run_python(str(script), str(here), cwd=tmp_path, env=env)
    assert "planted" not in said
    assert str(here) not in said
    assert [word.endswith(".py") for word in said.split()] == [True] * 5


def test_workers_import_from_where_their_parent_was_told_to(tmp_path: Path) -> None:
    for name in ("by_path", "by_insert"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(f"def say(job): return '{name}'\n")
    (tmp_path / "script.py").write_text(
        "import os, sys\nsys.path.insert(0, 'by_insert')\nimport by_insert, by_path\n"
        "from gc import collect\nfrom unmask.runtime.processes import run_jobs\n"
        "for say in (by_insert.say, by_path.say):\n"
        "    print(*run_jobs([1], say, collect, 1, crashed=str))\n"
    )
    said = run_python("script.py", cwd=tmp_path, env={"PYTHONPATH": "by_path"})
    assert said.split() == ["by_insert", "by_path"]


def test_workers_have_the_package_that_their_parent_has(tmp_path: Path) -> None:
    """A checkout's own code runs, though another one is installed, also from its folder."""
    source = PACKAGE.parent
    shutil.copytree(source / "unmask", tmp_path / "unmask", ignore=shutil.ignore_patterns("__py*"))
    code = "import os, unmask.runtime.processes as p\ndef where(job): return p.__file__\n"
    (tmp_path / "unmask" / "where.py").write_text(code)
    use = (
        "from gc import collect\nfrom unmask.runtime.processes import run_jobs\n"
        "from unmask.where import where\nprint(*run_jobs([1], where, collect, 1, crashed=str))"
    )
    for arguments, env in ((["-c", use], {}), (["-P", "-c", use], {"PYTHONPATH": "."})):
        said = run_python(*arguments, cwd=tmp_path, env=env)
        assert said.strip() == str(tmp_path / "unmask/runtime/processes.py")


def test_what_workers_write_to_stdout_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(run_jobs(["a"], print, ready, 1, crashed=on_crash)) == [None]
    assert capfd.readouterr().out == ""


def tell_variable(name: str) -> str:
    return os.environ.get(name, "")


@pytest.mark.parametrize(("asked", "told"), [(None, "1"), ("3", "3")])
def test_a_worker_multiplies_on_one_thread_unless_it_was_told_otherwise(
    asked: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """numpy's OpenBLAS reads the variable once, where it is loaded."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", asked)
    found = run_jobs(["OPENBLAS_NUM_THREADS"], tell_variable, ready, 1, crashed=on_crash)
    assert list(found) == [told]


def keep_the_lock(job: str) -> str:
    Path(job).touch()
    re.match("(a+)+$", "a" * 60 + "b")
    return job


def test_a_worker_in_a_loop_that_keeps_pythons_lock_ends_with_its_killed_parent(
    tmp_path: Path,
) -> None:
    code = (
        "import gc, sys; from unmask.runtime import processes\n"
        "from tests.runtime.test_processes import keep_the_lock\n"
        "run = processes.run_jobs(sys.argv[1:], keep_the_lock, gc.collect, 1,"
        " crashed=print)\n"
        "[None for _ in run]"
    )
    begun = tmp_path / "begun"
    parts = Path(__file__).parents[1] / "parts"  # conftest imports them
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(begun)], env={**os.environ, "PYTHONPATH": str(parts)}
    )
    wait_until(begun.exists)
    workers = find_workers(parent.pid)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert len(workers) == 1
    assert not alive


class Stranger:
    """What a decoder that was taken over would send: unpickled, it runs a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch taken_over",)


def be_taken_over(job: str) -> object:
    return Stranger() if job == "b" else job


def raise_taken_over(job: str) -> object:
    raise ValueError(Stranger(), job)


def test_an_answer_that_would_run_code_is_refused_and_costs_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(run_jobs(["a", "b", "c"], be_taken_over, ready, 1, crashed=on_crash))
    assert found == ["a", "b crashed", "c"]
    with pytest.raises(RuntimeError, match="ValueError"):
        list(run_jobs(["a"], raise_taken_over, ready, 1, crashed=on_crash))
    assert not (tmp_path / "taken_over").exists()


def test_an_error_shows_where_in_the_worker_it_was_raised() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        list(run_jobs(["a"], fail, ready, 1, crashed=on_crash))
    assert "in fail" in str(raised.value.__cause__)


def ask_for_memory(job: int) -> int:
    return len(bytearray(job))


def lack_memory(job: int) -> int:
    return -job


def test_a_job_that_asks_for_too_much_memory_costs_only_itself() -> None:
    jobs = [10, 10 * 2**30, 2**20]
    found = run_jobs(
        jobs, ask_for_memory, ready, 1, crashed=int, exhausted=lack_memory,
        confined=Confinement(memory_bytes=2**30),
    )  # fmt: skip
    assert list(found) == [10, -10 * 2**30, 2**20]
    without = run_jobs(jobs, ask_for_memory, ready, 1, crashed=str, confined=Confinement())
    assert list(without) == [10, str(10 * 2**30), 2**20]
