"""Open face material -> a DFDC-shaped chunk: python stages/sample.py SOURCES CHUNK."""

import sys
from pathlib import Path

from unmask import params
from unmask.cli.common import progress, run_stage, workers
from unmask.forgeries import sample


def main() -> None:
    sources, chunk = map(Path, sys.argv[1:])
    settings = params.load()
    plan = sample.plan(sources, settings.sample)
    videos = sample.make_chunk(plan, sources, chunk, settings.sample, workers=workers())
    for _ in progress(videos, total=len(plan), label="sample"):
        pass


if __name__ == "__main__":
    run_stage(main)
