"""A benchmark's videos of which training has seen nothing.

python stages/leakage.py RAW LISTED
"""

import sys
from pathlib import Path

from unmask import params
from unmask.cli.common import run_stage
from unmask.data import leakage, seen_in_training
from unmask.data.copies import Listing
from unmask.runtime.record_files import read_fingerprints, read_index, write_index


def main() -> None:
    """Write index.csv beside LISTED, and shared.csv with what training has seen."""
    raw, listed = map(Path, sys.argv[1:])
    own = listed.parent
    settings = params.load()
    trained = [leakage.read_listing(name, raw / name) for name in settings.chunks]
    records = read_index(listed)
    benchmark = Listing(own.name, records, read_fingerprints(own / "fingerprints.csv"))
    shared = seen_in_training.find_shared(trained, benchmark, settings.raw.alike_ratio)
    table = own / "shared.csv"
    seen_in_training.write_shared(table, shared)
    kept = seen_in_training.settle(shared, benchmark, settings.benchmark, table=table)
    write_index(own / "index.csv", kept)


if __name__ == "__main__":
    run_stage(main)
