"""What learns by train.tune: by names and counts, in fits, after a break, and on two ranks."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from timm.layers import EvoNorm2dB0
from torch import nn
from torch.utils.data import DataLoader

from tests.models.test_classifier import (
    SETTINGS,
    Agreement,
    Log,
    Noise,
    SharedNoise,
    changed,
    learning,
    make_trainer,
)
from unmask.errors import ParamsError
from unmask.models import backbones
from unmask.models.classifier import Classifier, MilestoneFinetuning, finetuning
from unmask.models.clips import EpochSampler
from unmask.models.resume import ResumeCheckpoint, SwapIO
from unmask.models.tuning import (
    SteadyFinetuning,
    body_parameters,
    freeze_but,
    keep_statistics,
    norm_parameters,
)

TINY, SIDE_PX = "timm/vit_tiny_patch16_224", 64
TUNES = ("layernorm", "head", "all")


def settings(**given: Any) -> Any:
    return SETTINGS.model_copy(update=given)


def classifier(name: str, tune: str, *, seed: int = 1, **given: Any) -> Classifier:
    torch.manual_seed(seed)
    net = backbones.build(name, dropout=0.0, side_px=SIDE_PX, unit_features=tune == "layernorm")
    return Classifier(net, settings(tune=tune, **given), class_weights=(1.0, 1.0))


# ---------------------------------------------------------------- names and counts


def test_norms_and_head_of_a_vit_large_are_three_hundredths_of_a_percent() -> None:
    with torch.device("meta"):
        name = "timm/vit_large_patch14_clip_224"
        net = backbones.build(name, dropout=0.0, side_px=224, unit_features=True)
    freeze_but(net, "layernorm")
    learns = {name: p.numel() for name, p in net.named_parameters() if p.requires_grad}
    # 24 blocks with two norms each, one before them and one after, of 1024 scales and shifts.
    assert sum(learns.values()) == (24 * 2 + 2) * 2 * 1024 + 2 * 1024 + 2
    norms = [n for n in learns if not n.startswith("image.head.")]
    assert all(".norm" in name for name in norms)
    assert len(norms) == 100
    share = sum(learns.values()) / sum(p.numel() for p in net.parameters())
    assert share == pytest.approx(0.0003, abs=5e-5)  # GenD's 0.03%


def test_each_tune_lets_learn_what_it_says() -> None:
    names = {tune: set() for tune in TUNES}
    for tune in TUNES:
        whole = classifier(TINY, tune)
        freeze_but(whole.net, tune)
        names[tune] = learning(whole)
    head = {"net.image.head.weight", "net.image.head.bias"}
    assert names["head"] == head
    assert names["all"] == {name for name, _ in whole.named_parameters()}
    assert names["layernorm"] == head | {
        f"net.image.{layer}.{part}"
        for layer in (*(f"blocks.{b}.norm{n}" for b in range(12) for n in (1, 2)), "norm")
        for part in ("weight", "bias")
    }


@pytest.mark.parametrize("name", ["x3d_xs", "efficientnet_lite0", "timm/convnext_atto"])
def test_layernorm_of_other_nets_is_their_norms_scales_and_shifts(name: str) -> None:
    whole = classifier(name, "layernorm")
    kinds = (nn.LayerNorm, nn.modules.batchnorm._BatchNorm)
    expected = {
        f"{path}.{part}"
        for path, module in whole.named_modules()
        if isinstance(module, kinds)
        for part in ("weight", "bias")
    }
    head = backbones.head_name(whole.net)
    freeze_but(whole.net, "layernorm")
    assert learning(whole) == expected | {f"net.{head}.weight", f"net.{head}.bias"}


def test_a_net_without_norms_has_none_to_tune() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 2))
    assert norm_parameters(net) == []
    with pytest.raises(ParamsError, match="no normalisation layers"):
        body_parameters(net, "layernorm")


def test_what_keeps_statistics_keeps_them() -> None:
    net = nn.Sequential(nn.BatchNorm2d(4), EvoNorm2dB0(4), nn.Dropout()).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    keep_statistics(net)
    net(torch.randn(2, 4, 8, 8))
    assert not changed(before, net.state_dict())
    assert net[2].training


def test_the_rates_of_head_and_body() -> None:
    for tune, decay in (("layernorm", 0.0), ("all", SETTINGS.weight_decay)):
        head, body = classifier(TINY, tune).configure_optimizers()["optimizer"].param_groups
        assert (head["lr"], body["lr"]) == (1e-2, 1e-2 * 0.2)
        assert (head["weight_decay"], body["weight_decay"]) == (SETTINGS.weight_decay, decay)
    (head,) = classifier(TINY, "head").configure_optimizers()["optimizer"].param_groups
    assert len(head["params"]) == 2


def test_the_callback_follows_the_param() -> None:
    assert isinstance(finetuning(settings(tune="milestones")), MilestoneFinetuning)
    for tune in TUNES:
        found = finetuning(settings(tune=tune))
        assert isinstance(found, SteadyFinetuning)
        assert found.tune == tune


# ---------------------------------------------------------------- in fits


def fit(whole: Classifier, folder: Path, *, epochs: int) -> Log:
    log = Log()
    trainer = make_trainer(folder, finetuning(whole.settings), log, epochs=epochs)
    loader = DataLoader(Noise(), 4, sampler=EpochSampler(4, shuffle_seed=3))
    trainer.fit(whole, loader, loader)
    return log


@pytest.mark.parametrize("tune", [*TUNES, "milestones"])
@pytest.mark.parametrize("name", [TINY, "x3d_xs"])
def test_a_fit_changes_what_learns_and_nothing_else(name: str, tune: str, tmp_path: Path) -> None:
    given = {"milestone": 0, "unfreeze_top_layers": 2, "lr_gamma": 1.0}
    whole = classifier(name, tune, **given)
    before = {key: value.clone() for key, value in whole.state_dict().items()}
    log = fit(whole, tmp_path, epochs=1)
    assert max(log.batch_effects) < 1e-4  # no BatchNorm looks at the batch
    moved = changed(before, whole.state_dict())
    assert moved <= learning(whole)
    # In a fresh X3D residual branches are switched off: what they have moves from the second step.
    assert len(moved) > (0.9 if name == TINY else 0.1) * len(learning(whole))
    if tune == "head":
        head = backbones.head_name(whole.net)
        assert moved == {f"net.{head}.weight", f"net.{head}.bias"}
    if name == TINY and tune == "milestones":
        blocks = {key.split(".")[3] for key in moved if ".blocks." in key}
        assert blocks == {"10", "11"}
        assert "net.image.norm.weight" in moved


@pytest.mark.parametrize(
    ("tune", "rate"), [("layernorm", 3e-2), ("all", 1e-5), ("milestones", 1e-4)]
)
def test_the_loss_of_a_small_vit_falls(tune: str, rate: float, tmp_path: Path) -> None:
    given = {
        "milestone": 0, "unfreeze_top_layers": 4, "lr_gamma": 1.0, "lr_head": rate,
        "lr_top_ratio": 1.0,
    }  # fmt: skip
    log = fit(classifier(TINY, tune, **given), tmp_path, epochs=8)
    assert log.losses[0] == pytest.approx(0.7, abs=0.25)
    assert log.losses[-1] < 0.5 * log.losses[0]


def train(path: Path, tune: str, *, epochs: int, resumes: bool = False, devices: int = 1) -> None:
    """Train a small ViT as fit.fit does it, from a checkpoint on or from the start."""
    whole = classifier(TINY, tune, milestone=1, unfreeze_top_layers=2)
    trainer = Trainer(
        accelerator="cpu", devices=devices, strategy="ddp_fork" if devices > 1 else "auto",
        max_epochs=epochs,
        callbacks=[
            finetuning(whole.settings), ResumeCheckpoint(path, "own"),
            *([Agreement()] if devices > 1 else []),
        ],
        plugins=[SwapIO()], logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, use_distributed_sampler=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(whole, SharedNoise(), ckpt_path=path if resumes else None, weights_only=True)


@pytest.mark.parametrize(("tune", "epochs"), [*((tune, 2) for tune in TUNES), ("milestones", 3)])
def test_a_training_that_was_cut_off_ends_with_the_same_bytes(
    tune: str, epochs: int, tmp_path: Path
) -> None:
    train(tmp_path / "once", tune, epochs=epochs)
    train(tmp_path / "twice", tune, epochs=epochs - 1)
    train(tmp_path / "twice", tune, epochs=epochs, resumes=True)
    once, twice = (
        torch.load(tmp_path / name, map_location="cpu", weights_only=True)
        for name in ("once", "twice")
    )
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(twice[part], once[part], rtol=0, atol=0)


def train_on_two_ranks(folder: str) -> None:
    """Run in a process of its own, which forks one a rank."""
    for tune in ("layernorm", "milestones"):
        train(Path(folder) / tune, tune, epochs=3, devices=2)


@pytest.mark.slow
def test_ranks_agree_on_a_small_vit(tmp_path: Path) -> None:
    code = (
        "from tests.models.test_tuning import train_on_two_ranks; "
        f"train_on_two_ranks({str(tmp_path)!r})"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("max_epochs=3") >= 2
