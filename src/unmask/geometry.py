"""What is known of backbones without torch, so that params can be checked: their clips, the memory
that training takes, the names of their published weights.
"""

from dataclasses import dataclass

from unmask.timm_facts import is_timm, timm_facts

# Clips are RGB in 0..1, normalised by these: PyTorchVideo's model zoo, Kinetics settings.
MEAN, DEVIATION = 0.45, 0.225


@dataclass(frozen=True)
class Geometry:
    """The clip a backbone eats."""

    frames: int
    interval_s: float
    side_px: int
    brightness: float | None = None  # mean of 0..1 that a dark clip is brought to; None: as it is

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

# A net of timm's gets x3d_xs's clip too, at the side that timm says.
_TIMM_FRAMES, _TIMM_INTERVAL_S = 4, 12 / 30

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
    own = PRETRAINED.get(backbone)
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
    """Return the backbone's own geometry, but where a value is given.

    Raises:
        ParamsError: side_px is not given, and timm has no net of this name.
    """
    if is_timm(backbone):
        side_px = side_px or timm_facts(backbone).side_px
        own = Geometry(_TIMM_FRAMES, _TIMM_INTERVAL_S, side_px)
    else:
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


# The same where norms and the head learn: what autograd keeps, as models.fake_step counts it. Of a
# convolutional net that is next to all of it, as its BatchNorms stand behind each convolution.
_NORMS_BYTES = {
    "x3d_xs": 1000,
    "x3d_s": 1000,
    "x3d_m": 1000,
    "x3d_l": 1000,
    "efficientnet_lite0": 1570,
    "resnext50_32x4d": 2220,
}


def table_pixel_bytes(backbone: str, tune: str, unfreeze_top_layers: int) -> int:
    """Return what one pixel of one frame takes at least in 32 bit, of a backbone in the table.

    tune and unfreeze_top_layers are train's params.
    """
    by_layers = _LEARNING_BYTES[backbone]
    if tune == "layernorm":
        return _NORMS_BYTES[backbone]
    most = len(by_layers) - 1
    layers = {"head": 0, "all": most}.get(tune, unfreeze_top_layers)
    return by_layers[min(layers, most)]


def training_bytes(
    pixel_bytes: float, geometry: Geometry, batch_size: int, *, bytes_per_value: int = 4
) -> int:
    """Return the memory that a training step takes at least, for a batch's clips alone.

    Weights, libraries and the clips that wait come on top: a batch that fits by this may not fit,
    one that does not fit by this does not. pixel_bytes is what a pixel takes in 32 bit;
    bytes_per_value is 2 in mixed precision.
    """
    pixels = batch_size * geometry.frames * geometry.side_px**2
    return int(pixels * pixel_bytes * bytes_per_value / 4)
