"""A stranger's table of scores: opened, bounded, and read by the columns that are named."""

import csv
import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.data.archive import shorten
from unmask.errors import DatasetError
from unmask.runtime.system import AS_IT_IS, NO_WAIT, NOT_INHERITED

MOST_BYTES = 2**30
_MOST_LINE = 2**20  # letters
_MOST_COLUMNS = 10_000
_NAMED_COLUMNS = 20  # that a message lists


@dataclass(frozen=True)
class Columns:
    """The names of a file's columns, as its header has them; None where it has no such column.

    One of `video_id` and `path` is given.
    """

    score: str
    video_id: str | None = None  # the benchmark's own ids
    path: str | None = None  # of the video's file: see Matcher
    frame: str | None = None  # then a row is a frame's; this is its number or time
    label: str | None = None  # checked against the benchmark's, and used for nothing else
    compression: str | None = None
    generator: str | None = None

    @property
    def key(self) -> str:
        """Return the column that names a row's video."""
        name = self.video_id or self.path
        assert name is not None
        return name


@dataclass(frozen=True)
class Cells:
    """What the named columns hold in one row; an empty text where there is no such column."""

    key: str
    score: str
    frame: str
    label: str
    compression: str
    generator: str
    by_path: bool
    has_frames: bool


class Hashed(io.RawIOBase):
    """A file that digests what is read of it."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Read into the buffer, and return how many bytes came."""
        count = self._file.readinto(buffer) or 0
        self.digest.update(memoryview(buffer)[:count])
        return count


def open_table(path: Path) -> io.FileIO:
    """Return a stranger's file, once it is a regular one of MOST_BYTES at most.

    Raises:
        DatasetError: it is not, or can't be read.
    """
    try:
        # Not blocking: nobody may ever write into a pipe.
        file = io.FileIO(os.open(path, os.O_RDONLY | NO_WAIT | NOT_INHERITED | AS_IT_IS))
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            file.close()
            raise OSError(errno.EINVAL, "it is no regular file")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DatasetError(
            f"Asked for the scores in {path}; they can't be read ({reason}). Name a CSV."
        ) from error
    if found.st_size > MOST_BYTES:
        file.close()
        raise DatasetError(
            f"Asked for the scores in {path}; it has {found.st_size:,} bytes, more than "
            f"{MOST_BYTES:,}. Leave out columns that aren't needed, or take fewer frames."
        )
    return file


def read_cells(
    text: io.TextIOWrapper, path: Path, columns: Columns, delimiter: str
) -> Iterator[tuple[int, Cells]]:
    """Yield what the named columns hold in each row, with the number of its last line.

    Raises:
        DatasetError: it is empty, no UTF-8, no CSV, or has no such columns.
    """
    table = csv.reader(_short_lines(text, path), delimiter=delimiter, strict=True)
    header = None
    try:
        header = next(table, None)
        if header is None:
            raise DatasetError(f"Asked for the scores in {path}; it is empty.")
        places = _places(header, columns, path)
        for row in table:
            if not row:  # an empty line
                continue
            if len(row) != len(header):
                raise DatasetError(
                    f"{path}, line {table.line_num}: expected {len(header)} cells, found "
                    f"{len(row)}. Write a row for each video, with quotes around text that holds "
                    f"{delimiter!r}."
                )
            held = {name: row[place] for name, place in places.items()}
            yield table.line_num, Cells(
                key=held["key"], score=held["score"], frame=held.get("frame", ""),
                label=held.get("label", ""), compression=held.get("compression", "").strip(),
                generator=held.get("generator", "").strip(),
                by_path=columns.path is not None, has_frames=columns.frame is not None,
            )  # fmt: skip
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}, after line {table.line_num}: it is no UTF-8 (byte "
            f"{error.object[error.start]:#04x}: {error.reason}). Save it as CSV in UTF-8."
        ) from error
    except csv.Error as error:
        hint = " Or is it another --delimiter?" if header is None else ""
        raise DatasetError(
            f"{path}, line {table.line_num}: it is no CSV ({error}). Close its quotes; a cell has "
            f"at most {csv.field_size_limit():,} letters.{hint}"
        ) from error


def _short_lines(text: io.TextIOWrapper, path: Path) -> Iterator[str]:
    while line := text.readline(_MOST_LINE):
        if len(line) == _MOST_LINE:
            raise DatasetError(
                f"{path} has a line of more than {_MOST_LINE:,} letters. It is no table of scores."
            )
        yield line


def _places(header: Sequence[str], columns: Columns, path: Path) -> dict[str, int]:
    """Return where the named columns stand.

    Raises:
        DatasetError: one is not there, or is there twice.
    """
    if len(header) > _MOST_COLUMNS:
        raise DatasetError(
            f"{path}, line 1: it has {len(header):,} columns, more than {_MOST_COLUMNS:,}."
        )
    wanted = {
        "key": columns.key, "score": columns.score, "frame": columns.frame, "label": columns.label,
        "compression": columns.compression, "generator": columns.generator,
    }  # fmt: skip
    places = {}
    for name, column in wanted.items():
        if column is None:
            continue
        found = [place for place, title in enumerate(header) if title == column]
        if len(found) != 1:
            shown = ", ".join(map(shorten, header[:_NAMED_COLUMNS]))
            if len(header) > _NAMED_COLUMNS:
                shown += f" and {len(header) - _NAMED_COLUMNS:,} more"
            hint = " Is it another --delimiter?" if len(header) == 1 else ""
            raise DatasetError(
                f"{path}, line 1: asked for the column {shorten(column)}; "
                f"{'there are two or more of it' if found else 'it is not there'}. There are "
                f"{shown}. Name a column as the header has it."
                f"{hint}"
            )
        places[name] = found[0]
    return places
