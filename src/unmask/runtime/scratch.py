"""Temporary folders that hold people's videos: none outlives a killed process for long.

A folder holds a lock file, which the process that made it keeps locked, however long it lives; the
kernel lets go of the lock when that process ends, even by SIGKILL. Whoever makes the next such
folder deletes those of the same user whose lock nobody holds.
"""

import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unmask.runtime import system
from unmask.runtime.disk import create, writing

_PREFIX = "unmask-"
_LOCK = ".unmask.lock"
_NAME = re.compile(r"unmask-[a-z]+-[a-z0-9_]{8}")  # as mkdtemp makes them


@contextmanager
def private_folder(kind: str) -> Iterator[Path]:
    """Yield a new folder of this user's alone, `unmask-<kind>-...`, which is deleted afterwards.

    It lies in the folder for temporary files, where what killed processes left is deleted first.

    Raises:
        DiskError: the disk takes no more.
    """
    parent = Path(tempfile.gettempdir())
    delete_abandoned(parent)
    folder, lock = _make(kind, parent)
    try:
        yield folder
    finally:
        _delete(folder, lock)


@contextmanager
def all_in(folder: Path) -> Iterator[None]:
    """Have all temporary files of this process, and of those it starts, made in the folder."""
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = variable


def _make(kind: str, parent: Path) -> tuple[Path, int]:
    while True:
        with writing(parent / kind):
            folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{kind}-", dir=parent))
            lock = create(folder / _LOCK)
        try:
            system.lock(lock)
            # Before it was locked, another process may have taken it for an abandoned one.
            if os.path.samestat(os.fstat(lock), (folder / _LOCK).lstat()):
                return folder, lock
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:  # a file system without locks: nobody will take it for abandoned either
            return folder, lock
        os.close(lock)


def delete_abandoned(parent: Path) -> None:
    """Delete the folders in parent that this user's killed processes left; links lead nowhere."""
    for path in parent.iterdir():
        if not _NAME.fullmatch(path.name) or not _is_ours(path):
            continue
        try:
            flags = os.O_RDWR | system.NO_LINK | system.NO_WAIT | system.NOT_INHERITED
            lock = os.open(path / _LOCK, flags)
        except OSError:  # another's, or one that is being made
            continue
        try:
            system.lock(lock)
        except OSError:  # its process lives, or the file system has no locks
            os.close(lock)
            continue
        with suppress(OSError):
            _delete(path, lock)


def _delete(folder: Path, lock: int) -> None:
    """Delete a folder, and no file that a link in it leads to; close its lock.

    The lock file goes last: what a process leaves that is killed meanwhile, or what a dying worker
    adds, is still known as abandoned.
    """
    try:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOCK:
                path.unlink(missing_ok=True)
        if sys.platform == "win32":  # which deletes no open file
            os.close(lock)
        if {path.name for path in folder.iterdir()} <= {_LOCK}:
            (folder / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # once more a worker's
                folder.rmdir()
    finally:
        if sys.platform != "win32":
            os.close(lock)


def _is_ours(path: Path) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and system.is_mine(found)
