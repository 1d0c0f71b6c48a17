"""A chunk whose files are bytes in memory: no disk slows the fuzzer down."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from unmask.data import datasets
from unmask.data.archive import ChunkFiles
from unmask.data.protocols.selection import select
from unmask.errors import UnmaskError


@dataclass(frozen=True)
class MemoryFiles(ChunkFiles):
    """Files by their paths."""

    contents: dict[str, bytes] = field(default_factory=dict)

    def _read(self, path: str, most_bytes: int) -> bytes:
        return self.contents[path][:most_bytes]

    def _digest(self, path: str) -> str:
        return hashlib.sha256(self.contents[path]).hexdigest()

    def _is(self, path: str, target: Path) -> bool:
        raise NotImplementedError("nothing is taken out")

    def _put(self, path: str, partial: Path) -> None:
        raise NotImplementedError("nothing is taken out")


def read_chunk(contents: dict[str, bytes]) -> None:
    """Read a chunk of these files; check what the reader promises of each video it names.

    By its official protocol, too, if it has one.
    """
    sizes = {path: len(content) for path, content in contents.items()}
    files = MemoryFiles("data/chunks/made", sizes, contents)
    try:
        entries = datasets.read(files)
        chosen = select(files, entries)
    except UnmaskError as error:
        shown = str(error)
        assert shown.isprintable(), f"a message that does not print: {shown!a}"
        return
    names = [entry.file.casefold() for entry in entries]
    assert len(set(names)) == len(names), "two videos would be one file"
    for entry in entries:
        for word in (entry.file, entry.source_id, entry.method, *entry.donors):
            word.encode()  # no index could hold a lone surrogate
            assert word.isprintable(), f"a word that does not print: {word!a}"
        assert "/" not in entry.file, f"a file name with a folder in it: {entry.file!a}"
        assert not entry.file.startswith("."), f"a hidden file: {entry.file!a}"
        assert entry.label in (0, 1), f"the label {entry.label!r}"
        frames = entry.frames
        if frames is not None:
            assert set(frames.pictures) <= sizes.keys(), "frames that are not in the chunk"
            assert len(frames.pictures) == len(frames.ticks) > 0, "a frame without a time"
            assert list(frames.ticks) == sorted(set(frames.ticks)), "frames that go back"
    if chosen is not None:
        assert chosen.files <= {entry.file for entry in entries}, "test videos that nobody has"
