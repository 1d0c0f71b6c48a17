"""Spellings of one data set's name."""

import doctest

from unmask.data import trained_on
from unmask.data.trained_on import is_among


def test_the_example_holds() -> None:
    assert doctest.testmod(trained_on).failed == 0


def test_only_what_stands_between_words_makes_no_difference() -> None:
    assert is_among("celeb_df.v2", ["CELEB DF V2.zip"])
    assert not is_among("ff", ["ff++"])
    assert not is_among("celeb-df", ["celeb-df-v2", "zip"])
    assert not is_among("celeb-df", [])
