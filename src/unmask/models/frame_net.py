"""Image nets for clips, frame by frame: those of the table, and whatever timm builds."""

import sys
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unmask.errors import MALFORMED, ParamsError
from unmask.errors import NoMapError as NoMapError  # of these nets: who catches it looks here
from unmask.geometry import DEVIATION as DEVIATION
from unmask.geometry import MEAN as MEAN
from unmask.models.adopt.padding import fix_padding
from unmask.models.adopt.record import Architecture
from unmask.timm_facts import PREFIX, Colours, timm_facts


@dataclass(frozen=True)
class ImageRow:
    """An image net as timm defines it, for one frame after the other."""

    timm_name: str
    colours: Colours  # as its own weights were trained
    head: str
    layers: tuple[tuple[str, ...], ...] | None  # its modules but the head; None: as timm groups it
    side_px: int | None = None  # of nets that must be told it when they are built
    published: Architecture | None = None  # of a net that others trained, how they built it


def timm_row(
    backbone: str,
    *,
    side_px: int,
    colours: Colours | None,
    published: Architecture | None = None,
) -> ImageRow:
    """Return what builds `timm/<name>` for frames of that side; colours are timm's by default.

    With colours that were recorded, its tag, of which timm may have others by now, is not needed.
    published says how others built the net whose weights it begins with: then its colours are
    theirs, in the order of channels that they gave it.

    Raises:
        ParamsError: timm has no such net.
    """
    arch = backbone.removeprefix(PREFIX).partition(".")[0]
    if published is not None:
        colours = Colours(published.mean, published.deviation)
    facts = timm_facts(backbone if colours is None else PREFIX + arch)
    return ImageRow(
        arch, colours or facts.colours, facts.head, layers=None,
        side_px=side_px if facts.fixed_side else None, published=published,
    )  # fmt: skip


