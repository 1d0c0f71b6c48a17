"""What another organisation hands over as JSON: its manifest, its keys, and its predictions."""

import json

from fuzz.folder import make, put
from unmask.errors import UnmaskError
from unmask.federated import predictions, samples
from unmask.federated.remote.keys import AssetKeys
from unmask.federated.samples import MANIFEST, Videos

_FOLDER = make()
_SAMPLE = {"name": "made-0123456789abcdef", "side": "train", "reals": 1, "fakes": 1,
           "identities": ["a"], "contents": ["b"]}  # fmt: skip
_KEY = "01234567-89ab-cdef-0123-456789abcdef"
SEEDS = [
    json.dumps({"format": 1, "samples": [_SAMPLE]}).encode(),
    json.dumps({"format": 1, "samples": [_SAMPLE | {"name": 3}]}).encode(),
    json.dumps({"format": 1, "samples": [_SAMPLE | {"side": "\x1b[2J"}]}).encode(),
    json.dumps({"format": 1, "samples": [[1]]}).encode(),
    json.dumps({"format": 1, "samples": {}}).encode(),
    json.dumps({"format": 1, "samples": _SAMPLE}).encode(),
    json.dumps({"format": 1, "scores": [{"video": "a", "probability": 0.5}]}).encode(),
    json.dumps({"format": 1, "scores": [{"video": "a", "probability": 10**400}]}).encode(),
    json.dumps({"format": 1, "scores": [{"video": [], "probability": float("nan")}]}).encode(),
    json.dumps({"format": 1, "assets": {"a": _KEY}, "plans": {}, "pending": ""}).encode(),
    json.dumps({"format": 1, "assets": [], "plans": {"a": {"plan": 3}}, "pending": []}).encode(),
    b'{"format": ' + b"[" * 2000,
    b"[]",
]
TOKENS = ['"format"', '"samples"', '"scores"', '"video"', '"probability"', '"name"', '"side"',
          '"identities"', '"contents"', '"assets"', '"plans"', "null", "NaN", "1e999",
          "\\\\u001b"]  # fmt: skip


def read(data: bytes) -> None:
    """Read each of the files, all of this content."""
    put(_FOLDER / MANIFEST, data)
    for reader in (
        lambda: samples.read_manifest(_FOLDER),
        lambda: AssetKeys(_FOLDER / MANIFEST),
        lambda: predictions.read_predictions(Videos(()), _FOLDER / MANIFEST),
    ):
        try:
            reader()
        except UnmaskError:
            pass
