"""Decode videos by timestamp and encode crops."""

import logging
import math
import os
import re
import stat
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from queue import Queue
from threading import Event, Semaphore, Thread
from typing import Any, Self, TypeAlias

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from unmask.errors import UnmaskError
from unmask.records import Reason
from unmask.runtime.disk import create, give_name, new_name, writing

_log = logging.getLogger(__name__)

# Videos, and nothing that FFmpeg also opens: pictures, subtitles, play lists that name other files.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,mxf,gif,rm,dv,nut,ivf,yuv4mpegpipe,"
    "h264,hevc,obu,mpegvideo,m4v"  # a stream without a container
)
# 8K as cinemas have it, on whole blocks of 64. A damaged header asks for gigabytes a frame.
_MAX_PIXELS = 8192 * 4352
# Half of Matroska's millisecond: a tick at 1/15 s shows the frame that is written as 0.067 s.
_TOLERANCE_S = 0.0005
# Pixels across and down that share a colour sample, by format. At even heights swscale converts
# these pixel by pixel; otherwise it blends the colours of rows, and a cut-out would differ.
_REACH_PX = 8
_TEN_BIT = "10le"
_CHROMA_STEPS = {"yuv420p": (2, 2), "yuv422p": (2, 1), "yuv444p": (1, 1)}
# Weighs every pixel, colour at full resolution: without the second flag white comes out as 253.
_REDUCE = Interpolation.AREA | Interpolation.FULL_CHR_H_INT
_AHEAD_FRAMES, _AHEAD_BYTES = 16, 48 * 2**20  # decoded before they are asked for
_ENLARGE = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT
# Tapes have 8/9 to 16/11, and twice that where every other column was left out.
_MAX_PIXEL_RATIO, _NEARLY_SQUARE = 4, 0.02
# By offset, how videos begin that may not open once they are cut off: MP4 and MOV, whose index is
# often at the end, Matroska and WebM, AVI, ASF, FLV, MPEG-TS.
_BEGINNINGS = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (4, b"skip"),
    (0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (0, b"0&\xb2u\x8ef\xcf\x11"), (0, b"FLV\x01"),
    (0, b"G@"),
)  # fmt: skip
# FFmpeg's numbers of those that swscale converts.
_COLORSPACES, _UNSPECIFIED_COLORSPACE, _COLOR_RANGES = (0, 1, 2, 4, 5, 6, 7, 9), 2, (0, 1, 2)
_AVCOL_SPC_SMPTE170M = 6  # FFmpeg's number for BT.601; PyAV names only swscale's numbers


class DecodeError(UnmaskError):
    """A file gave no frame, or stopped giving them; reason is what a row says of it."""

    # Both are optional here, as unpickling passes the message alone, then sets what else there is.
    def __init__(self, message: str, *, reason: Reason = Reason.UNREADABLE) -> None:
        super().__init__(message)
        self.reason = reason


class TruncatedError(DecodeError):
    """Frames came, then stopped before the file's declared end; last_s is where they stopped."""

    def __init__(self, message: str, *, last_s: float = 0.0) -> None:
        super().__init__(message, reason=Reason.TRUNCATED)
        self.last_s = last_s


