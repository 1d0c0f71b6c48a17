"""Nets of published detectors, from files of random weights in their originals' own form.

What the originals compute is written here anew from their papers' formulas. Where transformers or
efficientnet_pytorch is installed, which nothing here needs, their own code is asked as well.
"""

import re
from collections.abc import Callable

import original_forms as forms
import pytest
import timm
import torch
from torch.nn import functional

from unmask.errors import WeightsError
from unmask.models.adopt import adoption, names, nets, padding, registry
from unmask.models.adopt.adapter import Converted, Published
from unmask.models.adopt.adapters import x3d
from unmask.models.adopt.record import Architecture
from unmask.models.backbones import clip_logits, map_of
from unmask.models.frame_net import DEVIATION, MEAN, NoMapError

HALF = (0.5, 0.5, 0.5)
TINY = Architecture(
    net="resnet10t", outputs=2, fake=(1,), mean=HALF, deviation=HALF, pooling="probabilities"
)


def perception() -> forms.Shapes:
    """Return GenD's Perception Encoder, which its authors build by timm, without its head."""
    with torch.device("meta"):
        net = timm.create_model(
            "vit_pe_core_large_patch14_336", dynamic_img_size=True, num_classes=0
        )
    encoder = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    return forms.gend(encoder, "backbone.")


PUBLISHED: dict[str, Callable[[], forms.Shapes]] = {
    "gend-clip-l-14": lambda: forms.gend(forms.clip(forms.LARGE_14), "vision_model.")
    | {"feature_extractor.visual_projection.weight": (768, 1024)},
    "gend-pe-l": perception,
    "gend-dinov3-l": lambda: forms.gend(forms.dinov3(forms.LARGE_16), "backbone."),
    "community-forensics-384": lambda: {
        f"vit.{name}": shape
        for name, shape in nets.shapes_of(
            Architecture(
                net="vit_small_patch16_384", outputs=1, fake=(0,), mean=HALF, deviation=HALF,
                pooling="logits",
            )
        ).items()
    },
    "community-forensics-vit": lambda: forms.vit_classifier(forms.SMALL_16, 1),
    "siglip2-deepfake-v1": lambda: forms.siglip(forms.BASE_16),
    "sbi-efficientnet-b4": lambda: forms.prefixed("net.", forms.efficientnet_b4(2)),
    "deepfakebench-xception": lambda: forms.prefixed("backbone.", forms.xception()),
    "deepfakebench-efficientnet-b4": lambda: forms.prefixed(
        "backbone.efficientnet.", forms.efficientnet_b4(None)
    )
    | {"backbone.last_layer.weight": (2, 1792), "backbone.last_layer.bias": (2,)},
    "deepfakebench-ucf": forms.ucf,
    "deepfakebench-effort": forms.effort,
}  # fmt: skip


def convert(name: str, tensors: forms.Tensors, **configs: dict[str, object]) -> Converted:
    files = {f"{config}.json": values for config, values in configs.items()}
    return registry.by_name(name).convert(Published(dict(tensors), files))


def build(converted: Converted) -> nets.AdoptedNet:
    state = {f"image.{name}": value for name, value in converted.tensors.items()}
    return nets.with_weights(converted.architecture, state)


def score(net: nets.AdoptedNet, pictures_NCHW: torch.Tensor) -> torch.Tensor:
    """Return logits of RGB in 0..1, as clips of a single frame."""
    with torch.inference_mode():
        return clip_logits(net, ((pictures_NCHW - MEAN) / DEVIATION)[:, :, None])


def normalised(pictures_NCHW: torch.Tensor, architecture: Architecture) -> torch.Tensor:
    mean, deviation = (
        torch.tensor(values)[:, None, None]
        for values in (architecture.mean, architecture.deviation)
    )
    return (pictures_NCHW - mean) / deviation


