"""The head of a model card: YAML between two lines of dashes, as the Hugging Face Hub reads it.

https://huggingface.co/docs/hub/model-cards
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

_MARK = "---"
_MAX_CHARACTERS = 2**16  # of a head; one with all of these keys has about a thousand
_NO_HUB_NAME = re.compile(r"[^A-Za-z0-9._]+")


def with_head(values: Mapping[str, Any], body: str) -> str:
    """Return a card: the values as its head, then the body."""
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)
    return f"{_MARK}\n{text}{_MARK}\n\n{body}"


def split_head(card: str) -> tuple[str, str]:
    """Return a card's head, without its marks and unread, and its body; no head is "".

    Any text is a card: what begins as a head and does not end as one is body.
    """
    text = card.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.startswith(f"{_MARK}\n"):
        return "", card
    end = text.find(f"\n{_MARK}\n", len(_MARK))
    if end < 0 and text.endswith(f"\n{_MARK}"):
        end = len(text) - len(_MARK) - 1
    if not 0 <= end <= _MAX_CHARACTERS:
        return "", card
    return text[len(_MARK) + 1 : end + 1], text[end + len(_MARK) + 2 :].lstrip("\n")


def read_head(card: str) -> dict[str, Any]:
    """Return the values of the head of a card of our own; none where it has no head.

    Raises:
        ValueError: the head is no YAML, or no list of names and values.
    """
    head, _ = split_head(card)
    try:
        values = yaml.safe_load(head) if head else {}
    except yaml.YAMLError as error:
        raise ValueError(f"no YAML ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{type(values).__name__} in the place of names and values")
    return values


def hub_name(name: str) -> str:
    """Return a chunk's name as the Hub takes one: any other characters in a row become a hyphen.

    >>> hub_name("our chunk/07")
    'our-chunk-07'
    """
    return _NO_HUB_NAME.sub("-", name).strip("-.") or "unnamed"
