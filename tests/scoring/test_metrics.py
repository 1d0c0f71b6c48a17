"""The metrics against scikit-learn, values worked out on paper, and invariants."""

import doctest
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from unmask.errors import OneClassError, UnmaskError
from unmask.scoring import metrics
from unmask.scoring.metrics import Interval
from unmask.scoring.scores import sigmoid

TWO_CLASS_METRICS = [metrics.roc_auc, metrics.average_precision, metrics.equal_error_rate]
PROBABILITY_METRICS = [metrics.log_loss, metrics.accuracy, metrics.calibration_error]


def draw_scores(seed, *, count=200, decimals=16):
    """Return labels and overlapping scores; few decimals make ties."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate(([0, 1], generator.integers(2, size=count - 2)))
    scores = sigmoid(generator.normal(size=count) + labels)
    return labels, np.round(scores, decimals)


RANDOM_DATA = pytest.mark.parametrize(
    ("labels", "scores"),
    [draw_scores(seed, decimals=decimals) for seed in range(3) for decimals in (1, 2, 16)]
    + [draw_scores(9, count=3), (np.array([0, 1, 1]), np.full(3, 0.5))],
)


def test_docstring_examples_hold():
    result = doctest.testmod(metrics)
    assert result.attempted > 0
    assert result.failed == 0


# Against scikit-learn


@RANDOM_DATA
def test_values_agree_with_scikit_learn(labels, scores):
    clipped = np.clip(scores, 1e-7, 1 - 1e-7)
    assert metrics.log_loss(labels, scores) == pytest.approx(reference.log_loss(labels, clipped))
    assert metrics.roc_auc(labels, scores) == pytest.approx(
        reference.roc_auc_score(labels, scores), abs=1e-12
    )
    assert metrics.average_precision(labels, scores) == pytest.approx(
        reference.average_precision_score(labels, scores), abs=1e-12
    )
    assert metrics.accuracy(labels, scores) == pytest.approx(
        reference.accuracy_score(labels, scores >= 0.5)
    )


@RANDOM_DATA
def test_curves_agree_with_scikit_learn(labels, scores):
    roc = metrics.roc_curve(labels, scores)
    fpr, tpr, thresholds = reference.roc_curve(labels, scores, drop_intermediate=False)
    assert_allclose(roc.fpr_K, fpr, atol=1e-12)
    assert_allclose(roc.tpr_K, tpr, atol=1e-12)
    assert_array_equal(roc.thresholds_K, thresholds)

    # scikit-learn lets the threshold rise and leaves out the last one, inf.
    curve = metrics.precision_recall_curve(labels, scores)
    precision, recall, thresholds = reference.precision_recall_curve(labels, scores)
    assert_allclose(curve.precision_K, precision[::-1], atol=1e-12)
    assert_allclose(curve.recall_K, recall[::-1], atol=1e-12)
    assert_array_equal(curve.thresholds_K[1:], thresholds[::-1])
    assert curve.thresholds_K[0] == np.inf

    found = metrics.confusion(labels, scores)
    assert [
        [found.real_as_real, found.real_as_fake],
        [found.fake_as_real, found.fake_as_fake],
    ] == reference.confusion_matrix(labels, scores >= 0.5, labels=[0, 1]).tolist()


def test_reliability_curve_agrees_with_scikit_learn():
    labels, scores = draw_scores(4)
    curve = metrics.reliability_curve(labels, scores)
    fractions, means = calibration_curve(labels, scores, n_bins=10, strategy="uniform")
    assert_allclose(curve.fake_fractions_K, fractions)
    assert_allclose(curve.mean_scores_K, means)
    assert curve.counts_K.sum() == len(labels)


# Worked out on paper


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 0.0),
        ([0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1], 1.0),
        ([0, 1, 1], [0.5, 0.5, 0.5], 0.5),
        # A threshold just above 0.5 misses 1 of 3 fakes; letting in 2/3 of a real evens that out.
        ([0, 0, 1, 1, 1], [0.1, 0.5, 0.3, 0.6, 0.9], 1 / 3),
        # At 0.9: fpr 0, fnr 1/2. At the tie: fpr 1/3, fnr 0. They meet 3/5 of the way.
        ([0, 0, 0, 1, 1], [0.1, 0.1, 0.5, 0.5, 0.9], 0.2),
    ],
)
def test_equal_error_rate_by_hand(labels, scores, expected):
    assert metrics.equal_error_rate(labels, scores) == pytest.approx(expected)


def test_calibration_error_by_hand():
    labels = [1, 1, 1, 0, 0, 1]
    scores = [0.8, 0.8, 0.8, 0.8, 0.3, 0.3]
    # Four videos promise 0.8 and keep 0.75, two promise 0.3 and keep 0.5.
    expected = (4 * 0.05 + 2 * 0.2) / 6
    assert metrics.calibration_error(labels, scores) == pytest.approx(expected)
    assert metrics.calibration_error([0, 1], [0.0, 1.0]) == 0.0
    assert metrics.calibration_error([0, 1], [1.0, 0.0]) == 1.0


def test_a_score_on_an_edge_belongs_to_the_bin_below():
    edges = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    on_edges = metrics.reliability_curve([1] * 10, edges)
    assert on_edges.counts_K.tolist() == [1] * 10
    assert_allclose(on_edges.mean_scores_K, edges)
    assert metrics.reliability_curve([0, 1, 1], [0.0, 0.05, 0.95]).counts_K.tolist() == [2, 1]


def test_confusion_by_hand():
    found = metrics.confusion([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.5, 0.4, 0.5, 0.9])
    assert found == metrics.Confusion(
        real_as_real=2, real_as_fake=1, fake_as_real=1, fake_as_fake=2
    )


def test_log_loss_orders_perfect_unsure_and_inverted():
    labels = np.array([0, 1, 1, 0])
    assert metrics.log_loss(labels, labels) == pytest.approx(1e-7, rel=1e-3)
    assert metrics.log_loss(labels, np.full(4, 0.5)) == pytest.approx(np.log(2))
    assert metrics.log_loss(labels, 1 - labels) == pytest.approx(-np.log(1e-7))


# Invariants


@pytest.mark.parametrize("metric", TWO_CLASS_METRICS)
def test_ranking_metrics_see_only_the_order(metric):
    labels, scores = draw_scores(5, decimals=2)
    assert metric(labels, 7 * scores**3 - 100) == metric(labels, scores)
    assert metric(labels[::-1], scores[::-1]) == pytest.approx(metric(labels, scores), abs=1e-12)


def test_swapping_the_classes_mirrors_the_ranking():
    labels, scores = draw_scores(6, decimals=1)
    assert metrics.roc_auc(labels, -scores) == pytest.approx(1 - metrics.roc_auc(labels, scores))
    for metric in (metrics.roc_auc, metrics.equal_error_rate):
        assert metric(1 - labels, -scores) == pytest.approx(metric(labels, scores))


def test_ranking_takes_scores_as_far_apart_as_floats_go():
    assert metrics.roc_auc([0, 1], [-1e308, 1e308]) == 1.0


# Intervals


def test_interval_repeats_by_seed_and_holds_the_value():
    labels, scores = draw_scores(8)
    groups = np.arange(len(labels)) // 2
    for metric in metrics.METRICS.values():
        first, again, other = (
            metrics.bootstrap_interval(metric, labels, scores, groups, resamples=200, seed=seed)
            for seed in (1, 1, 2)
        )
        assert first == again != other
        assert first.resamples == 200
        if metric is not metrics.calibration_error:  # biased upwards on resamples, as documented
            assert first.low < metric(labels, scores) < first.high


def test_interval_of_accuracy_matches_the_normal_approximation():
    scores = np.full(400, 0.9)
    labels = np.arange(400) < 320  # accuracy 0.8
    found = metrics.bootstrap_interval(
        metrics.accuracy, labels, scores, np.arange(400), resamples=2000, seed=0
    )
    half_width = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert found.low == pytest.approx(0.8 - half_width, abs=0.006)
    assert found.high == pytest.approx(0.8 + half_width, abs=0.006)


def test_a_lower_level_narrows_the_interval():
    labels, scores = draw_scores(10)
    wide, narrow = (
        metrics.bootstrap_interval(
            metrics.roc_auc, labels, scores, np.arange(200), resamples=200, seed=0, level=level
        )
        for level in (0.95, 0.5)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_copies_within_a_source_add_no_certainty():
    labels, scores = draw_scores(11, count=80)
    sources = np.array([f"source-{number:02}" for number in range(80)])
    copied = [np.repeat(values, 4) for values in (labels, scores, sources)]

    def width(labels_N, scores_N, groups_N):
        found = metrics.bootstrap_interval(
            metrics.roc_auc, labels_N, scores_N, groups_N, resamples=400, seed=3
        )
        return found.high - found.low

    by_source = width(*copied)
    assert by_source == pytest.approx(width(labels, scores, sources))
    # Taking four copies for four videos would halve the width: 1 / sqrt(4).
    assert width(copied[0], copied[1], np.arange(320)) == pytest.approx(by_source / 2, rel=0.25)


def test_one_class_resamples_are_dropped_and_counted():
    labels, scores = [0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9]
    # Four videos on their own draw one class in 2 * (1/2)**4 of the resamples.
    found = metrics.bootstrap_interval(
        metrics.roc_auc, labels, scores, range(4), resamples=1000, seed=0
    )
    assert found.resamples == pytest.approx(875, abs=35)


@pytest.mark.parametrize(("dropped", "expected"), [(5, Interval(0.7, 0.7, 5)), (6, None)])
def test_interval_is_none_when_more_than_half_are_dropped(dropped, expected):
    outcomes = iter([None] * dropped + [0.7] * (10 - dropped))

    def metric(_labels, _scores):
        value = next(outcomes)
        if value is None:
            raise OneClassError("stand-in for a resample of one class")
        return value

    found = metrics.bootstrap_interval(metric, [0, 1], [0.2, 0.8], ["a", "b"], resamples=10, seed=0)
    assert found == expected


def test_one_source_has_no_interval():
    found = metrics.bootstrap_interval(
        metrics.roc_auc, [0, 1], [0.2, 0.8], ["a", "a"], resamples=10, seed=0
    )
    assert found is None


# Summary


def test_summary_holds_every_metric_with_its_interval():
    labels, scores = draw_scores(13)
    groups = np.arange(200) // 4
    found = metrics.summarise(labels, scores, groups, resamples=100, seed=5)
    assert list(found) == [
        "log_loss",
        "roc_auc",
        "average_precision",
        "accuracy",
        "equal_error_rate",
        "calibration_error",
    ]
    auc = metrics.bootstrap_interval(metrics.roc_auc, labels, scores, groups, resamples=100, seed=5)
    assert found["roc_auc"] == {
        "value": metrics.roc_auc(labels, scores),
        "low": auc.low,
        "high": auc.high,
    }


def test_summary_of_one_class_is_null_where_two_are_needed():
    found = metrics.summarise([1, 1, 1], [0.2, 0.7, 0.9], ["a", "b", "c"], resamples=50, seed=0)
    found = json.loads(json.dumps(found, allow_nan=False))
    for name in ("roc_auc", "average_precision", "equal_error_rate"):
        assert found[name] == {"value": None, "low": None, "high": None}
    assert found["accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["log_loss"]["low"] < found["log_loss"]["value"] < found["log_loss"]["high"]


def test_a_difference_is_over_what_both_have_a_score_of():
    labels, scores = draw_scores(13)
    _, others = draw_scores(14)
    groups = [f"s{row // 4}" for row in range(len(labels))]
    drawn = {"resamples": 100, "seed": 5}
    whole = labels[6:], scores[6:], others[6:], groups[6:]
    with_gaps = (
        labels, [None, None, None, *scores[3:]], [*others[:2], None, None, None, None, *others[6:]],
        groups,
    )  # fmt: skip
    for metric in (metrics.log_loss, metrics.roc_auc):
        found = metrics.measure_difference(metric, *with_gaps, **drawn)
        assert found == metrics.measure_difference(metric, *whole, **drawn)
        assert found["value"] == metric(labels[6:], scores[6:]) - metric(labels[6:], others[6:])
        assert found["low"] < found["value"] < found["high"]
    none = metrics.measure_difference(
        metrics.log_loss, [0, 1], [0.1, None], [None, 0.9], ["a", "b"], **drawn
    )
    assert none == metrics.NOT_MEASURED


# Refusals


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("metric", TWO_CLASS_METRICS)
def test_one_class_is_refused_where_two_are_needed(metric, label):
    with pytest.raises(OneClassError, match=f"found 2 labels, all {label}"):
        metric([label, label], [0.2, 0.8])


@pytest.mark.parametrize("metric", PROBABILITY_METRICS)
def test_one_class_is_enough_for_the_others(metric):
    assert 0 < metric([1, 1], [0.2, 0.8]) < 1


@pytest.mark.parametrize("metric", metrics.METRICS.values())
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "at least one"),
        ([0, 1], [0.5], "as many labels as scores"),
        ([[0, 1]], [[0.5, 0.5]], "as many labels as scores"),
        ([0, 2], [0.5, 0.5], r"found \[0, 2\]"),
        (["REAL", "FAKE"], [0.5, 0.5], "Map the labels"),
        ([0, 1], [0.5, np.nan], "found nan at 1"),
        ([0, 1], [np.inf, 0.5], "found inf at 0"),
    ],
)
def test_bad_input_is_refused(metric, labels, scores, message):
    with pytest.raises(UnmaskError, match=message):
        metric(labels, scores)


@pytest.mark.parametrize("metric", PROBABILITY_METRICS)
@pytest.mark.parametrize("score", [-0.01, 1.01])
def test_a_score_that_is_no_probability_is_refused(metric, score):
    with pytest.raises(UnmaskError, match=f"found 1 outside, the first {score} at 1"):
        metric([0, 1], [0.5, score])


def test_a_bootstrap_that_cannot_be_drawn_is_refused():
    def draw(groups, **options):
        return metrics.bootstrap_interval(
            metrics.accuracy, [0, 1], [0.2, 0.8], groups, seed=0, **options
        )

    with pytest.raises(UnmaskError, match="0 resamples"):
        draw([0, 1], resamples=0)
    with pytest.raises(UnmaskError, match="level 95"):
        draw([0, 1], resamples=10, level=95)
    with pytest.raises(UnmaskError, match="3 groups for 2 labels"):
        draw([0, 1, 2], resamples=10)
