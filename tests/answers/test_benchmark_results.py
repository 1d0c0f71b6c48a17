"""Results on other data are shown where they are this model's, and are what they should be."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unmask import params
from unmask.answers import benchmark_results
from unmask.models import checkpoint
from unmask.models.checkpoint import Checkpoint
from unmask.runtime.digests import model_digest
from unmask.scoring.verdicts import NOTHING_LEARNED

AUC = {"value": 0.75, "low": 0.5, "high": 1.0}
RESULT: dict[str, Any] = {
    "name": "celeb", "real": 10, "fake": 30, "sources": 5, "coverage": 0.5, "saw_it": False,
    "roc_auc": AUC, "tpr_at_fpr_5": AUC, "matched_roc_auc": AUC, "without_detector": None,
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"weights")
    (folder / "checkpoint.json").write_text("{}")
    return folder


def carry(model: Path, *results: dict[str, Any], digest: str | None = None) -> None:
    values = {"model_digest": digest or model_digest(model), "benchmarks": list(results)}
    (model / "benchmarks.json").write_text(json.dumps(values))


def names(tmp_path: Path, model: Path) -> list[str] | None:
    found = benchmark_results.read(tmp_path, model)
    return None if found.values is None else [each["name"] for each in found.values["benchmarks"]]


def test_a_folder_carries_results_of_its_own_model_alone(tmp_path: Path, model: Path) -> None:
    assert names(tmp_path, model) is None
    carry(model, RESULT | {"name": "seen", "saw_it": True}, RESULT)
    assert names(tmp_path, model) == ["celeb", "seen"]
    assert "benchmarks.json in its folder has its digest" in (
        benchmark_results.read(tmp_path, model).remark
    )
    (model / "weights.safetensors").write_bytes(b"other weights")
    assert names(tmp_path, model) is None


def test_a_checkouts_results_are_of_the_model_with_their_digest(
    tmp_path: Path, model: Path
) -> None:
    folder = tmp_path / "metrics/benchmarks/celeb"
    folder.mkdir(parents=True)
    about = {"model_digest": model_digest(model), "trained_on": ["Celeb.zip"]}
    (folder / "detector.json").write_text(json.dumps({"detector": about}))
    rows = [
        {"words": words, "fakes_have": have, "roc_auc": dict(zip(AUC, values, strict=True))}
        for words, have, values in (
            ("grain", "less", (0.25, 0.125, 0.5)), ("width", "more", (0.5, None, None)),
            ("size", "more", (None, None, None)),
        )
    ]  # fmt: skip
    details = {
        "real": 10, "fake": 30, "sources": 5, "coverage": 1.0,
        "video": {"roc_auc": AUC, "tpr_at_fpr_5": AUC},
        "without_detector": {"rows": rows, "model": {"matched_roc_auc": AUC}},
    }  # fmt: skip
    (tmp_path / "metrics/benchmarks/celeb.json").write_text(json.dumps({"details": [details]}))
    found = benchmark_results.read(tmp_path, model)
    assert found.values is not None
    (result,) = found.values["benchmarks"]
    assert (result["name"], result["saw_it"], result["matched_roc_auc"]) == ("celeb", True, AUC)
    turned = {"value": 0.75, "low": 0.5, "high": 0.875}
    assert result["without_detector"] == {"words": "grain", "roc_auc": turned}
    about["model_digest"] = "0" * 64
    (folder / "detector.json").write_text(json.dumps({"detector": about}))
    assert names(tmp_path, model) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"name": "x" * 201}, {"name": None}, {"real": -1}, {"coverage": "NaN"},
        {"roc_auc": {"value": 0.5}}, {"without_detector": []},
    ],
)  # fmt: skip
def test_damaged_results_are_left_out_and_said(
    damage: dict[str, Any], tmp_path: Path, model: Path
) -> None:
    carry(model, RESULT | damage)
    found = benchmark_results.read(tmp_path, model)
    assert found.values is None
    assert "are damaged" in found.remark
    assert found.remark.isprintable()
    (model / "benchmarks.json").write_text("[" * 5000)
    assert "are damaged" in benchmark_results.read(tmp_path, model).remark


def test_a_calibration_changes_no_ranking(tmp_path: Path) -> None:
    settings, model = params.load(), tmp_path / "model"
    (model / "calibration").mkdir(parents=True)
    (model / "weights.safetensors").write_bytes(b"weights")
    limits = replace(NOTHING_LEARNED, max_sharpness=99.0)
    trained = Checkpoint(settings.faces, settings.clips, settings.model, 1.0, limits, "0" * 64)
    checkpoint.write_settings(model, trained)
    carry(model, RESULT)
    checkpoint.write_settings(model / "calibration", trained)
    checkpoint.write_settings(model, replace(trained, temperature=2.0))
    assert names(tmp_path, model) == ["celeb"]
    checkpoint.write_settings(model, replace(trained, run_key="1" * 64))  # another training
    assert names(tmp_path, model) is None


def test_too_many_results_are_refused(tmp_path: Path, model: Path) -> None:
    carry(model, *[RESULT] * 101)
    assert names(tmp_path, model) is None
