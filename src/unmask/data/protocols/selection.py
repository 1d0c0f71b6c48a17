"""Which videos of a chunk an official protocol calls test: what a benchmark scores."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from unmask.data import datasets
from unmask.data.archive import ChunkFiles, first_few, shorten
from unmask.data.layouts.entry import Entry
from unmask.data.protocols.protocol import Protocol, protocol_named, protocols_for
from unmask.data.protocols.rules import Named, digest_of, name_videos
from unmask.errors import DatasetError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """The test videos of a chunk by one protocol."""

    protocol: Protocol
    entries: tuple[Entry, ...]  # in the order of the chunk; some may be without a file
    missing: tuple[str, ...]  # what the list names and the chunk does not hold, by its names
    named: int  # how many videos the list names
    list_sha256: str

    @property
    def files(self) -> frozenset[str]:
        """Return the names of the test videos, as Entry.file has them."""
        return frozenset(entry.file for entry in self.entries)


def select(
    files: ChunkFiles, entries: Sequence[Entry], name: str | None = None
) -> Selection | None:
    """Return which of a chunk's videos are test by its official protocol, or None: it has none.

    Videos that the list names and the chunk lacks are only counted here; verify.py refuses them.

    Raises:
        DatasetError: there is no protocol of that name, it is another data set's, its list is
            missing or bad, or it names no video that the chunk has.
    """
    layout = datasets.recognise(files)
    protocol = choose(layout, files.where, name)
    if protocol is None:
        return None
    named = name_videos(protocol, files, entries)
    found = [entry for entries_ in named.wanted.values() for entry in entries_]
    chosen = {entry.file for entry in found}
    missing = missing_of(named, files)
    if not any(entry.is_in(files) for entry in found):
        raise DatasetError(
            f"Asked for the test videos of {files.where} by {protocol.name}; it names "
            f"{len(named.wanted):,}, and the chunk holds none of them, such as "
            f"{first_few([shorten(video) for video in missing])}. Put the videos beside the list."
        )
    if missing:
        _log.warning(
            "%s: %d of %d test videos of %s are not there: %s", files.where, len(missing),
            len(named.wanted), protocol.name, first_few([shorten(video) for video in missing]),
        )  # fmt: skip
    expected = protocol.expected.videos
    if expected and len(named.wanted) != expected:
        _log.warning(
            "%s: it has %d test videos by its own list, and %s has %d: a part of the data set, or "
            "another version. `unmask benchmark verify` says more.", files.where,
            len(named.wanted), protocol.name, expected,
        )  # fmt: skip
    return Selection(
        protocol, tuple(entry for entry in entries if entry.file in chosen), missing,
        len(named.wanted), digest_of(named.listed),
    )  # fmt: skip


def choose(layout: str, where: str, name: str | None) -> Protocol | None:
    """Return the protocol that is asked for, or the layout's own; None: it has none.

    Raises:
        DatasetError: there is no protocol of that name, or it is another data set's.
    """
    if name is None:
        return next(iter(protocols_for(layout)), None)
    protocol = protocol_named(name)
    if layout not in protocol.layouts:
        raise DatasetError(
            f"Asked for {protocol.name} of {where}; found the layout {layout}, and that protocol "
            f"is of {' or '.join(protocol.layouts)}. See docs/data.md for both."
        )
    return protocol


def missing_of(named: Named, files: ChunkFiles) -> tuple[str, ...]:
    """Return what the list names and the chunk does not hold."""
    return tuple(
        name for name, entries in named.wanted.items()
        if not any(entry.is_in(files) for entry in entries)
    )  # fmt: skip
