"""Decide from a video's signals how its colours are meant to be seen, and convert its pictures.

A file signals four things by the numbers of ITU-T H.273: the matrix and the range that turn YCbCr
into R'G'B', the transfer that turns R'G'B' into light, and the primaries of that light. swscale
applies matrix and range. What a screen of BT.709 can't show after that (HDR, a wide gamut, linear
light) is brought there by `light`; ordinary video takes no second pass.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import av
import numpy as np
from av.codec.context import CodecContext
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from unmask.video.light import Mapping, Primaries, Transfer

# Of PQ without metadata. Most masters go no further; from PQ's 10 000, faces would become dark.
_PQ_PEAK_NITS, _MAX_NITS = 1000.0, 10_000.0
_HD_LINES, _HD_COLUMNS = 720, 1280
_FFMPEG_S_OWN = 256  # FFmpeg's numbers from here on are not H.273's


class Matrix(IntEnum):
    """The matrix coefficients of ITU-T H.273, table 4."""

    RGB = 0
    BT709 = 1
    UNSPECIFIED = 2
    FCC = 4
    BT601_625 = 5
    BT601_525 = 6
    SMPTE240M = 7
    YCGCO = 8
    BT2020 = 9
    BT2020_CONSTANT = 10
    SMPTE2085 = 11
    DERIVED = 12
    DERIVED_CONSTANT = 13
    ICTCP = 14
    IPT_C2 = 15
    YCGCO_RE = 16
    YCGCO_RO = 17


_HDR = {Transfer.PQ, Transfer.HLG}
# Screens show these as they are. They are next to one another, and many files name a wrong one.
_SCREEN_TRANSFERS = {
    Transfer.BT709, Transfer.UNSPECIFIED, Transfer.GAMMA22, Transfer.GAMMA28, Transfer.BT601,
    Transfer.SMPTE240M, Transfer.XVYCC, Transfer.BT1361, Transfer.SRGB, Transfer.BT2020_10,
    Transfer.BT2020_12,
}  # fmt: skip
# These are so near to BT.709's that players show a picture as it is. BT.470M's are NTSC's of 1953,
# which no camera had any more when video became digital: files that name these are BT.601's.
_SCREEN_PRIMARIES = {
    Primaries.BT709, Primaries.UNSPECIFIED, Primaries.BT601_625, Primaries.BT601_525,
    Primaries.SMPTE240M, Primaries.EBU3213, Primaries.BT470M,
}  # fmt: skip
_SWSCALE_MATRICES = {
    Matrix.RGB, Matrix.BT709, Matrix.FCC, Matrix.BT601_625, Matrix.BT601_525, Matrix.SMPTE240M,
    Matrix.BT2020,
}  # fmt: skip
_DERIVED = {  # the matrix that is made from the primaries
    Primaries.BT709: Matrix.BT709,
    Primaries.BT470M: Matrix.FCC,
    Primaries.BT2020: Matrix.BT2020,
}
_UNREAD_MATRICES = {
    Matrix.YCGCO: "YCgCo",
    Matrix.BT2020_CONSTANT: "BT.2020 with constant luminance",
    Matrix.SMPTE2085: "SMPTE ST 2085",
    Matrix.DERIVED: "one derived from the primaries",
    Matrix.DERIVED_CONSTANT: "one derived from the primaries, with constant luminance",
    Matrix.ICTCP: "ICtCp",
    Matrix.IPT_C2: "IPT-C2",
    Matrix.YCGCO_RE: "YCgCo-Re",
    Matrix.YCGCO_RO: "YCgCo-Ro",
}
_UNREAD_TRANSFERS = {
    Transfer.LOG_100: "logarithmic (100:1)",
    Transfer.LOG_316: "logarithmic (316:1)",
}
# Containers without colours of their own. What FFmpeg says of such a stream is what it found in the
# first pictures, which means nothing for later ones that signal nothing.
_SILENT_FORMATS = {
    "mpegts", "mpeg", "avi", "flv", "ogg", "asf", "rm", "dv", "ivf", "h264", "hevc", "obu",
    "mpegvideo", "m4v",
}  # fmt: skip
# Of MP4's streams that only Dolby Vision's players are meant to open. With a transfer, their base
# layer is a picture of its own.
_DOLBY_TAGS = {"dvh1", "dvhe", "dva1", "dvav", "dav1"}
# swscale takes grey for full range, whatever the picture says.
_WITH_COLOUR = {"gray": "yuv420p", "gray10le": "yuv420p10le", "gray12le": "yuv420p12le"}
_Number = TypeVar("_Number", bound=IntEnum)


class Signal(NamedTuple):
    """What a picture or a stream signals, in the numbers of H.273; the range in FFmpeg's."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    range: int = 0


