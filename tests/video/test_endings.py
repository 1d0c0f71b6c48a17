"""What files' ends look like, byte by byte; tests/video/test_viewer.py reads such files."""

import struct
from pathlib import Path

import pytest

from tests.conftest import make_video_file
from unmask.video.endings import find_another, find_cut


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def sidx(*sizes: int, offset: int = 0) -> bytes:
    """Return a segment index of pieces that follow it, of so many bytes each."""
    rows = b"".join(struct.pack(">III", size, 0, 0) for size in sizes)
    return box(b"sidx", struct.pack(">IIIIIHH", 0, 1, 1000, 0, offset, 0, len(sizes)) + rows)


WHOLE_MP4 = box(b"ftyp", b"isom") + box(b"moov") + box(b"moof") + box(b"mdat", bytes(50))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (WHOLE_MP4, ""),
        (WHOLE_MP4[:-1], "a box of the kind 'mdat'"),
        (WHOLE_MP4[:-58], "a fragment, before its pictures"),
        (WHOLE_MP4 + bytes(100), ""),  # zeros up to a round size
        (box(b"moov") + struct.pack(">I4s", 0, b"mdat") + bytes(9), ""),  # to the end of the file
        (box(b"moov") + struct.pack(">I4sQ", 1, b"mdat", 26) + bytes(10), ""),
        (box(b"moov") + struct.pack(">I4sQ", 1, b"mdat", 27) + bytes(10),
         "a box of the kind 'mdat'"),
        (box(b"moov") + sidx(8, 8) + box(b"moof") + box(b"mdat"), ""),
        (box(b"moov") + sidx(8, 8, 9) + box(b"moof") + box(b"mdat"),
         "the fragments that its index lists"),
        (box(b"moov") + sidx(8, 4, offset=4) + box(b"moof") + box(b"mdat"), ""),
    ],
)  # fmt: skip
def test_an_mp4(tmp_path: Path, content: bytes, found: str) -> None:
    assert cut(tmp_path, content, "mov,mp4,m4a,3gp,3g2,mj2") == found


def cut(folder: Path, content: bytes, kind: str) -> str:
    path = folder / "a"
    path.write_bytes(content)
    return find_cut(path, kind)


EBML = bytes.fromhex("1a45dfa3 80")
LIVE_SEGMENT, LIVE_CLUSTER = (
    bytes.fromhex(f"{name} 01ffffffffffffff") for name in ("18538067", "1f43b675")
)
BLOCK = bytes.fromhex("a3 85") + bytes(5)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (EBML + LIVE_SEGMENT + LIVE_CLUSTER + BLOCK + BLOCK, ""),
        (EBML + LIVE_SEGMENT + LIVE_CLUSTER + BLOCK + BLOCK[:-1], "a block or another element"),
        (EBML + LIVE_SEGMENT + LIVE_CLUSTER + BLOCK + LIVE_CLUSTER + BLOCK, ""),
        (EBML + LIVE_SEGMENT + LIVE_CLUSTER + BLOCK[:1], "the header of its last piece"),
        (EBML + LIVE_SEGMENT + bytes.fromhex("1f43b675 87") + BLOCK, ""),
        (EBML + LIVE_SEGMENT + bytes.fromhex("1f43b675 88") + BLOCK, "a cluster"),
        (EBML + bytes.fromhex("18538067 90") + LIVE_CLUSTER[:5], "its segment"),
    ],
)
def test_a_matroska(tmp_path: Path, content: bytes, found: str) -> None:
    assert cut(tmp_path, content, "matroska,webm") == found


FLV = b"FLV\x01\x01\0\0\0\x09\0\0\0\0"
TAG = b"\x09\0\0\x02" + bytes(7) + b"ab" + struct.pack(">I", 13)
RIFF = b"RIFF" + struct.pack("<I", 24) + b"AVI " + bytes(20)
CHUNK = b"00dc" + struct.pack("<I", 3) + b"abc\0"
PACK = bytes.fromhex("000001ba 44000400 0401 000003f8")  # ends without stuffing
PACKET = bytes.fromhex("000001e0 0003") + b"abc"
PAGE = b"OggS" + bytes(22) + b"\x02\x03\x04" + bytes(7)
IVF = b"DKIF" + struct.pack("<HH", 0, 32) + bytes(24)
IVF_FRAME = struct.pack("<IQ", 5, 0) + bytes(5)


