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
    Limits,
    Look,
    Verdict,
    judge,
    judge_video,
    learn,
    limits_from,
    strictest,
    thresholds,
)

LIMITS = Limits(
    fake_from=0.75, real_to=0.25, min_face_px=40.0, min_track_s=1.5, min_sharpness=0.02,
    max_sharpness=0.3, min_brightness=0.2, max_brightness=0.8, max_error_ratio=0.1, reals=16,
    fakes=16, tracks=100,
)  # fmt: skip
KNOWN = Look(face_px=40.0, track_s=1.5, sharpness=0.02, brightness=0.8)


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
    looks = [Look(n, n / 10, n / 100, n / 1000) for n in range(1, count + 1)]
    looks = [looks[n] for n in np.random.default_rng(1).permutation(count)]
    limits = learn([0, 1], [0.1, 0.9], looks, max_error_ratio=0.1, outlier_ratio=0.01)
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
        assert judge(probability, KNOWN, LIMITS) == (expected, ())
    else:
        doubts = (Doubt.BETWEEN_THRESHOLDS,)
        assert judge(probability, KNOWN, LIMITS) == (Verdict.INCONCLUSIVE, doubts)


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
    assert judge(probability, replace(KNOWN, **change), LIMITS) == (Verdict.INCONCLUSIVE, (doubt,))


def test_a_model_that_learned_nothing_says_nothing():
    assert judge(0.999, KNOWN, NOTHING_LEARNED)[0] == Verdict.INCONCLUSIVE
    assert judge(0.001, KNOWN, NOTHING_LEARNED)[0] == Verdict.INCONCLUSIVE


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


@pytest.mark.parametrize("limits", [LIMITS, replace(LIMITS, fake_from=None, real_to=None)])
def test_limits_come_back_from_json(limits):
    assert limits_from(json.loads(json.dumps(asdict(limits)))) == limits


@pytest.mark.parametrize(
    "change",
    [
        {"fake_from": "0.7"}, {"fake_from": math.nan}, {"fake_from": 0.25}, {"real_to": -0.1},
        {"min_face_px": None}, {"max_sharpness": math.inf}, {"reals": 1.5}, {"tracks": True},
        {"other": 1},
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
