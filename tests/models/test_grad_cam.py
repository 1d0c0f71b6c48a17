"""Grad-CAM, with nets of which one knows where they look."""

import pytest
import torch
from torch import nn

from unmask.errors import NoMapError
from unmask.models import backbones
from unmask.models.grad_cam import grad_cam, signed_heat


class Corner(nn.Module):
    """Says fake by how bright the first channel is, in cells of 8 pixels, in the last frame."""

    def __init__(self, *, by_frame: bool) -> None:
        super().__init__()
        self.by_frame = by_frame
        self.weight = nn.Parameter(torch.ones(1))
        self.last_stage = nn.Identity()

    def forward(self, clips_BCTHW):
        cells = nn.functional.avg_pool3d(clips_BCTHW, (1, 8, 8)).relu() * self.weight
        if self.by_frame:  # as an image net has them
            shape = cells.transpose(1, 2).flatten(0, 1)
            kept = self.last_stage(shape).unflatten(0, (len(clips_BCTHW), -1)).transpose(1, 2)
        else:
            kept = self.last_stage(cells)
        level_B = kept[:, 0].mean(dim=(1, 2, 3)) - 2 * kept[:, 1].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(level_B), level_B], dim=1)


@pytest.mark.parametrize("by_frame", [False, True])
def test_heat_is_where_what_raises_the_logit_lies(by_frame):
    clip = torch.full((1, 3, 4, 32, 32), -1.0)
    clip[0, 0, 2, 8:16, 24:32] = 3.0  # red speaks for a fake, in frame 2, row 1, column 3
    clip[0, 1, 1, 0:8, 0:8] = 3.0  # green against it
    net = Corner(by_frame=by_frame)
    (heat_THW,) = grad_cam(net, net.last_stage, clip)
    # The logit's gradient is 1/64 in each cell of the red map, of which one holds 3.
    expected = torch.zeros(4, 4, 4)
    expected[2, 1, 3] = 3 / 64
    torch.testing.assert_close(heat_THW, expected)


def test_x3d_is_left_as_it_was_and_has_heat_on_its_last_stage():
    torch.manual_seed(1)
    net = backbones.build("x3d_xs", dropout=0.5).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    clip = torch.randn(2, 3, 4, 64, 64)
    with torch.inference_mode():  # as where it is called beside scoring
        heat_BTHW = grad_cam(net, backbones.last_stage(net), clip)
    assert heat_BTHW.shape == (2, 4, 2, 2)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not backbones.last_stage(net)._forward_hooks
    # Gradients by the whole net, without the short cut.
    kept = []
    handle = backbones.last_stage(net).register_forward_hook(lambda *a: kept.append(a[2]))
    logits = net(clip)
    handle.remove()
    (gradients,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), kept)
    weights = gradients.mean(dim=(2, 3, 4), keepdim=True)
    torch.testing.assert_close(heat_BTHW, (weights * kept[0]).sum(dim=1).relu().detach())


def test_a_vits_heat_is_that_of_its_patches_before_the_last_attention():
    torch.manual_seed(1)
    net = backbones.build("timm/vit_tiny_patch16_224", dropout=0.5, side_px=64).eval()
    clip = torch.randn(2, 3, 3, 64, 64)
    with torch.inference_mode():
        heat_BTHW = grad_cam(net, backbones.last_stage(net), clip)
    assert backbones.last_stage(net) is net.image.blocks[11].norm1
    assert heat_BTHW.shape == (2, 3, 4, 4)
    assert heat_BTHW.max() > 0
    # By the whole net, token by token: 2 x 3 frames of 1 class token and 16 patches of 192.
    kept = []
    handle = backbones.last_stage(net).register_forward_hook(lambda *a: kept.append(a[2]))
    logits = net(clip)
    handle.remove()
    (gradients,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), kept)
    features, gradients = (x.detach().unflatten(0, (2, 3))[:, :, 1:] for x in (*kept, gradients))
    weights_BK = gradients.mean(dim=(1, 2))  # over a clip's frames and patches
    expected = torch.einsum("bk,btpk->btp", weights_BK, features).relu().unflatten(2, (4, 4))
    torch.testing.assert_close(heat_BTHW, expected, rtol=1e-4, atol=1e-7)


def test_a_net_whose_last_stage_never_runs_has_no_map():
    """timm names a list of blocks, which runs only as its members do."""
    net = backbones.build("timm/coat_lite_tiny", dropout=0.0, side_px=64).eval()
    with pytest.raises(NoMapError, match="does not run once"):
        grad_cam(net, backbones.last_stage(net), torch.zeros(1, 3, 1, 64, 64))


def test_what_lowers_the_logit_is_below_zero_before_it_is_cut():
    clip = torch.zeros(1, 3, 2, 16, 16)
    clip[0, 1, 1, :8, :8] = 3.0  # green speaks against a fake
    net = Corner(by_frame=False)
    # Its gradient is -2/8 in each of the 8 cells of the green map, of which one holds 3.
    expected = torch.zeros(1, 2, 2, 2)
    expected[0, 1, 0, 0] = -3 * 2 / 8
    torch.testing.assert_close(signed_heat(net, net.last_stage, clip), expected)
    assert not grad_cam(net, net.last_stage, clip).any()
