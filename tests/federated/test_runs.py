"""Which plans a benchmark runs, what it keeps, and what it refuses before anything runs."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from adopted import tiny_adopted
from federated_small import ROOT, make_members, small_settings

from unmask.errors import DiskError, WeightsError
from unmask.federated import leaderboard
from unmask.federated.archives import Asset, Assets
from unmask.federated.plans import FUNCTIONS
from unmask.federated.runs import KINDS, POOL, home_of, participants, plans_of, recipe, run
from unmask.federated.samples import FederatedError
from unmask.federated.state import write_zip
from unmask.federated.tasks import read_settings
from unmask.models import checkpoint
from unmask.models.adopt.record import read_origin
from unmask.runtime.disk import sole_writer

ORGS = ["org1", "org2"]
# Functions that take no time: a model is a text, a metric the length of it.
SOURCE = """
import json, pathlib, substratools

def function(inputs, outputs, task_properties):
    with open(pathlib.Path(__file__).parent / "said.txt") as said:
        assert said.read() == "{name}"
    [out] = outputs.values()
    if "{name}" in ("log_loss", "auc", "coverage"):
        substratools.save_performance(0.5, out)
    else:
        pathlib.Path(out).write_text("{name}" + repr(inputs.get("datasamples") is not None))

substratools.register(function, "{name}")
substratools.execute()
"""


@pytest.fixture
def assets(tmp_path):
    """Return assets with functions that need no torch."""
    functions = {name: write_function(tmp_path / f"{name}.zip", name, name) for name in FUNCTIONS}
    dataset = ROOT / "federated/dataset"
    return Assets(Asset(dataset / "opener.py", dataset / "description.md", "o"), functions)


def write_function(path, name, said):
    """Return a function that fails unless what is said is its name."""
    entry = f'ENTRYPOINT ["python3", "function.py", "--function-name", "{name}"]'
    write_zip(path, {
        "function.py": SOURCE.replace("{name}", name).encode(),
        "Dockerfile": entry.encode(), "said.txt": said.encode(),
    })  # fmt: skip
    return Asset(path, ROOT / f"federated/{name}/description.md", said)


@pytest.fixture
def members(tmp_path):
    return make_members(tmp_path / "all", ORGS)[0]


def env():
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")}


def test_the_benchmark_has_a_plan_of_each_kind():
    names = [plan.name for plan in plans_of(KINDS, ORGS, rounds=3)]
    assert names == ["single-org1", "single-org2", "sequence", "fedavg-3", "pooled"]
    assert [plan.name for plan in plans_of(["fedavg"], ORGS, rounds=1)] == ["fedavg-1"]


def test_every_plan_runs_is_written_down_and_is_kept(assets, members, tmp_path):
    plans, folder = plans_of(KINDS, ORGS, rounds=2), tmp_path / "out"
    steps = list(run(plans, members, assets, folder, environment=env()))
    assert len(steps) == sum(len(plan.tasks) for plan in plans) + len(plans)
    done = [step.submission for step in steps if step.submission]
    assert [each.plan for each in done] == [plan.name for plan in plans]
    assert leaderboard.read_all(folder / "submissions") == leaderboard.ranked(done)
    assert {each.samples for each in done} == {done[0].samples}
    assert done[-1].train_on == ("org1", "org2")
    assert all(set(each.scores) == set(ORGS) for each in done)
    for each in done:  # here, and not on a network, they are at hand
        predictions = home_of(folder, each.plan, each.key) / "predictions"
        assert {path.name for path in predictions.iterdir()} == {"org1.json", "org2.json"}
        assert (predictions / "org2.json").read_text() == "predictTrue"
    again = list(run(plans, members, assets, folder, environment=env()))
    assert [(step.task, step.submission, step.is_new) for step in again] == [
        ("kept", each, False) for each in done
    ]


def test_other_code_runs_again(assets, members, tmp_path):
    plans, folder = plans_of(["single"], ORGS, rounds=1)[:1], tmp_path / "out"
    list(run(plans, members, assets, folder, environment=env()))
    changed = replace(assets.functions["auc"], sha256="another")
    other = replace(assets, functions={**assets.functions, "auc": changed})
    steps = list(run(plans, members, other, folder, environment=env()))
    assert steps[-1].is_new
    assert len(leaderboard.read_all(folder / "submissions")) == 2


def test_a_failure_keeps_the_plans_that_are_done(assets, members, tmp_path):
    plans, folder = plans_of(["single", "fedavg"], ORGS, rounds=1), tmp_path / "out"
    broken = write_function(tmp_path / "broken.zip", "aggregate", "nothing")
    assets = replace(assets, functions={**assets.functions, "aggregate": broken})
    with pytest.raises(FederatedError, match="Plan fedavg-1: asked org1 for the task mean-1"):
        list(run(plans, members, assets, folder, environment=env()))
    kept = [each.plan for each in leaderboard.read_all(folder / "submissions")]
    assert kept == ["single-org1", "single-org2"]


def test_a_leak_is_refused_before_any_plan_runs(assets, members, tmp_path):
    [train] = [s for s in members[0].samples if s.side == "train"][:1]
    leak = replace(train, name="copied", side="test")
    folders = {**members[1].folders, "copied": members[0].folders[train.name]}
    leaky = replace(members[1], samples=(*members[1].samples, leak), folders=folders)
    plans, folder = plans_of(["single"], ORGS, rounds=1), tmp_path / "out"
    with pytest.raises(FederatedError, match="copied shares a file with"):
        list(run(plans, [members[0], leaky], assets, folder, environment=env()))
    assert not folder.exists()


def test_containers_without_an_engine_are_refused_before_any_plan_runs(assets, members, tmp_path):
    plans, folder = plans_of(["single"], ORGS, rounds=1), tmp_path / "out"
    nobody = env() | {"DOCKER_HOST": "tcp://127.0.0.1:9"}
    with pytest.raises(
        FederatedError, match=r"no engine answers at tcp://127\.0\.0\.1:9 .*DOCKER_HOST"
    ):
        list(run(plans, members, assets, folder, environment=nobody, backend="docker"))
    assert not folder.exists()


def test_two_runs_in_one_folder_are_refused(assets, members, tmp_path):
    plans, folder = plans_of(["single"], ORGS, rounds=1), tmp_path / "out"
    with sole_writer(folder), pytest.raises(DiskError, match="another run is writing there"):
        list(run(plans, members, assets, folder, environment=env()))


def test_the_name_of_the_pool_is_taken(assets, members, tmp_path):
    mine = [replace(members[0], name=POOL), members[1]]
    plans = plans_of(["pooled"], [POOL, "org2"], rounds=1)
    with pytest.raises(FederatedError, match="give it another name"):
        list(run(plans, mine, assets, tmp_path / "out", environment=env()))


def test_participants_know_their_folders(members, tmp_path):
    assert participants(ORGS, tmp_path / "all/samples") == members
    for member in members:
        found = [*member.folders_of("train"), *member.folders_of("test")]
        assert len(found) == len(member.samples) == 3
        assert all(folder.is_dir() for folder in found)


# ---------------------------------------------------------------- the archive's weights


def asking_for(weights, sha256=None):
    settings = small_settings()
    model = settings.model.model_copy(update={"weights": weights, "weights_sha256": sha256})
    return replace(settings, model=model)


def test_weights_of_the_checkout_keep_their_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/w.safetensors").write_bytes(b"w")
    made = recipe(asking_for("weights/w.safetensors"), weights_cache=tmp_path)
    (tmp_path / "s.json").write_text(made.settings)
    assert made.weights_name == "weights/w.safetensors"
    assert made.weights.read_bytes() == b"w"
    assert read_settings(tmp_path / "s.json") == asking_for("weights/w.safetensors")


def test_weights_from_elsewhere_get_a_path_in_the_archive_and_a_digest(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"w")
    made = recipe(asking_for(str(tmp_path / "w.safetensors")), weights_cache=tmp_path)
    assert made.weights_name == "weights/w.safetensors"
    assert str(tmp_path) not in made.settings
    assert '"weights_sha256": "50e721e49c013f00' in made.settings  # of the byte w


def test_weights_that_are_missing_are_an_error_and_none_are_none(tmp_path):
    with pytest.raises(WeightsError, match="there is no such file"):
        recipe(asking_for("weights/gone.safetensors"), weights_cache=tmp_path)
    made = recipe(asking_for("none"), weights_cache=tmp_path)
    assert made.weights is None


def test_an_adopted_models_folder_sends_its_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_adopted(tmp_path / "cf.v1")
    settings = asking_for("cf.v1/model")
    model = settings.model.model_copy(update={"backbone": "timm/mobilenetv3_small_050"})
    made = recipe(replace(settings, model=model), weights_cache=tmp_path)
    assert made.weights_name == "weights/weights.safetensors"
    assert read_origin(made.weights) == checkpoint.read_settings(Path("cf.v1/model")).adopted
