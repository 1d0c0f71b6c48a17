"""How folders are written: by one run at a time, and in one line where the disk takes no more."""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unmask.errors import DiskError

_log = logging.getLogger(__name__)

# What only a write can meet: an error of reading a bad video is never taken for one of these.
_REMEDIES = {
    errno.ENOSPC: "Free space there",
    errno.EDQUOT: "Free space there or have your quota raised",
    errno.EFBIG: "Raise the limit on a file's size (`ulimit -f`)",
    errno.EROFS: "Mount it so that it can be written",
}


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make the folder, and keep every other run out of it meanwhile.

    The kernel locks the folder itself: no file is left in what DVC keeps, and the lock ends with
    this process, however that ends. Worker processes don't inherit it. It holds on one machine:
    over NFS, another one doesn't see it.

    Raises:
        DiskError: another run writes there, or the folder can't be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DiskError(
                f"Asked to write into {folder}; another run is writing there. Wait until it has "
                "ended, then type the same again."
            ) from error
        except OSError as error:  # not every file system can
            _log.warning(
                "%s can't be locked (%s): don't start a second run on it.", folder, error.strerror
            )
        yield
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line that the disk did not take what was written to path.

    Raises:
        DiskError: no space, a quota, a limit on a file's size, or a disk that is read only.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        raise DiskError(
            f"Asked to write into {path.parent}; the system said: {error.strerror}. "
            f"{_REMEDIES[error.errno]}, then type the same again: what is done is kept."
        ) from error


def give_name(part: Path, path: Path) -> None:
    """Move a whole file to its place at once, replacing what is there.

    Its bytes reach the disk first: after a power failure the name may be lost, never be there
    with nothing behind it.
    """
    with part.open("rb") as whole:
        os.fsync(whole.fileno())
    os.replace(part, path)
