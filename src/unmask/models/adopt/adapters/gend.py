"""GenD: ViT-L encoders, only their normalisation layers tuned, and a linear head on the sphere.

Yermakov et al., WACV 2026, arXiv:2508.06248; code github.com/yermandy/GenD (MIT).
"""

from collections.abc import Callable

from unmask.errors import WeightsError
from unmask.models.adopt import names
from unmask.models.adopt.adapter import Adapter, Converted, Crop, Published
from unmask.models.adopt.record import Architecture, Licence, Option

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Faces aligned by five points and enlarged 1.3 times: detector.py, align_face.
_CROP = Crop(side_px=224, margin_ratio=0.15)

_READ = (
    "github.com/yermandy/GenD at e03532d: src/hf/modeling_gend.py (names, pooling, head), "
    "src/dataset/dataset.py (label 0 is real, 1 fake), src/model/base.py (a video's probability is "
    "the mean over its frames), detector.py (crops)."
)
_DIFFERS = (
    "Faces are found by MTCNN instead of RetinaFace; crops are upright squares, not aligned by "
    "landmarks. Probabilities are averaged within a clip, clips by their logits."
)
_UNTRIED = "The published weights could not be had when this was written: no real score was seen."
_TRAINED = "FaceForensics++ (c23), pairs of a fake and its original."
_PUBLISHED = (
    "Video AUC in %, as its paper reports for this family: about 96 on Celeb-DF v2, 87 on DFDC."
)


def _encoder(
    net: str,
    options: dict[Option, int | bool | str],
    encode: Callable[[dict], dict],  # type: ignore[type-arg]  # of tensors, which need torch
    normalisation: tuple[tuple[float, float, float], tuple[float, float, float]],
) -> Callable[[Published], Converted]:
    def convert(published: Published) -> Converted:
        head = published.config("config.json").get("head", "LinearNorm")
        if head not in ("LinearNorm", "linear"):
            raise WeightsError(
                f"config.json names the head {head!r:.60}; GenD has LinearNorm and linear. "
                "Describe the file by --spec."
            )
        tensors = encode(published.tensors)
        for part in ("weight", "bias"):
            if (name := f"model.linear.{part}") in published.tensors:
                tensors[f"head.{part}"] = published.tensors[name]
        mean, deviation = normalisation
        architecture = Architecture(
            net=net, options=options, outputs=2, fake=(1,), on_unit_sphere=head == "LinearNorm",
            mean=mean, deviation=deviation, pooling="probabilities",
        )  # fmt: skip
        return Converted(architecture, tensors, _CROP)

    return convert


def _clip(tensors: dict) -> dict:  # type: ignore[type-arg]
    own = names.without_prefix(tensors, "feature_extractor.vision_model.")
    # An index in files of older versions.
    own = names.rename(own, names.CLIP, without=[r"embeddings\.position_ids"])
    return names.fuse_attention(own)


def _perception(tensors: dict) -> dict:  # type: ignore[type-arg]
    return names.without_prefix(tensors, "feature_extractor.backbone.")


def _dino(tensors: dict) -> dict:  # type: ignore[type-arg]
    own = names.without_prefix(tensors, "feature_extractor.backbone.")
    # The mask token serves pretraining; the rotary table is computed.
    unused = [r"embeddings\.mask_token", r"rope_embeddings\.inv_freq"]
    return names.separate_biases(names.rename(own, names.DINOV3, without=unused))


_FILES = ("model.safetensors", "pytorch_model.bin")

CLIP = Adapter(
    name="gend-clip-l-14",
    title="GenD, CLIP ViT-L/14",
    repositories=("yermandy/GenD_CLIP_L_14",),
    files=_FILES, configs=("config.json",),
    licence=Licence(code="MIT", weights="MIT", free=True),
    trained_on=_TRAINED, published=_PUBLISHED, read=_READ, differs=_DIFFERS, untried=_UNTRIED,
    convert=_encoder(
        "vit_large_patch14_clip_quickgelu_224", {}, _clip, (_CLIP_MEAN, _CLIP_DEVIATION)
    ),
)  # fmt: skip

PERCEPTION = Adapter(
    name="gend-pe-l",
    title="GenD, Perception Encoder ViT-L/14",
    repositories=("yermandy/GenD_PE_L",),
    files=_FILES, configs=("config.json",),
    licence=Licence(code="MIT", weights="MIT", free=True),
    trained_on=_TRAINED, published=_PUBLISHED, read=_READ, differs=_DIFFERS, untried=_UNTRIED,
    # Made for 336 px; the positions are resampled to whatever it is shown, as in the original.
    convert=_encoder(
        "vit_pe_core_large_patch14_336", {"dynamic_img_size": True}, _perception,
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ),
)  # fmt: skip

DINOV3 = Adapter(
    name="gend-dinov3-l",
    title="GenD, DINOv3 ViT-L/16",
    repositories=("yermandy/GenD_DINOv3_L",),
    files=_FILES, configs=("config.json",),
    licence=Licence(
        code="MIT", weights="DINOv3 License (of the encoder)", free=False,
        why="GenD's repository is under MIT, but most of these weights are Meta's DINOv3, whose "
        "own licence has terms for use and redistribution: "
        "ai.meta.com/resources/models-and-libraries/dinov3-license",
    ),
    trained_on=_TRAINED, published=_PUBLISHED, read=_READ, differs=_DIFFERS, untried=_UNTRIED,
    convert=_encoder(
        "vit_large_patch16_dinov3_qkvb", {"global_pool": "token"}, _dino,
        (_IMAGENET_MEAN, _IMAGENET_DEVIATION),
    ),
)  # fmt: skip

ADAPTERS = (CLIP, PERCEPTION, DINOV3)
