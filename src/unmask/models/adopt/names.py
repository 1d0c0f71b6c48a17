"""From the names that tensors have in published files to those of timm's nets.

The names were read off the code of transformers 4.56 (which wrote the files), efficientnet_pytorch
0.7 and DeepfakeBench; what each tensor is follows from where that code uses it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from unmask.errors import WeightsError

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, "torch.Tensor"]

Rules = Sequence[tuple[str, str]]  # patterns of whole names, and what they become

CLIP: Rules = (
    (r"embeddings\.class_embedding", "cls_token"),
    (r"embeddings\.patch_embedding\.(\w+)", r"patch_embed.proj.\1"),
    (r"embeddings\.position_embedding\.weight", "pos_embed"),
    (r"pre_layrnorm\.(\w+)", r"norm_pre.\1"),
    (r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])\.(\w+)", r"blocks.\1.norm\2.\3"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc([12])\.(\w+)", r"blocks.\1.mlp.fc\2.\3"),
    (r"post_layernorm\.(\w+)", r"norm.\1"),
)
SIGLIP: Rules = (
    *((rf"vision_model\.{old}", new) for old, new in CLIP),
    (r"classifier\.(\w+)", r"head.\1"),
)
VIT: Rules = (
    (r"vit\.embeddings\.cls_token", "cls_token"),
    (r"vit\.embeddings\.position_embeddings", "pos_embed"),
    (r"vit\.embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"vit\.encoder\.layer\.(\d+)\.attention\.attention\.(q)uery\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"vit\.encoder\.layer\.(\d+)\.attention\.attention\.(k)ey\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"vit\.encoder\.layer\.(\d+)\.attention\.attention\.(v)alue\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"vit\.encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"vit\.encoder\.layer\.(\d+)\.intermediate\.dense\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (r"vit\.encoder\.layer\.(\d+)\.output\.dense\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"vit\.encoder\.layer\.(\d+)\.layernorm_before\.(\w+)", r"blocks.\1.norm1.\2"),
    (r"vit\.encoder\.layer\.(\d+)\.layernorm_after\.(\w+)", r"blocks.\1.norm2.\2"),
    (r"vit\.layernorm\.(\w+)", r"norm.\1"),
    (r"classifier\.(\w+)", r"head.\1"),
)
DINOV3: Rules = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.patch_embeddings\.(\w+)", r"patch_embed.proj.\1"),
    (r"(?:model\.)?layer\.(\d+)\.attention\.([qkv])_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"(?:model\.)?layer\.(\d+)\.attention\.o_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"(?:model\.)?layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.gamma_\2"),
    (r"(?:model\.)?layer\.(\d+)\.norm([12])\.(\w+)", r"blocks.\1.norm\2.\3"),
    (r"(?:model\.)?layer\.(\d+)\.mlp\.up_proj\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (r"(?:model\.)?layer\.(\d+)\.mlp\.down_proj\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"norm\.(\w+)", r"norm.\1"),
)


def rename(tensors: "Tensors", rules: Rules, *, without: Iterable[str] = ()) -> "Tensors":
    """Return the tensors by their new names; what no rule names keeps its own.

    Those whose whole names `without` matches are left out.
    """
    compiled = [(re.compile(old), new) for old, new in rules]
    unused = [re.compile(name) for name in without]
    renamed = {}
    for name, value in tensors.items():
        if any(pattern.fullmatch(name) for pattern in unused):
            continue
        new_name = name
        for pattern, replacement in compiled:
            if found := pattern.fullmatch(name):
                new_name = found.expand(replacement)
                break
        renamed[new_name] = value
    return renamed


def fuse_attention(tensors: "Tensors") -> "Tensors":
    """Join each block's queries, keys and values as timm has them; tokens get their batch.

    A part that is missing leaves the others under their names, which are then unknown.
    """
    import torch

    fused = dict(tensors)
    for name in tensors:
        found = re.fullmatch(r"(blocks\.\d+\.attn)\.q\.(weight|bias)", name)
        if not found:
            continue
        parts = [f"{found[1]}.{part}.{found[2]}" for part in "qkv"]
        if all(part in fused for part in parts):
            fused[f"{found[1]}.qkv.{found[2]}"] = torch.cat([fused.pop(part) for part in parts])
    for name, rank in (("cls_token", 3), ("pos_embed", 3)):
        if name in fused and fused[name].dim() < rank:
            fused[name] = fused[name].reshape(1, -1, fused[name].shape[-1])
    return fused


def separate_biases(tensors: "Tensors") -> "Tensors":
    """Name the biases of queries and values as timm's DINOv3 has them; its keys have none."""
    named = {}
    for name, value in tensors.items():
        found = re.fullmatch(r"(blocks\.\d+\.attn)\.([qv])\.bias", name)
        named[f"{found[1]}.{found[2]}_bias" if found else name] = value
    import torch

    for name in [name for name in named if re.fullmatch(r"blocks\.\d+\.attn\.q\.weight", name)]:
        stem = name.removesuffix("q.weight")
        parts = [f"{stem}{part}.weight" for part in "qkv"]
        if all(part in named for part in parts):
            named[f"{stem}qkv.weight"] = torch.cat([named.pop(part) for part in parts])
    return named


def without_prefix(tensors: Mapping[str, "torch.Tensor"], prefix: str) -> "Tensors":
    """Return those tensors whose names begin with the prefix, by the rest of their names.

    Raises:
        WeightsError: there are none.
    """
    own = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    if not own:
        first = ", ".join(sorted(tensors)[:3])
        raise WeightsError(
            f"The file's tensors should be named {prefix}...; none is. It has {len(tensors)}, such "
            f"as {first:.300}. Adopt it by the adapter that it was made for (--adapter), or "
            "describe it by --spec."
        )
    return own


# ---------------------------------------------------------------- EfficientNet


def efficientnet(tensors: "Tensors", like: Mapping[str, tuple[int, ...]]) -> "Tensors":
    """Return the tensors of efficientnet_pytorch's EfficientNet by timm's names.

    like has timm's tensors in their order. Blocks are counted through in one, stage by stage in the
    other; within a block the order is the same but for blocks without expansion, whose parts timm
    numbers from one.
    """
    stages: list[str] = []  # timm's blocks in order
    for name in like:
        if (found := re.match(r"blocks\.\d+\.\d+\.", name)) and found[0] not in stages:
            stages.append(found[0])
    simple = {
        "_conv_stem.": "conv_stem.", "_bn0.": "bn1.", "_conv_head.": "conv_head.",
        "_bn1.": "bn2.", "_fc.": "classifier.",
    }  # fmt: skip
    renamed = {}
    for name, value in tensors.items():
        found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if found and int(found[1]) < len(stages):
            stage = stages[int(found[1])]
            part = _part_of_block(found[2], expands=f"{stage}conv_pwl.weight" in like)
            renamed[f"{stage}{part}.{found[3]}"] = value
            continue
        old = next((old for old in simple if name.startswith(old)), None)
        renamed[name if old is None else simple[old] + name.removeprefix(old)] = value
    return renamed


def _part_of_block(part: str, *, expands: bool) -> str:
    parts = {"_depthwise_conv": "conv_dw", "_se_reduce": "se.conv_reduce"}
    parts["_se_expand"] = "se.conv_expand"
    if expands:
        parts |= {"_expand_conv": "conv_pw", "_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
        parts["_project_conv"] = "conv_pwl"
    else:
        parts |= {"_bn1": "bn1", "_bn2": "bn2", "_project_conv": "conv_pw"}
    return parts.get(part, part)
