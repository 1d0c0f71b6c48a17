"""Decode videos by timestamp and encode crops."""

import logging
import math
import os
import re
import stat
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
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
from unmask.video import colour, endings, transport
from unmask.video.light import Mapping, Primaries, Transfer

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
# A clock that goes back by less has an odd frame or two; one that goes back by more begins anew.
_JOIN_S = Fraction(1)
# Of a transport stream: whoever joins recordings joins clocks. FFmpeg's tools take 10 s, too.
_LEAP_S = Fraction(10)
_JOINABLE = ("mpegts", "mpeg")  # what is made to be joined, and whose length FFmpeg only estimates
# Streams that a viewer is not shown as the video: covers, thumbnails along the time line, pictures
# beside the video, and layers that only add to another stream.
_ASIDE = (
    Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    | Disposition.dependent | Disposition.metadata
)  # fmt: skip
_PICTURE_CODECS = {
    "mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpegxl", "jpeg2000", "apng", "jpegls", "ppm",
}  # fmt: skip
# Of these every packet is a picture that is shown, so that one which doesn't come out is missing.
_ONE_EACH = {"h264", "hevc", "mpeg1video", "mpeg2video", "prores", "dnxhd", "mjpeg", "ffv1"}
_AVI_CHUNK_BYTES = 8  # of a picture, without its content


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


@dataclass
class Account:
    """What is to be said of how a video was read; whole once its last frame was taken."""

    # What was not looked at although players may show it, and how often it was found.
    left_out: Counter[str] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)  # video streams beside the one that was read
    # Called now and then while a large file is searched before its first frame.
    meanwhile: Callable[[], None] = lambda: None

    @property
    def left_out_words(self) -> str:
        """Return what was not looked at, with its numbers; nothing where all was."""
        return " and ".join(f"{count} {what}" for what, count in self.left_out.items())

    @property
    def others_words(self) -> str:
        """Return a clause about the other video streams; nothing where there is none."""
        if len(self.others) == 1:
            return f"a second video stream, {self.others[0]}, was not looked at"
        listed = "; ".join(self.others)
        return f"{len(self.others)} other video streams ({listed}) were not looked at" * bool(
            listed
        )


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


def probe(path: Path) -> Info:
    """Return what the file says of its video; its first frame is decoded to make sure of it.

    Raises:
        DecodeError: no such file, not a video, or no frame decodes.
    """
    with open_file(path) as container:
        stream = find_pictures(container, path)
        try:
            frame = next(_decode(container, stream, path, _Clock(stream), Account()))
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


def read_frames(
    path: Path, *, rate_fps: float | None = None, account: Account | None = None
) -> Iterator[Frame]:
    """Yield the frames of a video in order of time, decoding as they are taken.

    With rate_fps, only the frame shown at each tick k / rate_fps: the last one that starts no
    later than half a millisecond after it. A frame shown at several ticks is yielded once. Where
    recordings are joined, the times of the next one go on from the end of the one before. account
    is told what was left out.

    Raises:
        DecodeError: no such file, not a video, or no frame decodes.
        TruncatedError: after the last frame, where decoding broke off or ended more than 1 s and
            a fifth before the declared end, or where the file ends within a piece of its container.
    """
    account = Account() if account is None else account
    reading = _Reading(path, account)
    shown: Frame | None = None  # on screen until the next one starts
    covered, broken = 0, None
    try:
        for frame in reading.frames(rate_fps):
            if shown is not None:
                ticks = _count_ticks(frame.time_s, rate_fps)
                if rate_fps is None or ticks > covered:
                    yield replace(shown, duration_s=frame.time_s - shown.time_s)
                covered = ticks
            shown = frame
    except av.error.FFmpegError as error:
        broken = error
    if shown is None:
        raise _refuse(path, "none that decodes") from broken
    end_s = shown.time_s + shown.duration_s
    if rate_fps is None or _count_ticks(end_s, rate_fps) > covered:
        yield shown
    if broken or (found := reading.missing(end_s)):
        if broken:
            declared_s = reading.declared_s
            declared = f"{declared_s:.2f} s" if declared_s else "an unknown length"
            found = f"that they end at {end_s:.2f} s of {declared}"
        raise TruncatedError(str(_refuse(path, found)), last_s=end_s) from broken


