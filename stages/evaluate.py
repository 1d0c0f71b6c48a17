"""Model and test videos -> metrics: python stages/evaluate.py RAW FACES MODEL METRICS PLOTS."""

import sys
from pathlib import Path

from unmask import params
from unmask.cli.common import open_tracker, progress, registration_request, run_stage
from unmask.data import copies
from unmask.evaluation import evaluate
from unmask.models import checkpoint
from unmask.models.predict import Predictor
from unmask.runtime import record_files


def main() -> None:
    raw, faces, model, metrics, plots = map(Path, sys.argv[1:])
    settings = params.load()
    alias = registration_request()  # a mistake in it shows before the work
    chunks = copies.settle(record_files.read_chunks(settings.chunks, raw, faces), raw)
    predictor = Predictor.load(model)
    checkpoint.check_crops(predictor.checkpoint, settings.faces)
    is_ours = predictor.checkpoint.adopted is None
    history = record_files.read_history(model / checkpoint.HISTORY) if is_ours else []
    total = sum(len(chunk.of(split)) for chunk in chunks for split in evaluate.EVALUATED)
    scored = progress(evaluate.score_chunks(chunks, predictor), total=total, label="evaluate")
    with open_tracker(Path.cwd(), key=predictor.checkpoint.run_key, resume=True) as tracker:
        summaries = evaluate.evaluate(
            list(scored),
            predictor.checkpoint.temperature,
            settings.evaluate,
            history,
            metrics,
            plots,
            tracker,
        )
        if alias:  # it points only to a model that was evaluated
            tracker.register_model(model, alias)
    sys.stdout.write(evaluate.table(summaries) + "\n")


if __name__ == "__main__":
    run_stage(main)
