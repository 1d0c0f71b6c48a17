"""A net described in YAML: any classifier of timm's, or a ViT in transformers' form. No code."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from unmask.errors import WeightsError
from unmask.models.adopt import names
from unmask.models.adopt.adapter import Adapter, Converted, Crop, Published
from unmask.models.adopt.record import (
    Architecture,
    Colour,
    Licence,
    Line,
    Option,
    Paragraph,
    Sha256,
)  # fmt: skip
from unmask.params import Section, read_yaml, say_problems
from unmask.runtime.disk import read_regular

_MAX_BYTES = 2**16
BESIDE = "unmask.yaml"  # a description that lies beside the weights

# Whose names the file's tensors have, and what to do about them.
_RULES = {"transformers-vit": names.VIT, "transformers-siglip": names.SIGLIP}


class Spec(Section):
    """A detector, as whoever publishes or adopts it describes it."""

    name: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9-]{0,60}$")]
    title: Line
    net: Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=100)]  # timm's name of it
    options: dict[Option, int | bool | str] = Field(default_factory=dict)
    names: Literal["timm", "transformers-vit", "transformers-siglip"] = "timm"
    prefix: Annotated[str, Field(max_length=100)] = ""  # taken off every tensor's name
    ignore: tuple[str, ...] = Field(default=(), strict=False)  # tensors that are not used
    outputs: Annotated[int, Field(ge=1, le=1000)]
    fake: Annotated[tuple[int, ...], Field(strict=False)]
    on_unit_sphere: bool = False
    mean: Colour
    deviation: Colour
    channels: Literal["rgb", "bgr"] = "rgb"
    pooling: Literal["logits", "probabilities"]
    side_px: Annotated[int, Field(ge=64, le=512)]
    margin_ratio: Annotated[float, Field(ge=0, le=2)]
    licence: Licence
    trained_on: Paragraph
    file: Line = "model.safetensors"
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _describes_a_net(self) -> "Spec":
        self.architecture()
        return self

    def architecture(self) -> Architecture:
        """Return the net that is described."""
        return Architecture(
            net=self.net, options=self.options, outputs=self.outputs, fake=self.fake,
            on_unit_sphere=self.on_unit_sphere, mean=self.mean, deviation=self.deviation,
            channels=self.channels, pooling=self.pooling,
        )  # fmt: skip

    def convert(self, published: Published) -> Converted:
        """Return the net and its weights by timm's names."""
        tensors = dict(published.tensors)
        # The wrapper's `module.`, where all names begin with it, is gone by now.
        prefix = self.prefix
        if not any(name.startswith(prefix) for name in tensors):
            prefix = prefix.removeprefix("module.")
        if prefix:
            tensors = names.without_prefix(tensors, prefix)
        tensors = {name: value for name, value in tensors.items() if name not in self.ignore}
        if rules := _RULES.get(self.names):
            unused = [r"vision_model\.head\..+"]  # SigLIP's, which its classifiers don't use
            tensors = names.fuse_attention(names.rename(tensors, rules, without=unused))
        crop = Crop(side_px=self.side_px, margin_ratio=self.margin_ratio)
        return Converted(self.architecture(), tensors, crop)


def read(path: Path) -> Adapter:
    """Return the adapter that a file describes.

    Raises:
        WeightsError: it is missing, no YAML, or describes no net; one message lists all problems.
    """
    try:
        spec = Spec.model_validate(read_yaml(read_regular(path, _MAX_BYTES).decode()))
    except OSError as error:
        raise WeightsError(
            f"Asked for the description {path}; the system said: {error.strerror}."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is not YAML: {error!s:.300}.") from error
    except ValidationError as error:
        raise WeightsError(
            f"{path} should describe a net (docs/adopt.md): {say_problems(error):.1000}."
        ) from error
    return Adapter(
        name=spec.name, title=spec.title, repositories=(), files=(spec.file,),
        licence=spec.licence, trained_on=spec.trained_on, published="", read=f"{path.name}",
        differs="", untried="Whether the description is right is known to whoever wrote it.",
        convert=spec.convert, sha256=spec.sha256,
    )  # fmt: skip
