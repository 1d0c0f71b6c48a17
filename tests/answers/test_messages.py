"""Every doubt and every reason has its words, with the right numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
from adopted import tiny_adopted
from promised import PROMISE

from unmask.answers import messages
from unmask.answers.analysis import Answer, FaceAnswer
from unmask.records import FaceTrack, Reason, TrackScore
from unmask.scoring.unlike import Likeness
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
    of_videos = tuple(doubt for doubt in Doubt if doubt is not Doubt.STILL_PICTURE)
    face = replace(FACE, doubts=of_videos)
    said = dict(zip(of_videos, messages.doubts_of_face(face, LIMITS), strict=True))
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


def test_where_nothing_is_called_real_no_threshold_is_made_up_for_it():
    face = replace(FACE, doubts=(Doubt.BETWEEN_THRESHOLDS,))
    said = messages.doubts_of_face(face, replace(LIMITS, real_to=None))
    assert said == [
        "Its score, 55%, is below 80% (fake), and no score is low enough to be called real."
    ]


def test_where_nothing_is_called_fake_no_threshold_is_made_up_for_it():
    face = replace(FACE, doubts=(Doubt.BETWEEN_THRESHOLDS,))
    said = messages.doubts_of_face(face, replace(LIMITS, fake_from=None))
    assert said == [
        "Its score, 55%, is above 20% (real), and no score is high enough to be called fake."
    ]
    [said] = messages.doubts_of_face(face, replace(LIMITS, fake_from=None, real_to=None))
    assert said == "Its score is 55%, and no score is high or low enough to be called fake or real."


@pytest.mark.parametrize(
    ("score", "fake_from", "shown"),
    [(0.928, 0.934, "92.8%, lies between 20.0% (real) and 93.4%"),
     (0.995, 0.997, "99.5%, lies between 20.0% (real) and 99.7%"),
     (0.98, 0.997, "98%, lies between 20% (real) and over 99%")],
)  # fmt: skip
def test_a_score_below_a_threshold_is_not_shown_as_that_threshold(score, fake_from, shown):
    face = replace(FACE, probability=score, doubts=(Doubt.BETWEEN_THRESHOLDS,))
    [said] = messages.doubts_of_face(face, replace(LIMITS, fake_from=fake_from))
    assert said == f"Its score, {shown} (fake)."


def test_a_threshold_is_told_where_it_is():
    limits = replace(LIMITS, fake_from=0.9985, real_to=0.004, stretches=((4, 0.9991),))
    said = " ".join(messages.rules(limits, PROMISE))
    assert "called fake at a score of 99.85% or more" in said
    assert "called real at a score of 0.4% or less" in said
    assert "at a score of 99.91% or more, in videos" in said


def test_a_still_pictures_answer_follows_no_promise_and_no_threshold():
    still = replace(
        NOTHING, probability=0.55, still="PNG", limits=LIMITS, promise=PROMISE,
        doubts=(Doubt.STILL_PICTURE, Doubt.NOT_CALIBRATED, Doubt.BETWEEN_THRESHOLDS),
    )  # fmt: skip
    [rule] = messages.rules_of(still)
    assert "never a verdict" in rule
    assert messages.promise_of(still) == []
    face = replace(FACE, doubts=still.doubts)
    for said in (messages.doubts_of(still), messages.doubts_of_face(face, LIMITS)):
        assert len(said) == 3
        assert "unmask calibrate" not in " ".join(said)  # changes nothing of a picture
        assert "(fake)" not in " ".join(said)
    video = replace(still, still=None)
    assert messages.rules_of(video) == messages.rules(LIMITS, PROMISE)
    assert messages.promise_of(video) == messages.promised(PROMISE)


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


def test_the_rules_say_what_is_promised_and_what_is_never_called():
    _, _, fake, real, stretch, *_ = messages.rules(LIMITS, PROMISE)
    assert "80% or more" in fake
    assert "20% or less" in real
    assert "No stretch" in stretch
    told = messages.rules(replace(LIMITS, stretches=((4, 0.9),)), PROMISE)
    assert "90% or more, in videos of at most 4 stretches." in " ".join(told)
    nothing = messages.rules(NOTHING_LEARNED, PROMISE)
    assert [rule.startswith("No score") for rule in nothing].count(True) == 2


def test_promise_and_power_are_told_as_they_were_found():
    given = replace(
        PROMISE, kind="our cameras", genuine=34, left_out=34, false_alarms=1, fakes=20, found=2,
        power=0.1, power_low=0.012, power_high=0.317,
    )  # fmt: skip
    assert messages.promised(given) == [
        "Of genuine videos like the 34 that it was calibrated on (our cameras), at most 1 in 20 is "
        "called fake (found by leaving one out: 1 of 34).",
        "Of the 20 fakes that were given, 10% are found [1%, 32%]: this model is of little use on "
        "footage like that.",
    ]
    assert "not known" in messages.promised(PROMISE)[1]
    assert "little use" not in messages.promised(replace(given, found=18, power=0.9))[1]


def test_without_a_promise_everything_names_the_command_that_changes_it():
    [rule] = messages.rules(LIMITS, None)
    [doubt] = messages.doubts_of(replace(NOTHING, probability=0.9, doubts=(Doubt.NOT_CALIBRATED,)))
    assert "unmask calibrate GENUINE" in rule
    assert "unmask calibrate GENUINE" in doubt
    assert "no verdict" in messages.sentence(replace(NOTHING, probability=0.9))


def test_what_sets_a_face_apart_is_named():
    unlike = replace(FACE, doubts=(Doubt.UNLIKE_CALIBRATION,), likeness=Likeness(0.025, "bitrate"))
    [said] = messages.doubts_of_face(unlike, LIMITS)
    assert "how many bits the file has" in said
    assert "2% are as far" in said


def test_a_model_of_others_is_named_with_its_licence(tmp_path):
    theirs = tiny_adopted(tmp_path / "there")
    assert messages.origin_of(theirs) == (
        "Others trained this model: A detector of ours. Licence: CC BY-NC 4.0."
    )
    trained_on = replace(theirs, adopted=None, began_as=theirs.adopted)
    assert messages.origin_of(trained_on) == (
        "This model was trained on from weights of others: A detector of ours. Licence of those "
        "weights: CC BY-NC 4.0."
    )
    assert messages.origin_of(replace(theirs, adopted=None)) is None
