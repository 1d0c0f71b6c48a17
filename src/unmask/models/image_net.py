"""X3D as a net of single pictures, and back.

The image net is X3D with every kernel cut to its middle time slice; put back into that slice, with
zeros around it, the kernels make a clip net that answers as the image net does, averaged over time
("inflation", Carreira & Zisserman, CVPR 2017, section 2.1, in the centred form).
"""

import torch
from fvcore.nn.squeeze_excitation import SqueezeExcitation
from torch import nn

from unmask.models import backbones


class _SpatialExcitation(nn.Module):
    """fvcore's squeeze and excitation averages over three axes by number; a picture has two."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate: torch.Tensor = self.block(x.mean((2, 3), keepdim=True))
        return x * gate


def to_image_net(module: nn.Module) -> nn.Module:
    """Turn a clip net into the image net of its middle time slices, in place, and return it."""
    for name, child in list(module.named_children()):
        if isinstance(child, SqueezeExcitation):
            to_image_net(child.block)
            setattr(module, name, _SpatialExcitation(child.block))
        elif isinstance(child, nn.Conv3d):
            assert isinstance(child.padding, tuple)
            (_, high, wide), (_, down, right) = child.kernel_size, child.stride
            flat = nn.Conv2d(
                child.in_channels, child.out_channels, (high, wide), (down, right),
                (child.padding[1], child.padding[2]),
                groups=child.groups, bias=child.bias is not None,
            )  # fmt: skip
            flat.weight.data = child.weight.data[:, :, child.kernel_size[0] // 2].clone()
            if child.bias is not None and flat.bias is not None:
                flat.bias.data = child.bias.data.clone()
            setattr(module, name, flat)
        elif isinstance(child, nn.BatchNorm3d):
            norm = nn.BatchNorm2d(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            to_image_net(child)
    return module


def inflate(
    image_state: dict[str, torch.Tensor], clip_state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return clip_state with the image net's kernels in its middle time slices, zeros around."""
    inflated = {}
    for name, value in clip_state.items():
        flat = image_state[name]
        if flat.ndim + 1 == value.ndim:
            full = torch.zeros_like(value)
            full[:, :, value.shape[2] // 2] = flat
            inflated[name] = full
        else:
            assert flat.shape == value.shape, name
            inflated[name] = flat.clone()
    return inflated


class ImageX3D(nn.Module):
    """X3D as an image net, with a second output: where the picture was pasted."""

    def __init__(self, clip_net: nn.Module) -> None:
        super().__init__()
        stage = backbones.blocks(clip_net)[3]
        width = stage.res_blocks[-1].branch2.conv_c.out_channels
        self.net = to_image_net(clip_net)
        self.mask = nn.Conv2d(width, 1, 1)

    def forward(self, pictures_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (verdict logits (B,), mask logits (B, H / 16, W / 16))."""
        x = pictures_BCHW
        *body, head = backbones.blocks(self.net)
        for index, block in enumerate(body):
            x = block(x)
            if index == 3:
                mask_logits = self.mask(x)[:, 0]
        x = head.pool.pre_act(head.pool.pre_norm(head.pool.pre_conv(x)))
        x = head.pool.post_act(head.pool.post_conv(x.mean((2, 3), keepdim=True)))
        logits_B2 = head.proj(head.dropout(x.flatten(1)))
        return logits_B2[:, 1] - logits_B2[:, 0], mask_logits
