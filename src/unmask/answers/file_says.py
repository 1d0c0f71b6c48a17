"""What a file says of itself: content credentials, and tags of the programs that wrote it.

It stands beside the verdict and is never part of it. All of it is a stranger's words, so texts and
lists have an end.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MOST = 20  # of each list
_MOST_LETTERS = 200


class State(StrEnum):
    """What is known of a file's content credentials."""

    ABSENT = "absent"  # nothing follows from it: most files have none
    TRUSTED = "trusted"  # unchanged since it was signed, by whom the user's list trusts
    VALID = "valid"  # unchanged since it was signed; by whom is not known
    INVALID = "invalid"  # changed since, or signed wrongly: `faults` says which
    ELSEWHERE = "elsewhere"  # at an address, which was not asked
    UNREADABLE = "unreadable"
    NOT_READ = "not_read"  # the extra is not installed


_Short = Annotated[str, StringConstraints(max_length=_MOST_LETTERS)]


class _Bounded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Action(_Bounded):
    """An edit, or how the file came to be."""

    action: _Short  # such as c2pa.created
    source: _Short  # such as trainedAlgorithmicMedia: a generator; empty where it is not told
    agent: _Short  # the program


class Ingredient(_Bounded):
    """A file that this one was made of."""

    title: _Short
    relation: _Short


class Credentials(_Bounded):
    """A file's content credentials, in short."""

    state: State
    detail: _Short = ""  # why there are none, or why they can't be read
    signer: _Short = ""  # what its certificate says; anybody can make one in any name
    organisation: _Short = ""
    signed_at: _Short = ""  # by a time stamp; empty without one
    generators: Annotated[list[_Short], Field(max_length=MOST)] = []  # programs that signed
    actions: Annotated[list[Action], Field(max_length=MOST)] = []
    ingredients: Annotated[list[Ingredient], Field(max_length=MOST)] = []
    faults: Annotated[list[_Short], Field(max_length=MOST)] = []  # codes of the C2PA specification
    left_out: int = 0  # entries of these lists beyond MOST


class FileSays(_Bounded):
    """All that a file says of itself."""

    credentials: Credentials
    container: Annotated[dict[_Short, _Short], Field(max_length=MOST)] = {}  # tags, by name


def short(value: object) -> str:
    """Return text that fits into a field."""
    text = "" if value is None else str(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
