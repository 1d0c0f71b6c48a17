"""Spellings of one name, and names that only look alike."""

import doctest

import pytest

from unmask.data import words
from unmask.data.words import join_spellings, key_of, say_joined, tidy


def test_docstring_examples_hold() -> None:
    result = doctest.testmod(words)
    assert result.attempted == 4
    assert result.failed == 0


@pytest.mark.parametrize(
    "spelling",
    [
        "jos\u00e9 lee", "jose\u0301 lee", " jos\u00e9 lee", "jos\u00e9 lee\t", "jos\u00e9 lee\r\n",
        "jos\u00e9\u00a0lee", "jos\u00e9  lee", "jos\u00e9\u2003lee", "\ufeffjos\u00e9 lee",
        "jos\u00e9\u200b lee", "jo\u00ads\u00e9 lee", "jos\u00e9 lee\ufe0f", "jos\u00e9 \u200elee",
    ],
)  # fmt: skip
def test_what_nobody_sees_makes_no_other_name(spelling: str) -> None:
    assert tidy(spelling) == "jos\u00e9 lee"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann", "ANN"), ("stra\u00dfe", "STRASSE"), ("\uff21nn", "ann"), ("\ufb01nn", "Finn"),
        ("JOSE\u0301", "jos\u00e9"), ("\u03a3", "\u03c2"), ("ann ", "\u200bAnn"),
    ],
)  # fmt: skip
def test_case_width_and_ligatures_make_no_other_person(one: str, other: str) -> None:
    assert key_of(one) == key_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("ann", "anna"), ("jose", "jos\u00e9"), ("ann lee", "annlee"), ("a-1", "a_1"), ("01", "1"),
     ("ann", "\u0430nn")],
)  # fmt: skip
def test_other_letters_make_another_person(one: str, other: str) -> None:
    assert key_of(one) != key_of(other)


def test_control_characters_stay_for_a_reader_to_refuse() -> None:
    assert tidy("a\x00b\x85") == "a\x00b\x85"
    assert tidy("a\tb") == "a\tb"


def test_the_most_common_spelling_stands_for_all() -> None:
    assert join_spellings(["Ann"] + ["ann"] * 2) == {"Ann": "ann", "ann": "ann"}
    assert join_spellings(["Ann"] * 2 + ["ann"]) == {"Ann": "Ann", "ann": "Ann"}
    assert set(join_spellings(["ann", "ANN"]).values()) == {"ANN"}  # as common: the first in order
    assert set(join_spellings(["ANN", "ann"]).values()) == {"ANN"}


def test_only_what_was_joined_is_told() -> None:
    meant = join_spellings(["ann", "Ann ", "ANN", "ann", "bob"])
    assert say_joined(meant, "person") == [
        "'ANN', 'Ann ' and 'ann' are taken for one person, 'ann'"
    ]
    assert say_joined(join_spellings(["ann", "bob"]), "person") == []
