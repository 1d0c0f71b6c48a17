"""Plans, and all that the checker must refuse before anything is sent."""

import json
from dataclasses import asdict, replace

import pytest

from unmask.federated.plans import (
    FUNCTIONS,
    METRICS,
    Organisation,
    Task,
    as_it_is,
    check,
    fedavg,
    pooled,
    read_plan,
    sequence,
    single,
)
from unmask.federated.samples import FederatedError, Sample

ORGS = ("a", "b", "c")
PLANS = [
    single("a", ORGS),
    sequence(ORGS, ORGS),
    fedavg(ORGS, ORGS, rounds=2),
    fedavg(("b",), ("c",), rounds=1),
    pooled("pool", ORGS, ORGS),
    as_it_is("a", ORGS),
]


def sample(name, side, *, person="", content=""):
    return Sample(name, side, 1, 1, (person or f"who-{name}",), (content or f"file-{name}",))


def organisation(name, *samples, open_to=ORGS):
    own = samples or (sample(f"{name}1", "train"), sample(f"{name}2", "test"))
    return Organisation(name, own, open_to)


EVERYBODY = [organisation(name) for name in (*ORGS, "pool")]
OPEN = dict.fromkeys(FUNCTIONS, (*ORGS, "pool"))


def ask(plan, organisations=EVERYBODY, *, submitter="a", functions=OPEN):
    check(plan, organisations, submitter=submitter, functions_open_to=functions)


def names(plan):
    return [task.name for task in plan.tasks]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_our_plans_pass_and_survive_json(plan):
    ask(plan)
    again = read_plan(json.loads(json.dumps(asdict(plan))))
    assert again == plan
    assert again.digest == plan.digest
    assert len({each.digest for each in PLANS}) == len(PLANS)


def test_a_single_plan_trains_on_one_and_tests_on_all():
    plan = single("b", ORGS)
    assert [t.organisation for t in plan.tasks if t.function == "train"] == ["b"]
    tests = [t.organisation for t in plan.tasks if t.function == "log_loss"]
    assert tests == list(ORGS)
    assert len(plan.tasks) == 1 + 3 * (1 + len(METRICS))
    assert plan.model_task == "train-1-b"
    # What each video scored is shown to nobody else.
    assert all(not t.shared_with for t in plan.tasks if t.function == "predict")


def test_a_model_as_it_is_is_trained_by_nobody_and_shared_with_all():
    plan = as_it_is("a", ORGS)
    assert plan.train_on == ()
    assert [t.function for t in plan.tasks if t.reads == "train"] == []
    assert plan.tasks[0] == Task("publish", "publish", "a", shared_with=("b", "c"))
    assert {t.takes for t in plan.tasks if t.function == "predict"} == {("publish",)}
    assert plan.model_task == "publish"
    ask(plan)
    takes = with_task(plan, "predict-a", name="publish-2", function="publish", reads=None)
    with pytest.raises(FederatedError, match="publish-2: publish is not run on 1 outputs"):
        ask(takes)


def test_a_sequence_hands_on_to_the_next_alone():
    plan = sequence(ORGS, ("a",))
    trains = [t for t in plan.tasks if t.function == "train"]
    assert [t.takes for t in trains] == [(), ("train-1-a",), ("train-2-b",)]
    assert [t.shared_with for t in trains] == [("b",), ("c",), ("a",)]


def test_each_round_of_averaging_starts_from_the_last_mean():
    plan = fedavg(ORGS, ORGS, rounds=2)
    takes = {t.name: t.takes for t in plan.tasks}
    assert [takes[f"train-1-{org}"] for org in ORGS] == [()] * 3
    assert takes["mean-1"] == ("train-1-a", "train-1-b", "train-1-c")
    assert [takes[f"train-2-{org}"] for org in ORGS] == [("mean-1",)] * 3
    assert takes["predict-c"] == ("mean-2",)
    assert plan.model_task == "mean-2"
    with pytest.raises(FederatedError, match="0 rounds"):
        fedavg(ORGS, ORGS, rounds=0)


# ---------------------------------------------------------------- refusals


def with_task(plan, which, **changes):
    tasks = tuple(replace(t, **changes) if t.name == which else t for t in plan.tasks)
    assert tasks != plan.tasks
    return replace(plan, tasks=tasks)


