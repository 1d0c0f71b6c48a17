"""Model and a benchmark's crops -> metrics, beside what needs no detector.

python stages/benchmark.py RAW FACES HELD_OUT NAME MODEL KEPT METRICS PLOTS
"""

import json
import sys
from pathlib import Path

from unmask import params
from unmask.answers.labelled import asker
from unmask.cli.common import open_tracker, progress, run_stage, weights_cache, workers
from unmask.data import copies, seen_in_training
from unmask.evaluation import baselines
from unmask.evaluation.benchmarks import measures, quality, score, scores_file
from unmask.evaluation.looks import FrozenNet
from unmask.models import checkpoint
from unmask.models.predict import Predictor
from unmask.runtime.digests import model_digest
from unmask.runtime.disk import write_atomically
from unmask.runtime.record_files import read_chunk, read_chunks


def main() -> None:
    raw, faces, held_out = map(Path, sys.argv[1:4])
    name = sys.argv[4]
    model, kept, metrics, plots = map(Path, sys.argv[5:])
    settings = params.load()
    own = held_out / "raw" / name
    chunk = read_chunk(name, own / "index.csv", held_out / "faces" / name)
    predictor = Predictor.load(model)
    checkpoint.check_crops(predictor.checkpoint, settings.faces)
    ask = asker(predictor, chunk.records, own / "videos", chunk.faces_dir, workers=workers())
    answers = list(
        progress(
            score.answer_all(chunk, model, ask, kept / name / model_digest(model)[:16]),
            total=len(chunk.records), label=f"benchmark {name}",
        )
    )  # fmt: skip
    trained_on = None if predictor.checkpoint.adopted else settings.chunks
    detector = score.describe(scores_file.PIPELINE, model, predictor.checkpoint, trained_on)
    scores = score.to_scores(name, answers, detector, predictor.checkpoint.temperature)

    net, margin = FrozenNet(weights_cache()), predictor.checkpoint.faces.margin_ratio
    chunks = copies.settle(read_chunks(settings.chunks, raw, faces), raw)
    learned = quality.learn(chunks, raw, net, margin_ratio=margin, workers=workers())
    logits = {row.video_id: row.logit for row in scores.rows if row.logit is not None}
    seen = dict(
        quality.look_at_videos(
            chunk, own / "videos", logits, net, margin_ratio=margin, workers=workers()
        )
    )
    summary = measures.summarise(scores, settings.evaluate)
    summary["chosen"] = json.loads((own / "chosen.json").read_text(encoding="utf-8"))
    summary["left_out"] = seen_in_training.count_shared(own / "shared.csv")
    summary["without_detector"] = baselines.summarise(
        list(seen.values()), learned, settings.evaluate
    )

    place = scores_file.pipeline_place(metrics, name)
    scores_file.write(place, scores)
    write_atomically(place.scores.with_name("looks.csv"), measures.looks_csv(seen, learned))
    measures.write_plots(plots, scores)
    key = predictor.checkpoint.run_key
    with open_tracker(
        Path.cwd(), key=f"{key}-{name}", resume=True, parent=key, run_name=f"benchmark {name}"
    ) as tracker:
        file = place.scores.parent.with_name(f"{name}.json")
        measures.write(summary, file, sorted(plots.glob("*.png")), tracker)
        tracker.log_file(place.scores, "metrics")
    sys.stdout.write(measures.table(summary) + "\n\n")
    sys.stdout.write(baselines.table(name, summary["without_detector"]) + "\n")


if __name__ == "__main__":  # workers import this file again
    run_stage(main)
