"""Promises are kept over many draws, by groups of videos too; numbers worked out on paper."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from promised import PROMISE

from unmask.scoring.promises import (
    Judged,
    Stratum,
    judge_faces,
    learn_strata,
    leave_one_out,
    promise_from,
    share_interval,
    videos_needed,
)
from unmask.scoring.scores import sigmoid
from unmask.scoring.unlike import Likeness
from unmask.scoring.verdicts import NOTHING_LEARNED, Doubt, FaceQuality, Part, Verdict, thresholds

LIMITS = replace(NOTHING_LEARNED, fake_from=0.8, real_to=0.2, stretches=((5, 0.8),))


def judged(probability, *, face_px=100.0, sharpness=0.1, stretch=0.0, count=1, likeness=None):
    part = Part(0.0, 3.0, max(probability, stretch), count, max(probability, stretch))
    quality = FaceQuality(face_px, 3.0, sharpness, 0.5)
    return Judged(probability, part, quality, likeness)


def draw(rng, count):
    """Return genuine videos whose scores rise with the face's size, as those of bad nets do."""
    sizes, sharpness = rng.uniform(40, 400, count), rng.uniform(0.01, 0.4, count)
    chances = sigmoid(rng.normal(0, 1, count) + 2 * np.log2(sizes / 120))
    return [
        judged(float(p), face_px=float(px), sharpness=float(sharp))
        for p, px, sharp in zip(chances, sizes, sharpness, strict=True)
    ]


def is_fake(strata, face):
    [stratum] = [each for each in strata if each.holds(face.quality)]
    return stratum.fake_from is not None and face.statistic >= stratum.fake_from


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (60, 0.05), (90, 0.1)])
def test_new_genuine_videos_are_called_fake_as_rarely_as_promised_in_each_half(count, rate):
    rng = np.random.default_rng(1)
    alarms, small, large = [], [], []
    for _ in range(500):
        strata = learn_strata(draw(rng, count), rate)
        for face in draw(rng, 20):
            alarms.append(is_fake(strata, face))
            (small if face.quality.face_px < 220 else large).append(alarms[-1])
    # Three deviations of 10,000 draws that depend on each other by twenties.
    assert np.mean(alarms) < rate + 0.01
    if count > 19:  # enough for strata: then large faces, which score high, are not worse off
        assert np.mean(large) < rate + 0.015
        assert np.mean(small) < rate + 0.015
    else:
        assert np.mean(large) > np.mean(small)


def test_strata_need_enough_videos_and_hold_everything():
    few = [judged(0.1 * n % 1, face_px=50.0 + n) for n in range(37)]
    assert len(learn_strata(few, 0.05)) == 1
    enough = [judged(0.3, face_px=50.0)] * 19 + [judged(0.6, face_px=200.0)] * 19
    low, high = learn_strata(enough, 0.05)
    assert (low.genuine, high.genuine) == (19, 19)
    assert low.max_face_px == high.min_face_px
    assert 50 < low.max_face_px <= 200
    assert low.fake_from == 0.5  # never below a half
    assert high.fake_from == np.nextafter(0.6, 1)
    for px in (1.0, 90.5, 1e6):
        assert sum(each.holds(FaceQuality(px, 1, 0.1, 0.5)) for each in (low, high)) == 1


def test_a_statistic_is_the_worst_of_faces_and_stretches():
    calm, odd = judged(0.4), judged(0.5, stretch=0.9, count=4)
    promise = replace(
        PROMISE,
        strata=(
            Stratum(None, None, None, 0.2, 20, 0.7), Stratum(None, None, 0.2, None, 20, 0.95),
        ),
    )  # fmt: skip
    found, limits = judge_faces([calm, odd], LIMITS, promise)
    assert limits.fake_from == 0.7
    assert found[1] == (Verdict.FAKE, ())
    assert found[0][0] is Verdict.INCONCLUSIVE
    # The same video with a sharper worst face lies in another stratum: all faces are judged by it.
    sharp = replace(odd, quality=replace(odd.quality, sharpness=0.3))
    found, limits = judge_faces([judged(0.8), sharp], LIMITS, promise)
    assert limits.fake_from == 0.95
    assert all(verdict is Verdict.INCONCLUSIVE for verdict, _ in found)