class _Reading:
    """One reading of a video's frames, over all parts of its file."""

    def __init__(self, path: Path, account: Account) -> None:
        self.declared_s = 0.0  # where the file says how long its video is
        self._path = path
        self._account = account
        self._format = ""
        self._layout = transport.Layout()
        self._sound_s = 0.0  # where the sound ends, on the clock of the pictures
        self._others_s = 0.0  # where the last of the other video streams ends, likewise

    def frames(self, rate_fps: float | None, *, keyframes: bool = False) -> Iterator[Frame]:
        """Yield the frames in order; raise FFmpegError where the file stops being readable."""
        path = self._path
        with open_file(path) as container:
            self._format = container.format.name
            if self._format == "mpegts":
                self._layout = transport.study(path, self._account.meanwhile)
            if len(self._layout.starts) == 1:
                stream = find_pictures(container, path)
                self._account.others += name_others(container, stream)
                if self._format not in _JOINABLE:
                    self.declared_s = _declared_s(container, stream) or 0.0
                clock = _Clock(stream)
                yield from self._read(container, stream, clock, rate_fps, keyframes)
                if self._format not in _JOINABLE and clock.first_s is not None:
                    self._others_s = _others_end_s(container, stream) - float(clock.first_s)
                if endings.find_another(path, self._format):
                    self._account.left_out["recording behind the end of the first"] += 1
                return
        yield from self._parts(rate_fps, keyframes)

    def _parts(self, rate_fps: float | None, keyframes: bool) -> Iterator[Frame]:
        """Yield the frames of a transport stream whose streams change, part by part."""
        starts = [*self._layout.starts, self._path.stat().st_size]
        clock: _Clock | None = None
        for start, end in pairwise(starts):
            with closing(transport.Part(self._path, start, end)) as part:
                try:
                    with _open(part, "mpegts") as container:
                        stream = find_pictures(container, self._path)
                        self._account.others += name_others(container, stream)
                        clock = _Clock(stream) if clock is None else clock.go_on(stream)
                        found = False
                        for frame in self._read(container, stream, clock, rate_fps, keyframes):
                            found = True
                            yield frame
                        if not found:
                            raise _refuse(self._path, "none that decodes in a part of it")
                except (DecodeError, av.error.FFmpegError) as error:
                    _log.warning("%s, from byte %d on: %s", self._path, start, error)
                    self._account.left_out["parts that can't be decoded"] += 1
        if self._layout.more_parts:
            self._account.left_out["more parts of other streams"] += self._layout.more_parts

    def _read(
        self,
        container: InputContainer,
        stream: VideoStream,
        clock: "_Clock",
        rate_fps: float | None,
        keyframes: bool,
    ) -> Iterator[Frame]:
        if keyframes:
            stream.codec_context.skip_frame = "NONKEY"
        yield from _decode(
            container, stream, self._path, clock, self._account, rate_fps=rate_fps,
            heard=None if self.declared_s else self._hear,
        )  # fmt: skip

    def _hear(self, time_s: float) -> None:
        self._sound_s = max(self._sound_s, time_s)

    def missing(self, end_s: float) -> str:
        """Return what shows that the video goes on after its last frame, or nothing."""
        if end_s < min(0.8 * self.declared_s, self.declared_s - 1):
            return f"that they end at {end_s:.2f} s of {self.declared_s:.2f} s"
        if end_s < min(0.8 * self._sound_s, self._sound_s - 1):
            return (
                f"that they end at {end_s:.2f} s, while the sound goes on to {self._sound_s:.2f} s"
            )
        if end_s < min(0.8 * self._others_s, self._others_s - 1):
            return (
                f"that they end at {end_s:.2f} s, while another video stream goes on to "
                f"{self._others_s:.2f} s"
            )
        cut = self._layout.cut or endings.find_cut(self._path, self._format)
        if cut:
            return f"that the file ends within {cut}, and they end at {end_s:.2f} s"
        return ""


