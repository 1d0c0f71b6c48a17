"""A picture of a folder of frames: whether it is whole, and how large."""

import struct
import zlib

from unmask.video.pictures import Picture, inspect


def _png(*parts: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


_HEADER = (b"IHDR", struct.pack(">IIBBBBB", 4, 3, 8, 2, 0, 0, 0))
_FRAME = b"\xff\xc0\x00\x0b\x08\x00\x03\x00\x04\x01\x01\x11\x00"
SEEDS = [
    _png(_HEADER, (b"IDAT", zlib.compress(bytes(39))), (b"IEND", b"")),
    _png((b"IEND", b"")),
    _png(_HEADER)[:-3],
    b"\xff\xd8\xff\xe0\x00\x04ab" + _FRAME + b"\xff\xda\x00\x02\xff\xd9",
    b"\xff\xd8\xff\xff\xff" + _FRAME + b"\xff\xd9",
    b"\xff\xd8\xff\xe0\x00\x00",
    b"GIF89a",
]
TOKENS = ["IHDR", "IDAT", "IEND", "\\xff\\xd8", "\\xff\\xc0", "\\xff\\xd9", "\\xff\\xff"]


def read(data: bytes) -> None:
    """Look a picture through."""
    found = inspect(data)
    if isinstance(found, Picture):
        assert 0 < found.width * found.height <= 2**26, "a picture of an impossible size"
