"""A reader of files that does what a file's name says; a module of its own, quick to import."""

import os
import signal
import socket
import time
from multiprocessing.connection import Connection
from pathlib import Path

from unmask.answers import ask_files
from unmask.answers.file_says import Credentials, FileSays, State
from unmask.serve import file_reader

_read_one = file_reader._read_one  # a test puts play_one into its place


def play(path: Path, _: str | None = None) -> FileSays:
    """Stand in for credentials that do what the file's name says to the process that reads them."""
    if path.name == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif path.name == "hang":
        time.sleep(600)
    elif path.name == "memory":
        assert len(bytearray(3 * 2**30))
    elif path.name == "lie":
        return "trusted"  # type: ignore[return-value]
    elif path.name.isdecimal():
        try:
            socket.create_connection(("127.0.0.1", int(path.name)), timeout=5).close()
        except OSError:
            return ask_files.unreadable("refused")
    elif path.name == "write":
        path.write_text("written")
    return FileSays(credentials=Credentials(state=State.ABSENT, detail=str(os.getpid())))


def play_one(connection: Connection, trusted_pem: str | None) -> None:
    """Read a file as the module does, by the reading above."""
    ask_files.read_here = play
    _read_one(connection, trusted_pem)