def read_keyframes(path: Path) -> Iterator[Frame]:
    """Yield the frames that decode without any other, a small part of most videos.

    Times count from the first keyframe. What decodes before the file breaks off is yielded.

    Raises:
        DecodeError: no such file, not a video, or no keyframe decodes.
    """
    found, broken = False, None
    try:
        for frame in _Reading(path, Account()).frames(None, keyframes=True):
            found = True
            yield frame
    except av.error.FFmpegError as error:
        broken = error
    if not found:
        raise _refuse(path, "none that decodes") from broken


def read_coded(path: Path) -> Iterator[bytes]:
    """Yield a video's codec and then its coded pictures, which another container leaves alone.

    Of H.264 and H.265 these are the slices, without what containers add to them or take out (Rec.
    ITU-T H.264, table 7-1; H.265, table 7-1); of other codecs whole packets. What comes before the
    file breaks off is yielded.

    Raises:
        DecodeError: no such file, not a video.
    """
    with open_file(path) as container, suppress(av.error.FFmpegError):
        stream = find_pictures(container, path)
        codec = stream.codec_context.codec.canonical_name
        yield codec.encode()
        length_bytes = _length_bytes(codec, stream.codec_context.extradata or b"")
        for packet in container.demux(stream):
            yield from _slices(codec, bytes(packet), length_bytes)


def _length_bytes(codec: str, extradata: bytes) -> int:
    """Return how many bytes tell each unit's length; 0 where a start code comes before each."""
    place = {"h264": 4, "hevc": 21}.get(codec)
    # ISO/IEC 14496-15, avcC and hvcC: both begin with their version, 1, a start code with 0.
    if place is None or len(extradata) <= place or extradata[0] != 1:
        return 0
    return (extradata[place] & 3) + 1


def _slices(codec: str, packet: bytes, length_bytes: int) -> Iterator[bytes]:
    if codec not in ("h264", "hevc"):
        yield packet
        return
    units = []
    if length_bytes:
        at = 0
        while at + length_bytes <= len(packet):
            start = at + length_bytes
            at = start + int.from_bytes(packet[at:start])
            units.append(packet[start:at])
    else:
        units = packet.split(b"\0\0\1")
    for unit in units:
        # Zeros may follow a unit, and one more is part of a longer start code.
        if unit := unit.rstrip(b"\0"):
            kind = unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63
            if 1 <= kind <= 5 if codec == "h264" else kind < 32:
                yield unit


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
    try:
        # Without "file:", a colon in a name makes what is before it a protocol.
        return _open(f"file:{path}")
    except av.error.MemoryError:  # says nothing of the file
        raise MemoryError(f"{path}: no memory to open it") from None
    except av.error.FFmpegError as error:
        found = f"no whole video file ({error.strerror})"
        is_part = any(beginning.startswith(magic, at) for at, magic in _BEGINNINGS)
        reason = Reason.UNREADABLE if is_part else Reason.NOT_A_VIDEO
        raise _refuse(path, found, reason=reason) from error


def _open(file: str | transport.Part, kind: str | None = None) -> InputContainer:
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    return av.open(
        file, mode="r", format=kind, container_options=options, metadata_errors="replace",
        options=_limit_size(),
    )  # fmt: skip


def _limit_size() -> dict[str, str]:
    return {"max_pixels": str(_MAX_PIXELS)}


