"""A video's answer as one can act on it: verdict, doubts, each face over time, worst moments."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unmask.faces.files import Cropped, crop_files
from unmask.models.clip_times import different_fps
from unmask.models.features import Features, mean_of
from unmask.models.predict import Predictor, probability
from unmask.records import FaceTrack, Reason, TrackScore
from unmask.scoring.promises import Judged, Promise, judge_faces
from unmask.scoring.stretches import Stretch
from unmask.scoring.unlike import QUALITIES, Likeness, Look, likeness
from unmask.scoring.verdicts import (
    NOTHING_LEARNED,
    Doubt,
    FaceQuality,
    Limits,
    Part,
    Verdict,
    judge_video,
)

WORST_MOMENTS = 3
PAGE_MOMENTS = 60  # of a face's timeline where people look at it


@dataclass(frozen=True)
class Moment:
    """One clip's probability."""

    time_s: float  # where the clip begins, from the video's first frame; it lasts Answer.clip_s
    probability: float  # calibrated, in [0, 1]


@dataclass(frozen=True)
class FaceAnswer:
    """What the model says of one face of a video."""

    track: FaceTrack  # its crop file lies in the crops_dir that analyse was given
    score: TrackScore  # by the clips that evaluate takes
    probability: float  # of score.logit
    verdict: Verdict
    doubts: tuple[Doubt, ...]  # why it is inconclusive; none beside fake and real
    timeline: tuple[Moment, ...]  # in order of time; those of score, or denser where asked
    quality: FaceQuality
    part: Part  # its most suspicious stretch; the whole track where that is no longer
    likeness: Likeness | None = None  # to the calibration's videos; None: not measured


@dataclass(frozen=True)
class Answer:
    """What the model says of one file."""

    path: Path
    sha256: str | None  # of the file's content; None where it can't be read
    duration_s: float | None  # as the file declares it
    clip_s: float  # from a clip's first frame to its last
    probability: float | None  # the most suspicious face's; None where there is no face
    verdict: Verdict
    doubts: tuple[Doubt, ...]  # why it is inconclusive; none beside fake and real
    faces: tuple[FaceAnswer, ...]  # by first appearance
    worst: tuple[tuple[int, Moment], ...]  # place in faces, and when: the most suspicious first
    reason: Reason | None  # why there is no probability, or why not all of the video was seen
    detail: str  # the reason in a sentence, then what else is to be said of the file
    limits: Limits = NOTHING_LEARNED  # that its faces were judged by; no threshold, no verdict
    promise: Promise | None = None  # that the verdict rests on
    still: str | None = None  # which kind of still picture it is, such as png; None of a video
    shown: Path | None = None  # of a still: a video of one frame with its pixels, beside its crops

    @property
    def video(self) -> Path:
        """Return the video that shows what was scored: the file itself, unless it is a still."""
        return self.shown or self.path


def analyse(
    predictor: Predictor,
    paths: Sequence[Path],
    *,
    crops_dir: Path | None = None,
    moments: int | None = None,
    workers: int = 1,
) -> Iterator[Answer]:
    """Yield each file's answer as it is there: in order, where there is one worker.

    Worker processes crop, so that a file that crashes or stalls one costs itself alone, and that
    the next file is cropped while this one is scored, the first while the model is loaded.
    crops_dir, a folder for this call alone, keeps the crop files; else each is deleted once it was
    scored. moments is how many clips a timeline has at most, where those that score the face are
    too few; it changes no probability.

    Raises:
        DiskError: the disk takes no more.
        WeightsError: the model's weights can't be read.
    """
    files = crop_files(paths, predictor.checkpoint.faces, crops_dir=crops_dir, workers=workers)
    with closing(files), ThreadPoolExecutor(1) as beside:
        loading = beside.submit(lambda: predictor.net)
        for cropped in files:
            loading.result()
            yield answer(predictor, cropped, moments)


def answer(predictor: Predictor, cropped: Cropped, moments: int | None) -> Answer:
    """Return the answer of a file whose faces were cropped; moments as in analyse."""
    found, folder = cropped.found, cropped.crops_dir
    is_still = cropped.still is not None
    tracks = [track for track in found.tracks if is_still or predictor.moves(track)]
    still = [track for track in found.tracks if track not in tracks]
    seen = study(predictor, cropped, tracks)
    promise = predictor.checkpoint.promise
    judged = [_judged(predictor, face) for face in seen]
    verdicts, limits = judge_faces(judged, predictor.checkpoint.limits, promise)
    if is_still:
        verdicts = [_of_still(doubts) for _, doubts in verdicts]
    faces = tuple(
        FaceAnswer(
            face.track, face.score, known.probability, verdict, doubts,
            _timeline(predictor, folder, face, moments), face.quality, known.part, known.likeness,
        )
        for face, known, (verdict, doubts) in zip(seen, judged, verdicts, strict=True)
    )  # fmt: skip
    reason, detail = found.reason, found.detail
    of_file = [Doubt(doubt) for doubt in found.doubts]
    if is_still:
        of_file.append(Doubt.STILL_PICTURE)
        detail = " ".join(filter(None, (detail, _say_repeated(predictor, cropped.path, tracks))))
    if still and tracks:
        of_file.append(Doubt.TOO_FEW_FRAMES)
    if still:
        reason = reason if reason or tracks else Reason.TOO_FEW_FRAMES
        detail = " ".join(filter(None, (_say_still(predictor, cropped.path, still), detail)))
    verdict, doubts = judge_video(
        [(face.verdict, face.doubts) for face in faces],
        is_whole=found.reason is not Reason.TRUNCATED,
        of_file=of_file,
    )
    all_moments = [(place, moment) for place, face in enumerate(faces) for moment in face.timeline]
    all_moments.sort(key=lambda each: -each[1].probability)
    return Answer(
        path=cropped.path,
        sha256=cropped.sha256,
        duration_s=cropped.duration_s,
        clip_s=predictor.checkpoint.geometry.span_s,
        probability=max((face.probability for face in faces), default=None),
        verdict=verdict,
        doubts=doubts,
        faces=faces,
        worst=tuple(all_moments[:WORST_MOMENTS]),
        reason=reason,
        detail=detail,
        limits=limits,
        promise=promise,
        still=cropped.codec if is_still else None,
        shown=cropped.shown if is_still else None,
    )


