"""All resamples at once are what one resample at a time gives."""

import numpy as np
import pytest

from unmask.errors import UnmaskError
from unmask.scoring import baselines, metrics, redraws
from unmask.scoring.operating_point import tpr_at_fpr
from unmask.scoring.scores import roc_auc

ONE_AT_A_TIME: dict[str, metrics.Metric] = {
    "roc_auc": roc_auc,
    "average_precision": metrics.average_precision,
    "equal_error_rate": metrics.equal_error_rate,
    "tpr_at_fpr_1": lambda labels, scores: tpr_at_fpr(labels, scores, 0.01),
    "tpr_at_fpr_5": lambda labels, scores: tpr_at_fpr(labels, scores, 0.05),
}
DRAWS = {"resamples": 150, "seed": 4}


@pytest.fixture(scope="module")
def videos() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 25, 120)
    labels = (rng.random(120) < 0.6).astype(int)
    scores = rng.integers(0, 40, 120) / 40 + 0.2 * labels  # with ties
    return labels, scores / 1.2, groups


@pytest.mark.parametrize("cells", [1, 2**21])
def test_intervals_are_those_of_one_resample_at_a_time(
    videos: tuple[np.ndarray, np.ndarray, np.ndarray], cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redraws, "_MOST_CELLS", cells)
    monkeypatch.setattr(redraws, "_MOST_PAIR_CELLS", cells)
    labels, scores, groups = videos
    drawn = redraws.draw(groups, **DRAWS)
    found = redraws.curve_values(labels, scores, np.arange(120), drawn)
    assert set(found) == set(ONE_AT_A_TIME)
    sooner = redraws.auc_values(labels, scores, np.arange(120), drawn)
    np.testing.assert_allclose(sooner, found["roc_auc"], rtol=1e-12)
    stepped = redraws.stepped_auc_values(labels, scores, np.arange(120), drawn)
    np.testing.assert_allclose(stepped, found["roc_auc"], rtol=1e-12)
    for name, metric in ONE_AT_A_TIME.items():
        wanted = metrics.bootstrap_interval(metric, labels, scores, groups, **DRAWS)
        got = redraws.interval(found[name], drawn)
        assert wanted is not None
        assert got is not None
        assert (got.low, got.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12), name
        assert got.resamples == wanted.resamples == 150
    losses = [
        metrics.log_loss([label], [score]) for label, score in zip(labels, scores, strict=True)
    ]
    got = redraws.interval(redraws.mean_values(losses, np.arange(120), drawn), drawn)
    wanted = metrics.bootstrap_interval(metrics.log_loss, labels, scores, groups, **DRAWS)
    assert wanted is not None
    assert got is not None
    assert (got.low, got.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_a_difference_is_paired(videos: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, scores, groups = videos
    others = np.roll(scores, 1)
    drawn = redraws.draw(groups, **DRAWS)
    first, second = (
        redraws.curve_values(labels, some, np.arange(120), drawn)["roc_auc"]
        for some in (scores, others)
    )
    got = redraws.interval(first - second, drawn)
    wanted = metrics.paired_interval(roc_auc, labels, scores, others, groups, **DRAWS)
    assert wanted is not None
    assert got is not None
    assert (got.low, got.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


@pytest.mark.parametrize("cells", [1, 2**22])
def test_pairs_of_like_quality_are_those_of_one_resample_at_a_time(
    videos: tuple[np.ndarray, np.ndarray, np.ndarray], cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redraws, "_MOST_PAIR_CELLS", cells)
    labels, scores, groups = videos
    rng = np.random.default_rng(2)
    pairs = baselines.match_pairs(labels, rng.uniform(80, 200, 120), rng.uniform(0.1, 0.5, 120))
    scores = np.where(np.arange(120) % 9 == 0, np.nan, scores)
    drawn = redraws.draw(groups, **DRAWS)
    value, values = redraws.pair_values(scores, pairs, drawn)
    wanted = baselines.measure_pairs(scores, pairs, groups, **DRAWS)
    got = redraws.interval(values, drawn)
    assert got is not None
    assert [value, got.low, got.high] == pytest.approx(list(wanted.values()), abs=1e-6)


def test_frames_are_drawn_with_their_video() -> None:
    # Two sources; of each a fake and a real video, of each two frames.
    labels, groups = np.array([1, 0, 1, 0]), np.array(["a", "a", "b", "b"])
    rows = np.repeat(np.arange(4), 2)
    scores = np.array([0.9, 0.8, 0.1, 0.2, 0.3, 0.1, 0.6, 0.5])
    drawn = redraws.draw(groups, resamples=200, seed=1)
    found = redraws.stepped_auc_values(labels[rows], scores, rows, drawn)
    # With a twice all pairs are won, with b twice none. With each once a's two frames win all four
    # pairs, b's win two and half of one: 10.5 of 16.
    both = 10.5 / 16
    assert set(found.round(9)) == {1.0, 0.0, round(both, 9)}


def test_frames_in_steps_are_within_a_step_of_all_frames() -> None:
    rng = np.random.default_rng(8)
    rows = np.repeat(np.arange(60), 100)
    labels = np.arange(60) % 2
    scores = rng.normal(labels[rows], 1.0)  # 6,000 distinct ones: more than there are steps
    drawn = redraws.draw(np.arange(60) // 2, resamples=30, seed=1)
    exact = redraws.curve_values(labels[rows], scores, rows, drawn)["roc_auc"]
    found = redraws.stepped_auc_values(labels[rows], scores, rows, drawn)
    assert 0 < np.abs(found - exact).max() < 1 / 4096


def test_very_many_pairs_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = redraws.draw(["a", "b", "c"], resamples=20, seed=1)
    given = [1, 0, 1], [0.3, 0.2, 0.1], np.arange(3), drawn
    wanted = redraws.auc_values(*given)
    monkeypatch.setattr(redraws, "_MOST_PAIRS", 1)
    np.testing.assert_array_equal(redraws.auc_values(*given), wanted)
    assert {0.0, 0.5, 1.0} >= set(wanted[~np.isnan(wanted)])


def test_resamples_of_one_class_are_left_out() -> None:
    groups = np.array(["a", "b"])
    drawn = redraws.draw(groups, resamples=400, seed=1)
    found = redraws.curve_values([1, 0], [0.9, 0.1], np.arange(2), drawn)["roc_auc"]
    assert 0.4 < np.isnan(found).mean() < 0.6
    assert np.nanmin(found) == 1.0
    assert redraws.interval(np.full(400, np.nan), drawn) is None
    alone = redraws.draw(["a", "a"], resamples=3, seed=1)
    assert redraws.interval(np.ones(3), alone) is None
    with pytest.raises(UnmaskError, match="at least 1"):
        redraws.draw(groups, resamples=0, seed=1)


def test_a_mean_over_videos_that_were_not_drawn_is_none() -> None:
    drawn = redraws.draw(np.array(["a", "b"]), resamples=50, seed=1)
    found = redraws.mean_values([5.0], np.array([0]), drawn)
    assert set(found[~np.isnan(found)]) == {5.0}
    assert np.isnan(found).any()