def find_pictures(container: InputContainer, path: Path) -> VideoStream:
    """Return the stream of pictures that players show, ready to be decoded.

    That is FFmpeg's best one (av_find_best_stream): flagged as the default, then the one with more
    pictures and bits. Covers, thumbnails and single pictures count only where there is no other.

    Raises:
        DecodeError: there is none; its codec is not known; its pictures are too large.
    """
    stream = _best(container)
    if stream is None:
        kinds = sorted({stream.type for stream in container.streams})
        found = f"no video stream, only {' and '.join(kinds) or 'an empty container'}"
        # An MP4 whose index is cut short has no stream, or one that it does not say the kind of.
        reason = Reason.UNREADABLE if set(kinds) <= {"data"} else Reason.NOT_A_VIDEO
        raise _refuse(path, found, reason=reason)
    if stream.codec_context is None:
        raise _refuse(path, "a codec that this FFmpeg does not know", "Convert it to H.264")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > _MAX_PIXELS:
        raise _refuse(path, f"frames of {width} x {height} pixels", "Reduce them to 8K at most")
    stream.codec_context.thread_type = "AUTO"
    stream.codec_context.options = _limit_size()  # later frames may have another size
    return stream


def _best(container: InputContainer) -> VideoStream | None:
    streams = container.streams.video
    shown = [each for each in streams if not each.disposition & _ASIDE]
    # A file of nothing but pictures is still one to look at, the cover of a song is not.
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    shown = shown or [each for each in streams if not each.disposition & covers]
    moving = [each for each in shown if not _is_single(each)]
    eligible = moving or shown
    if len(eligible) < 2:
        return eligible[0] if eligible else None
    flags = {each: each.disposition for each in streams}
    try:
        for each in streams:
            if each not in eligible:
                each.disposition = Disposition.visual_impaired  # FFmpeg ranks it below all others
        best = container.streams.best("video")
    finally:
        for each, flag in flags.items():
            each.disposition = flag
    return best if isinstance(best, VideoStream) and best in eligible else eligible[0]


def _is_single(stream: VideoStream) -> bool:
    """Return whether a stream holds one picture, as a thumbnail does that says nothing of it."""
    if stream.frames:
        return stream.frames == 1
    length_s = _own_length_s(stream)
    if length_s is not None:
        return length_s < 1.5 / (stream.average_rate or 25)
    context = stream.codec_context
    return context is not None and context.codec.canonical_name in _PICTURE_CODECS


def name_others(container: InputContainer, stream: VideoStream) -> list[str]:
    """Return the size and codec of each video stream beside the one that is read."""
    found = []
    for other in container.streams.video:
        if other.index == stream.index or other.disposition & _ASIDE:
            continue
        context = other.codec_context
        size = f"{context.width} x {context.height}, " if context and context.width else ""
        codec = context.codec.canonical_name if context else "of a codec that FFmpeg does not know"
        found.append(size + codec)
    return found


def _others_end_s(container: InputContainer, stream: VideoStream) -> float:
    """Return where the last of the other video streams ends, by the clock of the file."""
    ends_s = [
        _start_s(other) + length_s
        for other in container.streams.video
        if other.index != stream.index and not other.disposition & _ASIDE
        and not _is_single(other) and (length_s := _own_length_s(other)) is not None
    ]  # fmt: skip
    return max(ends_s, default=0.0)


def _pixel_ratio(stream: VideoStream) -> float:
    """Return the width of a stored pixel to its height; 1 where the file says nothing or nonsense.

    Also 1 where a pixel is nearly square: encoders write 405:404 for a size they rounded, and to
    scale by that would only blur the traces of a forger.
    """
    ratio = float(stream.sample_aspect_ratio or 1)
    is_nonsense = not 1 / _MAX_PIXEL_RATIO <= ratio <= _MAX_PIXEL_RATIO
    return 1.0 if is_nonsense or abs(ratio - 1) < _NEARLY_SQUARE else ratio


def _declared_s(container: InputContainer, stream: VideoStream) -> float | None:
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        if stream.frames * _AVI_CHUNK_BYTES > container.size:
            return None  # a recorder that could not go back to write their number
        return float(stream.frames / stream.average_rate)  # its duration is of what is there
    if (own_s := _own_length_s(stream)) is not None:
        return own_s
    # Matroska and FLV count from 0 s on, whenever the video starts. Matroska's header has the end
    # of the longest stream, often the sound.
    return container.duration / av.time_base - _start_s(stream) if container.duration else None


