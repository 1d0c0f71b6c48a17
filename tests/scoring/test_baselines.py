"""Pairs that can be counted on paper; a linear model against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from unmask.errors import OneClassError, UnmaskError
from unmask.scoring import baselines

FEW = {"resamples": 200, "seed": 1}


def test_pairs_are_of_faces_as_wide_and_as_sharp():
    # Two fakes, three real videos. 130 / 100 = 1.3 is in, 131 / 100 is not; exp(0.7) = 2.0138.
    pairs = baselines.match_pairs(
        [1, 0, 0, 1, 0], [130.0, 100.0, 131.0, 131.0, 130.0], [0.1, 0.1, 0.2013, 0.1, 0.2014]
    )
    assert pairs.fakes_F.tolist() == [0, 3]
    assert pairs.reals_R.tolist() == [1, 2, 4]
    assert pairs.matched_FR.tolist() == [[True, True, False], [False, True, False]]
    assert (pairs.count, pairs.fake_count, pairs.real_count) == (3, 2, 2)


def test_a_pair_is_won_by_the_fake_that_scores_higher():
    pairs = baselines.match_pairs([1, 1, 0, 0], [100.0] * 3 + [200.0], [0.1] * 4)
    assert pairs.count == 2  # both fakes with the first real one
    groups = ["a", "b", "a", "c"]
    # One won, one tied, of two; the real video of 200 px, which would win both, is in no pair.
    found = baselines.measure_pairs([0.9, 0.5, 0.5, 1.0], pairs, groups, **FEW)
    assert found["value"] == 0.75
    assert 0.5 <= found["low"] <= 0.75 <= found["high"] <= 1.0
    lost = baselines.measure_pairs([0.1, 0.2, 0.5, 0.0], pairs, groups, **FEW)
    assert lost["value"] == 0.0


def test_what_quality_alone_ranks_is_near_chance_on_pairs_of_like_quality():
    # Fakes are wider, and the score is the width: without pairs it looks like a detector. Within
    # a factor of 1.3 a little of that is left.
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 200)
    widths = np.exp(rng.normal(0, 0.4, 400)) * np.where(labels == 1, 150.0, 100.0)
    sharpness = np.full(400, 0.1)
    pairs = baselines.match_pairs(labels, widths, sharpness)
    everything = baselines.roc_auc(labels, widths)
    groups = [str(n) for n in range(400)]
    matched = baselines.measure_pairs(widths, pairs, groups, **FEW)["value"]
    assert everything > 0.73
    assert 0.5 < matched < 0.6


def test_pairs_redraw_whole_groups():
    # Person a's fake wins its pair and person b's loses its own; nothing else matches.
    pairs = baselines.match_pairs([1, 0, 1, 0], [100.0, 100.0, 300.0, 300.0], [0.1] * 4)
    scores, groups = [0.9, 0.1, 0.1, 0.9], ["a", "a", "b", "b"]
    found = baselines.measure_pairs(scores, pairs, groups, **FEW)
    assert found == {"value": 0.5, "low": 0.0, "high": 1.0}
    alone = baselines.measure_pairs(scores, pairs, ["a"] * 4, **FEW)
    assert alone == {"value": 0.5, "low": None, "high": None}


def test_what_has_no_score_is_in_no_pair():
    pairs = baselines.match_pairs([1, 1, 0, 0], [100.0] * 4, [0.1] * 4)
    nan = float("nan")
    found = baselines.measure_pairs([0.9, nan, 0.1, 1.0], pairs, list("abcd"), **FEW)
    assert found["value"] == 0.5  # of two pairs the first fake wins one
    assert baselines.measure_pairs([nan, nan, 0.1, 1.0], pairs, list("abcd"), **FEW) == {
        "value": None, "low": None, "high": None,
    }  # fmt: skip


def test_no_pair_is_measured_as_none():
    pairs = baselines.match_pairs([1, 0], [100.0, 200.0], [0.1, 0.1])
    found = baselines.measure_pairs([0.9, 0.1], pairs, ["a", "b"], **FEW)
    assert pairs.count == 0
    assert set(found.values()) == {None}


@pytest.mark.parametrize(("width", "sharp"), [(0.0, 0.1), (100.0, -0.1), (float("nan"), 0.1)])
def test_what_was_not_measured_makes_no_pair(width, sharp):
    with pytest.raises(UnmaskError, match="match_pairs needs widths above 0"):
        baselines.match_pairs([1, 0], [width, 100.0], [sharp, 0.1])


def test_a_face_without_any_sharpness_is_like_none():
    pairs = baselines.match_pairs([1, 0, 0], [100.0] * 3, [0.0, 0.0, 0.1])
    assert pairs.matched_FR.tolist() == [[True, False]]


def test_a_direction_says_what_fakes_have():
    assert baselines.direction([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0]) == 1
    assert baselines.direction([0, 0, 1, 1], [4.0, 3.0, 2.0, 1.0]) == -1
    assert baselines.direction([0, 1], [1.0, 1.0]) == 1
    with pytest.raises(OneClassError):
        baselines.direction([1, 1], [1.0, 2.0])


@pytest.mark.parametrize(("rows", "columns"), [(60, 5), (30, 80)])
def test_the_linear_model_is_scikit_learns(rows, columns):
    rng = np.random.default_rng(7)
    features = rng.normal(2.0, 3.0, (rows, columns))
    features[:, -1] = 4.0  # a feature that never changes teaches nothing
    labels = (features[:, 0] + rng.normal(0, 2.0, rows) > 2.0).astype(int)
    model = baselines.fit_linear(features, labels, ridge=2.0)
    deviation = features.std(0)
    scaled = (features - features.mean(0)) / np.where(deviation > 0, deviation, 1) / columns**0.5
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000).fit(scaled, labels)
    np.testing.assert_allclose(model.logits(features), theirs.decision_function(scaled), atol=1e-5)
    assert model.weights_D[-1] == 0.0


def test_the_linear_model_takes_two_classes():
    with pytest.raises(OneClassError, match="fit_linear"):
        baselines.fit_linear([[1.0], [2.0]], [1, 1])


def test_the_linear_model_ends_where_the_classes_are_far_apart():
    model = baselines.fit_linear([[-1e3], [1e3]], [0, 1], ridge=1e-6)
    low, high = model.logits([[-1e3], [1e3]])
    assert low < -5
    assert high > 5


def test_a_group_is_in_one_fold_and_folds_fill_evenly():
    groups = ["a"] * 4 + ["b"] * 2 + ["c"] * 2 + ["d"]
    folds = baselines.fold_by_group(groups, 2)
    for name in "abcd":
        assert len({fold for fold, group in zip(folds, groups, strict=True) if group == name}) == 1
    assert sorted(np.bincount(folds)) == [4, 5]
