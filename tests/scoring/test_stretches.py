"""A track's stretches: numbers that one can work out on paper."""

import numpy as np
import pytest

from unmask.geometry import GEOMETRIES, Geometry
from unmask.scoring.stretches import Stretch, clips_in, means, worst


@pytest.mark.parametrize(
    ("backbone", "stretch_s", "clips"),
    [
        ("x3d_xs", 3.0, 2),
        ("x3d_xs", 1.0, 1),
        ("x3d_xs", 5.0, 3),
        ("x3d_s", 3.0, 1),
        ("x3d_m", 3.0, 1),
    ],
)
def test_a_stretch_is_whole_clips_of_about_that_length(backbone, stretch_s, clips):
    # A clip and the time to the next one: 1.6 s for x3d_xs, 2.6 for x3d_s, 2.67 for x3d_m.
    assert clips_in(stretch_s, GEOMETRIES[backbone]) == clips
    assert clips_in(3.0, Geometry(1, 0.1, 64)) == 30


def test_every_neighbourhood_has_its_mean():
    assert means([1.0, 2.0, 6.0, 4.0], 2) == [1.5, 4.0, 5.0]
    assert means([1.0, 2.0, 6.0, 4.0], 1) == [1.0, 2.0, 6.0, 4.0]
    assert means([1.0, 2.0, 6.0], 4) == [3.0]  # a track that is shorter


def test_a_track_that_is_no_longer_is_its_own_stretch():
    logits = np.random.default_rng(1).normal(size=2).tolist()
    assert worst(logits, 2) == Stretch(0, 1, sum(logits) / 2, 1)
    assert worst(logits[:1], 2) == Stretch(0, 0, logits[0], 1)


def test_the_worst_is_the_first_of_equals_and_knows_of_how_many():
    assert worst([0.0, 3.0, 3.0, 0.0, 3.0, 3.0], 2) == Stretch(1, 2, 3.0, 5)


def test_its_mean_is_never_below_the_tracks_lowest_nor_changed_by_what_comes_after():
    rng = np.random.default_rng(2)
    for _ in range(100):
        logits = rng.normal(size=int(rng.integers(3, 50))).tolist()
        found = worst(logits, 2)
        more = worst([*logits, *rng.normal(-9, 1, 20)], 2)
        assert min(logits) <= found.logit <= max(logits)
        assert (more.first, more.logit) == (found.first, found.logit)
