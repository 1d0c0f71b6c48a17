"""Pictures reduced or enlarged linearly, to the very bytes that torch gives, without torch."""

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Numbers = NDArray[Any]
Box = tuple[int, int, int, int]  # left, top, right, bottom in whole pixels

_TILE = 8  # pixels of the result that one product of matrices gives
_MAX_WEIGHT, _MAX_BITS = 1 << 15, 22  # torch keeps a weight in 16 bits, one for the sign
_EXACT_BITS = 16  # up to which 255 times all weights is a whole number that 32-bit floats hold


class _Tile(NamedTuple):
    """What neighbouring pixels of the result are mixed from."""

    given: slice
    made: slice
    weights_MN: Numbers


class _Mixing(NamedTuple):
    """How rows or columns of one number of pixels become those of another."""

    size: int
    kind: type  # of numbers, wide enough to hold every sum exactly
    tiles: tuple[_Tile, ...]


class Source:
    """A picture of which several sizes or parts are wanted."""

    def __init__(self, picture_HW3: Picture) -> None:
        # Turned over: of a picture's columns as of its rows, BLAS mixes what lies far apart twice
        # as fast as what lies side by side.
        turned_WH3 = cv2.transpose(picture_HW3)
        self._columns_WH3: Numbers = turned_WH3.astype(np.float32)
        self._wide_columns_WH3: Numbers | None = None

    def resize(self, size: tuple[int, int], box: Box | None = None) -> Picture:
        """Return the picture, or its part in a box, in another size (height, width).

        The part is scaled by itself: nothing that lies beside it is mixed in.
        """
        whole_px, whole_py = self._columns_WH3.shape[:2]
        left, top, right, bottom = box or (0, 0, whole_px, whole_py)
        across, down = _mixing(right - left, size[1]), _mixing(bottom - top, size[0])
        part_kH3 = self._columns_in(across.kind)[left:right, top:bottom]
        narrow_wH3 = _mix(part_kH3, across).astype(np.uint8)
        narrow_Hw3 = cv2.transpose(narrow_wH3).astype(down.kind)
        return _mix(narrow_Hw3, down).astype(np.uint8)

    def _columns_in(self, kind: type) -> Numbers:
        if kind is np.float32:
            return self._columns_WH3
        if self._wide_columns_WH3 is None:
            self._wide_columns_WH3 = self._columns_WH3.astype(kind)
        return self._wide_columns_WH3


def resize(picture_HW3: Picture, size: tuple[int, int]) -> Picture:
    """Return the picture in another size (height, width).

    It is interpolated linearly, over all that a pixel of the result covers: antialiased where it
    shrinks. The result has the bytes of torch's `interpolate(..., mode="bilinear",
    antialias=True)` on bytes on a CPU: columns first, then rows, by whole weights, each time
    rounded. The products are of whole numbers that floats hold exactly, so that neither their order
    nor the processor matters.
    """
    if picture_HW3.shape[:2] == size:
        return np.ascontiguousarray(picture_HW3)
    return Source(picture_HW3).resize(size)


def _mix(rows_NM3: Numbers, mixing: _Mixing) -> Numbers:
    """Return rows mixed into fewer or more, of which each value is cut to a whole one."""
    if mixing.size == len(rows_NM3):
        return rows_NM3
    # Without a copy: rows of a part lie as far apart as the picture's.
    flat_NK = rows_NM3.reshape(len(rows_NM3), -1)
    made_nK: Numbers = np.empty((mixing.size, flat_NK.shape[1]), mixing.kind)
    for given, made, weights_MN in mixing.tiles:
        np.matmul(weights_MN, flat_NK[given], out=made_nK[made])
    made_nK += made_nK.dtype.type(0.5)  # so that cutting off rounds
    return made_nK.reshape(mixing.size, -1, 3)


@lru_cache(maxsize=1024)  # windows come in a few hundred sizes; the weights of one take 2 to 40 KB
def _mixing(before: int, after: int) -> _Mixing:
    """Return how a row of `before` pixels becomes one of `after`.

    The weights are those of HelperInterpLinear in torch's aten/src/ATen/native/cpu/UpSampleKernel:
    a triangle about the pixel's centre, as wide as the pixel or wider, cut off at the edges, summed
    to one, then rounded to whole multiples of the smallest power of two that 16 bits allow.
    """
    scale = before / after
    reach = max(1.0, scale)
    centre_A = scale * (np.arange(after) + 0.5)
    start_A = np.maximum(0, (centre_A - reach + 0.5).astype(np.int64))
    stop_A = np.minimum(before, (centre_A + reach + 0.5).astype(np.int64))
    given_AK = start_A[:, None] + np.arange((stop_A - start_A).max())
    triangle_AK = np.maximum(0.0, 1 - np.abs((given_AK - centre_A[:, None] + 0.5) * (1 / reach)))
    triangle_AK[given_AK >= stop_A[:, None]] = 0
    total_A = np.zeros(after)
    for triangle_A in triangle_AK.T:  # one by one, as torch adds them: the last digit counts
        total_A += triangle_A
    weights_AK = triangle_AK / total_A[:, None]
    bits, highest = 0, float(weights_AK.max())
    while bits < _MAX_BITS and int(0.5 + highest * (1 << (bits + 1))) < _MAX_WEIGHT:
        bits += 1
    kind = np.float32 if bits <= _EXACT_BITS else np.float64
    dense_AN = np.zeros((after, before + given_AK.shape[1]), kind)  # beyond the end all are 0
    whole_AK = np.floor(0.5 + weights_AK * (1 << bits)) / (1 << bits)
    dense_AN[np.arange(after)[:, None], given_AK] = whole_AK
    tiles = []
    for begin in range(0, after, _TILE):
        end = min(after, begin + _TILE)
        left, right = int(start_A[begin]), int(stop_A[begin:end].max())
        weights_MN = dense_AN[begin:end, left:right].copy()
        tiles.append(_Tile(slice(left, right), slice(begin, end), weights_MN))
    return _Mixing(after, kind, tuple(tiles))