class FrameNet(nn.Module):
    """An image net for clips: two logits a frame, averaged over the frames.

    Frames are folded into the batch, clip by clip: inside, B x T pictures in a row.

    Raises:
        ParamsError: timm's net can't be built for frames of that side, or its head is not linear.
    """

    scale_CHW: torch.Tensor
    shift_CHW: torch.Tensor

    def __init__(self, row: ImageRow, *, dropout: float) -> None:
        super().__init__()
        self.row = row
        self.image: nn.Module = _create(row, dropout)
        head = self.image.get_submodule(row.head)
        if not isinstance(head, nn.Linear):
            raise ParamsError(
                f"model.backbone is {PREFIX}{row.timm_name}; needed is a net whose head is one "
                f"linear layer, found {type(head).__name__}. Choose another net."
            )
        # timm's is made for a thousand classes: with two its logits are so large that training
        # begins at a log-loss of 4 and the head has first to unlearn them.
        head.reset_parameters()
        # From the normalisation of clips to that of the net's own weights.
        own = torch.tensor([row.colours.mean, row.colours.deviation])
        mean, deviation = own.reshape(2, 3, 1, 1)
        self.register_buffer("scale_CHW", DEVIATION / deviation, persistent=False)
        self.register_buffer("shift_CHW", (MEAN - mean) / deviation, persistent=False)

    def forward(self, clips_BCTHW: torch.Tensor) -> torch.Tensor:
        """Return logits_B2."""
        frames_NCHW = clips_BCTHW.transpose(1, 2).flatten(0, 1)
        if self.row.published is not None and self.row.published.channels == "bgr":
            frames_NCHW = frames_NCHW.flip(1)
        logits_N2: torch.Tensor = self.image(frames_NCHW * self.scale_CHW + self.shift_CHW)
        return logits_N2.reshape(-1, clips_BCTHW.shape[2], 2).mean(1)

    @property
    def head(self) -> str:
        """Return the head's name in this module."""
        return f"image.{self.row.head}"

    def layers(self) -> list[list[nn.Module]]:
        """Return all but the head as layers, the lowest first.

        Of a net of timm's they are what timm calls its coarse groups: a stem, then the blocks of a
        transformer, or the stages of a convolutional net. What lies between the last of them and
        the head belongs to it.

        Raises:
            ParamsError: timm does not say the groups of this net.
        """
        if self.row.layers is not None:
            return [[self.image.get_submodule(name) for name in layer] for layer in self.row.layers]
        groups = _groups(self.image, f"{PREFIX}{self.row.timm_name}")
        head = {f"{self.row.head}.{part}" for part in ("weight", "bias")}
        layers: list[list[str]] = []
        for names in groups:
            if head & set(names) and layers:
                layers[-1] += [name for name in names if name not in head]
            else:
                layers.append([name for name in names if name not in head])
        return [_modules_of(self.image, names) for names in layers]

    def last_stage(self) -> nn.Module:
        """Return the module whose output is the last that has places in the picture.

        Of a vision transformer it is the norm before the last block's attention: after that block
        only the class token may lead to the logits.

        Raises:
            NoMapError: timm does not say which module it is.
        """
        if self.row.layers is not None:
            return self.layers()[-1][-1]
        blocks = getattr(self.image, "blocks", None)
        if self.has_tokens and isinstance(blocks, nn.Sequential | nn.ModuleList):
            norm = getattr(blocks[-1], "norm1", None)
            return norm if isinstance(norm, nn.Module) else blocks[-2]
        info: Any = getattr(self.image, "feature_info", None)
        try:
            return self.image.get_submodule(info[-1]["module"])
        except (AttributeError, LookupError, TypeError) as error:  # it says none, or a wrong one
            raise NoMapError(f"timm does not say what {self.row.timm_name} sees where.") from error

    @property
    def has_tokens(self) -> bool:
        """Return whether the net is a transformer of patches, whose features are tokens."""
        return self._grid() is not None

    def map_of(self, features: torch.Tensor) -> torch.Tensor:
        """Return features_NCHW from the last stage's output, tokens or a map.

        Tokens of patches come last, row by row; those before them, of the class for instance, have
        no place.

        Raises:
            NoMapError: the tokens are not those of the net's patches.
        """
        if features.dim() == 4:
            channels_last = getattr(self.image, "output_fmt", None) == "NHWC"
            return features.movedim(-1, 1) if channels_last else features
        grid = self._grid()
        if features.dim() != 3 or grid is None or features.shape[1] < grid[0] * grid[1]:
            raise NoMapError(f"The features of {self.row.timm_name} are not a grid of patches.")
        height, width = grid
        patches_NLC = features[:, -height * width :]
        return patches_NLC.mT.reshape(len(features), -1, height, width)

    def from_makers(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return weights under the names and in the shapes of timm's net, as timm itself does it.

        Its filters know the files of a net's makers, and fit the places of patches to another side.
        Names may begin as a FrameNet's do. What a filter can't read comes back as it was.
        """
        state = {name.removeprefix("image."): value for name, value in state.items()}
        module = sys.modules[type(self.image).__module__]
        filter_of: Any = getattr(module, "checkpoint_filter_fn", None)
        if filter_of is None:
            return state
        try:
            return dict(filter_of(dict(state), self.image))
        except (AssertionError, RuntimeError, *MALFORMED):  # another net's file: it won't fit
            return state

    def _grid(self) -> tuple[int, int] | None:
        grid: Any = getattr(getattr(self.image, "patch_embed", None), "grid_size", None)
        if not isinstance(getattr(self.image, "blocks", None), nn.Sequential | nn.ModuleList):
            return None  # of a net of stages, whose grid becomes smaller
        return (int(grid[0]), int(grid[1])) if grid is not None else None


def _create(row: ImageRow, dropout: float) -> nn.Module:
    # Here, as it takes three seconds, which whoever uses X3D need not wait.
    import timm

    published = row.published
    given: dict[str, Any] = {"num_classes": 2, "drop_rate": dropout}
    if published is not None:
        given |= {str(name): value for name, value in published.options.items()}
    if row.side_px is not None:
        given["img_size"] = row.side_px
    try:
        image: nn.Module = timm.create_model(row.timm_name, pretrained=False, **given)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ParamsError(
            f"model.backbone asks for {PREFIX}{row.timm_name} on frames of {row.side_px} px; timm "
            f"can't build it so ({error}). Leave clips.side_px to the net, or choose another net."
        ) from error
    patch: Any = getattr(getattr(image, "patch_embed", None), "patch_size", None)
    patch_px = patch[0] if isinstance(patch, tuple | list) else patch
    if row.side_px is not None and isinstance(patch_px, int) and row.side_px % patch_px:
        raise ParamsError(
            f"clips.side_px is {row.side_px}; {PREFIX}{row.timm_name} cuts frames into patches of "
            f"{patch_px} px. Set it to a multiple of that, or leave it to the net."
        )
    if published is not None and published.padded_for_px is not None:
        fix_padding(image, published.padded_for_px, stem_padding=published.stem_padding)
    return image


def _groups(image: nn.Module, name: str) -> list[list[str]]:
    """Return the names of a net's parameters by timm's coarse groups, the lowest first."""
    from timm.models import group_parameters

    matcher: Any = getattr(image, "group_matcher", None)
    try:
        groups = group_parameters(image, matcher(coarse=True))
    except (AssertionError, AttributeError, TypeError) as error:
        raise ParamsError(
            f"train.tune is milestones, which needs a net's layers; timm does not say those of "
            f"{name}. Set train.tune to layernorm, head or all, or choose another net."
        ) from error
    return [list(groups[number]) for number in sorted(groups)]


def _modules_of(image: nn.Module, names: list[str]) -> list[nn.Module]:
    """Return modules that together own the parameters of these names, and no others.

    A parameter of a module that has others too, such as the class token, comes in a list.
    """
    by_owner: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_owner[name.rpartition(".")[0]].append(name)
    found: list[nn.Module] = []
    loose: list[nn.Parameter] = []
    for owner, own in by_owner.items():
        module = image.get_submodule(owner)
        if len(list(module.parameters())) == len(own):
            found.append(module)
        else:
            loose += [image.get_parameter(name) for name in own]
    return [*found, *([_Loose(loose)] if loose else [])]


class _Loose(nn.Module):
    """Parameters of modules that have others too. Not a ParameterList, which can be iterated over:
    Lightning takes it for a list of modules.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__()
        for number, parameter in enumerate(parameters):
            self.register_parameter(str(number), parameter)


class UnitLinear(nn.Linear):
    """A linear head that sees the direction of features alone: they are put on the unit sphere.

    As the normalised head of GenD: Yermakov et al., 2025, arXiv:2508.06248.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the head's logits; channels come last."""
        return super().forward(nn.functional.normalize(features, dim=-1))


def put_on_unit_sphere(net: nn.Module, head: str) -> None:
    """Replace a net's head by one of the same weights that normalises what it is given."""
    old = net.get_submodule(head)
    assert isinstance(old, nn.Linear)
    new = UnitLinear(old.in_features, old.out_features, bias=old.bias is not None, device="meta")
    new.weight, new.bias = old.weight, old.bias
    net.set_submodule(head, new)
