"""Each backbone without torch: what OpenVINO makes of it is what torch makes of the net itself."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from unmask.engine.openvino_net import BatchNet, OpenVinoNet
from unmask.geometry import Geometry
from unmask.models import backbones, portable
from unmask.models.adopt.nets import build as build_adopted
from unmask.models.adopt.record import Architecture
from unmask.models.frame_net import FrameNet
from unmask.models.grad_cam import grad_cam
from unmask.models.portable import DECISION, FEATURES, HEAT, LOGIT, Portable, export, last_layer

SMALL = Geometry(4, 0.4, 64)
TINY = {"depth": 2, "embed_dim": 64, "num_heads": 4, "img_size": 64}
TIMM = ["timm/vit_tiny_patch16_224", "timm/regnetx_002", "timm/convnext_atto"]


def experienced(net, geometry=SMALL):
    """Return the net as after a training: its statistics are of pictures, and its logits large."""
    side = geometry.side_px
    with torch.no_grad():
        net.train()(torch.randn(2, 3, geometry.frames, side, side))
        last_layer(net).weight.mul_(100)
    return net.eval()


def built(name, **given):
    torch.manual_seed(3)
    return experienced(backbones.build(name, dropout=0.5, side_px=SMALL.side_px, **given))


def clips(count, geometry=SMALL, *, frames=None):
    shape = (count, 3, frames or geometry.frames, geometry.side_px, geometry.side_px)
    return np.random.default_rng(5).normal(0, 1, shape).astype(np.float32)


def answers(content, clips_BCTHW):
    """Return what OpenVINO makes of clips, by output."""
    net = OpenVinoNet(content, threads=2)
    found = list(net.run(clips_BCTHW))
    return {name: np.stack([each[name] for each in found]) for name in net.outputs}


def kept_by_last_layer(net, clips_BCTHW):
    """Return torch's own logits_B and what its last layer is given, a mean for each clip."""
    kept = []
    last = last_layer(net)
    handle = last.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    with torch.inference_mode():
        logits_B = backbones.clip_logits(net, torch.from_numpy(clips_BCTHW))
    handle.remove()
    rows = torch.cat(kept).reshape(len(clips_BCTHW), -1, last.in_features)
    return logits_B.numpy(), rows.mean(1).numpy()


@pytest.mark.parametrize("name", [*backbones.BACKBONES, *TIMM])
def test_both_engines_agree_on_every_backbone(name):
    net = built(name)
    content = export(net, SMALL)
    for given in (clips(1, frames=7), clips(3)):
        found = answers(content, given)
        logits_B, features_BF = kept_by_last_layer(net, given)
        assert np.abs(logits_B).max() > 0.01
        assert np.abs(found[LOGIT] - logits_B).max() < 1e-4
        assert found[FEATURES] == pytest.approx(features_BF, abs=1e-4)
    batch = BatchNet(content)(given)[0]  # all clips at once: others may run the file so
    assert batch == pytest.approx(found[LOGIT], abs=1e-4)
    weight = last_layer(net).weight.detach().numpy()
    assert np.array_equal(found[DECISION], [weight[1] - weight[0]] * 3)
    if HEAT in found:
        check_heat(net, given, found[HEAT])
    else:
        assert name in TIMM


def check_heat(net, clips_BCTHW, heat_BTHW):
    expected = grad_cam(net, backbones.last_stage(net), torch.from_numpy(clips_BCTHW)).numpy()
    assert heat_BTHW.shape == expected.shape
    assert expected.max() > 0
    assert np.abs(heat_BTHW - expected).max() <= 1e-3 * expected.max()


def test_heat_behind_a_unit_sphere_is_that_of_torchs_gradients():
    net = built("efficientnet_lite0", unit_features=True)
    given = clips(2)
    check_heat(net, given, answers(export(net, SMALL), given)[HEAT])


def test_a_transformers_heat_is_left_to_torch():
    assert HEAT not in Portable(built(TIMM[0]), SMALL).outputs


