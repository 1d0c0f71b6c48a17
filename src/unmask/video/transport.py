"""Where the streams of an MPEG transport stream change, and how it ends, read from its packets.

FFmpeg's reader keeps the streams that it finds at the start of a file. Where recordings of
different kinds are joined byte by byte, players go on with the streams of the next one. To do the
same, read the parts that this finds one after the other. Section numbers are of ISO 13818-1.
"""

import io
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SYNC = 0x47
# Bytes of a packet: alone, after a time stamp (Blu-ray, AVCHD), before a check sum.
_STRIDES = ((188, 0), (192, 4), (204, 0))
_IN_A_ROW = 5  # sync bytes that tell packets from chance
_AT_ONCE = 2**16  # packets
_VIDEO_KINDS = {0x01, 0x02, 0x10, 0x1B, 0x21, 0x24, 0x33, 0x42, 0xD1, 0xD2, 0xEA}
_PRIVATE, _PRIVATE_VIDEO = 0x06, (b"AV01", b"VC-1", b"drac", b"VVC ", b"HEVC")
MOST_PARTS = 100

Content = mmap.mmap
Videos = frozenset[tuple[int, int]]  # packet identifier and stream type


@dataclass
class Layout:
    """Where the parts of a file begin, and how it ends."""

    starts: list[int] = field(default_factory=lambda: [0])  # bytes
    more_parts: int = 0  # beyond MOST_PARTS
    cut: str = ""  # within what the file ends; nothing where it ends cleanly


class Part(io.RawIOBase):
    """Some bytes of a file as a file of their own, for PyAV to read."""

    def __init__(self, path: Path, start: int, end: int) -> None:
        self._file = path.open("rb")
        self._start, self._end = start, end
        self._file.seek(start)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none at the end."""
        left = self._end - self._file.tell()
        return self._file.read(max(0, left if size < 0 else min(size, left)))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, counted from the part's start."""
        base = {
            io.SEEK_SET: self._start, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._end,
        }[whence]  # fmt: skip
        self._file.seek(max(self._start, base + offset))
        return self.tell()

    def tell(self) -> int:
        """Return the place, counted from the part's start."""
        return self._file.tell() - self._start

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def study(path: Path, meanwhile: Callable[[], None] = lambda: None) -> Layout:
    """Return where a transport stream's video streams change, and whether it ends in mid-picture.

    A part begins where the program map names other video streams, or another codec, than before.
    A file whose packets can't be found is one part of which nothing is said. All of the file is
    read; meanwhile is called now and then.
    """
    if not path.stat().st_size:
        return Layout()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _Study(content, meanwhile).layout


