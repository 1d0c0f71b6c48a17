"""What a net makes of a clip before its last layer, short and without what that layer says of it.

The features are for asking whether a video is like others. What makes a fake one to the net is the
last layer's direction: it is taken out, so that a fake is not unlike because it is a fake. They are
projected onto few directions, which are drawn once and for all. That keeps distances (Johnson &
Lindenstrauss, 1984) and, unlike principal components, knows nothing of the videos that are
compared: so a p-value that is made of them stays exact.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # importing torch takes seconds: in these, workers already look for faces
    from torch import nn

DIMENSIONS = 128  # distances are kept to about a tenth
Features = NDArray[np.float64]


@contextmanager
def gathered(net: "nn.Module") -> Iterator[list[Features]]:
    """Gather the features_D of each clip that the net is given meanwhile, each of length 1.

    The list stays empty for a net without a linear last layer of one or two outputs.
    """
    found: list[Features] = []
    last = last_layer(net)
    if last is None:
        yield found
        return
    import torch

    rows: list[torch.Tensor] = []

    def keep(layer: "nn.Linear", given: tuple[Any, ...]) -> None:
        rows.append(given[0].detach().reshape(-1, layer.in_features))

    def shorten(_: "nn.Module", given: tuple[Any, ...], __: Any) -> None:
        # One row a clip, or one a place or a frame of each clip, clip after clip; a net of pictures
        # may give them to its last layer in several batches, which part a clip's frames.
        clips_BNF = torch.cat(rows).reshape(len(given[0]), -1, last.in_features)
        rows.clear()
        found.extend(shortened(clips_BNF.mean(1).double().cpu().numpy(), _decision(last)))

    hooks = [last.register_forward_pre_hook(keep), net.register_forward_hook(shorten)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def last_layer(net: "nn.Module") -> "nn.Linear | None":
    """Return the linear layer that gives the logits; None where there is no such layer."""
    from torch import nn

    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear and linear[-1].out_features in (1, 2) else None


def shortened(rows_NF: Features, decision_F: Features) -> list[Features]:
    """Return features_D of length 1 for each row, which the decision's direction does not move."""
    length = np.linalg.norm(decision_F)
    unit_F = decision_F / length if length else decision_F
    rest_NF = rows_NF - np.outer(rows_NF @ unit_F, unit_F)
    if rest_NF.shape[1] > DIMENSIONS:
        rest_NF = rest_NF @ _directions(rest_NF.shape[1])
    return [row_D / max(float(np.linalg.norm(row_D)), 1e-12) for row_D in rest_NF]


def mean_of(features: Sequence[Features]) -> Features | None:
    """Return the mean of clips' features, of length 1; None of none."""
    if not features:
        return None
    mean_D = np.mean(features, axis=0)
    return np.asarray(mean_D / max(float(np.linalg.norm(mean_D)), 1e-12))


def _decision(layer: "nn.Linear") -> Features:
    weight = layer.weight.detach().double().cpu().numpy()
    return np.asarray(weight[-1] - weight[0] if len(weight) == 2 else weight[0])


@cache
def _directions(width: int) -> Features:
    """Return (width, DIMENSIONS) signs from a hash: the same on every machine and version."""
    stream = hashlib.shake_256(f"unmask features {width}".encode())
    bits = np.unpackbits(np.frombuffer(stream.digest(width * DIMENSIONS // 8), np.uint8))
    return np.asarray((bits.reshape(width, DIMENSIONS) * 2.0 - 1) / np.sqrt(DIMENSIONS))
