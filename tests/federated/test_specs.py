"""What Substra is told: it must be what a network would accept."""

from pathlib import Path

import pytest

from unmask.federated.archives import Asset
from unmask.federated.plans import FUNCTIONS, METRICS, fedavg
from unmask.federated.specs import Keys, dataset_spec, function_spec, task_spec

ORGS = ("a", "b")
ASSET = Asset(Path("x.zip"), Path("x.md"), "0" * 64)
PLAN = fedavg(ORGS, ORGS, rounds=2)
KEYS = Keys(
    organisations={"a": "OrgA", "b": "OrgB"},
    functions={name: f"f-{name}" for name in FUNCTIONS},
    datasets={(org, side): f"d-{org}-{side}" for org in ORGS for side in ("train", "test")},
    samples={(org, side): [f"s-{org}-{side}"] for org in ORGS for side in ("train", "test")},
    tasks={task.name: f"t-{task.name}" for task in PLAN.tasks},
)
TASKS = {task.name: task_spec(task, KEYS) for task in PLAN.tasks}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_task_gives_what_its_function_takes(name):
    function = function_spec(name, ASSET, ["OrgA"])
    taken = {each.identifier: each for each in function.inputs}
    assert [each.identifier for each in function.outputs] == [FUNCTIONS[name].output]
    for task in PLAN.tasks:
        if task.function == name:
            spec = TASKS[task.name]
            given = [each.identifier for each in spec.inputs]
            assert set(given) <= set(taken)
            assert set(spec.outputs) == {FUNCTIONS[name].output}
            for identifier, wanted in taken.items():
                assert given.count(identifier) == 1 or wanted.multiple or wanted.optional
    assert not function.permissions.public
    assert function.permissions.authorized_ids == ["OrgA"]


def test_outputs_are_shared_with_whom_the_plan_says():
    def allowed(name):
        [output] = TASKS[name].outputs.values()
        return output.permissions

    assert allowed("train-1-b").authorized_ids == ["OrgB", "OrgA"]
    assert allowed("mean-1").authorized_ids == ["OrgA", "OrgB"]
    assert allowed("predict-b").authorized_ids == ["OrgB"]
    for metric in METRICS:
        assert allowed(f"{metric}-b").public  # Substra refuses others
    assert not any(allowed(f"{kind}-b").public for kind in ("predict", "train-1", "train-2"))


def test_each_task_reads_its_own_organisations_side():
    read = [each.asset_key for each in TASKS["train-2-b"].inputs if each.asset_key]
    assert read == ["d-b-train", "s-b-train"]
    [start] = [each for each in TASKS["train-2-b"].inputs if each.parent_task_key]
    assert (start.parent_task_key, start.parent_task_output_identifier) == ("t-mean-1", "model")
    [scored] = [each for each in TASKS["auc-a"].inputs if each.parent_task_key]
    assert scored.parent_task_output_identifier == "predictions"
    assert TASKS["train-2-b"].worker == "OrgB"


def test_a_dataset_says_its_side():
    spec = dataset_spec("a", "test", ASSET, ["OrgA", "OrgB"])
    assert spec.name == "a test"
    assert spec.permissions.authorized_ids == spec.logs_permission.authorized_ids
    # Substra's own limits on metadata.
    assert all(len(value) <= 100 and "__" not in key for key, value in spec.metadata.items())