def two_pictures(side_px: int) -> torch.Tensor:
    """Return two pictures of coarse blocks, which nets tell apart."""
    generator = torch.Generator().manual_seed(5)
    return functional.interpolate(torch.rand(2, 3, 16, 16, generator=generator), size=side_px)


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert abs(float(theirs[0] - theirs[1])) > 1e-3  # else any two nets would agree
    assert ours.tolist() == pytest.approx(theirs.tolist(), abs=1e-4)


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_published_file_fits_its_net_at_full_size(name: str) -> None:
    """Shapes alone: on the meta device nothing is computed."""
    starts = {adapter.name for adapter in x3d.ADAPTERS}  # test_start has these
    assert {adapter.name for adapter in registry.OURS} - starts == set(PUBLISHED)
    tensors = {key: torch.empty(shape, device="meta") for key, shape in PUBLISHED[name]().items()}
    converted = convert(name, tensors)
    wanted = nets.shapes_of(converted.architecture)
    adoption.check_fit(converted.tensors, wanted, what="the file", adapter=name)
    # Without a weight of its head nothing is adopted.
    head = next(
        key for key in converted.tensors if re.match(r"(head|fc|classifier)\b|head_sha", key)
    )
    del converted.tensors[head]
    with pytest.raises(WeightsError, match=rf"1 missing \({re.escape(head)}\)"):
        adoption.check_fit(converted.tensors, wanted, what="the file", adapter=name)


