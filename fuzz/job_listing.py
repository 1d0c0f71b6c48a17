"""What a training job on SageMaker is told: its files and its params."""

import json

from fuzz.folder import make, put
from unmask import params
from unmask.errors import UnmaskError
from unmask.sagemaker import contract

_FOLDER = make()
_FILE = {"path": "raw/a.mp4", "md5": "0" * 32, "size_bytes": 3}
_PARAMS = contract.hyperparameters(contract.job_params(params.load(), "0" * 64))
SEEDS = [
    json.dumps([_FILE]).encode(),
    json.dumps([_FILE | {"path": "../a"}, _FILE | {"path": "/a"}]).encode(),
    json.dumps([_FILE | {"path": 3}]).encode(),
    json.dumps([_FILE | {"md5": ["../../etc"]}]).encode(),
    json.dumps([[1]]).encode(),
    b"[" * 2000,
    "\n".join(f"{name}={value}" for name, value in _PARAMS.items()).encode(),
    b"train.lr_head=" + b"9" * 5000,
    b"train=3\ntrain.lr_head=[[[",
    b"train.lr_head=" + b"[" * 2000,
]
TOKENS = ['"path"', '"md5"', '"size_bytes"', "../", "null", "NaN", "1e999", "\\\\ud800",
          *(f"{name}=" for name in _PARAMS)]  # fmt: skip


def read(data: bytes) -> None:
    """Read it as the listing of files, and as the lines of params."""
    try:
        for file in contract.read_listing(put(_FOLDER / "listing.json", data)):
            assert ".." not in file.path.split("/"), f"a path that leaves the checkout: {file.path}"
    except UnmaskError:
        pass
    pairs = [line.partition("=") for line in data.decode("utf-8", "replace").split("\n")]
    try:
        contract.read_hyperparameters({name: value for name, _, value in pairs})
    except UnmaskError:
        pass
