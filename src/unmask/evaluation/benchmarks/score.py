"""A model's answers on a benchmark: each video is asked about once, and its answer is kept."""

import logging
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unmask.evaluation.benchmarks.scores_file import Detector, FrameScores, ScoreRow, Scores
from unmask.models.card_head import read_head
from unmask.models.checkpoint import CARD, Checkpoint
from unmask.records import Chunk, Reason, TrackScore, VideoFaces, VideoRecord, VideoScore
from unmask.runtime.code import code_digest
from unmask.runtime.digests import model_digest
from unmask.runtime.disk import read_regular
from unmask.runtime.resume_manifest import ManifestEntry, ResumeManifest, key_of

log = logging.getLogger(__name__)

ANSWERS = "answers.jsonl"
_MAX_CARD_BYTES = 2**18  # a model's folder may be a stranger's
# What an answer comes from beside the model and the crops: after a change it is asked for anew.
_CODE = (
    "answers/analysis", "answers/labelled", "engine/on_cpu", "engine/onnxruntime_net",
    "engine/openvino_net", "engine/torch_net", "evaluation/benchmarks/score", "faces/files",
    "geometry", "models/adopt/nets", "models/adopt/padding", "models/backbones",
    "models/checkpoint", "models/clip_times", "models/features", "models/frame_net",
    "models/grad_cam", "models/looks", "models/net_file", "models/portable", "models/predict",
    "scoring/promises", "scoring/scores", "scoring/stretches", "scoring/unlike", "scoring/verdicts",
    "timm_facts", "video/colour", "video/decode", "video/endings", "video/failures", "video/frame",
    "video/light", "video/streams", "video/transport",
)  # fmt: skip
# FaceForensics++'s words for how its videos were compressed, in the names that its layout gives.
_COMPRESSION = re.compile(r"(?:^|_)(raw|c0|c23|c40)_")

# A video's score, its verdict (empty without a promise) and the doubts beside it.
Opinion = tuple[VideoScore, str, tuple[str, ...]]
Ask = Callable[[VideoRecord, VideoFaces], Opinion]


@dataclass(frozen=True)
class Answered:
    """A labelled video of a benchmark and what a model says of it."""

    record: VideoRecord
    score: VideoScore
    verdict: str = ""  # empty where the model promises nothing
    doubts: tuple[str, ...] = ()


def answer_all(chunk: Chunk, model_dir: Path, ask: Ask, kept: Path) -> Generator[Answered]:
    """Yield each video's answer, in order; those that kept has are not asked for again.

    kept is a folder. An answer there is used while the model, the video's crops and the code that
    scores are those that it came from, also where the run that asked was killed. One folder holds
    the answers of one model on one benchmark.

    Raises:
        DiskError: the disk takes no more, or another run writes into kept.
    """
    model, code = model_digest(model_dir), code_digest(*_CODE)
    videos = chunk.of("test")
    with ResumeManifest(kept, ANSWERS) as manifest:
        for record, found in videos:
            key = key_of(model, code, found)
            made = manifest.lookup(record.video_id, key)
            if made is None:
                score, verdict, doubts = ask(record, found)
                made = manifest.add(
                    record.video_id, key, [],
                    probability=score.probability, reason=score.reason, verdict=verdict,
                    doubts=list(doubts), tracks=[_row_of(track) for track in score.tracks],
                )  # fmt: skip
            yield _answered(record, made)
        manifest.finalize([record.video_id for record, _ in videos])


def _row_of(track: TrackScore) -> list[Any]:
    return [track.track, track.logit, list(track.clip_starts_s), list(track.clip_logits)]


def _answered(record: VideoRecord, made: ManifestEntry) -> Answered:
    facts = made.facts
    reason = None if facts["reason"] is None else Reason(facts["reason"])
    tracks = tuple(
        TrackScore(track, logit, tuple(starts_s), tuple(logits))
        for track, logit, starts_s, logits in facts["tracks"]
    )
    score = VideoScore(record.video_id, facts["probability"], reason, tracks)
    return Answered(record, score, facts["verdict"], tuple(facts["doubts"]))


def describe(
    name: str, model_dir: Path, checkpoint: Checkpoint, trained_on: Sequence[str] | None
) -> Detector:
    """Return what a model is called among detectors; trained_on as Detector has it.

    Where that is None, it is what the model's folder says: of a model that was trained here the
    chunks on its card, as the Hub writes their names; of an adopted one its publisher's words.
    """
    adopted = checkpoint.adopted
    if trained_on is None:
        trained_on = _of_card(model_dir / CARD) if adopted is None else (adopted.trained_on,)
        trained_on = tuple(filter(None, trained_on)) or None
    return Detector(
        name=name,
        scale="logit",
        version=f"{adopted.title if adopted else checkpoint.model.backbone}, "
        f"unmask {version('unmask')}",
        model_digest=model_digest(model_dir),
        trained_on=None if trained_on is None else tuple(trained_on),
        licence=checkpoint.licence or "",
    )


def _of_card(card: Path) -> tuple[str, ...]:
    """Return the data sets that a model's card names; none where it has none, or can't be read."""
    try:
        named = read_head(read_regular(card, _MAX_CARD_BYTES).decode()).get("datasets")
    except (OSError, ValueError) as error:
        log.info("%s: not read for what the model was trained on: %s", card, error)
        return ()
    words = named if isinstance(named, list) else []
    return tuple(word for word in words if isinstance(word, str))


def to_scores(
    benchmark: str, answers: Sequence[Answered], detector: Detector, temperature: float
) -> Scores:
    """Return the answers in the form that all detectors' scores have, with those of each clip."""
    frames = {}
    for each in answers:
        clips = [
            (f"{track.track}@{start_s:.3f}", logit / temperature)
            for track in each.score.tracks
            for start_s, logit in zip(track.clip_starts_s, track.clip_logits, strict=True)
        ]
        if clips:
            names, logits = zip(*clips, strict=True)
            frames[each.record.video_id] = FrameScores(names, logits)
    rows = [_score_row(each, temperature) for each in answers]
    return Scores(benchmark, detector, sorted(rows, key=lambda row: row.video_id), frames)


def _score_row(each: Answered, temperature: float) -> ScoreRow:
    record, worst = each.record, each.score.worst
    return ScoreRow(
        video_id=record.video_id,
        label=record.label,
        source_id=record.source_id,
        method=record.method,
        compression=compression_of(record.file),
        probability=each.score.probability,
        logit=None if worst is None else worst.logit / temperature,
        reason="" if worst else str(each.score.reason or Reason.NO_FACE),
        verdict=each.verdict,
        doubts=each.doubts,
    )


def compression_of(file: str) -> str:
    """Return FaceForensics++'s word for how a video was compressed, empty where it has none.

    >>> compression_of("Deepfakes_c23_000_003.mp4"), compression_of("000_003.mp4")
    ('c23', '')
    """
    found = _COMPRESSION.search(file)
    return found[1] if found else ""
