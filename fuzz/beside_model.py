"""What lies beside a stranger's model: its metrics, dvc.lock, comparison.json, benchmarks.json."""

import hashlib
import json
from typing import Any

from fuzz import params_yaml
from fuzz.folder import make, put
from unmask.answers import benchmark_results, provenance
from unmask.runtime.digests import dvc_digest, model_digest

_ROOT = make()
_MODEL = _ROOT / "model"
_MODEL.mkdir()
(_ROOT / "metrics").mkdir()
put(_MODEL / "checkpoint.json", b"{}")
put(_MODEL / "weights.safetensors", b"")
_DIGEST, _OWN = dvc_digest(_MODEL), model_digest(_MODEL)
_AUC = {"value": 0.5, "low": None, "high": None}
_RESULT: dict[str, Any] = {
    "name": "a", "real": 1, "fake": 2, "sources": 3, "coverage": 1.0, "saw_it": None,
    "roc_auc": _AUC, "tpr_at_fpr_5": _AUC, "matched_roc_auc": _AUC,
    "without_detector": {"words": "b", "roc_auc": _AUC},
}  # fmt: skip
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
    json.dumps({"model_digest": _OWN, "benchmarks": [_RESULT]}).encode(),
    json.dumps({"model_digest": _OWN, "benchmarks": [_RESULT | {"name": None}]}).encode(),
    json.dumps(
        {
            "detector": {"model_digest": _OWN, "trained_on": None},
            "details": [_RESULT | {"video": _RESULT, "without_detector": None}],
        }
    ).encode(),
    *params_yaml.SEEDS[2:],
]
TOKENS = [*params_yaml.TOKENS, "stages:", "deps:", "outs:", "path: ", "md5: ", '"rows"',
          '"model_md5"', _DIGEST]  # fmt: skip


def read(data: bytes) -> None:
    """Read it as the lock of metrics that are the model's, as metrics, and as a comparison."""
    put(_ROOT / "dvc.lock", data)
    put(_ROOT / "metrics" / "test.json", b'{"roc_auc": 0.9}')
    put(_ROOT / "metrics" / "comparison.json", data)
    (_ROOT / "metrics" / "benchmarks" / "a").mkdir(parents=True, exist_ok=True)
    put(_ROOT / "metrics" / "benchmarks" / "a" / "detector.json", data)
    put(_ROOT / "metrics" / "benchmarks" / "a.json", data)
    in_metrics = benchmark_results.read(_ROOT, _MODEL)
    put(_MODEL / "benchmarks.json", data)
    carried = benchmark_results.read(_ROOT, _MODEL)
    (_MODEL / "benchmarks.json").unlink()
    for found in (
        in_metrics,
        carried,
        provenance.read_metrics(_ROOT, _MODEL, "test"),
        provenance.read_comparison(_ROOT, _MODEL),
    ):
        assert found.remark.isprintable(), f"words that do not print: {found.remark!a}"
    put(_ROOT / "dvc.lock", _LOCK.encode())
    put(_ROOT / "metrics" / "test.json", data)
    provenance.read_metrics(_ROOT, _MODEL, "test")
