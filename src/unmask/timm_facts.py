"""What a net of timm's eats: its side and colours. timm, and torch with it, is imported when asked.

timm may change a net's defaults from version to version: a checkpoint records what it was trained
with, and never asks here.
"""

import difflib
from dataclasses import dataclass

from unmask.errors import ParamsError

PREFIX = "timm/"
# timm's names, 3197 in its version 1.0.31, have no other characters; a tag names the weights whose
# colours are meant, as in timm/vit_large_patch14_clip_224.openai.
PATTERN = r"timm/[a-z0-9_]+(\.[a-z0-9_]+)?"

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Colours:
    """The mean and the standard deviation, of RGB in 0..1, that a net's input is normalised by."""

    mean: Colour
    deviation: Colour


@dataclass(frozen=True)
class TimmFacts:
    """What timm says of a net: its pretrained_cfg."""

    side_px: int
    fixed_side: bool  # whether the net must be told its side when it is built
    colours: Colours
    head: str  # the name of the module that gives the classes


def is_timm(backbone: str) -> bool:
    """Return whether a backbone's name is one that timm builds."""
    return backbone.startswith(PREFIX)


def timm_facts(backbone: str) -> TimmFacts:
    """Return what the installed timm says of a backbone, `timm/<name>` or `timm/<name>.<tag>`.

    Raises:
        ParamsError: timm has no such net, or one that does not map a square RGB picture to classes
            by a single head.
    """
    from timm.models import get_pretrained_cfg

    name = backbone.removeprefix(PREFIX)
    try:
        found = get_pretrained_cfg(name)
    except RuntimeError:  # the architecture is known, its tag is not
        found = None
    if found is None:
        raise ParamsError(_unknown(backbone))
    channels, height, width = found.input_size
    if channels != 3 or height != width or not isinstance(found.classifier, str):
        raise ParamsError(
            f"model.backbone is {backbone}; needed is a net that maps a square RGB picture to "
            f"classes by a single head. timm says: input {found.input_size}, head "
            f"{found.classifier}. Choose another net."
        )
    mean, deviation = (tuple(map(float, values)) for values in (found.mean, found.std))
    assert len(mean) == 3
    assert len(deviation) == 3
    return TimmFacts(
        side_px=int(height), fixed_side=bool(found.fixed_input_size),
        colours=Colours(mean, deviation), head=found.classifier,
    )  # fmt: skip


def _unknown(backbone: str) -> str:
    import timm

    name = backbone.removeprefix(PREFIX)
    arch = name.partition(".")[0]
    known = [*timm.list_models(), *timm.list_pretrained(f"{arch}.*")]
    close = difflib.get_close_matches(name, known, n=3)
    meant = " or ".join(PREFIX + other for other in close)
    return (
        f"model.backbone is {backbone}; timm {timm.__version__} has no such net"
        + (f". Did you mean {meant}?" if close else "; timm.list_models() lists those it has.")
    )  # fmt: skip
