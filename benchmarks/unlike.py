"""How well calibrate tells videos of another kind: docs/verdicts.md.

Type: python benchmarks/unlike.py --rows ROWS.jsonl [--model MODEL] KNOWN OTHER [OTHER ...]

Each is a folder of genuine videos. What the model sees in every file is kept in ROWS.jsonl, by its
path, for the next run. Says what share of KNOWN's videos is told to be unlike the rest of KNOWN,
one by one, and what share of each OTHER's is told to be unlike KNOWN, at p <= 0.05 and 0.1; and how
often a video of OTHER has a lower p-value than one of KNOWN (AUC; 0.5 is chance): by all that is
measured, and by qualities (with the codec) or by features alone.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from unmask.answers.calibration import Clip, clip_of, facts_of
from unmask.answers.inputs import find_videos
from unmask.faces.files import crop_files
from unmask.models.predict import Predictor
from unmask.scoring.promises import worst_of
from unmask.scoring.scores import roc_auc
from unmask.scoring.unlike import Look, likeness, likeness_among

RATES = (0.05, 0.1)


def measured(paths: Sequence[Path], rows: Path, predictor: Predictor) -> list[Clip]:
    """Return what the model sees in each file; rows keeps it by path."""
    lines = rows.read_text(encoding="utf-8").splitlines() if rows.is_file() else []
    known = {row["path"]: row for row in map(json.loads, lines)}
    missing = [path for path in paths if str(path) not in known]
    workers = len(os.sched_getaffinity(0))
    with rows.open("a", encoding="utf-8") as file:
        for cropped in crop_files(missing, predictor.checkpoint.faces, workers=workers):
            row = {"path": str(cropped.path), **facts_of(predictor, cropped)}
            known[row["path"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
    return [clip_of(path, False, str(path), known[str(path)]) for path in paths]


def worst_looks(clips: Iterable[Clip]) -> list[Look]:
    """Return the look of each video's worst face, as calibrate takes it."""
    found = []
    for clip in clips:
        judged = [face.judged(1.0) for face in clip.faces]
        if judged:
            found.append(clip.faces[judged.index(worst_of(judged))].look)
    return found


def only_qualities(look: Look) -> Look:
    """Return the look without features."""
    return replace(look, features_D=None)


def only_features(look: Look) -> Look:
    """Return the look with the net's features alone."""
    return replace(look, qualities_Q=np.zeros_like(look.qualities_Q), codec="")


WAYS: dict[str, Callable[[Look], Look]] = {
    "all": lambda look: look,
    "qualities": only_qualities,
    "features": only_features,
}


def tell(known: Sequence[Look], other: Sequence[Look], name: str) -> None:
    """Print how many of the others are told, and how many of the known ones."""
    for way, seen in WAYS.items():
        own, new = [seen(look) for look in known], [seen(look) for look in other]
        inside = [found.p_value for found in likeness_among(own)]
        outside = [likeness(own, look).p_value for look in new]
        labels = [0] * len(inside) + [1] * len(outside)
        auc = roc_auc(labels, [-p for p in inside + outside])
        told = "  ".join(
            f"p<={rate:g}: {np.mean(np.array(inside) <= rate):.2f} -> "
            f"{np.mean(np.array(outside) <= rate):.2f}"
            for rate in RATES
        )
        print(f"{name:<24} {len(own):>4} {len(new):>4}  {way:<10} AUC {auc:.2f}  {told}")


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("model"))
    parser.add_argument("folders", type=Path, nargs="+")
    asked = parser.parse_args()
    predictor = Predictor.load(asked.model)
    looks = [
        worst_looks(measured(find_videos([str(folder)], b"").videos, asked.rows, predictor))
        for folder in asked.folders
    ]
    for folder, other in zip(asked.folders[1:], looks[1:], strict=True):
        tell(looks[0], other, folder.name)


if __name__ == "__main__":
    main()
