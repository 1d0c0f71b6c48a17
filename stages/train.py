"""Indexes and face crops -> model: python stages/train.py RAW FACES MODEL."""

import sys
from pathlib import Path

from unmask import params
from unmask.cli.common import (
    is_helper,
    open_tracker,
    run_stage,
    train_elsewhere,
    weights_cache,
    workers,
)
from unmask.models import fit, train
from unmask.models.settings import Settings


def main() -> None:
    raw, faces, model = map(Path, sys.argv[1:])
    scratch = model.with_name(f".{model.name}.training")
    settings = params.load()
    chunks = train.read_chunks(settings.chunks, raw, faces, settings.raw)
    sections = Settings.of(settings)
    plan = fit.plan(chunks, sections, scratch=scratch, weights_cache=weights_cache())
    if not train_elsewhere(Path.cwd(), model, plan.key):
        with open_tracker(Path.cwd(), key=plan.key, resume=plan.epochs_done > 0) as tracker:
            train.train(
                chunks, sections, model, tracker,
                plan=plan, scratch=scratch, workers=workers(), weights_cache=weights_cache(),
            )  # fmt: skip
    if not is_helper():
        train.forget(scratch)


if __name__ == "__main__":
    run_stage(main)
