"""Adopted models of random weights, small enough for tests."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from unmask.models import checkpoint
from unmask.models.adopt import adoption, nets
from unmask.models.adopt.adapter import Adapter, Converted, Crop
from unmask.models.adopt.record import Architecture, Licence
from unmask.models.checkpoint import Checkpoint

TINY = "vit_tiny_patch16_224"
LICENCE = Licence(code="MIT", weights="CC BY-NC 4.0", free=False, why="Not for commerce.")


def described(net: str = TINY, *, side_px: int = 64, **values) -> Architecture:
    """Return a small net as an adapter describes one."""
    if net == TINY:
        values["options"] = {"img_size": side_px, **values.get("options", {})}
    grey = {"mean": (0.5,) * 3, "deviation": (0.25,) * 3, "pooling": "logits"}
    return Architecture(**{**grey, "net": net, "outputs": 2, "fake": (1,), **values})


def adopt_made_up(folder: Path, architecture: Architecture, *, side_px: int = 64) -> Path:
    """Return folder/model, adopted from random weights as a published file is."""
    torch.manual_seed(4)
    published = nets.build(architecture).image
    with torch.no_grad():
        for value in published.parameters():
            value.add_(torch.randn(value.shape) * 0.1)
    folder.mkdir(parents=True)
    save_file(published.state_dict(), folder / "published.safetensors")
    adapter = Adapter(
        name="made-up", title="A detector of ours", repositories=(), files=(), licence=LICENCE,
        trained_on="Ten faces.", published="", read="", differs="", untried="",
        convert=lambda file: Converted(architecture, dict(file.tensors), Crop(side_px, 0.2)),
    )  # fmt: skip
    adoption.adopt(
        str(folder / "published.safetensors"), adapter, folder / "model", sha256=None,
        accept_licence=True, cache=folder,
    )  # fmt: skip
    return folder / "model"


def tiny_adopted(folder: Path) -> Checkpoint:
    """Adopt a small net into folder/model; return its settings."""
    return checkpoint.read_settings(adopt_made_up(folder, described("mobilenetv3_small_050")))
