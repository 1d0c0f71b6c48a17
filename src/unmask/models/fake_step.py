"""The memory that a training step of a net of timm's takes at least, without computing the step.

torch's fake tensors have shapes and no content: a step is laid out as on a CPU, fused attention
included, and what autograd keeps for the backward pass is counted. Of the table's image nets this
finds within 1% what their bytes in geometry.py say.
"""

import warnings
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from unmask.models.adopt.record import Adopted, Architecture, read_origin
from unmask.models.adopt.start import backbone_of
from unmask.models.backbones import path_of
from unmask.models.frame_net import FrameNet, timm_row
from unmask.models.tuning import freeze_but, head_parameters, keep_statistics
from unmask.params import Clips, Model, Train


def timm_pixel_bytes(clips: Clips, model: Model, train: Train) -> float:
    """Return the bytes that one pixel of one frame takes in 32 bit values, at least.

    That is what is kept for the backward pass; or where that is more, as it is where the head alone
    learns, what a layer takes and gives. The net is the one that the training builds: as its makers
    built it, with their size of patches for instance, where model.weights are theirs.

    Raises:
        ParamsError: timm has no such net, or can't build it for these clips, or its layers are not
            known and train.tune is milestones.
        WeightsError: what model.weights say of their origin can't be read.
    """
    side_px = clips.geometry(model.backbone).side_px
    published = _published(model)
    row = timm_row(model.backbone, side_px=side_px, colours=None, published=published)
    with torch.device("meta"):  # shapes alone: nothing of a large net is filled
        net = FrameNet(row, dropout=model.dropout)
    if train.tune == "milestones":
        net.requires_grad_(False)
        top = net.layers()[-train.unfreeze_top_layers :] if train.unfreeze_top_layers else []
        learns = [p for layer in top for module in layer for p in module.parameters()]
        for parameter in (*head_parameters(net), *learns):
            parameter.requires_grad_(True)
    else:
        freeze_but(net, train.tune)
    return kept_bytes(net, side_px) / side_px**2


def _published(model: Model) -> Architecture | None:
    """Return how others built the net that a training starts from; None where nobody says.

    Weights that are not there, or are another net's, are told of by the training, which fetches
    them.
    """
    origin = read_origin(path_of(model.weights))
    if not isinstance(origin, Adopted) or backbone_of(origin) != model.backbone.partition(".")[0]:
        return None
    return origin.architecture


def kept_bytes(net: nn.Module, side_px: int) -> int:
    """Return the bytes that a step keeps for one frame of that side.

    The net may lie on the meta device, and stays as it is but for its modules' modes.
    """
    net.train()
    keep_statistics(net)
    working = [0]

    def look(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        tensors = [t for t in (*given, out) if isinstance(t, torch.Tensor)]
        if not list(module.children()):  # a container's input may be freed before its output
            working[0] = max(working[0], _bytes_of(tensors))

    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with warnings.catch_warnings(), FakeTensorMode():
        warnings.simplefilter("ignore")  # of what never runs
        state = {
            name: fake_like(tensor)
            for name, tensor in (*net.named_parameters(), *net.named_buffers())
        }
        clip_1CTHW = torch.zeros(1, 3, 1, side_px, side_px)
        handles = [module.register_forward_hook(look) for module in net.modules()]
        try:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                torch.func.functional_call(net, state, (clip_1CTHW,)).sum()
        finally:
            for handle in handles:
                handle.remove()
        own = {tensor.untyped_storage()._cdata for tensor in state.values()}
        found = _bytes_of([t for t in kept if t.untyped_storage()._cdata not in own])
    return max(found, working[0])


def fake_like(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of that shape on a CPU, without content; called in a FakeTensorMode."""
    made = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    return made.requires_grad_(tensor.requires_grad)


def _bytes_of(tensors: list[torch.Tensor]) -> int:
    """Return the bytes of all storages that the tensors share or have."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
