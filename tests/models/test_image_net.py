"""X3D cut to an image net, and inflated back to a net of clips."""

import pytest
import torch

from unmask.models import backbones
from unmask.models.image_net import ImageX3D, inflate


def blobs(count, side_px, seed):
    """Return pictures (N, 3, H, W) of soft coloured blobs."""
    coarse = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (side_px, side_px), mode="bicubic")


@pytest.fixture(scope="module")
def nets():
    """An image net, the clip net that it was inflated to, and the kernels it was cut from."""
    torch.manual_seed(4)
    clip_net = backbones.build("x3d_xs", dropout=0.5)
    # Biases and BatchNorm's statistics are not at rest, and the head is strong enough that the
    # answers differ, as after training.
    with torch.no_grad():
        for value in clip_net.parameters():
            value += 0.3 * torch.randn(value.shape) if value.ndim == 1 else 0
        backbones.blocks(clip_net)[-1].proj.weight *= 100
        for seed in range(8):
            clip_net.train()(blobs(8, 64, seed)[:, :, None].expand(-1, -1, 4, -1, -1))
    before = {name: value.clone() for name, value in clip_net.state_dict().items()}
    image_net = ImageX3D(clip_net).eval()
    inflated = backbones.build("x3d_xs", dropout=0.5)
    inflated.load_state_dict(inflate(image_net.net.state_dict(), before))
    return image_net, inflated.eval(), before


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 4, 7])
@pytest.mark.parametrize("side_px", [64, 96])
def test_the_inflated_net_answers_a_standing_clip_as_the_image_net_its_picture(
    nets, frames, side_px
):
    image_net, clip_net, _ = nets
    pictures = blobs(4, side_px, 99)
    logits, mask_logits = image_net(pictures)
    assert mask_logits.shape == (4, side_px // 16, side_px // 16)
    assert logits.std() > 0.05  # it does not answer all alike
    real_fake = clip_net(pictures[:, :, None].expand(-1, -1, frames, -1, -1))
    assert torch.allclose(real_fake[:, 1] - real_fake[:, 0], logits, atol=1e-4)


def test_an_inflated_kernel_stands_in_its_middle_slice(nets):
    image_net, clip_net, before = nets
    deep = 0
    for name, value in clip_net.state_dict().items():
        if value.ndim == 5 and value.shape[2] > 1:
            deep += 1
            middle = value.shape[2] // 2
            assert torch.equal(value[:, :, middle], before[name][:, :, middle])
            assert value[:, :, middle].any()
            assert not value[:, :, :middle].any()
            assert not value[:, :, middle + 1 :].any()
        else:
            assert torch.equal(value, before[name])
    assert deep > 10
    assert not any(isinstance(module, torch.nn.Conv3d) for module in image_net.modules())
