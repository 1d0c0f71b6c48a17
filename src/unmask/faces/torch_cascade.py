"""The same cascade by torch, for GPUs (owns facenet-pytorch, with mtcnn_source)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from facenet_pytorch import MTCNN
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms

from unmask.faces.cascade import (
    CELL_PX,
    LAST_PX,
    MIDDLE_PX,
    PYRAMID_STEP,
    ROUNDING,
    SAME,
    SAME_LEVEL,
    STRIDE_PX,
    Window,
    detections,
    drop_nested,
    windows_of,
)
from unmask.faces.tracks import Detection


class TorchCascade:
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
            faces = self._look(_cut(pictures_N3HW, cut, LAST_PX), [window for _, window in cut])
            for (owner, _), face in zip(cut, faces, strict=True):
                if face.score >= self._thresholds[2]:
                    found[owner].append(face)
        return [drop_nested(faces) for faces in found]

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
        return detections(shifts_N4, points_N10, scores_N2[:, 1], places)

    def _propose(self, pictures_N3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return which picture each window that may hold a face is of, and the windows."""
        height, width = pictures_N3HW.shape[2:]
        owners, boxes, scores, shifts = [], [], [], []
        scale = CELL_PX / self._min_face_px
        while min(height, width) * scale > CELL_PX - ROUNDING:
            size = int(height * scale + 1), int(width * scale + 1)
            reduced_N3HW = functional.interpolate(
                pictures_N3HW, size, mode="bilinear", antialias=True
            )
            shifts_N4HW, scores_N2HW = self._first(_normal(reduced_N3HW))
            owners_K, rows_K, columns_K = torch.nonzero(
                scores_N2HW[:, 1] >= self._thresholds[0], as_tuple=True
            )
            scores_K = scores_N2HW[owners_K, 1, rows_K, columns_K]
            corners_K2 = torch.stack([columns_K, rows_K], dim=1) * float(STRIDE_PX)
            boxes_K4 = torch.cat([(corners_K2 + 1) / scale, (corners_K2 + CELL_PX) / scale], dim=1)
            kept = batched_nms(boxes_K4, scores_K, owners_K, SAME_LEVEL)
            owners.append(owners_K[kept])
            boxes.append(boxes_K4[kept])
            scores.append(scores_K[kept])
            shifts.append(shifts_N4HW[owners_K, :, rows_K, columns_K][kept])
            scale *= PYRAMID_STEP
        owners_M, boxes_M4, shifts_M4 = torch.cat(owners), torch.cat(boxes), torch.cat(shifts)
        kept = batched_nms(boxes_M4, torch.cat(scores), owners_M, SAME)
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
        shifts_K4, scores_K2 = self._second(_normal(_cut(pictures_N3HW, cut, MIDDLE_PX)))
        owners_K, boxes_K4, scores_K = owners_M[inside], boxes_M4[inside], scores_K2[:, 1]
        sure = scores_K >= self._thresholds[1]
        owners_K, boxes_K4, scores_K = owners_K[sure], boxes_K4[sure], scores_K[sure]
        kept = batched_nms(boxes_K4, scores_K, owners_K, SAME)
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


def _windows(boxes_N4: Tensor, shape: Sequence[int]) -> list[Window | None]:
    return windows_of(boxes_N4.cpu().numpy(), tuple(shape[2:]))


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
