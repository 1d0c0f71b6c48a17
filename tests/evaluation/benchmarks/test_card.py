"""A card begins with results on other data; its own data's stay after them."""

import dataclasses
import json
from pathlib import Path

import detectors
import pytest
import yaml

from unmask.errors import DatasetError
from unmask.evaluation.benchmarks import card, gather, scores_file
from unmask.evaluation.benchmarks.gather import Benchmark
from unmask.evaluation.benchmarks.scores_file import Scores
from unmask.evaluation.published_card import NOTHING_ELSEWHERE
from unmask.models.card_head import split_head
from unmask.params import Evaluate

SETTINGS = Evaluate(bootstrap_resamples=30, seed=1)
DIGEST = "d" * 64
CARD = f"""\
---
license: mit
model-index:
- name: ours
  results:
  - {{dataset: {{name: all test videos, type: all}}, metrics: []}}
---

# x3d_xs: real or fake?

A classifier.

## What it is for

Help.

## Results on test videos

{NOTHING_ELSEWHERE}

| 0.9 |
"""


@pytest.fixture
def scored(tmp_path: Path) -> list[Benchmark]:
    for benchmark, trained_on in (("celeb", ("dfdc",)), ("dfdc", ("dfdc",))):
        place = detectors.put(
            tmp_path, "model", detectors.GOOD, benchmark=benchmark, trained_on=trained_on
        )
        found = scores_file.read(place)
        about = dataclasses.replace(found.detector, model_digest=DIGEST)
        scores_file.write(place, Scores(benchmark, about, found.rows))
        detectors.put(tmp_path, "other", detectors.POOR, benchmark=benchmark)
    detectors.put_looks(tmp_path)
    return [gather.read(tmp_path, name) for name in ("dfdc", "celeb")]


def test_results_are_of_that_model_and_what_it_did_not_see_comes_first(
    scored: list[Benchmark],
) -> None:
    results = card.results_of(DIGEST, scored, SETTINGS)
    assert results["model_digest"] == DIGEST
    first, second = results["benchmarks"]
    assert (first["name"], first["saw_it"], second["name"], second["saw_it"]) == (
        "celeb", False, "dfdc", True,
    )  # fmt: skip
    assert (first["real"], first["fake"], first["sources"], first["coverage"]) == (4, 4, 4, 1.0)
    assert first["roc_auc"]["value"] == 15 / 16
    assert first["matched_roc_auc"]["value"] == 0.75
    assert first["without_detector"]["roc_auc"]["value"] == 1.0
    assert second["without_detector"] is None
    assert json.loads(card.as_json(results)) == results
    with pytest.raises(DatasetError, match="scored on none of 2 benchmarks"):
        card.results_of("e" * 64, scored, SETTINGS)


def test_a_card_begins_with_them(scored: list[Benchmark]) -> None:
    results = card.results_of(DIGEST, scored, SETTINGS)
    text = card.with_results(CARD, results)
    head, body = split_head(text)
    titles = [line for line in body.split("\n") if line.startswith("#")]
    assert titles == [
        "# x3d_xs: real or fake?", "## Results on data sets that it was not trained on",
        "## What it is for", "## Results on test videos",
    ]  # fmt: skip
    assert "No result on another data set is known" not in body
    assert "## Results on test videos\n\n| 0.9 |" in body
    assert "| celeb | 4 | 4 | 100.0% | 0.938" in body
    assert "| dfdc (seen in training) | 4 | 4 |" in body
    (index,) = yaml.safe_load(head)["model-index"]
    assert index["name"] == "ours"
    assert [each["dataset"]["type"] for each in index["results"]] == ["celeb", "dfdc", "all"]
    assert index["results"][0]["metrics"][0]["value"] == 0.9375
    assert card.with_results(text, results) == text  # once


def test_a_card_without_a_head_gets_one(scored: list[Benchmark]) -> None:
    text = card.with_results("# card\n", card.results_of(DIGEST, scored, SETTINGS))
    head, body = split_head(text)
    assert len(yaml.safe_load(head)["model-index"][0]["results"]) == 2
    assert body.startswith("# card\n\n## Results on data sets")


def test_the_index_says_that_videos_have_no_score(tmp_path: Path) -> None:
    place = detectors.put(tmp_path, "model", (*detectors.GOOD[:6], None, None))
    found = scores_file.read(place)
    about = dataclasses.replace(found.detector, model_digest=DIGEST)
    scores_file.write(place, Scores("celeb", about, found.rows))
    results = card.results_of(DIGEST, [gather.read(tmp_path, "celeb")], SETTINGS)
    (index,) = yaml.safe_load(split_head(card.with_results(CARD, results))[0])["model-index"]
    said = index["results"][0]["metrics"][0]["name"]
    assert said.startswith("AUC over 4 fakes and 4 real videos, of which 75.0% have a score (95%")
