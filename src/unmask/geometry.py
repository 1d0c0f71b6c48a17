"""What is known of backbones without torch, so that params can be checked: their clips, the memory
that training takes, the names of their published weights.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """The clip a backbone eats."""

    frames: int
    interval_s: float
    side_px: int

    @property
    def span_s(self) -> float:
        """Return the time from the first frame to the last."""
        return (self.frames - 1) * self.interval_s


# Frames x sampling rate at 30 frames/s and side: Feichtenhofer, "X3D", CVPR 2020, table 3, as in
# PyTorchVideo's hub (crop side at test time).
GEOMETRIES = {
    "x3d_xs": Geometry(4, 12 / 30, 182),
    "x3d_s": Geometry(13, 6 / 30, 182),
    "x3d_m": Geometry(16, 5 / 30, 256),
    "x3d_l": Geometry(16, 5 / 30, 312),
    # x3d_xs's clip, so that what they are told apart by is the net; ImageNet's side.
    "efficientnet_lite0": Geometry(4, 12 / 30, 224),
    "resnext50_32x4d": Geometry(4, 12 / 30, 224),
}

# What model.weights may call a backbone's published weights; None where a file must be named.
PRETRAINED = {
    "x3d_xs": "kinetics400",
    "x3d_s": "kinetics400",
    "x3d_m": "kinetics400",
    "x3d_l": "kinetics400",
    "efficientnet_lite0": "imagenet",
    "resnext50_32x4d": None,
}


def no_such_start(backbone: str, weights: str) -> str:
    """Return the words for weights that are not this backbone's."""
    own = PRETRAINED[backbone]
    remedy = (
        f"Set it to {own}"
        if own
        else "Fetch timm's or torchvision's ImageNet file of it, name "
        "that with its model.weights_sha256"
    )
    return f"model.weights is {weights}, from which {backbone} can't start. {remedy}, or set none"


def clip_geometry(
    backbone: str, *, frames: int | None, interval_s: float | None, side_px: int | None
) -> Geometry:
    """Return the backbone's own geometry, but where a value is given."""
    own = GEOMETRIES[backbone]
    return Geometry(frames or own.frames, interval_s or own.interval_s, side_px or own.side_px)


# What one pixel of one frame keeps in memory for the backward pass, in bytes of 32 bit values, by
# how many top layers learn: what each more clip of a batch added to the peak of a training step's
# resident memory on a CPU (batches of 1 to 8). x3d_xs at 4 x 182 px: 220, 322, 615, 944, 1308 and
# 1322; x3d_m at 16 x 256 px: 70, -, 468, -, - and 1329. Here stands no more than the lower one; of
# the image nets, from one layer on, the tensors alone that autograd keeps for the backward pass.
_X3D = (70, 240, 450, 700, 1250, 1300)
_LEARNING_BYTES = {
    "x3d_xs": _X3D,
    "x3d_s": _X3D,
    "x3d_m": _X3D,
    "x3d_l": _X3D,
    "efficientnet_lite0": (100, 177, 515, 761, 1374, 1594),
    "resnext50_32x4d": (100, 145, 609, 1281, 2065, 2237),
}


def training_bytes(
    backbone: str,
    geometry: Geometry,
    batch_size: int,
    unfreeze_top_layers: int,
    *,
    bytes_per_value: int = 4,
) -> int:
    """Return the memory that a training step takes at least, for a batch's clips alone.

    Weights, libraries and the clips that wait come on top: a batch that fits by this may not fit,
    one that does not fit by this does not. bytes_per_value is 2 in mixed precision.
    """
    by_layers = _LEARNING_BYTES[backbone]
    pixel_bytes = by_layers[min(unfreeze_top_layers, len(by_layers) - 1)]
    pixels = batch_size * geometry.frames * geometry.side_px**2
    return pixels * pixel_bytes * bytes_per_value // 4
