"""Published files as their originals write them: names and shapes, without any of our code.

The names are those of transformers 4.56, efficientnet_pytorch 0.7 and DeepfakeBench.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

Shapes = dict[str, tuple[int, ...]]
Tensors = dict[str, torch.Tensor]


def draw(shapes: Shapes, *, seed: int) -> Tensors:
    """Return random weights, small enough that a deep net's signal neither dies nor explodes."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(7)
            continue
        spread = 0.1 if len(shape) < 2 else (shape[0] if len(shape) == 1 else fan_in(shape)) ** -0.5
        value = torch.randn(shape, generator=generator) * spread
        if name.endswith("running_var"):
            value = value.abs() + 0.75
        elif len(shape) == 1 and name.endswith(("weight", "lambda1")):
            value += 1
        tensors[name] = value
    return tensors


def fan_in(shape: tuple[int, ...]) -> int:
    return int(torch.tensor(shape[1:]).prod())


def _linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> Shapes:
    own: Shapes = {f"{name}.weight": (outputs, inputs)}
    return own | {f"{name}.bias": (outputs,)} if bias else own


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm(name: str, width: int) -> Shapes:
    return _norm(name, width) | {
        f"{name}.running_mean": (width,), f"{name}.running_var": (width,),
        f"{name}.num_batches_tracked": (),
    }  # fmt: skip


# ---------------------------------------------------------------- transformers


@dataclass(frozen=True)
class Vit:
    """A ViT's sizes."""

    width: int
    layers: int
    heads: int
    patch: int
    side_px: int

    @property
    def patches(self) -> int:
        return (self.side_px // self.patch) ** 2


LARGE_14 = Vit(1024, 24, 16, 14, 224)
LARGE_16 = Vit(1024, 24, 16, 16, 224)
BASE_16 = Vit(768, 12, 12, 16, 224)
SMALL_16 = Vit(384, 12, 6, 16, 384)


def clip(vit: Vit) -> Shapes:
    """Return CLIP's vision model."""
    width = vit.width
    shapes: Shapes = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, 3, vit.patch, vit.patch),
        "embeddings.position_embedding.weight": (vit.patches + 1, width),
        **_norm("pre_layrnorm", width),
    }
    return shapes | _encoder(vit) | _norm("post_layernorm", width)


def siglip(vit: Vit, classes: int = 2) -> Shapes:
    """Return SiglipForImageClassification, whose pooling head is there and not used."""
    width = vit.width
    shapes: Shapes = {
        "embeddings.patch_embedding.weight": (width, 3, vit.patch, vit.patch),
        "embeddings.patch_embedding.bias": (width,),
        "embeddings.position_embedding.weight": (vit.patches, width),
        **_encoder(vit),
        **_norm("post_layernorm", width),
        "head.probe": (1, 1, width),
        "head.attention.in_proj_weight": (3 * width, width),
        "head.attention.in_proj_bias": (3 * width,),
        **_linear("head.attention.out_proj", width, width),
        **_norm("head.layernorm", width),
        **_linear("head.mlp.fc1", 4 * width, width),
        **_linear("head.mlp.fc2", width, 4 * width),
    }
    named = {f"vision_model.{name}": shape for name, shape in shapes.items()}
    return named | _linear("classifier", classes, width)


def _encoder(vit: Vit) -> Shapes:
    shapes: Shapes = {}
    for layer in range(vit.layers):
        stem, width = f"encoder.layers.{layer}", vit.width
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= _linear(f"{stem}.self_attn.{part}", width, width)
        shapes |= _norm(f"{stem}.layer_norm1", width) | _norm(f"{stem}.layer_norm2", width)
        shapes |= _linear(f"{stem}.mlp.fc1", 4 * width, width)
        shapes |= _linear(f"{stem}.mlp.fc2", width, 4 * width)
    return shapes


