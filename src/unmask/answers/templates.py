"""Templates of pages that may show a stranger's text (owns jinja2)."""

from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from unmask.runtime.plain_text import shown_text


def read_template(name: str) -> Template:
    """Return a template of this folder: it escapes all text, and a missing value is an error."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=_shown,
    )  # fmt: skip
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return environment.from_string(text)


def _shown(value: object) -> object:
    """Return a value as the page shows it: hidden characters of text are made visible."""
    return shown_text(value) if type(value) is str else value