def test_the_same_net_gives_the_same_bytes_and_stays_as_it_was():
    net = built("x3d_xs").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    content = export(net, SMALL)
    assert net.training
    assert export(net.eval().to(memory_format=torch.channels_last_3d), SMALL) == content
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    "given",
    [
        {"net": "regnetx_002", "outputs": 2, "fake": (1,), "pooling": "logits"},
        {"net": "regnetx_002", "outputs": 1, "fake": (), "pooling": "probabilities"},
        {"net": "vit_tiny_patch16_224", "outputs": 3, "fake": (0, 2), "pooling": "probabilities",
         "options": {"img_size": 64}, "on_unit_sphere": True, "channels": "bgr"},
        {"net": "ucf", "outputs": 2, "fake": (1,), "pooling": "probabilities"},
        {"net": "tf_efficientnet_b0", "outputs": 2, "fake": (1,), "pooling": "probabilities"},
        {"net": "legacy_xception", "outputs": 2, "fake": (1,), "pooling": "logits"},
        # Transformers of adapters, made small: no file may ask for that.
        {"net": "vit_pe_core_large_patch14_336", "outputs": 2, "fake": (1,),
         "pooling": "probabilities", "options": {**TINY, "dynamic_img_size": True,
                                                 "patch_size": 16}},
        {"net": "vit_large_patch16_dinov3_qkvb", "outputs": 2, "fake": (1,),
         "pooling": "probabilities", "options": {**TINY, "global_pool": "token"}},
        {"net": "vit_base_patch16_siglip_gap_224", "outputs": 2, "fake": (1,),
         "pooling": "probabilities", "options": TINY},
        {"net": "vit_large_patch16_224", "outputs": 1, "fake": (0,),
         "pooling": "probabilities", "options": TINY},
    ],
)  # fmt: skip
def test_adopted_nets_have_the_same_logits(given):
    torch.manual_seed(3)
    options = {"options": given.get("options", {})}
    plain = Architecture(mean=(0.5, 0.4, 0.3), deviation=(0.2, 0.3, 0.4), **given | {"options": {}})
    net = build_adopted(plain.model_copy(update=options))  # unchecked
    with torch.no_grad():
        net.train()(torch.randn(2, 3, 4, 64, 64))
    long = clips(2, frames=20)  # more pictures than torch takes at once
    found = answers(export(net.eval(), SMALL), long)
    with torch.inference_mode():
        expected = backbones.clip_logits(net, torch.from_numpy(long)).numpy()
    assert np.abs(found[LOGIT] - expected).max() < 1e-4


class Levels(nn.Module):
    """A net without a last layer: its logit is the clip's mean level."""

    def forward(self, clips_BCTHW):
        level_B = clips_BCTHW.mean(dim=(1, 2, 3, 4))
        return torch.stack([torch.zeros_like(level_B), level_B], dim=1)


class Untraceable(Levels):
    """What no exporter can follow."""

    def forward(self, clips_BCTHW):
        return super().forward(torch.fft.ifft(torch.fft.fft(clips_BCTHW)).real)


def test_a_net_without_a_last_layer_has_a_logit_alone():
    given = clips(2)
    found = answers(export(Levels(), SMALL), given)
    assert list(found) == [LOGIT]
    assert found[LOGIT] == pytest.approx(given.mean(axis=(1, 2, 3, 4)), abs=1e-6)


def test_a_net_that_cannot_be_written_down_says_so(caplog, monkeypatch):
    with caplog.at_level(logging.WARNING):
        assert export(Untraceable(), SMALL) is None
    assert "no form that runs without torch" in caplog.text
    monkeypatch.setattr(portable, "_MOST_BYTES", 1000)
    caplog.clear()
    assert export(built("x3d_xs"), SMALL) is None
    assert "more than 2 GB" in caplog.text


def test_a_net_that_its_reader_gets_wrong_is_not_written_down(caplog, monkeypatch):
    """Its logit, or all of it: then torch runs it."""
    net = built("x3d_xs")
    with caplog.at_level(logging.WARNING):
        right = export(net, SMALL)
        other = export(built("x3d_xs").apply(halve), SMALL)
        monkeypatch.setattr(portable, "_to_onnx", lambda *_: other)
        assert export(net, SMALL) is None
        monkeypatch.setattr(portable, "_to_onnx", lambda *_: right[:-5])
        assert export(net, SMALL) is None
    assert "its logit of a clip of noise is" in caplog.text
    assert "this one is refused: it ends early" in caplog.text


def halve(module):
    """Halve the weights of linear layers."""
    if isinstance(module, nn.Linear):
        with torch.no_grad():
            module.weight.div_(2)


def test_a_head_of_another_kind_has_no_heat():
    """Its last layer sees as many channels as the map has, yet not their means alone."""
    net = built("efficientnet_lite0")
    assert isinstance(net, FrameNet)
    net.image.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Tanh())
    assert HEAT not in Portable(net, SMALL).outputs
