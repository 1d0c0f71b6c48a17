"""What needs no detector, beside the model: so that nobody takes picture quality for detection."""

import csv
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import DatasetError
from unmask.evaluation.looks import (
    FROZEN_NET,
    PICTURES,
    QUANTITIES,
    FrozenNet,
    Look,
    file_facts,
    look_at,
    main_face,
)
from unmask.params import Evaluate
from unmask.records import SPLITS, Chunk, Split, VideoRecord
from unmask.runtime.disk import write_atomically
from unmask.scoring import baselines, metrics
from unmask.scoring.scores import roc_auc
from unmask.tracking.tracker import Tracker

log = logging.getLogger(__name__)

Summary = dict[str, Any]
MOST_TRAINED = 1000  # videos that the linear model and the directions are learned from
COMPARED: tuple[Split, ...] = ("validation", "test")
FOLDS = 5  # where there is no training split
FROZEN_WORDS = "frozen ImageNet net + logistic regression"


@dataclass(frozen=True, eq=False)
class Seen:
    """A labelled video, what the model says of it, and what it looks like."""

    chunk: str
    method: str  # "real", or how the fake was made
    label: int
    group: str  # videos that share it are redrawn together
    score: float | None  # the model's; None where it has none, or was not asked
    look: Look


@dataclass(frozen=True, eq=False)
class Learned:
    """What training videos teach without a detector."""

    directions: Mapping[str, int]  # by quantity: 1 where fakes have more of it, else -1
    linear: baselines.LinearModel


# ---------------------------------------------------------------- looking


def look_at_chunks(
    chunks: Sequence[Chunk],
    raw_dir: Path,
    scores: Mapping[tuple[str, str], float],
    net: FrozenNet,
    *,
    margin_ratio: float,
    workers: int,
) -> Iterator[tuple[Split, Seen]]:
    """Yield the chunks' videos that show a face, each with its split.

    scores are the model's by chunk and video id. Of the training split MOST_TRAINED at most are
    taken, spread evenly.
    """
    chosen = choose(chunks)
    paths = [raw_dir / chunk.name / "videos" / record.file for chunk, record in chosen]
    found = look_at_videos(chosen, paths, scores, net, margin_ratio=margin_ratio, workers=workers)
    for record, seen in found:
        yield record.split, seen


def look_at_videos(
    videos: Sequence[tuple[Chunk, VideoRecord]],
    paths: Sequence[Path],
    scores: Mapping[tuple[str, str], float],
    net: FrozenNet,
    *,
    margin_ratio: float,
    workers: int,
) -> Iterator[tuple[VideoRecord, Seen]]:
    """Yield the videos that show a face; paths are those of their files, in the same order.

    scores are the model's by chunk and video id; margin_ratio is that of the crops.
    """
    all_facts = file_facts(paths, workers=workers)
    for (chunk, record), facts in zip(videos, all_facts, strict=True):
        forged = record.forged if record.split == "train" else None
        track = main_face(chunk.faces[record.video_id], forged)
        if track is None:
            continue
        look = look_at(chunk.faces_dir, track, facts, margin_ratio, net)
        score = scores.get((chunk.name, record.video_id))
        yield record, Seen(chunk.name, record.method, record.label, record.source_id, score, look)