@dataclass(frozen=True)
class Form:
    """How a picture is stored, as far as its colours depend on it; bits of one sample."""

    width: int
    height: int
    bits: int
    is_rgb: bool
    is_xyz: bool = False  # swscale brings digital cinema's X'Y'Z' to BT.709 itself


@dataclass(frozen=True)
class Extras:
    """What a picture carries beside its signal: HDR's and Dolby Vision's metadata."""

    peak_nits: float | None = None  # of the brightest light in the programme
    is_ipt: bool = False  # Dolby Vision's profile 5, whose pictures are in a space of Dolby's own


@dataclass(frozen=True)
class Reading:
    """How a picture's colours are read.

    swscale needs matrix and range, by FFmpeg's numbers; mapping shows what swscale returns, where
    a screen can't. doubt says in a sentence what of the signal is not understood, or is "".
    """

    matrix: int = int(Matrix.UNSPECIFIED)
    range: int = int(ColorRange.UNSPECIFIED)
    mapping: Mapping | None = None
    doubt: str = ""


SHOWN_AS_STORED = Reading()


class Signals:
    """Reads each picture of a stream by what the picture and its container signal."""

    def __init__(self, context: CodecContext, container_format: str) -> None:
        """Take the stream's signal from a context that has not decoded anything yet."""
        self._declared = _signal_of(context)
        self._is_dolby = context.codec_tag in _DOLBY_TAGS
        self._is_lasting = _SILENT_FORMATS.isdisjoint(container_format.split(","))
        self._readings: dict[tuple[Signal, str, int, int], Reading] = {}

    def read(self, picture: av.VideoFrame) -> Reading:
        """Return how a picture is read, and write matrix and range into it for swscale."""
        signal = _signal_of(picture)
        key = signal, picture.format.name, picture.width, picture.height
        if key not in self._readings:
            form = form_of(picture)
            # Once for each key: a picture that is asked for its side data is freed only by the
            # garbage collector. Video of 8 bits has none that matters.
            extras = extras_of(picture) if form.bits > 8 else Extras()
            if self._is_dolby and self._says_no_transfer(signal):
                extras = replace(extras, is_ipt=True)
            self._readings[key] = decide(
                form, signal, self._declared, extras, is_lasting=self._is_lasting
            )
        reading = self._readings[key]
        picture.colorspace, picture.color_range = reading.matrix, reading.range
        return reading

    def _says_no_transfer(self, signal: Signal) -> bool:
        transfer = _first(Transfer, signal.transfer, self._declared.transfer)
        return transfer == Transfer.UNSPECIFIED


def _signal_of(source: Any) -> Signal:
    return Signal(source.color_primaries, source.color_trc, source.colorspace, source.color_range)


def form_of(picture: av.VideoFrame) -> Form:
    """Return how a picture is stored."""
    name = picture.format.name
    is_rgb = picture.format.is_rgb or name.startswith(("pal8", "xyz", "bayer"))
    bits = min(16, max(part.bits for part in picture.format.components))
    return Form(picture.width, picture.height, bits, is_rgb, is_xyz=name.startswith("xyz"))


def default_matrix(width: int, height: int) -> Matrix:
    """Return the matrix of a video that signals none, by its stored size: BT.709 for HD, or BT.601.

    HD has at least 720 lines, as upright video of telephones does, or 1280 columns, as HD whose
    black bars were cut off.
    """
    is_hd = height >= _HD_LINES or width >= _HD_COLUMNS
    return Matrix.BT709 if is_hd else Matrix.BT601_525


