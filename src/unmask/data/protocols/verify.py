"""Whether a copy of a data set is whole by its official protocol.

What is compared: the data set's own list with the protocol (its digest where that is public, else
how many videos it names), the videos with that list, and all of it with what the first verification
found. That is kept beside the data, in .<chunk>.protocol.json: lists that are given only to those
who asked for the data have no digest in the repository, and no data set has one for each video.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from typing import Protocol as Interface

from unmask.data import datasets
from unmask.data.archive import ChunkFiles, first_few, open_chunk, shorten
from unmask.data.layouts.entry import Entry, is_video
from unmask.data.protocols.protocol import Protocol
from unmask.data.protocols.rules import Named, digest_of, name_videos
from unmask.data.protocols.selection import choose, missing_of
from unmask.errors import DatasetError
from unmask.runtime.disk import read_regular, write_atomically

T = TypeVar("T")
_MAX_RECORD_BYTES = 2**27


class Watch(Interface):
    """Yields the items again, showing how far they are."""

    def __call__(self, items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
        """Return the items; total is how many are expected, label what they are."""


@dataclass(frozen=True)
class Record:
    """What the first verification found of a copy that was whole."""

    protocol: str
    version: int
    list_sha256: str
    videos: Mapping[str, str]  # SHA-256 of each test video, by its path; of frames over all of them


@dataclass(frozen=True)
class Verdict:
    """What verification found."""

    protocol: Protocol
    named: int  # videos that the list names
    found: int  # of these, videos that are there
    flaws: tuple[str, ...]  # why the copy is not whole, in sentences
    is_recorded: bool  # whether an earlier verification was there to compare with


def record_path(chunk: Path) -> Path:
    """Return where the record of a chunk's verification lies: beside it."""
    return chunk.with_name(f".{chunk.name}.protocol.json")


def verify(chunk: Path, name: str | None, *, contents: bool, accept: bool, watch: Watch) -> Verdict:
    """Return whether a chunk is whole by the protocol of that name, or of its layout.

    contents reads every test video, to compare it with the record; without it only what is there
    is looked at. A copy that is whole is recorded if it was not, or if accept takes what differs
    from the record for the copy from now on. watch sees the reading go by.

    Raises:
        DatasetError: the chunk or its list can't be read, or it has no protocol.
        DiskError: the record can't be written.
    """
    with open_chunk(chunk) as files:
        layout = datasets.recognise(files)
        protocol = choose(layout, files.where, name)
        if protocol is None:
            raise DatasetError(
                f"Asked whether {chunk} is whole by its protocol; its layout, {layout}, has none: "
                "its authors name no test videos. docs/data.md lists those that have one."
            )
        entries = datasets.read(files)
        named = name_videos(protocol, files, entries)
        known = read_record(record_path(chunk))
        flaws = [*_of_list(protocol, named), *_of_videos(named, files, entries, protocol)]
        videos = dict(_digests(named, files, watch)) if contents else {}
    now = Record(protocol.name, protocol.version, digest_of(named.listed), videos)
    differs = list(_differences(known, now, contents=contents)) if known else []
    if contents and not flaws and (known is None or accept) and now != known:
        _write_record(record_path(chunk), now)
        differs = []
    there = len(named.wanted) - len(missing_of(named, files))
    return Verdict(
        protocol, len(named.wanted), there, tuple(flaws + differs), is_recorded=known is not None
    )


# ---------------------------------------------------------------- the list and the videos


def _of_list(protocol: Protocol, named: Named) -> Iterator[str]:
    digest, wanted = digest_of(named.listed), protocol.list_sha256
    if wanted and digest != wanted:
        yield (
            f"its list is another one than {protocol.name}, version {protocol.version}, is about: "
            f"digest {digest[:12]}, not {wanted[:12]}; {protocol.source}"
        )
    expected = protocol.expected
    labels = Counter(entries[0].label for entries in named.wanted.values() if entries)
    count = len(named.wanted)
    if expected.videos and count != expected.videos:
        share = f", {count / expected.videos:.0%}" if count < expected.videos else ""
        kind = "fewer" if count < expected.videos else "more"
        yield (
            f"it names {count:,} test videos, and the data set has {expected.videos:,}: "
            f"{abs(count - expected.videos):,} {kind}{share}"
        )
    elif sum(labels.values()) == count:
        for label, wanted_count in ((0, expected.real), (1, expected.fake)):
            if wanted_count and labels[label] != wanted_count:
                yield (
                    f"{labels[label]:,} of its test videos are {('real', 'fake')[label]}, and the "
                    f"data set has {wanted_count:,}"
                )


