"""Places on a timeline that one can work out on paper."""

from dataclasses import replace

import numpy as np
import pytest

from tests.answers.test_messages import FACE, LIMITS, NOTHING
from unmask.answers import timeline
from unmask.answers.analysis import Moment
from unmask.answers.evidence import Evidence
from unmask.records import FaceTrack
from unmask.scoring.verdicts import NOTHING_LEARNED

TRACK = FaceTrack(0, "v_0.mp4", (0.0, 9.9), ((0, 0, 9, 9),) * 2, (1.0, 1.0))
SEEN = replace(
    FACE, track=TRACK, timeline=(Moment(0.0, 1.0), Moment(4.4, 0.5), Moment(8.8, 0.1))
)  # fmt: skip
ANSWER = replace(NOTHING, duration_s=10.0, clip_s=1.2)


def test_marks_lie_where_their_clips_are_and_look_like_what_they_say():
    laid = timeline.lay_out(ANSWER, SEEN, LIMITS, None)
    wide, tall = timeline.RIGHT - timeline.LEFT, timeline.SCORES_BOTTOM - timeline.TOP
    first, middle, last = laid.marks
    assert (first.x0, first.y, first.kind) == (timeline.LEFT, timeline.TOP, "fake")
    assert middle.x == pytest.approx(timeline.LEFT + wide / 2, abs=0.1)
    assert middle.y == timeline.TOP + tall / 2
    assert (last.x1, last.kind) == (timeline.RIGHT, "real")
    assert middle.kind == "inconclusive"
    assert laid.fake_y == timeline.TOP + tall * 0.2
    assert [words for _, words in laid.seconds] == ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]


def test_without_thresholds_or_heat_none_is_drawn():
    laid = timeline.lay_out(ANSWER, SEEN, NOTHING_LEARNED, None)
    assert (laid.fake_y, laid.real_y, laid.heat) == (None, None, "")
    assert {mark.kind for mark in laid.marks} == {"inconclusive"}


def test_heat_ends_at_its_own_maximum():
    nothing = np.zeros((1, 1))
    found = Evidence(nothing, (0.0, 5.0, 10.0), (0.0, 0.2, 0.1), {}, nothing, 0.0, nothing)
    points = [
        tuple(map(float, pair.split(",")))
        for pair in timeline.lay_out(ANSWER, SEEN, LIMITS, found).heat.split()
    ]
    bottom, top = timeline.HEAT_BOTTOM, timeline.HEAT_TOP
    assert [y for _, y in points] == [bottom, bottom, top, (bottom + top) / 2, bottom]
    cold = replace(found, heat_N=(0.0, 0.0, 0.0))
    assert timeline.lay_out(ANSWER, SEEN, LIMITS, cold).heat == ""