@pytest.mark.parametrize(
    ("kind", "whole", "least"),
    [
        ("flv", FLV + TAG + TAG, 1),
        ("avi", RIFF, 9),  # writers that count the header are not blamed
        ("avi", b"RIFF" + bytes(4) + b"AVI LIST" + bytes(4) + b"movi" + CHUNK + CHUNK, 2),
        ("mpeg", PACK + PACKET + PACKET, 1),
        ("mpeg", PACK + PACKET + b"\0\0\1\xb9", 5),
        ("ogg", PAGE + PAGE, 1),
        ("gif", b"GIF89a" + bytes([1, 2, 3]) + b";", 1),
        ("ivf", IVF + IVF_FRAME + IVF_FRAME, 1),
        ("obu", bytes.fromhex("1200 0a03 000000 3205 0000000000"), 1),
        ("dv", bytes(240_000), 1),
        ("yuv4mpegpipe", b"YUV4MPEG2 W4 H2\n" + (b"FRAME\n" + bytes(12)) * 3, 1),
    ],
)  # fmt: skip
def test_one_byte_less_is_told(tmp_path: Path, kind: str, whole: bytes, least: int) -> None:
    assert cut(tmp_path, whole, kind) == ""
    assert cut(tmp_path, whole[:-least], kind)


def test_a_gif_may_be_filled_up_and_an_unknown_kind_is_not_judged(tmp_path: Path) -> None:
    assert cut(tmp_path, b"GIF89a;" + bytes(9), "gif") == ""
    assert cut(tmp_path, b"h264 tells no lengths", "h264") == ""
    assert cut(tmp_path, b"", "flv") == ""


def test_an_asf_tells_the_length_of_its_file(tmp_path: Path) -> None:
    path = make_video_file(tmp_path / "a.wmv", frames=20, codec="wmv2")
    whole = path.read_bytes()
    assert find_cut(path, "asf") == ""
    assert cut(tmp_path, whole[:-1], "asf") == "its data"
    place = whole.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 88
    live = bytearray(whole)
    live[place] |= 1  # broadcast: the other fields hold for nothing, but packets have one length
    (header_bytes,) = struct.unpack_from("<Q", whole, 16)
    (packet_bytes,) = struct.unpack_from("<I", whole, place + 4)
    packets = (len(whole) - header_bytes - 50) // packet_bytes
    for count in (1, packets):
        end = header_bytes + 50 + count * packet_bytes
        assert cut(tmp_path, bytes(live[:end]), "asf") == ""
        assert cut(tmp_path, bytes(live[: end - 1]), "asf") == "a packet"


@pytest.mark.parametrize(
    ("kind", "content", "found"),
    [
        ("mov,mp4", WHOLE_MP4, False),
        ("mov,mp4", WHOLE_MP4 * 2, True),
        ("flv", FLV + TAG, False),
        ("flv", FLV + TAG + FLV + TAG, True),
        ("mpeg", PACK + PACKET * 2 + PACKET.replace(b"\xe0", b"\xe1") + PACKET, True),
        ("mpeg", PACK + PACKET * 4, False),
        ("avi", RIFF * 2, False),  # FFmpeg reads both
    ],
)
def test_a_second_recording_of_which_nothing_is_read(
    tmp_path: Path, kind: str, content: bytes, found: bool
) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert find_another(path, kind) is found


def test_a_second_matroska_is_read_only_with_the_settings_of_the_first(tmp_path: Path) -> None:
    first, same, other = (
        make_video_file(tmp_path / f"{number}.mkv", frames=5, size=(width, 48)).read_bytes()
        for number, width in enumerate((64, 64, 80))
    )
    path = tmp_path / "a.mkv"
    path.write_bytes(first + same)
    assert find_another(path, "matroska,webm") is False
    path.write_bytes(first + other)
    assert find_another(path, "matroska,webm") is True
