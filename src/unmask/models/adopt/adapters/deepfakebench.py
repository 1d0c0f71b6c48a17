"""DeepfakeBench's checkpoints: Xception, EfficientNet-B4, UCF and Effort.

Yan et al., NeurIPS 2023, arXiv:2307.01426; code github.com/SCLBD/DeepfakeBench (CC BY-NC 4.0).
"""

import re
from typing import TYPE_CHECKING

from unmask.models.adopt import names, nets
from unmask.models.adopt.adapter import Adapter, Converted, Crop, Published
from unmask.models.adopt.record import UCF, Architecture, Licence

if TYPE_CHECKING:
    import torch

# Faces aligned by landmarks and enlarged 1.3 times: preprocessing/preprocess.py.
_CROP = Crop(side_px=256, margin_ratio=0.15)
_HALF = (0.5, 0.5, 0.5)
_LICENCE = Licence(
    code="CC BY-NC 4.0", weights="CC BY-NC 4.0", free=False,
    why="LICENSE of the repository: not for commercial use. FaceForensics++, which they were "
    "trained on, has terms of its own.",
)  # fmt: skip
_TRAINED = "FaceForensics++ (c23)."
_DIFFERS = (
    "Faces are found by MTCNN instead of dlib; crops are upright squares, not aligned by "
    "landmarks. The original reports single frames; here a face's frames are averaged."
)
_UNTRIED = "The checkpoints could not be had when this was written: no real score was seen."
_READ = "github.com/SCLBD/DeepfakeBench: training/detectors, training/networks and training/config"


def _xception(published: Published) -> Converted:
    own = names.without_prefix(published.tensors, "backbone.")
    tensors = names.rename(
        own, [(r"last_linear\.(\w+)", r"fc.\1")], without=[r"adjust_channel\..+"]
    )
    architecture = Architecture(
        net="legacy_xception", outputs=2, fake=(1,), mean=_HALF, deviation=_HALF,
        pooling="probabilities",
    )  # fmt: skip
    return Converted(architecture, tensors, _CROP)


def _efficientnet(published: Published) -> Converted:
    # Its first convolution was replaced by one without padding; the others pad as for 380 px.
    architecture = Architecture(
        net="tf_efficientnet_b4", outputs=2, fake=(1,), mean=_HALF, deviation=_HALF,
        pooling="probabilities", padded_for_px=380, stem_padding=False,
    )  # fmt: skip
    own = names.without_prefix(published.tensors, "backbone.efficientnet.")
    tensors = names.efficientnet(own, nets.shapes_of(architecture))
    for part in ("weight", "bias"):
        if (name := f"backbone.last_layer.{part}") in published.tensors:
            tensors[f"classifier.{part}"] = published.tensors[name]
    return Converted(architecture, tensors, _CROP)


def _ucf(published: Published) -> Converted:
    tensors = names.rename(
        published.tensors,
        [
            (r"encoder_f\.adjust_channel\.(.+)", r"adjust_channel.\1"),
            (r"block_sha\.conv2d\.(.+)", r"block_sha.\1"),
            (r"head_sha\.mlp\.(.+)", r"head_sha.\1"),
        ],
        # The content's encoder, the generator and the head of single methods serve training.
        without=[
            r"encoder_f\.last_linear\..+", r"encoder_c\..+", r"con_gan\..+", r"head_spe\..+",
            r"block_spe\..+",
        ],
    )  # fmt: skip
    architecture = Architecture(
        net=UCF, outputs=2, fake=(1,), mean=_HALF, deviation=_HALF, pooling="probabilities"
    )
    return Converted(architecture, tensors, _CROP)


def _effort(published: Published) -> Converted:
    own = fold_residuals(names.without_prefix(published.tensors, "backbone."))
    own = names.rename(own, names.CLIP, without=[r"embeddings\.position_ids"])
    tensors = names.fuse_attention(own)
    for part in ("weight", "bias"):
        if (name := f"head.{part}") in published.tensors:
            tensors[name] = published.tensors[name]
    architecture = Architecture(
        net="vit_large_patch14_clip_quickgelu_224", outputs=2, fake=(1,),
        mean=(0.48145466, 0.4578275, 0.40821073), deviation=(0.26862954, 0.26130258, 0.27577711),
        pooling="probabilities",
    )  # fmt: skip
    return Converted(architecture, tensors, Crop(side_px=224, margin_ratio=0.15))


def fold_residuals(tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Return the tensors with each layer's fixed part and learned residual as one weight.

    Effort (Yan et al., ICML 2025, arXiv:2411.15633) keeps most of a weight's singular values fixed
    and learns the rest: weight_main + U S V.
    """
    folded = dict(tensors)
    for name in tensors:
        if not name.endswith(".weight_main"):
            continue
        stem = name.removesuffix("weight_main")
        parts = [f"{stem}{letter}_residual" for letter in "USV"]
        if all(part in folded for part in parts):
            u, s, v = (folded.pop(part).double() for part in parts)
            weight = folded.pop(name).double() + (u * s) @ v
            folded[f"{stem}weight"] = weight.float()
        elif not any(part in folded for part in parts):
            folded[f"{stem}weight"] = folded.pop(name)
    return folded


def _adapter(name: str, title: str, convert: object, published: str, read: str) -> Adapter:
    assert callable(convert)
    assert re.fullmatch(r"[a-z0-9-]+", name)
    return Adapter(
        name=name, title=title, repositories=(), files=(), licence=_LICENCE,
        trained_on=_TRAINED, published=published, read=f"{_READ}: {read}", differs=_DIFFERS,
        untried=_UNTRIED, convert=convert,
    )  # fmt: skip


_TABLE = "Frame AUC, by the table of its README"
ADAPTERS = (
    _adapter(
        "deepfakebench-xception", "DeepfakeBench's Xception (xception_best.pth)", _xception,
        f"{_TABLE}: Celeb-DF v2 .737, DFD .816, DFDC .708, DFDCP .737.",
        "xception (256 px, mean and deviation .5, softmax's output 1 is fake).",
    ),
    _adapter(
        "deepfakebench-efficientnet-b4", "DeepfakeBench's EfficientNet-B4 (effnb4_best.pth)",
        _efficientnet, f"{_TABLE}: Celeb-DF v2 .749, DFD .815, DFDC .696, DFDCP .728.",
        "efficientnetb4 (256 px, first convolution without padding, mean and deviation .5).",
    ),
    _adapter(
        "deepfakebench-ucf", "DeepfakeBench's UCF (ucf_best.pth)", _ucf,
        f"{_TABLE}: Celeb-DF v2 .753, DFD .807, DFDC .719, DFDCP .759.",
        "ucf (256 px; the head of what forgeries share answers; dropout follows its last layer).",
    ),
    _adapter(
        "deepfakebench-effort", "Effort, CLIP ViT-L/14 (DeepfakeBench's code)", _effort,
        "Tables of arXiv:2411.15633.",
        "effort (224 px, CLIP's normalisation, residuals of attention folded into weights).",
    ),
)  # fmt: skip
