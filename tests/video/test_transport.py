"""Transport streams packet by packet; tests/video/test_viewer.py reads such files."""

import io
from pathlib import Path

import pytest

from tests.conftest import make_video_file
from unmask.video import transport
from unmask.video.transport import Part, study

TABLE_PID, VIDEO_PID = 0x1000, 0x100


def packet(pid: int, payload: bytes, *, begins: bool = False, fill: int = 0xFF) -> bytes:
    """Return a packet; a short payload is filled up before it, a table behind it."""
    head = bytes([0x47, begins << 6 | pid >> 8, pid & 0xFF])
    if fill == 0xFF:
        return head + b"\x10" + payload.ljust(184, b"\xff")
    room = 184 - len(payload)
    if not room:
        return head + b"\x10" + payload
    return head + b"\x30" + bytes([room - 1]) + (b"\0" + b"\xff" * (room - 2))[: room - 1] + payload


def table(pid: int, kind: int, body: bytes) -> bytes:
    length = 5 + len(body) + 4
    section = bytes([kind, 0xB0, length, 0, 1, 0xC1, 0, 0]) + body + bytes(4)
    return packet(pid, b"\0" + section, begins=True)


def tables(*streams: tuple[int, int], map_pid: int = TABLE_PID) -> bytes:
    """Return the list of programs and the map of the only one: types and identifiers."""
    programs = bytes([0, 1, 0xE0 | map_pid >> 8, map_pid & 0xFF])
    listed = b"".join(bytes([kind, 0xE0 | pid >> 8, pid & 0xFF, 0xF0, 0]) for kind, pid in streams)
    return table(0, 0, programs) + table(map_pid, 2, bytes([0xE1, 0, 0xF0, 0]) + listed)


def picture(payload: int, pid: int = VIDEO_PID, *, length: int = 0) -> bytes:
    """Return the packets of a picture of so many bytes, whose length is told or not."""
    content = b"\0\0\1\xe0" + length.to_bytes(2, "big") + bytes(payload - 6)
    pieces = [content[at : at + 184] for at in range(0, payload, 184)]
    return b"".join(
        packet(pid, piece, begins=not number, fill=0) for number, piece in enumerate(pieces)
    )


H264, HEVC, MPEG2, AAC = 0x1B, 0x24, 0x02, 0x0F
ONE = tables((H264, VIDEO_PID), (AAC, 0x101)) + picture(500)


def found(folder: Path, content: bytes) -> transport.Layout:
    path = folder / "a.ts"
    path.write_bytes(content)
    return study(path)


@pytest.mark.parametrize(
    "second",
    [
        tables((HEVC, VIDEO_PID)),
        tables((H264, 0x200)),
        tables((H264, VIDEO_PID), (H264, 0x200)),
        tables((MPEG2, VIDEO_PID), map_pid=0x50),
    ],
)
def test_a_part_begins_where_the_videos_change(tmp_path: Path, second: bytes) -> None:
    layout = found(tmp_path, ONE + ONE + second + picture(300) + second)
    assert layout.starts == [0, 2 * len(ONE)]


@pytest.mark.parametrize(
    "second",
    [
        ONE,
        tables((H264, VIDEO_PID)),  # without its sound
        tables((H264, VIDEO_PID), (AAC, 0x300)),
        tables((H264, VIDEO_PID), map_pid=0x50),
        tables((AAC, 0x101)),  # a while of radio
    ],
)
def test_the_same_videos_are_one_part(tmp_path: Path, second: bytes) -> None:
    assert found(tmp_path, ONE + second + picture(300)).starts == [0]


def test_parts_are_found_behind_what_was_cut_off_and_behind_time_stamps(tmp_path: Path) -> None:
    second = tables((HEVC, VIDEO_PID)) + picture(300)
    assert found(tmp_path, ONE[:-50] + second).starts == [0, len(ONE) - 50]
    stamped = b"".join(
        bytes(4) + content[at : at + 188]
        for content in (ONE, second)
        for at in range(0, len(content), 188)
    )
    assert found(tmp_path, stamped).starts == [0, len(ONE) // 188 * 192 + 4]


def test_no_more_parts_than_a_hundred_are_opened(tmp_path: Path) -> None:
    layout = found(tmp_path, (ONE + tables((HEVC, VIDEO_PID))) * 60)
    assert len(layout.starts) == 100
    assert layout.more_parts == 20


@pytest.mark.parametrize(
    ("end", "cut"),
    [
        (picture(500), ""),
        (picture(500) + picture(200, 0x101), ""),  # sound ends it
        (picture(500)[:-1], "a packet"),
        (picture(500)[:-188], "a picture"),
        (picture(500)[:-187], "a packet"),
        (picture(500) + b"\0" * 100, ""),  # filled up
        (picture(184, length=178), ""),  # happens to be full, and says so
        (picture(184, length=179), "a picture"),
        (picture(183), ""),  # filled up by a byte
    ],
)
def test_how_a_stream_ends(tmp_path: Path, end: bytes, cut: str) -> None:
    assert found(tmp_path, ONE + end).cut == cut


@pytest.mark.parametrize("content", [b"", b"G", b"G" * 100, bytes(5000), b"\x47" + bytes(5000)])
def test_of_what_is_none_nothing_is_said(tmp_path: Path, content: bytes) -> None:
    assert found(tmp_path, content).starts == [0]


def test_a_whole_recording_ends_cleanly(tmp_path: Path) -> None:
    for size in ((64, 48), (320, 240)):
        path = make_video_file(tmp_path / "a.ts", frames=20, size=size, sound_s=0.7)
        assert study(path) == transport.Layout()


def test_a_part_is_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    part = Part(path, 10, 20)
    assert part.read(4) == bytes(range(10, 14))
    assert part.read() == bytes(range(14, 20))
    assert part.read(4) == b""
    assert part.seek(-3, io.SEEK_END) == 7
    assert part.read(9) == bytes(range(17, 20))
    assert part.seek(2) == part.tell() == 2
    assert part.seek(1, io.SEEK_CUR) == 3
    part.close()
    assert part.closed
