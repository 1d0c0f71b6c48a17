"""Whether calibrate keeps its promise on videos that it did not see: docs/verdicts.md.

Type: python benchmarks/calibration.py --rows ROWS.jsonl [--splits 200] LIST.tsv ROOT

LIST.tsv has a row a video: file (below ROOT), label (REAL or FAKE) and source_repo, by which videos
stay together. What the model sees in every file is kept in ROWS.jsonl, by its path, for the next
run. Draws halves of the genuine videos many times, once video by video and once whole sources,
calibrates on one half, and prints what the model then says of the other half and of all fakes: the
share called fake and the share told to be unlike, their mean and from the 10th to the 90th
percentile; and how often the power that was printed held: half of the fakes were given, the other
half was asked, and the intervals of both shares meet.
"""

import argparse
import csv
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from unlike import measured

from unmask.answers.calibrated_folder import base_settings
from unmask.answers.calibration import (
    Asked,
    CalibrationError,
    Clip,
    Learned,
    learn,
    verdict_of,
)
from unmask.models.checkpoint import Checkpoint
from unmask.models.predict import Predictor
from unmask.scoring.promises import share_interval
from unmask.scoring.unlike import likeness
from unmask.scoring.verdicts import Verdict

RATES = (0.05, 0.1)
Group = list[Clip]


def halves(groups: Sequence[Group], rng: random.Random) -> tuple[Group, Group]:
    """Return about half of all videos, by whole groups, and the others."""
    order = list(groups)
    rng.shuffle(order)
    half = sum(map(len, order)) / 2
    first: Group = []
    while len(first) < half:
        first += order.pop()
    return first, [clip for group in order for clip in group]


def share_fake(clips: Group, learned: Learned) -> float:
    """Return the share of videos that are called fake."""
    made = learned.checkpoint
    assert made.promise is not None
    said = [
        verdict_of(clip, made.limits, made.promise, learned.looks, made.temperature)
        for clip in clips
    ]
    return said.count(Verdict.FAKE) / len(said)


def share_unlike(clips: Group, learned: Learned) -> float:
    """Return the share of videos of which a face is told to be unlike."""
    promise = learned.checkpoint.promise
    assert promise is not None
    told = [
        any(likeness(learned.looks, face.look).p_value <= promise.unlike_to for face in clip.faces)
        for clip in clips
    ]
    return sum(told) / len(told)


def tell(
    name: str, base: Checkpoint, real: Sequence[Group], fakes: Sequence[Group], rate: float,
    splits: int,
) -> None:  # fmt: skip
    """Print what many splits give."""
    rng = random.Random(0)
    all_fakes = [clip for group in fakes for clip in group]
    found: dict[str, list[float]] = {
        "genuine called fake": [], "genuine told unlike": [], "fakes called fake": [],
        "fakes told unlike": [], "power as printed": [],
    }  # fmt: skip
    refused = 0
    for _ in range(splits):
        known, new = halves(real, rng)
        given, asked_of = halves(fakes, rng)
        try:
            learned = learn(base, known, Asked(rate, "", ""), weights_sha256="0" * 64)
            with_fakes = learn(base, [*known, *given], Asked(rate, "", ""), weights_sha256="0" * 64)
        except CalibrationError:
            refused += 1
            continue
        found["genuine called fake"].append(share_fake(new, learned))
        found["genuine told unlike"].append(share_unlike(new, learned))
        found["fakes called fake"].append(share_fake(all_fakes, learned))
        found["fakes told unlike"].append(share_unlike(all_fakes, learned))
        promise = with_fakes.checkpoint.promise
        assert promise is not None
        assert promise.power_low is not None
        assert promise.power_high is not None
        power = share_fake(asked_of, with_fakes)
        low, high = share_interval(round(power * len(asked_of)), len(asked_of))
        meets = promise.power_low <= high and low <= promise.power_high
        found["power as printed"].append(float(meets))
    for what, shares in found.items():
        low, high = np.quantile(shares, [0.1, 0.9])
        print(
            f"{name:<9} at most {rate:g}  {what:<22} {np.mean(shares):.3f} "
            f"[{low:.3f}, {high:.3f}]  {len(shares)} splits, {refused} refused"
        )


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("model"))
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("list", type=Path)
    parser.add_argument("root", type=Path)
    asked = parser.parse_args()
    with asked.list.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    paths = [asked.root / row["file"] for row in rows]
    clips = measured(paths, asked.rows, Predictor.load(asked.model))
    by_source: dict[tuple[str, str], Group] = {}
    alone: dict[str, list[Group]] = {"REAL": [], "FAKE": []}
    for row, clip in zip(rows, clips, strict=True):
        if not clip.faces:
            continue
        labelled = Clip(clip.path, row["label"] == "FAKE", clip.stream, clip.faces, clip.reason, "")
        by_source.setdefault((row["label"], row["source_repo"]), []).append(labelled)
        alone[row["label"]].append([labelled])
    sources = {
        label: [group for (own, _), group in by_source.items() if own == label] for label in alone
    }
    base = base_settings(asked.model)
    for rate in RATES:
        for name, groups in (("by video", alone), ("by source", sources)):
            tell(name, base, groups["REAL"], groups["FAKE"], rate, asked.splits)


if __name__ == "__main__":
    main()
