"""Pictures reduced or enlarged linearly, to the very bytes that torch gives, without torch."""

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Numbers = NDArray[Any]

_TILE = 16  # pixels of the result that one product of matrices gives
_ROWS = 48  # rows in a product: small enough for the cache, and for BLAS to start no thread
_MAX_WEIGHT, _MAX_BITS = 1 << 15, 22  # torch keeps a weight in 16 bits, one for the sign
_EXACT_BITS = 16  # up to which 255 times all weights is a whole number that 32-bit floats hold


class _Tile(NamedTuple):
    """What neighbouring pixels of the result are mixed from."""

    given: slice
    made: slice
    weights_KM: Numbers


class _Mixing(NamedTuple):
    """How rows or columns of one number of pixels become those of another."""

    size: int
    kind: type  # of numbers, wide enough to hold every sum exactly
    tiles: tuple[_Tile, ...]


class Source:
    """A picture that is wanted in several sizes."""

    def __init__(self, picture_HW3: Picture) -> None:
        self._picture_HW3 = picture_HW3
        self._rows: dict[type, Numbers] = {}  # by their kind of number, colours one after the other

    def resize(self, size: tuple[int, int]) -> Picture:
        """Return the picture in another size (height, width)."""
        height, width = self._picture_HW3.shape[:2]
        if (height, width) == size:
            return np.ascontiguousarray(self._picture_HW3)
        columns, rows = _mixing(width, size[1]), _mixing(height, size[0])
        narrow_H3w = self._rows_of(np.float32)
        if width != size[1]:
            narrow_H3w = _mix_columns(self._rows_of(columns.kind), columns)
        small_h3w = _mix_rows(narrow_H3w, rows) if height != size[0] else narrow_H3w
        scaled_HW3 = np.empty((*size, 3), np.uint8)
        scaled_HW3.transpose(0, 2, 1)[...] = small_h3w
        return scaled_HW3

    def _rows_of(self, kind: type) -> Numbers:
        if kind not in self._rows:
            height, width = self._picture_HW3.shape[:2]
            rows_H3W: Numbers = np.empty((height, 3, width), kind)
            for colour, plane_HW in enumerate(cv2.split(self._picture_HW3)):
                rows_H3W[:, colour] = plane_HW
            self._rows[kind] = rows_H3W
        return self._rows[kind]


def resize(picture_HW3: Picture, size: tuple[int, int]) -> Picture:
    """Return the picture in another size (height, width).

    It is interpolated linearly, over all that a pixel of the result covers: antialiased where it
    shrinks. The result has the bytes of torch's `interpolate(..., mode="bilinear",
    antialias=True)` on bytes on a CPU: columns first, then rows, by whole weights, each time
    rounded. The products are of whole numbers that floats hold exactly, so that neither their order
    nor the processor matters.
    """
    return Source(picture_HW3).resize(size)


def _mix_columns(rows_H3W: Numbers, mixing: _Mixing) -> Numbers:
    height, colours, before = rows_H3W.shape
    many_NW = rows_H3W.reshape(height * colours, before)
    made_Nw = np.empty((height * colours, mixing.size), mixing.kind)
    whole = height * colours // _ROWS * _ROWS
    for given, made, weights_KM in mixing.tiles:
        if whole:
            np.matmul(
                many_NW[:whole].reshape(-1, _ROWS, before)[..., given], weights_KM,
                out=made_Nw[:whole].reshape(-1, _ROWS, mixing.size)[..., made],
            )  # fmt: skip
        np.matmul(many_NW[whole:, given], weights_KM, out=made_Nw[whole:, made])
    return _round(made_Nw).reshape(height, colours, mixing.size)


def _mix_rows(narrow_H3w: Numbers, mixing: _Mixing) -> Numbers:
    before, colours, width = narrow_H3w.shape
    many_HN: Numbers = narrow_H3w.reshape(before, colours * width).astype(mixing.kind, copy=False)
    made_hN = np.empty((mixing.size, colours * width), mixing.kind)
    for given, made, weights_KM in mixing.tiles:
        np.matmul(weights_KM.T, many_HN[given], out=made_hN[made])
    return _round(made_hN).reshape(mixing.size, colours, width)


def _round(numbers: Numbers) -> Numbers:
    numbers += numbers.dtype.type(0.5)
    return np.floor(numbers, out=numbers)


@lru_cache(maxsize=1024)  # of windows, each size comes back; a window's weights take a few KB
def _mixing(before: int, after: int) -> _Mixing:
    """Return how a row of `before` pixels becomes one of `after`.

    The weights are those of HelperInterpLinear in torch's aten/src/ATen/native/cpu/UpSampleKernel:
    a triangle about the pixel's centre, as wide as the pixel or wider, cut off at the edges, summed
    to one, then rounded to whole multiples of the smallest power of two that 16 bits allow.
    """
    scale = before / after
    reach = max(1.0, scale)
    first, weights = [], []
    for place in range(after):
        centre = scale * (place + 0.5)
        start = max(0, int(centre - reach + 0.5))
        stop = min(before, int(centre + reach + 0.5))
        away = [(each - centre + 0.5) * (1 / reach) for each in range(start, stop)]
        triangle = [max(0.0, 1.0 - abs(each)) for each in away]
        total = sum(triangle)
        first.append(start)
        weights.append([each / total for each in triangle])
    bits, highest = 0, max(map(max, weights))
    while bits < _MAX_BITS and int(0.5 + highest * (1 << (bits + 1))) < _MAX_WEIGHT:
        bits += 1
    kind = np.float32 if bits <= _EXACT_BITS else np.float64
    tiles = []
    for begin in range(0, after, _TILE):
        end = min(after, begin + _TILE)
        left = first[begin]
        right = max(first[n] + len(weights[n]) for n in range(begin, end))
        matrix_KM = np.zeros((right - left, end - begin), kind)
        for n in range(begin, end):
            whole = [int(0.5 + each * (1 << bits)) for each in weights[n]]
            matrix_KM[first[n] - left : first[n] - left + len(whole), n - begin] = whole
        tiles.append(_Tile(slice(left, right), slice(begin, end), matrix_KM / 2**bits))
    return _Mixing(after, kind, tuple(tiles))