def _of_still(doubts: Sequence[Doubt]) -> tuple[Verdict, tuple[Doubt, ...]]:
    """Return what is said of a face in a still picture: never a verdict.

    Promises and limits are learned from videos. How long it is seen says nothing.
    """
    of_time = (Doubt.TOO_SHORT, Doubt.PARTLY_SEEN, Doubt.SUSPICIOUS_STRETCH)
    kept = [doubt for doubt in doubts if doubt not in of_time]
    return Verdict.INCONCLUSIVE, (Doubt.STILL_PICTURE, *kept)


def _say_repeated(predictor: Predictor, path: Path, tracks: Sequence[FaceTrack]) -> str:
    """Return that a net of motion was given one picture several times; nothing of another net."""
    checkpoint = predictor.checkpoint
    frames = checkpoint.geometry.frames
    if not checkpoint.model.backbone.startswith("x3d") or not tracks:  # others see each by itself
        return ""
    return (
        f"{path}: the model takes {frames} pictures of a face that moves; it was given this one "
        f"{frames} times, which it never learned from."
    )


def _say_still(predictor: Predictor, path: Path, still: Sequence[FaceTrack]) -> str:
    geometry, fps = predictor.checkpoint.geometry, max(map(different_fps, still))
    faces = "a face" if len(still) == 1 else f"{len(still)} faces"
    return (
        f"{path}: asked for faces that move, found {faces} of {fps:.2g} different frames/s, while "
        f"a clip takes {geometry.frames} in {geometry.span_s:g} s. Look for a copy with more."
    )


@dataclass(frozen=True, eq=False)
class Studied:
    """One face of a video as the model saw it: all that a verdict can be made of."""

    track: FaceTrack
    score: TrackScore
    quality: FaceQuality
    stretch: Stretch  # its most suspicious one, before temperature
    stretches: int  # of all the video's faces that are longer than a stretch; 1 where it is not
    look: Look


def study(predictor: Predictor, cropped: Cropped, tracks: Sequence[FaceTrack]) -> list[Studied]:
    """Return what the model sees in these faces of a file, which move."""
    if not tracks:  # the net, which takes seconds to load, is not needed
        return []
    studied = predictor.study_tracks(cropped.crops_dir, tracks)
    stretches = [predictor.stretch_of(each.score) for each in studied]
    count = sum(stretch.count for stretch in stretches if stretch.count > 1)
    seen_s = sum(each.quality.track_s for each in studied)
    found = []
    for track, (score, quality, features), stretch in zip(tracks, studied, stretches, strict=True):
        look = look_of(quality, mean_of(features), cropped, seen_s)
        many = count if stretch.count > 1 else 1
        found.append(Studied(track, score, quality, stretch, many, look))
    return found


def look_of(
    quality: FaceQuality, features_D: Features | None, cropped: Cropped, seen_s: float
) -> Look:
    """Return what a face looks like, by itself and by its file."""
    numbers = {
        "size": _log(quality.face_px),
        "sharpness": _log(quality.sharpness),
        "grain": _log(quality.grain),
        "light": quality.brightness,
        "bitrate": math.nan if cropped.bits_per_px is None else _log(cropped.bits_per_px),
        "time": _log(seen_s),
    }
    return Look(np.array([numbers[name] for name in QUALITIES]), features_D, cropped.codec)


def _log(value: float) -> float:
    return math.log(max(value, 1e-6))


def _judged(predictor: Predictor, face: Studied) -> Judged:
    looks = predictor.looks
    return Judged(
        probability(face.score.logit, predictor.checkpoint.temperature),
        part_of(predictor, face),
        face.quality,
        likeness(looks, face.look) if looks else None,
    )


def part_of(predictor: Predictor, face: Studied) -> Part:
    """Return what the most suspicious part of a face says."""
    temperature, span_s = predictor.checkpoint.temperature, predictor.checkpoint.geometry.span_s
    score, stretch = face.score, face.stretch
    start_s, end_s = face.track.times_T[0], face.track.times_T[-1]
    if stretch.count > 1:
        start_s = score.clip_starts_s[stretch.first]
        end_s = score.clip_starts_s[stretch.last] + span_s
    return Part(
        start_s=start_s,
        end_s=end_s,
        probability=probability(stretch.logit, temperature),
        count=face.stretches,
        moment=probability(max(score.clip_logits), temperature),
    )


def _timeline(
    predictor: Predictor, folder: Path, face: Studied, moments: int | None
) -> tuple[Moment, ...]:
    checkpoint, score = predictor.checkpoint, face.score
    clips = list(zip(score.clip_starts_s, score.clip_logits, strict=True))
    if moments is not None and moments > checkpoint.clips.max_per_track:
        # On their own: on a GPU a logit may differ in its last digit by its batch's other clips.
        clips = predictor.score_moments(folder, face.track, most=moments)
    return tuple(
        Moment(start_s, probability(logit, checkpoint.temperature)) for start_s, logit in clips
    )
