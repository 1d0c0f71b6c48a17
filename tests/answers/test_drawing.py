"""Boxes on pictures, told apart without colours and within the picture."""

import numpy as np
import pytest

from unmask.answers.drawing import COLOURS, Marked, draw
from unmask.scoring.verdicts import Verdict

GREY = np.full((200, 300, 3), 90, np.uint8)


@pytest.mark.parametrize("verdict", Verdict)
def test_a_fake_is_framed_and_others_have_corners(verdict):
    drawn = draw(GREY, [Marked((100, 80, 200, 180), "1 X", verdict)])
    assert tuple(drawn[180, 102]) == COLOURS[verdict]
    middle = tuple(drawn[180, 150])  # of the lower edge
    assert middle == (COLOURS[verdict] if verdict is Verdict.FAKE else (90, 90, 90))
    assert (GREY == 90).all()


@pytest.mark.parametrize("box", [(-40, -30, 60, 70), (250, 150, 350, 260), (0, 0, 300, 200)])
def test_labels_stay_in_the_picture(box):
    colour = np.array(COLOURS[Verdict.REAL])
    drawn = draw(GREY, [Marked(box, "1 REAL 0.01, now 0.02", Verdict.REAL)])
    is_label = (drawn == colour).all(axis=2)
    # Most of the label's ground is there: 21 letters of some 7 px in lines of some 15.
    assert is_label.sum() > 1000
    assert (drawn[is_label.any(axis=1)] == 0).any()  # black letters
