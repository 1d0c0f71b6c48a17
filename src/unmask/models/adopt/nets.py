"""Nets of published detectors, built from what a model's folder says of them."""

import math
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from unmask.errors import WeightsError
from unmask.models.adopt.padding import fix_padding
from unmask.models.adopt.record import PLUGIN, UCF, Architecture
from unmask.models.frame_net import DEVIATION, MEAN, NoMapError

PLUGINS = "unmask.adapters"  # the group of entry points
_PICTURES_AT_ONCE = 16  # a ViT-L takes 300 MB for so many


class AdoptedNet(nn.Module):
    """A net of pictures that takes clips: each frame is scored, and the scores are averaged.

    It maps clips_BCTHW, normalised as all clips are, to logits_B2 of real and fake.
    """

    scale_C11: torch.Tensor
    shift_C11: torch.Tensor

    def __init__(self, architecture: Architecture, image: nn.Module) -> None:
        super().__init__()
        self.architecture = architecture
        self.image = image
        self.register_buffer("scale_C11", torch.empty(3, 1, 1), persistent=False)
        self.register_buffer("shift_C11", torch.empty(3, 1, 1), persistent=False)
        self.init_non_persistent_buffers()

    def init_non_persistent_buffers(self) -> None:
        """Compute what turns the normalisation of clips into that of the net's own weights."""
        means, deviations = self.architecture.mean, self.architecture.deviation
        mean, deviation = torch.tensor([means, deviations]).reshape(2, 3, 1, 1)
        self.scale_C11.copy_(DEVIATION / deviation)
        self.shift_C11.copy_((MEAN - mean) / deviation)

    def forward(self, clips_BCTHW: torch.Tensor) -> torch.Tensor:
        """Return logits_B2."""
        frames_NCHW = clips_BCTHW.transpose(1, 2).flatten(0, 1)
        if self.architecture.channels == "bgr":
            frames_NCHW = frames_NCHW.flip(1)
        frames_NCHW = frames_NCHW * self.scale_C11 + self.shift_C11
        # The portable form takes any number, and is given a clip's.
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            logits_N2 = self._score(frames_NCHW)
        else:
            logits_N2 = torch.cat(
                [self._score(some) for some in torch.split(frames_NCHW, _PICTURES_AT_ONCE)]
            )
        logits_BT2 = logits_N2.reshape(-1, clips_BCTHW.shape[2], 2)
        if self.architecture.pooling == "logits":
            return logits_BT2.mean(1)
        # The logarithm of the mean probability; in logarithms, as a sure net's are 0 and 1.
        return logits_BT2.log_softmax(2).logsumexp(1)

    def _score(self, frames_NCHW: torch.Tensor) -> torch.Tensor:
        if self.architecture.on_unit_sphere:
            image: Any = self.image
            features_NF = image.forward_head(image.forward_features(frames_NCHW), pre_logits=True)
            logits_NK = image.get_classifier()(nn.functional.normalize(features_NF, dim=1))
        else:
            logits_NK = self.image(frames_NCHW)
        return to_real_and_fake(logits_NK, self.architecture.fake)

    def last_stage(self) -> nn.Module:
        """Return the module whose output has places and decides the score.

        Of a transformer it is what the last block attends to: after that block, only the token
        that is read counts, and the others' gradients are zero.
        """
        if self.architecture.net.startswith(PLUGIN):
            return self.image.get_submodule(getattr(self.image, "stage", ""))
        if self.architecture.net == UCF:
            return self.image.get_submodule("block_sha")
        if self.has_tokens:
            return self.image.get_submodule("blocks")[-1].norm1  # type: ignore[index,no-any-return]
        info: Any = self.image.feature_info
        return self.image.get_submodule(info[-1]["module"])

    @property
    def has_tokens(self) -> bool:
        """Return whether the net is a transformer of patches, whose features are tokens."""
        blocks = getattr(self.image, "blocks", None)
        return blocks is not None and hasattr(blocks[-1], "norm1")

    def map_of(self, features: torch.Tensor) -> torch.Tensor:
        """Return features_NCHW from the last stage's output, tokens or a map.

        Tokens of patches come last, row by row, and there are as many rows as columns; those before
        them, of the class for instance, have no place.

        Raises:
            NoMapError: the features are neither.
        """
        if features.dim() == 4:
            channels_last = getattr(self.image, "output_fmt", None) == "NHWC"
            return features.movedim(-1, 1) if channels_last else features
        if features.dim() != 3:
            raise NoMapError(f"The features of {self.architecture.net} are not a grid of patches.")
        grid: Any = getattr(getattr(self.image, "patch_embed", None), "grid_size", None)
        side = math.isqrt(features.shape[1])
        height, width = (side, side) if grid is None else map(int, grid)
        if height * width > features.shape[1]:
            raise NoMapError(f"The features of {self.architecture.net} are not a grid of patches.")
        patches_NLC = features[:, features.shape[1] - height * width :]
        return patches_NLC.mT.reshape(len(features), -1, height, width)


def to_real_and_fake(logits_NK: torch.Tensor, fake: tuple[int, ...]) -> torch.Tensor:
    """Return logits_N2 whose softmax is the probability of the real classes and of the fake ones.

    A single logit is the logarithm of the odds for what it speaks for: a fake, or, if fake is
    empty, a real picture.
    """
    outputs = logits_NK.shape[1]
    if outputs == 1:
        pair = [torch.zeros_like(logits_NK), logits_NK]
        return torch.cat(pair if fake else pair[::-1], dim=1)
    real = [index for index in range(outputs) if index not in fake]
    sums = [logits_NK[:, indices].logsumexp(1) for indices in (real, list(fake))]
    return torch.stack(sums, dim=1)