class _Study:
    def __init__(self, content: Content, meanwhile: Callable[[], None]) -> None:
        self.layout = Layout()
        self._content = content
        self._program_start = 0  # of the latest table of programs
        self._maps: dict[int, Videos | None] = {}  # by identifier of the program map's packets
        self._known: Videos = frozenset()
        self._last: dict[int, int] = {}  # where each stream's last packet begins
        end = 0
        for places, pids in self._runs():
            meanwhile()
            end = int(places[-1]) + 188
            for pid in np.unique(pids):
                self._last[int(pid)] = int(places[pids == pid][-1])
            is_table = np.isin(pids, [0, *self._maps])
            if (pids[is_table] == 0).any():
                # Programs may change on the way: their maps are looked for among all packets.
                self._read_tables(places, pids)
            else:
                for place, pid in zip(places[is_table], pids[is_table], strict=True):
                    self._read_table(int(place), int(pid))
        self.layout.cut = self._cut(end)

    def _read_tables(self, places: NDArray[np.int64], pids: NDArray[np.int64]) -> None:
        at = 0
        while at < len(pids):
            before = set(self._maps)
            for place in at + np.flatnonzero(np.isin(pids[at:], [0, *before])):
                self._read_table(int(places[place]), int(pids[place]))
                if set(self._maps) != before:
                    break
            else:
                return
            at = int(place) + 1

    def _runs(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the places and identifiers of packets, some at a time; pass over what is none."""
        at, size = 0, len(self._content)
        while (found := self._synchronise(at)) is not None:
            at, stride = found
            while at + 188 <= size:
                count = min(_AT_ONCE, (size - at - 188) // stride + 1)
                flat = np.frombuffer(self._content, np.uint8, (count - 1) * stride + 188, at)
                padded = np.lib.stride_tricks.as_strided(flat, (count, 3), (stride, 1))
                heads = padded.astype(np.int64)  # a copy: the view would keep the file open
                del flat, padded
                good = heads[:, 0] == _SYNC
                # Of a packet that was cut off, the next one does not begin where it should.
                beyond = at + count * stride
                good[:-1] &= good[1:]
                good[-1] &= beyond + 188 > size or self._content[beyond] == _SYNC
                whole = count if good.all() else int(np.argmin(good))
                if whole:
                    places = at + stride * np.arange(whole)
                    yield places, (heads[:whole, 1] & 0x1F) << 8 | heads[:whole, 2]
                at += whole * stride
                if whole < count:
                    at += 1
                    break
            if at + 188 > size:
                return

    def _synchronise(self, at: int) -> tuple[int, int] | None:
        """Return where packets go on, and their stride."""
        size, content = len(self._content), self._content
        while 0 <= (at := content.find(bytes([_SYNC]), at)) <= size - 188:
            for stride, _ in _STRIDES:
                places = range(at, min(size, at + _IN_A_ROW * stride), stride)
                if all(content[place] == _SYNC for place in places):
                    return at, stride
            at += 1
        return None

    # ------------------------------------------------------------ tables

    def _read_table(self, place: int, pid: int) -> None:
        section = _section(self._content, place)
        if section is None:
            return
        if pid == 0 and section[0] == 0:
            self._program_start = place
            body = section[8:]
            pids = [
                int.from_bytes(body[at + 2 : at + 4], "big") & 0x1FFF
                for at in range(0, len(body) - 3, 4)
                if body[at : at + 2] != b"\0\0"  # the network's own table
            ]
            self._maps = {one: self._maps.get(one) for one in pids}
        elif section[0] == 2 and pid in self._maps:
            self._maps[pid] = _videos(section)
            self._compare()

    def _compare(self) -> None:
        known = [videos for videos in self._maps.values() if videos is not None]
        now: Videos = frozenset().union(*known)
        if len(known) < len(self._maps) or not now or now == self._known:
            return
        if self._known:
            if len(self.layout.starts) < MOST_PARTS:
                self.layout.starts.append(self._program_start)
            else:
                self.layout.more_parts += 1
        self._known = now

    # ------------------------------------------------------------ the end

    def _cut(self, end: int) -> str:
        rest = bytes(self._content[end : end + 188]) if end else b""
        if rest[:1] == bytes([_SYNC]) or (rest[4:5] == bytes([_SYNC]) and len(rest) > 4):
            return "a packet"
        pids = {pid for pid, _ in self._known}
        last = max((self._last[pid] for pid in pids if pid in self._last), default=None)
        if last is None:
            return ""
        # A picture's last packet is filled up, as the next picture begins with a packet (2.4.3.5).
        # One of 184 happens to be full.
        packet = bytes(self._content[last : last + 188])
        return "" if _has_stuffing(packet) or _ends_here(packet) else "a picture"


def _has_stuffing(packet: bytes) -> bool:
    """Return whether a packet is filled up before its payload (2.4.3.4)."""
    if not packet[3] & 0x20:
        return False
    length, flags = packet[4], packet[5]
    if not length:
        return True
    used = 1 + 6 * (flags >> 4 & 1) + 6 * (flags >> 3 & 1) + (flags >> 2 & 1)
    for is_there in (flags & 2, flags & 1):  # private data, then an extension: a length and bytes
        if is_there:
            used += 1 + packet[5 + used]
    return length > used


def _ends_here(packet: bytes) -> bool:
    """Return whether a packet begins what ends with it, by the length that it tells."""
    if not packet[1] & 0x40:
        return False
    payload = 4 + (packet[4] + 1 if packet[3] & 0x20 else 0)
    length = int.from_bytes(packet[payload + 4 : payload + 6], "big")
    return bool(length) and payload + 6 + length <= 188


def _section(content: Content, place: int) -> bytes | None:
    """Return the table that begins in a packet, up to its check sum or the packet's end."""
    packet = bytes(content[place : place + 188])
    if not packet[1] & 0x40 or not packet[3] & 0x10:
        return None
    at = 4 + (packet[4] + 1 if packet[3] & 0x20 else 0)
    if at >= 188:
        return None
    at += packet[at] + 1
    if at + 8 > 188:
        return None
    length = int.from_bytes(packet[at + 1 : at + 3], "big") & 0xFFF
    is_current = packet[at + 5] & 1
    return packet[at : at + 3 + length - 4] if is_current else None


def _videos(section: bytes) -> Videos:
    """Return the video streams of a program map (2.4.4.8)."""
    found = set()
    at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    while at + 5 <= len(section):
        kind = section[at]
        pid = int.from_bytes(section[at + 1 : at + 3], "big") & 0x1FFF
        length = int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF
        described = section[at + 5 : at + 5 + length]
        is_private = kind == _PRIVATE and any(name in described for name in _PRIVATE_VIDEO)
        if kind in _VIDEO_KINDS or is_private:
            found.add((pid, kind))
        at += 5 + length
    return frozenset(found)
