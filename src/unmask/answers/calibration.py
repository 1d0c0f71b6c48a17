"""A model calibrated on genuine videos of a known kind: what it may promise about such videos.

The videos are cropped and scored as predict does it, and a promise is learned from the very number
that makes a video's verdict. The model's folder gets the promise, and keeps what it replaces.
"""

import hashlib
import logging
import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unmask.answers import messages
from unmask.answers.analysis import Studied, study
from unmask.answers.answers_file import stamp_of
from unmask.data.fingerprints import digest_pictures
from unmask.errors import UnmaskError
from unmask.faces.files import Cropped, crop_files
from unmask.models import checkpoint as checkpoints
from unmask.models import looks as looks_file
from unmask.models.checkpoint import Checkpoint
from unmask.models.predict import Predictor, probability
from unmask.records import PASSING, Reason
from unmask.runtime.code import code_digest
from unmask.runtime.confinement import Confinement
from unmask.runtime.disk import content_digest
from unmask.runtime.processes import run_jobs
from unmask.runtime.resume_manifest import ResumeManifest, key_of
from unmask.scoring import promises, scores
from unmask.scoring.promises import Judged, Promise, judge_faces, videos_needed, worst_of
from unmask.scoring.unlike import Likeness, Look, likeness, likeness_among
from unmask.scoring.verdicts import FaceQuality, Limits, Part, Verdict, thresholds
from unmask.video.failures import DecodeError

_log = logging.getLogger(__name__)

_MANIFEST = ".calibration.jsonl"
_STALL_S = 300.0
# A change of these scores all videos anew.
_CODE = (
    "answers/analysis", "answers/calibration", "engine/on_cpu", "engine/onnxruntime_net",
    "engine/openvino_net", "engine/torch_net", "faces/cascade", "faces/cropper", "faces/detector",
    "faces/files", "faces/search", "faces/torch_cascade", "faces/tracks", "geometry",
    "models/adopt/nets", "models/adopt/padding", "models/backbones", "models/checkpoint",
    "models/clip_times", "models/features", "models/frame_net", "models/grad_cam",
    "models/net_file", "models/portable", "models/predict", "scoring/scores", "scoring/stretches",
    "timm_facts", "video/colour", "video/decode", "video/encode", "video/endings", "video/failures",
    "video/frame", "video/light", "video/scale", "video/streams", "video/transport",
)  # fmt: skip
# What a video is called that was read and has no score: it is no genuine video of the calibration,
# but a fake like that is one that nobody finds.
_SILENT = frozenset({Reason.NO_FACE, Reason.TOO_SHORT, Reason.TOO_FEW_FRAMES})


class CalibrationError(UnmaskError):
    """A model can't be calibrated on what was given."""


@dataclass(frozen=True)
class Measured:
    """One face as the model scored it, before temperature."""

    logit: float
    stretch_logit: float
    moment_logit: float
    stretches: int
    quality: FaceQuality
    look: Look

    def judged(self, temperature: float) -> Judged:
        """Return what a verdict is made of, but its likeness."""
        part = Part(
            0.0, self.quality.track_s, probability(self.stretch_logit, temperature),
            self.stretches, probability(self.moment_logit, temperature),
        )  # fmt: skip
        return Judged(probability(self.logit, temperature), part, self.quality)


@dataclass(frozen=True)
class Clip:
    """One file that was given, and what the model said of it."""

    path: Path
    is_fake: bool
    stream: str  # digest of its pictures; empty where it can't be read
    faces: tuple[Measured, ...]
    reason: Reason | None
    detail: str


@dataclass(frozen=True)
class Asked:
    """What is to be promised, and who asks."""

    max_false_alarms: float
    kind: str
    command: str
    unlike_by: Literal["all", "quality"] = "all"


@dataclass(frozen=True)
class Learned:
    """What a calibration found: settings for the model, and what its videos look like."""

    checkpoint: Checkpoint
    looks: tuple[Look, ...]


# ---------------------------------------------------------------- videos, scored


def measure(
    model_dir: Path,
    genuine: Sequence[Path],
    fakes: Sequence[Path],
    work: Path,
    *,
    workers: int,
) -> Generator[Clip]:
    """Yield each video as it is scored, what an earlier run has scored first; no video twice.

    Videos of the same pictures count once, in whatever containers they lie: the first is taken. A
    file that can't be read, or has no face, has its reason.

    Raises:
        CalibrationError: the same pictures are among the genuine videos and among the fakes.
        DiskError: the disk takes no more, or another run calibrates the model.
        WeightsError: the model's weights can't be read.
    """
    predictor = Predictor.load(model_dir)
    made_by = key_of(
        content_digest(model_dir / checkpoints.WEIGHTS), code_digest(*_CODE),
        predictor.checkpoint.faces, predictor.checkpoint.clips, predictor.checkpoint.model,
    )  # fmt: skip
    asked = [(path, False) for path in genuine] + [(path, True) for path in fakes]
    with ResumeManifest(work, _MANIFEST) as manifest:
        streams = dict(zip(asked, _streams([path for path, _ in asked], workers), strict=True))
        first = _first_of_each(streams)
        keys = {path: key_of(made_by, stamp_of(path), stream) for (path, _), stream in first}
        missing = []
        for (path, is_fake), stream in first:
            entry = manifest.lookup(str(path), keys[path])
            if entry is None:
                missing.append((path, is_fake, stream))
            else:
                yield clip_of(path, is_fake, stream, entry.facts)
        with closing(
            crop_files([path for path, _, _ in missing], predictor.checkpoint.faces,
                       workers=workers)
        ) as files:  # fmt: skip
            for cropped in files:
                path, is_fake, stream = missing[cropped.place]
                facts = facts_of(predictor, cropped)
                passes = facts["reason"] in PASSING
                manifest.add(str(path), "" if passes else keys[path], [], **facts)
                yield clip_of(path, is_fake, stream, facts)


