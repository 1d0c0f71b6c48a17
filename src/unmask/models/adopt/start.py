"""A published net as what a training starts from: which backbone it is, and its head as ours."""

from collections.abc import Mapping
from pathlib import Path

import torch

from unmask.errors import WeightsError
from unmask.models.adopt.record import PLUGIN, UCF, Adopted, Architecture, Origin, Start
from unmask.timm_facts import PREFIX


def check_backbone(path: Path, origin: Adopted | Start, backbone: str) -> None:
    """Pass if a training of the backbone can start from weights of that origin.

    Raises:
        WeightsError: it can't; the message names the backbone that can, if there is one.
    """
    own = backbone_of(origin)
    if own is None:
        raise WeightsError(
            f"model.weights asks for {path}, which is {origin.title}; a training starts from nets "
            "of timm's whose head is one linear layer, or from X3D, and this is neither. Set "
            "model.weights to another source: it can be calibrated and used as it is."
        )
    same = own.startswith("x3d_") and backbone.startswith("x3d_")  # told apart by their tensors
    if not same and own != backbone.partition(".")[0]:
        raise WeightsError(
            f"model.weights asks for {path}, which is {origin.title}, for the backbone {backbone}; "
            f"it is a {own}. Set model.backbone to {own}, or model.weights to another source."
        )


def backbone_of(origin: Origin) -> str | None:
    """Return what model.backbone calls a net of that origin; None for nets that it can't name."""
    if isinstance(origin, Start):
        return origin.backbone
    assert isinstance(origin, Adopted)
    net = origin.architecture.net
    if net == UCF or net.startswith(PLUGIN):
        return None
    return PREFIX + net.partition(".")[0]


def with_our_head(
    state: Mapping[str, torch.Tensor],
    architecture: Architecture,
    head: tuple[str, str],
    *,
    unit_features: bool,
) -> dict[str, torch.Tensor]:
    """Return a net's tensors with the head's rows as real and fake, in this order.

    head names its weight and its bias. It is left out where no two rows say the same: where there
    are more than two outputs, or it was fitted to features of another length than it will get.
    """
    ours = {name: value for name, value in state.items() if name not in head}
    if (
        architecture.outputs > 2
        or architecture.on_unit_sphere != unit_features
        or any(name not in state for name in head)
    ):
        return ours
    for name in head:
        rows = state[name]
        if len(rows) == 1:  # the logarithm of the odds of what it speaks for
            pair = [torch.zeros_like(rows), rows]
            ours[name] = torch.cat(pair if architecture.fake else pair[::-1])
        else:
            ours[name] = rows if architecture.fake == (1,) else rows.flip(0)
    return ours
