"""SBI: an EfficientNet-B4 that learned from genuine video alone, by self-blended pictures.

Shiohara & Yamasaki, CVPR 2022, arXiv:2204.08376; code github.com/mapooon/SelfBlendedImages.
"""

from unmask.models.adopt import names, nets
from unmask.models.adopt.adapter import Adapter, Converted, Crop, Published
from unmask.models.adopt.record import Architecture, Licence


def _convert(published: Published) -> Converted:
    architecture = Architecture(
        net="tf_efficientnet_b4", outputs=2, fake=(1,), mean=(0.0, 0.0, 0.0),
        deviation=(1.0, 1.0, 1.0), pooling="probabilities", padded_for_px=380,
    )  # fmt: skip
    own = names.without_prefix(published.tensors, "net.")
    tensors = names.efficientnet(own, nets.shapes_of(architecture))
    return Converted(architecture, tensors, Crop(side_px=380, margin_ratio=0.125))


ADAPTERS = (
    Adapter(
        name="sbi-efficientnet-b4",
        title="SBI, EfficientNet-B4 (FFraw.tar, FFc23.tar)",
        repositories=(),
        files=(),
        licence=Licence(
            code="research only",
            weights="research only",
            free=False,
            why="Yamasaki Lab's licence: academic or non-profit, noncommercial research; it may "
            "not be passed on. Commercial use needs an agreement: LICENSE of the repository.",
        ),
        trained_on="Genuine videos of FaceForensics++ (raw or c23) and self-blended pictures.",
        published="Video AUC in % of the raw one, by its README: Celeb-DF v2 93.8, DFD 97.9, DFDC "
        "73.0, DFDCP 85.7, FFIW 84.5.",
        read="github.com/mapooon/SelfBlendedImages: src/inference (names, values in 0..1, 380 px, "
        "softmax's output 1 is fake, mean over frames), LICENSE.",
        differs="Faces are found by MTCNN instead of RetinaFace. The original cuts an eighth of "
        "the box's width and height around it and stretches that to a square; here crops are "
        "squares.",
        untried="The weights (by Google Drive) could not be had when this was written.",
        convert=_convert,
    ),
)
