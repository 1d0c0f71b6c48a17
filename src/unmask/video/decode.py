"""Decode videos by timestamp, as a viewer's clock goes, and count what can't be decoded."""

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from unmask.video import colour, endings, transport
from unmask.video.failures import DecodeError, TruncatedError, refuse
from unmask.video.frame import Frame
from unmask.video.streams import (
    find_declared_s,
    find_pictures,
    find_pixel_ratio,
    name_others,
    open_container,
    open_file,
    others_end_s,
)

_log = logging.getLogger(__name__)
# Half of Matroska's millisecond: a tick at 1/15 s shows the frame that is written as 0.067 s.
_TOLERANCE_S = 0.0005
# A clock that goes back by less has an odd frame or two; one that goes back by more begins anew.
_JOIN_S = Fraction(1)
# Of a transport stream: whoever joins recordings joins clocks. FFmpeg's tools take 10 s, too.
_LEAP_S = Fraction(10)
_JOINABLE = ("mpegts", "mpeg")  # what is made to be joined, and whose length FFmpeg only estimates
# Of these every packet is a picture that is shown, so that one which doesn't come out is missing.
_ONE_EACH = {"h264", "hevc", "mpeg1video", "mpeg2video", "prores", "dnxhd", "mjpeg", "ffv1"}


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
            raise refuse(path, "none that decodes") from error
        rate = stream.average_rate or stream.guessed_rate
        return Info(
            width=frame.width,
            height=frame.height,
            duration_s=find_declared_s(container, stream),
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
        raise refuse(path, "none that decodes") from broken
    end_s = shown.time_s + shown.duration_s
    if rate_fps is None or _count_ticks(end_s, rate_fps) > covered:
        yield shown
    if broken or (found := reading.missing(end_s)):
        if broken:
            declared_s = reading.declared_s
            declared = f"{declared_s:.2f} s" if declared_s else "an unknown length"
            found = f"that they end at {end_s:.2f} s of {declared}"
        raise TruncatedError(str(refuse(path, found)), last_s=end_s) from broken


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
                    self.declared_s = find_declared_s(container, stream) or 0.0
                clock = _Clock(stream)
                yield from self._read(container, stream, clock, rate_fps, keyframes)
                if self._format not in _JOINABLE and clock.first_s is not None:
                    self._others_s = others_end_s(container, stream) - float(clock.first_s)
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
                    with open_container(part, "mpegts") as container:
                        stream = find_pictures(container, self._path)
                        self._account.others += name_others(container, stream)
                        clock = _Clock(stream) if clock is None else clock.go_on(stream)
                        found = False
                        for frame in self._read(container, stream, clock, rate_fps, keyframes):
                            found = True
                            yield frame
                        if not found:
                            raise refuse(self._path, "none that decodes in a part of it")
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
        raise refuse(path, "none that decodes") from broken


def _count_ticks(until_s: float, rate_fps: float | None) -> int:
    """Return how many ticks, counted from 0 s, come before a frame that starts at until_s."""
    return 0 if rate_fps is None else math.ceil((until_s - _TOLERANCE_S) * rate_fps)


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
    pixel_ratio = find_pixel_ratio(stream)
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
