"""Open a stranger's file, and choose the stream of pictures that players show."""

import re
import stat
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from unmask.records import Reason
from unmask.video import transport
from unmask.video.failures import refuse

# Videos, and nothing that FFmpeg also opens: pictures, subtitles, play lists that name other files.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,mxf,gif,rm,dv,nut,ivf,yuv4mpegpipe,"
    "h264,hevc,obu,mpegvideo,m4v"  # a stream without a container
)
# 8K as cinemas have it, on whole blocks of 64. A damaged header asks for gigabytes a frame.
_MAX_PIXELS = 8192 * 4352
# Tapes have 8/9 to 16/11, and twice that where every other column was left out.
_MAX_PIXEL_RATIO, _NEARLY_SQUARE = 4, 0.02
# By offset, how videos begin that may not open once they are cut off: MP4 and MOV, whose index is
# often at the end, Matroska and WebM, AVI, ASF, FLV, MPEG-TS.
_BEGINNINGS = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (4, b"skip"),
    (0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (0, b"0&\xb2u\x8ef\xcf\x11"), (0, b"FLV\x01"),
    (0, b"G@"),
)  # fmt: skip
# Streams that a viewer is not shown as the video: covers, thumbnails along the time line, pictures
# beside the video, and layers that only add to another stream.
_ASIDE = (
    Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    | Disposition.dependent | Disposition.metadata
)  # fmt: skip
_PICTURE_CODECS = {
    "mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpegxl", "jpeg2000", "apng", "jpegls", "ppm",
}  # fmt: skip

_AVI_CHUNK_BYTES = 8  # of a picture, without its content


def _read_beginning(path: Path) -> bytes:
    """Return a file's first bytes, or refuse what is none: to open a pipe waits for its writer."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            found = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
            raise refuse(path, found, "Leave it out", reason=Reason.NOT_A_VIDEO)
        with path.open("rb") as file:
            beginning = file.read(12)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise refuse(path, "no file there", "Check the path", reason=Reason.MISSING) from error
    except PermissionError as error:
        do = "Give this user the right to read it"
        raise refuse(path, "one that may not be read", do, reason=Reason.FORBIDDEN) from error
    except OSError as error:  # a link to itself, a disk that fails
        raise refuse(path, f"none that can be read ({error.strerror})") from error
    if not beginning:
        raise refuse(path, "an empty file", reason=Reason.EMPTY)
    return beginning


def open_file(path: Path) -> InputContainer:
    """Open a file as FFmpeg does, if it is one of the kinds that are taken for a video.

    Raises:
        DecodeError: no such file, not a video.
    """
    beginning = _read_beginning(path)
    try:
        # Without "file:", a colon in a name makes what is before it a protocol.
        return open_container(f"file:{path}")
    except av.error.MemoryError:  # says nothing of the file
        raise MemoryError(f"{path}: no memory to open it") from None
    except av.error.FFmpegError as error:
        found = f"no whole video file ({error.strerror})"
        is_part = any(beginning.startswith(magic, at) for at, magic in _BEGINNINGS)
        reason = Reason.UNREADABLE if is_part else Reason.NOT_A_VIDEO
        raise refuse(path, found, reason=reason) from error


def open_container(file: str | transport.Part, kind: str | None = None) -> InputContainer:
    """Return an open container that names no other file and asks for no huge picture."""
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
        raise refuse(path, found, reason=reason)
    if stream.codec_context is None:
        raise refuse(path, "a codec that this FFmpeg does not know", "Convert it to H.264")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > _MAX_PIXELS:
        raise refuse(path, f"frames of {width} x {height} pixels", "Reduce them to 8K at most")
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


def others_end_s(container: InputContainer, stream: VideoStream) -> float:
    """Return where the last of the other video streams ends, by the clock of the file."""
    ends_s = [
        _start_s(other) + length_s
        for other in container.streams.video
        if other.index != stream.index and not other.disposition & _ASIDE
        and not _is_single(other) and (length_s := _own_length_s(other)) is not None
    ]  # fmt: skip
    return max(ends_s, default=0.0)


def find_pixel_ratio(stream: VideoStream) -> float:
    """Return the width of a stored pixel to its height; 1 where the file says nothing or nonsense.

    Also 1 where a pixel is nearly square: encoders write 405:404 for a size they rounded, and to
    scale by that would only blur the traces of a forger.
    """
    ratio = float(stream.sample_aspect_ratio or 1)
    is_nonsense = not 1 / _MAX_PIXEL_RATIO <= ratio <= _MAX_PIXEL_RATIO
    return 1.0 if is_nonsense or abs(ratio - 1) < _NEARLY_SQUARE else ratio


def find_declared_s(container: InputContainer, stream: VideoStream) -> float | None:
    """Return how many seconds the file says that its video lasts; None where it does not say."""
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
