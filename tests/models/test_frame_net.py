"""Nets of timm's over the frames of clips: colours, layers, heads, maps, files."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from unmask.errors import ParamsError, WeightsError
from unmask.models import backbones
from unmask.models.frame_net import DEVIATION, MEAN, FrameNet, NoMapError, UnitLinear
from unmask.timm_facts import Colours

TINY, SIDE_PX = "timm/vit_tiny_patch16_224", 64


def built(name: str = TINY, *, side_px: int = SIDE_PX, unit_features: bool = False) -> FrameNet:
    net = backbones.build(name, dropout=0.0, side_px=side_px, unit_features=unit_features).eval()
    assert isinstance(net, FrameNet)
    return net


@pytest.fixture(scope="module")
def tiny() -> FrameNet:
    torch.manual_seed(3)
    return built()


def clips(count: int = 2, frames: int = 3, side_px: int = SIDE_PX) -> torch.Tensor:
    return torch.randn(count, 3, frames, side_px, side_px, generator=torch.manual_seed(0))


@torch.inference_mode()
def test_a_clips_logits_are_the_mean_of_its_frames_in_the_nets_own_colours(tiny: FrameNet) -> None:
    clips_BCTHW = clips()
    assert tiny.row.colours == Colours((0.5,) * 3, (0.5,) * 3)
    for clip_CTHW, logits_2 in zip(clips_BCTHW, tiny(clips_BCTHW), strict=True):
        pixels_TCHW = clip_CTHW.movedim(1, 0) * DEVIATION + MEAN
        each_T2 = tiny.image(pixels_TCHW * 2 - 1)
        torch.testing.assert_close(logits_2, each_T2.mean(0), rtol=1e-4, atol=1e-5)


def test_colours_that_a_checkpoint_has_recorded_stand_before_timms() -> None:
    own = Colours((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    net = backbones.build(TINY, dropout=0.0, side_px=SIDE_PX, colours=own)
    assert backbones.recorded_colours(net) == own
    torch.testing.assert_close(net.scale_CHW.flatten(), DEVIATION / torch.tensor(own.deviation))
    assert backbones.recorded_colours(backbones.build("efficientnet_lite0", dropout=0.0)) is None
    assert backbones.recorded_colours(backbones.build("x3d_xs", dropout=0.0)) is None


def test_a_tag_gives_colours_and_need_not_be_known_once_they_are_recorded() -> None:
    with torch.device("meta"):
        name = "timm/vit_base_patch16_224"
        mil = built(f"{name}.orig_in21k").row
        assert mil.timm_name == "vit_base_patch16_224"
        own = Colours((0.1,) * 3, (0.2,) * 3)
        net = backbones.build(f"{name}.gone", dropout=0.0, side_px=64, colours=own)
        assert backbones.recorded_colours(net) == own
        with pytest.raises(ParamsError, match="no such net"):
            built(f"{name}.gone")


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        # A stem and twelve blocks; what follows them belongs to the topmost.
        (TINY, 13, {"cls_token", "pos_embed", "patch_embed.proj.weight"}, {"norm.weight"}),
        ("timm/resnet18", 5, {"conv1.weight", "bn1.weight"}, {"layer4.1.conv2.weight"}),
        ("timm/tf_efficientnet_lite2", 8, {"conv_stem.weight"}, {"conv_head.weight"}),
        ("timm/convnext_atto", 5, {"stem.0.weight"}, {"stages.3.blocks.0.gamma", "head.norm.bias"}),
    ],
)
def test_layers_and_the_head_are_the_whole_net(
    name: str, count: int, first: set[str], last: set[str]
) -> None:
    with torch.device("meta"):
        net = built(name)
    layers = net.layers()
    assert len(layers) == count
    names = {id(value): key for key, value in net.image.named_parameters()}
    owned = [[id(p) for m in layer for p in m.parameters()] for layer in layers]
    assert first <= {names[each] for each in owned[0]}
    assert last <= {names[each] for each in owned[-1]}
    flat = [each for layer in owned for each in layer]
    flat += [id(p) for p in net.get_submodule(net.head).parameters()]
    assert len(flat) == len(set(flat))
    assert set(flat) == set(names)


def test_a_net_whose_layers_timm_does_not_say_is_refused_where_they_are_asked() -> None:
    with torch.device("meta"):
        net = built("timm/pit_ti_224", side_px=224)
    with pytest.raises(ParamsError, match=r"Set train\.tune to layernorm, head or all"):
        net.layers()


@pytest.mark.parametrize(
    ("name", "side_px", "said"),
    [
        ("timm/vit_tiny_patch16_224", 100, "cuts frames into patches of 16 px"),
        ("timm/resnetv2_18", 64, "found Conv2d"),
        ("timm/vit_tiny_patch61_224", 64, "Did you mean timm/vit_tiny_patch16_224"),
    ],
)
def test_what_can_not_be_built_is_named(name: str, side_px: int, said: str) -> None:
    with torch.device("meta"), pytest.raises(ParamsError, match=said):
        backbones.build(name, dropout=0.0, side_px=side_px)


def test_a_net_whose_patches_are_no_pair_of_numbers_is_built() -> None:
    with torch.device("meta"):
        assert isinstance(built("timm/efficientvit_m0", side_px=224), FrameNet)


def test_a_last_stage_that_timm_names_wrongly_is_none() -> None:
    net = built("timm/resnet18")
    for info in (None, [], [{"num_chs": 3}], [{"module": "layer9"}]):
        net.image.feature_info = info
        with pytest.raises(NoMapError, match="does not say what resnet18 sees"):
            net.last_stage()


# ---------------------------------------------------------------- the unit sphere


@torch.inference_mode()
@pytest.mark.parametrize("name", [TINY, "x3d_xs", "timm/resnet18"])
def test_a_head_on_the_unit_sphere_sees_directions_alone(name: str) -> None:
    net = backbones.build(name, dropout=0.0, side_px=SIDE_PX, unit_features=True).eval()
    head = net.get_submodule(backbones.head_name(net))
    assert isinstance(head, UnitLinear)
    seen: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(clips(1))
    handle.remove()
    (features,) = seen
    expected = features / features.norm(dim=-1, keepdim=True) @ head.weight.T + head.bias
    torch.testing.assert_close(head(features), expected)
    torch.testing.assert_close(head(features * 7), expected)
    plain = backbones.build(name, dropout=0.0, side_px=SIDE_PX)
    assert plain.state_dict().keys() == net.state_dict().keys()


# ---------------------------------------------------------------- maps of evidence


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "grid"),
    [(TINY, 4), ("timm/resnet18", 2), ("timm/swin_tiny_patch4_window7_224", 7)],
)
def test_the_last_stage_gives_a_map_of_every_frame(name: str, grid: int) -> None:
    side_px = 224 if "swin" in name else SIDE_PX
    net, kept = built(name, side_px=side_px), []
    handle = backbones.last_stage(net).register_forward_hook(lambda *given: kept.append(given[2]))
    net(clips(2, 3, side_px))
    handle.remove()
    map_BKTHW = backbones.map_of(net, kept[0], 2)
    assert (map_BKTHW.shape[0], *map_BKTHW.shape[2:]) == (2, 3, grid, grid)
    assert net.has_tokens == (name == TINY)


def test_a_patchs_token_lies_at_its_place(tiny: FrameNet) -> None:
    # Frame 1 of a clip of two, the patch in row 2 and column 3 of 4 x 4, after one class token.
    tokens = torch.zeros(2, 17, 5)
    tokens[1, 1 + 2 * 4 + 3] = torch.arange(1.0, 6.0)
    tokens[:, 0] = 99.0
    (map_KTHW,) = backbones.map_of(tiny, tokens, 1)
    assert map_KTHW[:, 1, 2, 3].tolist() == [1, 2, 3, 4, 5]
    assert map_KTHW.sum() == 15


def test_tokens_that_are_no_patches_have_no_map(tiny: FrameNet) -> None:
    with pytest.raises(NoMapError, match="not a grid of patches"):
        tiny.map_of(torch.zeros(1, 15, 5))


# ---------------------------------------------------------------- files


def load(net: nn.Module, path: Path, name: str = TINY) -> backbones.WeightsInfo:
    return backbones.load_weights(net, str(path), name, sha256=None, cache_dir=path.parent)


def test_timms_file_loads_but_for_its_head_and_our_own_loads_whole(tmp_path: Path) -> None:
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=SIDE_PX)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.pth")
    for name in ("theirs.safetensors", "theirs.pth"):
        net = built()
        assert not load(net, tmp_path / name).head
        for key, value in net.image.state_dict().items():
            if not key.startswith("head."):
                assert torch.equal(value, theirs.state_dict()[key]), key
    save_file(net.state_dict(), tmp_path / "ours.safetensors")
    again = built(unit_features=True)
    assert load(again, tmp_path / "ours.safetensors").head
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in again.state_dict().items())


def test_places_of_patches_are_fitted_to_another_side(tmp_path: Path) -> None:
    save_file(built(side_px=96).state_dict(), tmp_path / "larger.safetensors")
    net = built()
    load(net, tmp_path / "larger.safetensors")
    larger = load_file(tmp_path / "larger.safetensors")
    assert larger["image.pos_embed"].shape == (1, 37, 192)
    pos_embed = net.image.get_parameter("pos_embed")
    assert pos_embed.shape == (1, 17, 192)
    # The class has no place; the means over all places are about the same.
    assert torch.equal(pos_embed[:, 0], larger["image.pos_embed"][:, 0])


@pytest.mark.parametrize("other", ["timm/vit_small_patch16_224", "timm/resnet18", "x3d_xs"])
def test_another_nets_file_is_refused(other: str, tmp_path: Path) -> None:
    net = backbones.build(other, dropout=0.0, side_px=SIDE_PX)
    save_file(net.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=f"does not fit {TINY}"):
        load(built(), tmp_path / "other.safetensors")


@pytest.mark.parametrize("source", ["imagenet", "kinetics400"])
def test_a_net_of_timms_brings_no_weights(source: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"is {source}, from which {TINY} can't start"):
        backbones.find_weights(source, TINY, sha256=None, cache_dir=tmp_path)
