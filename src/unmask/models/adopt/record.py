"""What a folder says of weights that others trained: their origin, licence and net.

A file of such weights says the same of itself, in safetensors' metadata: so a training that starts
from it knows all that it needs, wherever the file was sent.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unmask.errors import MALFORMED, WeightsError
from unmask.params import Section, say_problems

Line = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]
Paragraph = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00-\x1f\x7f]*$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
X3d = Literal["x3d_xs", "x3d_s", "x3d_m", "x3d_l"]
Colour = Annotated[tuple[float, float, float], Field(strict=False)]

# Names of nets that are not timm's: DeepfakeBench's UCF, and what begins the name of one of an
# installed package's.
UCF, PLUGIN = "ucf", "plugin:"

# What timm.create_model may be told by a file. Anything else, such as a checkpoint's path or an
# address, could make it read or fetch what nobody asked for.
Option = Literal["img_size", "dynamic_img_size", "global_pool", "patch_size", "act_layer"]


class Architecture(Section):
    """A net that scores pictures, and how its scores become logits of real and fake."""

    # A name of timm's; `ucf`, DeepfakeBench's; or `plugin:NAME`, of an entry point.
    net: Annotated[str, Field(pattern=r"^[\w.-]+$|^plugin:[\w.-]+$", max_length=100)]
    options: dict[Option, int | bool | str] = Field(default_factory=dict)
    outputs: Annotated[int, Field(ge=1, le=1000)]
    # Which outputs speak for a fake. Of a net with a single one, none: it speaks for real then.
    fake: Annotated[tuple[int, ...], Field(strict=False)]
    on_unit_sphere: bool = False  # features are divided by their length before the head
    mean: Colour  # of RGB in 0..1, or of BGR if channels says so
    deviation: Colour
    channels: Literal["rgb", "bgr"] = "rgb"
    pooling: Literal["logits", "probabilities"]  # what is averaged over the frames of a clip
    # EfficientNet as efficientnet_pytorch builds it pads for pictures of one size, whatever it
    # gets: this is that size. stem_padding false: DeepfakeBench's first convolution, which doesn't.
    padded_for_px: Annotated[int, Field(ge=32, le=1024)] | None = None
    stem_padding: bool = True

    @model_validator(mode="after")
    def _has_both_classes(self) -> "Architecture":
        if any(not 0 <= index < self.outputs for index in self.fake):
            raise ValueError(f"fake names outputs 0 to {self.outputs - 1}; found {self.fake}")
        if self.outputs > 1 and not 0 < len(set(self.fake)) < self.outputs:
            raise ValueError(
                f"of {self.outputs} outputs some speak for fake, others for real; found {self.fake}"
            )
        if odd := [
            name for name, value in self.options.items()
            if (type(value) is int and not 1 <= value <= 2048)
            or (isinstance(value, str) and len(value) > 40)
        ]:  # fmt: skip
            raise ValueError(f"options.{odd[0]} should be a number up to 2048, or a short word")
        if min(self.deviation) <= 0:
            raise ValueError(f"deviation should be above 0; found {self.deviation}")
        return self


class Licence(Section):
    """Under which terms a detector was published, as far as was read."""

    code: Line
    weights: Line
    free: bool  # anybody may use the weights for anything; else --accept-licence is needed
    why: Paragraph = ""  # what is unclear or forbidden, and where it is written


class Origin(Section):
    """Where weights came from."""

    adapter: Line
    title: Line
    source: Line  # hf:owner/name, an address, or a file's name
    commit: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None  # of a repository of the Hub
    file: Line
    sha256: Sha256  # of the published file
    licence: Licence
    licence_accepted: bool
    trained_on: Paragraph


class Adopted(Origin):
    """A detector that others trained."""

    architecture: Architecture


class Start(Origin):
    """Weights that others trained for another task: a training starts from them."""

    backbone: X3d


def origin_from(values: Any) -> Adopted | Start:
    """Return what an origin's values say.

    Raises:
        ValueError, TypeError: they are not an origin's.
    """
    return (Start if "backbone" in values else Adopted).model_validate(values)


# ---------------------------------------------------------------- in a file of weights

ORIGIN_KEY = "unmask.origin"
_MAX_CHARACTERS = 2**16


def metadata_of(origin: Origin) -> dict[str, str]:
    """Return what a safetensors file's metadata says of its origin."""
    return {ORIGIN_KEY: json.dumps(origin.model_dump(mode="json"))}


def read_origin(path: Path) -> Adopted | Start | None:
    """Return what a file of weights says of its origin; None where it says nothing.

    A damaged file says nothing, too: whoever reads its tensors tells that.

    Raises:
        WeightsError: it says what this version does not read.
    """
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(ORIGIN_KEY)
    except (OSError, SafetensorError):
        return None
    if text is None:
        return None
    try:
        if len(text) > _MAX_CHARACTERS:
            raise ValueError(f"it has {len(text):,} characters")
        return origin_from(json.loads(text))
    except MALFORMED as error:
        raise WeightsError(
            f"Asked where the weights in {path} came from; the file says it in a form that this "
            f"version does not read ({say_problems(error):.300}). Adopt it again."
        ) from error
