"""Thresholds and limits from numbers that can be worked out on paper, and what they say."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from unmask.scoring.scores import sigmoid
from unmask.scoring.verdicts import (
    NOTHING_LEARNED,
    Doubt,
    FaceQuality,
    Limits,
    Part,
    Verdict,
    judge,
    judge_video,
    learn,
    limits_from,
    stretch_thresholds,
    strictest,
    thresholds,
)

LIMITS = Limits(
    fake_from=0.75, real_to=0.25, min_face_px=40.0, min_track_s=1.5, min_sharpness=0.02,
    max_sharpness=0.3, min_brightness=0.2, max_brightness=0.8, max_error_ratio=0.1, reals=16,
    fakes=16, tracks=100,
)  # fmt: skip
LONGER = replace(LIMITS, stretches=((2, 0.9), (4, 0.95)))
KNOWN = FaceQuality(face_px=40.0, track_s=1.5, sharpness=0.02, brightness=0.8)


def whole(probability):
    """Return the part of a face that is no longer than a stretch: all of it, a single clip."""
    return Part(0.0, 1.5, probability, 1, probability)


@pytest.mark.parametrize(("count", "other"), [(19, 19), (40, 9)])
def test_new_videos_get_the_wrong_verdict_as_rarely_as_was_asked(count, other):
    rng = np.random.default_rng(1)
    wrong_reals, wrong_fakes = [], []
    for _ in range(2000):
        reals, fakes = (sigmoid(rng.normal(mean, 1, n)) for mean, n in ((-1, count), (1, other)))
        fake_from, real_to = thresholds(reals.tolist(), fakes.tolist(), 0.1)
        wrong_reals.append(np.mean(sigmoid(rng.normal(-1, 1, 50)) >= fake_from))
        wrong_fakes.append(np.mean(sigmoid(rng.normal(1, 1, 50)) <= real_to))
    # Ranks 2 of 20, 4 of 41 and 1 of 10: the chance is no less than that of the next lower rank.
    assert 0.05 < np.mean(wrong_reals) < 0.105
    assert 0.05 < np.mean(wrong_fakes) < 0.105


def test_classes_that_do_not_meet_leave_nothing_known_in_doubt():
    reals, fakes = np.linspace(0.01, 0.3, 200).tolist(), np.linspace(0.6, 0.99, 200).tolist()
    assert thresholds(reals, fakes, 0.1) == (0.6, 0.3)


def test_a_few_that_meet_cost_no_more_than_they_must():
    # One real video above all fakes: ruled out as an error at the second rank, of 1000 allowed.
    reals = [*np.linspace(0.01, 0.3, 200), 0.999]
    fake_from, real_to = thresholds(reals, np.linspace(0.6, 0.99, 201).tolist(), 0.1)
    assert real_to == 0.3
    assert fake_from == pytest.approx(0.60195)  # the second lowest


@pytest.mark.parametrize(
    ("reals", "fakes", "expected"),
    [
        ([0.2] * 8, [0.9] * 8, (None, None)),  # 1 of 9 is more than a tenth
        ([0.2] * 9, [], (0.5, None)),
        ([], [0.9] * 9, (None, math.nextafter(0.5, 0))),
        ([1.0] * 9, [0.0] * 9, (None, None)),  # nothing is above 1 or below 0
    ],
)
def test_what_can_not_be_known_is_never_said(reals, fakes, expected):
    assert thresholds(reals, fakes, 0.1) == expected


def test_no_threshold_goes_beyond_a_half():
    fake_from, real_to = thresholds([0.1] * 8 + [0.2], [0.8] * 9, 0.1)
    assert (fake_from, real_to) == (0.8, 0.2)
    fake_from, real_to = thresholds([0.7] * 9, [0.6] * 9, 0.1)
    assert fake_from > 0.7
    assert real_to < 0.5


@pytest.mark.parametrize(("count", "rank"), [(9, 1), (99, 1), (199, 2), (1000, 10)])
def test_limits_are_ranks_of_what_was_seen(count, rank):
    qualities = [FaceQuality(n, n / 10, n / 100, n / 1000) for n in range(1, count + 1)]
    qualities = [qualities[n] for n in np.random.default_rng(1).permutation(count)]
    limits = learn([0, 1], [0.1, 0.9], qualities, max_error_ratio=0.1, outlier_ratio=0.01)
    last = count + 1 - rank
    assert (limits.min_face_px, limits.min_track_s) == (rank, rank / 10)
    assert (limits.min_sharpness, limits.max_sharpness) == (rank / 100, last / 100)
    assert (limits.min_brightness, limits.max_brightness) == (rank / 1000, last / 1000)
    assert (limits.reals, limits.fakes, limits.tracks) == (1, 1, count)


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(0.25, Verdict.REAL), (0.75, Verdict.FAKE), (0.26, None), (0.74, None)],
)
def test_a_known_face_is_judged_by_its_probability(probability, expected):
    if expected:
        assert judge(probability, whole(probability), KNOWN, LIMITS) == (expected, ())
    else:
        doubts = (Doubt.BETWEEN_THRESHOLDS,)
        found = judge(probability, whole(probability), KNOWN, LIMITS)
        assert found == (Verdict.INCONCLUSIVE, doubts)


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"face_px": 39.9}, Doubt.FACE_TOO_SMALL),
        ({"track_s": 1.4}, Doubt.TOO_SHORT),
        ({"sharpness": 0.019}, Doubt.TOO_BLURRED),
        ({"sharpness": 0.31}, Doubt.OUT_OF_TRAINED_RANGE),
        ({"brightness": 0.81}, Doubt.OUT_OF_TRAINED_RANGE),
        ({"brightness": 0.19}, Doubt.OUT_OF_TRAINED_RANGE),
    ],
)
@pytest.mark.parametrize("probability", [0.01, 0.99])
def test_a_face_unlike_those_it_knows_is_in_doubt_however_sure_it_is(change, doubt, probability):
    found = judge(probability, whole(probability), replace(KNOWN, **change), LIMITS)
    assert found == (Verdict.INCONCLUSIVE, (doubt,))


@pytest.mark.parametrize(
    ("probability", "part", "expected"),
    [
        # As a whole real, and so is each stretch and each clip.
        (0.1, Part(0, 3, 0.25, 4, 0.7), Verdict.REAL),
        # As a whole real: but not the worst stretch, or a single clip.
        (0.1, Part(0, 3, 0.26, 4, 0.7), Doubt.SUSPICIOUS_STRETCH),
        (0.1, Part(0, 3, 0.94, 4, 0.99), Doubt.SUSPICIOUS_STRETCH),
        (0.1, Part(0, 3, 0.25, 4, 0.75), Doubt.SUSPICIOUS_STRETCH),
        (0.1, Part(0, 3, 0.1, 1, 0.75), Doubt.SUSPICIOUS_STRETCH),
        # Fake from 0.9 on as one of two, from 0.95 on as one of three or four, never as a fifth.
        (0.1, Part(0, 3, 0.9, 2, 0.99), Verdict.FAKE),
        (0.1, Part(0, 3, 0.94, 3, 0.99), Doubt.SUSPICIOUS_STRETCH),
        (0.1, Part(0, 3, 0.95, 4, 0.99), Verdict.FAKE),
        (0.1, Part(0, 3, 1.0, 5, 1.0), Doubt.SUSPICIOUS_STRETCH),
        # As a whole neither: then that is the doubt, if no stretch says fake.
        (0.5, Part(0, 3, 0.94, 4, 0.99), Doubt.BETWEEN_THRESHOLDS),
        (0.5, Part(0, 3, 0.95, 4, 0.99), Verdict.FAKE),
        # As a whole fake, whatever its stretches.
        (0.75, Part(0, 3, 0.8, 5, 0.8), Verdict.FAKE),
    ],
)  # fmt: skip
def test_a_part_can_make_a_face_fake_or_keep_it_from_real(probability, part, expected):
    verdict, doubts = judge(probability, part, KNOWN, LONGER)
    if isinstance(expected, Doubt):
        assert (verdict, doubts) == (Verdict.INCONCLUSIVE, (expected,))
    else:
        assert (verdict, doubts) == (expected, ())


def test_what_was_hardly_looked_at_is_not_called_real():
    most = replace(KNOWN, looked_at_ratio=0.7)
    less = replace(KNOWN, looked_at_ratio=0.69)
    assert judge(0.1, whole(0.1), most, LIMITS) == (Verdict.REAL, ())
    assert judge(0.1, whole(0.1), less, LIMITS) == (Verdict.INCONCLUSIVE, (Doubt.PARTLY_SEEN,))
    assert judge(0.9, whole(0.9), less, LIMITS) == (Verdict.FAKE, ())


def test_the_threshold_of_a_stretch_rises_with_how_many_there_are():
    # 99 real videos of one stretch each, 0.001 to 0.099, a tenth of 100: of 2 stretches each may
    # have a p-value of a twentieth, which 4 of 99 reach; of 4, a fortieth: 1; of 8, an eightieth:
    # 0; of 16 none can be so rare.
    reals = [[n / 1000] for n in range(1, 100)]
    chances = dict(stretch_thresholds([[0.9 + n / 1000] for n in range(1, 100)], 0.1))
    assert chances == pytest.approx({2: 0.995, 4: 0.998, 8: 0.999}, abs=1e-9)
    assert all(chance == 0.5 for chance in dict(stretch_thresholds(reals, 0.1)).values())
    # A video counts once however many stretches it has: of 8 a quarter of a video may be as high.
    for high, expected in ((2, 0.6), (3, 0.99)):
        long = [[n / 1000] for n in range(1, 99)] + [[0.99] * high + [0.6] * (10 - high)]
        assert dict(stretch_thresholds(long, 0.1))[8] == pytest.approx(expected)


def series(rng, videos, stretches, *, own):
    """Return real videos' probabilities: stretches that share `own` of their variance."""
    persons = rng.normal(size=(videos, 1))
    moments = rng.normal(size=(videos, stretches))
    return sigmoid(math.sqrt(own) * persons + math.sqrt(1 - own) * moments)


