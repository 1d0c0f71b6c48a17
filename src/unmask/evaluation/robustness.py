"""What a model's answers are worth once the test videos were degraded."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unmask import params
from unmask.errors import DatasetError
from unmask.evaluation import plots
from unmask.evaluation.evaluate import ScoredVideo
from unmask.faces.detector import LoadDetector
from unmask.forgeries.degrade import RECIPE, Copy, crop_copies
from unmask.models import checkpoint
from unmask.models.predict import Predictor
from unmask.params import CLEAN
from unmask.records import PASSING, Chunk, Reason, VideoFaces, VideoRecord, VideoScore
from unmask.runtime.code import code_digest
from unmask.runtime.disk import content_digest, write_atomically
from unmask.runtime.record_files import read_fingerprints
from unmask.runtime.resume_manifest import ManifestEntry, ResumeManifest, key_of
from unmask.scoring import metrics
from unmask.scoring.scores import roc_auc
from unmask.tracking.tracker import Tracker

SCORES = "scores.jsonl"
METRICS: dict[str, metrics.Metric] = {
    "roc_auc": roc_auc,
    "log_loss": metrics.log_loss,
    "accuracy": metrics.accuracy,
}
_LESS_IS_BETTER = {"log_loss"}
# What an answer comes from beside model, video and params: after a change the next run asks anew.
_CODE = (
    "engine/on_cpu", "engine/onnxruntime_net", "engine/openvino_net", "engine/torch_net",
    "evaluation/robustness", "faces/cascade", "faces/cropper", "faces/detector", "faces/search",
    "faces/torch_cascade", "faces/tracks", "forgeries/degrade", "geometry", "models/adopt/nets",
    "models/adopt/padding", "models/backbones", "models/checkpoint", "models/clip_times",
    "models/frame_net", "models/grad_cam", "models/net_file", "models/portable", "models/predict",
    "scoring/scores", "scoring/stretches", "timm_facts", "video/colour", "video/decode",
    "video/encode", "video/endings", "video/failures", "video/frame", "video/light", "video/scale",
    "video/streams", "video/transport",
)  # fmt: skip

Answers = Mapping[str, Sequence[ScoredVideo]]  # by degradation: each has all videos, in one order
Summary = dict[str, Any]


@dataclass(frozen=True)
class Original:
    """A labelled test video that nothing was done to."""

    chunk: str
    record: VideoRecord
    path: Path
    sha256: str  # of the file; empty where there is none
    faces: VideoFaces
    faces_dir: Path


def find_originals(chunks: Sequence[Chunk], raw_dir: Path) -> list[Original]:
    """Return the test videos of the chunks, in order.

    Raises:
        DatasetError: there is none, or a chunk's fingerprints are missing or damaged.
    """
    found = []
    for chunk in chunks:
        folder = raw_dir / chunk.name
        prints = read_fingerprints(folder / "fingerprints.csv")
        for record, faces in chunk.of("test"):
            known = prints.get(record.video_id)
            path, sha256 = folder / "videos" / record.file, known.sha256 if known else ""
            found.append(Original(chunk.name, record, path, sha256, faces, chunk.faces_dir))
    if not found:
        raise DatasetError(
            f"Robustness needs test videos; {', '.join(chunk.name for chunk in chunks)} have none. "
            "Raise raw.test_ratio, or draw from more sources."
        )
    return found


def draw(videos: Sequence[Original], settings: params.Robustness) -> list[Original]:
    """Return settings.max_videos of the videos at most, in order: whole sources, drawn by the seed.

    At least one source is taken.
    """
    if settings.max_videos is None:
        return list(videos)
    per_source = Counter(video.record.source_id for video in videos)
    drawn: set[str] = set()
    for source in sorted(per_source, key=lambda name: key_of(settings.seed, name)):
        count = sum(per_source[name] for name in drawn) + per_source[source]
        if drawn and count > settings.max_videos:
            break
        drawn.add(source)
    return [video for video in videos if video.record.source_id in drawn]


# ---------------------------------------------------------------- answers


@dataclass(frozen=True)
class _Asked:
    degradation: str
    video: Original
    key: str  # of all that its answer comes from; empty where it should be asked for anew
    copy: Copy | None  # None for the video as it is

    @property
    def name(self) -> str:
        """Return what the resume manifest calls it."""
        return f"{self.degradation}/{self.video.chunk}/{self.video.record.video_id}"


def score(
    videos: Sequence[Original],
    predictor: Predictor,
    model_dir: Path,
    settings: params.Robustness,
    folder: Path,
    *,
    workers: int,
    load_detector: LoadDetector,
) -> Iterator[tuple[str, ScoredVideo]]:
    """Yield (degradation, answer) for each video, undegraded (CLEAN) and after each degradation.

    They come in the order they are done. A worker process makes the degraded copy, searches it for
    faces and crops them, as predict does; here they are scored, then it all is deleted. The
    answers stand in folder/scores.jsonl. Those that an earlier run had from the same video, model,
    settings and code are kept, also where that run was killed. A video that can't be read has its
    reason; so has one that crashes its worker, or gives it no frame for faces.stall_s, and the
    next run tries that again.

    Raises:
        DiskError: the disk takes no more, or another run writes into folder.
    """
    with ResumeManifest(folder, SCORES) as manifest:
        asked = _plan(videos, predictor.checkpoint.faces, model_dir, settings, manifest.scratch)
        missing = []
        for each in asked:
            if known := manifest.lookup(each.name, each.key):
                yield each.degradation, _answer(each.video, known)
            else:
                missing.append(each)
        for each, found, faces_dir in _crop_all(missing, workers, load_detector):
            [answer] = predictor.score_videos(faces_dir, [found])
            is_final = found.reason not in PASSING
            made = manifest.add(
                each.name, each.key if is_final else "", [],
                probability=answer.probability, reason=answer.reason, faces=len(answer.tracks),
            )  # fmt: skip
            yield each.degradation, _answer(each.video, made)
        manifest.finalize([each.name for each in asked])


def _plan(
    videos: Sequence[Original],
    faces: params.Faces,
    model_dir: Path,
    settings: params.Robustness,
    scratch: Path,
) -> list[_Asked]:
    model = [content_digest(model_dir / name) for name in (checkpoint.WEIGHTS, checkpoint.SETTINGS)]
    code = code_digest(*_CODE)
    asked: list[_Asked] = []
    for degradation, passes in ((CLEAN, ()), *settings.degradations.items()):
        for video in videos:
            copy: Copy | None = None
            made_from: object = video.faces
            if passes:
                seed = settings.seed, int(video.sha256 or "0", 16)
                place = scratch / str(len(asked))
                copy = Copy(video.record.video_id, video.path, passes, seed, faces, place)
                made_from = ([sorted(steps.items()) for steps in passes], seed, faces)
            key = key_of(model, code, made_from) if video.sha256 else ""
            asked.append(_Asked(degradation, video, key, copy))
    return asked


def _answer(video: Original, made: ManifestEntry) -> ScoredVideo:
    reason = None if made.facts["reason"] is None else Reason(made.facts["reason"])
    score = VideoScore(video.record.video_id, made.facts["probability"], reason, ())
    return ScoredVideo(video.chunk, video.record, score)


def _crop_all(
    asked: Sequence[_Asked], workers: int, load_detector: LoadDetector
) -> Iterator[tuple[_Asked, VideoFaces, Path]]:
    """Yield the faces of each and the folder with their crops; clean videos have them already."""
    by_copy = {}
    for each in asked:
        if each.copy is None:
            yield each, each.video.faces, each.video.faces_dir
        else:
            by_copy[each.copy.folder] = each
    copies = [each.copy for each in by_copy.values() if each.copy is not None]
    for copy, faces in crop_copies(copies, workers, load_detector):
        yield by_copy[copy.folder], faces, copy.folder
        shutil.rmtree(copy.folder, ignore_errors=True)  # a killed worker may not have made it


def sort_answers(
    scored: Iterable[tuple[str, ScoredVideo]],
    videos: Sequence[Original],
    settings: params.Robustness,
) -> Answers:
    """Return what score yielded by degradation, CLEAN first, each in the order of videos."""
    found = {
        (degradation, answer.chunk, answer.record.video_id): answer
        for degradation, answer in scored
    }
    return {
        degradation: [found[degradation, v.chunk, v.record.video_id] for v in videos]
        for degradation in (CLEAN, *settings.degradations)
    }


# ---------------------------------------------------------------- what they are worth


def summarise(answers: Answers, settings: params.Evaluate) -> list[Summary]:
    """Return a row for each degradation, the undegraded videos first.

    A row has AUC, log-loss and accuracy of the videos that have an answer, coverage: the share that
    has one, and drop: how much worse each metric is than on the same videos undegraded, over those
    that have an answer both times. A drop above 0 is a loss, also in log-loss, which grew by it.
    All have 95% bootstrap intervals that redraw whole sources; a drop's redraw both sides alike.

    Raises:
        DatasetError: no undegraded video has an answer.
    """
    clean = answers[CLEAN]
    if all(video.score.probability is None for video in clean):
        raise DatasetError(
            f"Robustness compares answers; none of {len(clean)} test videos has one before it is "
            "degraded. Look at the reasons in the faces' index.jsonl."
        )
    rows = []
    for degradation, videos in answers.items():
        row: Summary = {"degradation": degradation, "videos": len(videos)}
        reasons = Counter(str(v.score.reason) for v in videos if v.score.reason is not None)
        row["reasons"] = dict(sorted(reasons.items()))
        covered = [video.score.probability is not None for video in videos]
        row["coverage"] = _measure(_share, videos, covered, settings)
        scored = [video for video in videos if video.score.probability is not None]
        row |= {
            name: _measure(metric, scored, [v.score.probability for v in scored], settings)
            for name, metric in METRICS.items()
        }
        if degradation != CLEAN:
            row["drop"] = _drops(clean, videos, settings)
        rows.append(row)
    return rows


def _share(_: ArrayLike, covered_N: ArrayLike) -> float:
    return float(np.asarray(covered_N, np.float64).mean())


def _drops(
    clean: Sequence[ScoredVideo], degraded: Sequence[ScoredVideo], settings: params.Evaluate
) -> Summary:
    before_N, after_N = ([video.score.probability for video in side] for side in (clean, degraded))
    drops: Summary = {
        "videos": sum(None not in pair for pair in zip(before_N, after_N, strict=True))
    }
    for name, metric in METRICS.items():
        less_is_better = name in _LESS_IS_BETTER
        drops[name] = metrics.measure_difference(
            metric, _labels(degraded),
            *((after_N, before_N) if less_is_better else (before_N, after_N)), _sources(degraded),
            resamples=settings.bootstrap_resamples, seed=settings.seed,
        )  # fmt: skip
    return drops


def _measure(
    metric: metrics.Metric,
    videos: Sequence[ScoredVideo],
    values: Sequence[Any],
    settings: params.Evaluate,
) -> metrics.Measured:
    if not videos:
        return dict(metrics.NOT_MEASURED)
    return metrics.measure(
        metric, _labels(videos), values, _sources(videos),
        resamples=settings.bootstrap_resamples, seed=settings.seed,
    )  # fmt: skip


def _labels(videos: Sequence[ScoredVideo]) -> list[int]:
    return [video.record.label for video in videos]


def _sources(videos: Sequence[ScoredVideo]) -> list[str]:
    return [video.record.source_id for video in videos]


def record(
    rows: Sequence[Summary], videos: Sequence[Original], settings: params.Robustness
) -> Summary:
    """Return what metrics/robustness.json holds.

    DVC's tables show the first two keys, and leave lists out. measured_on has digests of the test
    videos and of what was done to them: only records that share both can be compared.
    """
    drops = [row["drop"] for row in rows if "drop" in row]
    return {
        "worst": {
            **{f"{name}_drop": _worst(drops, name) for name in ("roc_auc", "log_loss")},
            "coverage": min(row["coverage"]["value"] for row in rows),
        },
        "robustness": {
            row["degradation"]: {name: row[name]["value"] for name in ("roc_auc", "log_loss")}
            for row in rows
        },
        "measured_on": [_videos_digest(videos), _settings_digest(settings)],
        "rows": list(rows),
    }


def _worst(drops: Sequence[Summary], name: str) -> float | None:
    return max((d[name]["value"] for d in drops if d[name]["value"] is not None), default=None)


def _videos_digest(videos: Sequence[Original]) -> str:
    rows = sorted(
        (v.chunk, v.record.video_id, v.record.label, v.record.source_id, v.sha256) for v in videos
    )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _settings_digest(settings: params.Robustness) -> str:
    # How many were drawn is in the digest of the videos.
    values = settings.model_dump(mode="json", exclude={"max_videos"}) | {"recipe": RECIPE}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write(
    found: Summary, settings: params.Robustness, path: Path, plots_dir: Path, tracker: Tracker
) -> None:
    """Write what record returned to path, its table and picture to plots_dir; tell the tracker."""
    tracker.log_params({"robustness": settings.model_dump(mode="json")})
    write_atomically(path, json.dumps(found, indent=2) + "\n")
    for row in found["rows"]:
        values = {name: row[name]["value"] for name in (*METRICS, "coverage")}
        values |= {f"{name}_drop": row["drop"][name]["value"] for name in METRICS if "drop" in row}
        name = row["degradation"]
        tracker.log_metrics({f"robustness/{name}/{key}": value for key, value in values.items()})
    worst = {f"robustness/worst/{key}": value for key, value in found["worst"].items()}
    tracker.log_metrics(worst)
    tracker.log_file(path, "metrics")
    plots.write_robustness(plots_dir, found["rows"])
    for picture in sorted(plots_dir.glob("*.png")):
        tracker.log_file(picture, "plots")


def table(rows: Sequence[Summary]) -> str:
    """Return the rows as a table for people."""
    names = ("roc_auc", "log_loss", "accuracy")
    header = "".join(f"{name:>24}" for name in (*names, "AUC drop", "log-loss growth"))
    lines = [f"{'':16}{header}{'coverage':>10}"]
    for row in rows:
        cells = [row[name] for name in names]
        cells += [row["drop"][name] for name in ("roc_auc", "log_loss")] if "drop" in row else []
        line = "".join(f"{metrics.shown(cell):>24}" for cell in cells)
        share = f"{row['coverage']['value']:.0%}"
        lines.append(f"{row['degradation']:16}{line:120}{share:>10}")
    return "\n".join(lines)
