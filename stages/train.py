"""Indexes and face crops -> model: python stages/train.py RAW FACES MODEL."""

import sys
from functools import partial
from pathlib import Path

from unmask import params
from unmask.cli.common import (
    frame_cache_bytes,
    frame_cache_folder,
    is_first_here,
    is_helper,
    open_tracker,
    progress,
    run_stage,
    train_elsewhere,
    weights_cache,
    workers,
)
from unmask.models import fit, frame_cache, train
from unmask.models.settings import Settings


def main() -> None:
    raw, faces, model = map(Path, sys.argv[1:])
    scratch = model.with_name(f".{model.name}.training")
    settings = params.load()
    chunks = train.read_chunks(settings.chunks, raw, faces, settings.raw)
    sections = Settings.of(settings)
    plan = fit.plan(chunks, sections, scratch=scratch, weights_cache=weights_cache())
    if not train_elsewhere(Path.cwd(), model, plan.key):
        with (
            frame_cache.opened(
                chunks,
                frame_cache_folder(Path.cwd()),
                most_bytes=frame_cache_bytes(),
                side_px=sections.faces.side_px,
                workers=workers(),
                is_filler=is_first_here(),
                show=partial(progress, label="frames"),
            ) as frames,
            open_tracker(Path.cwd(), key=plan.key, resume=plan.epochs_done > 0) as tracker,
        ):
            train.train(
                chunks, sections, model, tracker, plan=plan, scratch=scratch, workers=workers(),
                weights_cache=weights_cache(), frames=frames,
            )  # fmt: skip
    if not is_helper():
        train.forget(scratch)


if __name__ == "__main__":
    run_stage(main)
