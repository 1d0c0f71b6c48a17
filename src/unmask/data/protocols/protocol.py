"""A protocol's file, and which of them a chunk's layout has."""

import difflib
from functools import cache
from importlib import resources
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError

from unmask.data.archive import LAYOUTS
from unmask.errors import DatasetError
from unmask.params import Section

Count = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Line = Annotated[str, Field(min_length=1, max_length=300)]


class Expected(Section):
    """How many test videos there are; what is None, nobody has said for sure."""

    videos: Count | None = None
    real: Count | None = None
    fake: Count | None = None


class Protocol(Section):
    """Which videos of a data set are its test videos, as its authors say."""

    name: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9.-]{0,60}$")]
    version: Count  # of this description: raised when it would choose other videos
    title: Line
    layouts: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    source: Line  # who says so
    # How the test videos are told: rules.py has a function for each.
    rule: Literal["celeb_df_list", "faceforensics_pairs", "deeperforensics_lists", "split", "all"]
    # What of a data set takes part, where its test list does not say: methods, variants.
    methods: tuple[str, ...] = Field(default=(), strict=False)
    expected: Expected = Expected()
    # SHA-256 over the list's entries, sorted, a line each (rules.digest_of): no matter how the
    # file ends its lines. None where the list is given to those only who asked for the data.
    list_sha256: Sha256 | None = None


@cache
def all_protocols() -> dict[str, Protocol]:
    """Return all protocols by name."""
    folder = resources.files("unmask.data.protocols") / "official"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".yaml")),
        key=lambda file: file.name,
    )
    protocols = [read_protocol(file.read_text(encoding="utf-8"), file.name) for file in files]
    return {protocol.name: protocol for protocol in protocols}


def read_protocol(text: str, where: str) -> Protocol:
    """Return the protocol that a file describes.

    Raises:
        DatasetError: it is not in the form.
    """
    try:
        protocol = Protocol.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError, RecursionError) as error:
        said = ascii(" ".join(str(error).split()))[1:300]
        raise DatasetError(
            f"Asked for the protocol of {where}; it is not in the form: {said}. See docs/data.md."
        ) from error
    known = {*LAYOUTS, "UADFV"}
    if where != f"{protocol.name}.yaml" or not set(protocol.layouts) <= known:
        raise DatasetError(
            f"Asked for the protocol of {where}; found the name {protocol.name} and the layouts "
            f"{', '.join(protocol.layouts)}. The file is called as the protocol, and layouts are "
            f"{', '.join(sorted(known))}."
        )
    return protocol


def protocol_named(name: str) -> Protocol:
    """Return a protocol by name.

    Raises:
        DatasetError: there is none of that name.
    """
    known = all_protocols()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
        raise DatasetError(f"Asked for the protocol {name!a}; there is none: {hint}")
    return known[name]


def protocols_for(layout: str) -> list[Protocol]:
    """Return the protocols of a layout's data set, the preferred one first: by name."""
    return [protocol for protocol in all_protocols().values() if layout in protocol.layouts]
