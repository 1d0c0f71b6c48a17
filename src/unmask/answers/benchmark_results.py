"""A model's results on data sets that it was not trained on, where they are this model's."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from unmask.answers.provenance import Metrics, was_only_calibrated
from unmask.data.trained_on import is_among
from unmask.errors import MALFORMED
from unmask.runtime.digests import CALIBRATION, SETTINGS, WEIGHTS, model_digest
from unmask.runtime.disk import content_digest, read_regular

CARRIED = "benchmarks.json"  # in a model's folder: `unmask benchmark card` writes it
_MAX_BYTES = 2**22
_MOST = 100  # benchmarks that are shown

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]
_Words = Annotated[str, Field(max_length=200)]


class _Interval(BaseModel):
    value: _Number | None
    low: _Number | None
    high: _Number | None


class _Plain(BaseModel):
    words: _Words
    roc_auc: _Interval


class _Result(BaseModel):
    """What is said of one benchmark."""

    name: _Words
    real: _Count
    fake: _Count
    sources: _Count
    coverage: _Number
    saw_it: bool | None
    roc_auc: _Interval
    tpr_at_fpr_5: _Interval
    matched_roc_auc: _Interval | None = None
    without_detector: _Plain | None = None


class _Carried(BaseModel):
    model_digest: str
    benchmarks: Annotated[list[_Result], Field(max_length=_MOST)]


def read(root: Path, model_dir: Path) -> Metrics:
    """Return the results: those that the folder carries, else those in the checkout's metrics/.

    Results count only with this model's digest of weights and settings, or with that of before it
    was calibrated, which changes no ranking. Those seen in training come last.
    """
    digests = _digests(model_dir)
    try:
        carried = _carried(model_dir, digests)
        found = carried or _in_metrics(root, digests)
    except (OSError, *MALFORMED, ValidationError) as error:
        return Metrics(None, f"Its results on other data sets are damaged: {str(error)[:200]!r}.")
    if not found:
        return Metrics(
            None,
            "No result of this model on another data set lies beside it: `unmask benchmark NAME` "
            "scores it on one.",
        )
    found.sort(key=lambda result: (bool(result.saw_it), result.name))
    where = f"{CARRIED} in its folder" if carried else "metrics/benchmarks"
    return Metrics(
        {"benchmarks": [result.model_dump() for result in found]}, f"{where} has its digest."
    )


def _digests(model_dir: Path) -> list[str]:
    own = model_digest(model_dir)
    if not was_only_calibrated(model_dir):
        return [own]
    parts = ((model_dir / WEIGHTS, WEIGHTS), (model_dir / CALIBRATION / SETTINGS, SETTINGS))
    lines = "".join(f"{content_digest(path)}  {name}\n" for path, name in parts)
    return [own, hashlib.sha256(lines.encode()).hexdigest()]


def _carried(model_dir: Path, digests: list[str]) -> list[_Result]:
    path = model_dir / CARRIED
    if not path.exists():
        return []
    found = _Carried.model_validate(json.loads(read_regular(path, _MAX_BYTES)))
    return found.benchmarks if found.model_digest in digests else []


def _in_metrics(root: Path, digests: list[str]) -> list[_Result]:
    """Return what the pipeline wrote of its model, as far as its digest is this one's."""
    found = []
    folders = sorted((root / "metrics" / "benchmarks").glob("*/detector.json"))
    for about in folders[:_MOST]:
        detector = json.loads(read_regular(about, _MAX_BYTES))["detector"]
        summary = about.parent.with_name(f"{about.parent.name}.json")
        if detector["model_digest"] in digests and summary.exists():
            (values,) = json.loads(read_regular(summary, _MAX_BYTES))["details"]
            found.append(_of_summary(about.parent.name, detector, values))
    return found


def _of_summary(name: str, detector: dict[str, Any], values: dict[str, Any]) -> _Result:
    trained_on = detector["trained_on"]
    plain = values.get("without_detector") or {"rows": [], "model": {"matched_roc_auc": None}}
    best: tuple[float, dict[str, Any] | None] = (0.0, None)
    for row in plain["rows"]:
        auc, turned = row["roc_auc"], row["fakes_have"] == "less"
        if auc["value"] is None:
            continue
        if turned:  # of an AUC below 0.5 the fakes have less
            low, high = auc["low"], auc["high"]
            auc = {
                "value": 1 - auc["value"],
                "low": None if high is None else 1 - high,
                "high": None if low is None else 1 - low,
            }
        if best[1] is None or auc["value"] > best[0]:
            best = auc["value"], {"words": row["words"], "roc_auc": auc}
    return _Result.model_validate(
        {
            "name": name, "real": values["real"], "fake": values["fake"],
            "sources": values["sources"], "coverage": values["coverage"],
            "saw_it": None if trained_on is None else is_among(name, trained_on),
            "roc_auc": values["video"]["roc_auc"],
            "tpr_at_fpr_5": values["video"]["tpr_at_fpr_5"],
            "matched_roc_auc": plain["model"]["matched_roc_auc"], "without_detector": best[1],
        }
    )  # fmt: skip
