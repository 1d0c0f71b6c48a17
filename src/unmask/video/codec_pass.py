"""Pictures as a video codec leaves them, without a file between."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Codec = Literal["h264", "mpeg4"]

_ENCODERS = {"h264": "libx264", "mpeg4": "mpeg4"}
_RATE_FPS = 25


def recode_last(pictures: Sequence[Picture], codec: Codec, quality: int) -> Picture:
    """Return the last picture after all have been encoded, in order, and decoded.

    It is predicted from those before it, as most pictures of a video are. pictures are RGB, of one
    size with even sides. quality is H.264's crf (0 to 51) or MPEG-4's quantiser (1 to 31): more is
    worse. The same arguments give the same picture.
    """
    height, width, _ = pictures[0].shape
    assert width % 2 == 0 == height % 2, f"yuv420p needs even sides, got {width}x{height}"
    encoder = av.CodecContext.create(_ENCODERS[codec], "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, _RATE_FPS)
    encoder.thread_count = 1  # what comes out depends on how many threads share the work
    # Without B-frames the last picture in time is predicted too; macroblock-tree: see encode.py.
    encoder.options = (
        {"crf": str(quality), "preset": "veryfast", "mbtree": "0", "bf": "0"}
        if codec == "h264"
        else {"qmin": str(quality), "qmax": str(quality)}
    )
    packets = []
    for index, picture_HWC in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), format="rgb24")
        frame = frame.reformat(format="yuv420p", threads=1)
        frame.pts, frame.time_base = index, encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    decoded = [frame for packet in packets for frame in decoder.decode(packet)]
    decoded += decoder.decode(None)
    assert len(decoded) == len(pictures), f"{len(decoded)} of {len(pictures)} pictures came back"
    return np.asarray(decoded[-1].to_ndarray(format="rgb24"), np.uint8)
