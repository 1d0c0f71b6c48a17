"""A training job's model.tar.gz, as it comes back from S3."""

import gzip
import hashlib
import io
import json
import shutil
import struct
import tarfile
from collections.abc import Mapping

from fuzz.folder import make, put
from unmask.errors import UnmaskError
from unmask.sagemaker import fetch
from unmask.sagemaker.contract import DIGESTS

_FOLDER = make()
_MOST_BYTES = 2**22
_KEY = "0" * 64


def _tar(
    members: Mapping[str, bytes],
    kind: bytes = tarfile.REGTYPE,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as target:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "elsewhere"
            info.pax_headers = dict(headers or {})
            target.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def _nested(count: int) -> bytes:
    """Return a tar of so many headers that each describe the next."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 0
    return info.tobuf(tarfile.USTAR_FORMAT) * count + _tar({"a": b""})


def _sized(size: int) -> bytes:
    """Return a tar whose member says that it has so many bytes, in the base-256 of GNU tar."""
    block = bytearray(_tar({"a": b"x"})[:512])
    block[124:136] = b"\x80\0\0\0" + struct.pack(">Q", size)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


_SETTINGS = {"checkpoint.json": b"{}", "weights.safetensors": b"", DIGESTS: b"{}"}
SEEDS = [
    _tar(_SETTINGS),
    _tar({"./checkpoint.json": b"{}"}),
    _tar({"../a": b"x"}),
    _tar({"a": b""}, tarfile.SYMTYPE),
    _tar({"a": b""}, tarfile.FIFOTYPE),
    _tar({"a" * 300: b"x"}),
    _tar({"a": b"x"}, headers={"path": "a\0b"}),
    _tar(
        {"a": b"x"},
        headers={"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "x"},
    ),
    _tar({"a": b"x"}, headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"}),
    _tar({"a": b"x"}, headers={"size": "9" * 30}),
    _sized(2**62),
    _sized(2**63),
    _nested(20),
    _nested(900),
    _nested(1200),
    tarfile.TarInfo("./").tobuf() * 1100,
    b"",
]
TOKENS = ["ustar\\x0000", "ustar  ", "./", "../", "GNU.sparse.map=", "GNU.sparse.major=1",
          "path=", "size=", "hdrcharset=BINARY", "\\x80\\x00\\x00\\x00"]  # fmt: skip


def read(data: bytes) -> None:
    """Unpack the archive and check what is in it, with digests that are right."""
    folder = _FOLDER / "model"
    # The fuzzer would not get past a checksum: the compression is ours, except for what has one.
    packed = put(
        _FOLDER / "model.tar.gz", data if data[:2] == b"\x1f\x8b" else gzip.compress(data, 1)
    )
    try:
        fetch.unpack(packed, folder, "s3://made/model.tar.gz", most_bytes=_MOST_BYTES)
        found = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()
        }
        digests = {name: digest for name, digest in found.items() if name != DIGESTS}
        (folder / DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
        fetch.check(folder, "s3://made/model.tar.gz", key=_KEY)
    except UnmaskError:
        pass
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    left = {path.name for path in _FOLDER.iterdir()} - {"model.tar.gz"}
    assert not left, f"written outside the model's folder: {sorted(left)}"
