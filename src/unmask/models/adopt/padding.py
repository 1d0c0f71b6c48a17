"""Convolutions that pad as for pictures of one size, whatever they get: efficientnet_pytorch's."""

from typing import Any

import torch
from torch import nn


class FixedPadConv(nn.Conv2d):
    """A convolution that pads by fixed amounts: left, right, top, bottom."""

    def __init__(self, like: nn.Conv2d, padding: tuple[int, int, int, int]) -> None:
        kernel, stride, dilation = (
            (pair[0], pair[1]) for pair in (like.kernel_size, like.stride, like.dilation)
        )
        super().__init__(
            like.in_channels, like.out_channels, kernel, stride, dilation=dilation,
            groups=like.groups, bias=like.bias is not None, device=like.weight.device,
        )  # fmt: skip
        self.amounts = padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution of the padded map."""
        return super().forward(nn.functional.pad(x, self.amounts))


def fix_padding(image: nn.Module, side_px: int, *, stem_padding: bool) -> None:
    """Let every convolution with TensorFlow's padding pad as for pictures of that side.

    TensorFlow's depends on the size of the map. efficientnet_pytorch computes it once, for the
    size that a net is named after, and keeps it for pictures of any other.
    """
    sides = _sides(image, side_px)
    for number, (name, side) in enumerate(sides.items()):
        conv = image.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        before, after = total // 2, total - total // 2
        if number == 0 and not stem_padding:
            before = after = 0
        parent, _, last = name.rpartition(".")
        setattr(
            image.get_submodule(parent), last, FixedPadConv(conv, (before, after, before, after))
        )


def _sides(image: nn.Module, side_px: int) -> dict[str, int]:
    """Return the side of the map that each convolution larger than a pixel gets, in order."""
    sides: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            sides[name] = inputs[0].shape[-1]

        return hook

    convs = [
        (name, module) for name, module in image.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1
    ]  # fmt: skip
    handles = [module.register_forward_pre_hook(note(name)) for name, module in convs]
    training = image.training
    try:
        # On the meta device nothing is computed: only shapes are.
        shapes = {
            name: torch.empty_like(x, device="meta") for name, x in image.state_dict().items()
        }
        with torch.no_grad():
            torch.func.functional_call(
                image.eval(), shapes, torch.empty(1, 3, side_px, side_px, device="meta")
            )
    finally:
        image.train(training)
        for handle in handles:
            handle.remove()
    return sides
