"""Pages show text as it is: escaped, and nothing of it hidden."""

import pytest
from jinja2 import UndefinedError

from unmask.runtime.templates import in_words, read_template


@pytest.fixture
def read(tmp_path):
    """Return a function that makes a template of a text."""

    def read(text):
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        return read_template(tmp_path / "page.html")

    return read


def test_text_is_escaped_and_its_hidden_characters_are_shown(read):
    page = read("<p>{{ name }}</p>").render(name="<b>a\u202eb")
    assert page.startswith("<p>&lt;b&gt;a")
    assert "\u202e" not in page


def test_a_value_that_is_not_given_is_an_error(read):
    with pytest.raises(UndefinedError):
        read("{{ name }}").render()


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("run `unmask predict A...`, then `b`.",
         "run <code>unmask predict A...</code>, then <code>b</code>."),
        ("`a <b>` & `", "<code>a &lt;b&gt;</code> &amp; `"),
        ("`<script>`", "<code>&lt;script&gt;</code>"),
        ("`a\u202eb`", r"<code>a\u202eb</code>"),
        ("a ` b\nc, and ``", "a ` b\nc, and ``"),
        ("a ` b\nc ` d", "a ` b\nc ` d"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_is_between_backticks_is_code(read, text, html):
    assert in_words(text) == html
    assert read("{{ text | in_words }}").render(text=text) == html


def test_other_text_keeps_its_backticks(read):
    assert read("{{ name }}").render(name="a `b`.mp4") == "a `b`.mp4"