def decide(
    form: Form,
    signal: Signal,
    declared: Signal = Signal(),  # noqa: B008 - a tuple
    extras: Extras = Extras(),
    *,
    is_lasting: bool = True,
) -> Reading:
    """Return how a picture is read by its own signal, then its stream's, then the defaults.

    The stream's holds for pictures that signal nothing if it is_lasting: if its container says it.
    Numbers that have no meaning are most often damage to a picture. Players take them for no
    signal, and so they are taken here; they raise a doubt only where the stream says them too.
    """
    lasting = declared if is_lasting else Signal()
    transfer, primaries, matrix = _choose(form, signal, lasting)
    ranges = [n for n in (signal.range, lasting.range) if n in (ColorRange.MPEG, ColorRange.JPEG)]
    range_ = int(ranges[0] if ranges else ColorRange.UNSPECIFIED)
    doubts = [*_doubts(form, signal, lasting, extras), *_odd_numbers(form, signal, declared)]
    mapping = None
    is_plain = transfer in _SCREEN_TRANSFERS and primaries in _SCREEN_PRIMARIES
    if not (is_plain or form.is_xyz or extras.is_ipt):
        peak_nits = min(extras.peak_nits or _PQ_PEAK_NITS, _MAX_NITS)
        white = _white(form, is_full=form.is_rgb or range_ == ColorRange.JPEG)
        mapping = Mapping(transfer, primaries, white, peak_nits)
    return Reading(int(matrix), range_, mapping, doubts[0] if doubts else "")


def _choose(form: Form, signal: Signal, declared: Signal) -> tuple[Transfer, Primaries, Matrix]:
    """Return the numbers that are gone by; the defaults are mpv's, HD apart."""
    transfer = _first(Transfer, signal.transfer, declared.transfer)
    primaries = _first(Primaries, signal.primaries, declared.primaries)
    matrix = _matrix(form, signal, declared)
    if transfer in _UNREAD_TRANSFERS:
        transfer = Transfer.BT709
    if primaries == Primaries.UNSPECIFIED and (transfer in _HDR or matrix == Matrix.BT2020):
        primaries = Primaries.BT2020
    if matrix == Matrix.DERIVED:
        matrix = _DERIVED.get(primaries, matrix)
    if matrix not in _SWSCALE_MATRICES:
        is_wide = transfer in _HDR or primaries == Primaries.BT2020
        matrix = Matrix.BT2020 if is_wide else default_matrix(form.width, form.height)
    return transfer, primaries, matrix


def _matrix(form: Form, signal: Signal, declared: Signal) -> Matrix:
    if form.is_rgb:
        return Matrix.RGB
    signalled = [n for n in (signal.matrix, declared.matrix) if n != Matrix.RGB]
    return _first(Matrix, *signalled)


def _first(kind: type[_Number], *numbers: int) -> _Number:
    """Return the first number that means something; 2 is H.273's for "unspecified"."""
    known = [n for n in numbers if n != 2 and n in kind.__members__.values()]
    return kind(known[0] if known else 2)


def _doubts(form: Form, signal: Signal, declared: Signal, extras: Extras) -> Iterator[str]:
    """Yield what is not understood, the gravest first."""
    if extras.is_ipt:
        yield "The video is Dolby Vision of profile 5, whose colours only Dolby's players can show."
    transfer = _first(Transfer, signal.transfer, declared.transfer)
    primaries = _first(Primaries, signal.primaries, declared.primaries)
    matrix = _matrix(form, signal, declared)
    is_derived = matrix == Matrix.DERIVED and primaries in _DERIVED
    if matrix in _UNREAD_MATRICES and not is_derived:
        yield f"The video's colour matrix is {_UNREAD_MATRICES[matrix]}, which can't be converted."
    if transfer in _UNREAD_TRANSFERS:
        yield f"The video's transfer is {_UNREAD_TRANSFERS[transfer]}, which can't be converted."
    if transfer == Transfer.UNSPECIFIED:
        if extras.peak_nits is not None:
            yield "The video has metadata of HDR, but signals no transfer of HDR."
        elif primaries == Primaries.BT2020 or matrix == Matrix.BT2020:
            yield "The video has the colours of BT.2020 and no transfer: it may be HDR or SDR."


def _odd_numbers(form: Form, signal: Signal, declared: Signal) -> Iterator[str]:
    """Yield which of the stream's numbers have no meaning, where its picture has no better one.

    FFmpeg reads most of these as "unspecified" in pictures, but not in MP4's `colr`; its own
    numbers, for cameras' logarithmic curves, are no damage.
    """
    for name, kind, own, stream in (
        ("transfer", Transfer, signal.transfer, declared.transfer),
        ("set of primaries", Primaries, signal.primaries, declared.primaries),
        ("colour matrix", Matrix, signal.matrix, declared.matrix),
    ):
        is_matrix = kind is Matrix
        chosen = _matrix(form, signal, declared) if is_matrix else _first(kind, own, stream)
        odd = own if own >= _FFMPEG_S_OWN else stream
        if chosen == 2 and odd != 2:
            yield f"The video's {name} is number {odd}, which is not known for its pictures."


