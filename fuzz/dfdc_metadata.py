"""A chunk's metadata.json, as the Deepfake Detection Challenge ships it."""

from fuzz.memory import read_chunk

SEEDS = [
    b'{"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"},'
    b' "b.mp4": {"label": "REAL", "split": "train"}}',
    b'{"a.mp4": {"label": "FAKE", "source": "ann", "donors": ["bob", "eve"], "method": "swap"}}',
    b'{"a.mp4": {"label": "REAL"}, "A.MP4": {"label": "REAL"}, "a.mov": {"label": "FAKE"}}',
    b'{"a.mp4": {"label": "FAKE", "original": "b.mp4"},'
    b' "b.mp4": {"label": "FAKE", "original": "a.mp4"}}',
    b'{"\\ud800.mp4": {"label": "REAL"}, "\\u202e4pm.exe": null, "": []}',
    b'{"a.mp4": {"label": "REAL"}, "a.mp4": {"label": "FAKE"}}',
    b"[]",
    b"\xff\xfe",
    *(b'{"a.mp4": ' + b"[" * n + b"]" * n + b"}" for n in range(900, 1000, 7)),
]
TOKENS = ['".mp4"', '"label"', '"split"', '"original"', '"source"', '"donors"', '"method"',
          '"REAL"', '"FAKE"', "null", "true", "NaN", "1e999", "\\\\ud800", "|"]  # fmt: skip


def read(data: bytes) -> None:
    """Read a chunk with this metadata."""
    read_chunk({"metadata.json": data})
