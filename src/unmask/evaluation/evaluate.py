"""Score a model on labelled videos, and say how sure the numbers are."""

import csv
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import DatasetError
from unmask.evaluation import plots
from unmask.models.predict import Predictor, probability
from unmask.params import Evaluate
from unmask.records import Chunk, Epoch, Split, VideoRecord, VideoScore
from unmask.runtime.disk import write_atomically
from unmask.scoring import metrics
from unmask.tracking.tracker import Tracker

logger = logging.getLogger(__name__)

EVALUATED: tuple[Split, ...] = ("validation", "test")
WORST_MOMENTS = 3
HEADLINE = ("roc_auc", "log_loss", "accuracy")
Summary = dict[str, Any]


@dataclass(frozen=True)
class ScoredVideo:
    """A labelled video and the model's answer."""

    chunk: str
    record: VideoRecord
    score: VideoScore


def score_chunks(chunks: Sequence[Chunk], predictor: Predictor) -> Iterator[ScoredVideo]:
    """Yield every validation and test video with its answer, as predict gives it."""
    for chunk in chunks:
        for split in EVALUATED:
            videos = chunk.of(split)
            scores = predictor.score_videos(chunk.faces_dir, videos.faces())
            for record, score in zip(videos.records, scores, strict=True):
                yield ScoredVideo(chunk.name, record, score)


def summarise(videos: Sequence[ScoredVideo], settings: Evaluate, temperature: float) -> Summary:
    """Return a split's metrics: at video level overall and per method, and at clip level.

    Intervals are 95% bootstrap intervals that redraw whole sources. A method's metrics set its
    fakes against all real videos. Coverage is the share of videos that have a score; the rest
    are counted by reason and left out of the other metrics, not given a guess.

    Raises:
        DatasetError: no video of the split has a score.
    """
    scored = [video for video in videos if video.score.probability is not None]
    if not scored:
        raise DatasetError(
            f"Evaluation needs videos with a face; none of {len(videos)} has one. "
            "Look at the reasons in the faces' index.jsonl."
        )
    reasons: dict[str, int] = {}
    for video in videos:
        if video.score.reason is not None:
            reasons[str(video.score.reason)] = reasons.get(str(video.score.reason), 0) + 1
    methods = sorted({video.record.method for video in scored if video.record.label == 1})
    return {
        "videos": len(videos),
        "sources": len({video.record.source_id for video in videos}),
        "coverage": len(scored) / len(videos),
        "reasons": dict(sorted(reasons.items())),
        "video": _intervals(_video_rows(scored), settings),
        "clip": _intervals(_clip_rows(scored, temperature), settings),
        "methods": {
            method: _intervals(
                _video_rows(v for v in scored if v.record.label == 0 or v.record.method == method),
                settings,
            )
            for method in methods
        },
    }


Row = tuple[int, float, str]  # label, probability, source


def _video_rows(videos: Iterable[ScoredVideo]) -> list[Row]:
    return [
        (video.record.label, video.score.probability, video.record.source_id)
        for video in videos
        if video.score.probability is not None
    ]


def _clip_rows(videos: Iterable[ScoredVideo], temperature: float) -> list[Row]:
    return [
        (video.record.label, probability(logit, temperature), video.record.source_id)
        for video in videos
        for track in video.score.tracks
        for logit in track.clip_logits
    ]


def _intervals(rows: Sequence[Row], settings: Evaluate) -> Summary:
    labels, scores, sources = zip(*rows, strict=True)
    return {
        "count": len(rows),
        **metrics.summarise(
            np.array(labels), np.array(scores), np.array(sources),
            resamples=settings.bootstrap_resamples, seed=settings.seed,
        ),
    }  # fmt: skip