class Ucf(nn.Module):
    """UCF as it answers: Xception, what forgeries have in common, and a head of two layers.

    Yan et al., 2023, arXiv:2304.13949; sizes and order as in DeepfakeBench's configuration: 512
    channels, 256 of them of what all forgeries share. What only training needs is left out.
    """

    def __init__(self, *, channels: int = 512, outputs: int = 2) -> None:
        import timm

        super().__init__()
        shared = channels // 2
        self.encoder_f = timm.create_model("legacy_xception", pretrained=False, num_classes=0)
        self.encoder_f.act4 = nn.Identity()  # the original's features end with a normalisation
        self.adjust_channel = nn.Sequential(
            nn.Conv2d(2048, channels, 1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.block_sha = nn.Sequential(
            nn.Conv2d(channels, shared, 1), nn.LeakyReLU(), nn.Conv2d(shared, shared, 1),
            nn.LeakyReLU(), nn.Conv2d(shared, shared, 1),
        )  # fmt: skip
        # In the original dropout follows the last layer.
        self.head_sha = nn.Sequential(
            nn.Linear(shared, channels), nn.LeakyReLU(), nn.Linear(channels, outputs)
        )

    def forward(self, frames_NCHW: torch.Tensor) -> torch.Tensor:
        """Return logits_N2."""
        features = self.encoder_f.forward_features(frames_NCHW)
        shared_NCHW = self.block_sha(self.adjust_channel(features))
        logits: torch.Tensor = self.head_sha(shared_NCHW.mean(dim=(2, 3)))
        return logits


def build(architecture: Architecture) -> AdoptedNet:
    """Return the net with random weights.

    Raises:
        WeightsError: this version, or what is installed here, knows no such net.
    """
    return AdoptedNet(architecture, _image(architecture))


def _image(architecture: Architecture) -> nn.Module:
    import timm

    name = architecture.net
    if name.startswith(PLUGIN):
        return _from_plugin(name.removeprefix(PLUGIN), architecture)
    if name == UCF:
        return Ucf(outputs=architecture.outputs)
    if not timm.is_model(name):
        raise WeightsError(
            f"Asked for the architecture {name}; timm {timm.__version__} has none of that name. "
            "Correct the name (timm.list_models() has them all), or update timm."
        )
    try:
        image: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=architecture.outputs, **architecture.options
        )
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise WeightsError(
            f"Asked for {name} with {dict(architecture.options)}; timm refused: {error}. Correct "
            "the options."
        ) from error
    if architecture.padded_for_px is not None:
        fix_padding(image, architecture.padded_for_px, stem_padding=architecture.stem_padding)
    return image


def _from_plugin(name: str, architecture: Architecture) -> nn.Module:
    for found in entry_points(group=PLUGINS, name=name):
        image: nn.Module = found.load().build(architecture)
        return image
    raise WeightsError(
        f"Asked for the net of the adapter {name}; no installed package offers it. Install the one "
        f"that has the entry point {name} in the group {PLUGINS}."
    )


# ---------------------------------------------------------------- weights


def shapes_of(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that the net's state has, by its name in the picture net.

    Raises:
        WeightsError: as build raises it.
    """
    with torch.device("meta"):
        image = _image(architecture)
    return {name: tuple(value.shape) for name, value in image.state_dict().items()}


def with_weights(architecture: Architecture, state: Mapping[str, torch.Tensor]) -> AdoptedNet:
    """Return the net, in eval mode, with these weights, by the names of AdoptedNet's state.

    No random weights are drawn first, which takes a ViT-L 20 seconds.

    Raises:
        WeightsError: as build raises it.
        RuntimeError: names or shapes are others than the net's.
    """
    with torch.device("meta"):
        net = build(architecture)
    net.load_state_dict(dict(state), assign=True)
    if not _fill_buffers(net):
        net = build(architecture)
        net.load_state_dict(dict(state))
    return net.eval()


def _fill_buffers(net: nn.Module) -> bool:
    """Compute the buffers that no file holds; return whether each module knows how to."""
    for module in net.modules():
        missing = [name for name, value in module.named_buffers(recurse=False) if value.is_meta]
        if not missing:
            continue
        compute: Any = getattr(module, "init_non_persistent_buffers", None)
        if compute is None:
            return False
        for name in missing:
            value = module.get_buffer(name)
            kept = torch.empty_like(value, device="cpu")
            module.register_buffer(name, kept, persistent=False)
        compute()
    return not any(value.is_meta for value in (*net.parameters(), *net.buffers()))


def load(path: Path, architecture: Architecture) -> AdoptedNet:
    """Return the net that a model's folder describes, in eval mode on the CPU.

    Raises:
        OSError, safetensors.SafetensorError: the file can't be read.
        RuntimeError: it holds other tensors.
        WeightsError: as build raises it.
    """
    # What the file promises is compared before a net of a stranger's choice takes memory.
    wanted = {f"image.{name}": shape for name, shape in shapes_of(architecture).items()}
    with safe_open(path, framework="pt") as file:
        held = list(file.keys())
        found = {name: tuple(file.get_slice(name).get_shape()) for name in held}
        if found != wanted:
            odd = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
            raise RuntimeError(f"{len(odd)} tensors differ from {architecture.net}'s: {odd[0]}")
        state = {name: file.get_tensor(name) for name in found}
    return with_weights(architecture, state)