def _streams(paths: Sequence[Path], workers: int) -> list[str]:
    """Return the digest of each file's coded pictures; empty where it can't be read."""
    found = run_jobs(
        [str(path) for path in paths], _stream, _start_worker, workers,
        crashed=_no_stream, stalled=_no_stream, stall_s=_STALL_S, confined=Confinement(),
    )  # fmt: skip
    by_path = dict(found)
    return [by_path[str(path)] for path in paths]


def _start_worker() -> None:
    """Start a worker that needs nothing."""


def _stream(path: str) -> tuple[str, str]:
    try:
        return path, digest_pictures(Path(path))
    except (DecodeError, OSError):  # the cropper says what is wrong with it
        return _no_stream(path)


def _no_stream(path: str) -> tuple[str, str]:
    return path, ""


def _first_of_each(
    streams: dict[tuple[Path, bool], str],
) -> list[tuple[tuple[Path, bool], str]]:
    seen: dict[str, tuple[Path, bool]] = {}
    kept = []
    for (path, is_fake), stream in streams.items():
        other = seen.get(stream) if stream else None
        if other is None:
            seen[stream] = path, is_fake
            kept.append(((path, is_fake), stream))
        elif other[1] != is_fake:
            raise CalibrationError(
                f"Asked to calibrate on {other[0]} as genuine and on {path} as a fake; they show "
                "the same pictures. Take one of them out."
            )
        else:
            _log.warning("%s: it has the same pictures as %s, and counts once", path, other[0])
    return kept


def facts_of(predictor: Predictor, cropped: Cropped) -> dict[str, Any]:
    """Return what the model says of a file, as JSON keeps it."""
    # A still picture is no video: no promise is learned from one.
    is_still = cropped.still is not None
    tracks = [track for track in cropped.found.tracks if not is_still and predictor.moves(track)]
    reason = cropped.found.reason
    if cropped.found.tracks and not tracks:
        reason = reason or Reason.TOO_FEW_FRAMES
    return {
        "reason": reason,
        "detail": cropped.found.detail,
        "faces": [_face_facts(face) for face in study(predictor, cropped, tracks)],
    }


def _face_facts(face: Studied) -> dict[str, Any]:
    features_D = face.look.features_D
    return {
        "logit": face.score.logit,
        "stretch_logit": face.stretch.logit,
        "moment_logit": max(face.score.clip_logits),
        "stretches": face.stretches,
        "quality": asdict(face.quality),
        "look": [None if math.isnan(number) else number for number in face.look.qualities_Q],
        "features": None if features_D is None else [round(x, 7) for x in features_D.tolist()],
        "codec": face.look.codec,
    }


def clip_of(path: Path, is_fake: bool, stream: str, facts: dict[str, Any]) -> Clip:
    """Return a file as the model scored it, from what facts_of said."""
    faces = tuple(
        Measured(
            face["logit"], face["stretch_logit"], face["moment_logit"], face["stretches"],
            FaceQuality(**face["quality"]),
            Look(
                np.array([math.nan if x is None else x for x in face["look"]]),
                None if face["features"] is None else np.array(face["features"]),
                face["codec"],
            ),
        )
        for face in facts["faces"]
    )  # fmt: skip
    reason = None if facts["reason"] is None else Reason(facts["reason"])
    return Clip(path, is_fake, stream, faces, reason, facts["detail"])


# ---------------------------------------------------------------- a promise, learned


