"""Folders of frames as videos: pictures put into a MOV file as they are, one after another.

A PNG or JPEG is a coded picture like any other to MOV, so that its own bytes are its frame: nothing
is lost, and nothing is decoded here. Only the workers that crop decode what a stranger drew. Here
each picture is looked through for whether it is whole and how large it is.
"""

import hashlib
import json
import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from unmask.errors import DatasetError
from unmask.runtime.disk import create, give_name, new_name, read_regular, write_atomically, writing

MAX_PICTURE_BYTES = 2**26
_MAX_PIXELS = 2**26
_UNITS = 90_000  # of time in a second: 1 / 25, 1 / 30 and 1 / 24 s are whole numbers of them

NOTES = ".frames.json"  # beside the videos that were made: what of, and which are tracks
_MAX_NOTES_BYTES = 2**28
_VERSION = 1  # of how they are made; another one makes them anew


@dataclass(frozen=True)
class Picture:
    """What a whole picture's header says."""

    codec: str  # FFmpeg's name: png, mjpeg
    width: int
    height: int


@dataclass(frozen=True)
class Note:
    """What a video was made of."""

    digest: str  # of the pictures, their times, and how it was made
    bytes: int  # the video's size
    pictures: int  # that it shows
    left_out: Mapping[str, int] = field(default_factory=dict)  # pictures it does not, by why
    gaps: int = 0  # numbers that no picture has
    rate_fps: float = 0.0
    is_track: bool = False  # each picture is one face


# ---------------------------------------------------------------- one picture


def inspect(content: bytes) -> Picture | str:
    """Return what a picture is, or why it can't be a frame, in a word or two."""
    try:
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            found = _inspect_png(content)
        elif content.startswith(b"\xff\xd8"):
            found = _inspect_jpeg(content)
        else:
            return "neither PNG nor JPEG"
    except (struct.error, IndexError, ValueError):
        return "damaged"
    if found.width * found.height > _MAX_PIXELS or not found.width * found.height:
        return "of an impossible size"
    return found


def _inspect_png(content: bytes) -> Picture:
    """Raise ValueError where a chunk is cut or its check fails (PNG, W3C 2003, section 5)."""
    place, kind, width, height = 8, b"", 0, 0
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 8 + length
        (check,) = struct.unpack_from(">I", content, end)
        if zlib.crc32(memoryview(content)[place + 4 : end]) != check:
            raise ValueError("checksum")
        if place == 8:
            if kind != b"IHDR":
                raise ValueError("header")
            width, height = struct.unpack_from(">II", content, place + 8)
        place = end + 4
    return Picture("png", width, height)


def _inspect_jpeg(content: bytes) -> Picture:
    """Raise ValueError where no frame's header or no end is found (ITU T.81, annex B)."""
    place = 2
    while True:
        if content[place] != 0xFF:
            raise ValueError("marker")
        marker = content[place + 1]
        if marker == 0xFF:  # markers may be preceded by any number of these
            place += 1
            continue
        (length,) = struct.unpack_from(">H", content, place + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, place + 5)
            if content.rfind(b"\xff\xd9", place) < 0:
                raise ValueError("end")
            return Picture("mjpeg", width, height)
        if length < 2:
            raise ValueError("length")
        place += 2 + length


# ---------------------------------------------------------------- one video


@dataclass(frozen=True)
class Plan:
    """The pictures of a video that can be shown, and what became of the others."""

    digest: str
    picture: Picture
    places: tuple[int, ...]  # of those that are shown, among all
    left_out: Mapping[str, int]


def plan(
    count: int, read: Callable[[int], bytes], ticks: Sequence[int], rate_fps: float
) -> Plan | Mapping[str, int]:
    """Return which of a video's pictures are shown: whole ones of the most common size and kind.

    read gives the content of a picture by its place. Where none is whole, return why not.
    """
    digest = hashlib.sha256(f"{_VERSION} {rate_fps!r} {list(ticks)}".encode())
    found: list[Picture | str] = []
    for place in range(count):
        content = read(place)
        digest.update(hashlib.sha256(content).digest())
        found.append(inspect(content))
    kinds = Counter(each for each in found if isinstance(each, Picture))
    left_out = Counter(each for each in found if isinstance(each, str))
    if not kinds:
        return left_out
    (common, _), *_ = kinds.most_common(1)
    for kind, times in kinds.items():
        if kind != common:
            why = "of another size" if kind.codec == common.codec else "of another kind"
            left_out[why] += times
    places = tuple(place for place, each in enumerate(found) if each == common)
    return Plan(digest.hexdigest(), common, places, dict(left_out))


def write_video(
    path: Path, planned: Plan, read: Callable[[int], bytes], ticks: Sequence[int], rate_fps: float
) -> int:
    """Write the planned pictures to a MOV file, and return its bytes. The same give the same.

    A picture is shown until the next one is, the last one for a tick.

    Raises:
        DiskError: the disk takes no more.
    """
    part = new_name(path, "part")
    step = Fraction(_UNITS) / Fraction(rate_fps).limit_denominator(1001)
    starts = [round(ticks[place] * step) for place in planned.places]
    ends = [*starts[1:], starts[-1] + max(1, round(step))]
    with writing(path):
        try:
            os.close(create(part))  # FFmpeg would follow a link
            with av.open(
                f"file:{part}", "w", format="mov", container_options={"fflags": "+bitexact"}
            ) as container:
                stream = container.add_mux_stream(
                    planned.picture.codec, rate=Fraction(rate_fps).limit_denominator(1001),
                    width=planned.picture.width, height=planned.picture.height,
                )  # fmt: skip
                stream.time_base = Fraction(1, _UNITS)
                for place, start, end in zip(planned.places, starts, ends, strict=True):
                    packet = av.Packet(read(place))
                    packet.stream, packet.time_base = stream, Fraction(1, _UNITS)
                    packet.pts = packet.dts = start - starts[0]
                    packet.duration = end - start
                    packet.is_keyframe = True
                    container.mux(packet)
            give_name(part, path)
        finally:
            part.unlink(missing_ok=True)
    return path.stat().st_size


# ---------------------------------------------------------------- notes


def read_notes(folder: Path) -> dict[str, Note]:
    """Return what each video in a folder was made of, by its file's name; a damaged note is none.

    Raises:
        DatasetError: the notes are there, but can't be read.
    """
    path = folder / NOTES
    if not path.exists():
        return {}
    try:
        rows = json.loads(read_regular(path, _MAX_NOTES_BYTES))
        return {name: Note(**row) for name, row in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f"Asked for {path}; it is not what was written there: {str(error)!a}. Delete it and "
            "run `dvc repro`."
        ) from error


def write_notes(folder: Path, notes: Mapping[str, Note]) -> None:
    """Write what each video was made of; nothing where none was."""
    path = folder / NOTES
    if notes:
        rows = {name: asdict(notes[name]) for name in sorted(notes)}
        write_atomically(path, json.dumps(rows, indent=1) + "\n")
    else:
        path.unlink(missing_ok=True)


def read_tracks(folder: Path) -> Collection[str]:
    """Return the names of the videos in a folder that are one face each, cut out already."""
    return frozenset(name for name, note in read_notes(folder).items() if note.is_track)
