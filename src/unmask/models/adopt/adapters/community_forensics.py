"""Community Forensics: a ViT-S/16 that saw pictures of 4,803 generators.

Park & Owens, CVPR 2025, arXiv:2411.04125; code github.com/JeongsooP/Community-Forensics (MIT). It
was trained on whole pictures for whole pictures that are generated; here it is shown faces.
"""

from unmask.models.adopt import names
from unmask.models.adopt.adapter import Adapter, Check, Converted, Crop, Published, Reference
from unmask.models.adopt.record import Architecture, Licence

# Shorter side 440, middle 384: an eighth of a picture's sides is cut off. So much the more is left
# around a face.
_CROP = Crop(side_px=384, margin_ratio=0.3)
_PICTURES = (
    "https://raw.githubusercontent.com/JeongsooP/Community-Forensics/"
    "5ec815fb59bb46d4bcf4155bab1baea23337c4f9/test_images/"
)
_CHECK = Check(
    references=tuple(
        Reference(f"{_PICTURES}{name}.png", sha256, probability, is_fake=True)
        for name, sha256, probability in (
            (
                "00000274",
                "43a7b37d75eac6a04ab0b7b75655b7f12ea97f5de5055f6025b078a6cf36ba09",
                0.9988,
            ),
            (
                "00000420",
                "069af2f62865b68c3c0d5a7feb98667306b8b13836d136a7a1c304a2eb172f8b",
                0.9878,
            ),
            (
                "00000845",
                "e3c1d98ae99c54e58546c92db007071913c698803435351a4bcf80efc223247e",
                0.9569,
            ),
            (
                "00000916",
                "a4c434f68a4b8bf2ed6bb6f15b25c72ff8e159fd6c669ec0c35c29a96d0b05be",
                0.9516,
            ),
            (
                "00000989",
                "cfe5ba7592ee9f0b3e04f80fc1f9df5081418a93e12bb1dc32d6d64eb361393a",
                0.7860,
            ),
        )
    ),
    resize_px=440,
    crop_px=384,
    tolerance=0.02,
    source="eval_using_huggingface.ipynb of the repository, five pictures of DALL-E 2",
)
_TRAINED = "2.7 million pictures: of 4,803 generators, and as many genuine ones (LAION and others)."
_PUBLISHED = "Mean average precision and accuracy over generators: tables of arXiv:2411.04125."
_DIFFERS = (
    "It was made for whole pictures; here it sees a face with 30% around it. Whether that serves "
    "must be measured on footage of your own."
)


def _authors(published: Published) -> Converted:
    """Convert a file of the authors': timm's names after `vit.`, and one logit for a fake."""
    tensors = names.without_prefix(published.tensors, "vit.")
    architecture = Architecture(
        net="vit_small_patch16_384", outputs=1, fake=(0,), mean=(0.485, 0.456, 0.406),
        deviation=(0.229, 0.224, 0.225), pooling="probabilities",
    )  # fmt: skip
    return Converted(architecture, tensors, _CROP)


def _transformers(published: Published) -> Converted:
    """Convert the same net in transformers' form; its normalisation stands beside it."""
    own = names.rename(published.tensors, names.VIT)
    beside = published.config("preprocessor_config.json")
    # As its preprocessor_config.json had it; the authors' own code has ImageNet's.
    mean = tuple(beside.get("image_mean", (0.48145466, 0.4578275, 0.40821073)))
    deviation = tuple(beside.get("image_std", (0.26862954, 0.26130258, 0.27577711)))
    architecture = Architecture(
        net="vit_small_patch16_384", outputs=1, fake=(0,), mean=mean, deviation=deviation,
        pooling="probabilities",
    )  # fmt: skip
    return Converted(architecture, names.fuse_attention(own), _CROP)


AUTHORS = Adapter(
    name="community-forensics-384",
    title="Community Forensics, ViT-S/16 at 384 px (the authors' file)",
    repositories=("OwensLab/commfor-model-384",),
    files=("model.safetensors",),
    licence=Licence(code="MIT", weights="MIT", free=True),
    trained_on=_TRAINED, published=_PUBLISHED, differs=_DIFFERS,
    read="github.com/JeongsooP/Community-Forensics at 5ec815f: models.py (names, one output), "
    "dataloader.py (sizes, ImageNet's normalisation, label 1 is fake), the notebook's answers.",
    untried="The published weights could not be had when this was written. Its published answers "
    "for five pictures are compared by --check.",
    convert=_authors,
    check=_CHECK,
)  # fmt: skip

TRANSFORMERS = Adapter(
    name="community-forensics-vit",
    title="Community Forensics, ViT-S/16 at 384 px (transformers' form)",
    repositories=("buildborderless/CommunityForensics-DeepfakeDet-ViT",),
    files=("model.safetensors",), configs=("config.json", "preprocessor_config.json"),
    licence=Licence(code="MIT", weights="MIT", free=True),
    trained_on=_TRAINED, published=_PUBLISHED, differs=_DIFFERS,
    read="How public programs use it: ViTForImageClassification with one output, which speaks for "
    "a fake; shorter side 440, middle 384, CLIP's mean and deviation by its "
    "preprocessor_config.json. Its size, 21,811,969 parameters, is that of the authors' net.",
    untried="Neither the file nor its configuration could be had when this was written. The "
    "authors' own code normalises otherwise (ImageNet's): compare both adapters on your footage.",
    convert=_transformers,
)  # fmt: skip

ADAPTERS = (AUTHORS, TRANSFORMERS)
