"""Fakes of people who agreed to it: a DFDC-shaped chunk made from a user's own footage.

Each video is read twice. The first pass finds the face on reduced frames and follows it; the
second writes the real video and its fakes side by side, one frame at a time, so that memory does
not grow with a video's length. The real video is encoded anew exactly as its fakes are: otherwise
compression would tell them apart. Sound is dropped.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from unmask.errors import DatasetError
from unmask.faces.detector import detector_of_worker, start_worker
from unmask.faces.landmarks import Face, find_face, read_ticks
from unmask.forgeries.blend import METHODS, Floats, Image, Method, draw_recipe, forge_frame
from unmask.forgeries.footage import Donor, Fake, Footage, Outcome, drop_duplicates
from unmask.params import Faces
from unmask.records import PASSING, Reason
from unmask.runtime.code import code_digest
from unmask.runtime.confinement import Confinement
from unmask.runtime.disk import write_atomically
from unmask.runtime.processes import run_jobs
from unmask.runtime.resume_manifest import ResumeManifest, key_of
from unmask.video.encode import VideoWriter
from unmask.video.failures import DecodeError, TruncatedError

DONOR_EYES_PX = 64.0  # a donor's eyes are at most this far apart: 128 px of face, as in a recipe

_log = logging.getLogger(__name__)

_METADATA = "metadata.json"
_RESUME_MANIFEST = ".fake.jsonl"
# A change of these makes videos anew.
_CODE = (
    "engine/on_cpu", "engine/onnxruntime_net", "engine/openvino_net", "faces/cascade",
    "faces/detector", "faces/landmarks", "faces/torch_cascade", "faces/tracks",
    "forgeries/blend", "forgeries/fake", "video/colour", "video/decode", "video/encode",
    "video/endings", "video/failures", "video/frame", "video/light", "video/scale", "video/streams",
    "video/transport",
)  # fmt: skip
_GONE = "gone"  # in the second pass
_PASSING = (*PASSING, _GONE)  # what the next run need not meet again


@dataclass(frozen=True)
class Settings:
    """What determines a chunk, beside the footage."""

    method: Method | Literal["both"]
    fakes_per_video: int
    crf: tuple[int, int]
    max_seconds: float
    seed: int
    faces: Faces


@dataclass(frozen=True)
class Signing:
    """What gives each video of a chunk content credentials, before it gets its name."""

    key: str  # digest of the certificate: with another one videos are made anew
    sign: Callable[[Path, Path, str, bool], None]  # video, footage, words, is it a fake


# ---------------------------------------------------------------- the chunk


@dataclass(frozen=True)
class _Job:
    name: str
    key: str  # digest of everything that determines what it makes
    footage: Footage
    settings: Settings
    scratch: Path
    face: Face | None = None  # what the first pass found
    fakes: tuple[Fake, ...] = ()


@dataclass(frozen=True)
class _Done:
    job: _Job
    files: tuple[str, ...] = ()
    reason: str | None = None  # why it was left out
    detail: str = ""
    face: dict[str, Any] | None = None  # as JSON has it


def make_chunk(
    footage: Sequence[Footage],
    chunk: Path,
    settings: Settings,
    *,
    workers: int,
    sign: Signing | None = None,
) -> Iterator[Outcome]:
    """Yield an outcome for each file, twice: after each pass. Then the chunk is complete.

    What an earlier run has made of the same content with the same settings and code is kept, also
    where it was killed; videos of footage that is no longer named are deleted. A chunk depends on
    footage and settings alone, never on workers; signed videos have their time of signing in them,
    too. No file is changed in place.

    Raises:
        DatasetError: the folder holds something else, no file can be used, or swaps are asked for
            and only one person is seen.
    """
    _reject_foreign_files(chunk)
    code = code_digest(*_CODE)
    with ResumeManifest(chunk, _RESUME_MANIFEST) as resumed:
        singles, left_out = drop_duplicates(footage)
        yield from left_out
        searches = [
            _Job(f"{one.video_id} face", _face_key(one, settings, code), one, settings,
                 resumed.scratch)
            for one in singles
        ]  # fmt: skip
        faces: list[Donor] = []
        start = partial(start_worker, settings.faces.detect)
        for done in _do_all(searches, _follow, start, resumed, workers, settings.faces.stall_s):
            outcome = Outcome(done.job.footage, done.reason, done.detail)
            if done.face is None:
                left_out.append(outcome)
            else:
                faces.append(Donor(done.job.footage, Face(**done.face)))
            yield outcome
        _refuse_nothing(faces, left_out, settings)
        yield from left_out

        # From here on videos change: no metadata may remain that tells of the old ones.
        (chunk / _METADATA).unlink(missing_ok=True)
        forgeries = [
            _Job(f"{one.footage.video_id} videos",
                 _videos_key(one.footage, fakes, settings, code, sign),
                 one.footage, settings, resumed.scratch, one.face, fakes)
            for one, fakes in plan_fakes(faces, settings)
        ]  # fmt: skip
        made = []
        for done in _do_all(
            forgeries, _forge, _use_one_thread, resumed, workers, settings.faces.stall_s, sign
        ):
            if done.reason is None:
                made.append(done.job)
            fakes = done.job.fakes if done.reason is None else ()
            yield Outcome(done.job.footage, done.reason, done.detail, fakes)
        write_atomically(chunk / _METADATA, _metadata(made))
        resumed.finalize({job.name for job in [*searches, *made]})


def _reject_foreign_files(chunk: Path) -> None:
    if chunk.exists() and not chunk.is_dir():
        raise DatasetError(f"Asked for the chunk {chunk}; a file is there. Name another folder.")
    own = (chunk / _RESUME_MANIFEST).exists()
    if not own and chunk.is_dir() and any(path.name[0] != "." for path in chunk.iterdir()):
        raise DatasetError(
            f"Asked for the chunk {chunk}; that folder holds what `unmask fake` did not make. "
            "Name a folder that is new or empty."
        )


def _refuse_nothing(faces: list[Donor], left_out: list[Outcome], settings: Settings) -> None:
    if not faces:
        some = "; ".join(f"{o.footage.path}: {o.reason}" for o in left_out[:3]) or "no video file"
        raise DatasetError(
            f"Asked for fakes of {len(left_out)} file(s); found no face to forge ({some}). Give "
            "footage in which one face is seen from the front."
        )
    people = {one.footage.source_id for one in faces}
    if settings.method == "face_swap" and len(people) == 1:
        raise DatasetError(
            f"Asked for face swaps; found usable footage of one person ({min(people)}). Add "
            "footage of another, or take --method self_blend."
        )


def _face_key(footage: Footage, settings: Settings, code: str) -> str:
    return key_of(footage.digest, settings.max_seconds, settings.faces, code)


def _videos_key(
    footage: Footage,
    fakes: Sequence[Fake],
    settings: Settings,
    code: str,
    sign: Signing | None,
) -> str:
    # The donors' frames follow from their content, these settings and the code.
    pasted = [(fake.file, fake.donor and fake.donor.footage.digest) for fake in fakes]
    values = settings.seed, settings.crf, settings.max_seconds, settings.faces
    signed = () if sign is None else (sign.key,)
    return key_of(footage.digest, footage.path.name, pasted, values, code, *signed)


def _metadata(made: Sequence[_Job]) -> str:
    metadata: dict[str, dict[str, Any]] = {}
    for job in made:
        real = f"{job.footage.video_id}.mp4"
        common = {"split": "train", "source": job.footage.source_id}  # as DFDC says throughout
        metadata[real] = {"label": "REAL", **common, "method": "real"}
        for fake in job.fakes:
            donors = {"donors": [fake.donor.footage.source_id]} if fake.donor else {}
            metadata[fake.file] = {
                "label": "FAKE", **common, "original": real, "method": fake.method, **donors
            }  # fmt: skip
    return json.dumps(metadata, indent=1, sort_keys=True) + "\n"


# ---------------------------------------------------------------- the plan


def plan_fakes(faces: Sequence[Donor], settings: Settings) -> list[tuple[Donor, tuple[Fake, ...]]]:
    """Return what to make of each usable video, in order of names.

    Where only one person is seen, all fakes are self-blends.
    """
    partners = _pair_up({one.footage.source_id for one in faces}, settings.seed)
    plan = []
    for one in sorted(faces, key=lambda one: one.footage.video_id):
        rng = _chance(one.footage, settings.seed, 0)
        first = int(rng.integers(len(METHODS)))
        strangers = partners[one.footage.source_id]
        fakes = []
        for number in range(settings.fakes_per_video):
            method: Method = (
                METHODS[(first + number) % len(METHODS)]
                if settings.method == "both"
                else settings.method
            )
            donor = None
            if not strangers:
                method = "self_blend"
            elif method == "face_swap":
                person = strangers[rng.integers(len(strangers))]
                clips = [d for d in faces if d.footage.source_id == person]
                clips.sort(key=lambda clip: clip.footage.video_id)
                donor = clips[rng.integers(len(clips))]
            fakes.append(Fake(f"{one.footage.video_id}_{method}_{number}.mp4", method, donor))
        plan.append((one, tuple(fakes)))
    return plan


def _pair_up(people: set[str], seed: int) -> dict[str, list[str]]:
    """Return whose faces each person may get: those of a partner, or of two where one is left.

    A split must keep a fake's people together. Were donors anybody's, everybody would be tied to
    everybody, and no chunk could be split.
    """
    ranked = sorted(people, key=lambda person: hashlib.sha256(f"{seed} {person}".encode()).digest())
    groups = [ranked[at : at + 2] for at in range(0, len(ranked), 2)]
    if len(groups) > 1 and len(groups[-1]) == 1:
        groups[-2:] = [groups[-2] + groups[-1]]
    return {p: [other for other in group if other != p] for group in groups for p in group}


def _chance(footage: Footage, seed: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, int(footage.digest[:16], 16), *purpose])


# ---------------------------------------------------------------- work


def _do_all(
    jobs: Sequence[_Job],
    work: Callable[[_Job], _Done],
    start: Callable[[], None],
    resumed: ResumeManifest,
    workers: int,
    stall_s: float,
    sign: Signing | None = None,
) -> Iterator[_Done]:
    """Yield what was done before, then what is done now."""
    missing = []
    for job in jobs:
        if made := resumed.lookup(job.name, job.key):
            yield _Done(job, **made.facts)
        else:
            missing.append(job)
    done_now = run_jobs(
        missing, work, start, workers,
        crashed=_on_crash, exhausted=_on_exhaustion, stalled=_on_stall, stall_s=stall_s,
        confined=Confinement((resumed.scratch,)),
    )  # fmt: skip
    for done in done_now:
        if done.reason not in _PASSING:
            if sign is not None:
                _sign(done, sign)
            facts = {"reason": done.reason, "detail": done.detail, "face": done.face}
            resumed.add(done.job.name, done.job.key, done.files, **facts)
        yield done


def _sign(done: _Done, sign: Signing) -> None:
    job = done.job
    comments = _comments(job)
    for file in done.files:
        is_fake = any(file == fake.file for fake in job.fakes)
        sign.sign(job.scratch / file, job.footage.path, comments[file], is_fake)


def _comments(job: _Job) -> dict[str, str]:
    """Return what each video of a job says of itself, by its name."""
    origin = f"made from {job.footage.path.name} by unmask fake"
    fakes = {fake.file: f"MANIPULATED ({fake.method}); {origin}" for fake in job.fakes}
    return {f"{job.footage.video_id}.mp4": f"not manipulated; {origin}", **fakes}


def _on_crash(job: _Job) -> _Done:
    detail = "its process was killed: by the decoder, or as memory ran out"
    return _Done(job, reason=Reason.CRASHED, detail=detail)


def _on_exhaustion(job: _Job) -> _Done:
    detail = "decoding it asks for more memory than one file may have"
    return _Done(job, reason=Reason.OUT_OF_MEMORY, detail=detail)


def _on_stall(job: _Job) -> _Done:
    detail = f"it gave no new frame for {job.settings.faces.stall_s:g} s"
    return _Done(job, reason=Reason.TIMED_OUT, detail=detail)


def _use_one_thread() -> None:
    cv2.setNumThreads(1)


# ---------------------------------------------------------------- the first pass


def _follow(job: _Job) -> _Done:
    detect = detector_of_worker(job.settings.faces.detect).detect
    try:
        face = find_face(
            job.footage.path, job.settings.faces, detect, max_seconds=job.settings.max_seconds
        )
    except DecodeError as error:
        return _Done(job, reason=error.reason, detail=str(error))
    if not face.tracks:
        reason = Reason.TOO_SHORT if face.seen else Reason.NO_FACE
        detail = f"found no face for {job.settings.faces.min_track_s:g} s"
        return _Done(job, reason=reason, detail=detail)
    return _Done(job, detail=face.broken, face=asdict(face))


# ---------------------------------------------------------------- the second pass


def _forge(job: _Job) -> _Done:
    assert job.face is not None
    try:
        return _Done(job, tuple(_write_videos(job, job.face)), detail=job.face.broken)
    except DecodeError as error:  # the first pass could read it, and its donors
        return _Done(job, reason=_GONE, detail=str(error))


def _write_videos(job: _Job, face: Face) -> list[str]:
    footage, settings = job.footage, job.settings
    low, high = settings.crf
    crf = int(_chance(footage, settings.seed, 1).integers(low, high + 1))
    chances = [_chance(footage, settings.seed, 2, number) for number in range(len(job.fakes))]
    recipes = [draw_recipe(f.method, rng) for f, rng in zip(job.fakes, chances, strict=True)]
    donors = [_cut_donor(f.donor, settings) if f.donor else None for f in job.fakes]
    comments = _comments(job)
    with ExitStack() as stack:
        real, *fakes = (
            stack.enter_context(
                VideoWriter(
                    job.scratch / file, rate_fps=face.rate_fps, crf=crf,
                    metadata={"comment": comment},
                )
            )
            for file, comment in comments.items()
        )  # fmt: skip
        stack.enter_context(suppress(TruncatedError))  # what comes before it is used
        for tick, frame in read_ticks(footage.path, face.rate_fps, settings.max_seconds):
            picture = face.show(frame)
            points = face.points_at(tick)
            real.write(picture)
            for writer, recipe, donor, rng in zip(fakes, recipes, donors, chances, strict=True):
                forged = picture
                if points is not None:
                    forged, _ = forge_frame(picture, points, recipe, rng, donor=donor)
                writer.write(forged)
    return list(comments)


def _cut_donor(donor: Donor, settings: Settings) -> tuple[Image, Floats]:
    """Return the donor's best frame and its landmarks, reduced to what a fake can show of it."""
    face, path = donor.face, donor.footage.path
    assert face.best is not None
    best, points = face.best
    points_52 = np.array(points, np.float32)
    ticks = read_ticks(path, face.rate_fps, settings.max_seconds)
    picture = next(face.show(frame) for tick, frame in ticks if tick == best)
    # Unreduced, a large face pasted onto a small one would alias.
    eyes_px = float(np.linalg.norm(points_52[1] - points_52[0]))
    scale = min(1.0, DONOR_EYES_PX / max(eyes_px, 1.0))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), points_52 * np.float32(scale)
