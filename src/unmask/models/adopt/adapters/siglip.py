"""SigLIP 2 classifiers in transformers' form: deepfake-detector-model-v1.

huggingface.co/prithivMLmods/deepfake-detector-model-v1, a fine-tuned google/siglip2-base-patch16.
"""

from collections.abc import Mapping
from typing import Any

from unmask.errors import WeightsError
from unmask.models.adopt import names
from unmask.models.adopt.adapter import Adapter, Converted, Crop, Published
from unmask.models.adopt.record import Architecture, Licence

_PATCH_PX = 16
# The pooling head of SigLIP's encoder, which a classifier of transformers does not use: it takes
# the mean over all patches.
_UNUSED = (r"vision_model\.head\..+", r"vision_model\.embeddings\.position_ids")


def _convert(published: Published) -> Converted:
    tensors = names.fuse_attention(names.rename(published.tensors, names.SIGLIP, without=_UNUSED))
    positions = tensors.get("pos_embed")
    if positions is None:
        raise WeightsError(
            "The file should have the tensor vision_model.embeddings.position_embedding.weight, "
            "as transformers' SigLIP has; it has not. Choose another adapter, or use --spec."
        )
    side_px = round(positions.shape[1] ** 0.5) * _PATCH_PX  # 196 patches: 224 px, 1024: 512
    beside = published.config("preprocessor_config.json")
    architecture = Architecture(
        net="vit_base_patch16_siglip_gap_224", outputs=2,
        options={"img_size": side_px, "act_layer": "gelu_tanh"},  # as SigLIP 2 in transformers
        fake=(_fake_index(published.config("config.json")),),
        mean=tuple(beside.get("image_mean", (0.5, 0.5, 0.5))),
        deviation=tuple(beside.get("image_std", (0.5, 0.5, 0.5))),
        pooling="probabilities",
    )  # fmt: skip
    return Converted(architecture, tensors, Crop(side_px=side_px, margin_ratio=0.15))


def _fake_index(config: Mapping[str, Any]) -> int:
    """Return the output that config.json calls fake; the card's, 0, where there is no file."""
    labels = config.get("id2label", {"0": "fake", "1": "real"})
    found = [int(index) for index, name in labels.items() if "fake" in str(name).lower()]
    if len(labels) != 2 or len(found) != 1:
        raise WeightsError(
            f"config.json names the classes {labels!r:.200}; one of two should be called fake. "
            "Describe the file by --spec."
        )
    return found[0]


ADAPTERS = (
    Adapter(
        name="siglip2-deepfake-v1",
        title="deepfake-detector-model-v1, SigLIP 2 ViT-B/16",
        repositories=("prithivMLmods/deepfake-detector-model-v1",),
        files=("model.safetensors",),
        configs=("config.json", "preprocessor_config.json"),
        licence=Licence(code="Apache-2.0", weights="Apache-2.0", free=True),
        trained_on="A collection of fake and real pictures that its author does not describe in "
        "detail.",
        published="Accuracy .944 on pictures of its own collection, by its card.",
        read="How public programs use it: SiglipForImageClassification, class 0 fake, 1 real. "
        "transformers' code for names and pooling. Side, normalisation and classes are read from "
        "the files beside the weights.",
        differs="Faces with 15% around them; how its own pictures were cropped is not known.",
        untried="Neither the file nor its configuration could be had when this was written.",
        convert=_convert,
    ),
)
