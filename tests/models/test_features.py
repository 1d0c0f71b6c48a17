"""Features of known nets: one row a clip, blind to the decision, the same for everybody."""

import numpy as np
import pytest
import torch
from adopted import described
from torch import nn

from unmask.models.adopt import nets
from unmask.models.backbones import build, clip_logits
from unmask.models.features import DIMENSIONS, gathered, last_layer, mean_of, shortened


class Flat(nn.Module):
    """Two logits by the mean pixel of each channel, frame by frame, as an image net has them."""

    def __init__(self, outputs=2):
        super().__init__()
        self.head = nn.Linear(3, outputs)

    def forward(self, clips_BCTHW):
        frames_NC = clips_BCTHW.transpose(1, 2).flatten(0, 1).mean((2, 3))
        return self.head(frames_NC).reshape(len(clips_BCTHW), -1, 2).mean(1)


def test_each_clip_has_the_mean_of_its_frames_without_the_decision():
    net = Flat()
    with torch.no_grad():
        net.head.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]))
    clips_BCTHW = torch.zeros(2, 3, 2, 4, 4)
    clips_BCTHW[0, 0, 0], clips_BCTHW[0, 1] = 6.0, 4.0  # means 3 and 4
    clips_BCTHW[1, 1], clips_BCTHW[1, 2] = 5.0, 9.0
    with gathered(net) as found, torch.inference_mode():
        net(clips_BCTHW)
    assert np.array(found) == pytest.approx(np.array([[0.6, 0.8, 0], [0, 1, 0]]))
    with torch.inference_mode():
        net(clips_BCTHW)
    assert len(found) == 2  # nobody listens any more


def test_batches_of_frames_that_part_a_clip_are_put_together():
    """An adopted net scores 16 pictures at a time: here 5 clips of 4 frames, and one of 20."""
    architecture = described("mobilenetv3_small_050")
    net = nets.build(architecture).eval()
    clips_BCTHW = torch.randn(5, 3, 4, 64, 64, generator=torch.manual_seed(0))
    with gathered(net) as found, torch.inference_mode():
        net(clips_BCTHW)
        assert len(found) == 5
        for clip_CTHW in clips_BCTHW:
            net(clip_CTHW[None])
        net(clips_BCTHW.transpose(1, 2).flatten(0, 1).transpose(0, 1)[None])
    assert np.array(found[:5]) == pytest.approx(np.array(found[5:10]), abs=1e-5)
    assert len(found) == 11
    assert abs(found[0] - found[1]).max() > 1e-4


@pytest.mark.parametrize("backbone", ["x3d_xs", "efficientnet_lite0"])
def test_every_backbone_has_features_of_one_length(backbone):
    torch.manual_seed(1)
    net = build(backbone, dropout=0.0).eval()
    clips_BCTHW = torch.rand(3, 3, 4, 64, 64)
    with gathered(net) as found, torch.inference_mode():
        logits_B = clip_logits(net, clips_BCTHW)
    with torch.inference_mode():
        assert torch.equal(clip_logits(net, clips_BCTHW), logits_B)  # to listen changes nothing
    assert [row_D.shape for row_D in found] == [(DIMENSIONS,)] * 3
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)


def test_a_net_without_such_a_layer_has_none():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    assert last_layer(net) is None
    with gathered(net) as found:
        net(torch.zeros(2, 4))
    assert found == []
    assert mean_of(found) is None


def test_short_features_keep_distances_and_do_not_follow_the_decision():
    rng = np.random.default_rng(1)
    rows_NF, decision_F = rng.normal(0, 1, (40, 2048)), rng.normal(0, 1, 2048)
    short = np.array(shortened(rows_NF, decision_F))
    moved = np.array(shortened(rows_NF + 5 * decision_F, decision_F))
    assert moved == pytest.approx(short, abs=1e-9)
    whole = rows_NF / np.linalg.norm(rows_NF, axis=1, keepdims=True)
    before, after = whole @ whole.T, short @ short.T
    assert np.abs(before - after).max() < 0.4
    assert np.abs(before - after).mean() < 0.1
    # Of no machine and no version: the first signs of the hash's bits.
    assert shortened(np.eye(2048)[:1], np.zeros(2048))[0][:4] * DIMENSIONS**0.5 == pytest.approx(
        shortened(np.eye(2048)[:1] * 7, np.zeros(2048))[0][:4] * DIMENSIONS**0.5
    )
