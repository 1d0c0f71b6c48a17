"""Worker processes: replaced when a job kills or stalls them, gone when their parent is killed.

They are programs of their own. multiprocessing's "spawn" runs the user's script again in each of
them, which therefore needs a main guard, and refuses to start any in a server's daemonic worker;
"fork" deadlocks once torch has started threads.
"""

import fcntl
import json
import logging
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.spawn import get_executable
from pickle import UnpicklingError
from typing import Any, Generic, TypeVar

from unmask.errors import UnmaskError
from unmask.runtime import confinement, wire
from unmask.runtime.code import PACKAGE
from unmask.runtime.confinement import Confinement, MemoryLimit

Job = TypeVar("Job")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)

_LOOK_S = 0.5  # between two looks at the workers' beats
_START_S = 600.0  # torch from a cold network drive takes minutes
_END_S = 5.0  # for a worker without work to leave by itself
_BEAT_S = 0.1  # between two bytes of a worker to its parent

# The first thing a worker runs. Ctrl-C is its parent's, which ends it. What Python itself knows to
# import from comes last, in case the parent's list lacks it.
_BOOT = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = dict.fromkeys(sys.argv[4:] + sys.path); "
    "from unmask.runtime.processes import be_child; be_child(*map(int, sys.argv[1:4]))"
)

_beats = 0
_beat_fd: int | None = None  # in a child: the pipe to its parent
_told_s = 0.0


def heartbeat() -> None:
    """Tell the parent of this worker that its job gets on; elsewhere it only counts."""
    global _beats, _told_s
    _beats += 1
    if _beat_fd is not None and time.monotonic() - _told_s > _BEAT_S:
        _told_s = time.monotonic()
        with suppress(OSError):  # nobody has listened for long: what is there says enough
            os.write(_beat_fd, b".")


def count_beats() -> int:
    """Return how often beat() was called in this process."""
    return _beats


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


# ---------------------------------------------------------------- processes


class Child:
    """A Python process of our own that runs target(connection, *args), and ends with its parent.

    target and args are pickled. The process imports from where this one does, except that it never
    imports from the current directory, which may be a stranger's, unless this package lies there.
    All but one thread keep their hands off it.

    Raises:
        UnmaskError: this Python does not know which program runs Python.
    """

    def __init__(
        self,
        target: Callable[..., None],
        *args: Any,
        confined: Confinement | None = None,
        leads_group: bool = False,
    ) -> None:
        """Start it; with leads_group, Ctrl-C doesn't reach it, and what it starts dies with it."""
        prefix = confinement.prefix(confined) if confined else []
        self._leads_group = leads_group
        self._in_namespace: int | None = None
        with ExitStack() as theirs, ExitStack() as ours:
            self.connection, connection = Pipe()
            ours.callback(self.connection.close)
            theirs.callback(connection.close)
            life, self._life = os.pipe()
            ours.callback(os.close, self._life)
            theirs.callback(os.close, life)
            self._beats, beats = os.pipe()
            ours.callback(os.close, self._beats)
            theirs.callback(os.close, beats)
            os.set_blocking(self._beats, False)
            info, told = os.pipe()
            theirs.callback(os.close, info)
            with ExitStack() as during_start:
                during_start.callback(os.close, told)
                if prefix:
                    prefix += ["--info-fd", str(told), "--"]
                fds = (connection.fileno(), life, beats)
                self._process = subprocess.Popen(
                    [*prefix, *_python(), "-c", _BOOT, *map(str, fds), *_import_path()],
                    # A program that is piped into this Python is not the child's to read, and
                    # stdout is for results.
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    pass_fds=(*fds, told) if prefix else fds,
                    env=_environment(), start_new_session=leads_group,
                )  # fmt: skip
            if prefix:
                self._in_namespace = _read_child_pid(info)
            ours.pop_all()  # it runs: they stay open
        with suppress(OSError):  # it has ended: whoever listens to it hears so
            self.connection.send_bytes(pickle.dumps((confined, bool(prefix))))
            self.connection.send_bytes(pickle.dumps((target, args)))

    @property
    def pid(self) -> int:
        """Return the process's id, or that of bubblewrap around it."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Say whether it has not ended."""
        return self._process.poll() is None

    def has_beaten(self) -> bool:
        """Say whether it has called heartbeat() since this was asked last."""
        try:
            return bool(os.read(self._beats, 2**16))
        except BlockingIOError:
            return False

    def kill(self) -> None:
        """End it at once, with all that it started if it leads a group or is in a namespace."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                if self._in_namespace:  # the first process in there, with which all others end
                    os.kill(self._in_namespace, signal.SIGKILL)
            self._process.kill()
        if self._leads_group:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self.await_end(None)

    def await_end(self, most_s: float | None) -> None:
        """Let it end by itself, or kill it after some seconds."""
        self.connection.close()
        try:
            self._process.wait(most_s)
        except subprocess.TimeoutExpired:
            self.kill()
        for fd in (self._life, self._beats):
            if fd >= 0:
                os.close(fd)
        self._life = self._beats = -1


def _python() -> list[str]:
    executable = get_executable()  # as multiprocessing.set_executable says, else sys.executable
    if not executable:
        raise UnmaskError(
            "Asked to start a worker process; this Python is part of another program and does not "
            "know its own. Call multiprocessing.set_executable with the path of a Python that has "
            "the same packages."
        )
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # -I, -W ...
    return [os.fsdecode(executable), *flags, "-P"]


def _environment() -> dict[str, str]:
    # PYTHONPATH may be relative to the directory that was the current one.
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONINSPECT")}


def _import_path() -> list[str]:
    home = os.path.realpath(PACKAGE.parent)
    try:
        here: str | None = os.path.realpath(os.getcwd())
    except FileNotFoundError:  # deleted
        here = None
    entries = [os.path.abspath(entry) for entry in sys.path if here or os.path.isabs(entry)]
    places = {entry: os.path.realpath(entry) for entry in entries}
    # The current folder may be a stranger's, unless the user named it in so many words.
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    trusted = {home, *(os.path.realpath(entry) for entry in named if os.path.isabs(entry))}
    path = [entry for entry in entries if places[entry] in trusted or places[entry] != here]
    return path if home in places.values() else [*path, home]


def _read_child_pid(info: int) -> int | None:
    """Return the process that bubblewrap says is the namespace's first; None where it failed."""
    said = b""
    while part := os.read(info, 4096):
        said += part
        if said.rstrip().endswith(b"}"):
            break
    try:
        return int(json.loads(said)["child-pid"])
    except (ValueError, LookupError):
        return None


