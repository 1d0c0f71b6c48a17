"""What text from strangers becomes before it is shown."""

import json
import random
import unicodedata

import pytest

from unmask.runtime.plain_text import (
    cell_text,
    clean_name,
    plain_cell,
    shown_message,
    shown_name,
    shown_text,
)

ODD = "\x00\x07\b\t\n\r\x1b\x7f\x85\x9b\u2028\u202e\u2066\ufeff\ud800\udc80\udfffa.='é日\U0001f600"


FORMULA_STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"


def texts(count: int = 2000) -> list[str]:
    rng = random.Random(1)
    return ["".join(rng.choices(ODD, k=rng.randrange(12))) for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("clip 1.mp4", "clip 1.mp4"),
        ("日本語é.mp4", "日本語é.mp4"),
        ("\x1b[2J\x9b2J", r"\x1b[2J\x9b2J"),
        ("a\nreport  matches", r"a\nreport  matches"),
        ("a\u202e4pm.exe", r"a\u202e4pm.exe"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800", r"\ud800"),
    ],
)
def test_a_name_shows_what_it_hides(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_no_name_draws_or_is_more_than_utf8_can_hold() -> None:
    for text in texts():
        for shown in (shown_name(text), clean_name(text)):
            assert shown.isprintable()
            assert shown.encode().decode() == shown
            assert json.loads(json.dumps(shown)) == shown
        kinds = {
            unicodedata.category(letter) for letter in shown_text(text) if letter not in "\n\t"
        }
        assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_only_an_indented_line_of_a_message_is_a_line() -> None:
    message = "two files:\n  a.mp4\n\tb.mp4\nreport  matches\n\nfile  matches"
    shown = "two files:\n  a.mp4\n\tb.mp4\\nreport  matches\n\\nfile  matches"
    assert shown_message(message) == shown


def test_a_long_name_keeps_its_ends() -> None:
    name = clean_name("\ud800" * 10**6 + ".mp4")
    assert len(name) == 255
    assert name.startswith("\\ud800")
    assert name.endswith(".mp4")


def test_no_cell_is_a_formula_and_all_come_back() -> None:
    for text in [*texts(), *(f"{start}1+1" for start in FORMULA_STARTS + "'")]:
        cell = plain_cell(text)
        assert not cell or cell[0] not in FORMULA_STARTS
        assert cell_text(cell) == text
    assert plain_cell("=1+1") == "'=1+1"
    assert plain_cell("clip.mp4") == "clip.mp4"
