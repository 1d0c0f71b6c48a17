"""MTCNN's three nets in a row, as its paper has them, on a CPU and without torch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask.engine.on_cpu import batch_net
from unmask.faces.tracks import Detection
from unmask.records import Box
from unmask.video.scale import Source

# Written by mtcnn_source; the names say what each net gives.
NETS = ("proposals", "refinement", "landmarks")
OUTPUTS = {
    "proposals": ("shifts_N4HW", "scores_N2HW"),
    "refinement": ("shifts_N4", "scores_N2"),
    "landmarks": ("shifts_N4", "points_N10", "scores_N2"),
}
# What is kept as long as this source is the same is so kept as long as the nets are the same.
NET_SHA256 = {
    "proposals": "9aa18b738450d5f68a1e0b680cd586679794f20fe1a63aed93a5db914fb472ad",
    "refinement": "5b84bfa723fe807dc10059853cf1264ae6cb66d8eb7ee9e9f6c473073c6f3744",
    "landmarks": "cc2a03ee6c072a4e211f47ceb64ce6a70674b4b768682668943caff4ff1b34b7",
}
PYRAMID_STEP = 0.709  # between two levels; about half the area
CELL_PX, STRIDE_PX = 12, 2  # of the first net's windows, in the picture it is given
ROUNDING = 1e-6  # 12 / 47 * 47 is a little less than 12 in floating point
MIDDLE_PX, LAST_PX = 24, 48  # the sides of what the second and the last net look at
SAME_LEVEL, SAME, NESTED = 0.5, 0.7, 0.7  # overlaps from which two boxes are one face
# Windows that a net is given at once: each new number costs 3 ms once, as much as 100 windows of
# the second net.
_MIDDLE_BATCHES, _LAST_BATCHES = (16, 4), (4, 1)

Pictures = NDArray[np.uint8]
Numbers = NDArray[np.float32]
Window = tuple[int, int, int, int]


def net_path(name: str) -> Path:
    """Return where the package keeps one of the nets."""
    return Path(__file__).with_name("mtcnn") / f"{name}.onnx"


class Cascade:
    """The nets of MTCNN (Zhang et al., 2016, arXiv:1604.02878), trained.

    They are facenet-pytorch's. Its own search reduces pictures and windows by area pooling, in half
    of its time on a CPU; this one interpolates linearly over the area, and finds the same faces.
    Pictures are reduced to the very bytes of torch's: one level in a thousand pixels, which is what
    Pillow differs by, turns a side of a window to the next whole pixel now and then, from where the
    next net sees another picture, and a face that is followed gets boxes up to 6 pixels apart.
    """

    def __init__(self, *, min_face_px: int, thresholds: tuple[float, float, float]) -> None:
        self._first, self._second, self._last = (
            batch_net(net_path(name).read_bytes()) for name in NETS
        )
        self._min_face_px = min_face_px
        self._thresholds = thresholds

    def search(self, pictures_NHW3: Pictures) -> list[list[Detection]]:
        """Return the faces of each RGB picture, the largest first."""
        return [self._search(picture_HW3) for picture_HW3 in pictures_NHW3]

    def look(
        self, windows_NHW3: Pictures, places: Sequence[tuple[int, int, int, int]]
    ) -> list[Detection]:
        """Return the face in each window of 48 x 48, by where the window lies."""
        shifts_N4, points_N10, scores_N2 = (
            said.astype(np.float64) for said in _ask(self._last, windows_NHW3, _LAST_BATCHES)
        )
        return detections(shifts_N4, points_N10, scores_N2[:, 1], places)

    def _search(self, picture_HW3: Pictures) -> list[Detection]:
        size = picture_HW3.shape[:2]
        source = Source(picture_HW3)
        boxes_M4 = self._refine(source, size, self._propose(source, size))
        windows = [window for window in windows_of(boxes_M4, size) if window]
        if not windows:
            return []
        faces = self.look(_cut(source, windows, LAST_PX), windows)
        return drop_nested([face for face in faces if face.score >= self._thresholds[2]])

    def _propose(self, source: Source, size: tuple[int, ...]) -> Numbers:
        """Return the squares that may hold a face."""
        height, width = size
        boxes, scores, shifts = [], [], []
        ratio = CELL_PX / self._min_face_px
        while min(height, width) * ratio > CELL_PX - ROUNDING:
            reduced_HW3 = source.resize((int(height * ratio + 1), int(width * ratio + 1)))
            shifts_14HW, scores_12HW = self._first(reduced_HW3[None])
            rows_K, columns_K = np.nonzero(scores_12HW[0, 1] >= self._thresholds[0])
            scores_K = scores_12HW[0, 1, rows_K, columns_K]
            corners_K2 = np.stack([columns_K, rows_K], axis=1).astype(np.float32) * STRIDE_PX
            boxes_K4 = np.hstack([(corners_K2 + 1) / ratio, (corners_K2 + CELL_PX) / ratio])
            kept = _distinct(boxes_K4.astype(np.float32), scores_K, SAME_LEVEL)
            boxes.append(boxes_K4[kept])
            scores.append(scores_K[kept])
            shifts.append(shifts_14HW[0][:, rows_K, columns_K].T[kept])
            ratio *= PYRAMID_STEP
        boxes_M4, shifts_M4 = (np.concatenate(each, dtype=np.float32) for each in (boxes, shifts))
        kept = _distinct(boxes_M4, np.concatenate(scores), SAME)
        return _square(_shift(boxes_M4[kept], shifts_M4[kept]))

    def _refine(self, source: Source, size: tuple[int, ...], boxes_M4: Numbers) -> Numbers:
        """Return the squares that the second net takes for faces, moved to where it sees them."""
        windows = windows_of(boxes_M4, size)
        inside = [place for place, window in enumerate(windows) if window]
        if not inside:
            return boxes_M4[:0]
        cut = _cut(source, [window for window in windows if window], MIDDLE_PX)
        shifts_K4, scores_K2 = _ask(self._second, cut, _MIDDLE_BATCHES)
        sure = scores_K2[:, 1] >= self._thresholds[1]
        boxes_K4, shifts_K4, scores_K = boxes_M4[inside][sure], shifts_K4[sure], scores_K2[sure, 1]
        kept = _distinct(boxes_K4, scores_K, SAME)
        return _square(_shift(boxes_K4[kept], shifts_K4[kept]))


def _ask(
    net: Callable[[Pictures], tuple[Numbers, ...]], windows_NHW3: Pictures, batches: Sequence[int]
) -> list[Numbers]:
    """Return what a net says of windows, in batches of these sizes alone, the largest first."""
    said = []
    rest = windows_NHW3
    while len(rest):
        size = next((each for each in batches if each <= len(rest)), batches[-1])
        some = rest[:size]
        filled = np.resize(some, (size, *some.shape[1:])) if len(some) < size else some
        said.append([numbers[: len(some)] for numbers in net(filled)])
        rest = rest[size:]
    return [np.concatenate(parts) for parts in zip(*said, strict=True)]


def detections(
    shifts_N4: NDArray[np.float64],
    points_N10: NDArray[np.float64],
    scores_N: NDArray[np.float64],
    places: Sequence[Window],
) -> list[Detection]:
    """Return what the last net says of windows, in the pixels of what they were cut from."""
    places_N4 = np.array(places, np.float64)
    sizes_N2 = places_N4[:, 2:] - places_N4[:, :2]
    boxes_N4 = places_N4 + shifts_N4 * np.tile(sizes_N2, 2)
    xs_N5 = places_N4[:, :1] + sizes_N2[:, :1] * points_N10[:, :5]
    ys_N5 = places_N4[:, 1:2] + sizes_N2[:, 1:] * points_N10[:, 5:]
    return [
        Detection(_box(box), float(score), tuple(zip(xs.tolist(), ys.tolist(), strict=True)))
        for box, score, xs, ys in zip(boxes_N4, scores_N, xs_N5, ys_N5, strict=True)
    ]


def windows_of(boxes_N4: Numbers, size: tuple[int, ...]) -> list[Window | None]:
    """Return each box in whole pixels of the picture; None for one that lies outside."""
    height, width = size
    windows: list[Window | None] = []
    for left, top, right, bottom in np.rint(boxes_N4).astype(int).tolist():
        x0, y0, x1, y1 = max(0, left), max(0, top), min(width, right), min(height, bottom)
        windows.append((x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None)
    return windows


def drop_nested(faces: Sequence[Detection]) -> list[Detection]:
    """Return the faces, the largest first, without those that lie in a likelier one."""
    kept: list[Detection] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_share_inside(face.box_xyxy, other.box_xyxy) <= NESTED for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: -_area(face.box_xyxy))


def _distinct(boxes_N4: Numbers, scores_N: Numbers, most_overlap: float) -> list[int]:
    """Return the places of boxes that no likelier one covers, the likeliest first."""
    if not len(boxes_N4):
        return []
    corners_sizes_N4 = np.hstack([boxes_N4[:, :2], boxes_N4[:, 2:] - boxes_N4[:, :2]])
    kept = cv2.dnn.NMSBoxes(corners_sizes_N4.tolist(), scores_N.tolist(), 0.0, most_overlap)
    return [int(place) for place in kept]


def _shift(boxes_N4: Numbers, shifts_N4: Numbers) -> Numbers:
    """Return the boxes, each side moved by a share of the box's size."""
    sizes_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    return boxes_N4 + shifts_N4 * np.tile(sizes_N2, 2)


def _square(boxes_N4: Numbers) -> Numbers:
    centres_N2 = (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2
    halves_N1 = (boxes_N4[:, 2:] - boxes_N4[:, :2]).max(axis=1, keepdims=True, initial=0.0) / 2
    return np.hstack([centres_N2 - halves_N1, centres_N2 + halves_N1])


def _cut(source: Source, windows: Sequence[Window], side_px: int) -> Pictures:
    """Return the windows of the picture, each reduced or enlarged to a square."""
    return np.stack([source.resize((side_px, side_px), window) for window in windows])


def _share_inside(one: Box, other: Box) -> float:
    """Return what two boxes share, as a share of the smaller one."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min(_area(one), _area(other))
    return max(0.0, width) * max(0.0, height) / smaller if smaller > 0 else 1.0


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _box(sides_4: NDArray[np.float64]) -> Box:
    left, top, right, bottom = sides_4.tolist()
    return left, top, right, bottom
