"""A chunk -> the videos in use, with labels and splits: python stages/raw.py CHUNK RAW."""

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from unmask import datasets, fingerprints, leakage, params, splits
from unmask.doors import progress, run_stage, workers
from unmask.records import VideoRecord, write_index


def main() -> None:
    """Fill RAW/videos/ and write RAW/fingerprints.csv and RAW/index.csv."""
    chunk_dir, raw_dir = map(Path, sys.argv[1:])
    settings = params.load().raw
    chunk, videos_dir = raw_dir.name, raw_dir / "videos"
    entries = datasets.read_dfdc(chunk_dir)
    sides = splits.assign(entries, settings)
    records = splits.draw(entries, sides, settings)
    # What shows without the files comes before hours of copying and decoding.
    leakage.check([leakage.Listing(chunk, records)], settings)

    filled = fill_videos(records, chunk_dir, videos_dir)
    for _ in progress(filled, total=len(records), label=f"videos of {chunk}"):
        pass
    paths = {record.video_id: videos_dir / record.file for record in records}
    videos = [(video_id, path) for video_id, path in paths.items() if path.is_file()]
    taken = fingerprints.fingerprint_videos(videos, raw_dir / "fingerprints.csv", workers=workers())
    found = progress(taken, total=len(videos), label=f"fingerprints of {chunk}")
    listing = leakage.Listing(chunk, records, {row.video_id: row for row in found})
    if not sides.own:
        records = splits.gather_twins(listing, sides, settings.alike_ratio)
        for file in {path.name for path in paths.values()} - {record.file for record in records}:
            (videos_dir / file).unlink()
    leakage.check([leakage.Listing(chunk, records, listing.fingerprints)], settings)
    write_index(raw_dir / "index.csv", records)
    logging.getLogger("unmask.raw").info("%s\n%s", chunk_dir, leakage.table(records))


def fill_videos(
    records: Sequence[VideoRecord], chunk_dir: Path, videos_dir: Path
) -> Iterator[VideoRecord]:
    """Yield each video as its file is in place, if it has one; nothing else stays there."""
    datasets.link_videos(records, chunk_dir, videos_dir)
    yield from records


if __name__ == "__main__":  # workers import this file again
    run_stage(main)
