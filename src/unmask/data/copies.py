"""Videos that a data set holds more than once, under one label or under two.

Two labels on the same pictures teach nothing and make every metric wrong: one of the two is a
mistake. A video that is there twice under one label counts twice.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unmask.data.words import join_spellings, say_joined
from unmask.errors import DatasetError
from unmask.params import Raw
from unmask.records import Chunk, Fingerprint, VideoRecord
from unmask.runtime.record_files import read_fingerprints

MAX_NAMED = 5  # groups of one kind that a message names
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of no bytes
LABELS = ("REAL", "FAKE")
ONE_FILE, ONE_STREAM, RECODED = "one file", "the same pictures in two files", "encoded again"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """A chunk's videos and, once they are taken, fingerprints by video id of those there."""

    chunk: str
    records: Sequence[VideoRecord]
    fingerprints: Mapping[str, Fingerprint] | None = None


@dataclass(frozen=True)
class Video:
    """A video of one of several chunks."""

    chunk: str
    record: VideoRecord

    @property
    def place(self) -> tuple[str, str]:
        """Return what no other video has: its chunk and id."""
        return self.chunk, self.record.video_id

    def __str__(self) -> str:
        return f"{self.chunk}/{self.record.file} ({self.record.split})"


@dataclass(frozen=True)
class Copies:
    """Two or more videos that show the same pictures, in the order of chunks and files."""

    videos: tuple[Video, ...]
    how: str  # what shows it: ONE_FILE, ONE_STREAM or RECODED

    @property
    def contradict(self) -> bool:
        """Say whether they have different labels."""
        return len({video.record.label for video in self.videos}) > 1

    def __str__(self) -> str:
        named = [
            f"{video.chunk}/{video.record.file} {LABELS[video.record.label]}"
            for video in self.videos[:MAX_NAMED]
        ]
        more = len(self.videos) - MAX_NAMED
        return " = ".join(named) + (f" = {more} more" if more > 0 else "") + f" ({self.how})"


def find_copies(listings: Iterable[Listing]) -> list[Copies]:
    """Return the groups of videos that are one file, or one stream of coded pictures.

    Empty files are no copies of each other, and neither are files in which nothing decodes unless
    they are one file.
    """
    groups: dict[tuple[str, str], list[Video]] = defaultdict(list)
    is_alone: dict[tuple[str, str], set[str]] = defaultdict(set)
    for listing in listings:
        prints = listing.fingerprints or {}
        for record in sorted(listing.records, key=lambda record: record.file):
            found = prints.get(record.video_id)
            if found and found.sha256 != EMPTY:
                # One file is one stream, so the stream stands for both where there is one.
                kind = ("stream", found.stream) if found.stream else ("file", found.sha256)
                groups[kind].append(Video(listing.chunk, record))
                is_alone[kind].add(found.sha256)
    return [
        Copies(tuple(videos), ONE_STREAM if len(is_alone[kind]) > 1 else ONE_FILE)
        for kind, videos in groups.items() if len(videos) > 1
    ]  # fmt: skip


def contradictions(copies: Iterable[Copies]) -> list[Copies]:
    """Return the groups whose videos have different labels."""
    return [group for group in copies if group.contradict]


def repeats(copies: Iterable[Copies]) -> list[Copies]:
    """Return what stands twice in a split under one label, a group for each split.

    What stands on two sides is no repeat but a leak.
    """
    return [
        Copies(tuple(own), group.how)
        for group in copies if not group.contradict
        for own in _by_split(group) if len(own) > 1
    ]  # fmt: skip


def _by_split(group: Copies) -> Iterator[list[Video]]:
    found: dict[str, list[Video]] = defaultdict(list)
    for video in group.videos:
        found[video.record.split].append(video)
    yield from found.values()


def refuse_contradictions(found: Sequence[Copies], settings: Raw, *, asked: str) -> None:
    """Pass if no videos' labels contradict each other, or raw.contradictions is drop.

    Raises:
        DatasetError: they do, and it is refuse; asked says what was asked for.
    """
    if found and settings.contradictions == "refuse":
        raise DatasetError(
            f"Asked for {asked}; {len(found)} video(s) are labelled both REAL and FAKE: "
            f"{_name_some(found)}. Correct their labels, take the wrong ones out, or set "
            "raw.contradictions to drop, which leaves all of them out. A video of which the sound "
            "alone is fake counts as REAL."
        )