def vit_classifier(vit: Vit, classes: int) -> Shapes:
    """Return ViTForImageClassification."""
    width = vit.width
    shapes: Shapes = {
        "vit.embeddings.cls_token": (1, 1, width),
        "vit.embeddings.position_embeddings": (1, vit.patches + 1, width),
        "vit.embeddings.patch_embeddings.projection.weight": (width, 3, vit.patch, vit.patch),
        "vit.embeddings.patch_embeddings.projection.bias": (width,),
    }
    for layer in range(vit.layers):
        stem = f"vit.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{stem}.attention.attention.{part}", width, width)
        shapes |= _linear(f"{stem}.attention.output.dense", width, width)
        shapes |= _linear(f"{stem}.intermediate.dense", 4 * width, width)
        shapes |= _linear(f"{stem}.output.dense", width, 4 * width)
        shapes |= _norm(f"{stem}.layernorm_before", width)
        shapes |= _norm(f"{stem}.layernorm_after", width)
    return shapes | _norm("vit.layernorm", width) | _linear("classifier", classes, width)


def dinov3(vit: Vit, registers: int = 4) -> Shapes:
    """Return DINOv3ViTModel."""
    width = vit.width
    shapes: Shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, 1, width),
        "embeddings.register_tokens": (1, registers, width),
        "embeddings.patch_embeddings.weight": (width, 3, vit.patch, vit.patch),
        "embeddings.patch_embeddings.bias": (width,),
    }
    for layer in range(vit.layers):
        stem = f"layer.{layer}"
        for part in ("k_proj", "v_proj", "q_proj", "o_proj"):
            bias = part != "k_proj"
            shapes |= _linear(f"{stem}.attention.{part}", width, width, bias=bias)
        shapes |= _norm(f"{stem}.norm1", width) | _norm(f"{stem}.norm2", width)
        shapes |= {f"{stem}.layer_scale{n}.lambda1": (width,) for n in (1, 2)}
        shapes |= _linear(f"{stem}.mlp.up_proj", 4 * width, width)
        shapes |= _linear(f"{stem}.mlp.down_proj", width, 4 * width)
    return shapes | _norm("norm", width)


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


def tanh_gelu(x: torch.Tensor) -> torch.Tensor:
    return functional.gelu(x, approximate="tanh")