@dataclass(frozen=True)
class Info:
    """What a file says of its video; sizes are Frame's, upright after the turn rotation_deg.

    The turn is clockwise; a mirrored picture is put upside down before it.
    """

    width: int
    height: int
    duration_s: float | None
    rate_fps: float | None
    codec: str
    rotation_deg: int


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame in the decoder's pixel format: a method converts only what it returns.

    time_s counts from the first frame of the stream; duration_s is how long the file shows it.
    Pictures are as they are meant to be seen: upright, with square pixels.
    """

    time_s: float
    duration_s: float
    _picture: av.VideoFrame
    _pixel_ratio: float = 1.0  # width to height of a stored pixel
    _is_mirrored: bool = False  # upright means to put its rows upside down, then to turn it

    @property
    def width(self) -> int:
        """Width in pixels of the upright picture."""
        return self._sides[self._turns % 2]

    @property
    def height(self) -> int:
        """Height in pixels of the upright picture."""
        return self._sides[1 - self._turns % 2]

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
            return self._upright(_to_rgb(self._picture))
        width, height = self._sides
        square = _to_rgb(self._picture, width=width, height=height, interpolation=_ENLARGE)
        return self._upright(square)

    def reduced_rgb_HWC(self, max_side_px: int) -> NDArray[np.uint8]:
        """Return the upright picture with its longest side at most max_side_px, never enlarged."""
        sides = self._sides
        width, height = (max(1, round(side * min(1, max_side_px / max(sides)))) for side in sides)
        small = _to_rgb(self._picture, width=width, height=height, interpolation=_REDUCE)
        return self._upright(small)

    def crop_rgb_HWC(self, box_xyxy: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Return the part of the upright picture inside a box that lies within the frame."""
        left, top, right, bottom = box_xyxy
        inside = 0 <= left < right <= self.width and 0 <= top < bottom <= self.height
        assert inside, f"box {box_xyxy} in a frame of {self.width}x{self.height}"
        steps = _chroma_steps(self._picture)
        if self._pixel_ratio != 1 or steps is None:
            return self.rgb_HWC()[top:bottom, left:right].copy()
        left, top, right, bottom = stored = self._stored(box_xyxy)
        part, part_left, part_top = _cut_planes(self._picture, _widen(self._picture, stored), steps)
        rows = slice(top - part_top, bottom - part_top)
        columns = slice(left - part_left, right - part_left)
        return self._upright(_to_rgb(part)[rows, columns]).copy()

    def reduced_crop_rgb_HWC(
        self, box_xyxy: tuple[int, int, int, int], side_px: int
    ) -> NDArray[np.uint8]:
        """Return the part inside a box that lies within the frame, scaled to a square's side.

        It is averaged, and a pixel more or less at its edges does not matter.
        """
        steps = _chroma_steps(self._picture)
        if self._pixel_ratio != 1 or steps is None:
            part = av.VideoFrame.from_ndarray(self.crop_rgb_HWC(box_xyxy), format="rgb24")
            return _to_rgb(part, width=side_px, height=side_px, interpolation=_REDUCE)
        part, _, _ = _cut_planes(self._picture, self._stored(box_xyxy), steps)
        return self._upright(_to_rgb(part, width=side_px, height=side_px, interpolation=_REDUCE))

    def thumbnail_HW(self) -> NDArray[np.uint8]:
        """Return the picture in 32 x 18 levels of grey, as it is stored: to tell it from others."""
        return _convert(self._picture, "gray", width=32, height=18, interpolation=_REDUCE)

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


def probe(path: Path) -> Info:
    """Return what the file says of its video; its first frame is decoded to make sure of it.

    Raises:
        DecodeError: no such file, not a video, or no frame decodes.
    """
    with open_file(path) as container:
        stream = find_pictures(container, path)
        try:
            frame = next(_decode(container, stream, path))
        except (StopIteration, av.error.FFmpegError) as error:
            raise _refuse(path, "none that decodes") from error
        rate = stream.average_rate or stream.guessed_rate
        return Info(
            width=frame.width,
            height=frame.height,
            duration_s=_declared_s(container, stream),
            rate_fps=float(rate) if rate else None,
            codec=stream.codec_context.codec.canonical_name,
            rotation_deg=-90 * frame._turns % 360,
        )


def read_frames(path: Path, *, rate_fps: float | None = None) -> Iterator[Frame]:
    """Yield the frames of a video in order of time, decoding as they are taken.

    With rate_fps, only the frame shown at each tick k / rate_fps: the last one that starts no
    later than half a millisecond after it. A frame shown at several ticks is yielded once.

    Raises:
        DecodeError: no such file, not a video, or no frame decodes.
        TruncatedError: after the last frame, where decoding broke off or ended more than 1 s and
            a fifth before the declared end.
    """
    shown: Frame | None = None  # on screen until the next one starts
    covered, broken = 0, None
    with open_file(path) as container:
        stream = find_pictures(container, path)
        try:
            for frame in _decode(container, stream, path, rate_fps=rate_fps):
                if shown is not None:
                    ticks = _count_ticks(frame.time_s, rate_fps)
                    if rate_fps is None or ticks > covered:
                        yield shown
                    covered = ticks
                shown = frame
        except av.error.FFmpegError as error:
            broken = error
        declared_s = _declared_s(container, stream) or 0.0
    if shown is None:
        raise _refuse(path, "none that decodes") from broken
    end_s = shown.time_s + shown.duration_s
    if rate_fps is None or _count_ticks(end_s, rate_fps) > covered:
        yield shown
    if broken or end_s < min(0.8 * declared_s, declared_s - 1):
        declared = f"{declared_s:.2f} s" if declared_s else "an unknown length"
        found = f"that they end at {end_s:.2f} s of {declared}"
        raise TruncatedError(str(_refuse(path, found)), last_s=end_s) from broken


