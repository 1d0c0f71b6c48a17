"""Which of a net's weights learn from the first epoch on: train.tune, but for its milestones.

`layernorm` is the recipe of GenD: Yermakov, Cech, Matas, Fritz, "Deepfake Detection that
Generalizes Across Benchmarks", WACV 2026, arXiv:2508.06248. Read were the abstract (layer norms
alone, 0.03% of the weights; features on a hypersphere by L2 normalisation) and the authors' code at
github.com/yermandy/GenD, commit b26c2b2: src/model/GenD.py (what learns; norms don't decay),
src/heads/head.py (the head on normalised features), src/exp/wacv_rebuttal.py. Its `wacv-LN+L2` is
this recipe, with cross-entropy alone; their `LN+L2+UnAl` adds two losses, which are not here.
"""

from typing import Literal, get_args

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from unmask.errors import ParamsError
from unmask.models.backbones import head_name

Tune = Literal["layernorm", "head", "all"]  # each from the first epoch on


def head_parameters(net: nn.Module) -> list[nn.Parameter]:
    """Return the weights of the net's last linear layer."""
    return list(net.get_submodule(head_name(net)).parameters())


def norm_parameters(net: nn.Module) -> list[nn.Parameter]:
    """Return the scales and shifts of the net's normalisation layers.

    They are known by their class's name, as timm has more of them than torch: LayerNorm, BatchNorm,
    GroupNorm, RmsNorm, LayerNorm2d, BatchNormAct2d, ...
    """
    return [
        parameter
        for module in net.modules()
        if "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 1
    ]


def body_parameters(net: nn.Module, tune: str) -> list[nn.Parameter]:
    """Return what learns beside the head, from the first epoch on, by train.tune.

    Raises:
        ParamsError: layernorm is asked for, and the net has no normalisation layers.
    """
    if tune == "layernorm":
        norms = norm_parameters(net)
        if not norms:
            raise ParamsError(
                "train.tune is layernorm; the backbone has no normalisation layers that learn. Set "
                "train.tune to head, all or milestones, or choose another backbone."
            )
        return norms
    if tune == "all":
        head = {id(parameter) for parameter in head_parameters(net)}
        return [parameter for parameter in net.parameters() if id(parameter) not in head]
    return []


def keep_statistics(net: nn.Module) -> None:
    """Put every layer that keeps running statistics on those it has, and let it take no others.

    In train mode a BatchNorm, frozen or not, would normalise by the batch, and by other numbers
    than at test time: batches are small, and a clip's frames are alike.
    """
    for module in net.modules():
        own = module._buffers
        if isinstance(module, _BatchNorm) or "running_var" in own:  # timm's EvoNorm has them too
            module.eval()


class SteadyFinetuning(Callback):
    """Trains the head, and what train.tune names beside it, from the first epoch on."""

    def __init__(self, tune: str) -> None:
        assert tune in get_args(Tune)
        self.tune = tune

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Freeze the rest, before optimizers and DDP look at what learns."""
        freeze_but(pl_module.net, self.tune)  # type: ignore[arg-type]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Keep running statistics as they are: Lightning has put all modules into train mode."""
        keep_statistics(pl_module)


def freeze_but(net: nn.Module, tune: str) -> None:
    """Let a net's head, and what train.tune names beside it, take gradients, and nothing else."""
    net.requires_grad_(False)
    for parameter in (*head_parameters(net), *body_parameters(net, tune)):
        parameter.requires_grad_(True)
