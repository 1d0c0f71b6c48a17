"""Probabilities, their ranking and the temperature: what training needs of the scores."""

import doctest

import numpy as np
import pytest
from numpy.testing import assert_allclose

from unmask.errors import OneClassError
from unmask.scoring import scores


def test_docstring_examples_hold():
    result = doctest.testmod(scores)
    assert result.attempted > 0
    assert result.failed == 0


def test_sigmoid_is_exact_at_both_ends():
    assert_allclose(scores.sigmoid([-700.0, 0.0, np.log(3), 800.0]), [np.exp(-700), 0.5, 0.75, 1])
    assert scores.sigmoid(np.zeros((2, 3), dtype=np.float32)).shape == (2, 3)


# Temperature


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_temperature_is_recovered(temperature):
    generator = np.random.default_rng(0)
    true_logits = generator.normal(scale=2, size=20_000)
    labels = generator.random(20_000) < scores.sigmoid(true_logits)
    found = scores.fit_temperature(labels, true_logits * temperature)
    assert found == pytest.approx(temperature, rel=0.05)


def test_separated_classes_stay_uncertain():
    # Two videos a class count as 3 of 4 (Platt): equal logits of 5 become sigmoid(log(3)).
    found = scores.fit_temperature([0, 0, 1, 1], [-5.0, -5.0, 5.0, 5.0])
    assert 5.0 / found == pytest.approx(np.log(3.0), rel=1e-6)


def test_temperature_beats_its_neighbours():
    generator = np.random.default_rng(7)
    labels = np.concatenate(([0, 1], generator.integers(2, size=58)))
    logits = 4 * (generator.normal(size=60) + labels)
    found = scores.fit_temperature(labels, logits)
    fakes = labels.sum()
    targets = np.where(labels == 1, (fakes + 1) / (fakes + 2), 1 / (60 - fakes + 2))
    losses = []
    for temperature in (found, *np.geomspace(0.05, 20, 400)):
        fake = np.log(scores.sigmoid(logits / temperature))
        real = np.log(scores.sigmoid(-logits / temperature))
        losses.append(-np.mean(targets * fake + (1 - targets) * real))
    assert losses[0] == min(losses)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([-1e-6, -2e-6, 1e-6, 2e-6], 0.05),
        ([-1e6, -2e6, 1e6, 2e6], 20.0),
        ([1.0, 2.0, -1.0, -2.0], 20.0),
        ([1e6, 2e6, -1e6, -2e6], 20.0),
        ([0.0, 0.0, 0.0, 0.0], 1.0),
    ],
)
def test_temperature_stays_in_bounds(logits, expected):
    assert scores.fit_temperature([0, 0, 1, 1], logits) == expected


@pytest.mark.parametrize("label", [0, 1])
def test_a_temperature_needs_both_classes(label):
    with pytest.raises(OneClassError, match=f"found 2 labels, all {label}"):
        scores.fit_temperature([label, label], [0.2, 0.8])
