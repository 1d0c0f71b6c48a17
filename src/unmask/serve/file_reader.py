"""Asks each video what it says of itself, in a confined process of that video's own.

Content credentials are parsed by a large library, and videos come from strangers: a file that takes
over its process has no say in its own verdict, nor in anything of the videos that follow.
"""

import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from pickle import UnpicklingError

from unmask.answers import ask_files
from unmask.answers.file_says import FileSays
from unmask.runtime import confinement, wire
from unmask.runtime.child import Child
from unmask.runtime.confinement import Confinement
from unmask.serve.worker import LOOK_S

_MEMORY_BYTES = 2 * confinement.GIB
_START_S = 120.0  # for its imports, from a cold drive
_READY = "ready"
_EXHAUSTED = "exhausted"  # in the place of what a file says


class FileReader:
    """Reads one file after another, each in a process that is started before it is needed.

    Not safe for several threads.
    """

    def __init__(self, trusted_pem: str | None, *, stall_s: float = 30.0) -> None:
        """Call a signature trusted that leads to one of these certificates in PEM."""
        self._trusted_pem, self._stall_s = trusted_pem, stall_s
        self._child: Child | None = None

    def prepare(self) -> None:
        """Start the process that reads the next file, if there is none."""
        if self._child is None or not self._child.is_alive():
            self.close()
            confined = Confinement(memory_bytes=_MEMORY_BYTES)
            self._child = Child(_read_one, self._trusted_pem, confined=confined, leads_group=True)

    def read(self, path: Path, stops: Callable[[], bool]) -> FileSays:
        """Return what a file says; what can't be read says so, and so does what is stopped."""
        self.prepare()
        child = self._child
        assert child is not None
        try:
            said = _hear(child, _START_S, stops)
            if said == _READY:
                child.connection.send(path)
                said = _hear(child, self._stall_s, stops)
        except TimeoutError:
            return ask_files.unreadable(f"Nothing was read for {self._stall_s:g} s.")
        except (EOFError, OSError, UnpicklingError):
            return ask_files.unreadable("The process that read it crashed.")
        finally:
            self.close()
        if said == _EXHAUSTED:
            return ask_files.unreadable("It takes more memory than it may.")
        return ask_files.checked(said)

    def close(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()


def _hear(child: Child, most_s: float, stops: Callable[[], bool]) -> object:
    """Return the next message of a process.

    Raises:
        TimeoutError: it did not get on for so long, or nobody waits for it any more.
        EOFError, OSError, UnpicklingError: it has ended, or sends no plain data.
    """
    beaten_s = time.monotonic()
    while not child.connection.poll(LOOK_S):
        if child.has_beaten():
            beaten_s = time.monotonic()
        if stops() or time.monotonic() - beaten_s > most_s:
            raise TimeoutError
    return wire.loads(child.connection.recv_bytes())


def _read_one(connection: Connection, trusted_pem: str | None) -> None:
    """Read the one file that the parent names, and end."""
    connection.send(_READY)
    path = connection.recv()
    limit = confinement.MemoryLimit(_MEMORY_BYTES)
    try:
        said = ask_files.read_here(path, trusted_pem).model_dump_json()
    except Exception as error:
        if not confinement.is_out_of_memory(error):
            raise
        said = _EXHAUSTED
    connection.send(_EXHAUSTED if limit.is_spent() else said)
