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


def test_labels_of_neighbours_do_not_hide_each_other():
    yellow, blue = COLOURS[Verdict.INCONCLUSIVE], COLOURS[Verdict.REAL]
    first = Marked((100, 80, 160, 180), "1 UNCLEAR 0.46", Verdict.INCONCLUSIVE)
    second = Marked((110, 85, 170, 185), "2 REAL 0.01", Verdict.REAL)
    alone = (draw(GREY, [first])[:100] == yellow).all(axis=2)
    beside = (draw(GREY, [first, second])[:100] == yellow).all(axis=2)
    assert (beside[:80] == alone[:80]).all()  # all of the label above its box, as without the other
    both = draw(GREY, [first, second])
    assert (both == blue).all(axis=2).sum() > 500  # the other's is there, too, further down


def test_in_a_crowd_each_label_is_drawn_all_the_same():
    crowd = [Marked((10, 10, 60, 60), f"{n} REAL", Verdict.REAL) for n in range(40)]
    assert not (draw(GREY, crowd) == GREY).all()
