"""Where in a clip lies what a net takes for traces of a fake: Grad-CAM, by torch's gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unmask.errors import NoMapError
from unmask.models.backbones import clip_logits, last_stage, map_of


def heat_of(net: nn.Module, clip_CTHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return heat_THW of one clip on the net's last stage, as grad_cam makes it.

    Raises:
        NoMapError: the net's features have no places in the picture.
    """
    device = next(net.parameters()).device
    clip_1CTHW = torch.from_numpy(clip_CTHW)[None].to(device)
    (heat_THW,) = grad_cam(net, last_stage(net), clip_1CTHW).cpu().numpy()
    return np.asarray(heat_THW)


def grad_cam(net: nn.Module, stage: nn.Module, clips_BCTHW: torch.Tensor) -> torch.Tensor:
    """Return heat_BTHW, on the grid of a stage of the net: what there raises the logit.

    Of signed_heat, what is below zero is left out.

    Raises:
        NoMapError: the net's features have no places in the picture.
    """
    return signed_heat(net, stage, clips_BCTHW).relu()


def signed_heat(net: nn.Module, stage: nn.Module, clips_BCTHW: torch.Tensor) -> torch.Tensor:
    """Return heat_BTHW that is below zero where something lowers the logit.

    Feature maps are weighed by the logit's mean gradient over each, and summed: Selvaraju et al.,
    2017, arXiv:1610.02391, equations 1 and 2, with time as a third direction of the map. Of a
    transformer the maps are its tokens, each in its patch's place.

    Raises:
        NoMapError: the net's features have no places in the picture.
    """
    kept: list[torch.Tensor] = []

    def keep(_: nn.Module, __: Any, features: Any) -> Any:
        if not isinstance(features, torch.Tensor):
            return features
        # Gradients begin here, so that nothing before it is kept for them. A copy goes on, since
        # what follows may work in place.
        kept.append(features.detach().requires_grad_())
        return kept[-1].clone()

    frozen = {name: value.detach() for name, value in net.named_parameters()}
    handle = stage.register_forward_hook(keep)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            logits_B = clip_logits(_Frozen(net, frozen), clips_BCTHW)
            if len(kept) != 1:
                raise NoMapError("The net's last stage does not run once, to one map.")
            (gradients,) = torch.autograd.grad(logits_B.sum(), kept)
    finally:
        handle.remove()
    batch = len(clips_BCTHW)
    features_BKTHW, gradients_BKTHW = (map_of(net, x, batch) for x in (kept[0].detach(), gradients))
    weights_BK111 = gradients_BKTHW.mean(dim=(2, 3, 4), keepdim=True)
    heat_BTHW: torch.Tensor = (weights_BK111 * features_BKTHW).sum(dim=1).float()
    return heat_BTHW


class _Frozen(nn.Module):
    """A net whose weights take no gradients, without a change to the net itself."""

    def __init__(self, net: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self._run: Callable[..., torch.Tensor] = partial(torch.func.functional_call, net, weights)

    def forward(self, clips_BCTHW: torch.Tensor) -> torch.Tensor:
        return self._run((clips_BCTHW,))
