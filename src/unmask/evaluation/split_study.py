"""What a leak is worth: the same videos, trained on and tested once split by clip, once by source.

Cross-validation (Stone, 1974), so that both ways of splitting are judged on every video, once each.
"""

import csv
import hashlib
import io
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.data.splits import join
from unmask.errors import UnmaskError
from unmask.evaluation import plots
from unmask.models import fit, train
from unmask.models.predict import Predictor
from unmask.models.settings import Settings
from unmask.params import Evaluate
from unmask.records import Chunk, Split, VideoRecord
from unmask.runtime.disk import write_atomically
from unmask.scoring import metrics
from unmask.tracking.tracker import NullTracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS = ("clip", "source")
LABELS = {"clip": "by clip (the article's)", "source": "by source (ours)"}
_COLOURS = ("#D55E00", "#0072B2")  # as in plots.py
COMPARED = {name: metrics.METRICS[name] for name in ("roc_auc", "log_loss")}
Place = tuple[str, str]  # chunk, video id


@dataclass(frozen=True)
class HeldOut:
    """A video's answer by the one model of its way of splitting that has not trained on it."""

    chunk: str
    video_id: str
    source_id: str
    label: int
    probability: float | None
    source_trained_on: bool  # whether the model trained on another video of the same source


def deal(records: Mapping[Place, VideoRecord], way: str, folds: int, seed: int) -> dict[Place, int]:
    """Return each video's fold, 0 to folds - 1.

    By clip, each class is dealt out like cards. By source, all that share a source or a donor go
    where the fewest videos are, the largest groups first.

    Raises:
        UnmaskError: fewer than three folds, or not that many groups of sources, either way: the
            study would stop at its second training.
    """

    def chance(text: str) -> bytes:
        return hashlib.sha256(f"{seed}/{way}/{text}".encode()).digest()

    groups = join(records.values())
    sizes = Counter(groups[record.source_id] for record in records.values())
    if folds < 3 or len(sizes) < folds:
        raise UnmaskError(
            f"Asked for {folds} folds of {len(sizes)} groups of sources; a fold each for test and "
            "validation and one or more for training are needed. Change --folds or add videos."
        )
    if way == "clip":
        order = sorted(records, key=lambda place: chance("/".join(place)))
        own: dict[int, int] = defaultdict(int)
        dealt = {}
        for place in order:
            label = records[place].label
            dealt[place] = own[label] % folds
            own[label] += 1
        return dealt
    filled = [0] * folds
    fold_of = {}
    for group in sorted(sizes, key=lambda group: (-sizes[group], chance(min(group)))):
        fold_of[group] = filled.index(min(filled))
        filled[fold_of[group]] += sizes[group]
    return {place: fold_of[groups[record.source_id]] for place, record in records.items()}


def leave_out(chunks: Sequence[Chunk], splits: Collection[str]) -> list[Chunk]:
    """Return the chunks without the videos of these splits."""
    return [
        replace(chunk, records=[r for r in chunk.records if r.split not in splits])
        for chunk in chunks
    ]


def side(fold: int, turn: int, folds: int) -> Split:
    """Return where a fold stands in a turn: each is the test once, and validation once."""
    return "test" if fold == turn else "validation" if fold == (turn + 1) % folds else "train"


def run(
    chunks: Sequence[Chunk],
    settings: Settings,
    scratch: Path,
    *,
    folds: int,
    seed: int,
    workers: int,
    weights_cache: Path,
) -> Iterator[tuple[str, list[HeldOut]]]:
    """Train each way's model of each turn, and yield the way and its answers for the turn's test.

    All else is equal: the videos, how many are trained on (by source to a few), params, seeds.
    What was trained before is read from scratch, by the training's key; so an interrupted study
    goes on.

    Raises:
        DatasetError: a turn's training or validation lacks a class.
        WeightsError: model.weights can't be had or does not fit.
    """
    records = {(chunk.name, r.video_id): r for chunk in chunks for r in chunk.records}
    for turn in range(folds):
        for way in WAYS:
            dealt = deal(records, way, folds, seed)
            turned = [
                replace(chunk, records=[
                    replace(r, split=side(dealt[chunk.name, r.video_id], turn, folds))
                    for r in chunk.records
                ])
                for chunk in chunks
            ]  # fmt: skip
            yield way, _test(turned, settings, scratch, workers, weights_cache)


def _test(
    chunks: list[Chunk], settings: Settings, scratch: Path, workers: int, weights_cache: Path
) -> list[HeldOut]:
    plan = fit.plan(chunks, settings, scratch=scratch / "training", weights_cache=weights_cache)
    done = scratch / f"{plan.key}.csv"
    if not done.exists():
        model = scratch / "model"
        train.train(
            chunks, settings, model, NullTracker(plan.key), plan=plan,
            scratch=scratch / "training", workers=workers, weights_cache=weights_cache,
        )  # fmt: skip
        write_atomically(done, _table(_score(chunks, Predictor.load(model))))
        train.forget(scratch / "training")
        shutil.rmtree(model)
    return _read(done)