def read_keyframes(path: Path) -> Iterator[Frame]:
    """Yield the frames that decode without any other, a small part of most videos.

    Times count from the first keyframe. What decodes before the file breaks off is yielded.

    Raises:
        DecodeError: no such file, not a video, or no keyframe decodes.
    """
    found, broken = False, None
    with open_file(path) as container:
        stream = find_pictures(container, path)
        stream.codec_context.skip_frame = "NONKEY"
        try:
            for frame in _decode(container, stream, path):
                found = True
                yield frame
        except av.error.FFmpegError as error:
            broken = error
    if not found:
        raise _refuse(path, "none that decodes") from broken


def read_ahead(frames: Iterator[Frame]) -> Generator[Frame]:
    """Yield the frames while a thread already takes the next ones; an error comes in its place.

    Decoding leaves Python's lock, so whoever takes these frames works at the same time.
    """
    waiting: Queue[Frame | Exception | None] = Queue()
    room = Semaphore(_AHEAD_FRAMES)
    is_over = Event()

    def take() -> None:
        try:
            for frame in frames:
                # A large frame takes the room of several.
                for _ in range(_share_of_room(frame)):
                    room.acquire()
                if is_over.is_set():
                    return
                waiting.put(frame)
            waiting.put(None)
        except Exception as error:  # noqa: BLE001 - raised again below, whatever it is
            waiting.put(error)

    thread = Thread(target=take, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, Exception):
                raise item
            room.release(_share_of_room(item))
            yield item
    finally:
        is_over.set()
        room.release(_AHEAD_FRAMES)
        thread.join()


def _share_of_room(frame: Frame) -> int:
    share = math.ceil(_AHEAD_FRAMES * frame.stored_bytes / _AHEAD_BYTES)
    return min(_AHEAD_FRAMES, share)


def _count_ticks(until_s: float, rate_fps: float | None) -> int:
    """Return how many ticks, counted from 0 s, come before a frame that starts at until_s."""
    return 0 if rate_fps is None else math.ceil((until_s - _TOLERANCE_S) * rate_fps)


def _refuse(
    path: Path,
    found: str,
    do: str = "Download it again or leave it out",
    *,
    reason: Reason = Reason.UNREADABLE,
) -> DecodeError:
    message = f"{path}: asked for the frames of a video, found {found}. {do}."
    return DecodeError(message, reason=reason)


