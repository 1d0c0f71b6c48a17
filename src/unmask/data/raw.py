"""The raw stage: the videos in use, their fingerprints, and on which side each stands."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from unmask.data import archive, datasets, fingerprints, leakage, splits
from unmask.params import Raw
from unmask.records import write_index
from unmask.runtime.disk import sole_writer

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
        DatasetError: the chunk is not what its layout promises, a class is lacking, or something
            stands on two sides; then there is no index.csv.
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
        absent = {entry.file for entry in entries if entry.path not in files.sizes}
        records = splits.draw(entries, sides, settings, absent)
        # What shows without the files comes before hours of copying and decoding.
        leakage.check([leakage.Listing(chunk, records)], settings)
        drawn = {record.file for record in records}
        wanted = {entry.file: entry.path for entry in entries if entry.file in drawn}
        placed = archive.fill(files, wanted, videos_dir)
        for _ in watch(placed, total=len(wanted), label=f"videos of {chunk}"):
            pass
    paths = {record.video_id: videos_dir / record.file for record in records}
    videos = [(video_id, path) for video_id, path in paths.items() if path.is_file()]
    taken = fingerprints.fingerprint_videos(videos, raw_dir / "fingerprints.csv", workers=workers)
    found = watch(taken, total=len(videos), label=f"fingerprints of {chunk}")
    listing = leakage.Listing(chunk, records, {row.video_id: row for row in found})
    if not sides.own:
        records = splits.gather_twins(listing, sides, settings.alike_ratio)
        for file in drawn - {record.file for record in records}:
            (videos_dir / file).unlink(missing_ok=True)
    leakage.check([leakage.Listing(chunk, records, listing.fingerprints)], settings)
    write_index(index, records)
    log.info("%s\n%s", chunk_path, leakage.table(records))
