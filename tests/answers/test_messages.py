"""Every doubt and every reason has its words, with the right numbers."""

from dataclasses import replace
from pathlib import Path

import pytest

from unmask.answers import messages
from unmask.answers.analysis import Answer, FaceAnswer
from unmask.records import FaceTrack, Reason, TrackScore
from unmask.scoring.verdicts import NOTHING_LEARNED, Doubt, FaceQuality, Limits, Part, Verdict

LIMITS = Limits(0.8, 0.2, 60, 1.5, 0.01, 0.6, 0.1, 0.9, 0.05, 16, 17, 32)
FACE = FaceAnswer(
    FaceTrack(0, "v_0.mp4", (0.0,), ((0, 0, 9, 9),), (1.0,)), TrackScore(0, 0.0, (0.0,), (0.0,)),
    0.55, Verdict.INCONCLUSIVE, tuple(Doubt), (), FaceQuality(41, 1.2, 0.002, 0.95, 0.4),
    Part(7.5, 10.25, 0.93, 6, 0.97),
)  # fmt: skip
NOTHING = Answer(
    Path("v.mp4"), None, None, 1.2, None, Verdict.INCONCLUSIVE, (Doubt.NO_SCORE,), (), (), None, ""
)


def test_each_doubt_names_the_faces_number_and_the_models():
    said = dict(zip(Doubt, messages.doubts_of_face(FACE, LIMITS), strict=True))
    for doubt, numbers in {
        Doubt.BETWEEN_THRESHOLDS: ("55%", "20%", "80%"),
        Doubt.FACE_TOO_SMALL: ("41 px", "60 px"),
        Doubt.TOO_SHORT: ("1.2 s", "1.5 s"),
        Doubt.TOO_BLURRED: ("0.002", "0.01"),
        Doubt.OUT_OF_TRAINED_RANGE: ("0.95", "0.10 to 0.90", "0.6"),
        Doubt.SUSPICIOUS_STRETCH: ("7.5 to 10.2 s", "93%", "97%"),
        Doubt.PARTLY_SEEN: ("40%",),
    }.items():
        assert all(number in said[doubt] for number in numbers), said[doubt]


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_is_told_once(reason):
    doubt = Doubt.BROKEN_OFF if reason is Reason.TRUNCATED else Doubt.NO_SCORE
    [said] = messages.doubts_of(replace(NOTHING, reason=reason, doubts=(doubt,)))
    assert said == messages.REASONS[reason]


def test_a_fake_that_broke_off_says_both():
    fake = replace(
        NOTHING, probability=0.9, verdict=Verdict.FAKE, doubts=(), reason=Reason.TRUNCATED,
        faces=(replace(FACE, verdict=Verdict.FAKE), FACE),
    )  # fmt: skip
    assert "in a face" in messages.sentence(fake)
    short = replace(FACE, doubts=(), part=replace(FACE.part, count=1))
    assert messages.doubts_of(
        replace(fake, faces=(replace(short, verdict=Verdict.FAKE), short))
    ) == [messages.REASONS[Reason.TRUNCATED]]


def test_from_when_to_when_a_part_looks_fake_is_told_with_its_face():
    worse = replace(
        FACE, verdict=Verdict.FAKE, doubts=(), part=replace(FACE.part, start_s=61.2, end_s=64.0,
        probability=0.97),
    )  # fmt: skip
    doubted = replace(NOTHING, probability=0.1, doubts=(Doubt.SUSPICIOUS_STRETCH,), faces=(FACE,))
    assert messages.doubts_of(doubted) == [
        "Face 1 looks most like a fake from 7.5 to 10.2 s: that part alone has a score of 93%."
    ]
    fake = replace(doubted, verdict=Verdict.FAKE, doubts=(), faces=(FACE, worse))
    assert messages.doubts_of(fake)[0].startswith("Face 2 looks most like a fake from 61.2 to 64.0")


def test_the_rules_say_what_is_never_called():
    assert "80% or more" in messages.rules(LIMITS)[0]
    assert "20% or less" in messages.rules(LIMITS)[1]
    assert "No stretch" in messages.rules(LIMITS)[2]
    told = messages.rules(replace(LIMITS, stretches=((2, 0.9), (4, 0.95))))[2]
    assert "90% or more" in told
    assert told.endswith("at most 4.")
    assert "16 real and 17 fake" in messages.rules(LIMITS)[4]
    assert all(rule.startswith("No score") for rule in messages.rules(NOTHING_LEARNED)[:2])
