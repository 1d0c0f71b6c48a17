"""Templates of pages that may show a stranger's text (owns jinja2)."""

import re
from html import escape
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from unmask.runtime.plain_text import shown_text

_COMMAND = re.compile("`([^`\n]+)`")


def read_template(path: Path) -> Template:
    """Return a template: it escapes all text, and a missing value is an error.

    The filter `in_words` of a template is the function below.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=_shown,
    )  # fmt: skip
    environment.filters["in_words"] = in_words
    return environment.from_string(path.read_text(encoding="utf-8"))


def in_words(text: str) -> Markup:
    """Return sentences as HTML: what stands between backticks, a command, is set as code.

    All else is escaped, and hidden characters are shown, as a template does.
    """
    # Nothing of a stranger's is left to be read as HTML: Markup says so of what was escaped.
    return Markup(_COMMAND.sub(r"<code>\1</code>", escape(shown_text(text))))  # noqa: S704


def _shown(value: object) -> object:
    """Return a value as the page shows it: hidden characters of text are made visible."""
    return shown_text(value) if type(value) is str else value
