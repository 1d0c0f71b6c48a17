"""A data set -> a benchmark's videos, all test: python stages/raw_benchmark.py CHUNK RAW."""

import sys
from pathlib import Path

from unmask import params
from unmask.cli.common import progress, run_stage, workers
from unmask.data import benchmarks


def main() -> None:
    """Fill RAW/videos/ and write RAW/fingerprints.csv, RAW/listed.csv and RAW/chosen.json."""
    chunk, raw_dir = map(Path, sys.argv[1:])
    settings = params.load()
    benchmarks.fill(
        chunk, raw_dir, settings.raw, settings.benchmark, workers=workers(), watch=progress
    )


if __name__ == "__main__":  # workers import this file again
    run_stage(main)
