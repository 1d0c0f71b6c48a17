"""MTCNN: search a picture for faces, follow a face from frame to frame (owns facenet-pytorch)."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask import params
from unmask.records import Box
from unmask.tracks import Detection, square_around
from unmask.video import Frame

Picture = NDArray[np.uint8]
_LAST_PX = 48  # the side of what MTCNN's last net looks at
_MIN_OVERLAP = 0.5  # of a followed face with where it was expected


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
        # Here, as importing torch takes seconds that a reader of records need not wait.
        import torch
        from facenet_pytorch import MTCNN

        # On one CPU thread a picture takes as long in a batch of any size.
        self.batch = 1 if device == "cpu" else 8
        self._settings = settings
        self._device = torch.device(device)
        self._mtcnn = MTCNN(
            keep_all=True,
            min_face_size=settings.min_face_px,
            thresholds=list(settings.thresholds),
            post_process=False,
            device=self._device,
        ).eval()
        for net in (self._mtcnn.pnet, self._mtcnn.rnet, self._mtcnn.onet):
            # Pooling takes half of a net's time on a CPU otherwise, convolving the other half.
            net.register_forward_pre_hook(_put_channels_last)

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        """Return the faces of each upright RGB picture, the largest first.

        All pictures have one size.
        """
        # MTCNN's pyramid has no level for a picture smaller than a face, and it fails on that.
        if not pictures or min(pictures[0].shape[:2]) < self._settings.min_face_px:
            return [[] for _ in pictures]
        boxes, scores, points = self._mtcnn.detect(np.stack(pictures), landmarks=True)
        return [self._detections(*found) for found in zip(boxes, scores, points, strict=True)]

    def follow(self, frame: Frame, boxes: Sequence[Box]) -> list[Detection | None]:
        """Return the face near each box, which is where one is expected; None where none is.

        This is MTCNN's last net alone, a hundredth of a search: it says how sure it is of a face
        in a square, where its box is and where its points are. Coordinates are the frame's pixels.
        """
        import torch

        found: list[Detection | None] = [None] * len(boxes)
        squares = [_inside(square_around(box, 0.0), frame) for box in boxes]
        seen = {n: square for n, square in enumerate(squares) if square}
        if not seen:
            return found
        pictures = [frame.reduced_crop_rgb_HWC(square, _LAST_PX) for square in seen.values()]
        inputs_N3HW = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2)
        with torch.inference_mode():
            outputs = self._mtcnn.onet((inputs_N3HW.float() - 127.5) / 128)
        shifts_N4, points_N10, scores_N2 = (each.cpu().double().numpy() for each in outputs)
        for row, (n, square) in enumerate(seen.items()):
            detection = _place(square, shifts_N4[row], points_N10[row], float(scores_N2[row, 1]))
            sure = detection.score >= self._settings.thresholds[2]
            found[n] = detection if sure else None
        return found

    def _detections(
        self,
        boxes_N4: NDArray[np.object_] | None,
        scores_N: NDArray[np.object_],
        points_N52: NDArray[np.object_] | None,
    ) -> list[Detection]:
        if boxes_N4 is None or points_N52 is None:
            return []
        found = []
        for box, score, points in zip(boxes_N4, scores_N, points_N52, strict=True):
            left, top, right, bottom = (float(side) for side in box)
            if score >= self._settings.min_score and left < right and top < bottom:
                points_52 = tuple((float(x), float(y)) for x, y in points)
                found.append(Detection((left, top, right, bottom), float(score), points_52))
        return found


def _put_channels_last(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    import torch

    return (inputs[0].contiguous(memory_format=torch.channels_last),)


def _inside(square: Box, frame: Frame) -> tuple[int, int, int, int] | None:
    """Return the whole pixels of a square that the frame has; None where these are too few."""
    left, top, right, bottom = square
    x0, y0 = max(0, round(left)), max(0, round(top))
    x1, y1 = min(frame.width, round(right)), min(frame.height, round(bottom))
    # Half of it at least: MTCNN stretches what is left of a face at the edge as well.
    return (x0, y0, x1, y1) if min(x1 - x0, y1 - y0) >= max(2, (right - left) / 2) else None


def _place(
    square: tuple[int, int, int, int],
    shift_4: NDArray[np.float64],
    points_10: NDArray[np.float64],
    score: float,
) -> Detection:
    """Return a detection from the last net's outputs, which are shares of the square's sides."""
    left, top, right, bottom = square
    width, height = right - left, bottom - top
    box = (
        left + width * shift_4[0], top + height * shift_4[1],
        right + width * shift_4[2], bottom + height * shift_4[3],
    )  # fmt: skip
    points = zip(left + width * points_10[:5], top + height * points_10[5:], strict=True)
    return Detection(
        (float(box[0]), float(box[1]), float(box[2]), float(box[3])), score,
        tuple((float(x), float(y)) for x, y in points),
    )  # fmt: skip


@cache
def detector_of_worker(settings: params.Detect) -> Detector:
    """Return this process's detector, on one thread: more might change a sum's last digit."""
    import torch

    torch.set_num_threads(1)
    return Detector(settings)


def start_worker(settings: params.Detect, load_detector: LoadDetector = detector_of_worker) -> None:
    """Make a worker process ready to find faces, on one thread."""
    cv2.setNumThreads(1)
    load_detector(settings)