@pytest.mark.parametrize("fake", [0, 1])
def test_siglip_takes_the_mean_of_its_patches(fake: int) -> None:
    tensors = forms.draw(forms.siglip(forms.BASE_16), seed=1)
    labels = {"0": "Real", "1": "Fake"} if fake else {"0": "fake", "1": "real"}
    converted = convert(
        "siglip2-deepfake-v1", tensors, config={"id2label": labels},
        preprocessor_config={"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]},
    )  # fmt: skip
    pictures = two_pictures(224)
    own = {name.removeprefix("vision_model."): value for name, value in tensors.items()}
    tokens = forms.encode(
        own, normalised(pictures, converted.architecture), forms.BASE_16, forms.tanh_gelu
    )
    assert converted.architecture.mean == (0.4, 0.5, 0.6)
    logits = functional.linear(tokens.mean(1), own["classifier.weight"], own["classifier.bias"])
    assert_same(score(build(converted), pictures), logits[:, fake] - logits[:, 1 - fake])


def test_siglips_side_is_that_of_its_positions() -> None:
    shapes = forms.siglip(forms.Vit(768, 12, 12, 16, 512))
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert convert("siglip2-deepfake-v1", tensors).crop.side_px == 512


@pytest.mark.parametrize("labels", [{"0": "a", "1": "b"}, {"0": "fake", "1": "deepfake"}, {}])
def test_classes_that_say_nothing_are_refused(labels: dict[str, object]) -> None:
    tensors = forms.draw(forms.siglip(forms.Vit(768, 12, 12, 16, 32)), seed=1)
    with pytest.raises(WeightsError, match="one of two should be called fake"):
        convert("siglip2-deepfake-v1", tensors, config={"id2label": labels})


@pytest.mark.slow
@pytest.mark.parametrize("head", ["LinearNorm", "linear"])
def test_gend_reads_clips_token_on_the_unit_sphere(head: str) -> None:
    """At full size: 1.2 GB."""
    vit = forms.LARGE_14
    tensors = forms.draw(PUBLISHED["gend-clip-l-14"](), seed=2)
    converted = convert("gend-clip-l-14", tensors, config={"head": head})
    pictures = two_pictures(224)
    prefix = "feature_extractor.vision_model."
    own = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
    with torch.inference_mode():
        tokens = forms.encode(
            own, normalised(pictures, converted.architecture), vit, forms.quick_gelu
        )
    features = tokens[:, 0] / (tokens[:, 0].norm(dim=1, keepdim=True) if head != "linear" else 1)
    weight, bias = 100 * tensors["model.linear.weight"], tensors["model.linear.bias"]
    converted.tensors["head.weight"] = weight  # so that two pictures differ by more than rounding
    logits = functional.linear(features, weight, bias)
    assert_same(score(build(converted), pictures), logits[:, 1] - logits[:, 0])


@pytest.mark.parametrize("name", ["sbi-efficientnet-b4", "deepfakebench-efficientnet-b4"])
def test_efficientnet_pads_as_for_380_px(name: str) -> None:
    tensors = forms.draw(PUBLISHED[name](), seed=3)
    converted = convert(name, tensors)
    is_sbi = name.startswith("sbi")
    prefix = "net." if is_sbi else "backbone.efficientnet."
    own = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
    pictures = two_pictures(converted.crop.side_px)
    with torch.no_grad():
        features = forms.run_efficientnet_b4(
            own, normalised(pictures, converted.architecture), padded_for_px=380,
            stem_padding=is_sbi,
        )  # fmt: skip
    head = "net._fc" if is_sbi else "backbone.last_layer"
    logits = functional.linear(features, tensors[f"{head}.weight"], tensors[f"{head}.bias"])
    # Its normalisations were set to these pictures meanwhile, in the tensors that are converted.
    converted = convert(name, tensors)
    assert_same(score(build(converted), pictures), logits[:, 1] - logits[:, 0])


def test_fixed_padding_is_that_of_380_px_whatever_comes() -> None:
    """380 px halve to 190, 95, 48, 24 and 12; a kernel of 3 and stride 2 adds one at the end."""
    image = timm.create_model("tf_efficientnet_b4", num_classes=2)
    padding.fix_padding(image, 380, stem_padding=False)
    assert image.conv_stem.amounts == (0, 0, 0, 0)
    assert image.blocks[1][0].conv_dw.amounts == (0, 1, 0, 1)  # 190 -> 95: 94 x 2 + 3 - 190 = 1
    assert image.blocks[2][0].conv_dw.amounts == (2, 2, 2, 2)  # 95 -> 48: 47 x 2 + 5 - 95 = 4
    assert image.blocks[5][0].conv_dw.amounts == (1, 2, 1, 2)  # 24 -> 12: 11 x 2 + 5 - 24 = 3


def test_xception_and_ucf_share_an_encoder() -> None:
    tensors = forms.draw(PUBLISHED["deepfakebench-ucf"](), seed=4)
    pictures = two_pictures(256)
    ucf = convert("deepfakebench-ucf", tensors)
    own = {
        n.replace("encoder_f.", "backbone."): value
        for n, value in tensors.items() if n.startswith("encoder_f.")
    }  # fmt: skip
    xception = build(convert("deepfakebench-xception", own)).image
    with torch.inference_mode():
        before: list[torch.Tensor] = []
        handle = xception.bn4.register_forward_hook(lambda *given: before.append(given[2].clone()))
        xception(normalised(pictures, ucf.architecture))
        handle.remove()
        x = functional.conv2d(before[0], *_pair(tensors, "encoder_f.adjust_channel.0"))
        stem = "encoder_f.adjust_channel.1"
        x = functional.batch_norm(
            x, tensors[f"{stem}.running_mean"], tensors[f"{stem}.running_var"],
            *_pair(tensors, stem),
        ).relu()  # fmt: skip
        for place in (0, 2, 4):
            x = functional.conv2d(x, *_pair(tensors, f"block_sha.conv2d.{place}"))
            x = functional.leaky_relu(x, 0.01) if place < 4 else x
        x = functional.linear(x.mean((2, 3)), *_pair(tensors, "head_sha.mlp.0"))
        logits = functional.linear(
            functional.leaky_relu(x, 0.01), *_pair(tensors, "head_sha.mlp.2")
        )
    theirs = logits[:, 1] - logits[:, 0]
    scale = 1e-2 / abs(float(theirs[0] - theirs[1]))
    assert_same(score(build(ucf), pictures) * scale, theirs * scale)


def _pair(tensors: forms.Tensors, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def test_efforts_residuals_become_part_of_the_weight() -> None:
    from unmask.models.adopt.adapters.deepfakebench import fold_residuals

    folded = fold_residuals(
        {
            "q.weight_main": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
            "q.U_residual": torch.tensor([[1.0], [0.0]]),
            "q.S_residual": torch.tensor([10.0]),
            "q.V_residual": torch.tensor([[0.0, 1.0]]),
            "k.weight_main": torch.tensor([[5.0]]),  # of full rank: no residual
        }
    )
    assert folded["q.weight"].tolist() == [[1.0, 12.0], [3.0, 4.0]]
    assert folded["k.weight"].tolist() == [[5.0]]
    assert set(folded) == {"q.weight", "k.weight"}


# ---------------------------------------------------------------- from scores to logits


def test_one_output_speaks_for_a_fake_or_for_a_real_picture() -> None:
    logits = torch.tensor([[2.0]])
    assert nets.to_real_and_fake(logits, (0,)).tolist() == [[0.0, 2.0]]
    assert nets.to_real_and_fake(logits, ()).tolist() == [[2.0, 0.0]]


def test_several_classes_of_fakes_are_added_up() -> None:
    """Generated .2, deepfake .3, real .5: fake and real are as likely."""
    logits = torch.tensor([[0.2, 0.3, 0.5]]).log()
    found = nets.to_real_and_fake(logits, (0, 1)).softmax(1)
    assert found.tolist()[0] == pytest.approx([0.5, 0.5])


def test_frames_are_pooled_as_the_original_does() -> None:
    """Logits 0 and ln 9 are probabilities .5 and .9: their mean is .7; that of logits is ln 3."""
    frames = torch.zeros(1, 3, 2, 4, 4)
    frames[0, 1, 1] = 9.0
    for pooling, expected in (("probabilities", 0.7), ("logits", 0.75)):
        net = nets.AdoptedNet(TINY.model_copy(update={"pooling": pooling}), torch.nn.Identity())
        # Green is the odds for a fake.
        net.image.forward = _log_of_green
        net.scale_C11.fill_(1.0)
        net.shift_C11.fill_(0.0)
        assert float(net(frames).softmax(1)[0, 1]) == pytest.approx(expected)


def _log_of_green(frames_NCHW: torch.Tensor) -> torch.Tensor:
    green = frames_NCHW[:, 1].mean((1, 2)).clamp(min=1)
    return torch.stack([torch.zeros_like(green), green.log()], dim=1)


def test_colours_may_be_wanted_the_other_way_round() -> None:
    red_first = build(_tiny())
    blue_first = build(_tiny(channels="bgr"))
    pictures = two_pictures(64)
    assert score(blue_first, pictures).tolist() == pytest.approx(
        score(red_first, pictures.flip(1)).tolist(), abs=1e-5
    )
    assert score(blue_first, pictures).tolist() != pytest.approx(
        score(red_first, pictures).tolist(), abs=1e-5
    )


def _tiny(**changes: object) -> Converted:
    architecture = TINY.model_copy(update=changes)
    tensors = forms.draw(nets.shapes_of(architecture), seed=6)
    return Converted(architecture, tensors, None)  # type: ignore[arg-type]  # it is not looked at


# ---------------------------------------------------------------- what a stranger's folder asks for


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"net": "vit_gigantic_of_nobody"}, "has none of that name"),
        ({"net": "plugin:nobody"}, "no installed package offers it"),
        ({"options": {"img_size": "large"}}, "timm refused"),
    ],
)
def test_a_net_that_can_not_be_built_is_told(changes: dict[str, object], said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        nets.shapes_of(TINY.model_copy(update=changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"net": "hf_hub:someone/model"},
        {"net": "../resnet10t"},
        {"options": {"checkpoint_path": "x.pth"}},
        {"options": {"pretrained": True}},
        {"outputs": 2, "fake": (2,)},
        {"outputs": 2, "fake": ()},
        {"outputs": 2, "fake": (0, 1)},
        {"deviation": (0.0, 1.0, 1.0)},
    ],
)
def test_what_would_fetch_or_make_no_sense_is_no_architecture(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Architecture.model_validate(TINY.model_dump() | changes)


def test_heat_maps_of_tokens_leave_out_the_token_that_is_read() -> None:
    from unmask.models.grad_cam import grad_cam

    architecture = TINY.model_copy(update={"net": "vit_tiny_patch16_224"})
    tensors = forms.draw(nets.shapes_of(architecture), seed=8)
    net = build(Converted(architecture, tensors, None))  # type: ignore[arg-type]  # not looked at
    heat_BTHW = grad_cam(net, net.last_stage(), torch.randn(2, 3, 3, 224, 224))
    assert heat_BTHW.shape == (2, 3, 14, 14)  # 224 / 16
    assert float(heat_BTHW.max()) > 0


def test_names_that_no_rule_knows_stay() -> None:
    kept = names.rename({"strange": torch.zeros(1)}, names.CLIP)
    assert list(kept) == ["strange"]


# ---------------------------------------------------------------- the originals' libraries


def test_dinov3_agrees_with_transformers() -> None:
    """A small one, in a net of timm's with the same sizes: `python -m pip install transformers`."""
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed: DINOv3's own code was not asked"
    )
    sizes = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
    original = transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(
            **sizes, intermediate_size=1536, patch_size=16, image_size=224, num_register_tokens=4
        )
    ).eval()
    own = names.rename(
        {n.removeprefix("model."): v for n, v in original.state_dict().items()}, names.DINOV3,
        without=[r"embeddings\.mask_token"],
    )  # fmt: skip
    tensors = names.separate_biases(own)
    tensors |= {"head.weight": torch.randn(2, 384), "head.bias": torch.zeros(2)}
    architecture = TINY.model_copy(
        update={
            "net": "vit_small_patch16_dinov3_qkvb", "options": {"global_pool": "token"},
            "on_unit_sphere": True,
        }
    )  # fmt: skip
    pictures = two_pictures(224)
    with torch.inference_mode():
        token = original(normalised(pictures, architecture)).last_hidden_state[:, 0]
    logits = functional.linear(functional.normalize(token, dim=1), tensors["head.weight"])
    net = build(Converted(architecture, tensors, None))  # type: ignore[arg-type]  # not looked at
    assert_same(score(net, pictures), logits[:, 1] - logits[:, 0])


def test_a_patchs_token_lies_at_its_place_also_where_others_come_first() -> None:
    """Tokens count 0, 1, ...: one of the class, four registers, then two rows of three patches."""
    architecture = Architecture(
        net="vit_tiny_patch16_224", options={"img_size": 96}, outputs=2, fake=(1,),
        mean=(0.5,) * 3, deviation=(0.5,) * 3, pooling="logits",
    )  # fmt: skip
    net = nets.build(architecture)
    assert net.has_tokens
    net.image.patch_embed.grid_size = (2, 3)
    tokens_NLC = torch.arange(11.0).reshape(1, 11, 1).expand(2, 11, 5)
    features_NCHW = net.map_of(tokens_NLC)
    assert features_NCHW.shape == (2, 5, 2, 3)
    assert features_NCHW[1, 4].tolist() == [[5, 6, 7], [8, 9, 10]]
    clips = map_of(net, tokens_NLC, 1)
    assert clips.shape == (1, 5, 2, 2, 3)
    with pytest.raises(NoMapError, match="not a grid of patches"):
        net.map_of(tokens_NLC[:, :5])
    with pytest.raises(NoMapError, match="not a grid of patches"):
        net.map_of(tokens_NLC[:, 0])
