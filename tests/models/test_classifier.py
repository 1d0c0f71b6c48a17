"""The loss by hand on a net of known logits; milestone fine-tuning in real fits of X3D-XS."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from unmask.geometry import Geometry
from unmask.models.backbones import build, clip_logits
from unmask.models.classifier import Classifier, MilestoneFinetuning
from unmask.models.clips import ClipDataset, ClipItem, EpochSampler
from unmask.params import Train
from unmask.scoring import metrics
from unmask.scoring.scores import sigmoid

State = dict[str, torch.Tensor]

SETTINGS = Train(
    tune="milestones", epochs=4, batch_size=2, lr_head=1e-2, milestone=2, unfreeze_top_layers=1,
    lr_top_ratio=0.2, lr_gamma=0.5, self_blend=0.0, weight_decay=0.01, patience=4,
    cuda_precision="32-true", seed=1,
)  # fmt: skip
PROJECTION = {"net.blocks.5.proj.weight", "net.blocks.5.proj.bias"}


def only(**given: Any) -> Train:
    return SETTINGS.model_copy(update=given)


class MeanNet(nn.Module):
    """Two logits from a clip's first value and its last."""

    def forward(self, clips_BCTHW: torch.Tensor) -> torch.Tensor:
        values = clips_BCTHW.flatten(1)
        return torch.stack([values[:, 0], values[:, -1]], dim=1)


def clips_of(pairs: Sequence[tuple[float, float]]) -> torch.Tensor:
    """Return clips that give MeanNet these pairs of logits."""
    clips_BCTHW = torch.zeros(len(pairs), 3, 2, 4, 4)
    clips_BCTHW[:, 0, 0, 0, 0] = torch.tensor([real for real, _ in pairs])
    clips_BCTHW[:, -1, -1, -1, -1] = torch.tensor([fake for _, fake in pairs])
    return clips_BCTHW


def make_trainer(folder: Path, *callbacks: Callback, epochs: int = 1) -> Trainer:
    return Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, callbacks=list(callbacks), logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, log_every_n_steps=1, use_distributed_sampler=False,
        default_root_dir=folder,
    )  # fmt: skip


# ---------------------------------------------------------------- logits and losses


def test_the_logit_is_fake_less_real() -> None:
    clips_BCTHW = clips_of([(0.0, 0.0), (1.0, 3.0), (2.0, -1.5)])
    expected = torch.tensor([0.0, 2.0, -3.5])
    assert torch.equal(clip_logits(MeanNet(), clips_BCTHW), expected)
    classifier = Classifier(MeanNet(), SETTINGS, class_weights=(1.0, 1.0))
    assert torch.equal(classifier(clips_BCTHW), expected)


def training_loss(
    pairs: Sequence[tuple[float, float]],
    labels: Sequence[int],
    class_weights: tuple[float, float],
    monkeypatch: pytest.MonkeyPatch,
) -> float:
    classifier = Classifier(MeanNet(), SETTINGS, class_weights=class_weights)
    logged: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(
        classifier, "log", lambda name, value, **_: logged.update({name: value}), raising=True
    )
    batch = clips_of(pairs), torch.tensor(labels, dtype=torch.float64)  # as floats are collated
    loss = classifier.training_step(batch, 0)
    assert loss.dtype == torch.float32
    assert logged == {"train_loss": loss}
    return loss.item()


def test_each_class_has_its_weight_in_the_training_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    # Logits 0, 2 and -3: a fake costs ln(1 + e^-logit), a real one ln(1 + e^logit).
    pairs = [(0.0, 0.0), (1.0, 3.0), (2.0, -1.0)]
    expected = (3.0 * math.log(2) + 0.5 * math.log1p(math.e**2) + 3.0 * math.log1p(math.e**3)) / 3
    loss = training_loss(pairs, [1, 0, 1], (0.5, 3.0), monkeypatch)
    assert loss == pytest.approx(expected, rel=1e-6)


