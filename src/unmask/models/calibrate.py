"""Fit a model's temperature and learn the limits of its verdicts on labelled videos."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from unmask.models.checkpoint import Checkpoint
from unmask.models.clip_times import shortest_alike_s
from unmask.models.clips import ClipDataset
from unmask.models.predict import Predictor, probability
from unmask.params import Verdicts
from unmask.records import Chunk, FaceTrack, Split, VideoRecord, VideoScore
from unmask.scoring import scores, verdicts
from unmask.scoring.stretches import clips_in, means
from unmask.scoring.verdicts import FaceQuality

LOOKED_AT = 1000  # faces: a minute on two cores, and ten of them beyond a limit of 1 %


@dataclass(frozen=True)
class ValidationScores:
    """What a model said of labelled faces: all that temperature and limits are learned from."""

    labels: Sequence[int]
    logits: Sequence[float]  # of each label's video, or of its clip
    real_stretches: Sequence[Sequence[float]]  # by real video: the logits of all its stretches
    qualities: Sequence[
        FaceQuality
    ]  # how the faces look that the model was trained or validated on


def score_validation(
    predictor: Predictor, chunks: Sequence[Chunk], *, clips: ClipDataset | None = None
) -> ValidationScores:
    """Score the chunks' validation videos as predict does; those without a face don't count.

    clips are the validation clips that training compared its epochs on. Where self-blended twins
    are among them, labels and logits are theirs: twins have no crop file that could be scored.
    """
    answers = _score_videos(predictor, chunks)
    if clips is not None and any(item.self_blend for item in clips.items):
        labels = [item.label for item in clips.items]
        inputs = (clips[0, index][0].numpy() for index in range(len(clips)))
        logits = list(predictor.score_clips(inputs))
    else:
        labels = [record.label for record, _ in answers]
        logits = [max(track.logit for track in score.tracks) for _, score in answers]
    return ValidationScores(
        labels=labels,
        logits=logits,
        real_stretches=[
            _stretches(predictor, score) for record, score in answers if record.label == 0
        ],
        qualities=_qualities(predictor, chunks),
    )


def calibrate(predictor: Predictor, found: ValidationScores, settings: Verdicts) -> Checkpoint:
    """Return the predictor's checkpoint with the temperature and limits that the scores ask for.

    Raises:
        OneClassError: the labels hold a single class.
    """
    temperature = scores.fit_temperature(found.labels, found.logits)
    limits = verdicts.learn(
        found.labels, [probability(logit, temperature) for logit in found.logits], found.qualities,
        max_error_ratio=settings.max_error_ratio, outlier_ratio=settings.outlier_ratio,
        real_stretches=[
            [probability(logit, temperature) for logit in video] for video in found.real_stretches
        ],
        stretch_error_ratio=settings.stretch_error_ratio,
    )  # fmt: skip
    # A track's score is as sure as its clips are many: it need not be longer than these.
    most = predictor.checkpoint.clips.max_per_track
    shortest_s = shortest_alike_s(limits.min_track_s, predictor.checkpoint.geometry, most=most)
    limits = replace(limits, min_track_s=shortest_s)
    return replace(predictor.checkpoint, temperature=temperature, limits=limits)


def _score_videos(
    predictor: Predictor, chunks: Sequence[Chunk]
) -> list[tuple[VideoRecord, VideoScore]]:
    """Return the validation videos that have a face, with their scores."""
    found = []
    for chunk in chunks:
        videos = chunk.of("validation")
        answers = predictor.score_videos(chunk.faces_dir, videos.faces())
        found += [
            (record, score)
            for record, score in zip(videos.records, answers, strict=True)
            if score.tracks
        ]
    return found


def _stretches(predictor: Predictor, score: VideoScore) -> list[float]:
    """Return the logits of all stretches of a video's faces."""
    width = clips_in(predictor.checkpoint.clips.stretch_s, predictor.checkpoint.geometry)
    return [logit for track in score.tracks for logit in means(track.clip_logits, width)]


def _qualities(predictor: Predictor, chunks: Sequence[Chunk]) -> list[FaceQuality]:
    """Return how faces look that the model was trained or validated on, LOOKED_AT at most."""
    count = sum(1 for _ in _known_tracks(chunks))
    step = max(1, -(-count // LOOKED_AT))
    looked_at = islice(_known_tracks(chunks), 0, None, step)
    return [predictor.measure_quality(faces_dir, track) for faces_dir, track in looked_at]


def _known_tracks(chunks: Sequence[Chunk]) -> Iterator[tuple[Path, FaceTrack]]:
    """Yield the tracks that the model was trained or validated on, with their crops' folders."""
    splits: tuple[Split, ...] = ("train", "validation")
    for split in splits:
        for chunk in chunks:
            for found in chunk.of(split).faces():
                for track in found.tracks:
                    yield chunk.faces_dir, track
