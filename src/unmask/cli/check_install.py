"""Whether the installed packages can write and read a video: the end of `make install`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from unmask.errors import UnmaskError
from unmask.runtime.confinement import Confinement
from unmask.runtime.processes import run_jobs
from unmask.video.decode import read_frames
from unmask.video.encode import write_video

_LEVELS = (40, 80, 120, 160, 200)  # of grey, one a frame: the next is 40 away
_RATE_FPS = 10.0


def check() -> None:
    """Write a clip and read it in a worker process, as predict does.

    Raises:
        UnmaskError: the clip is not read as it was written.
    """
    with TemporaryDirectory(prefix="unmask-") as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, _paint(), rate_fps=_RATE_FPS, crf=14)
        [found] = run_jobs([path], _read, _start, 1, crashed=_on_crash, confined=Confinement())
    if len(found) != len(_LEVELS) or any(
        abs(level - wanted) > 10 for level, wanted in zip(found, _LEVELS, strict=True)
    ):
        raise UnmaskError(
            f"Asked the installed packages for a video of the grey levels {list(_LEVELS)}; read "
            f"{found}. Install them as requirements.lock says: delete .venv, then `make install`."
        )


def main() -> None:
    """Check; an error becomes one line and exit code 1."""
    try:
        check()
    except UnmaskError as error:
        sys.exit(f"error: {error}")


def _paint() -> Iterator[NDArray[np.uint8]]:
    return (np.full((64, 96, 3), level, np.uint8) for level in _LEVELS)


def _read(path: Path) -> list[int]:
    return [round(float(frame.rgb_HWC().mean())) for frame in read_frames(path)]


def _start() -> None:
    """Start a worker that needs nothing."""


def _on_crash(_: Path) -> list[int]:
    return []
