"""A chunk's manifest.jsonl."""

from fuzz.memory import read_chunk

SEEDS = [
    b'{"path": "a.mp4", "label": "REAL", "source": "ann"}\n'
    b'{"path": "b.mp4", "label": 1, "donors": ["ann", "bob"], "original": "a.mp4"}\n',
    b'{"path": "a.mp4", "label": 0, "donors": "ann|bob", "split": "test", "method": "swap"}\n\n',
    b'{"path": "a.mp4", "path": "b.mp4", "label": 0}\n',
    b'{"path": "\\ud800.mp4", "label": true}\n[1, 2]\nnull\n',
    b'{"path": 1e400, "label": [0], "source": {"a": NaN}}\n',
    b'{"path": ' + b"9" * 5000 + b', "label": 0}\n',
    *(b'{"path": "a.mp4", "label": ' + b"[" * n + b"]" * n + b"}\n" for n in range(900, 1000, 7)),
]
TOKENS = ['"path"', '"label"', '"source"', '"donors"', '"original"', '"REAL"', '"FAKE"', "null",
          "true", "NaN", "Infinity", "1e999", "\\\\ud800", "[", "{", "\\x0a"]  # fmt: skip


def read(data: bytes) -> None:
    """Read a chunk with this manifest."""
    read_chunk({"manifest.jsonl": data})
