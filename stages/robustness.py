"""Model and degraded test videos -> metrics.

python stages/robustness.py RAW FACES MODEL ANSWERS METRICS_FILE PLOTS
"""

import sys
from pathlib import Path

from unmask import params
from unmask.cli.common import has_gpu, open_tracker, progress, run_stage, workers
from unmask.data import copies
from unmask.evaluation import robustness
from unmask.faces.shared_detector import best_detector
from unmask.models import checkpoint
from unmask.models.predict import Predictor
from unmask.runtime.record_files import read_chunks


def main() -> None:
    raw, faces, model, answers, metrics, plots = map(Path, sys.argv[1:])
    settings = params.load()
    chunks = copies.settle(read_chunks(settings.chunks, raw, faces), raw)
    videos = robustness.draw(robustness.find_originals(chunks, raw), settings.robustness)
    # The workers have the other cores, and the answers don't depend on how many there are.
    predictor = Predictor.load(model, threads=1)
    checkpoint.check_crops(predictor.checkpoint, settings.faces)  # clean videos have theirs
    degradations, crop = settings.robustness, predictor.checkpoint.faces
    with best_detector(crop.detect, on_gpu=has_gpu()) as load_detector:
        scored = robustness.score(
            videos, predictor, model, degradations, answers,
            workers=workers(), load_detector=load_detector,
        )  # fmt: skip
        total = len(videos) * (1 + len(degradations.degradations))
        shown = progress(scored, total=total, label="robustness")
        by_degradation = robustness.sort_answers(shown, videos, degradations)
    rows = robustness.summarise(by_degradation, settings.evaluate)
    found = robustness.record(rows, videos, degradations)
    with open_tracker(Path.cwd(), key=predictor.checkpoint.run_key, resume=True) as tracker:
        robustness.write(found, degradations, metrics, plots, tracker)
    sys.stdout.write(robustness.table(rows) + "\n")


if __name__ == "__main__":  # workers import this file again
    run_stage(main)
