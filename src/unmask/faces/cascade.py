"""MTCNN's three nets in a row, as its paper has them (owns facenet-pytorch, which has the nets)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unmask.faces.tracks import Detection
from unmask.records import Box
from unmask.runtime.without_compiler import without_compiler

with without_compiler():
    from torchvision.ops import batched_nms
from facenet_pytorch import MTCNN

_PYRAMID_STEP = 0.709  # between two levels; about half the area
_CELL_PX, _STRIDE_PX = 12, 2  # of the first net's windows, in the picture it is given
_ROUNDING = 1e-6  # 12 / 47 * 47 is a little less than 12 in floating point
_MIDDLE_PX, _LAST_PX = 24, 48  # the sides of what the second and the last net look at
_SAME_LEVEL, _SAME, _NESTED = 0.5, 0.7, 0.7  # overlaps from which two boxes are one face


class Cascade:
    """The nets of MTCNN (Zhang et al., 2016, arXiv:1604.02878), trained.

    facenet-pytorch 2.6.0 has the nets and the weights; its own search reduces pictures and windows
    by area pooling, one window after the other, in half of its time on a CPU. This one reduces
    bytes, by linear interpolation over the area, and finds the same faces.
    """

    def __init__(
        self, *, min_face_px: int, thresholds: tuple[float, float, float], device: str
    ) -> None:
        self._device = torch.device(device)
        whole = MTCNN(post_process=False, device=self._device).eval()
        nets: list[Any] = [whole.pnet, whole.rnet, whole.onet]
        # Pooling takes half of a net's time on a CPU in the other layout.
        self._first, self._second, self._last = (
            net.to(memory_format=torch.channels_last) for net in nets
        )
        self._min_face_px = min_face_px
        self._thresholds = thresholds

    @torch.inference_mode()
    def search(self, pictures_NHW3: NDArray[np.uint8]) -> list[list[Detection]]:
        """Return the faces of each RGB picture, the largest first."""
        pictures_N3HW = torch.from_numpy(pictures_NHW3).to(self._device).permute(0, 3, 1, 2)
        if self._device.type != "cpu":  # bytes are interpolated on CPUs alone
            pictures_N3HW = pictures_N3HW.float()
        owners_M, boxes_M4 = self._propose(pictures_N3HW)
        owners_M, boxes_M4 = self._refine(pictures_N3HW, owners_M, boxes_M4)
        windows, owners = _windows(boxes_M4, pictures_N3HW.shape), owners_M.tolist()
        found: list[list[Detection]] = [[] for _ in pictures_NHW3]
        cut = [(owner, window) for owner, window in zip(owners, windows, strict=True) if window]
        if cut:
            faces = self._look(_cut(pictures_N3HW, cut, _LAST_PX), [window for _, window in cut])
            for (owner, _), face in zip(cut, faces, strict=True):
                if face.score >= self._thresholds[2]:
                    found[owner].append(face)
        return [_drop_nested(faces) for faces in found]

    @torch.inference_mode()
    def look(
        self, windows_NHW3: NDArray[np.uint8], places: Sequence[tuple[int, int, int, int]]
    ) -> list[Detection]:
        """Return the face in each window of 48 x 48, by where the window lies."""
        windows_N3HW = torch.from_numpy(windows_NHW3).to(self._device).permute(0, 3, 1, 2)
        return self._look(windows_N3HW, places)

    def _look(
        self, windows_N3HW: Tensor, places: Sequence[tuple[int, int, int, int]]
    ) -> list[Detection]:
        outputs = self._last(_normal(windows_N3HW))
        shifts_N4, points_N10, scores_N2 = (each.double().cpu().numpy() for each in outputs)
        places_N4 = np.array(places, np.float64)
        sizes_N2 = places_N4[:, 2:] - places_N4[:, :2]
        boxes_N4 = places_N4 + shifts_N4 * np.tile(sizes_N2, 2)
        xs_N5 = places_N4[:, :1] + sizes_N2[:, :1] * points_N10[:, :5]
        ys_N5 = places_N4[:, 1:2] + sizes_N2[:, 1:] * points_N10[:, 5:]
        return [
            Detection(_box(box), float(score), tuple(zip(xs.tolist(), ys.tolist(), strict=True)))
            for box, score, xs, ys in zip(boxes_N4, scores_N2[:, 1], xs_N5, ys_N5, strict=True)
        ]

    def _propose(self, pictures_N3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return which picture each window that may hold a face is of, and the windows."""
        height, width = pictures_N3HW.shape[2:]
        owners, boxes, scores, shifts = [], [], [], []
        scale = _CELL_PX / self._min_face_px
        while min(height, width) * scale > _CELL_PX - _ROUNDING:
            size = int(height * scale + 1), int(width * scale + 1)
            reduced_N3HW = functional.interpolate(
                pictures_N3HW, size, mode="bilinear", antialias=True
            )
            shifts_N4HW, scores_N2HW = self._first(_normal(reduced_N3HW))
            owners_K, rows_K, columns_K = torch.nonzero(
                scores_N2HW[:, 1] >= self._thresholds[0], as_tuple=True
            )
            scores_K = scores_N2HW[owners_K, 1, rows_K, columns_K]
            corners_K2 = torch.stack([columns_K, rows_K], dim=1) * float(_STRIDE_PX)
            boxes_K4 = torch.cat([(corners_K2 + 1) / scale, (corners_K2 + _CELL_PX) / scale], dim=1)
            kept = batched_nms(boxes_K4, scores_K, owners_K, _SAME_LEVEL)
            owners.append(owners_K[kept])
            boxes.append(boxes_K4[kept])
            scores.append(scores_K[kept])
            shifts.append(shifts_N4HW[owners_K, :, rows_K, columns_K][kept])
            scale *= _PYRAMID_STEP
        owners_M, boxes_M4, shifts_M4 = torch.cat(owners), torch.cat(boxes), torch.cat(shifts)
        kept = batched_nms(boxes_M4, torch.cat(scores), owners_M, _SAME)
        return owners_M[kept], _square(_shift(boxes_M4[kept], shifts_M4[kept]))

    def _refine(
        self, pictures_N3HW: Tensor, owners_M: Tensor, boxes_M4: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the windows that the second net takes for faces, moved to where it sees them."""
        windows = _windows(boxes_M4, pictures_N3HW.shape)
        inside = [n for n, window in enumerate(windows) if window]
        if not inside:
            return owners_M[:0], boxes_M4[:0]
        owners = owners_M.tolist()
        cut = [(owners[n], window) for n in inside if (window := windows[n])]
        shifts_K4, scores_K2 = self._second(_normal(_cut(pictures_N3HW, cut, _MIDDLE_PX)))
        owners_K, boxes_K4, scores_K = owners_M[inside], boxes_M4[inside], scores_K2[:, 1]
        sure = scores_K >= self._thresholds[1]
        owners_K, boxes_K4, scores_K = owners_K[sure], boxes_K4[sure], scores_K[sure]
        kept = batched_nms(boxes_K4, scores_K, owners_K, _SAME)
        return owners_K[kept], _square(_shift(boxes_K4[kept], shifts_K4[sure][kept]))


def _normal(pixels_N3HW: Tensor) -> Tensor:
    scaled = (pixels_N3HW.float() - 127.5) / 128
    return scaled.contiguous(memory_format=torch.channels_last)


def _shift(boxes_N4: Tensor, shifts_N4: Tensor) -> Tensor:
    """Return the boxes, each side moved by a share of the box's size."""
    sizes_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    return boxes_N4 + shifts_N4 * sizes_N2.repeat(1, 2)


def _square(boxes_N4: Tensor) -> Tensor:
    centres_N2 = (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2
    halves_N1 = (boxes_N4[:, 2:] - boxes_N4[:, :2]).amax(dim=1, keepdim=True) / 2
    return torch.cat([centres_N2 - halves_N1, centres_N2 + halves_N1], dim=1)


def _windows(boxes_N4: Tensor, shape: Sequence[int]) -> list[tuple[int, int, int, int] | None]:
    """Return each box in whole pixels of the picture; None for one that lies outside."""
    height, width = shape[2:]
    windows: list[tuple[int, int, int, int] | None] = []
    for left, top, right, bottom in boxes_N4.round().int().tolist():
        x0, y0, x1, y1 = max(0, left), max(0, top), min(width, right), min(height, bottom)
        windows.append((x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None)
    return windows


def _cut(
    pictures_N3HW: Tensor, windows: Sequence[tuple[int, tuple[int, int, int, int]]], side_px: int
) -> Tensor:
    """Return the windows of the pictures that own them, each reduced or enlarged to a square."""
    parts = []
    for owner, (left, top, right, bottom) in windows:
        part_13HW = pictures_N3HW[owner : owner + 1, :, top:bottom, left:right]
        parts.append(
            functional.interpolate(part_13HW, (side_px, side_px), mode="bilinear", antialias=True)
        )
    return torch.cat(parts)


def _drop_nested(faces: Sequence[Detection]) -> list[Detection]:
    """Return the faces, the largest first, without those that lie in a likelier one."""
    kept: list[Detection] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_share_inside(face.box_xyxy, other.box_xyxy) <= _NESTED for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: -_area(face.box_xyxy))


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
