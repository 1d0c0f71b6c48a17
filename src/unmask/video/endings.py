"""Where a file ends: whether its container stops where it says, read from its bytes alone.

Most containers don't say how long their video is when they are written live. All of them say how
long each of their pieces is, so that a file that was cut off ends within one.
"""

import mmap
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

_TAIL_BYTES = 2**22  # of a file whose pieces can be found from its end
_DV_BYTES = {"0": 120_000, "1": 144_000}  # a frame at 525 and at 625 lines, 25 Mbit/s
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_FLV_HEADER = re.compile(rb"FLV\x01[\x01\x04\x05]\0\0\0\x09\0\0\0\0")
# Matroska's elements that hold others and may be written without a length (RFC 9559, section 5).
_SEGMENT, _CLUSTER, _TRACKS, _TRACK = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_TRACK_NUMBER, _CODEC, _CODEC_SETTINGS = 0xD7, 0x86, 0x63A2

Content = mmap.mmap | bytes


def find_cut(path: Path, format_name: str) -> str:
    """Return within what a file ends, such as "a cluster"; nothing where it ends cleanly.

    format_name is FFmpeg's. Nothing is said of formats that don't tell the lengths of their pieces.
    """
    check = next((_CHECKS[name] for name in format_name.split(",") if name in _CHECKS), None)
    if check is None or not path.stat().st_size:
        return ""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return check(content)
        except (IndexError, struct.error):  # its last piece is too short to say how long it is
            return "the header of its last piece"


def find_another(path: Path, format_name: str) -> bool:
    """Return whether a second recording begins after the first, of which FFmpeg reads nothing.

    So it is where MP4 or FLV files were joined byte by byte, Matroska files of other settings, and
    MPEG program streams whose videos have different numbers.
    """
    check = next((_ANOTHER[name] for name in format_name.split(",") if name in _ANOTHER), None)
    if check is None or not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return check(content)
        except (IndexError, struct.error):  # it ends within a header
            return False


# ---------------------------------------------------------------- MP4 and MOV


def _boxes(content: Content) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, start and end of each box of the file; the last end may lie beyond it."""
    at = 0
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if length == 1:
            (length,) = struct.unpack_from(">Q", content, at + 8)
        elif length == 0:  # to the end of the file
            length = len(content) - at
        if length < 8 or not re.fullmatch(rb"[\x20-\x7e\xa9]{4}", kind):
            return  # no box: what follows the last one, which players pass over
        yield kind, at, at + length
        at += length


def _mov(content: Content) -> str:
    kind, end, indexed_end = b"", 0, 0
    for kind, at, end in _boxes(content):
        if kind == b"sidx" and end <= len(content):
            indexed_end = max(indexed_end, _indexed_end(content, at, end))
    if end > len(content):
        return f"a box of the kind {kind.decode('latin-1')!r}"
    if kind == b"moof":
        return "a fragment, before its pictures"
    return "the fragments that its index lists" if indexed_end > len(content) else ""


def _indexed_end(content: Content, at: int, end: int) -> int:
    """Return where the last piece ends that a segment index lists (ISO 14496-12, 8.16.3)."""
    version = content[at + 8]
    place = at + 20
    form, size = (">II", 8) if version == 0 else (">QQ", 16)
    _, offset = struct.unpack_from(form, content, place)
    (count,) = struct.unpack_from(">H", content, place + size + 2)
    sizes = struct.unpack_from(">" + "I8x" * count, content, place + size + 4)
    return end + int(offset) + sum(int(each) & 0x7FFFFFFF for each in sizes)


# ---------------------------------------------------------------- Matroska and WebM


def _matroska(content: Content) -> str:
    return _walk_matroska(content, [])


def _has_other_settings(content: Content) -> bool:
    tracks: list[tuple[int, int]] = []
    _walk_matroska(content, tracks)
    settings = [
        {
            tuple(
                (identity, bytes(content[at:end]))
                for identity, at, end in _elements(content, *track)
                if identity in (_TRACK_NUMBER, _CODEC, _CODEC_SETTINGS)
            )
            for each, *track in _elements(content, start, end)
            if each == _TRACK
        }
        for start, end in tracks
    ]
    return any(each != settings[0] for each in settings)


def _elements(content: Content, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the elements inside another: what each is, where its content begins and ends."""
    while at < end:
        identity, after = _element_id(content, at)
        length, body = _element_length(content, after)
        if length is None:
            return
        yield identity, body, body + length
        at = body + length