def learn(base: Checkpoint, clips: Sequence[Clip], asked: Asked, *, weights_sha256: str) -> Learned:
    """Return the settings of a model that promises what was asked of videos like the genuine ones.

    base has the settings before any calibration. The threshold for fake comes from the genuine
    videos alone, so that the share of the fakes that it finds is an honest one. The threshold for
    real, and the temperature, come from the fakes: without enough of them nothing is called real.

    Raises:
        CalibrationError: the genuine videos that have a score are too few for the asked rate.
    """
    ratio = asked.max_false_alarms
    genuine = [clip for clip in clips if clip.faces and not clip.is_fake]
    fakes = [clip for clip in clips if clip.faces and clip.is_fake]
    _check_enough(genuine, clips, ratio)
    temperature = base.temperature
    if fakes:
        labelled = [(0, clip) for clip in genuine] + [(1, clip) for clip in fakes]
        temperature = scores.fit_temperature(
            [label for label, _ in labelled],
            [max(face.logit for face in clip.faces) for _, clip in labelled],
        )
    worst = [_worst(clip, temperature) for clip in genuine]
    seen = [_asked_look(face.look, asked) for face, _ in worst]
    looks = tuple(seen[:: -(-len(seen) // looks_file.MOST)])  # evenly, without a look at them
    judged = [
        replace(known, likeness=like)
        for (_, known), like in zip(worst, _likeness_to_others(seen, looks), strict=True)
    ]
    strata = promises.learn_strata(judged, ratio)
    left_out, false_alarms = promises.leave_one_out(judged, ratio)
    highest = [max(probability(face.logit, temperature) for face in clip.faces) for clip in fakes]
    fake_from, _ = thresholds([each.statistic for each in judged], [], ratio)
    _, real_to = thresholds([], highest, ratio)
    most = max(face.stretches for clip in genuine for face in clip.faces)
    limits = Limits(
        fake_from=fake_from, real_to=real_to, min_face_px=0.0, min_track_s=0.0, min_sharpness=0.0,
        max_sharpness=1e9, min_brightness=0.0, max_brightness=1.0, max_error_ratio=ratio,
        reals=len(genuine), fakes=len(fakes), tracks=sum(len(clip.faces) for clip in genuine),
        stretches=() if fake_from is None else ((max(most, 2), fake_from),),
    )  # fmt: skip
    asked_of = [clip for clip in clips if clip.is_fake and (clip.faces or clip.reason in _SILENT)]
    promise = Promise(
        kind=asked.kind, genuine=len(genuine), fakes=len(asked_of), max_false_alarms=ratio,
        left_out=left_out, false_alarms=false_alarms,
        unlike_to=promises.unlike_from_count(len(looks)), found=0, silenced=0,
        power=0.0 if asked_of else None, power_low=None, power_high=None,
        made=datetime.now(UTC).isoformat(timespec="seconds"), command=asked.command,
        version=version("unmask"), genuine_sha256=_digest(genuine),
        fakes_sha256=_digest(asked_of) if asked_of else None, weights_sha256=weights_sha256,
        looks_sha256=hashlib.sha256(looks_file.to_bytes(looks)).hexdigest(),
        strata=strata if len(strata) > 1 else (),
    )  # fmt: skip
    if asked_of:
        found, as_high = (
            sum(
                verdict_of(clip, limits, promise, known, temperature) is Verdict.FAKE
                for clip in asked_of
            )
            for known in (looks, ())
        )
        low, high = promises.share_interval(found, len(asked_of))
        promise = replace(
            promise,
            found=found,
            silenced=as_high - found,
            power=found / len(asked_of),
            power_low=low,
            power_high=high,
        )
    return Learned(replace(base, temperature=temperature, limits=limits, promise=promise), looks)


def verdict_of(
    clip: Clip, limits: Limits, promise: Promise, looks: Sequence[Look], temperature: float
) -> Verdict:
    """Return what the model says of a video under the promise, as predict would."""
    faces = [
        replace(face.judged(temperature), likeness=likeness(looks, face.look) if looks else None)
        for face in clip.faces
    ]
    found = {verdict for verdict, _ in judge_faces(faces, limits, promise)[0]}
    if Verdict.FAKE in found:
        return Verdict.FAKE
    return Verdict.REAL if found == {Verdict.REAL} else Verdict.INCONCLUSIVE


def _likeness_to_others(seen: Sequence[Look], kept: Sequence[Look]) -> list[Likeness]:
    """Return how like each genuine video is to the kept ones, without itself."""
    among = {id(look): found for look, found in zip(kept, likeness_among(kept), strict=True)}
    return [among.get(id(look)) or likeness(kept, look) for look in seen]


def _asked_look(look: Look, asked: Asked) -> Look:
    return replace(look, features_D=None) if asked.unlike_by == "quality" else look


def _worst(clip: Clip, temperature: float) -> tuple[Measured, Judged]:
    judged = [face.judged(temperature) for face in clip.faces]
    place = judged.index(worst_of(judged))
    return clip.faces[place], judged[place]


def _check_enough(genuine: Sequence[Clip], clips: Sequence[Clip], ratio: float) -> None:
    needed, given = videos_needed(ratio), sum(not clip.is_fake for clip in clips)
    if len(genuine) >= needed:
        return
    remedy = f"Give at least {needed - len(genuine)} more"
    if genuine:
        remedy += f", or ask for --max-false-alarms {math.ceil(1000 / (len(genuine) + 1)) / 1000:g}"
    raise CalibrationError(
        f"Asked for at most {messages.one_in(ratio)} genuine videos called fake; that takes "
        f"{needed} different genuine videos with a face. Of the {given} different ones that were "
        f"given, {len(genuine)} have a score. {remedy}."
    )


def _digest(clips: Sequence[Clip]) -> str:
    lines = sorted(clip.stream for clip in clips)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