def encode(
    tensors: Tensors, pictures_NCHW: torch.Tensor, vit: Vit, act: Callable[..., torch.Tensor]
) -> torch.Tensor:
    """Return the normalised tokens of CLIP's or SigLIP's vision model, (N, tokens, width).

    Written from the two papers' formulas: pre-norm attention and a perceptron, each added.
    """
    own = tensors

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        eps = 1e-5 if "pre_layrnorm.weight" in own else 1e-6
        weight, bias = own[f"{name}.weight"], own[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, eps)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, own[f"{name}.weight"], own[f"{name}.bias"])

    x = functional.conv2d(
        pictures_NCHW, own["embeddings.patch_embedding.weight"],
        own.get("embeddings.patch_embedding.bias"), stride=vit.patch,
    ).flatten(2).transpose(1, 2)  # fmt: skip
    if "embeddings.class_embedding" in own:
        token = own["embeddings.class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([token, x], dim=1)
    x = x + own["embeddings.position_embedding.weight"]
    if "pre_layrnorm.weight" in own:
        x = norm("pre_layrnorm", x)
    for layer in range(vit.layers):
        stem = f"encoder.layers.{layer}"
        y = norm(f"{stem}.layer_norm1", x)
        q, k, v = (
            linear(f"{stem}.self_attn.{part}_proj", y).unflatten(2, (vit.heads, -1)).transpose(1, 2)
            for part in "qkv"
        )
        weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        x = x + linear(f"{stem}.self_attn.out_proj", (weights @ v).transpose(1, 2).flatten(2))
        y = linear(f"{stem}.mlp.fc1", norm(f"{stem}.layer_norm2", x))
        x = x + linear(f"{stem}.mlp.fc2", act(y))
    return norm("post_layernorm", x)


# ---------------------------------------------------------------- EfficientNet-B4

# Blocks, kernel, stride, expansion and width of each stage: Tan & Le, 2019, arXiv:1905.11946,
# table 1, scaled for B4 (width 1.4 in multiples of 8, depth 1.8).
_B4 = (
    (2, 3, 1, 1, 24), (4, 3, 2, 6, 32), (4, 5, 2, 6, 56), (6, 3, 2, 6, 112),
    (6, 5, 1, 6, 160), (8, 5, 2, 6, 272), (2, 3, 1, 6, 448),
)  # fmt: skip


def _b4_blocks() -> Iterator[tuple[int, int, int, int, int]]:
    """Yield kernel, stride, expansion, input and output width of each block."""
    inputs = 48
    for blocks, kernel, stride, expansion, width in _B4:
        for number in range(blocks):
            yield kernel, stride if number == 0 else 1, expansion, inputs, width
            inputs = width


def efficientnet_b4(classes: int | None) -> Shapes:
    """Return efficientnet_pytorch's B4; without a head where classes is None."""
    shapes: Shapes = {"_conv_stem.weight": (48, 3, 3, 3), **_batch_norm("_bn0", 48)}
    for number, (kernel, _, expansion, inputs, width) in enumerate(_b4_blocks()):
        stem, wide, squeezed = f"_blocks.{number}", inputs * expansion, max(1, inputs // 4)
        if expansion > 1:
            shapes[f"{stem}._expand_conv.weight"] = (wide, inputs, 1, 1)
            shapes |= _batch_norm(f"{stem}._bn0", wide)
        shapes[f"{stem}._depthwise_conv.weight"] = (wide, 1, kernel, kernel)
        shapes |= _batch_norm(f"{stem}._bn1", wide)
        shapes |= {
            f"{stem}._se_reduce.weight": (squeezed, wide, 1, 1),
            f"{stem}._se_reduce.bias": (squeezed,),
            f"{stem}._se_expand.weight": (wide, squeezed, 1, 1),
            f"{stem}._se_expand.bias": (wide,),
            f"{stem}._project_conv.weight": (width, wide, 1, 1),
        }
        shapes |= _batch_norm(f"{stem}._bn2", width)
    shapes |= {"_conv_head.weight": (1792, 448, 1, 1), **_batch_norm("_bn1", 1792)}
    return shapes if classes is None else shapes | _linear("_fc", classes, 1792)


def run_efficientnet_b4(
    own: Tensors, x: torch.Tensor, *, padded_for_px: int, stem_padding: bool
) -> torch.Tensor:
    """Return the pooled features: each convolution padded as for pictures of one size.

    Every normalisation is set to what it meets, as in training: with random statistics so deep a
    net says the same of any picture.
    """
    side = padded_for_px

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        mean, var = own[f"{name}.running_mean"], own[f"{name}.running_var"]
        mean.copy_(x.mean((0, 2, 3)))
        var.copy_(x.var((0, 2, 3)) + 0.01)
        return functional.batch_norm(
            x, mean, var, own[f"{name}.weight"], own[f"{name}.bias"], eps=1e-3
        )

    def padded(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
        nonlocal side
        after = -(-side // stride)
        total = max((after - 1) * stride + kernel - side, 0)
        side = after
        return functional.pad(x, (total // 2, total - total // 2) * 2)

    entered = padded(x, 3, 2)
    x = functional.conv2d(entered if stem_padding else x, own["_conv_stem.weight"], stride=2)
    x = functional.silu(norm("_bn0", x))
    for number, (kernel, stride, expansion, inputs, width) in enumerate(_b4_blocks()):
        stem, y = f"_blocks.{number}", x
        if expansion > 1:
            y = functional.conv2d(y, own[f"{stem}._expand_conv.weight"])
            y = functional.silu(norm(f"{stem}._bn0", y))
        wide = y.shape[1]
        weight = own[f"{stem}._depthwise_conv.weight"]
        y = functional.conv2d(padded(y, kernel, stride), weight, stride=stride, groups=wide)
        y = functional.silu(norm(f"{stem}._bn1", y))
        squeezed = y.mean((2, 3), keepdim=True)
        for part, act in (("reduce", functional.silu), ("expand", torch.sigmoid)):
            name = f"{stem}._se_{part}"
            squeezed = act(functional.conv2d(squeezed, own[f"{name}.weight"], own[f"{name}.bias"]))
        y = norm(
            f"{stem}._bn2", functional.conv2d(y * squeezed, own[f"{stem}._project_conv.weight"])
        )
        x = x + y if stride == 1 and inputs == width else y
    x = functional.silu(norm("_bn1", functional.conv2d(x, own["_conv_head.weight"])))
    return x.mean((2, 3))


# ---------------------------------------------------------------- Xception


def xception() -> Shapes:
    """Return DeepfakeBench's Xception, with the part of it that only UCF uses."""
    shapes: Shapes = {"conv1.weight": (32, 3, 3, 3), "conv2.weight": (64, 32, 3, 3)}
    shapes |= _batch_norm("bn1", 32) | _batch_norm("bn2", 64)
    widths = [64, 128, 256, *[728] * 9, 1024]
    for block in range(1, 13):
        stem, inputs, width = f"block{block}", widths[block - 1], widths[block]
        if inputs != width:
            shapes[f"{stem}.skip.weight"] = (width, inputs, 1, 1)
            shapes |= _batch_norm(f"{stem}.skipbn", width)
        layers = 3 if 4 <= block <= 11 else 2
        first = 0 if block == 1 else 1  # a ReLU comes first
        for layer in range(layers):
            # The last block grows in its last layer, the others in their first.
            grows_late = block == 12
            entering = inputs if layer == 0 or grows_late else width
            leaving = inputs if grows_late and layer < layers - 1 else width
            place = first + 3 * layer
            shapes[f"{stem}.rep.{place}.conv1.weight"] = (entering, 1, 3, 3)
            shapes[f"{stem}.rep.{place}.pointwise.weight"] = (leaving, entering, 1, 1)
            shapes |= _batch_norm(f"{stem}.rep.{place + 1}", leaving)
    for number, (inputs, width) in {3: (1024, 1536), 4: (1536, 2048)}.items():
        shapes[f"conv{number}.conv1.weight"] = (inputs, 1, 3, 3)
        shapes[f"conv{number}.pointwise.weight"] = (width, inputs, 1, 1)
        shapes |= _batch_norm(f"bn{number}", width)
    shapes |= _linear("last_linear", 2, 2048)
    shapes |= {"adjust_channel.0.weight": (512, 2048, 1, 1), "adjust_channel.0.bias": (512,)}
    return shapes | _batch_norm("adjust_channel.1", 512)


def ucf() -> Shapes:
    """Return what of UCF answers, and some of what only its training needs."""
    shapes = {f"encoder_f.{name}": shape for name, shape in xception().items()}
    shapes |= {"encoder_c.conv1.weight": (32, 3, 3, 3), "con_gan.conv_last.weight": (3, 64, 1, 1)}
    for kind in ("spe", "sha"):
        for place, inputs in ((0, 512), (2, 256), (4, 256)):
            shapes[f"block_{kind}.conv2d.{place}.weight"] = (256, inputs, 1, 1)
            shapes[f"block_{kind}.conv2d.{place}.bias"] = (256,)
        shapes |= _linear(f"head_{kind}.mlp.0", 512, 256)
        shapes |= _linear(f"head_{kind}.mlp.2", 5 if kind == "spe" else 2, 512)
    return shapes


def effort() -> Shapes:
    """Return Effort: CLIP's vision model, its attention as a fixed part and residuals; a head."""
    shapes: Shapes = {}
    for name, shape in clip(LARGE_14).items():
        if ".self_attn." in name and name.endswith("weight"):
            stem = name.removesuffix("weight")
            shapes |= {
                f"{stem}weight_main": shape, f"{stem}S_residual": (1,),
                f"{stem}U_residual": (shape[0], 1), f"{stem}V_residual": (1, shape[1]),
            }  # fmt: skip
        else:
            shapes[name] = shape
    named = {f"backbone.{name}": shape for name, shape in shapes.items()}
    return named | _linear("head", 2, 1024)


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def gend(encoder: Shapes, prefix: str) -> Shapes:
    """Return GenD: an encoder and a linear head."""
    return prefixed(f"feature_extractor.{prefix}", encoder) | _linear("model.linear", 2, 1024)