def choose(chunks: Sequence[Chunk]) -> list[tuple[Chunk, VideoRecord]]:
    """Return the videos to look at: all of validation and test, MOST_TRAINED of train at most."""
    chosen: list[tuple[Chunk, VideoRecord]] = []
    for split in SPLITS:
        own = [(chunk, record) for chunk in chunks for record in chunk.of(split).records]
        step = max(1, -(-len(own) // MOST_TRAINED)) if split == "train" else 1
        chosen += own[::step]
    return chosen


def read_scores(path: Path) -> dict[tuple[str, str], float]:
    """Return the logits of evaluate's table, by chunk and video id.

    Raises:
        DatasetError: there is no such table, or it is not evaluate's.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return {
                (row["chunk"], row["video_id"]): float(row["logit"])
                for row in csv.DictReader(lines)
                if row["logit"]
            }
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise DatasetError(
            f"Asked for the model's answers in {path}; found no table of evaluate's ({error!r}). "
            "Run `dvc repro evaluate`."
        ) from error


# ---------------------------------------------------------------- learning


def learn(seen: Sequence[Seen]) -> Learned | None:
    """Return what these videos teach; None where they are of one class, as of real videos alone."""
    if len({video.label for video in seen}) < 2:
        return None
    rows = np.concatenate([video.look.features_FD for video in seen])
    labels = np.repeat([v.label for v in seen], [len(v.look.features_FD) for v in seen])
    return Learned(directions_of(seen), baselines.fit_linear(rows, labels))


def directions_of(seen: Sequence[Seen]) -> dict[str, int]:
    """Return for each quantity whether these fakes have more of it: 1, or -1."""
    found = {}
    for name in QUANTITIES:
        known = [v for v in seen if name in v.look.quantities]
        if len({video.label for video in known}) == 2:
            values = [video.look.quantities[name] for video in known]
            found[name] = baselines.direction([video.label for video in known], values)
    return found


def linear_logits(linear: baselines.LinearModel, seen: Sequence[Seen]) -> list[float]:
    """Return each video's logit: the mean over its pictures."""
    return [float(linear.logits(video.look.features_FD).mean()) for video in seen]


def cross_fitted_logits(seen: Sequence[Seen]) -> list[float | None]:
    """Return each video's logit by a linear model that was fitted without its group.

    None where the other groups hold a single class.
    """
    fold_N = baselines.fold_by_group([video.group for video in seen], FOLDS)
    logits: list[float | None] = [None] * len(seen)
    for fold in range(FOLDS):
        held = [place for place in range(len(seen)) if fold_N[place] == fold]
        learned = learn([seen[place] for place in range(len(seen)) if fold_N[place] != fold])
        if held and learned is not None:
            found = linear_logits(learned.linear, [seen[place] for place in held])
            for place, logit in zip(held, found, strict=True):
                logits[place] = logit
    return logits


# ---------------------------------------------------------------- comparing


def summarise(seen: Sequence[Seen], learned: Learned | None, settings: Evaluate) -> Summary:
    """Return the model's AUC, that of each thing that needs no detector, and the differences.

    An AUC is of the quantity as it is, more of it counted as fake: below 0.5, the fakes have less.
    Beside the model a quantity stands in the direction that the training videos showed (learned),
    or, without those, these videos themselves, which favours it a little. Differences are paired.
    All is over the videos that show a face; where the model was asked, over those it answered.

    Raises:
        DatasetError: no video is left.
    """
    was_asked = any(video.score is not None for video in seen)
    seen = [video for video in seen if video.score is not None or not was_asked]
    if not seen:
        raise DatasetError(
            "Comparing with what needs no detector takes videos with a face; none was found. Look "
            "at the reasons in the faces' index.jsonl."
        )
    labels, groups = [video.label for video in seen], [video.group for video in seen]
    draws = {"resamples": settings.bootstrap_resamples, "seed": settings.seed}
    scores = [video.score for video in seen]
    pairs = baselines.match_pairs(
        labels,
        [video.look.quantities["face_px"] for video in seen],
        [video.look.quantities["sharpness"] for video in seen],
    )

    def rank(values: Sequence[float | None]) -> metrics.Measured:
        known = [row for row in zip(labels, values, groups, strict=True) if row[1] is not None]
        if not known:
            return dict(metrics.NOT_MEASURED)
        return metrics.measure(roc_auc, *zip(*known, strict=True), **draws)

    def rank_pairs(values: Sequence[float | None]) -> metrics.Measured:
        known = [np.nan if value is None else value for value in values]
        return baselines.measure_pairs(known, pairs, groups, **draws)

    def above_model(values: Sequence[float | None]) -> metrics.Measured:
        return metrics.measure_difference(roc_auc, labels, values, scores, groups, **draws)

    directions = learned.directions if learned is not None else directions_of(seen)
    frozen: Sequence[float | None] = cross_fitted_logits(seen) if learned is None else []
    if learned is not None:
        frozen = linear_logits(learned.linear, seen)
    rows: list[Summary] = []
    for name, words in QUANTITIES.items():
        values = [video.look.quantities.get(name) for video in seen]
        sign = directions.get(name, 1)
        turned = [None if value is None else sign * value for value in values]
        rows.append(
            {
                "name": name,
                "words": words,
                "videos": sum(value is not None for value in values),
                "fakes_have": "more" if sign > 0 else "less",
                "roc_auc": rank(values),
                "above_model": above_model(turned),
                "matched_roc_auc": rank_pairs(values),
            }
        )
    rows.append(
        {
            "name": "frozen_net",
            "words": FROZEN_WORDS,
            "videos": sum(value is not None for value in frozen),
            "fakes_have": None,
            "roc_auc": rank(frozen),
            "above_model": above_model(frozen),
            "matched_roc_auc": rank_pairs(frozen),
        }
    )
    return {
        "videos": len(seen),
        "sources": len(set(groups)),
        "direction_from": "these videos" if learned is None else "training videos",
        "model": {"roc_auc": rank(scores), "matched_roc_auc": rank_pairs(scores)},
        "matched": {
            "pairs": pairs.count,
            "fakes": pairs.fake_count,
            "reals": pairs.real_count,
            "max_width_ratio": baselines.MAX_WIDTH_RATIO,
            "max_log_sharpness": baselines.MAX_LOG_SHARPNESS,
        },
        "above_model": [row["name"] for row in rows if (row["above_model"]["low"] or 0.0) > 0],
        "rows": rows,
    }


def record(summaries: Mapping[str, Summary]) -> Summary:
    """Return what metrics/baselines.json holds.

    DVC's tables show the first key, and leave lists out.
    """
    return {
        "baselines": {split: _headline(summary) for split, summary in summaries.items()},
        "splits": [
            {"split": split, "frozen_net": FROZEN_NET, "pictures_of_a_face": PICTURES, **summary}
            for split, summary in summaries.items()
        ],
    }


def _headline(summary: Summary) -> dict[str, float | None]:
    *quantities, frozen = summary["rows"]
    known = [(row, row["roc_auc"]["value"]) for row in quantities]
    turned = [
        auc if row["fakes_have"] == "more" else 1 - auc for row, auc in known if auc is not None
    ]
    return {
        "model_on_pairs_auc": summary["model"]["matched_roc_auc"]["value"],
        "frozen_net_auc": frozen["roc_auc"]["value"],
        "strongest_quantity_auc": max(turned, default=None),
    }


# ---------------------------------------------------------------- saying


def warnings_of(summary: Summary) -> list[str]:
    """Return a sentence for each thing without a detector that ranks better than the model."""
    model = summary["model"]["roc_auc"]
    said = []
    for row in summary["rows"]:
        if row["name"] in summary["above_model"]:
            has_less = row["fakes_have"] == "less"
            how = f" ({row['fakes_have']} in fakes)" if row["fakes_have"] else ""
            auc = _turned(row["roc_auc"]) if has_less else row["roc_auc"]
            said.append(
                f"{row['words']}{how} alone ranks these videos better than the model: AUC "
                f"{metrics.shown(auc)} against {metrics.shown(model)}, a difference of "
                f"{metrics.shown(row['above_model'], sign='+')}"
            )
    return said


def _turned(auc: Mapping[str, float | None]) -> metrics.Measured:
    """Return the AUC of a quantity of which less is counted as fake."""
    value, high, low = (
        None if auc[name] is None else 1 - (auc[name] or 0.0) for name in ("value", "low", "high")
    )
    return {"value": value, "low": low, "high": high}


def verdict_on(summary: Summary) -> str:
    """Return in a few sentences how the model stands to chance, and to what needs no detector."""
    rows, auc = summary["rows"], summary["model"]["roc_auc"]
    if auc["value"] is None or all(row["above_model"]["value"] is None for row in rows):
        return "Not compared with the model."
    said = []
    if auc["low"] is None or auc["low"] <= 0.5:
        said.append("The model is NOT SHOWN TO BE BETTER THAN CHANCE (0.5).")
    if above := [row["words"] for row in rows if row["name"] in summary["above_model"]]:
        said.append(f"It is BELOW what needs no detector: {', '.join(above)}.")
    level = [
        row["words"] for row in rows
        if row["name"] not in summary["above_model"] and _may_be_level(row["above_model"])
    ]  # fmt: skip
    if level:
        said.append(f"It is not shown to be better than {', '.join(level)}.")
    return " ".join(said) or "The model is better than each of these, by the paired intervals."


def _may_be_level(difference: Mapping[str, float | None]) -> bool:
    """Say whether what was measured beside the model has no interval that lies below it."""
    high = difference["high"]
    return difference["value"] is not None and (high is None or high >= 0)


def table(name: str, summary: Summary) -> str:
    """Return what needs no detector as a table for people."""
    model, matched = summary["model"], summary["matched"]
    header = f"{name}, {summary['videos']} videos of {summary['sources']} sources"
    lines = [f"{header:42}{'AUC':>22}{'above the model':>25}{'AUC on the pairs':>22}  fakes have"]
    first = {"words": "the model", "fakes_have": None, **model, "above_model": metrics.NOT_MEASURED}
    for row in (first, *summary["rows"]):
        loud = "  <- ABOVE THE MODEL" if row.get("name") in summary["above_model"] else ""
        difference = metrics.shown(row["above_model"], sign="+")
        on_pairs = metrics.shown(row["matched_roc_auc"])
        line = (
            f"{row['words']:42}{metrics.shown(row['roc_auc']):>22}{difference:>25}{on_pairs:>22}"
            f"  {row['fakes_have'] or '':4}{loud}"
        )
        lines.append(line.rstrip())
    lines.append(
        f"The pairs: {matched['pairs']}, of {matched['fakes']} fakes and {matched['reals']} real "
        f"videos whose faces are within {matched['max_width_ratio']} x in width and "
        f"{matched['max_log_sharpness']} in the logarithm of sharpness."
    )
    lines.append(
        "Of an AUC below 0.5 the fakes have less. Beside the model each stands in the direction "
        f"that {'the training' if summary['direction_from'] != 'these videos' else 'these'} "
        "videos show. 95% intervals redraw sources; differences are paired."
    )
    lines.append(verdict_on(summary))
    lines += [f"WARNING: {words}." for words in warnings_of(summary)]
    return "\n".join(lines)


def write(summaries: Mapping[str, Summary], path: Path, tracker: Tracker) -> None:
    """Write metrics/baselines.json, tell the tracker, and warn of a model that is below a line."""
    found = record(summaries)
    write_atomically(path, json.dumps(found, indent=2) + "\n")
    for split, values in found["baselines"].items():
        known = {f"baselines/{split}/{k}": v for k, v in values.items() if v is not None}
        tracker.log_metrics(known)
    tracker.log_file(path, "metrics")
