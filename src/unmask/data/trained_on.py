"""Whether a detector was trained on a data set, by the names that people give it."""

import re
from collections.abc import Iterable

from unmask.data.words import key_of

_BETWEEN_WORDS = re.compile(r"[\s_.()-]+")


def is_among(name: str, trained_on: Iterable[str]) -> bool:
    """Say whether a data set is among those that a detector was trained on, by its name.

    Case, blanks, brackets, '-', '_' and '.' make no difference, nor does a zip's ending.

    >>> is_among("celeb-df_v2.zip", ["DFDC", "Celeb-DF (v2)"]), is_among("celeb", ["Celeb-DF (v2)"])
    (True, False)
    """
    return _key(name) in map(_key, trained_on)


def _key(name: str) -> str:
    return _BETWEEN_WORDS.sub("", key_of(name).removesuffix(".zip"))