def _score(chunks: Sequence[Chunk], predictor: Predictor) -> Iterator[HeldOut]:
    trained_on = {r.source_id for chunk in chunks for r in chunk.records if r.split == "train"}
    for chunk in chunks:
        videos = chunk.of("test")
        scores = predictor.score_videos(chunk.faces_dir, videos.faces())
        for record, score in zip(videos.records, scores, strict=True):
            yield HeldOut(
                chunk.name, record.video_id, record.source_id, record.label, score.probability,
                record.source_id in trained_on,
            )  # fmt: skip


def _table(rows: Iterator[HeldOut]) -> str:
    out = io.StringIO()
    table = csv.DictWriter(out, [f.name for f in fields(HeldOut)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    return out.getvalue()


def _read(path: Path) -> list[HeldOut]:
    with path.open(newline="", encoding="utf-8") as lines:
        return [
            HeldOut(
                row["chunk"], row["video_id"], row["source_id"], int(row["label"]),
                float(row["probability"]) if row["probability"] else None,
                row["source_trained_on"] == "True",
            )
            for row in csv.DictReader(lines)
        ]  # fmt: skip


# ---------------------------------------------------------------- what came of it


def summarise(answers: Mapping[str, Sequence[HeldOut]], settings: Evaluate) -> dict[str, Any]:
    """Return both ways' metrics over all videos, and by how much they differ, with 95% intervals.

    The intervals redraw whole sources; for the difference both ways keep the same ones. A video
    that has no score in either way is left out of both.

    Raises:
        UnmaskError: a way lacks a video of the other, or has it twice.
    """
    by_place = {
        way: {(row.chunk, row.video_id): row for row in rows} for way, rows in answers.items()
    }
    clip, source = (by_place[way] for way in WAYS)
    if set(clip) != set(source) or any(len(by_place[w]) != len(answers[w]) for w in WAYS):
        raise UnmaskError(
            f"Expected every video once in both ways of splitting; found {len(answers['clip'])} "
            f"and {len(answers['source'])} answers. Delete the scratch folder and run it again."
        )
    chances = {
        way: {p: row.probability for p, row in found.items() if row.probability is not None}
        for way, found in by_place.items()
    }
    places = sorted(set(chances["clip"]) & set(chances["source"]))
    labels = [clip[place].label for place in places]
    sources = [clip[place].source_id for place in places]
    scores = {way: [chances[way][place] for place in places] for way in WAYS}
    drawn: dict[str, int] = {"resamples": settings.bootstrap_resamples, "seed": settings.seed}
    summary: dict[str, Any] = {
        "videos": len(clip), "scored": len(places), "sources": len(set(sources))
    }  # fmt: skip
    for way in WAYS:
        seen = sum(row.source_trained_on for row in answers[way])
        summary[way] = {"tested_on_sources_trained_on": seen / len(clip)}
        for name, metric in COMPARED.items():
            summary[way][name] = metrics.measure(metric, labels, scores[way], sources, **drawn)
    summary["clip_minus_source"] = {
        name: metrics.measure_difference(
            metric, labels, scores["clip"], scores["source"], sources, **drawn
        )
        for name, metric in COMPARED.items()
    }
    return summary


def write(summary: Mapping[str, Any], folder: Path) -> None:
    """Write the summary and its picture into the folder: split_study.json, split_study.png."""
    write_atomically(folder / "split_study.json", json.dumps(summary, indent=2) + "\n")
    plots.save(_draw(summary), folder / "split_study.png")


def _draw(summary: Mapping[str, Any]) -> "Figure":
    figure = plots.new_figure(7.6, 2.6)
    names = {"roc_auc": "AUC over all videos", "log_loss": "Log-loss (nats per video)"}
    for axes, (metric, name) in zip(figure.subplots(1, 2), names.items(), strict=True):
        for place, way in enumerate(WAYS):
            cell = summary[way][metric]
            axes.plot(cell["value"], -place, marker="os"[place], color=_COLOURS[place])
            if cell["low"] is not None:
                axes.plot([cell["low"], cell["high"]], [-place] * 2, color=_COLOURS[place])
            axes.annotate(
                metrics.shown(cell), (cell["value"], -place), xytext=(0, 7),
                textcoords="offset points", ha="center", fontsize=8,
            )  # fmt: skip
        axes.set(title=name, ylim=(-1.6, 0.7), yticks=[0, -1], yticklabels=LABELS.values())
        axes.margins(x=0.15)
        axes.grid(axis="x", color="0.9")
    return figure


def table(summary: Mapping[str, Any]) -> str:
    """Return the comparison in Markdown, for a terminal as for a page."""
    names = {**LABELS, "clip_minus_source": "difference"}
    lines = ["| split | test videos whose source was trained on | AUC | log-loss |",
             "| --- | ---: | ---: | ---: |"]  # fmt: skip
    for key, name in names.items():
        row = summary[key]
        share = row.get("tested_on_sources_trained_on")
        cells = [
            metrics.shown(row[metric], sign="+" if key == "clip_minus_source" else "")
            for metric in COMPARED
        ]
        lines.append(
            f"| {name} | {'' if share is None else f'{share:.0%}'} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)
