"""The raw stage: the videos in use, their fingerprints, and on which side each stands."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from unmask.data import (
    archive,
    copies,
    datasets,
    fingerprints,
    frame_videos,
    leakage,
    same_pictures,
    splits,
)
from unmask.data.layouts.entry import Entry
from unmask.params import Raw
from unmask.records import VideoRecord
from unmask.runtime.disk import sole_writer
from unmask.runtime.record_files import write_index

T = TypeVar("T")

log = logging.getLogger(__name__)


class Watch(Protocol):
    """Yields the items again, showing how far they are."""

    def __call__(self, items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
        """Return the items; total is how many are expected, label what they are."""


def fill(chunk_path: Path, raw_dir: Path, settings: Raw, *, workers: int, watch: Watch) -> None:
    """Draw and split a chunk's videos: fill videos/, write fingerprints.csv and index.csv.

    What an interrupted run put into videos/ is kept. watch sees the long loops go by.

    Raises:
        DatasetError: the chunk is not what its layout promises, a class is lacking, something
            stands on two sides, or is labelled REAL and FAKE; then there is no index.csv.
        DiskError: another run fills that folder, or the disk takes no more.
    """
    with sole_writer(raw_dir):
        _fill(chunk_path, raw_dir, settings, workers=workers, watch=watch)


def _fill(chunk_path: Path, raw_dir: Path, settings: Raw, *, workers: int, watch: Watch) -> None:
    chunk, videos_dir, index = raw_dir.name, raw_dir / "videos", raw_dir / "index.csv"
    index.unlink(missing_ok=True)
    with archive.open_chunk(chunk_path) as files:
        entries = datasets.read(files)
        sides = splits.assign(entries, settings)
        records = splits.draw(entries, sides, settings, find_absent(files, entries))
        # What shows without the files comes before hours of copying and decoding.
        leakage.check([copies.Listing(chunk, records)], settings)
        place(files, entries, records, videos_dir, watch=watch)
    listing = fingerprint(records, raw_dir, workers=workers, watch=watch)
    listing = without_contradictions(listing, videos_dir, settings, workers=workers)
    if not sides.own:
        # Before copies go: with a video that came to train for its copy goes all it is joined with.
        records = splits.gather_twins(listing, sides, settings.alike_ratio)
        listing = replace(listing, records=records)
    listing = without_repeats(listing, settings)
    delete_dropped(records, listing, videos_dir)
    records = list(listing.records)
    leakage.check([listing], settings)
    write_index(index, records)
    log.info("%s\n%s", chunk_path, leakage.table(records))


def find_absent(files: archive.ChunkFiles, entries: Iterable[Entry]) -> set[str]:
    """Return the names of the videos that the chunk lists and does not hold."""
    return {entry.file for entry in entries if not entry.is_in(files)}


def place(
    files: archive.ChunkFiles,
    entries: Iterable[Entry],
    records: Sequence[VideoRecord],
    videos_dir: Path,
    *,
    watch: Watch,
) -> None:
    """Fill videos_dir with the files of these records, which are of some of the entries.

    Raises:
        DatasetError: a file is damaged, there is no room, or the folder lies in the chunk.
    """
    drawn = {record.file for record in records}
    wanted = [entry for entry in entries if entry.file in drawn]
    placed = frame_videos.fill(files, wanted, videos_dir)
    for _ in watch(placed, total=len(wanted), label=f"videos of {videos_dir.parent.name}"):
        pass


def fingerprint(
    records: Sequence[VideoRecord], raw_dir: Path, *, workers: int, watch: Watch
) -> copies.Listing:
    """Return a chunk's videos with the fingerprints of those there, and write these."""
    paths = {record.video_id: raw_dir / "videos" / record.file for record in records}
    videos = [(video_id, path) for video_id, path in paths.items() if path.is_file()]
    taken = fingerprints.fingerprint_videos(videos, raw_dir / "fingerprints.csv", workers=workers)
    found = watch(taken, total=len(videos), label=f"fingerprints of {raw_dir.name}")
    return copies.Listing(raw_dir.name, records, {row.video_id: row for row in found})


def without_contradictions(
    listing: copies.Listing, videos_dir: Path, settings: Raw, *, workers: int
) -> copies.Listing:
    """Return the chunk without the videos of which the same pictures have two labels.

    Raises:
        DatasetError: there are some, and raw.contradictions is refuse.
    """
    recoded = same_pictures.find_recoded(
        [listing], {listing.chunk: videos_dir}, settings.alike_ratio, workers=workers
    )
    found = [*copies.contradictions(copies.find_copies([listing])), *recoded]
    copies.refuse_contradictions(found, settings, asked=f"the labels of {listing.chunk}")
    return _without(listing, copies.drop_contradictions(found))


def without_repeats(listing: copies.Listing, settings: Raw) -> copies.Listing:
    """Return the chunk with each video once in a split.

    Raises:
        DatasetError: one is there twice, and raw.copies is refuse.
    """
    found = copies.repeats(copies.find_copies([listing]))
    copies.refuse_repeats(found, settings, asked=f"each video of {listing.chunk} once")
    return _without(listing, copies.drop_repeats(found))


def delete_dropped(
    records: Iterable[VideoRecord], listing: copies.Listing, videos_dir: Path
) -> None:
    """Delete the files of the records that are no longer listed."""
    for file in {record.file for record in records} - {record.file for record in listing.records}:
        (videos_dir / file).unlink(missing_ok=True)


def _without(listing: copies.Listing, dropped: set[tuple[str, str]]) -> copies.Listing:
    kept = [r for r in listing.records if (listing.chunk, r.video_id) not in dropped]
    return replace(listing, records=kept)
