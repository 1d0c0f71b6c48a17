"""What finds faces: search a picture, follow a face from frame to frame."""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask import params
from unmask.engine import on_cpu
from unmask.faces.tracks import Detection, square_around
from unmask.records import Box
from unmask.video.frame import Frame

if TYPE_CHECKING:
    from unmask.faces.cascade import Cascade
    from unmask.faces.torch_cascade import TorchCascade

Picture = NDArray[np.uint8]
_SWITCH_S = 0.0002
LAST_PX = 48  # the side of what MTCNN's last net looks at
# Of a face turned aside or half covered that net is sure in one window and not in the next. A score
# from here on may be such a face's; a face that is gone has less.
_UNSURE = 0.3
# Windows for a second look: side, and how far it lies to the right and below, as shares of the
# first one's side: where the second net would have put the window of a turned face.
_SECOND_LOOKS = ((0.8, 0.0, 0.0), (1.1, -0.13, 0.0), (1.1, 0.13, 0.0), (1.1, 0.0, 0.13))


class FaceDetector(Protocol):
    """What finds faces."""

    batch: int  # how many pictures it wants at once

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        """Return the faces of each upright RGB picture, the largest first."""

    def follow(self, frame: Frame, boxes: Sequence[Box]) -> list[Detection | None]:
        """Return the face near each box, which is where one is expected; None where none is."""


LoadDetector = Callable[[params.Detect], FaceDetector]  # in a worker: it has to pickle


class Detector:
    """MTCNN (Zhang et al., 2016, arXiv:1604.02878) with its trained weights."""

    def __init__(self, settings: params.Detect, device: str = "cpu") -> None:
        # On one CPU thread a picture takes as long in a batch of any size.
        self.batch = 1 if device == "cpu" else 8
        self._settings = settings
        self._cascade = _cascade(settings, device)

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        """Return the faces of each upright RGB picture, the largest first.

        All pictures have one size.
        """
        # The pyramid has no level for a picture smaller than a face.
        if not pictures or min(pictures[0].shape[:2]) < self._settings.min_face_px:
            return [[] for _ in pictures]
        found = self._cascade.search(np.stack(pictures))
        return [[face for face in faces if self._is_sure(face)] for faces in found]

    def follow(self, frame: Frame, boxes: Sequence[Box]) -> list[Detection | None]:
        """Return the face near each box, which is where one is expected; None where none is.

        This is MTCNN's last net alone, a twentieth of a search: it says how sure it is of a face
        in a square, where its box is and where its points are. Where it is not sure, it looks at
        four other squares near by, and has to be as sure as a search. Coordinates are the frame's
        pixels.
        """
        squares = [square_around(box, 0.0) for box in boxes]
        found: list[Detection | None] = []
        for square, face in zip(squares, self._look(frame, squares), strict=True):
            if face and _UNSURE <= face.score < self._settings.thresholds[2]:
                looks = self._look(frame, [_beside(square, *place) for place in _SECOND_LOOKS])
                sure = [look for look in looks if look and self._is_sure(look)]
                face = max(sure, key=lambda look: look.score, default=None)
            elif face and face.score < self._settings.thresholds[2]:
                face = None
            found.append(face)
        return found

    def _look(self, frame: Frame, squares: Sequence[Box]) -> list[Detection | None]:
        """Return what the last net sees in each square; None where the frame has too little."""
        found: list[Detection | None] = [None] * len(squares)
        inside = [_inside(square, frame) for square in squares]
        seen = {n: square for n, square in enumerate(inside) if square}
        if seen:
            windows = [frame.reduced_crop_rgb_HWC(square, LAST_PX) for square in seen.values()]
            faces = self._cascade.look(np.stack(windows), list(seen.values()))
            for n, face in zip(seen, faces, strict=True):
                found[n] = face
        return found

    def _is_sure(self, face: Detection) -> bool:
        left, top, right, bottom = face.box_xyxy
        return face.score >= self._settings.min_score and left < right and top < bottom


def _beside(square: Box, size_ratio: float, right_ratio: float, below_ratio: float) -> Box:
    """Return a square of another size, moved by shares of this one's side."""
    left, top, right, bottom = square
    side = right - left
    x, y = (left + right) / 2 + right_ratio * side, (top + bottom) / 2 + below_ratio * side
    half = side * size_ratio / 2
    return x - half, y - half, x + half, y + half


def _inside(square: Box, frame: Frame) -> tuple[int, int, int, int] | None:
    """Return the whole pixels of a square that the frame has; None where these are too few."""
    left, top, right, bottom = square
    x0, y0 = max(0, round(left)), max(0, round(top))
    x1, y1 = min(frame.width, round(right)), min(frame.height, round(bottom))
    # Half of it at least: MTCNN stretches what is left of a face at the edge as well.
    return (x0, y0, x1, y1) if min(x1 - x0, y1 - y0) >= max(2, (right - left) / 2) else None


def _cascade(settings: params.Detect, device: str) -> "Cascade | TorchCascade":
    # Here, as importing either takes time that a reader of records need not wait.
    # Torch does it on a CPU, too, where nothing else can.
    if device == "cpu" and (on_cpu.library() or find_spec("torch") is None):
        from unmask.faces.cascade import Cascade

        return Cascade(min_face_px=settings.min_face_px, thresholds=settings.thresholds)
    from unmask.faces.torch_cascade import TorchCascade

    return TorchCascade(
        min_face_px=settings.min_face_px, thresholds=settings.thresholds, device=device
    )


@cache
def detector_of_worker(settings: params.Detect) -> Detector:
    """Return this process's detector."""
    return Detector(settings)


def start_worker(settings: params.Detect, load_detector: LoadDetector = detector_of_worker) -> None:
    """Make a worker process ready to find faces, on one thread."""
    # The threads that read and encode wait for Python's lock up to 5 ms otherwise, each time.
    sys.setswitchinterval(_SWITCH_S)
    cv2.setNumThreads(1)
    load_detector(settings)
