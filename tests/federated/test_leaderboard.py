"""The leaderboard: means that can be worked out on paper, and a page that runs nothing."""

import json
import re
from dataclasses import replace

import pytest

from unmask.federated.leaderboard import (
    Submission,
    page,
    path_of,
    read_all,
    samples_digest,
    scores_of,
    submission_key,
    table,
    write,
)
from unmask.federated.plans import fedavg, single
from unmask.federated.samples import FederatedError


def scores(log_loss, auc, coverage=1.0):
    return {"log_loss": log_loss, "auc": auc, "coverage": coverage}


POOLED = Submission(
    plan="pooled", train_on=("a", "b"), scores={"a": scores(0.2, 1.0), "b": scores(0.4, 0.5)},
    videos={"a": 10, "b": 30}, functions={"train": "f" * 64}, samples="5" * 64, model="d" * 64,
    backend="subprocess", key="1" * 64,
)  # fmt: skip
AVERAGED = replace(
    POOLED, plan="fedavg-2", key="2" * 64, scores={"a": scores(0.4, 0.9), "b": scores(0.6, 0.5)}
)


def test_a_mean_weighs_organisations_by_their_scored_videos():
    assert POOLED.mean("log_loss") == pytest.approx((10 * 0.2 + 30 * 0.4) / 40)
    half = replace(POOLED, scores={"a": scores(0.2, 1.0), "b": scores(0.4, 0.5, 0.5)})
    assert half.mean("log_loss") == pytest.approx((10 * 0.2 + 15 * 0.4) / 25)
    assert half.mean("coverage") == pytest.approx((10 + 15) / 40)


def test_the_best_comes_first_and_the_cost_of_federation_is_told(tmp_path):
    write(tmp_path, AVERAGED)
    write(tmp_path, POOLED)
    found = read_all(tmp_path)
    assert [each.plan for each in found] == ["pooled", "fedavg-2"]
    assert found[0] == POOLED
    _, first, second = table(found).splitlines()
    assert re.search(r"1 +pooled +a, b +0\.3500 +\+0\.0000 +0\.6250", first)
    assert re.search(r"2 +fedavg-2 +a, b +0\.5500 +\+0\.2000", second)
    assert "0.4000 / 0.9000" in second


@pytest.mark.parametrize("change", [{"samples": "6" * 64}, {"functions": {"train": "e" * 64}}])
def test_other_code_or_samples_are_not_compared(change):
    [_, line, _] = table([replace(AVERAGED, **change), POOLED]).splitlines()
    assert "+0.2" not in line


def test_organisations_that_a_plan_was_not_tested_on_stay_blank():
    lone = replace(POOLED, plan="single-a", scores={"a": scores(0.3, 0.7)}, videos={"a": 4})
    [_, line, _] = table([lone, POOLED]).splitlines()
    assert line.count(" / ") == 1


def test_the_page_stands_alone_and_runs_nothing():
    evil = replace(AVERAGED, plan="<script>alert(1)</script>", train_on=("<img src=x>",))
    text = page([POOLED, evil])
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"(src|href|url)\s*[=(]", text.replace("&lt;img src=x&gt;", ""))
    assert POOLED.functions["train"] in text
    assert "0.3500" in text


def test_an_empty_folder_and_a_damaged_submission_are_errors(tmp_path):
    with pytest.raises(FederatedError, match="no submission is there"):
        read_all(tmp_path)
    write(tmp_path, POOLED)
    path = path_of(tmp_path, POOLED.key)
    whole = json.loads(path.read_text())
    for text in ("", "[]", "{}", json.dumps(whole | {"scores": {}}), json.dumps(whole | {"x": 1})):
        path.write_text(text)
        with pytest.raises(FederatedError, match="Delete it and run the plan again"):
            read_all(tmp_path)


def test_a_key_follows_all_that_decides_a_result():
    plan = single("a", ("a",))
    keys = {
        submission_key(plan, {"train": "1"}, "o", {"a": ["s"]}, backend="subprocess"),
        submission_key(
            single("b", ("a",)), {"train": "1"}, "o", {"a": ["s"]}, backend="subprocess"
        ),
        submission_key(plan, {"train": "2"}, "o", {"a": ["s"]}, backend="subprocess"),
        submission_key(plan, {"train": "1"}, "p", {"a": ["s"]}, backend="subprocess"),
        submission_key(plan, {"train": "1"}, "o", {"a": ["t"]}, backend="subprocess"),
        submission_key(plan, {"train": "1"}, "o", {"a": ["s"]}, backend="docker"),
    }
    assert len(keys) == 6
    assert samples_digest(["x", "y", "x"]) == samples_digest(["y", "x"])


def test_metrics_are_sorted_by_organisation():
    plan = fedavg(("a", "b"), ("a", "b"), rounds=1)
    values = {
        f"{metric}-{org}": number + 10 * place
        for place, org in enumerate("ab")
        for number, metric in enumerate(("log_loss", "auc", "coverage"))
    }
    assert scores_of(plan, values) == {"a": scores(0, 1, 2), "b": scores(10, 11, 12)}
