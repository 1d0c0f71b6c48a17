"""What needs no detector, beside the model.

python stages/baselines.py RAW FACES MODEL SCORES_CSV METRICS_FILE CARD
"""

import sys
from pathlib import Path

from unmask import params
from unmask.cli.common import open_tracker, progress, run_stage, weights_cache, workers
from unmask.data import copies
from unmask.evaluation import baselines
from unmask.evaluation.looks import FrozenNet
from unmask.evaluation.published_card import write_card
from unmask.models import checkpoint
from unmask.records import SPLITS, Split
from unmask.runtime.record_files import read_chunks


def main() -> None:
    raw, faces, model, scores, metrics, card = map(Path, sys.argv[1:])
    settings = params.load()
    chunks = copies.settle(read_chunks(settings.chunks, raw, faces), raw)
    trained = checkpoint.read_settings(model)
    seen = baselines.look_at_chunks(
        chunks, raw, baselines.read_scores(scores), FrozenNet(weights_cache()),
        margin_ratio=trained.faces.margin_ratio, workers=workers(),
    )  # fmt: skip
    by_split: dict[Split, list[baselines.Seen]] = {split: [] for split in SPLITS}
    total = len(baselines.choose(chunks))
    for split, video in progress(seen, total=total, label="baselines"):
        by_split[split].append(video)
    learned = baselines.learn(by_split["train"])
    summaries: dict[str, baselines.Summary] = {
        split: baselines.summarise(by_split[split], learned, settings.evaluate)
        for split in baselines.COMPARED
        if by_split[split]
    }
    with open_tracker(Path.cwd(), key=trained.run_key, resume=True) as tracker:
        baselines.write(summaries, metrics, tracker)
        name, tested = trained.model.backbone, by_split["test"]
        others = trained.adopted or trained.began_as
        write_card(
            model, trained.adopted.title if trained.adopted else name, card, tested,
            summaries.get("test"), settings.evaluate, whose=others.title if others else "",
        )  # fmt: skip
        tracker.log_file(card, "metrics")
    for split_name, summary in summaries.items():
        sys.stdout.write(baselines.table(split_name, summary) + "\n\n")


if __name__ == "__main__":  # workers import this file again
    run_stage(main)
