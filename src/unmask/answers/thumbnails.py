"""Small pictures of videos, decoded by confined worker processes: for pages that list many."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from unmask.answers.drawing import Picture
from unmask.runtime.child import heartbeat
from unmask.runtime.confinement import Confinement
from unmask.runtime.processes import run_jobs
from unmask.video import still
from unmask.video.decode import read_keyframes
from unmask.video.failures import DecodeError

MOST_PX = 240  # of the longer side
_STALL_S = 30.0  # without a keyframe


@dataclass(frozen=True)
class _Job:
    place: int
    path: Path
    time_s: float


@dataclass(frozen=True)
class _Taken:
    place: int
    picture_HWC: Picture | None


def take(videos: Sequence[tuple[Path, float]], *, workers: int) -> list[Picture | None]:
    """Return each video's keyframe at a time or before it, reduced to MOST_PX; None without one.

    A video that can't be decoded, crashes its worker or gives no keyframe for 30 s has none.
    """
    jobs = [_Job(place, path, time_s) for place, (path, time_s) in enumerate(videos)]
    found: list[Picture | None] = [None] * len(jobs)
    results = run_jobs(
        jobs, _take, _start, workers, crashed=_none, stalled=_none, stall_s=_STALL_S,
        confined=Confinement(),
    )  # fmt: skip
    assert isinstance(results, Generator)
    with closing(results):  # ends the workers
        for taken in results:
            if _is_picture(taken.picture_HWC):
                found[taken.place] = taken.picture_HWC
    return found


def _take(job: _Job) -> _Taken:
    chosen = None
    try:
        if still.is_still(job.path):
            return _Taken(job.place, _reduced(still.read(job.path)[0]))
        for frame in read_keyframes(job.path):
            heartbeat()
            if chosen is not None and frame.time_s > job.time_s:
                break
            chosen = frame
        return _Taken(job.place, None if chosen is None else chosen.reduced_rgb_HWC(MOST_PX))
    except DecodeError:  # the video's answer says why
        return _none(job)


def _reduced(picture_HWC: Picture) -> Picture:
    height, width, _ = picture_HWC.shape
    scale = min(1.0, MOST_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small: Picture = cv2.resize(picture_HWC, size, interpolation=cv2.INTER_AREA)
    return small


def _is_picture(found: Picture | None) -> bool:
    """Say whether this is a small picture: a worker that was taken over may send anything."""
    return (
        isinstance(found, np.ndarray)
        and found.dtype == np.uint8
        and found.ndim == 3
        and found.shape[2] == 3
        and min(found.shape) > 0
        and max(found.shape) <= MOST_PX
    )


def _none(job: _Job) -> _Taken:
    return _Taken(job.place, None)


def _start() -> None:
    """Begin a worker: what it needs is imported with this module."""