def _white(form: Form, *, is_full: bool) -> int:
    """Return the number of 16 bits that swscale makes of a signal of 1.

    It shifts and fills with zeros; limited range comes out as if it had 8 bits.
    """
    bits = form.bits if is_full else 8
    return ((1 << bits) - 1) << (16 - bits)


# ---------------------------------------------------------------- side data


def side_data_of(picture: av.VideoFrame) -> Any:
    """Return a picture's side data by their names in PyAV, whose stub lacks `get` and the names.

    Empty if PyAV does not know one of them, as EXIF's in Motion JPEG: it then gives none at all.
    """
    try:
        return picture.side_data
    except ValueError:
        return {}


def extras_of(picture: av.VideoFrame) -> Extras:
    """Return what a picture's side data say; they are laid out as FFmpeg's structs."""
    found = side_data_of(picture)
    peak_nits = None
    if (mastering := found.get("MASTERING_DISPLAY_METADATA")) is not None:
        # Primaries and white in 8 fractions, the darkest and the brightest light in one each.
        above, below, _, has_light = struct.unpack_from("=4i", bytes(mastering), 72)
        if has_light and above > 0 and below > 0:
            peak_nits = above / below
    if (levels := found.get("CONTENT_LIGHT_LEVEL")) is not None:
        (max_nits,) = struct.unpack_from("=I", bytes(levels))
        peak_nits = float(max_nits) if max_nits else peak_nits
    return Extras(peak_nits, _is_ipt(found.get("DOVI_METADATA")))


def _is_ipt(metadata: Any) -> bool:
    """Say whether Dolby Vision's metadata are of profile 5, by the same signs as FFmpeg."""
    if metadata is None:
        return False
    data = bytes(metadata)
    (header,) = struct.unpack_from("@N", data)
    profile, is_full_range = data[header + 4], data[header + 10]
    return profile == 0 and bool(is_full_range)


# ---------------------------------------------------------------- pictures


def to_rgb(picture: av.VideoFrame, mapping: Mapping | None, **options: Any) -> NDArray[np.uint8]:
    """Return a picture that was read as 8-bit BT.709, channels last; options are PyAV's reformat's.

    Raises:
        av.error.FFmpegError: swscale can't convert the picture's format.
    """
    picture = _with_range(picture)
    if mapping is None:
        pixels = picture.to_ndarray(format="rgb24", threads=1, **options)
        return pixels.astype(np.uint8, copy=False)
    planes = picture.reformat(format="gbrp16le", threads=1, **options)
    gbr = [_samples(planes, index) for index in range(3)]
    return mapping.show(np.stack([gbr[2], gbr[0], gbr[1]]))


def to_grey(picture: av.VideoFrame, mapping: Mapping | None, **options: Any) -> NDArray[np.uint8]:
    """Return a picture that was read in 8-bit levels of grey, converted as by to_rgb."""
    if mapping is not None:
        rgb = to_rgb(picture, mapping, **options)
        picture, options = av.VideoFrame.from_ndarray(rgb, format="rgb24"), {}
    pixels = _with_range(picture).to_ndarray(format="gray", threads=1, **options)
    return pixels.astype(np.uint8, copy=False)


def _with_range(picture: av.VideoFrame) -> av.VideoFrame:
    """Return grey of limited range as YCbCr, whose range swscale heeds."""
    name = _WITH_COLOUR.get(picture.format.name)
    if name is None or picture.color_range != ColorRange.MPEG:
        return picture
    coloured = picture.reformat(
        format=name, src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.JPEG, threads=1
    )
    coloured.color_range = ColorRange.MPEG
    return coloured


def _samples(picture: av.VideoFrame, plane: int) -> NDArray[np.uint16]:
    part = picture.planes[plane]
    rows = np.frombuffer(memoryview(part), np.uint16).reshape(-1, part.line_size // 2)
    return rows[: picture.height, : picture.width]
