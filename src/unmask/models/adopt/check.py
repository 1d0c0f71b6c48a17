"""Whether an adopted net gives the answers that its original's repository prints."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from unmask.errors import WeightsError
from unmask.models.adopt.adapter import Check, Reference
from unmask.models.adopt.source import fetch

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """A picture's score here beside the published one."""

    reference: Reference
    probability: float  # of being fake
    agrees: bool | None  # None where nothing is published


def compare(net: "nn.Module", check: Check, cache: Path) -> Iterator[Compared]:
    """Yield the score of each picture that the original's repository names.

    Pictures are fetched by their digests, once.

    Raises:
        WeightsError: one can't be had.
    """
    for reference in check.references:
        picture = fetch(reference.url, reference.sha256, cache)
        probability = score(net, read_picture(picture), check)
        agrees = None
        if reference.probability is not None:
            agrees = abs(probability - reference.probability) <= check.tolerance
        yield Compared(reference, probability, agrees)


def read_picture(path: Path) -> "torch.Tensor":
    """Return a picture as (3, H, W), 8-bit RGB.

    Raises:
        WeightsError: it is none.
    """
    import torch

    content = np.frombuffer(path.read_bytes(), np.uint8)
    picture_bgr = cv2.imdecode(content, cv2.IMREAD_COLOR)
    if picture_bgr is None:
        raise WeightsError(f"{path} should be a picture; it is none. Delete it and try again.")
    return torch.from_numpy(np.ascontiguousarray(picture_bgr[..., ::-1])).permute(2, 0, 1)


def score(net: "nn.Module", picture_CHW: "torch.Tensor", check: Check) -> float:
    """Return the probability of a fake, of a picture prepared as the original prepares it."""
    import torch
    from torchvision.transforms.v2 import functional

    from unmask.models.backbones import clip_logits
    from unmask.models.frame_net import DEVIATION, MEAN

    resized = functional.resize(picture_CHW, [check.resize_px], antialias=True)
    middle = functional.center_crop(resized, [check.crop_px, check.crop_px])
    clip_1CTHW = ((middle.float() / 255 - MEAN) / DEVIATION)[None, :, None]
    device = next(net.parameters()).device
    with torch.inference_mode():
        return float(clip_logits(net, clip_1CTHW.to(device)).sigmoid())
