"""Show the colours of HDR, wide-gamut and linear video on an ordinary screen: plain numbers.

R'G'B' of 16 bits -> light -> BT.709's primaries -> tone mapping -> R'G'B' of 8 bits, by the
formulas of ITU-R BT.2100, BT.2390 and BT.2408. The screen is BT.1886's: a pure power of 2.4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
_Kind = TypeVar("_Kind", bound=np.generic)

WHITE_NITS = 203.0  # HDR's diffuse white, shown as SDR's white: BT.2408, table 1
HLG_PEAK_NITS = 1000.0  # of BT.2100's reference display, for which HLG's gamma is 1.2
_MAX_NITS = 10_000.0  # PQ's signal of 1
_BRIGHTEST = _MAX_NITS / WHITE_NITS
_HLG_GAMMA = 1.2
_SDR_GAMMA = 2.4  # BT.1886 with a black of 0
_PIXELS_AT_ONCE = 16_384  # so that intermediate results stay in a core's cache


class Transfer(IntEnum):
    """The transfer characteristics of ITU-T H.273, table 3."""

    BT709 = 1
    UNSPECIFIED = 2
    GAMMA22 = 4
    GAMMA28 = 5
    BT601 = 6
    SMPTE240M = 7
    LINEAR = 8
    LOG_100 = 9
    LOG_316 = 10
    XVYCC = 11
    BT1361 = 12
    SRGB = 13
    BT2020_10 = 14
    BT2020_12 = 15
    PQ = 16
    SMPTE428 = 17
    HLG = 18


class Primaries(IntEnum):
    """The colour primaries of ITU-T H.273, table 2."""

    BT709 = 1
    UNSPECIFIED = 2
    BT470M = 4
    BT601_625 = 5
    BT601_525 = 6
    SMPTE240M = 7
    FILM = 8
    BT2020 = 9
    XYZ = 10
    DCI_P3 = 11
    DISPLAY_P3 = 12
    EBU3213 = 22


# x and y of red, green, blue and white: H.273, table 2.
_D65, _C, _E, _DCI = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3), (0.314, 0.351)
_XY_42 = {
    Primaries.BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    Primaries.BT470M: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    Primaries.BT601_625: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    Primaries.BT601_525: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    Primaries.SMPTE240M: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    Primaries.FILM: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    Primaries.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    Primaries.XYZ: ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), _E),
    Primaries.DCI_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _DCI),
    Primaries.DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    Primaries.EBU3213: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
# Lam, 1985; as in the profiles of the ICC.
_BRADFORD_33 = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073


def pq_to_nits(signal: Floats) -> Floats:
    """Return the light, in cd/m², of PQ's signal in [0, 1]: BT.2100, table 4."""
    power = signal ** (1 / _PQ_M2)
    share = np.maximum(power - _PQ_C1, 0) / (_PQ_C2 - _PQ_C3 * power)
    return np.asarray(_MAX_NITS * share ** (1 / _PQ_M1))


