"""A Python process of our own: it ends with its parent, and imports nothing of a stranger's.

It is a program of its own. multiprocessing's "spawn" runs the user's script again in each process,
which therefore needs a main guard, and refuses to start any in a server's daemonic worker; "fork"
deadlocks once torch has started threads.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.spawn import get_executable
from typing import Any

from unmask.errors import UnmaskError
from unmask.runtime import confinement
from unmask.runtime.code import PACKAGE
from unmask.runtime.confinement import Confinement

if sys.platform == "win32":
    import _winapi
    import msvcrt
    from multiprocessing.connection import PipeConnection as Connection
else:
    import fcntl
    from multiprocessing.connection import Connection

_BEAT_S = 0.1  # between two bytes of a worker to its parent

# The first thing a worker runs. Ctrl-C is its parent's, which ends it. What Python itself knows to
# import from comes last, in case the parent's list lacks it.
_BOOT = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = dict.fromkeys(sys.argv[4:] + sys.path); "
    "from unmask.runtime.child import be_child; be_child(*map(int, sys.argv[1:4]))"
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
    """Return how often heartbeat() was called in this process."""
    return _beats


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
            _let_pass(self._beats)
            info, told = os.pipe()
            theirs.callback(os.close, info)
            with ExitStack() as during_start:
                during_start.callback(os.close, told)
                if prefix:
                    prefix += ["--info-fd", str(told), "--"]
                # As the child knows them: Windows hands on what is below its descriptors.
                ends = (connection.fileno(), _handed_on(life), _handed_on(beats))
                handed = _handing_on((*ends, told) if prefix else ends, leads_group=leads_group)
                self._process = subprocess.Popen(
                    [*prefix, *_python(), "-c", _BOOT, *map(str, ends), *_import_path()],
                    # A program that is piped into this Python is not the child's to read, and
                    # stdout is for results.
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    env=_environment(), **handed,
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
        if sys.platform == "win32" and not _winapi.PeekNamedPipe(_handed_on(self._beats), 0)[0]:
            return False
        try:
            return bool(os.read(self._beats, 2**16))
        except BlockingIOError:
            return False

    def kill(self) -> None:
        """End it at once, with all that it started if it leads a group or is in a namespace."""
        if self._process.poll() is None:
            if sys.platform != "win32":
                with suppress(ProcessLookupError):
                    if self._in_namespace:  # the first process in there, with which all others end
                        os.kill(self._in_namespace, signal.SIGKILL)
            self._process.kill()
        if self._leads_group and sys.platform != "win32":  # there what it starts ends by itself
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


def _handed_on(fd: int) -> int:
    """Return what a child is given of a descriptor: itself, or the handle below it."""
    if sys.platform == "win32":
        return msvcrt.get_osfhandle(fd)
    return fd


def _handing_on(ends: Sequence[int], *, leads_group: bool) -> dict[str, Any]:
    """Return the options of Popen with which a child gets these and no others."""
    if sys.platform == "win32":
        for handle in ends:
            os.set_handle_inheritable(handle, True)
        return {
            "startupinfo": subprocess.STARTUPINFO(lpAttributeList={"handle_list": [*ends]}),
            "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP if leads_group else 0,
        }
    return {"pass_fds": ends, "start_new_session": leads_group}


def _let_pass(fd: int) -> None:
    """Have reads and writes of a pipe come back at once, whether or not there is anything."""
    if sys.platform != "win32" or sys.version_info >= (3, 12):  # before, a full pipe holds a beat
        os.set_blocking(fd, False)


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
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONINSPECT")}
    # numpy's small products of matrices take many times as long on threads that wait for a core.
    return {"OPENBLAS_NUM_THREADS": "1", **kept}


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
    """A child's end of its connection; raises _ParentGone however the parent went away.

    If the parent ends with messages unread, the system reports a reset, not a closed connection.
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
    if sys.platform == "win32":
        for handle in (connection_fd, life_fd, beat_fd):
            os.set_handle_inheritable(handle, False)
        life_fd = msvcrt.open_osfhandle(life_fd, os.O_RDONLY)
        beat_fd = msvcrt.open_osfhandle(beat_fd, os.O_WRONLY)
    else:
        for fd in (connection_fd, life_fd, beat_fd):
            os.set_inheritable(fd, False)
        _end_with_parent(life_fd)
    _let_pass(beat_fd)
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


if sys.platform != "win32":

    def _end_with_parent(life_fd: int) -> None:
        """Have the kernel end this process when its parent's end of the pipe closes.

        It must not go on to write beside the next run, also where a codec's loop keeps Python's
        lock. Windows has nothing of the kind: there a thread alone watches.
        """
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        with suppress(OSError):  # not every kernel has it, and then there is a thread
            fcntl.fcntl(life_fd, fcntl.F_SETOWN, os.getpid())
            flags = fcntl.fcntl(life_fd, fcntl.F_GETFL)
            fcntl.fcntl(life_fd, fcntl.F_SETFL, flags | os.O_ASYNC)


def _watch_parent(life_fd: int) -> None:
    def watch() -> None:
        os.read(life_fd, 1)  # nothing ever comes but its end
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
