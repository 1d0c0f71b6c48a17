"""A chunk -> the videos in use, with labels and splits: python stages/raw.py CHUNK RAW."""

import sys
from pathlib import Path

from unmask import params
from unmask.cli.common import progress, run_stage, workers
from unmask.data import raw


def main() -> None:
    """Fill RAW/videos/ and write RAW/fingerprints.csv and RAW/index.csv."""
    chunk, raw_dir = map(Path, sys.argv[1:])
    raw.fill(chunk, raw_dir, params.load().raw, workers=workers(), watch=progress)


if __name__ == "__main__":  # workers import this file again
    run_stage(main)