def nits_to_pq(nits: Floats) -> Floats:
    """Return PQ's signal for light of at most 10 000 cd/m²: the inverse of pq_to_nits."""
    power = (nits / _MAX_NITS) ** _PQ_M1
    return np.asarray(((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2)


def hlg_to_scene(signal: Floats) -> Floats:
    """Return the scene's light, in [0, 1], of HLG's signal in [0, 1]: BT.2100, table 5."""
    above = (np.exp((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12
    return np.where(signal <= 0.5, signal**2 / 3, above)


def tone_map(nits: Floats, peak_nits: float) -> Floats:
    """Return the light that an SDR screen with a white of 203 cd/m² shows for HDR light.

    Light below the knee is kept. Above it, a Hermite spline over PQ's signal brings peak_nits down
    to the screen's white: BT.2390-11, section 5.4.1, for a black of 0. Brighter light is white.
    """
    if peak_nits <= WHITE_NITS:
        return np.minimum(nits, WHITE_NITS)
    peak, white = nits_to_pq(np.array([peak_nits, WHITE_NITS]))
    highest = white / peak
    knee = 1.5 * highest - 0.5
    signal = nits_to_pq(np.minimum(nits, peak_nits)) / peak
    t = np.maximum(signal - knee, 0) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * highest
    )
    return np.where(signal < knee, nits, pq_to_nits(spline * peak))


def to_bt709(primaries: Primaries) -> Floats:
    """Return the matrix (3 x 3) from linear light in some primaries to BT.709's, white to white.

    It goes by CIE 1931 XYZ (SMPTE RP 177); a white other than D65 is adapted by Bradford's matrix.
    """
    from_33, white_3 = _to_xyz(primaries)
    to_33, d65_3 = _to_xyz(Primaries.BT709)
    scale_3 = (_BRADFORD_33 @ d65_3) / (_BRADFORD_33 @ white_3)
    adapt_33 = np.linalg.inv(_BRADFORD_33) @ np.diag(scale_3) @ _BRADFORD_33
    return np.asarray(np.linalg.inv(to_33) @ adapt_33 @ from_33)


def _to_xyz(primaries: Primaries) -> tuple[Floats, Floats]:
    """Return the matrix from linear RGB to XYZ, whose second row is luminance, and white's XYZ."""
    xyz_43 = np.array([(x, y, 1 - x - y) for x, y in _XY_42[primaries]])
    white_3 = xyz_43[3] / xyz_43[3, 1]
    scale_3 = np.linalg.solve(xyz_43[:3].T, white_3)
    return xyz_43[:3].T * scale_3, white_3


def _srgb_to_light(signal: Floats) -> Floats:  # IEC 61966-2-1
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _light_to_srgb(light: Floats) -> Floats:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _power(exponent: float) -> Callable[[Floats], Floats]:
    return lambda values: np.asarray(values**exponent)


# From a signal in [0, 1] to light whose SDR white is 1, without HLG's OOTF.
_TO_LIGHT: dict[Transfer, Callable[[Floats], Floats]] = {
    Transfer.PQ: lambda signal: pq_to_nits(signal) / WHITE_NITS,
    Transfer.HLG: hlg_to_scene,
    Transfer.LINEAR: lambda signal: signal,
    Transfer.SMPTE428: lambda signal: signal**2.6 * (52.37 / 48),
    Transfer.SRGB: _srgb_to_light,
    Transfer.GAMMA22: _power(2.2),
    Transfer.GAMMA28: _power(2.8),
}
# Greys of SDR stay as they are, whatever curve they are in.
_TO_SIGNAL: dict[Transfer, Callable[[Floats], Floats]] = {
    Transfer.SRGB: _light_to_srgb,
    Transfer.GAMMA22: _power(1 / 2.2),
    Transfer.GAMMA28: _power(1 / 2.8),
}


@dataclass(frozen=True)
class Mapping:
    """Turns R'G'B' of 16 bits in some transfer and primaries into 8-bit BT.709.

    white is the number that stands for a signal of 1. peak_nits is the brightest light of PQ's
    programme; HLG's is its display's, and SDR has none. A pixel's result depends on nothing but
    that pixel, so a part of a picture comes out as it does in the whole.
    """

    transfer: Transfer
    primaries: Primaries
    white: int
    peak_nits: float = HLG_PEAK_NITS

    def show(self, rgb_3HW: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Return the picture with 8 bits and channels last."""
        _, height, width = rgb_3HW.shape
        shown_HW3 = np.empty((height, width, 3), np.uint8)
        step = max(1, _PIXELS_AT_ONCE // width)
        for top in range(0, height, step):
            rows = slice(top, top + step)
            shown_HW3[rows] = np.moveaxis(self._show_rows(rgb_3HW[:, rows]), 0, 2)
        return shown_HW3

    def _show_rows(self, rgb_3HW: NDArray[np.uint16]) -> NDArray[np.uint8]:
        # Light is 1 where SDR has its white. Tables are of its square roots: dark colours need the
        # finest steps.
        light_3HW = self._light.take(rgb_3HW, mode="clip")
        seen_3HW = np.empty_like(light_3HW)
        for row_3, seen_HW in zip(self._matrix_33, seen_3HW, strict=True):
            _mix(row_3, light_3HW, out=seen_HW)
        np.maximum(seen_3HW, 0, out=seen_3HW)
        if self.transfer in (Transfer.PQ, Transfer.HLG):
            # These multiply all three colours alike, so the matrix may come before them.
            seen_3HW *= self._factors(light_3HW, seen_3HW)
        return _look_up(self._codes, np.sqrt(seen_3HW, out=seen_3HW))

    def _factors(
        self, light_3HW: NDArray[np.float32], seen_3HW: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return what HLG's OOTF and tone mapping multiply each pixel by."""
        highest_HW = np.maximum(np.maximum(seen_3HW[0], seen_3HW[1]), seen_3HW[2])
        factors_HW: NDArray[np.float32] = np.ones_like(highest_HW)
        if self.transfer == Transfer.HLG:
            luminance_HW = _mix(self._luminance_3, light_3HW, out=np.empty_like(highest_HW))
            factors_HW[:] = _look_up(self._ootf, np.sqrt(luminance_HW))
        highest_HW *= factors_HW
        factors_HW *= _look_up(self._gain, np.sqrt(highest_HW * np.float32(1 / _BRIGHTEST)))
        return factors_HW

    @cached_property
    def _light(self) -> NDArray[np.float32]:
        """By a number of 16 bits, its light; HLG's is the scene's, whose brightest is 1."""
        signal = np.minimum(np.arange(1 << 16) / self.white, 1)
        return _TO_LIGHT.get(self.transfer, _power(_SDR_GAMMA))(signal).astype(np.float32)

    @cached_property
    def _ootf(self) -> NDArray[np.float32]:
        """Table of HLG's OOTF: the factor for each scene luminance (BT.2100, table 5)."""
        factors = HLG_PEAK_NITS / WHITE_NITS * _shares(1 << 16) ** (_HLG_GAMMA - 1)
        return factors.astype(np.float32)

    @cached_property
    def _luminance_3(self) -> NDArray[np.float32]:
        return np.asarray(_to_xyz(self.primaries)[0][1], np.float32)

    @cached_property
    def _matrix_33(self) -> NDArray[np.float32]:
        return to_bt709(self.primaries).astype(np.float32)

    @cached_property
    def _gain(self) -> NDArray[np.float32]:
        """By the highest of a pixel's three colours, what all three are multiplied by."""
        peak_nits = HLG_PEAK_NITS if self.transfer == Transfer.HLG else self.peak_nits
        nits = np.maximum(_shares(1 << 15) * _MAX_NITS, 1e-6)
        return (tone_map(nits, peak_nits) / nits).astype(np.float32)

    @cached_property
    def _codes(self) -> NDArray[np.uint8]:
        """By a light, the number of 8 bits that a screen shows it for."""
        signal = _TO_SIGNAL.get(self.transfer, _power(1 / _SDR_GAMMA))(_shares(1 << 16))
        return np.rint(signal * 255).astype(np.uint8)


def _shares(size: int) -> Floats:
    """Return the shares that a table's places stand for: squares, as they are found by roots."""
    return np.linspace(0, 1, size) ** 2


def _mix(
    weights_3: NDArray[np.float32], light_3HW: NDArray[np.float32], out: NDArray[np.float32]
) -> NDArray[np.float32]:
    # Not by BLAS, whose last bits depend on where in the picture a pixel is.
    np.multiply(light_3HW[0], weights_3[0], out=out)
    out += light_3HW[1] * weights_3[1]
    out += light_3HW[2] * weights_3[2]
    return out


def _look_up(table: NDArray[_Kind], roots: NDArray[np.float32]) -> NDArray[_Kind]:
    """Return a table's nearest places for the roots of shares; above 1, its last. roots is lost."""
    last = np.float32(len(table) - 1)
    roots *= last
    roots += np.float32(0.5)
    np.minimum(roots, last, out=roots)
    found: NDArray[_Kind] = table.take(roots.astype(np.uint16), mode="clip")
    return found
