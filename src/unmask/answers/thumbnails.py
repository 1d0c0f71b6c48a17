"""Small pictures of videos, decoded by confined worker processes: for pages that list many."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard, TypeVar

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

Form = TypeVar("Form")


@dataclass(frozen=True)
class _Job:
    place: int
    path: Path
    time_s: float


@dataclass(frozen=True)
class _Taken:
    place: int
    picture_HWC: Picture | None


def take(
    videos: Sequence[tuple[Path, float]], form: Callable[[Picture], Form], *, workers: int
) -> Generator[Form | None]:
    """Yield form of each video's keyframe at a time or before it, in order; None without one.

    Pictures are reduced to MOST_PX. A video that can't be decoded, crashes its worker or gives no
    keyframe for 30 s has none. Of many videos, only those are held that wait for one before them.
    """
    jobs = [_Job(place, path, time_s) for place, (path, time_s) in enumerate(videos)]
    waiting: dict[int, Form | None] = {}
    results = run_jobs(
        jobs, _take, _start, workers, crashed=_none, stalled=_none, stall_s=_STALL_S,
        confined=Confinement(),
    )  # fmt: skip
    assert isinstance(results, Generator)
    with closing(results):  # ends the workers
        for job in jobs:
            while job.place not in waiting:
                taken = next(results)
                picture_HWC = taken.picture_HWC
                waiting[taken.place] = form(picture_HWC) if _is_picture(picture_HWC) else None
            yield waiting.pop(job.place)


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


def _is_picture(found: Picture | None) -> TypeGuard[Picture]:
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
