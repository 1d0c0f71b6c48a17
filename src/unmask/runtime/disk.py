"""How folders are written: by one run at a time, and in one line where the disk takes no more."""

import errno
import hashlib
import logging
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from unmask.errors import DiskError
from unmask.runtime import system

_log = logging.getLogger(__name__)

_NAME_BYTES = 200  # file systems take 255

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
    handle = system.open_folder(folder)
    try:
        try:
            system.lock(handle)
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
    with part.open("rb+" if sys.platform == "win32" else "rb") as whole:
        os.fsync(whole.fileno())
    os.replace(part, path)


def new_name(path: Path, ending: str) -> Path:
    """Return an unused name beside path, which nobody can guess, for a file that becomes path.

    A link of a name that could be guessed may lie in wait for what is written there.
    """
    return path.with_name(f".{_beginning(path)}.{secrets.token_hex(8)}.{ending}")


def _beginning(path: Path) -> str:
    """Return as much of a file's name as leaves room for more."""
    return os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])


def create(path: Path) -> int:
    """Make a new file, with the rights that open() gives, and return its handle, which is locked.

    The lock shows that the file is being written: see delete_stale.

    Raises:
        FileExistsError: something of that name is there, were it a link: it is never followed.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | system.NO_LINK | system.NOT_INHERITED
    handle = os.open(path, flags | system.AS_IT_IS, 0o666)
    with suppress(OSError):  # not every file system can
        system.lock(handle)
    return handle


def delete_stale(path: Path, ending: str) -> None:
    """Delete the files of new_name(path, ending) that a killed process left: nobody locks them."""
    ours = re.compile(rf"\.{re.escape(_beginning(path))}\.[0-9a-f]{{16}}\.{ending}")
    for stale in [each for each in path.parent.iterdir() if ours.fullmatch(each.name)]:
        with suppress(OSError):  # one that is being written, or gone by now
            flags = os.O_RDONLY | system.NO_LINK | system.NO_WAIT | system.NOT_INHERITED
            handle = os.open(stale, flags)
            try:
                system.lock(handle)
            except OSError:
                os.close(handle)
                raise
            system.delete_locked(stale, handle)


def open_to_append(path: Path) -> TextIO:
    """Return a text file that grows at its end. A link in its place is refused.

    Raises:
        OSError: it can't be opened, or is a link.
    """
    return open(path, "a", encoding="utf-8", opener=_no_link)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | system.NO_LINK, 0o666)


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file that a stranger may have put there.

    Raises:
        OSError: there is none; or it is no regular file, such as a pipe, which would be waited for,
            or has more than most_bytes.
    """
    flags = os.O_RDONLY | system.NO_WAIT | system.NOT_INHERITED | system.AS_IT_IS
    handle = os.open(path, flags)
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "It is no regular file", str(path))
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EINVAL, f"It has more than {most_bytes:,} bytes", str(path))
    return content


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file by content at once, through a new file.

    Never in place: the old one may be a hard link into DVC's cache, which would change with it.

    Raises:
        DiskError: the disk takes no more; then the old file is as it was.
    """
    partial = new_name(path, "partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        delete_stale(path, "partial")
        try:
            with os.fdopen(create(partial), "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                if sys.platform != "win32":
                    give_name(partial, path)  # while its lock is held: nobody takes it for stale
            if sys.platform == "win32":  # which gives no open file another name
                give_name(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