def test_the_training_loss_is_cross_entropy_on_the_two_outputs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    pairs = [(float(real), float(fake)) for real, fake in rng.normal(0, 3, (16, 2))]
    labels = rng.integers(0, 2, 16)
    weights = torch.tensor([0.8, 1.7])
    cross_entropy = nn.functional.cross_entropy(
        torch.tensor(pairs), torch.from_numpy(labels), weight=weights, reduction="none"
    )
    loss = training_loss(pairs, labels.tolist(), (0.8, 1.7), monkeypatch)
    assert loss == pytest.approx(cross_entropy.mean().item(), rel=1e-5)


def validated(
    trainer: Trainer, pairs: Sequence[tuple[float, float]], labels: Sequence[int], batch_size: int
) -> dict[str, float]:
    data = TensorDataset(clips_of(pairs), torch.tensor(labels, dtype=torch.float64))
    classifier = Classifier(MeanNet(), SETTINGS, class_weights=(0.5, 3.0))
    (result,) = trainer.validate(classifier, DataLoader(data, batch_size), verbose=False)
    return dict(result)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_validation_is_the_log_loss_and_auc_of_all_clips_at_once(
    tmp_path: Path, batch_size: int
) -> None:
    pairs = [(0.0, 2.0), (0.0, 1.0), (1.0, 0.5), (3.0, 0.0), (0.0, 0.25)]
    logits, labels = [2.0, 1.0, -0.5, -3.0, 0.25], [1, 0, 1, 0, 0]
    found = validated(make_trainer(tmp_path), pairs, labels, batch_size)
    assert found["val_loss"] == pytest.approx(metrics.log_loss(labels, sigmoid(logits)), rel=1e-6)
    # Of six pairs the fake at 2 wins three; the one at -0.5 wins one, over -3.
    assert found["val_auc"] == pytest.approx(4 / 6)


def test_a_validation_forgets_the_one_before(tmp_path: Path) -> None:
    classifier = Classifier(MeanNet(), SETTINGS, class_weights=(1.0, 1.0))
    trainer = make_trainer(tmp_path)
    for logit, label in ((3.0, 1), (-1.0, 1)):
        data = TensorDataset(clips_of([(0.0, logit)]), torch.tensor([label]))
        (result,) = trainer.validate(classifier, DataLoader(data), verbose=False)
        assert result["val_loss"] == pytest.approx(math.log1p(math.exp(-logit)), rel=1e-6)


def test_one_class_has_a_loss_but_no_auc(tmp_path: Path) -> None:
    found = validated(make_trainer(tmp_path), [(0.0, 0.0), (0.0, 0.0)], [1, 1], 1)
    assert found == {"val_loss": pytest.approx(math.log(2))}


# ---------------------------------------------------------------- what learns, on paper