SINGLE, TWO, AVERAGE = single("a", ("b",)), sequence(ORGS, ORGS), fedavg(ORGS, ORGS, rounds=2)
REFUSED = {
    "test videos are trained on": (
        with_task(SINGLE, "train-1-a", reads="test"),
        "train reads train videos, the plan gives it test",
    ),
    "train videos are tested on": (
        with_task(SINGLE, "predict-b", reads="train"),
        "predict reads test videos, the plan gives it train",
    ),
    "a mean reads videos": (with_task(AVERAGE, "mean-1", reads="train"), "reads no videos"),
    "a model goes to a stranger": (
        with_task(SINGLE, "train-1-a", shared_with=()),
        "predict-b: b may not have what train-1-a makes at a",
    ),
    "a mean goes to a stranger": (
        with_task(AVERAGE, "mean-1", shared_with=("b",)),
        "train-2-c: c may not have what mean-1 makes at a",
    ),
    "a chain is cut": (
        with_task(TWO, "train-1-a", shared_with=("c",)),
        "train-2-b: b may not have what train-1-a makes",
    ),
    "an output comes from nowhere": (
        with_task(SINGLE, "predict-b", takes=("train-9-z",)),
        "takes what train-9-z makes, which no task before it does",
    ),
    "a task takes its own output": (
        with_task(TWO, "train-2-b", takes=("train-2-b",)),
        "no task before it does",
    ),
    "predictions are taken for a model": (
        with_task(SINGLE, "auc-b", takes=("train-1-a",)),
        "takes predictions, train-1-a makes model",
    ),
    "nothing is predicted with": (
        with_task(SINGLE, "predict-b", takes=()),
        "predict is not run on 0 outputs",
    ),
    "one trains from two": (
        with_task(TWO, "train-3-c", takes=("train-1-a", "train-2-b")),
        "train is not run on 2 outputs",
    ),
    "an unknown function": (with_task(SINGLE, "auc-b", function="rm"), "rm is no function"),
    "an unknown organisation": (
        with_task(SINGLE, "auc-b", organisation="z"),
        "there is no organisation z",
    ),
    "one name twice": (
        with_task(SINGLE, "auc-b", name="log_loss-b"),
        "two tasks have this name",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("plan", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_plan_that_may_not_be_sent_is_refused(plan, said):
    with pytest.raises(FederatedError, match="was not sent") as caught:
        ask(plan)
    assert said in str(caught.value)


LEAKS = {
    "a sample": (sample("a1", "test"), "test sample a1 is used for training by a"),
    "a file": (sample("b2", "test", content="file-a1"), "b2 shares a file with a1, which a trains"),
    "a person": (sample("b2", "test", person="who-a1"), "b2 shows a source of a1, which a trains"),
}


@pytest.mark.parametrize(("leak", "said"), LEAKS.values(), ids=LEAKS.keys())
def test_what_stands_on_both_sides_is_refused_also_across_organisations(leak, said):
    organisations = [organisation("a"), organisation("b", sample("b1", "train"), leak)]
    with pytest.raises(FederatedError, match=said):
        ask(SINGLE, organisations)
    # A plan that does not train on a has nothing to hide from it.
    ask(single("b", ("b",)), organisations)


def test_a_source_on_both_sides_of_one_organisation_is_refused():
    own = organisation("a", sample("1", "train", person="p"), sample("2", "test", person="p"))
    with pytest.raises(FederatedError, match="2 shows a source of 1, which a trains on"):
        ask(single("a", ("a",)), [own])


def test_an_organisation_without_the_videos_is_refused():
    with pytest.raises(FederatedError, match="b has no test samples"):
        ask(SINGLE, [organisation("a"), organisation("b", sample("b1", "train"))])


def test_videos_that_are_closed_to_the_submitter_are_refused():
    closed = [organisation("a"), organisation("b", open_to=())]
    with pytest.raises(FederatedError, match="predict-b: b does not let a compute on its videos"):
        ask(SINGLE, closed)
    ask(SINGLE, [organisation("a", open_to=("b",)), organisation("b", open_to=())], submitter="b")


def test_a_function_that_is_closed_to_its_worker_is_refused():
    with pytest.raises(FederatedError, match="predict-b: b may not run predict"):
        ask(SINGLE, functions=OPEN | {"predict": ("a",)})


def test_many_problems_are_counted():
    with pytest.raises(FederatedError, match="found 13 thing") as caught:
        ask(single("a", ORGS), functions={})
    assert "and 8 more" in str(caught.value)