def test_without_a_promise_nothing_is_called_fake_or_real():
    small = judged(0.999, face_px=5.0)
    limits = replace(LIMITS, min_face_px=40.0)
    found, shown = judge_faces([small, judged(0.001)], limits, None)
    assert [verdict for verdict, _ in found] == [Verdict.INCONCLUSIVE] * 2
    assert found[0][1] == (Doubt.NOT_CALIBRATED, Doubt.FACE_TOO_SMALL)
    assert found[1][1] == (Doubt.NOT_CALIBRATED,)
    assert (shown.fake_from, shown.real_to, shown.stretches) == (None, None, ())


@pytest.mark.parametrize(("p_value", "verdict"), [(0.05, "inconclusive"), (0.06, "fake")])
def test_what_is_unlike_the_calibration_gets_no_verdict(p_value, verdict):
    face = judged(0.99, likeness=Likeness(p_value, "size"))
    [(found, doubts)], _ = judge_faces([face], LIMITS, PROMISE)
    assert found == verdict
    assert doubts == ((Doubt.UNLIKE_CALIBRATION,) if p_value == 0.05 else ())


def test_leaving_one_out_counts_the_highest_and_asks_nothing_of_too_few():
    faces = [judged(0.5 + 0.01 * n) for n in range(34)]
    assert leave_one_out(faces, 0.05) == (34, 1)  # above all 33 others lies one, and rank 1 of 34
    assert leave_one_out(faces[:19], 0.05) == (0, 0)
    unlike = replace(faces[-1], likeness=Likeness(1 / 34, "size"))
    assert leave_one_out([*faces[:-1], unlike], 0.05) == (34, 0)


def test_as_many_videos_are_needed_as_thresholds_need():
    for rate in (0.5, 0.2, 0.1, 0.07, 0.05, 0.03, 0.01):
        needed = videos_needed(rate)
        assert thresholds([0.1] * needed, [], rate)[0] is not None
        assert needed == 1 or thresholds([0.1] * (needed - 1), [], rate)[0] is None


def test_the_interval_of_a_share_is_that_of_clopper_and_pearson():
    # With none of 10 found, the upper end solves (1 - p)**10 = 0.025.
    assert share_interval(0, 10) == pytest.approx((0, 1 - 0.025**0.1), abs=1e-9)
    assert share_interval(10, 10) == pytest.approx((0.025**0.1, 1), abs=1e-9)
    # R: binom.test(2, 20)$conf.int
    assert share_interval(2, 20) == pytest.approx((0.01234853, 0.3169827), abs=1e-6)
    low, high = share_interval(1000, 4000)
    assert low < 0.25 < high < 0.265


def test_a_promise_is_read_back_as_it_was_written():
    stratum = Stratum(None, 90.5, 0.1, None, 19, 0.75)
    whole = replace(PROMISE, strata=(stratum, replace(stratum, fake_from=None)))
    assert promise_from(asdict(whole)) == whole
    assert promise_from(None) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", 3), ("kind", "x" * 2000), ("genuine", -1), ("genuine", 10**400),
        ("genuine", True), ("max_false_alarms", 0), ("max_false_alarms", 1.0),
        ("max_false_alarms", float("nan")), ("false_alarms", 21), ("power", 0.5),
        ("weights_sha256", "short"), ("strata", [{}]), ("strata", None), ("colour", 1),
    ],
)  # fmt: skip
def test_what_is_no_promise_is_refused(name, value):
    with pytest.raises(ValueError, match=r"promise|Promise|JSON"):
        promise_from(asdict(PROMISE) | {name: value})