@pytest.fixture(scope="module")
def warm_state() -> State:
    """The state of an X3D-XS that passes signals on, as a trained one does."""
    torch.manual_seed(5)
    net = build("x3d_xs", dropout=0.0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            if not module.weight.any():
                nn.init.constant_(module.weight, 0.2)  # fresh residual branches are switched off
            module.momentum = 1.0  # take the statistics of the one batch that follows
    with torch.no_grad():
        net(torch.randn(4, 3, 4, 64, 64))
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.fixture
def classifier(warm_state: State) -> Classifier:
    return make_classifier(warm_state, SETTINGS)


def make_classifier(state: State, settings: Train) -> Classifier:
    net = build("x3d_xs", dropout=0.0)
    net.load_state_dict(state)
    return Classifier(net, settings, class_weights=(1.0, 1.0))


def learning(classifier: Classifier) -> set[str]:
    return {name for name, value in classifier.named_parameters() if value.requires_grad}


def grouped(classifier: Classifier, optimizer: torch.optim.Optimizer) -> list[set[str]]:
    """Return the names of each param group's parameters."""
    names = {id(value): name for name, value in classifier.named_parameters()}
    return [{names[id(value)] for value in group["params"]} for group in optimizer.param_groups]


def norm_parts(classifier: Classifier) -> set[str]:
    """Return the names of every BatchNorm's weights and statistics."""
    return {
        f"{name}.{part}"
        for name, module in classifier.named_modules()
        if isinstance(module, nn.BatchNorm3d)
        for part in module.state_dict()
    }


def top(classifier: Classifier, layers: int) -> set[str]:
    """Return what joins with so many layers: their weights and the head's but BatchNorms'."""
    starts = tuple(f"net.blocks.{block}." for block in range(max(5 - layers, 0), 6))
    names = {name for name, _ in classifier.named_parameters() if name.startswith(starts)}
    return names - norm_parts(classifier) - PROJECTION


def test_before_the_milestone_only_the_projection_learns(classifier: Classifier) -> None:
    MilestoneFinetuning(SETTINGS).freeze_before_training(classifier)
    assert learning(classifier) == PROJECTION
    optimizer = classifier.configure_optimizers()["optimizer"]
    assert grouped(classifier, optimizer) == [PROJECTION]
    assert optimizer.param_groups[0]["lr"] == SETTINGS.lr_head
    assert optimizer.param_groups[0]["weight_decay"] == SETTINGS.weight_decay


@pytest.mark.parametrize("layers", [1, 3, 5, 6, 99])  # a body has 5; more means all
def test_the_asked_layers_and_the_heads_pooling_join_at_the_milestone(
    classifier: Classifier, layers: int
) -> None:
    finetuning = MilestoneFinetuning(only(unfreeze_top_layers=layers))
    finetuning.freeze_before_training(classifier)
    optimizer = classifier.configure_optimizers()["optimizer"]
    for epoch in (0, 1, 3, 4):
        finetuning.finetune_function(classifier, epoch, optimizer)
        assert grouped(classifier, optimizer) == [PROJECTION]
    finetuning.finetune_function(classifier, 2, optimizer)
    assert grouped(classifier, optimizer) == [PROJECTION, top(classifier, layers)]
    assert optimizer.param_groups[1]["lr"] == pytest.approx(1e-2 * 0.2)
    below = tuple(f"net.blocks.{block}." for block in range(5 - layers))
    assert not any(name.startswith(below) for name in learning(classifier) if below)


def test_no_layer_joins_where_none_is_asked(classifier: Classifier) -> None:
    finetuning = MilestoneFinetuning(only(unfreeze_top_layers=0))
    finetuning.freeze_before_training(classifier)
    optimizer = classifier.configure_optimizers()["optimizer"]
    for epoch in range(4):
        finetuning.finetune_function(classifier, epoch, optimizer)
    assert grouped(classifier, optimizer) == [PROJECTION]
    assert learning(classifier) == PROJECTION


def test_an_image_nets_head_learns_first_then_its_top_layers() -> None:
    net = build("efficientnet_lite0", dropout=0.0)
    frames = Classifier(net, only(unfreeze_top_layers=2), class_weights=(1.0, 1.0))
    finetuning = MilestoneFinetuning(frames.settings)
    finetuning.freeze_before_training(frames)
    head = {"net.image.classifier.weight", "net.image.classifier.bias"}
    assert learning(frames) == head
    optimizer = frames.configure_optimizers()["optimizer"]
    finetuning.finetune_function(frames, 2, optimizer)
    top = ("net.image.blocks.3.", "net.image.blocks.4.", "net.image.blocks.5.",
           "net.image.blocks.6.", "net.image.conv_head.")  # fmt: skip
    joined = {
        name for name, value in frames.named_parameters() if name.startswith(top) and value.ndim > 1
    }  # BatchNorms stay as they are
    assert grouped(frames, optimizer) == [head, joined]


# ---------------------------------------------------------------- what learns, in fits


class Noise(Dataset[tuple[torch.Tensor, float]]):
    """Four clips of noise, real and fake by turns; notes which (epoch, item) it was asked for."""

    def __init__(self) -> None:
        self.clips = torch.randn(4, 3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
        self.asked: list[tuple[int, int]] = []

    def __getitem__(self, place: tuple[int, int]) -> tuple[torch.Tensor, float]:
        self.asked.append(place)
        return self.clips[place[1]], float(place[1] % 2)


@dataclass
class Log(Callback):
    """Notes, each epoch, what learns at which rate and what has changed."""

    groups: list[list[set[str]]] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    batch_effects: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A BatchNorm that looks at the batch would make clips depend on their neighbours."""
        if batch_idx == 0:
            optimizer = trainer.optimizers[0]
            assert isinstance(pl_module, Classifier)
            self.groups.append(grouped(pl_module, optimizer))
            self.rates.append([group["lr"] for group in optimizer.param_groups])
            assert pl_module.training
            with torch.no_grad():
                together, alone = pl_module(batch[0])[:1], pl_module(batch[0][:1])
            self.batch_effects.append((together - alone).abs().item())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.states.append({k: v.clone() for k, v in pl_module.state_dict().items()})
        self.losses.append(float(trainer.callback_metrics["train_loss"]))


def fit(state: State, settings: Train, folder: Path) -> tuple[Classifier, Log, Noise]:
    classifier, log, noise = make_classifier(state, settings), Log(), Noise()
    trainer = make_trainer(folder, MilestoneFinetuning(settings), log, epochs=settings.epochs)
    training, validation = (
        DataLoader(noise, settings.batch_size, sampler=EpochSampler(4, shuffle_seed=seed))
        for seed in (3, None)
    )
    trainer.fit(classifier, training, validation)
    return classifier, log, noise


@pytest.fixture(scope="module")
def fitted(
    warm_state: State, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Classifier, Log, Noise]:
    """Four epochs, of which the top layer learns in the last two."""
    return fit(warm_state, SETTINGS, tmp_path_factory.mktemp("fit"))


def changed(before: State, after: State) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_rates_follow_the_schedule(fitted: tuple[Classifier, Log, Noise]) -> None:
    _, log, _ = fitted
    # The milestone halves the head's rate; the top layer joins at a fifth of that.
    assert log.rates == [
        [pytest.approx(1e-2)],
        [pytest.approx(1e-2)],
        [pytest.approx(5e-3), pytest.approx(1e-3)],
        [pytest.approx(5e-3), pytest.approx(1e-3)],
    ]


def test_until_the_milestone_all_but_the_projection_stays_bit_for_bit(
    fitted: tuple[Classifier, Log, Noise], warm_state: State
) -> None:
    classifier, log, _ = fitted
    initial = {f"net.{name}": value for name, value in warm_state.items()}
    assert log.groups[:2] == [[PROJECTION]] * 2
    for before, after in zip([initial, log.states[0]], log.states[:2], strict=True):
        assert changed(before, after) == PROJECTION
    assert norm_parts(classifier) <= initial.keys()  # running statistics were compared too


def test_from_the_milestone_the_top_layer_learns_but_no_batchnorm(
    fitted: tuple[Classifier, Log, Noise],
) -> None:
    classifier, log, _ = fitted
    expected = top(classifier, 1)
    # 7 blocks of 3 convolutions, 4 of them with attention's 4 parts, and 3 convolutions beside.
    assert len(expected) == 7 * 3 + 4 * 4 + 3
    assert log.groups[2:] == [[PROJECTION, expected]] * 2
    for before, after in zip(log.states[1:3], log.states[2:4], strict=True):
        assert changed(before, after) == PROJECTION | expected


def test_in_training_a_clips_logit_does_not_depend_on_its_batch(
    fitted: tuple[Classifier, Log, Noise],
) -> None:
    _, log, _ = fitted
    assert len(log.batch_effects) == 4
    assert max(log.batch_effects) < 1e-4


def test_lightning_tells_the_sampler_each_epoch(fitted: tuple[Classifier, Log, Noise]) -> None:
    _, _, noise = fitted
    places = np.array(noise.asked).reshape(4, 2, 4, 2)  # epoch, training or validation, item
    for epoch, (training, validation) in enumerate(places):
        sampler = EpochSampler(4, shuffle_seed=3)
        sampler.set_epoch(epoch)
        assert [tuple(place) for place in training] == list(sampler)
        assert validation[:, 1].tolist() == [0, 1, 2, 3]


def test_the_logged_training_loss_is_the_mean_over_the_epochs_clips(
    warm_state: State, tmp_path: Path
) -> None:
    # At a rate next to nothing the net stays as it was, so its losses can be computed after.
    settings = only(epochs=1, milestone=9, lr_head=1e-12)
    classifier, log, noise = fit(warm_state, settings, tmp_path)
    with torch.no_grad():
        logits = classifier.eval()(noise.clips).double().numpy()
    expected = metrics.log_loss([0, 1, 0, 1], sigmoid(logits))
    assert log.losses == [pytest.approx(expected, rel=1e-4)]


def test_with_no_layer_to_join_the_heads_rate_is_cut_all_the_same(
    warm_state: State, tmp_path: Path
) -> None:
    settings = only(epochs=2, milestone=1, unfreeze_top_layers=0)
    _, log, _ = fit(warm_state, settings, tmp_path)
    assert log.rates == [[pytest.approx(1e-2)], [pytest.approx(5e-3)]]
    assert log.groups == [[PROJECTION]] * 2
    assert changed(log.states[0], log.states[1]) == PROJECTION


def test_a_milestone_at_the_start_trains_the_top_layers_from_there(
    warm_state: State, tmp_path: Path
) -> None:
    settings = only(epochs=1, milestone=0, unfreeze_top_layers=3)
    classifier, log, _ = fit(warm_state, settings, tmp_path)
    expected = top(classifier, 3)
    assert log.groups == [[PROJECTION, expected]]
    assert log.rates == [[pytest.approx(5e-3), pytest.approx(1e-3)]]
    initial = {f"net.{name}": value for name, value in warm_state.items()}
    assert changed(initial, log.states[0]) == PROJECTION | expected


class SharedNoise(LightningDataModule):
    """Noise, one clip a rank and step."""

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(3)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(None)

    def _loader(self, seed: int | None) -> DataLoader[Any]:
        assert self.trainer is not None
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        sampler = EpochSampler(4, shuffle_seed=seed, rank=rank, ranks=ranks)
        return DataLoader(Noise(), 1, sampler=sampler)


class Agreement(Callback):
    """Fails, in a rank's process, where the ranks' weights differ."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert trainer.world_size == 2
        own = torch.cat([value.detach().flatten() for value in pl_module.parameters()])
        gathered = pl_module.all_gather(own)
        assert isinstance(gathered, torch.Tensor)
        assert torch.equal(gathered[0], gathered[1]), f"epoch {trainer.current_epoch}"


def fit_on_two_ranks(weights: str) -> None:
    """Run in a process of its own, which forks one a rank."""
    settings = only(epochs=3, milestone=1, unfreeze_top_layers=2)
    state = torch.load(weights, weights_only=True)
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=3, logger=False,
        callbacks=[MilestoneFinetuning(settings), Agreement()], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(make_classifier(state, settings), SharedNoise())


@pytest.mark.slow
def test_ranks_agree_before_and_after_the_milestone(warm_state: State, tmp_path: Path) -> None:
    torch.save(warm_state, tmp_path / "warm.pt")
    code = (
        "from tests.models.test_classifier import fit_on_two_ranks; "
        f"fit_on_two_ranks({str(tmp_path / 'warm.pt')!r})"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",  # a forked process has none of the threads it was forked beside
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "max_epochs=3" in done.stderr


def test_a_tiny_set_of_clips_is_overfitted(
    warm_state: State, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    def paint_noise(seed: int) -> Callable[[int, tuple[int, int]], NDArray[np.uint8]]:
        generator = np.random.default_rng(seed)

        def paint(_: int, size: tuple[int, int]) -> NDArray[np.uint8]:
            return generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)

        return paint

    times_T = tuple(index / 10 for index in range(4))
    items = []
    for seed in range(4):
        path = tmp_path / f"{seed}.mp4"
        make_video(path, frames=4, rate_fps=10, size=(32, 32), paint=paint_noise(seed))
        items.append(ClipItem(path, times_T, seed % 2, str(seed)))
    clips = ClipDataset(items, Geometry(4, 0.1, 32), augment=None, seed=1)
    settings = only(
        epochs=8, batch_size=4, lr_head=1e-3, milestone=0, unfreeze_top_layers=5, lr_gamma=1.0,
        lr_top_ratio=1.0,
    )  # fmt: skip
    classifier, log = make_classifier(warm_state, settings), Log()
    loader = DataLoader(clips, 4, sampler=EpochSampler(4, shuffle_seed=1))
    trainer = make_trainer(tmp_path, MilestoneFinetuning(settings), log, epochs=settings.epochs)
    trainer.fit(classifier, loader, loader)
    assert log.losses[0] > 0.5
    assert float(trainer.callback_metrics["val_loss"]) < 0.1
    assert float(trainer.callback_metrics["val_auc"]) == 1.0