@pytest.mark.parametrize("own", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("length", [2, 5, 16, 40])
def test_long_real_videos_are_called_fake_by_a_stretch_as_rarely_as_was_promised(own, length):
    rng = np.random.default_rng(7)
    called = []
    for _ in range(200):
        known = series(rng, 399, int(rng.integers(1, 4)), own=own)
        limits = replace(LIMITS, stretches=tuple(stretch_thresholds(known.tolist(), 0.1)))
        assert limits.stretches[-1][0] == 32  # 40 stretches a video would take 399 of them
        least = limits.stretch_from(length)
        worst = series(rng, 100, length, own=own).max(axis=1)
        called.append(np.mean(worst >= least) if least else 0.0)
    assert np.mean(called) <= 0.1
    if length < 40:
        assert np.mean(called) > 0.005  # it is not that nothing is ever called


def test_more_real_seconds_never_make_a_video_with_a_forged_stretch_real():
    from unmask.scoring.stretches import worst

    rng = np.random.default_rng(3)
    before, forged = rng.normal(-3, 0.3, 10), [2.0, 1.5]
    for seconds in range(0, 3000, 250):
        logits = [*before, *forged, *rng.normal(-3, 0.3, seconds)]
        stretch = worst(logits, 2)
        part = Part(0, 3, float(sigmoid(stretch.logit)), stretch.count, float(sigmoid(max(logits))))
        assert (stretch.first, stretch.last) == (10, 11)
        verdict, doubts = judge(float(sigmoid(np.mean(logits))), part, KNOWN, LONGER)
        assert (verdict, doubts) == (Verdict.INCONCLUSIVE, (Doubt.SUSPICIOUS_STRETCH,))


def test_a_model_that_learned_nothing_says_nothing():
    for probability in (0.001, 0.999):
        found = judge(probability, whole(probability), KNOWN, NOTHING_LEARNED)
        assert found == (Verdict.INCONCLUSIVE, (Doubt.BETWEEN_THRESHOLDS,))
    many = Part(0, 3, 1.0, 2, 1.0)
    assert judge(0.999, many, KNOWN, NOTHING_LEARNED)[0] == Verdict.INCONCLUSIVE


REAL, FAKE = (Verdict.REAL, ()), (Verdict.FAKE, ())
SMALL = (Verdict.INCONCLUSIVE, (Doubt.FACE_TOO_SMALL,))
SHORT = (Verdict.INCONCLUSIVE, (Doubt.TOO_SHORT, Doubt.TOO_BLURRED))


@pytest.mark.parametrize(
    ("faces", "is_whole", "verdict", "doubts"),
    [
        ([REAL, REAL], True, Verdict.REAL, ()),
        ([REAL, SHORT, FAKE], True, Verdict.FAKE, ()),
        ([FAKE], False, Verdict.FAKE, ()),
        ([REAL], False, Verdict.INCONCLUSIVE, (Doubt.BROKEN_OFF,)),
        ([SHORT, REAL, SMALL], True, Verdict.INCONCLUSIVE,
         (Doubt.FACE_TOO_SMALL, Doubt.TOO_SHORT, Doubt.TOO_BLURRED)),
        ([], True, Verdict.INCONCLUSIVE, (Doubt.NO_SCORE,)),
        ([], False, Verdict.INCONCLUSIVE, (Doubt.NO_SCORE, Doubt.BROKEN_OFF)),
    ],
)  # fmt: skip
def test_one_fake_face_makes_a_video_fake_and_one_in_doubt_keeps_it_from_real(
    faces, is_whole, verdict, doubts
):
    assert judge_video(faces, is_whole=is_whole) == (verdict, doubts)


LEFT_OUT, ODD = Doubt.NOT_ALL_SEEN, Doubt.COLOUR_NOT_UNDERSTOOD


@pytest.mark.parametrize(
    ("faces", "of_file", "verdict", "doubts"),
    [
        ([REAL], [LEFT_OUT], Verdict.INCONCLUSIVE, (LEFT_OUT,)),
        ([FAKE, REAL], [LEFT_OUT], Verdict.FAKE, ()),
        ([REAL], [ODD], Verdict.INCONCLUSIVE, (ODD,)),
        ([FAKE], [ODD], Verdict.INCONCLUSIVE, (ODD,)),
        ([FAKE, SMALL], [ODD, LEFT_OUT], Verdict.INCONCLUSIVE,
         (Doubt.FACE_TOO_SMALL, LEFT_OUT, ODD)),
        ([], [ODD], Verdict.INCONCLUSIVE, (Doubt.NO_SCORE, ODD)),
    ],
)  # fmt: skip
def test_a_doubt_of_the_whole_file_keeps_it_from_real_and_one_of_colour_from_fake_too(
    faces, of_file, verdict, doubts
):
    assert judge_video(faces, is_whole=True, of_file=of_file) == (verdict, doubts)


@pytest.mark.parametrize("limits", [LIMITS, LONGER, replace(LIMITS, fake_from=None, real_to=None)])
def test_limits_come_back_from_json(limits):
    assert limits_from(json.loads(json.dumps(asdict(limits)))) == limits


@pytest.mark.parametrize(
    "change",
    [
        {"fake_from": "0.7"}, {"fake_from": math.nan}, {"fake_from": 0.25}, {"real_to": -0.1},
        {"min_face_px": None}, {"max_sharpness": math.inf}, {"reals": 1.5}, {"tracks": True},
        {"other": 1}, {"stretches": None}, {"stretches": [[2]]}, {"stretches": [[2, "0.9"]]},
        {"stretches": [[1, 0.9]]}, {"stretches": [[2, 0.4]]}, {"stretches": [[2, 1.1]]},
        {"stretches": [[4, 0.9], [2, 0.9]]}, {"stretches": [[2, 0.9], [4, 0.8]]},
        {"stretches": [[2, math.nan]]}, {"stretches": [[2.0, 0.9]]}, {"stretches": "ab"},
    ],
)  # fmt: skip
def test_a_strangers_limits_are_numbers_or_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        limits_from(asdict(LIMITS) | change)


def test_a_mean_of_models_says_no_more_than_each_of_them():
    other = replace(
        LIMITS, fake_from=0.8, real_to=0.3, min_face_px=30.0, max_sharpness=0.2, tracks=7
    )
    both = strictest([LIMITS, other])
    assert both == replace(LIMITS, fake_from=0.8, max_sharpness=0.2, reals=32, fakes=32, tracks=107)
    assert strictest([both, replace(other, real_to=None)]).real_to is None
    assert strictest([LIMITS]) == LIMITS
    assert strictest([LONGER]) == LONGER
    assert strictest([LONGER, LIMITS]).stretches == ()
    third = replace(LIMITS, stretches=((2, 0.92), (4, 0.93), (8, 0.99)))
    assert strictest([LONGER, third]).stretches == ((2, 0.92), (4, 0.95))


def test_stretches_are_learned_beside_the_thresholds_and_paid_from_one_promise():
    # Of 0.1, 0.02 is for stretches: 0.08 takes 12 videos of a class, two stretches take 99.
    qualities = [FaceQuality(50.0, 3.0, 0.1, 0.5)]
    for videos, fake_from, stretches in (
        (11, None, ()), (12, 0.5, ()), (98, 0.5, ()), (99, 0.5, ((2, 0.6000000000000001),)),
    ):  # fmt: skip
        limits = learn(
            [0] * videos + [1] * 99, [0.1] * videos + [0.4] * 99, qualities, max_error_ratio=0.1,
            outlier_ratio=0.01, real_stretches=[[0.1, 0.6]] * videos, stretch_error_ratio=0.02,
        )  # fmt: skip
        assert (limits.fake_from, limits.stretches) == (fake_from, stretches)
        assert limits.max_error_ratio == 0.1