def _walk_matroska(content: Content, tracks: list[tuple[int, int]]) -> str:
    """Return within what the file ends; add where the lists of tracks begin and end."""
    at = 0
    while at < len(content):
        identity, after = _element_id(content, at)
        length, body = _element_length(content, after)
        is_live = length is None and identity in (_SEGMENT, _CLUSTER)
        if after - at > 4 or (length is None and not is_live):
            return ""  # no element: padding, or damage that the decoder tells of
        end = len(content) if length is None else body + length
        if end > len(content):
            whole = {_SEGMENT: "its segment", _CLUSTER: "a cluster"}
            return whole.get(identity, "a block or another element")
        if identity == _TRACKS:
            tracks.append((body, end))
        # The segment's elements follow one another, and so do those of a cluster without a length.
        at = body if identity == _SEGMENT or length is None else end
    return ""


def _element_id(content: Content, at: int) -> tuple[int, int]:
    size = 9 - content[at].bit_length()
    identity = int.from_bytes(_exactly(content, at, size), "big")
    return identity, at + size


def _element_length(content: Content, at: int) -> tuple[int | None, int]:
    size = 9 - content[at].bit_length()
    if size > 8:
        return None, at + 1
    value = int.from_bytes(_exactly(content, at, size), "big") & ((1 << 7 * size) - 1)
    return (None if value == (1 << 7 * size) - 1 else value), at + size


def _exactly(content: Content, at: int, size: int) -> bytes:
    found = bytes(content[at : at + size])
    if len(found) < size:
        raise IndexError
    return found


# ---------------------------------------------------------------- the others


def _flv(content: Content) -> str:
    # Each tag is followed by its length (Adobe's FLV specification 10.1, annex E.3).
    (length,) = struct.unpack_from(">I", content, len(content) - 4)
    start = len(content) - 4 - length
    is_whole = length >= 11 and start >= 13 and content[start] & 0x1F in (8, 9, 18)
    if is_whole:
        is_whole = int.from_bytes(content[start + 1 : start + 4], "big") == length - 11
    return "" if is_whole or len(content) == 13 else "a tag"


def _avi(content: Content) -> str:
    at = 0
    while content[at : at + 4] == b"RIFF":
        (length,) = struct.unpack_from("<I", content, at + 4)
        if length in (0, 0xFFFFFFFF):  # written to where nothing can be filled in later
            return _avi_chunk(content, at + 12)
        at += 8 + length + length % 2
    # Some writers count the header's 8 bytes, too.
    return "its list of pictures" if at - 8 > len(content) else ""


def _avi_chunk(content: Content, at: int) -> str:
    """Walk the chunks of a file whose own length is not filled in."""
    while at < len(content):
        kind, length = bytes(content[at : at + 4]), content[at + 4 : at + 8]
        if kind.strip(b"\0") and not re.fullmatch(rb"[ -~]{1,4}", kind):
            return ""  # padding, or damage
        is_list = kind == b"LIST" and content[at + 8 : at + 12] == b"movi"
        (size,) = struct.unpack("<I", length)
        at += 12 if is_list else 8 + size + size % 2
    return "a picture" if at > len(content) + 1 else ""


def _asf(content: Content) -> str:
    """Compare with the header's length of the file, or the length of a packet (ASF 01.20.05)."""
    if content[:16] != _ASF_HEADER:
        return ""
    (header_bytes,) = struct.unpack_from("<Q", content, 16)
    place = content.find(_ASF_FILE, 0, header_bytes)
    if place < 0:
        return ""
    (file_bytes,) = struct.unpack_from("<Q", content, place + 40)
    flags, packet_bytes = struct.unpack_from("<II", content, place + 88)
    is_live = flags & 1
    if not is_live:
        return "its data" if len(content) < file_bytes else ""
    start = header_bytes + 50
    if content[header_bytes : header_bytes + 16] != _ASF_DATA or not packet_bytes:
        return ""
    return "a packet" if (len(content) - start) % packet_bytes else ""


