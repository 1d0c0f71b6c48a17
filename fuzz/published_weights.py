"""A file of published or adopted weights: its tensors, and what it says of its own origin."""

import io
import json
import pickle
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from fuzz.checkpoint_json import ADOPTED
from fuzz.folder import make, put
from unmask.errors import UnmaskError
from unmask.models.adopt import published_file, record, start

_FOLDER = make()
_HEAD = ("head.weight", "head.bias")
_TENSORS: dict[str, "np.ndarray[Any, Any]"] = {
    "head.weight": np.ones((2, 3), np.float32), "head.bias": np.zeros(2, np.float16),
    "stem.weight": np.ones((2, 3, 1, 1), np.float32),
}  # fmt: skip
_START = {key: value for key, value in ADOPTED.items() if key != "architecture"}
_START |= {"backbone": "x3d_s"}


def _saying(origin: object) -> bytes:
    text = origin if isinstance(origin, str) else json.dumps(origin)
    return save(_TENSORS, {record.ORIGIN_KEY: text})


def _pickled(content: object) -> bytes:
    packed = io.BytesIO()
    torch.save(content, packed)
    return packed.getvalue()


_ALONE = {name: torch.from_numpy(value) for name, value in _TENSORS.items()}
SEEDS = [
    save(_TENSORS),
    _saying(ADOPTED),
    _saying(_START),
    _saying(ADOPTED | {"architecture": ADOPTED["architecture"] | {"net": "plugin:net"}}),
    _saying(ADOPTED | {"architecture": ADOPTED["architecture"] | {"outputs": 1, "fake": []}}),
    *(_saying(ADOPTED | {key: None}) for key in ADOPTED),
    _saying("[" * 2000),
    _saying("{"),
    _saying("1" * 5000),
    save(_TENSORS).replace(b"F32", b"F99"),
    save(_TENSORS)[:-5],
    _pickled(_ALONE),
    _pickled({"state_dict": {f"module.{name}": value for name, value in _ALONE.items()}}),
    _pickled({"epoch": 3, "model": _ALONE}),
    pickle.dumps(print),
    b"\x08\0\0\0\0\0\0\0{       ",
    b"",
]  # fmt: skip
TOKENS = [*(f'\\"{name}\\"' for name in (*ADOPTED, *ADOPTED["architecture"], "backbone")),
          "unmask.origin", "__metadata__", '"dtype"', '"shape"', '"data_offsets"', "F32", "BF16",
          "F8_E4M3", "BOOL", "x3d_s", "plugin:", "ucf", "state_dict", "module.", "1e999",
          "PK\\x03\\x04", "ctorch._utils", "c__builtin__"]  # fmt: skip


def read(data: bytes) -> None:
    """Read the origin and the tensors; check what a training that starts from them relies on."""
    path = put(_FOLDER / "model.safetensors", data)
    origin = None
    try:
        origin = record.read_origin(path)
    except UnmaskError as error:
        assert str(error).isprintable(), f"a message that does not print: {error!a}"
    try:
        tensors = published_file.read_tensors(path)
    except UnmaskError:
        return
    assert tensors, "a file without a tensor"
    assert all(isinstance(name, str) for name in tensors), "a tensor without a name"
    assert all(t.dtype == torch.float32 for t in tensors.values() if t.is_floating_point())
    if origin is None:
        return
    assert origin.title.isprintable(), f"the title {origin.title!r}"
    backbone = start.backbone_of(origin)
    if not isinstance(origin, record.Adopted):
        return
    assert backbone is None or backbone.startswith("timm/"), f"the backbone {backbone!r}"
    start.with_our_head(tensors, origin.architecture, _HEAD, unit_features=False)
