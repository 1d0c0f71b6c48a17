"""What plans scored on all test videos: values that can be worked out on paper."""

import json
import math

import pytest
from federated_small import ROOT, make_members

from unmask import params
from unmask.federated.plans import pooled
from unmask.federated.predictions import write_predictions
from unmask.federated.results import Answer, read_answers, summarise, table, write
from unmask.federated.samples import FederatedError, read_videos
from unmask.records import Reason, VideoScore

EVALUATE = params.load(ROOT / "params.yaml").evaluate


def answers(*probabilities):
    """Return the answers to real and fake videos in turn, two a source."""
    return {
        f"v{place}": Answer(place % 2, f"s{place // 2}", probability)
        for place, probability in enumerate(probabilities)
    }


PLANS = {
    "single-org1": answers(0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    "pooled": answers(0.2, 0.8, 0.2, 0.8, 0.2, 0.8),
}


def test_the_cost_is_the_log_loss_above_that_of_pooled_training():
    plans = summarise(PLANS, EVALUATE)["plans"]
    cost = plans["single-org1"]["cost"]
    # Every video costs the same: so does every draw of them.
    assert cost["value"] == pytest.approx(math.log(2) + math.log(0.8))
    assert (cost["low"], cost["high"]) == pytest.approx((cost["value"],) * 2)
    assert "cost" not in plans["pooled"]
    assert plans["pooled"]["roc_auc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert plans["single-org1"]["roc_auc"]["value"] == 0.5


def test_the_cost_pairs_the_videos():
    """Both plans find the same source hard: that is no difference between them."""
    ours, theirs = answers(0.9, 0.1, 0.5, 0.5), answers(0.9, 0.1, 0.2, 0.8)
    plan = summarise({"a": ours, "pooled": theirs}, EVALUATE)["plans"]["a"]
    most = math.log(2) + math.log(0.8)  # a draw of the second source alone
    assert plan["cost"]["value"] == pytest.approx(most / 2)
    assert (plan["cost"]["low"], plan["cost"]["high"]) == pytest.approx((0, most))
    assert plan["log_loss"]["high"] - plan["log_loss"]["low"] > most


def test_a_video_without_a_score_is_counted_and_left_out():
    plans = {**PLANS, "sequence": answers(None, 0.8, 0.2, 0.8, 0.2, 0.8)}
    found = summarise(plans, EVALUATE)
    assert (found["videos"], found["sources"]) == (6, 3)
    assert found["plans"]["sequence"]["coverage"] == pytest.approx(5 / 6)
    assert found["plans"]["sequence"]["cost"]["value"] == pytest.approx(0)
    apart = summarise({"a": answers(0.2, None), "pooled": answers(None, 0.8)}, EVALUATE)
    assert apart["plans"]["a"]["cost"]["value"] is None
    with pytest.raises(FederatedError, match="none of 2 test videos has a score"):
        summarise({"sequence": answers(None, None)}, EVALUATE)


def test_without_pooled_training_there_is_no_cost():
    assert "cost" not in summarise({"a": PLANS["single-org1"]}, EVALUATE)["plans"]["a"]


def test_the_files_and_the_table_say_the_same(tmp_path):
    summary = summarise(PLANS, EVALUATE)
    write(summary, tmp_path)
    assert json.loads((tmp_path / "test.json").read_text()) == summary
    few = json.loads((tmp_path / "summary.json").read_text())
    assert few["pooled"] == {
        "coverage": 1.0, "log_loss": pytest.approx(-math.log(0.8)), "roc_auc": 1.0,
    }  # fmt: skip
    assert set(few["single-org1"]) == {"coverage", "log_loss", "roc_auc", "cost"}
    lines = table(summary).splitlines()
    assert lines[2] == (
        "| single-org1 | 0.693 [0.693, 0.693] | 0.500 [0.500, 0.500] | 100% "
        "| +0.470 [+0.470, +0.470] |"
    )
    assert len({line.count("|") for line in lines}) == 1


def test_answers_meet_the_labels_of_their_own_videos(tmp_path):
    members, _ = make_members(tmp_path, ["org1", "org2"])
    assert pooled("pool", ["org1"], ["org2"]).name == "pooled"  # the name that costs look for
    for member in members:
        videos = read_videos(member.folders_of("test"))
        scores = [
            VideoScore(name, None, Reason.NO_FACE, ())
            if label
            else VideoScore(name, 0.25, None, ())
            for name, label in zip(videos.names, videos.labels, strict=True)
        ]
        write_predictions(tmp_path / f"{member.name}.json", videos.names[::-1], scores[::-1])
    found = read_answers(members, tmp_path)
    assert len(found) == 4
    assert {(each.label, each.probability) for each in found.values()} == {(0, 0.25), (1, None)}
    assert len({each.source for each in found.values()}) == 2
    (tmp_path / "org2.json").unlink()
    with pytest.raises(FederatedError, match="Asked for predictions"):
        read_answers(members, tmp_path)