class _ParentGone(BaseException):
    """The parent has hung up, or ended: no failure, whatever the child is at."""


class _ToParent(Connection):
    """A child's end of its connection: however the system says that the parent is gone, one way.

    A parent that ends with words unread is a connection that was reset, not one that was closed.
    """

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        with _gone():
            return super().recv_bytes(maxlength)

    def recv(self) -> Any:
        with _gone():
            return super().recv()

    def send_bytes(self, *args: Any) -> None:
        with _gone():
            super().send_bytes(*args)

    def send(self, obj: Any) -> None:
        with _gone():
            super().send(obj)


@contextmanager
def _gone() -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError) as error:
        raise _ParentGone from error


def be_child(connection_fd: int, life_fd: int, beat_fd: int) -> None:
    """Do what the parent asks; the main function of each child process."""
    global _beat_fd
    for fd in (connection_fd, life_fd, beat_fd):
        os.set_inheritable(fd, False)
    _end_with_parent(life_fd)
    os.set_blocking(beat_fd, False)
    _beat_fd = beat_fd
    connection = _ToParent(connection_fd)
    with suppress(_ParentGone):
        confined, in_bubblewrap = pickle.loads(connection.recv_bytes())
        if confined is not None:
            confinement.confine(confined, in_bubblewrap=in_bubblewrap)
        # From here on there may be threads: what confines a process holds for those to come.
        _watch_parent(life_fd)
        target, args = pickle.loads(connection.recv_bytes())
        target(connection, *args)


def _end_with_parent(life_fd: int) -> None:
    """Have the kernel end this process when its parent's end of the pipe closes.

    It must not go on to write beside the next run, also where a codec's loop keeps Python's lock.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    with suppress(OSError):  # not every kernel has it, and then there is a thread
        fcntl.fcntl(life_fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life_fd, fcntl.F_SETFL, fcntl.fcntl(life_fd, fcntl.F_GETFL) | os.O_ASYNC)


def _watch_parent(life_fd: int) -> None:
    def watch() -> None:
        os.read(life_fd, 1)  # nothing ever comes but its end
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
