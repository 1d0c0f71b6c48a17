"""A chunk -> the videos in use, with labels and splits: python stages/raw.py CHUNK RAW."""

import logging
import sys
from pathlib import Path

from unmask import archive, datasets, params
from unmask.doors import run_stage
from unmask.records import write_index


def main() -> None:
    """Fill RAW/videos/ and write RAW/index.csv."""
    chunk_dir, raw_dir = map(Path, sys.argv[1:])
    settings = params.load().raw
    with archive.open_chunk(chunk_dir) as files:
        listed = datasets.read(files)
    entries = datasets.draw(
        listed,
        max_real=settings.max_real,
        fakes_per_real=settings.fakes_per_real,
        seed=settings.seed,
    )
    records = datasets.split_by_source(entries, settings)
    datasets.link_videos(records, chunk_dir, raw_dir / "videos")
    write_index(raw_dir / "index.csv", records)
    logging.getLogger("unmask.raw").info("%s\n%s", chunk_dir, datasets.table(records))


if __name__ == "__main__":
    run_stage(main)