def refuse_repeats(found: Sequence[Copies], settings: Raw, *, asked: str) -> None:
    """Pass if no video stands twice in a split under one label, or raw.copies is drop.

    Raises:
        DatasetError: one does, and it is refuse; asked says what was asked for.
    """
    if found and settings.copies == "refuse":
        raise DatasetError(
            f"Asked for {asked}; {len(found)} video(s) would count more than once: "
            f"{_name_some(found)}. Take the copies out, or set raw.copies to drop, which keeps "
            "the first of each."
        )


def drop_contradictions(found: Sequence[Copies]) -> set[tuple[str, str]]:
    """Return the places of all these videos, and log which they are."""
    dropped = {video.place for group in found for video in group.videos}
    if dropped:
        log.warning(
            "%d video(s) left out, as the same pictures are labelled both REAL and FAKE: %s",
            len(dropped), _name_some(found),
        )  # fmt: skip
    return dropped


def drop_repeats(found: Sequence[Copies]) -> set[tuple[str, str]]:
    """Return the places of all but the first of each group, and log which they are."""
    dropped = {video.place for group in found for video in group.videos[1:]}
    if dropped:
        log.warning(
            "%d video(s) left out, as a copy of each is there under the same label: %s",
            len(dropped), _name_some(found),
        )  # fmt: skip
    return dropped


def _name_some(found: Sequence[Copies]) -> str:
    more = len(found) - MAX_NAMED
    return "; ".join(map(str, found[:MAX_NAMED])) + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------- several chunks together


def check_copies(listings: Sequence[Listing], settings: Raw) -> list[Listing]:
    """Return the chunks' listings as settle leaves their records.

    Raises:
        DatasetError: videos contradict or repeat each other, and raw.contradictions or raw.copies
            refuses that.
    """
    asked = f"one data set of {', '.join(listing.chunk for listing in listings)}"
    copies = find_copies(listings)
    refuse_contradictions(contradictions(copies), settings, asked=asked)
    refuse_repeats(repeats(copies), settings, asked=asked)
    return _settle_listings(listings)


def settle(chunks: Sequence[Chunk], raw_dir: Path) -> list[Chunk]:
    """Return the chunks as one data set, in which everything stands once.

    That is without what the fingerprints in raw_dir show to be copies of each other: of one label
    the first in a split is kept, of two labels none. Each person has one spelling. Each chunk's own
    copies are gone already, and check_copies has refused what params.yaml refuses. A chunk without
    fingerprints is taken as it is.
    """
    paths = {chunk.name: raw_dir / chunk.name / "fingerprints.csv" for chunk in chunks}
    listings = _settle_listings(
        [
            Listing(
                chunk.name, chunk.records,
                read_fingerprints(paths[chunk.name]) if paths[chunk.name].is_file() else None,
            )
            for chunk in chunks
        ]
    )  # fmt: skip
    return [
        replace(chunk, records=list(listing.records))
        for chunk, listing in zip(chunks, listings, strict=True)
    ]


def _settle_listings(listings: Sequence[Listing]) -> list[Listing]:
    copies = find_copies(listings)
    dropped = drop_contradictions(contradictions(copies)) | drop_repeats(repeats(copies))
    meant = join_spellings(
        who for listing in listings for record in listing.records for who in record.identities
    )
    for said in say_joined(meant, "person or recording"):
        log.warning("%s", said)
    return [
        replace(listing, records=[
            _spell_alike(record, meant) for record in listing.records
            if (listing.chunk, record.video_id) not in dropped
        ])
        for listing in listings
    ]  # fmt: skip


def _spell_alike(record: VideoRecord, meant: Mapping[str, str]) -> VideoRecord:
    donors = tuple(dict.fromkeys(meant[donor] for donor in record.donors))
    return replace(record, source_id=meant[record.source_id], donors=donors)
