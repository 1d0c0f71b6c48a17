"""manifest.json of another organisation's samples, and the predictions that it scored."""

import json

from fuzz.folder import make, put
from unmask.errors import UnmaskError
from unmask.federated import predictions, samples
from unmask.federated.samples import MANIFEST, Videos

_FOLDER = make()
_SAMPLE = {"name": "made-0123456789abcdef", "side": "train", "reals": 1, "fakes": 1,
           "identities": ["a"], "contents": ["b"]}  # fmt: skip
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
    b'{"format": ' + b"[" * 2000,
    b"[]",
]
TOKENS = ['"format"', '"samples"', '"scores"', '"video"', '"probability"', '"name"', '"side"',
          '"identities"', '"contents"', "null", "NaN", "1e999", "\\\\u001b"]  # fmt: skip


def read(data: bytes) -> None:
    """Read both files, each of this content."""
    put(_FOLDER / MANIFEST, data)
    for reader in (
        lambda: samples.read_manifest(_FOLDER),
        lambda: predictions.read_predictions(Videos(()), _FOLDER / MANIFEST),
    ):
        try:
            reader()
        except UnmaskError:
            pass
