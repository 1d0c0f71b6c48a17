"""The coded pictures of a video, the same in whichever container they lie."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av

from unmask.video.streams import find_pictures, open_file


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