def _read_beginning(path: Path) -> bytes:
    """Return a file's first bytes, or refuse what is none: to open a pipe waits for its writer."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            found = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
            raise _refuse(path, found, "Leave it out", reason=Reason.NOT_A_VIDEO)
        with path.open("rb") as file:
            beginning = file.read(12)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _refuse(path, "no file there", "Check the path", reason=Reason.MISSING) from error
    except PermissionError as error:
        do = "Give this user the right to read it"
        raise _refuse(path, "one that may not be read", do, reason=Reason.FORBIDDEN) from error
    except OSError as error:  # a link to itself, a disk that fails
        raise _refuse(path, f"none that can be read ({error.strerror})") from error
    if not beginning:
        raise _refuse(path, "an empty file", reason=Reason.EMPTY)
    return beginning


def open_file(path: Path) -> InputContainer:
    """Open a file as FFmpeg does, if it is one of the kinds that are taken for a video.

    Raises:
        DecodeError: no such file, not a video.
    """
    beginning = _read_beginning(path)
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    try:
        # Without "file:", a colon in a name makes what is before it a protocol.
        return av.open(
            f"file:{path}", mode="r", container_options=options, metadata_errors="replace",
            options=_limit_size(),
        )  # fmt: skip
    except av.error.FFmpegError as error:
        found = f"no whole video file ({error.strerror})"
        is_part = any(beginning.startswith(magic, at) for at, magic in _BEGINNINGS)
        reason = Reason.UNREADABLE if is_part else Reason.NOT_A_VIDEO
        raise _refuse(path, found, reason=reason) from error


def _limit_size() -> dict[str, str]:
    return {"max_pixels": str(_MAX_PIXELS)}


def find_pictures(container: InputContainer, path: Path) -> VideoStream:
    """Return the stream of pictures, ready to be decoded.

    Raises:
        DecodeError: there is none; its codec is not known; its pictures are too large.
    """
    # The cover picture of a song is a video stream too.
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        found = f"no video stream, only {' and '.join(kinds) or 'an empty container'}"
        # An MP4 whose index is cut short has no stream, or one that it does not say the kind of.
        reason = Reason.UNREADABLE if set(kinds) <= {"data"} else Reason.NOT_A_VIDEO
        raise _refuse(path, found, reason=reason)
    if streams[0].codec_context is None:
        raise _refuse(path, "a codec that this FFmpeg does not know", "Convert it to H.264")
    width, height = streams[0].codec_context.width, streams[0].codec_context.height
    if width * height > _MAX_PIXELS:
        raise _refuse(path, f"frames of {width} x {height} pixels", "Reduce them to 8K at most")
    streams[0].codec_context.thread_type = "AUTO"
    streams[0].codec_context.options = _limit_size()  # later frames may have another size
    return streams[0]


def _pixel_ratio(stream: VideoStream) -> float:
    """Return the width of a stored pixel to its height; 1 where the file says nothing or nonsense.

    Also 1 where a pixel is nearly square: encoders write 405:404 for a size they rounded, and to
    scale by that would only blur the traces of a forger.
    """
    ratio = float(stream.sample_aspect_ratio or 1)
    is_nonsense = not 1 / _MAX_PIXEL_RATIO <= ratio <= _MAX_PIXEL_RATIO
    return 1.0 if is_nonsense or abs(ratio - 1) < _NEARLY_SQUARE else ratio


def _declared_s(container: InputContainer, stream: VideoStream) -> float | None:
    unit_s = stream.time_base or Fraction(0)
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # its duration is of what is there
    if stream.duration:
        return float(stream.duration * unit_s)
    # Matroska and FLV count from 0 s on, whenever the video starts. Matroska's header has the end
    # of the longest stream, often the sound; the video's own is in a tag.
    start_s = max(0.0, float((stream.start_time or 0) * unit_s))
    if tag := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = tag.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start_s
    return container.duration / av.time_base - start_s if container.duration else None


def _decode(
    container: InputContainer, stream: VideoStream, path: Path, *, rate_fps: float | None = None
) -> Iterator[Frame]:
    """Yield frames with rising times; raise FFmpegError where the file stops being readable.

    With rate_fps, frames that are shown at no tick may be left out.
    """
    # AVI stores no times: with B-frames its pts come in decoding order, its dts do not.
    by_dts = container.format.name == "avi"
    step_s = 1 / (stream.guessed_rate or stream.average_rate or Fraction(25))
    unit_s = stream.time_base or step_s
    pixel_ratio = _pixel_ratio(stream)
    first_s: Fraction | None = None  # what the file calls 0 s
    last_s = -step_s
    skipper = _Skipper(stream, unit_s, rate_fps) if rate_fps and not by_dts else None
    turn_deg, is_mirrored = math.nan, False
    for picture in _decode_pictures(container, stream, path, skipper):
        stamp = picture.dts if by_dts else picture.pts
        time_s = last_s + step_s
        if stamp is not None:
            if first_s is None:  # frames before this one may have no time
                first_s = stamp * unit_s - time_s
                if skipper:
                    skipper.start(first_s)
            time_s = stamp * unit_s - first_s
        if time_s <= last_s:
            continue
        last_s = time_s
        duration_s = picture.duration * unit_s
        if duration_s < 2 * _TOLERANCE_S:  # unknown: some writers put a single time unit
            duration_s = step_s
        _forget_odd_colours(picture)
        # Once a turn: a picture asked for its side data is freed only by the garbage collector.
        if picture.rotation != turn_deg:
            turn_deg, is_mirrored = picture.rotation, _is_mirrored(picture)
        yield Frame(float(time_s), float(duration_s), picture, pixel_ratio, is_mirrored)


def _is_mirrored(picture: av.VideoFrame) -> bool:
    found: Any = picture.side_data.get("DISPLAYMATRIX")  # PyAV's stub lacks this key
    if found is None:
        return False
    a, b, _, c, d = map(float, np.frombuffer(found, np.int32)[:5])
    return a * d < b * c


_Packet: TypeAlias = "av.Packet[VideoStream]"  # generic in its stub alone


class _Skipper:
    """Tells the decoder which frames it need not decode: shown at no tick, used by no other frame.

    Two of three frames of a video with B-frames at 30 frames/s are not cropped at 10, and half of
    these are used by no other. Which frame is next on the screen is seen in the packets around one:
    codecs reorder by 16 frames at most.
    """

    _AROUND = 24  # packets

    def __init__(self, stream: VideoStream, unit_s: Fraction, rate_fps: float) -> None:
        self._context = stream.codec_context
        self._unit_s, self._rate_fps = unit_s, rate_fps
        self._first_s: Fraction | None = None
        self._before: deque[int] = deque(maxlen=self._AROUND)  # times of packets gone by

    def start(self, first_s: Fraction) -> None:
        """Count ticks from this time on; before, nothing is skipped."""
        self._first_s = first_s

    def order(self, packets: Iterable[_Packet]) -> Iterator[_Packet]:
        """Yield the packets, each after the decoder was told what to do with it."""
        waiting: deque[_Packet] = deque()
        broken = None
        try:
            for packet in packets:
                waiting.append(packet)
                if len(waiting) > self._AROUND:
                    yield self._tell(waiting)
        except av.error.FFmpegError as error:
            broken = error
        while waiting:
            yield self._tell(waiting)
        if broken:
            raise broken

    def _tell(self, waiting: deque[_Packet]) -> _Packet:
        packet = waiting.popleft()
        self._context.skip_frame = "DEFAULT" if self._is_needed(packet, waiting) else "NONREF"
        if packet.pts is not None:
            self._before.append(packet.pts)
        return packet

    def _is_needed(self, packet: _Packet, waiting: deque[_Packet]) -> bool:
        first_s = self._first_s
        if first_s is None or packet.pts is None or not packet.size:
            return True
        ahead = [other.pts for other in waiting]
        later = [t for t in (*self._before, *ahead) if t is not None and t > packet.pts]
        if None in ahead or not later:
            return True
        start, end = (float(t * self._unit_s - first_s) for t in (packet.pts, min(later)))
        return _count_ticks(end, self._rate_fps) > _count_ticks(start, self._rate_fps)


def _demux(container: InputContainer, stream: VideoStream) -> Iterator[_Packet]:
    for packet in container.demux(stream):
        yield packet
        # The empty one that drains the decoder: PyAV goes on to streams that appeared since, and
        # fails.
        if not packet.buffer_ptr:
            return


def _decode_pictures(
    container: InputContainer, stream: VideoStream, path: Path, skipper: _Skipper | None
) -> Iterator[av.VideoFrame]:
    # "Corrupt" is a packet that the end of the file cuts short: half of its picture would be grey.
    # MPEG-TS says so of a whole packet, too, where two recordings join.
    joins = container.format.name == "mpegts"
    skipped = 0
    packets = _demux(container, stream)
    try:
        for packet in skipper.order(packets) if skipper else packets:
            try:
                pictures = [] if packet.is_corrupt and not joins else packet.decode()
            except av.error.InvalidDataError:
                pictures = []
                skipped += 1
            yield from pictures
    except av.error.FFmpegError:
        yield from stream.decode(None)
        raise
    if skipped:
        _log.warning("%s: skipped %d damaged packets", path, skipped)


def _forget_odd_colours(picture: av.VideoFrame) -> None:
    """Take colours that swscale refuses, most often damage, for unspecified ones, as players do."""
    if picture.colorspace not in _COLORSPACES:
        picture.colorspace = _UNSPECIFIED_COLORSPACE
    if picture.color_range not in _COLOR_RANGES:
        picture.color_range = ColorRange.UNSPECIFIED


def _to_rgb(picture: av.VideoFrame, **options: Any) -> NDArray[np.uint8]:
    return _convert(picture, "rgb24", **options)


def _convert(picture: av.VideoFrame, name: str, **options: Any) -> NDArray[np.uint8]:
    try:
        pixels = picture.to_ndarray(format=name, threads=1, **options)
    except av.error.FFmpegError as error:
        raise DecodeError(
            f"Asked for the colours of a frame of {picture.width} x {picture.height} pixels, found "
            f"the format {picture.format.name}, which FFmpeg can't convert. Convert the video to "
            "H.264."
        ) from error
    return pixels.astype(np.uint8, copy=False)


def _chroma_steps(picture: av.VideoFrame) -> tuple[int, int] | None:
    bottom_up = any(plane.line_size < 0 for plane in picture.planes)
    # j: full range, the same layout
    name = picture.format.name.replace("yuvj", "yuv").removesuffix(_TEN_BIT)
    # Of 10 bits it scales colours by the whole width, which an odd one makes another ratio.
    is_odd = picture.height % 2 or (_sample_bytes(picture) == 2 and picture.width % 2)
    return None if bottom_up or is_odd else _CHROMA_STEPS.get(name)


def _sample_bytes(picture: av.VideoFrame) -> int:
    return 2 if picture.format.name.endswith(_TEN_BIT) else 1


def _widen(
    picture: av.VideoFrame, box_xyxy: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Return the box, larger where swscale takes colours from pixels beside it."""
    if _sample_bytes(picture) == 1:
        return box_xyxy
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


class VideoWriter:
    """Encodes frames into an H.264 mp4 that gets its name only once it is whole.

    The same frames and arguments give the same bytes. Used in a `with`, an exception discards it.

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
        picture = picture.reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601,
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
        self._stream.colorspace = _AVCOL_SPC_SMPTE170M
        self._stream.color_range = ColorRange.MPEG
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
