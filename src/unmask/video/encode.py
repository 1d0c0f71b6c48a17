"""Encode frames as H.264."""

import os
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from unmask.runtime.disk import create, give_name, new_name, writing
from unmask.video import colour
from unmask.video.light import Primaries, Transfer


class VideoWriter:
    """Encodes frames into an H.264 mp4 that gets its name only once it is whole.

    The same frames and arguments give the same bytes. Used in a `with`, an exception discards it.
    Frames are written, and signalled, in the matrix that players take for unsignalled video of
    their size: BT.709 for HD, else BT.601.

    Raises:
        DiskError: the disk takes no more, in any of the methods that write.
    """

    def __init__(
        self,
        path: Path,
        *,
        rate_fps: float,
        crf: float,
        preset: str = "veryfast",
        metadata: dict[str, str] | None = None,
    ) -> None:
        self.frames_written = 0
        self._path = path
        self._part = new_name(path, "part")
        self._rate = Fraction(rate_fps).limit_denominator(1001)  # 29.97... is 30000/1001
        # Without macroblock-tree: x264's AVX-512 code for it, with B-frames, gave other bytes from
        # encode to encode (11 results of 30 encodes of the same frames); files grow by 15 %.
        self._codec_options = {"crf": str(crf), "preset": preset, "mbtree": "0"}
        self._open = True
        self._to_yuv = VideoReformatter()  # one for all frames: a frame's own begins anew each time
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with writing(path):
            os.close(create(self._part))  # FFmpeg would follow a link
            self._container = av.open(
                f"file:{self._part}", "w", format="mp4", container_options=options
            )
        self._container.metadata.update(metadata or {})

    def write(self, frame_HWC: NDArray[np.uint8]) -> None:
        """Encode one RGB frame; the first one sets the size, which must be even."""
        height, width, _ = frame_HWC.shape
        if not self.frames_written:
            self._add_stream(width, height)
        size = self._stream.width, self._stream.height
        assert (width, height) == size, f"frame of {width}x{height} in a video of {size}"
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
        picture = self._to_yuv.reformat(
            picture,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709 if self._is_hd else Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        picture.pts, picture.time_base = self.frames_written, 1 / self._rate
        with writing(self._path):
            self._mux(picture)
        self.frames_written += 1

    def close(self) -> None:
        """Finish the file and give it its name; does nothing after discard."""
        if not self._open:
            return
        try:
            assert self.frames_written, f"{self._path}: a video needs a frame"
            with writing(self._path):
                self._mux(None)
                self._container.close()
                give_name(self._part, self._path)
        finally:
            self.discard()

    def discard(self) -> None:
        """Leave no temporary file behind; does nothing after close."""
        if self._open:
            self._open = False
            try:
                with suppress(OSError):  # a full disk, once more: nobody wants the rest
                    self._container.close()
            finally:
                self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _add_stream(self, width: int, height: int) -> None:
        assert width % 2 == 0 == height % 2, f"yuv420p needs even sides, got {width}x{height}"
        self._stream = self._container.add_stream(
            "libx264", self._rate, options=self._codec_options
        )
        self._stream.width, self._stream.height = width, height
        matrix = colour.default_matrix(width, height)
        self._is_hd = matrix == colour.Matrix.BT709
        self._stream.colorspace, self._stream.color_range = matrix, ColorRange.MPEG
        if self._is_hd:
            self._stream.color_primaries = Primaries.BT709
            self._stream.color_trc = Transfer.BT709
        self._stream.thread_count = 1  # the bytes depend on how many threads share the work
        # Messages of type 6 carry x264's version and settings into every file.
        self._strip = av.BitStreamFilterContext("filter_units=remove_types=6", self._stream)

    def _mux(self, picture: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(picture):
            self._container.mux(self._strip.filter(packet))
        if picture is None:
            self._container.mux(self._strip.filter(None))


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    rate_fps: float,
    crf: float,
    preset: str = "veryfast",
    metadata: dict[str, str] | None = None,
) -> int:
    """Return the number of frames that went into an H.264 mp4, as VideoWriter makes it."""
    with VideoWriter(path, rate_fps=rate_fps, crf=crf, preset=preset, metadata=metadata) as writer:
        for frame_HWC in frames:
            writer.write(frame_HWC)
    return writer.frames_written
