"""Refuse params.yaml before any stage runs: python stages/params.py CHUNKS_DIR CHECKED.

The first stages depend on CHECKED, whose content never changes: so this one runs before them
whenever a param changed, known or not, and what is right runs nothing again.
"""

import sys
from pathlib import Path

from unmask import params
from unmask.cli.common import memory_bytes, run_stage
from unmask.models.memory import check_memory
from unmask.runtime.disk import write_atomically


def main() -> None:
    chunks_dir, checked = map(Path, sys.argv[1:])
    settings = params.load()
    params.check_chunks(settings.chunks, chunks_dir, made=["sample"])
    params.check_chunks(settings.benchmarks, chunks_dir, made=["sample"], key="benchmarks")
    if available := memory_bytes():
        check_memory(settings.clips, settings.model, settings.train, available_bytes=available)
    write_atomically(checked, "params.yaml is checked before any stage runs\n")


if __name__ == "__main__":
    run_stage(main)