def _of_videos(
    named: Named, files: ChunkFiles, entries: Sequence[Entry], protocol: Protocol
) -> Iterator[str]:
    if missing := missing_of(named, files):
        yield (
            f"{len(missing):,} of {len(named.wanted):,} test videos "
            f"({len(missing) / len(named.wanted):.0%}) are missing: {_few(missing)}"
        )
    empty = [
        entry.path for found in named.wanted.values() for entry in found
        if not sum(files.sizes.get(path, 0) for path in _paths(entry)) and entry.is_in(files)
    ]  # fmt: skip
    if empty:
        yield f"{len(empty):,} test videos are empty files: {_few(empty)}"
    if protocol.rule == "all":  # elsewhere the others are training's
        listed = {path for entry in entries for path in _paths(entry)}
        extra = [path for path in files.sizes if is_video(path) and path not in listed]
        if extra:
            yield f"{len(extra):,} videos are there that no list has: {_few(extra)}"


def _few(names: Sequence[str]) -> str:
    return first_few([shorten(name) for name in names])


def _paths(entry: Entry) -> tuple[str, ...]:
    return entry.frames.pictures if entry.frames else (entry.path,)


def _digests(named: Named, files: ChunkFiles, watch: Watch) -> Iterator[tuple[str, str]]:
    entries = [entry for found in named.wanted.values() for entry in found if entry.is_in(files)]
    for entry in watch(entries, total=len(entries), label="test videos"):
        digests = [files.digest(path) for path in _paths(entry)]
        whole = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        yield entry.path, digests[0] if not entry.frames else whole


# ---------------------------------------------------------------- the record


def _differences(known: Record, now: Record, *, contents: bool) -> Iterator[str]:
    if (known.protocol, known.version) != (now.protocol, now.version):
        yield (
            f"it was verified by {known.protocol}, version {known.version}, and this is "
            f"{now.protocol}, version {now.version}"
        )
        return
    if known.list_sha256 != now.list_sha256:
        yield (
            f"its list is not the one that was verified first: digest {now.list_sha256[:12]}, not "
            f"{known.list_sha256[:12]}"
        )
    if contents:
        changed = [path for path, digest in now.videos.items()
                   if known.videos.get(path, digest) != digest]  # fmt: skip
        new = [path for path in now.videos if path not in known.videos]
        gone = [path for path in known.videos if path not in now.videos]
        for paths, words in (
            (changed, "test videos are not what they were when they were verified first"),
            (new, "test videos were not there when it was verified first"),
            (gone, "test videos are gone that were verified first"),
        ):
            if paths:
                yield f"{len(paths):,} {words}: {_few(paths)}"


def read_record(path: Path) -> Record | None:
    """Return what the first verification wrote, or None: there was none.

    Raises:
        DatasetError: it is there and can't be read.
    """
    if not path.exists():
        return None
    try:
        said: Any = json.loads(read_regular(path, _MAX_RECORD_BYTES))
        record = Record(**said)
        if not all(isinstance(value, str) for value in (record.protocol, record.list_sha256)):
            raise TypeError("a name and a digest are words")
        if not all(isinstance(each, str) for pair in record.videos.items() for each in pair):
            raise TypeError("videos are paths with digests")
        return record
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f"Asked for {path}, which the first verification wrote; it can't be read: "
            f"{str(error)!a}. Delete it, and verify the copy anew."
        ) from error


def _write_record(path: Path, record: Record) -> None:
    rows = {
        "protocol": record.protocol, "version": record.version, "list_sha256": record.list_sha256,
        "videos": dict(sorted(record.videos.items())),
    }  # fmt: skip
    write_atomically(path, json.dumps(rows, indent=1) + "\n")