def _program_stream(content: Content) -> str:
    """Walk the packs of the file's last part: their lengths are in ISO 13818-1, 2.5.3."""
    at = content.find(b"\0\0\1\xba", max(0, len(content) - _TAIL_BYTES))
    while 0 <= at < len(content) - 4:
        if content[at : at + 3] != b"\0\0\1":
            return ""  # padding, or damage
        code = content[at + 3]
        if code == 0xB9:
            return ""
        if code == 0xBA:
            at += 14 + (content[at + 13] & 7) if content[at + 4] >> 6 == 1 else 12
        else:
            (length,) = struct.unpack_from(">H", content, at + 4)
            at += 6 + length
    return "a packet" if at > len(content) else ""


def _has_videos(content: Content) -> bool:
    """Return whether a program stream has videos of several numbers.

    No coded video holds the code that such a packet begins with.
    """
    found = set()
    for match in re.finditer(rb"\x00\x00\x01[\xe0-\xef]", content):
        at = match.start()
        length = int.from_bytes(content[at + 4 : at + 6], "big")
        if content[at + 6 + length : at + 9 + length] == b"\0\0\1":  # not by chance, in a sound
            found.add(content[at + 3])
    return len(found) > 1


def _ogg(content: Content) -> str:
    at = content.rfind(b"OggS", max(0, len(content) - _TAIL_BYTES))
    if at < 0:
        return ""
    segments = content[at + 26]
    lengths = _exactly(content, at + 27, segments)
    return "a page" if at + 27 + segments + sum(lengths) > len(content) else ""


def _gif(content: Content) -> str:
    tail = bytes(content[-1024:]).rstrip(b"\0")
    return "" if tail.endswith(b";") else "a picture"


def _ivf(content: Content) -> str:
    (at,) = struct.unpack_from("<H", content, 6)
    while at < len(content):
        (length,) = struct.unpack_from("<I", content, at)
        at += 12 + length
    return "a picture" if at > len(content) else ""


def _obu(content: Content) -> str:
    """Walk the units, each of which tells its length (AV1 specification, 5.3 and 4.10.5)."""
    at = 0
    while at < len(content):
        header = content[at]
        if not header & 2:
            return ""
        at += 2 if header & 4 else 1
        length = 0
        for shift in range(0, 56, 7):
            byte = content[at]
            length |= (byte & 0x7F) << shift
            at += 1
            if not byte & 0x80:
                break
        at += length
    return "a picture" if at > len(content) else ""


def _dv(content: Content) -> str:
    frame_bytes = _DV_BYTES[str(content[3] >> 7)]
    return "a picture" if len(content) % frame_bytes else ""


def _y4m(content: Content) -> str:
    first = content.find(b"FRAME", 0, 1024)
    second = content.find(b"FRAME", first + 5)
    start = content.find(b"\n", first) + 1
    header = bytes(content[:first])
    size = re.search(rb"W(\d+) H(\d+)", header)
    if first < 0 or size is None:
        return ""
    if second < 0:
        return "" if len(content) - start >= int(size[1]) * int(size[2]) else "a picture"
    return "a picture" if (len(content) - first) % (second - first) else ""


_ANOTHER: dict[str, Callable[[Content], bool]] = {
    "mov": lambda content: sum(kind == b"moov" for kind, _, _ in _boxes(content)) > 1,
    "flv": lambda content: _FLV_HEADER.search(content, 1) is not None,
    "matroska": _has_other_settings,
    "mpeg": _has_videos,
}
_CHECKS: dict[str, Callable[[Content], str]] = {
    "mov": _mov, "matroska": _matroska, "flv": _flv, "avi": _avi, "asf": _asf,
    "mpeg": _program_stream, "ogg": _ogg, "gif": _gif, "ivf": _ivf, "obu": _obu, "dv": _dv,
    "yuv4mpegpipe": _y4m,
}  # fmt: skip
