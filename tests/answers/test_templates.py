"""Pages show text as it is: escaped, and nothing of it hidden."""

import pytest
from jinja2 import UndefinedError

from unmask.answers import templates


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Return a function that makes a template of a text."""
    monkeypatch.setattr(templates, "__file__", str(tmp_path / "templates.py"))

    def read(text):
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        return templates.read_template("page.html")

    return read


def test_text_is_escaped_and_its_hidden_characters_are_shown(read):
    page = read("<p>{{ name }}</p>").render(name="<b>a\u202eb")
    assert page.startswith("<p>&lt;b&gt;a")
    assert "\u202e" not in page


def test_a_value_that_is_not_given_is_an_error(read):
    with pytest.raises(UndefinedError):
        read("{{ name }}").render()
