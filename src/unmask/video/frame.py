"""A decoded frame: upright, with square pixels, converted only where somebody asks for it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from unmask.video import colour
from unmask.video.failures import DecodeError
from unmask.video.light import Mapping

# Pixels across and down that share a colour sample, by format. At even heights swscale converts
# these pixel by pixel; otherwise it blends the colours of rows, and a cut-out would differ.
_REACH_PX = 8
_TEN_BIT = "10le"
_CHROMA_STEPS = {"yuv420p": (2, 2), "yuv422p": (2, 1), "yuv444p": (1, 1)}
# Weighs every pixel, colour at full resolution: without the second flag white comes out as 253.
_REDUCE = Interpolation.AREA | Interpolation.FULL_CHR_H_INT
_ENLARGE = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame in the decoder's pixel format: a method converts only what it returns.

    time_s counts from the first frame of the stream, as a viewer's clock does: where recordings are
    joined, it goes on. duration_s is how long the frame is shown: until the next one, or as long as
    the file says of the last one. Pictures are as they are meant to be seen: upright, with square
    pixels, in the colours that an ordinary screen shows for what is signalled.
    """

    time_s: float
    duration_s: float
    _picture: av.VideoFrame
    _pixel_ratio: float = 1.0  # width to height of a stored pixel
    _is_mirrored: bool = False  # upright means to put its rows upside down, then to turn it
    _reading: colour.Reading = colour.SHOWN_AS_STORED

    @property
    def width(self) -> int:
        """Width in pixels of the upright picture."""
        return self._sides[self._turns % 2]

    @property
    def height(self) -> int:
        """Height in pixels of the upright picture."""
        return self._sides[1 - self._turns % 2]

    @property
    def colour_doubt(self) -> str:
        """What of the signalled colours is not understood, in a sentence; "" where all is.

        Pictures then have the colours that are the likeliest.
        """
        return self._reading.doubt

    @property
    def stored_bytes(self) -> int:
        """Memory that the decoded picture takes."""
        return sum(plane.buffer_size for plane in self._picture.planes)

    @property
    def _sides(self) -> tuple[int, int]:
        """Width and height of the stored picture, its pixels made square by enlarging alone."""
        width, height, ratio = self._picture.width, self._picture.height, self._pixel_ratio
        return round(width * max(1, ratio)), round(height / min(1, ratio))

    @property
    def _turns(self) -> int:
        """Counterclockwise quarter turns that make the stored picture upright."""
        return round(self._picture.rotation / 90) % 4

    def rgb_HWC(self) -> NDArray[np.uint8]:
        """Return the whole upright picture."""
        if self._pixel_ratio == 1:
            return self._upright(self._to_rgb(self._picture))
        width, height = self._sides
        square = self._to_rgb(self._picture, width=width, height=height, interpolation=_ENLARGE)
        return self._upright(square)

    def reduced_rgb_HWC(self, max_side_px: int) -> NDArray[np.uint8]:
        """Return the upright picture with its longest side at most max_side_px, never enlarged."""
        sides = self._sides
        width, height = (max(1, round(side * min(1, max_side_px / max(sides)))) for side in sides)
        small = self._to_rgb(self._picture, width=width, height=height, interpolation=_REDUCE)
        return self._upright(small)

    def crop_rgb_HWC(self, box_xyxy: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Return the part of the upright picture inside a box that lies within the frame."""
        left, top, right, bottom = box_xyxy
        inside = 0 <= left < right <= self.width and 0 <= top < bottom <= self.height
        assert inside, f"box {box_xyxy} in a frame of {self.width}x{self.height}"
        steps = _chroma_steps(self._picture, is_blended=self._is_blended)
        if self._pixel_ratio != 1 or steps is None:
            return self.rgb_HWC()[top:bottom, left:right].copy()
        left, top, right, bottom = stored = self._stored(box_xyxy)
        widened = _widen(self._picture, stored) if self._is_blended else stored
        part, part_left, part_top = _cut_planes(self._picture, widened, steps)
        rows = slice(top - part_top, bottom - part_top)
        columns = slice(left - part_left, right - part_left)
        return self._upright(self._to_rgb(part)[rows, columns]).copy()

    def reduced_crop_rgb_HWC(
        self, box_xyxy: tuple[int, int, int, int], side_px: int
    ) -> NDArray[np.uint8]:
        """Return the part inside a box that lies within the frame, scaled to a square's side.

        It is averaged, and a pixel more or less at its edges does not matter.
        """
        steps = _chroma_steps(self._picture, is_blended=self._is_blended)
        if self._pixel_ratio != 1 or steps is None:
            part = av.VideoFrame.from_ndarray(self.crop_rgb_HWC(box_xyxy), format="rgb24")
            return _convert(part, None, width=side_px, height=side_px, interpolation=_REDUCE)
        part, _, _ = _cut_planes(self._picture, self._stored(box_xyxy), steps)
        return self._upright(
            self._to_rgb(part, width=side_px, height=side_px, interpolation=_REDUCE)
        )

    def thumbnail_HW(self) -> NDArray[np.uint8]:
        """Return the picture in 32 x 18 levels of grey, as it is stored: to tell it from others."""
        options = {"width": 32, "height": 18, "interpolation": _REDUCE}
        with _refusing(self._picture):
            return colour.to_grey(self._picture, self._reading.mapping, **options)

    def _to_rgb(self, picture: av.VideoFrame, **options: Any) -> NDArray[np.uint8]:
        return _convert(picture, self._reading.mapping, **options)

    @property
    def _is_blended(self) -> bool:
        """Whether swscale takes a pixel's colour from pixels beside it too: for 16-bit results."""
        return _sample_bytes(self._picture) == 2 or self._reading.mapping is not None

    def _stored(self, box_xyxy: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Return where a box of the upright picture lies in the stored one."""
        left, top, right, bottom = box_xyxy
        width, height = self._picture.width, self._picture.height
        match self._turns:
            case 1:
                left, top, right, bottom = width - bottom, left, width - top, right
            case 2:
                left, top, right, bottom = (
                    width - right,
                    height - bottom,
                    width - left,
                    height - top,
                )
            case 3:
                left, top, right, bottom = top, height - right, bottom, height - left
        if self._is_mirrored:
            top, bottom = height - bottom, height - top
        return left, top, right, bottom

    def _upright(self, rgb_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rows = slice(None, None, -1 if self._is_mirrored else 1)
        return np.ascontiguousarray(np.rot90(rgb_HWC[rows], self._turns))


@contextmanager
def _refusing(picture: av.VideoFrame) -> Iterator[None]:
    """Say that a picture's format can't be converted, where FFmpeg does not."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise DecodeError(
            f"Asked for the colours of a frame of {picture.width} x {picture.height} pixels, found "
            f"the format {picture.format.name}, which FFmpeg can't convert. Convert the video to "
            "H.264."
        ) from error


def _convert(picture: av.VideoFrame, mapping: Mapping | None, **options: Any) -> NDArray[np.uint8]:
    with _refusing(picture):
        return colour.to_rgb(picture, mapping, **options)


def _chroma_steps(picture: av.VideoFrame, *, is_blended: bool) -> tuple[int, int] | None:
    bottom_up = any(plane.line_size < 0 for plane in picture.planes)
    # j: full range, the same layout
    name = picture.format.name.replace("yuvj", "yuv").removesuffix(_TEN_BIT)
    # To blend them it scales colours by the whole width, which an odd one makes another ratio.
    is_odd = picture.height % 2 or (is_blended and picture.width % 2)
    return None if bottom_up or is_odd else _CHROMA_STEPS.get(name)


def _sample_bytes(picture: av.VideoFrame) -> int:
    return 2 if picture.format.name.endswith(_TEN_BIT) else 1


def _widen(
    picture: av.VideoFrame, box_xyxy: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Return the box with the pixels beside it that swscale takes colours from."""
    left, top, right, bottom = box_xyxy
    return (
        max(0, left - _REACH_PX), max(0, top - _REACH_PX),
        min(picture.width, right + _REACH_PX), min(picture.height, bottom + _REACH_PX),
    )  # fmt: skip


def _cut_planes(
    picture: av.VideoFrame, box_xyxy: tuple[int, int, int, int], chroma_steps: tuple[int, int]
) -> tuple[av.VideoFrame, int, int]:
    """Return the picture around a box, with the left and top that alignment gave it."""
    left, top = (side // 2 * 2 for side in box_xyxy[:2])
    right = min(picture.width, math.ceil(box_xyxy[2] / 2) * 2)
    bottom = math.ceil(box_xyxy[3] / 2) * 2
    part = av.VideoFrame(right - left, bottom - top, picture.format.name)
    sample_bytes = _sample_bytes(picture)
    part.colorspace, part.color_range = picture.colorspace, picture.color_range
    for index, (source, target) in enumerate(zip(picture.planes, part.planes, strict=True)):
        x, y = (left // chroma_steps[0], top // chroma_steps[1]) if index else (left, top)
        x, width = x * sample_bytes, target.width * sample_bytes
        _rows(target)[:, :width] = _rows(source)[y : y + target.height, x : x + width]
    return part, left, top


def _rows(plane: VideoPlane) -> NDArray[np.uint8]:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
