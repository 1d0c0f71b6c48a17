"""A chunk whose files are bytes in memory: no disk slows the fuzzer down."""

from dataclasses import dataclass, field
from pathlib import Path

from unmask.data import datasets
from unmask.data.archive import ChunkFiles
from unmask.errors import UnmaskError


@dataclass(frozen=True)
class MemoryFiles(ChunkFiles):
    """Files by their paths."""

    contents: dict[str, bytes] = field(default_factory=dict)

    def _read(self, path: str, most_bytes: int) -> bytes:
        return self.contents[path][:most_bytes]

    def _is(self, path: str, target: Path) -> bool:
        raise NotImplementedError("nothing is taken out")

    def _put(self, path: str, partial: Path) -> None:
        raise NotImplementedError("nothing is taken out")


def read_chunk(contents: dict[str, bytes]) -> None:
    """Read a chunk of these files; check what the reader promises of each video it names."""
    sizes = {path: len(content) for path, content in contents.items()}
    try:
        entries = datasets.read(MemoryFiles("data/chunks/made", sizes, contents))
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
