"""What a folder's makers have finished, so that a killed run is taken up where it was."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unmask.runtime.disk import (
    content_digest,
    open_to_append,
    sole_writer,
    write_atomically,
    writing,
)

_SCRATCH = ".partial-"


@dataclass(frozen=True)
class ManifestEntry:
    """One finished piece of work: its files, with the SHA-256 of each, and what was found out."""

    name: str
    key: str  # digest of everything that determines it
    files: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # as JSON has them


class ResumeManifest:
    """A hidden file of a folder, one line for each piece of work that is whole.

    Workers write into scratch, a hidden folder of this run alone; only add() gives files their
    names. So a worker that outlives its killed parent changes nothing that the next run has made,
    and finds its scratch gone. One run at a time has the folder, from here to the end of `with`.

    Raises:
        DiskError: another run has the folder, or the disk takes no more.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._alone = ExitStack()
        self._alone.enter_context(sole_writer(folder))
        self._folder = folder
        self._path = folder / name
        self._rows = {row.name: row for row in _read(self._path)}
        self._is_new = False  # whether this run has written the file
        _delete_scratch(folder)
        with writing(self._path):
            self.scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)  # a dying worker may add a file meanwhile
        self._alone.close()

    def lookup(self, name: str, key: str) -> ManifestEntry | None:
        """Return a piece of work that was done with this key, if its files are as it left them."""
        row = self._rows.get(name)
        whole = row is not None and row.key == key and all(map(self._is_whole, row.files.items()))
        return row if whole else None

    def add(self, name: str, key: str, files: Sequence[str], **facts: Any) -> ManifestEntry:
        """Note a piece of work and move its files from scratch to their places."""
        row = ManifestEntry(
            name, key, {file: content_digest(self.scratch / file) for file in files}, facts
        )
        if not self._is_new:
            self._write()
        self._delete_files_but(files, self._rows.get(name))
        self._rows[name] = row
        # The line first: until a file has arrived, what is there has another digest.
        with writing(self._path):
            with open_to_append(self._path) as lines:
                lines.write(_line(row))
            for file in files:
                os.replace(self.scratch / file, self._folder / file)
        return row

    def finalize(self, names: Collection[str]) -> None:
        """Keep these pieces of work alone, in order of names; delete the files of others."""
        for name in self._rows.keys() - set(names):
            self._delete_files_but((), self._rows[name])
        self._rows = {name: self._rows[name] for name in sorted(self._rows.keys() & set(names))}
        self._write()

    def delete(self) -> None:
        """Delete the file: a next run begins anew."""
        self._path.unlink(missing_ok=True)

    def _delete_files_but(self, files: Collection[str], row: ManifestEntry | None) -> None:
        for file in row.files.keys() - set(files) if row else ():
            (self._folder / file).unlink(missing_ok=True)

    def _write(self) -> None:
        # Anew, as it may be a hard link into DVC's cache, and its last line cut off by a kill.
        write_atomically(self._path, "".join(map(_line, self._rows.values())))
        self._is_new = True

    def _is_whole(self, named: tuple[str, str]) -> bool:
        file, digest = named
        path = self._folder / file
        return path.is_file() and content_digest(path) == digest


def _line(row: ManifestEntry) -> str:
    return json.dumps(asdict(row)) + "\n"


def _read(path: Path) -> list[ManifestEntry]:
    """Return the whole lines of a resume manifest; a kill may have cut one."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                rows.append(ManifestEntry(**json.loads(line)))
            except (ValueError, TypeError):
                continue
    return rows


def _delete_scratch(folder: Path) -> None:
    for path in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)  # a dying worker may add a file meanwhile


def key_of(*values: object) -> str:
    """Return one digest of some values, by how they are written."""
    return hashlib.sha256("\0".join(map(repr, values)).encode()).hexdigest()
