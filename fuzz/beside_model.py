"""What lies beside a stranger's model: its metrics, its dvc.lock, its comparison.json."""

import hashlib
import json

from fuzz import params_yaml
from fuzz.folder import make, put
from unmask.answers import provenance
from unmask.runtime.digests import dvc_digest

_ROOT = make()
_MODEL = _ROOT / "model"
_MODEL.mkdir()
(_ROOT / "metrics").mkdir()
put(_MODEL / "checkpoint.json", b"{}")
_DIGEST = dvc_digest(_MODEL)
_LOCK = f"""schema: '2.0'
stages:
  evaluate:
    cmd: python stages/evaluate.py
    deps:
    - path: model
      md5: {_DIGEST}
    outs:
    - path: metrics/test.json
      md5: {hashlib.md5(b'{"roc_auc": 0.9}', usedforsecurity=False).hexdigest()}
"""
_ROW = {"model_md5": _DIGEST, "name": "x3d_xs"}
SEEDS = [
    _LOCK.encode(),
    _LOCK.replace("deps:", "deps: 3 #").encode(),
    _LOCK.replace("outs:", "outs: [[]] #").encode(),
    json.dumps({"rows": [_ROW]}).encode(),
    json.dumps({"rows": {"a": 1}}).encode(),
    json.dumps({"rows": [_ROW | {"model_md5": [{}]}]}).encode(),
    b'{"rows": [' + b"[" * 2000,
    b'{"rows": NaN}',
    *params_yaml.SEEDS[2:],
]
TOKENS = [*params_yaml.TOKENS, "stages:", "deps:", "outs:", "path: ", "md5: ", '"rows"',
          '"model_md5"', _DIGEST]  # fmt: skip


def read(data: bytes) -> None:
    """Read it as the lock of metrics that are the model's, as metrics, and as a comparison."""
    put(_ROOT / "dvc.lock", data)
    put(_ROOT / "metrics" / "test.json", b'{"roc_auc": 0.9}')
    put(_ROOT / "metrics" / "comparison.json", data)
    for found in (
        provenance.read_metrics(_ROOT, _MODEL, "test"),
        provenance.read_comparison(_ROOT, _MODEL),
    ):
        assert found.remark.isprintable(), f"words that do not print: {found.remark!a}"
    put(_ROOT / "dvc.lock", _LOCK.encode())
    put(_ROOT / "metrics" / "test.json", data)
    provenance.read_metrics(_ROOT, _MODEL, "test")
