"""Fields of records with what the comments beside them say, as a table on the API's pages.

An extension of griffe, which reads docstrings alone; here a comment on its line describes a field.
"""

import inspect
from typing import Any

import griffe


def comment_of(line: str) -> str:
    """Return what stands behind the `#` of a line of a class's body, without it.

    >>> comment_of('    clip_s: float  # from first frame to last')
    'from first frame to last'
    """
    _, found, words = line.partition("  # ")
    return words.strip() if found and not words.startswith(("type:", "noqa")) else ""


class Comments(griffe.Extension):
    """Adds a section to the docstring of each class that has public fields with comments."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Write it as the docstring's author would have, by Google's rules."""
        words = {}
        for name, field in cls.attributes.items():
            if not name.startswith("_") and field.endlineno is not None and not field.docstring:
                words[name] = comment_of(cls.lines_collection[cls.filepath][field.endlineno - 1])
        if cls.docstring is None or not any(words.values()):
            return
        rows = "".join(f"\n    {name}: {said or '-'}" for name, said in words.items())
        cls.docstring.value = f"{inspect.cleandoc(cls.docstring.value)}\n\nAttributes:{rows}"
