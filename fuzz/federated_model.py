"""A model as another organisation hands it over: a zip of weights and settings."""

import io
import json
import zipfile
from dataclasses import asdict

import numpy as np
from safetensors.numpy import save

from fuzz.checkpoint_json import SETTINGS
from fuzz.folder import make, put
from unmask.errors import UnmaskError
from unmask.federated import state
from unmask.federated.state import ABOUT, WEIGHTS, About

_FOLDER = make()
_PARTS = "\n=====\n"  # between the members' contents, where the zip is made here
_WEIGHTS = save({"head.weight": np.zeros((2, 3), np.float32), "steps": np.zeros((), np.int64)})
_ABOUT = json.dumps(asdict(About(tracks=3, rounds=1))).encode()


def _zip(contents: list[bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, content in zip((WEIGHTS, state.SETTINGS, ABOUT), contents, strict=True):
            target.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return packed.getvalue()


def _far(contents: list[bytes]) -> bytes:
    """Return a zip whose last member lies, by its zip64 field, further than a file can be."""
    whole = _zip(contents)
    start = whole.rfind(b"PK\1\2")
    entry, end = bytearray(whole[start : whole.rfind(b"PK\5\6")]), whole[whole.rfind(b"PK\5\6") :]
    entry[42:46], entry[30:32] = b"\xff" * 4, (12).to_bytes(2, "little")
    entry += b"\1\0\x08\0" + b"\xff" * 7 + b"\x7f"
    size = int.from_bytes(end[12:16], "little") + 12
    return whole[:start] + bytes(entry) + end[:12] + size.to_bytes(4, "little") + end[16:]


_GOOD = [_WEIGHTS, SETTINGS, _ABOUT]
SEEDS = [
    _zip(_GOOD),
    _far(_GOOD),
    _PARTS.encode().join(_GOOD),
    _PARTS.encode().join([_WEIGHTS, SETTINGS, b'{"tracks": 1e3, "rounds": true, "format": 1}']),
    _PARTS.encode().join([_WEIGHTS, b"[" * 990 + b"]" * 990, _ABOUT]),
    _PARTS.encode().join([_WEIGHTS.replace(b"F32", b"BF16"), SETTINGS, _ABOUT]),
]
TOKENS = ["F32", "BF16", "F8_E4M3", "I64", "BOOL", '"shape"', '"dtype"', '"data_offsets"',
          "__metadata__", "PK\\x01\\x02", "PK\\x05\\x06", "tracks", "rounds", "limits",
          "\\xff\\xff\\xff\\xff", "1e999", "NaN"]  # fmt: skip


def read(data: bytes) -> None:
    """Read the zip, and make the mean of it and itself."""
    parts = data.split(_PARTS.encode())
    path = put(_FOLDER / "state.zip", _zip(parts) if len(parts) == 3 else data)
    try:
        state.read(path)
        state.average([path, path], path.with_name("mean.zip"))
    except UnmaskError:
        pass