def scores_csv(videos: Sequence[ScoredVideo], temperature: float) -> str:
    """Return the table of every video: its answer, its worst face and that face's worst moments.

    logit is the answer's before the sigmoid, in full: of a sure model's probabilities, six digits
    are often the same.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(
        ["chunk", "video_id", "split", "source_id", "method", "label", "probability", "reason",
         "faces", "worst_face", "worst_moments_s", "logit"]
    )  # fmt: skip
    for video in sorted(videos, key=lambda v: (v.chunk, v.record.split, v.record.video_id)):
        worst, record = video.score.worst, video.record
        moments = ""
        if worst is not None:
            by_logit = sorted(zip(worst.clip_logits, worst.clip_starts_s, strict=True))[::-1]
            moments = " ".join(
                f"{start_s:.1f}:{probability(logit, temperature):.3f}"
                for logit, start_s in by_logit[:WORST_MOMENTS]
            )
        answer = video.score.probability
        table.writerow(
            [video.chunk, record.video_id, record.split, record.source_id, record.method,
             record.label, "" if answer is None else f"{answer:.6f}", video.score.reason or "",
             len(video.score.tracks), "" if worst is None else worst.track, moments,
             "" if worst is None else repr(worst.logit / temperature)]
        )  # fmt: skip
    return out.getvalue()


def evaluate(
    videos: Sequence[ScoredVideo],
    temperature: float,
    settings: Evaluate,
    history: Sequence[Epoch],
    metrics_dir: Path,
    plots_dir: Path,
    tracker: Tracker,
) -> Mapping[str, Summary]:
    """Write the metrics, scores.csv and the plots, tell the tracker, return the metrics.

    <split>.json holds everything, summary.json the few numbers that `dvc exp show` has room for;
    the plots are those of the evaluation and of the training that history tells.

    Raises:
        DatasetError: no video of a split has a score.
    """
    tracker.log_params({"evaluate": settings.model_dump(mode="json")})
    by_split = {s: [v for v in videos if v.record.split == s] for s in EVALUATED}
    summaries: dict[str, Summary] = {
        split: summarise(some, settings, temperature) for split, some in by_split.items() if some
    }
    for split, summary in summaries.items():
        write_atomically(metrics_dir / f"{split}.json", json.dumps(summary, indent=2) + "\n")
        tracker.log_metrics(dict(_flat(split, summary)))
        tracker.log_file(metrics_dir / f"{split}.json", "metrics")
    write_atomically(metrics_dir / "summary.json", json.dumps(headline(summaries), indent=2) + "\n")
    write_atomically(metrics_dir / "scores.csv", scores_csv(videos, temperature))
    tracker.log_file(metrics_dir / "scores.csv", "metrics")
    pictures: dict[str, tuple[Any, Any]] = {}
    for split, some in by_split.items():
        if not some:
            continue
        labels, scores, _ = zip(*_video_rows(some), strict=True)
        pictures[split] = np.array(labels), np.array(scores)
    plots.write_plots(plots_dir / "evaluation", pictures)
    if history:  # others trained an adopted model, elsewhere
        plots.write_training_curves(plots_dir / "training", history)
    for path in sorted(plots_dir.glob("*/*.png")):
        tracker.log_file(path, "plots")
    return summaries


def headline(summaries: Mapping[str, Summary]) -> Summary:
    """Return each split's HEADLINE values and its coverage."""
    return {
        split: {name: summary["video"][name]["value"] for name in HEADLINE}
        | {"coverage": summary["coverage"]}
        for split, summary in summaries.items()
    }


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}.{name}", value)
        elif value is not None:
            yield f"{prefix}.{name}", float(value)


def table(summaries: Mapping[str, Summary]) -> str:
    """Return the video-level metrics as a table for people."""
    lines = [f"{'':24}" + "".join(f"{split:>28}" for split in summaries)]
    names = [name for name in next(iter(summaries.values()))["video"] if name != "count"]
    for name in names:
        cells = [summary["video"][name] for summary in summaries.values()]
        lines.append(f"{name:24}" + "".join(f"{metrics.shown(cell):>28}" for cell in cells))
    counts = [f"{s['coverage']:.0%} of {s['videos']}" for s in summaries.values()]
    lines.append(f"{'coverage':24}" + "".join(f"{count:>28}" for count in counts))
    return "\n".join(lines)
