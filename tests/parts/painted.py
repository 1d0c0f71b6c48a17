"""What a cropper is shown: squares in the place of faces, with who finds them; real faces."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask import params
from unmask.faces.cropper import crop_video
from unmask.faces.detector import FaceDetector
from unmask.faces.tracks import Detection
from unmask.records import Box, Points, VideoFaces
from unmask.video import decode
from unmask.video.frame import Frame

STILLS = Path(__file__).parents[2] / "data/sources/stills"
Picture = NDArray[np.uint8]

DETECT = params.Detect(max_side_px=320, min_face_px=40, thresholds=(0.6, 0.7, 0.7), min_score=0.9)
SETTINGS = params.Faces(
    rate_fps=10.0, side_px=64, margin_ratio=0.0, crf=14, detect=DETECT, detect_every_s=0.3,
    smooth_s=0.2, min_track_s=0.4, max_gap_s=0.7, min_overlap=0.3, max_failed_ratio=0.5,
    stall_s=60.0,
)  # fmt: skip
RED, BLUE = (230, 20, 20), (20, 20, 230)


class SquareDetector:
    """Finds the bounding box of red and of blue pixels."""

    batch = 8

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        found = []
        for picture_HWC in pictures:
            boxes = [_bounds(picture_HWC, colour) for colour in (RED, BLUE)]
            found.append([Detection(box, 0.99, corners_and_centre(box)) for box in boxes if box])
        return found

    def follow(self, frame: Frame, boxes: Sequence[Box]) -> list[Detection | None]:
        (found,) = SquareDetector.detect(self, [frame.rgb_HWC()])
        nearest = [max(found, key=lambda d: iou(d.box_xyxy, box), default=None) for box in boxes]
        return [
            near if near and iou(near.box_xyxy, box) > 0.1 else None
            for near, box in zip(nearest, boxes, strict=True)
        ]


class PatientDetector(SquareDetector):
    """Takes its time, as MTCNN does: then no crop has to wait until others are encoded."""

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        time.sleep(0.01 * len(pictures))
        return super().detect(pictures)

    def follow(self, frame: Frame, boxes: Sequence[Box]) -> list[Detection | None]:
        time.sleep(0.005)
        return super().follow(frame, boxes)


def load_squares(_: params.Detect) -> SquareDetector:
    """Return what a worker process finds squares with."""
    return SquareDetector()


def load_patiently(_: params.Detect) -> PatientDetector:
    """Return what a worker process finds squares with, taking its time."""
    return PatientDetector()


def corners_and_centre(box: Box) -> Points:
    """Return what stands in the place of a face's five points."""
    left, top, right, bottom = box
    centre = (left + right) / 2, (top + bottom) / 2
    return (left, top), (right, top), centre, (left, bottom), (right, bottom)


def _bounds(picture_HWC: Picture, colour: tuple[int, int, int]) -> Box | None:
    # Pixels of which each channel is less than 70 away from the colour's.
    lowest, highest = ([level + step for level in colour] for step in (-69, 69))
    near_HW = cv2.inRange(picture_HWC, np.array(lowest), np.array(highest))
    if cv2.countNonZero(near_HW) < 4:
        return None
    left, top, width, height = cv2.boundingRect(near_HW)
    return float(left), float(top), left + width + 0.0, top + height + 0.0


def squares(*paths: Callable[[float], Box | None], rate_fps: float = 20) -> Callable[..., Picture]:
    """Return a painter of a red and a blue square, each where its path says at a time."""

    def paint(index: int, size: tuple[int, int]) -> Picture:
        picture_HWC = np.full((size[1], size[0], 3), 90, np.uint8)
        for path, colour in zip(paths, (RED, BLUE), strict=False):
            if where := path(index / rate_fps):
                left, top, right, bottom = (max(0, round(side)) for side in where)
                picture_HWC[top:bottom, left:right] = colour
        return picture_HWC

    return paint


def at(left: float, top: float, side: float) -> Box:
    return left, top, left + side, top + side


def iou(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return shared / (sum(areas) - shared)


def crop(
    path: Path, detector: FaceDetector | None = None, settings: params.Faces = SETTINGS
) -> VideoFaces:
    faces_dir = path.parent / "faces"
    faces_dir.mkdir(exist_ok=True)
    return crop_video(path, path.stem, faces_dir, settings, detector or SquareDetector(), key="k")


def show(path: Path) -> list[Picture]:
    return [frame.rgb_HWC() for frame in decode.read_frames(path)]


def still(name: str, height: int) -> Picture:
    return np.ascontiguousarray(cv2.resize(
        cv2.imread(str(STILLS / name))[..., ::-1], (height, height), interpolation=cv2.INTER_AREA
    ))  # fmt: skip


def faces_over_noise(*places: tuple[str, int, int], speed_px: int = 0) -> Callable[..., Picture]:
    """Return a painter of stills, 140 pixels wide, each at its left and top and then moving.

    Every other frame is a little darker: faces that never change are not scored.
    """
    stills = [(still(name, 140), left, top) for name, left, top in places]

    def paint(index: int, size: tuple[int, int]) -> Picture:
        rng = np.random.default_rng(1)
        picture_HWC = rng.integers(90, 110, (size[1], size[0], 3), dtype=np.uint8)
        for face_HWC, left, top in stills:
            x = left + speed_px * index
            picture_HWC[top : top + 140, x : x + 140] = face_HWC * (1 - 0.06 * (index % 2))
        return picture_HWC

    return paint
