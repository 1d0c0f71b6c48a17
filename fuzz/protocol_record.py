"""A protocol's YAML, and the record that lies beside a data set that was verified."""

import tempfile
from pathlib import Path

from unmask.data.protocols.protocol import read_protocol
from unmask.data.protocols.verify import read_record
from unmask.errors import UnmaskError

SEEDS = [
    b'{"protocol": "x", "version": 1, "list_sha256": "a", "videos": {"a.mp4": "b"}}',
    b'{"protocol": 1, "version": 1, "list_sha256": "a", "videos": []}',
    b"name: x\nversion: 1\ntitle: X\nlayouts: [Celeb-DF]\nsource: Y\nrule: all\n",
    b"name: x\nversion: 1\ntitle: X\nlayouts: [folders]\nsource: Y\nrule: split\n"
    b"expected: {videos: 2, real: 1}\nlist_sha256: " + b"0" * 64,
    b"&a [*a]",
    b"{" * 900,
]
TOKENS = ["name:", "version:", "layouts:", "rule:", "all", "split", "expected:", "list_sha256",
          '"protocol"', '"videos"', "Celeb-DF", "&a", "*a", "!!python", "[", "{"]  # fmt: skip


def read(data: bytes) -> None:
    """Read both."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        path.write_bytes(data)
        for take in (lambda: read_protocol(data.decode("utf-8", "replace"), "x.yaml"),
                     lambda: read_record(path)):  # fmt: skip
            try:
                take()
            except UnmaskError as error:
                assert str(error).isprintable(), f"a message that does not print: {error!a}"
