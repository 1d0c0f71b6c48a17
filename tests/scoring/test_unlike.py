"""P-values that are uniform where nothing is unlike, and small where something is."""

from dataclasses import replace

import numpy as np
import pytest

from unmask.scoring.unlike import QUALITIES, Look, likeness, likeness_among

WIDTH = len(QUALITIES)


def draw(rng, count, *, shift=0.0, codec="h264"):
    found = []
    for _ in range(count):
        features_D = rng.normal(0, 1, 16) + 3
        features_D /= np.linalg.norm(features_D)
        found.append(Look(rng.normal(shift, 0.3, WIDTH), features_D, codec))
    return found


def test_like_videos_are_told_as_rarely_as_asked():
    rng = np.random.default_rng(1)
    found = [likeness(draw(rng, 29), draw(rng, 1)[0]).p_value for _ in range(1500)]
    for rate in (1 / 30, 0.1, 0.5):
        # Ties are the only slack; three deviations of a share of 1,500.
        assert (
            abs(np.mean(np.array(found) <= rate + 1e-9) - rate) < 3 * (rate / 1500) ** 0.5 + 0.002
        )
    assert min(found) == pytest.approx(1 / 30)


@pytest.mark.parametrize(("by", "size"), [("size", 3.0), ("light", -3.0), ("bitrate", 4.0)])
def test_one_odd_quality_is_enough_and_is_named(by, size):
    rng = np.random.default_rng(2)
    known, new = draw(rng, 39), draw(rng, 1)[0]
    new.qualities_Q[list(QUALITIES).index(by)] += size
    found = likeness(known, new)
    assert (found.by, found.p_value) == (by, 1 / 40)


def test_another_codec_or_other_features_are_enough():
    rng = np.random.default_rng(3)
    known, new = draw(rng, 39), draw(rng, 1)[0]
    assert likeness(known, replace(new, codec="gif")).by == "codec"
    assert likeness(known, replace(new, codec="gif")).p_value == 1 / 40
    other = replace(new, features_D=-new.features_D)
    assert likeness(known, other).by == "features"
    assert likeness(known, other).p_value <= 2 / 40


def test_clips_of_one_size_make_a_slightly_larger_one_no_stranger():
    known = [Look(np.full(WIDTH, 1.0), None, "h264") for _ in range(20)]
    near, far = np.full(WIDTH, 1.0), np.full(WIDTH, 1.0)
    far[0] += 2
    assert likeness(known, Look(near, None, "h264")).p_value == 1
    assert likeness(known, Look(far, None, "h264")).p_value == 1 / 21


def test_a_number_that_nobody_knows_says_nothing():
    rng = np.random.default_rng(4)
    known, new = draw(rng, 20), draw(rng, 1)[0]
    new.qualities_Q[:] = np.nan
    assert likeness([replace(each, features_D=None) for each in known], new).p_value > 0.5
    assert np.isnan(new.qualities_Q).all()  # what was given stays as it is


def test_two_looks_and_one_are_enough_to_ask():
    one, other = draw(np.random.default_rng(6), 2)
    assert likeness([one], other).p_value == 1
    assert [found.p_value for found in likeness_among([one])] == [1]


def test_each_known_look_is_asked_as_if_it_were_new():
    looks = draw(np.random.default_rng(5), 12)
    for place, found in enumerate(likeness_among(looks)):
        others = [*looks[:place], *looks[place + 1 :]]
        assert likeness(others, looks[place]).p_value == pytest.approx(found.p_value)
