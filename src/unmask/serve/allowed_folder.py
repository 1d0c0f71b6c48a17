"""Videos that are here already: a request names one by its path below one folder.

No link is followed and no `..` understood, so a name leads nowhere else; pipes and devices are not
opened. A file is copied before anybody reads it: what changes it afterwards changes no answer.
"""

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from unmask.errors import UnmaskError
from unmask.serve.intake import UploadError, too_large

_BODY_BYTES = 4_096
_CHUNK_BYTES = 2**20
_HOW = 'Send {"path": "..."}, with a path below the folder that the server was given by --files.'


def is_link(content_type: str) -> bool:
    """Say whether a body of this type names a video, and isn't one."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


async def read_path(chunks: AsyncIterator[bytes]) -> str:
    """Return the path that a body names.

    Raises:
        UploadError: the body is too large, or names none.
    """
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > _BODY_BYTES:
            raise UploadError(
                f"A path takes at most {_BODY_BYTES} bytes of JSON. {_HOW}",
                status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, kind="too_large",
            )  # fmt: skip
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    path = said.get("path") if isinstance(said, dict) and len(said) == 1 else None
    if not isinstance(path, str):
        raise _bad("found a body that is something else")
    return path


class AllowedFolder:
    """A folder whose files may be answered."""

    def __init__(self, folder: Path) -> None:
        """Take a folder, which may be a link: its owner has named it.

        Raises:
            UnmaskError: there is none, or this system can't open files without following links.
        """
        if sys.platform == "win32":
            raise UnmaskError(
                "Asked to answer files of a folder (--files); this system can't open them without "
                "following links. Upload them instead."
            )
        if not folder.is_dir():
            raise UnmaskError(
                f"Asked to answer files of {folder} (--files); there is no such folder. Make it, "
                "or name another."
            )
        self._folder = folder.resolve()

    async def copy(
        self, path: str, file: BinaryIO, max_bytes: int, go_on: Callable[[], None]
    ) -> None:
        """Write what a path below the folder names to `file`; go_on raises where it shall end.

        Raises:
            UploadError: there is no such file below it, or it is too large.
        """
        with await asyncio.to_thread(self._open, path) as found:
            if os.fstat(found.fileno()).st_size > max_bytes:
                raise too_large(max_bytes)
            left = max_bytes + 1  # it may grow meanwhile: whoever looks at the copy sees that
            while left and (chunk := await asyncio.to_thread(_read, found, left)):
                go_on()
                await asyncio.to_thread(file.write, chunk)
                left -= len(chunk)

    def _open(self, path: str) -> BinaryIO:
        parts = path.split("/")
        if not all(part not in ("", ".", "..") and "\0" not in part for part in parts):
            raise _bad("found a path that is not one below it, or has empty parts, . or .. in it")
        missing = UploadError(
            "There is no such file in the folder that this server was given. Links, and what is no "
            "regular file, are not looked at.",
            status=HTTPStatus.NOT_FOUND, kind="not_found",
        )  # fmt: skip
        try:
            with ExitStack() as stack:
                folder = os.open(self._folder, _FOLDER)
                stack.callback(os.close, folder)
                for part in parts[:-1]:
                    folder = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                    stack.callback(os.close, folder)
                # Asked first: to open a device may do something.
                if not _is_regular(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)):
                    raise missing
                handle = os.open(parts[-1], _FILE, dir_fd=folder)
        except (OSError, UnicodeEncodeError) as error:
            raise missing from error
        if not _is_regular(os.fstat(handle)):  # it was replaced meanwhile
            os.close(handle)
            raise missing
        return open(handle, "rb")


if sys.platform != "win32":
    _FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    _FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def _read(file: BinaryIO, most_bytes: int) -> bytes:
    try:
        return file.read(min(most_bytes, _CHUNK_BYTES))
    except OSError as error:
        raise UploadError(
            f"This file can't be read: {error.strerror}. Whoever runs this server can look at it.",
            status=HTTPStatus.INSUFFICIENT_STORAGE, kind="failed",
        ) from error  # fmt: skip


def _is_regular(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode)


def _bad(found: str) -> UploadError:
    return UploadError(
        f"Asked for a file by its path; {found}. {_HOW}",
        status=HTTPStatus.BAD_REQUEST, kind="bad_request",
    )  # fmt: skip
