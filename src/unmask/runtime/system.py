"""What operating systems do differently: how files are opened and locked, and whose they are.

The branches for Windows are written by its documentation and checked by mypy; nobody has run them.
"""

import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Flags of os.open. Windows follows no link that is not told to, waits for no pipe in a folder, and
# hands no file on to the programs that Python starts.
NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT: int = getattr(os, "O_NONBLOCK", 0)
NOT_INHERITED: int = getattr(os, "O_CLOEXEC", 0)
AS_IT_IS: int = getattr(os, "O_BINARY", 0)  # Windows would write other ends of lines

_FAR = 2**31 - 2  # a lock of Windows keeps everybody from the bytes that it is on
_PAUSE_S = 0.05


def lock(handle: int, *, wait: bool = False) -> None:
    """Lock an open file for this process. Its end, or that of the last handle, unlocks it.

    Raises:
        BlockingIOError: another process holds it; with `wait`, it is waited for.
        OSError: the file system knows no locks.
    """
    if sys.platform == "win32":
        while True:
            try:
                _lock_byte(handle, msvcrt.LK_NBLCK)
                return
            except PermissionError as error:
                if not wait:
                    raise BlockingIOError(*error.args) from error
                time.sleep(_PAUSE_S)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def unlock(handle: int) -> None:
    """Unlock an open file, also for a process that has inherited it."""
    if sys.platform == "win32":
        _lock_byte(handle, msvcrt.LK_UNLCK)
    else:
        fcntl.flock(handle, fcntl.LOCK_UN)


if sys.platform == "win32":

    def _lock_byte(handle: int, how: int) -> None:
        at = os.lseek(handle, 0, os.SEEK_CUR)
        os.lseek(handle, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, how, 1)
        finally:
            os.lseek(handle, at, os.SEEK_SET)


def open_folder(folder: Path) -> int:
    """Return a handle to lock that stands for a folder, and leaves nothing in it.

    Raises:
        OSError: there is no such folder.
    """
    if sys.platform == "win32":  # which opens no folders
        name = hashlib.sha256(os.fsencode(folder.resolve(strict=True))).hexdigest()
        path = Path(tempfile.gettempdir(), f"unmask-lock-{name[:32]}")
        return os.open(path, os.O_RDWR | os.O_CREAT)
    return os.open(folder, os.O_RDONLY)


def delete_locked(path: Path, handle: int) -> None:
    """Delete the file behind a locked handle, which is closed.

    Raises:
        OSError: it can't be deleted.
    """
    if sys.platform == "win32":  # which deletes no open file
        os.close(handle)
        path.unlink()
        return
    try:
        path.unlink()
    finally:
        os.close(handle)


def is_mine(found: os.stat_result) -> bool:
    """Say whether a file belongs to this user. Windows tells nobody's, and keeps others out."""
    return sys.platform == "win32" or found.st_uid == os.geteuid()