def _own_length_s(stream: VideoStream) -> float | None:
    """Return how long a stream is by itself: in its header, or in the tag that Matroska has."""
    unit_s = stream.time_base or Fraction(0)
    if stream.duration:
        return float(stream.duration * unit_s)
    if tag := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = tag.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - _start_s(stream)
    return None


def _start_s(stream: VideoStream) -> float:
    return max(0.0, float((stream.start_time or 0) * (stream.time_base or 0)))


class _Clock:
    """Says when a viewer sees each frame, by the times that a file has for them.

    Ordinary times count from the first frame. Where they go back, two recordings were joined, or
    the counter began anew (33 bits of an MPEG stream last 26.5 hours): the next frame is shown
    when the one before has been. So it is where a stream leaps that is made to be joined.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.first_s: Fraction | None = None  # what the file calls 0 s
        self._last_s = self._end_s = Fraction(0)
        self._begin(stream)
        self._last_s = -self.step_s

    def _begin(self, stream: VideoStream) -> None:
        self.step_s = 1 / (stream.guessed_rate or stream.average_rate or Fraction(25))
        self.unit_s = stream.time_base or self.step_s
        self._leaps = stream.container.format.name in _JOINABLE

    def go_on(self, stream: VideoStream) -> "_Clock":
        """Return itself, for the frames of another stream that follow on those before."""
        self._begin(stream)
        self.first_s = None
        self._last_s = max(self._last_s, self._end_s - self.step_s)
        return self

    def place(self, stamp: int | None, duration: int) -> tuple[Fraction, Fraction]:
        """Return when a frame begins to be shown, and for how long its file says that it is."""
        duration_s = duration * self.unit_s
        if duration_s < 2 * _TOLERANCE_S:  # unknown: some writers put a single time unit
            duration_s = self.step_s
        time_s = self._last_s + self.step_s
        if stamp is not None:
            if self.first_s is None:  # frames before this one may have no time
                self.first_s = stamp * self.unit_s - time_s
            time_s = self._fit(stamp * self.unit_s)
        self._last_s, self._end_s = time_s, time_s + duration_s
        return time_s, duration_s

    def _fit(self, stamp_s: Fraction) -> Fraction:
        assert self.first_s is not None
        time_s = stamp_s - self.first_s
        ahead_s = time_s - self._last_s
        if ahead_s <= -_JOIN_S or (self._leaps and ahead_s > _LEAP_S and self._last_s >= 0):
            self.first_s = stamp_s - self._end_s
            return self._end_s
        if ahead_s > 0:
            return time_s
        # Without a time of its own it is shown for a moment. The clock stays as it is: it goes on
        # from where such frames are in order again.
        return self._last_s + (self.step_s if ahead_s else self.step_s / 2)


def _decode(
    container: InputContainer,
    stream: VideoStream,
    path: Path,
    clock: _Clock,
    account: Account,
    *,
    rate_fps: float | None = None,
    heard: Callable[[float], None] | None = None,
) -> Iterator[Frame]:
    """Yield frames with rising times; raise FFmpegError where the file stops being readable.

    With rate_fps, frames that are shown at no tick may be left out. heard is told where the sound
    ends, by the clock of the pictures.
    """
    # AVI stores no times: with B-frames its pts come in decoding order, its dts do not.
    by_dts = container.format.name == "avi"
    pixel_ratio = _pixel_ratio(stream)
    signals = colour.Signals(stream.codec_context, container.format.name)
    skipper = _Skipper(stream, clock, rate_fps) if rate_fps and not by_dts else None
    turn_deg, is_mirrored = math.nan, False

    def hear(end_s: Fraction) -> None:
        if heard is not None and clock.first_s is not None:
            heard(float(end_s - clock.first_s))

    packets = _demux(container, stream, None if heard is None else hear)
    for picture in _decode_pictures(container, stream, path, packets, skipper, account):
        time_s, duration_s = clock.place(picture.dts if by_dts else picture.pts, picture.duration)
        reading = signals.read(picture)
        # Once a turn: a picture asked for its side data is freed only by the garbage collector.
        if picture.rotation != turn_deg:
            turn_deg, is_mirrored = picture.rotation, _is_mirrored(picture)
        yield Frame(float(time_s), float(duration_s), picture, pixel_ratio, is_mirrored, reading)


def _is_mirrored(picture: av.VideoFrame) -> bool:
    found = colour.side_data_of(picture).get("DISPLAYMATRIX")
    if found is None:
        return False
    a, b, _, c, d = map(float, np.frombuffer(found, np.int32)[:5])
    return a * d < b * c


_Packet: TypeAlias = "av.Packet[VideoStream]"  # generic in its stub alone


class _Skipper:
    """Tells the decoder which frames it need not decode: shown at no tick, used by no other frame.

    Two of three frames of a video with B-frames at 30 frames/s are not cropped at 10, and half of
    these are used by no other. Which frame is next on the screen is seen in the packets around one:
    codecs reorder by 16 frames at most. From where times are no longer in order, all is decoded.
    """

    _AROUND = 24  # packets

    def __init__(self, stream: VideoStream, clock: _Clock, rate_fps: float) -> None:
        self._context = stream.codec_context
        self._clock, self._rate_fps = clock, rate_fps
        self._before: deque[int] = deque(maxlen=self._AROUND)  # times of packets gone by
        self._last_pts: int | None = None  # of the latest packet
        self._last_dts: int | None = None
        self._in_order = clock.first_s is None  # not where the clock goes on from another part

    def order(self, packets: Iterable[_Packet]) -> Iterator[_Packet]:
        """Yield the packets, each after the decoder was told what to do with it."""
        waiting: deque[_Packet] = deque()
        broken = None
        try:
            for packet in packets:
                self._watch(packet, waiting)
                waiting.append(packet)
                if len(waiting) > self._AROUND:
                    yield self._tell(waiting)
        except av.error.FFmpegError as error:
            broken = error
        while waiting:
            yield self._tell(waiting)
        if broken:
            raise broken

    def _watch(self, packet: _Packet, waiting: deque[_Packet]) -> None:
        if not packet.size:
            return
        if packet.pts is None:
            self._in_order = False
            return
        is_twice = any(packet.pts == other.pts for other in waiting)
        ahead = 0 if self._last_pts is None else packet.pts - self._last_pts
        goes_back = (
            packet.dts is not None and self._last_dts is not None and packet.dts < self._last_dts
        )
        if is_twice or goes_back or not -_JOIN_S < ahead * self._clock.unit_s < _LEAP_S:
            self._in_order = False
        self._last_pts, self._last_dts = packet.pts, packet.dts

    def _tell(self, waiting: deque[_Packet]) -> _Packet:
        packet = waiting.popleft()
        self._context.skip_frame = "DEFAULT" if self._is_needed(packet, waiting) else "NONREF"
        if packet.pts is not None:
            self._before.append(packet.pts)
        return packet

    def _is_needed(self, packet: _Packet, waiting: deque[_Packet]) -> bool:
        first_s = self._clock.first_s
        if not self._in_order or first_s is None or packet.pts is None or not packet.size:
            return True
        ahead = [other.pts for other in waiting]
        later = [t for t in (*self._before, *ahead) if t is not None and t > packet.pts]
        if None in ahead or not later:
            return True
        unit_s = self._clock.unit_s
        start, end = (float(t * unit_s - first_s) for t in (packet.pts, min(later)))
        return _count_ticks(end, self._rate_fps) > _count_ticks(start, self._rate_fps)


def _demux(
    container: InputContainer, stream: VideoStream, heard: Callable[[Fraction], None] | None
) -> Iterator[_Packet]:
    """Yield a stream's packets, at last an empty one that drains the decoder.

    heard is told when each packet of the sound ends.
    """
    sound = container.streams.audio[:1] if heard is not None else ()
    for packet in container.demux(stream, *sound):
        if packet.stream is not stream:  # the last one's own index is always 0
            if heard is not None and packet.pts is not None:
                heard((packet.pts + (packet.duration or 0)) * packet.time_base)
            continue
        is_last = not packet.buffer_ptr and packet.dts is None and packet.pts is None
        if is_last or packet.size:  # AVI has an empty one where a picture goes on to be shown
            yield packet  # type: ignore[misc]  # of that stream
        # PyAV goes on to streams that appeared since, and fails.
        if is_last:
            return


def _decode_pictures(
    container: InputContainer,
    stream: VideoStream,
    path: Path,
    packets: Iterator[_Packet],
    skipper: _Skipper | None,
    account: Account,
) -> Iterator[av.VideoFrame]:
    # "Corrupt" is a packet that the end of the file cuts short: half of its picture would be grey.
    # MPEG-TS says so of a whole packet, too, where two recordings join.
    joins = container.format.name == "mpegts"
    missing = _Missing(stream)
    damaged = 0
    try:
        for packet in skipper.order(packets) if skipper else packets:
            try:
                is_cut = packet.is_corrupt and not joins
                pictures = [] if is_cut else packet.decode()
                damaged += is_cut
                if not is_cut:
                    missing.expect(packet)
            except av.error.InvalidDataError:
                pictures = []
                damaged += missing.has_begun(packet)
            for picture in pictures:
                missing.came(picture)
                yield picture
    except av.error.MemoryError:  # an FFmpegError too, of which callers think that the file broke
        raise MemoryError(f"{path}: no memory to decode it") from None
    except av.error.FFmpegError:
        _tell_left_out(path, account, damaged, 0)
        yield from stream.decode(None)
        raise
    _tell_left_out(path, account, damaged, missing.count())


def _tell_left_out(path: Path, account: Account, damaged: int, lost: int) -> None:
    if damaged:
        _log.warning("%s: skipped %d damaged packets", path, damaged)
        account.left_out["damaged packets"] += damaged
    if lost:
        _log.warning("%s: %d frames did not come out of the decoder", path, lost)
        account.left_out["frames that do not decode"] += lost


class _Missing:
    """Counts the frames that a decoder should give and does not, without saying so.

    It does not show what depends on a picture that was lost. Not counted is what comes before the
    first picture that decodes by itself: a recording that begins in the middle of a broadcast.
    """

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        self._counts = (
            context.codec.canonical_name in _ONE_EACH and str(context.skip_frame) == "DEFAULT"
        )
        self._context = context
        self._expected: set[int] = set()
        self._first: int | None = None  # time of the first frame
        self._began = False

    def has_begun(self, packet: _Packet) -> bool:
        """Return whether a packet is the first that decodes by itself, or comes after it."""
        self._began |= packet.is_keyframe
        return self._began

    def expect(self, packet: _Packet) -> None:
        """Take note of a packet that the decoder took, once its first frames may be out."""
        is_asked_for = str(self._context.skip_frame) == "DEFAULT" and not packet.is_discard
        has_begun = self.has_begun(packet)
        if has_begun and self._counts and is_asked_for and packet.size and packet.pts is not None:
            self._expected.add(packet.pts)

    def came(self, picture: av.VideoFrame) -> None:
        """Take note of a frame that came out."""
        if picture.interlaced_frame:  # two packets may have been one frame each of its fields
            self._counts = False
        if picture.pts is not None:
            self._first = picture.pts if self._first is None else self._first
            self._expected.discard(picture.pts)

    def count(self) -> int:
        """Return how many frames never came."""
        if not self._counts or self._first is None:
            return 0
        return sum(stamp > self._first for stamp in self._expected)


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
