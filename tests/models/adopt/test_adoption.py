"""Published detectors become models' folders, from files in their originals' own form."""

import json
from pathlib import Path

import pytest
import timm
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from unmask.cli.main import main
from unmask.errors import WeightsError
from unmask.models import checkpoint
from unmask.models.adopt import adoption, registry
from unmask.models.frame_net import DEVIATION, MEAN
from unmask.models.predict import Predictor


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file as the authors of Community Forensics published theirs, with random weights."""
    torch.manual_seed(3)
    net = timm.create_model("vit_small_patch16_384", num_classes=1, weight_init="skip")
    with torch.no_grad():
        for name, value in net.named_parameters():
            is_scale = value.dim() == 1 and name.endswith("weight")
            value.copy_(torch.randn(value.shape) * 0.03 + is_scale)
    path = tmp_path_factory.mktemp("published") / "model.safetensors"
    save_file({f"vit.{name}": value for name, value in net.state_dict().items()}, path)
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["adopt", *map(str, words)])


def line(result: Result) -> str:
    """Return the one line that a failure printed."""
    assert result.exit_code == 1, result.output
    (said,) = [row for row in result.output.splitlines() if row.startswith("Error: ")]
    assert "Traceback" not in result.output
    return said


def test_an_adopted_net_answers_as_timm_does(published: Path, tmp_path: Path) -> None:
    result = run(published, "--adapter", "community-forensics-384", "--as", tmp_path / "cf")
    assert result.exit_code == 0, result.output
    predictor = Predictor.load(tmp_path / "cf")
    assert predictor.checkpoint.geometry.side_px == 384
    picture = torch.rand(2, 3, 384, 384)
    logits = list(predictor.score_clips(((picture - MEAN) / DEVIATION)[:, :, None]))

    original = timm.create_model("vit_small_patch16_384", num_classes=1, weight_init="skip")
    state = checkpoint.load_net(tmp_path / "cf", predictor.checkpoint).image.state_dict()
    original.load_state_dict(state)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.inference_mode():
        expected = original.eval()((picture - mean) / deviation)[:, 0]
    assert expected[0] != pytest.approx(float(expected[1]), abs=1e-3)
    assert logits == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_fresh_adoption_promises_nothing(published: Path, tmp_path: Path) -> None:
    run(published, "--adapter", "community-forensics-384", "--as", tmp_path / "cf")
    settings = checkpoint.read_settings(tmp_path / "cf")
    assert (settings.limits.fake_from, settings.limits.real_to) == (None, None)
    assert settings.adopted is not None
    assert settings.adopted.licence.weights == "MIT"
    card = (tmp_path / "cf" / checkpoint.CARD).read_text()
    assert f"sha256 {settings.adopted.sha256}" in card
    assert "- Weights: MIT" in card


def test_a_trained_models_folder_says_nothing_of_adoption(published: Path, tmp_path: Path) -> None:
    """Folders of the present format have no `adopted`, and a `model` that params can name."""
    run(published, "--adapter", "community-forensics-384", "--as", tmp_path / "cf")
    path = tmp_path / "cf" / checkpoint.SETTINGS
    values = json.loads(path.read_text())
    del values["adopted"]
    values["model"] = {
        "backbone": "x3d_xs", "weights": "none", "weights_sha256": None, "dropout": 0.5
    }  # fmt: skip
    path.write_text(json.dumps(values))
    assert checkpoint.read_settings(tmp_path / "cf").adopted is None
    assert checkpoint.read_settings(tmp_path / "cf").model.backbone == "x3d_xs"


def test_terms_that_are_not_for_everybody_must_be_accepted(tmp_path: Path) -> None:
    adapter = registry.by_name("sbi-efficientnet-b4")
    with pytest.raises(WeightsError, match="add --accept-licence"):
        adoption.check_licence(adapter, accept_licence=False)
    said = line(run(tmp_path / "FFraw.tar", "--adapter", adapter.name, "--as", tmp_path / "sbi"))
    assert "research only" in said
    assert not (tmp_path / "sbi").exists()
