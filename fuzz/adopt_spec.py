"""A description of a published net in YAML: a stranger's, beside weights."""

from fuzz.folder import make, put
from unmask.errors import UnmaskError
from unmask.models.adopt import spec

_FOLDER = make()
SEEDS = [
    b"""\
name: my-detector
title: A net
net: resnet10t
options: {img_size: 224}
names: transformers-vit
prefix: "module."
ignore: [a]
outputs: 2
fake: [1]
mean: [0.5, 0.5, 0.5]
deviation: [0.5, 0.5, 0.5]
pooling: probabilities
side_px: 224
margin_ratio: 0.2
licence: {code: MIT, weights: MIT, free: true}
trained_on: Pictures.
""",
    b"net: [",
    b"a: &a [*a, *a]",
    b"side_px: 1e999",
    b"\xff",
    b"",
]
TOKENS = [*spec.Spec.model_fields, ".inf", "null", "true", "hf_hub:", "checkpoint_path", "1e999"]


def read(data: bytes) -> None:
    """Read the description; check that it names no file, no address and a net of sane size."""
    try:
        found = spec.read(put(_FOLDER / "unmask.yaml", data))
    except UnmaskError:
        return
    assert found.name.replace("-", "").isalnum(), f"the name {found.name!r}"
    assert found.licence.weights.isprintable(), f"the licence {found.licence.weights!r}"
