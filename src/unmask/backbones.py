"""Backbones by name: builder and weights. The only importer of pytorchvideo."""

import hashlib
import http.client
import logging
import os
import ssl
import urllib.error
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from unmask.errors import WeightsError
from unmask.geometry import GEOMETRIES

with warnings.catch_warnings():
    # pytorchvideo scripts a function at import, of which torch tells every process anew.
    warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
    from pytorchvideo.models.x3d import create_x3d

logger = logging.getLogger(__name__)

# Inputs are RGB in 0..1, normalised by these: PyTorchVideo's model zoo, Kinetics settings.
MEAN, DEVIATION = 0.45, 0.225

MODEL_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"


@dataclass(frozen=True)
class Backbone:
    """A row of the table: X3D as PyTorchVideo's model zoo defines it."""

    depth_factor: float
    kinetics_file: str


BACKBONES = {
    "x3d_xs": Backbone(2.2, "X3D_XS.pyth"),
    "x3d_s": Backbone(2.2, "X3D_S.pyth"),
    "x3d_m": Backbone(2.2, "X3D_M.pyth"),
    "x3d_l": Backbone(5.0, "X3D_L.pyth"),
}


def build(name: str, *, dropout: float) -> nn.Module:
    """Return X3D from random weights, with blocks 0 to 5: stem, four stages, head.

    It maps clips_BCTHW to two logits (B, 2), real and fake. PyTorchVideo's Softmax before the
    loss is left out, and its head, which pools with a kernel fixed at construction, pools over
    whatever it is given, so that one checkpoint serves other clip lengths.
    """
    row, own = BACKBONES[name], GEOMETRIES[name]
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


# ---------------------------------------------------------------- weights


@dataclass(frozen=True)
class Origin:
    """Where a net's weights came from."""

    name: str
    sha256: str | None
    head: bool  # whether the file brought a two-class head too


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights and the digest of its content."""

    path: Path
    sha256: str


def find_weights(
    source: str, name: str, *, sha256: str | None, cache_dir: Path
) -> WeightsFile | None:
    """Return the file that `kinetics400` or a path stands for; None for `none`.

    sha256 is what the file must have, None for whatever it has. FAIR publishes no digests of its
    files, so the digest of a first download is logged, to be pinned in model.weights_sha256.

    Raises:
        WeightsError: the file is missing or has another digest; or kinetics400 is asked for and
            the model zoo can't be reached.
    """
    if source == "none":
        return None
    if source == "kinetics400":
        path = _fetch_kinetics(BACKBONES[name].kinetics_file, cache_dir)
    else:
        path = Path(source)
        if not path.is_file():
            raise WeightsError(
                f"model.weights asks for {source}; there is no such file. Give `kinetics400`, "
                "`none` or the path of a .safetensors, .pt, .pth or .pyth file."
            )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 not in (None, digest):
        raise WeightsError(
            f"{path} should have the sha256 {sha256} (model.weights_sha256) and has {digest}. "
            "Delete it and fetch it again, or correct the param if the new file is meant."
        )
    return WeightsFile(path, digest)


def load_weights(
    net: nn.Module, source: str, name: str, *, sha256: str | None, cache_dir: Path
) -> Origin:
    """Fill the net from `none`, `kinetics400` or a local file, and return where from.

    A file's 400-class head is left out and the net keeps its fresh one. sha256 is as in
    find_weights.

    Raises:
        WeightsError: the file can't be had, is unsafe to load, damaged, or made for another
            backbone.
    """
    found = find_weights(source, name, sha256=sha256, cache_dir=cache_dir)
    if found is None:
        return Origin("none", None, head=False)
    path, digest = found.path, found.sha256
    state = {key: value.float() for key, value in _read_state(path).items()}
    own = net.state_dict()
    head = "blocks.5.proj.weight", "blocks.5.proj.bias"
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
    return Origin(source, digest, head=fits)


def _fetch_kinetics(file: str, cache_dir: Path) -> Path:
    """Return the model zoo's file, downloaded once."""
    path = cache_dir / file
    if path.exists():
        return path
    url = MODEL_ZOO + file
    partial = path.with_suffix(".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    logger.info("fetching %s", url)
    try:
        with urllib.request.urlopen(url, timeout=30) as answer, partial.open("wb") as out:
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
