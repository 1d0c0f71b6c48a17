"""Plans that really run: Substra's subprocess mode with two and three organisations."""

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from adopted import adopt_made_up, described
from federated_small import ROOT, make_members, pack_small, small_settings
from waiting import wait_until

from unmask.federated import predictions, tasks
from unmask.federated import state as federated_state
from unmask.federated.archives import Asset, Assets, Recipe, pack
from unmask.federated.local import run, task_environment
from unmask.federated.plans import (
    FUNCTIONS,
    METRICS,
    Organisation,
    as_it_is,
    check,
    fedavg,
    single,
)
from unmask.federated.samples import FederatedError, read_videos
from unmask.federated.state import write_zip
from unmask.federated.tasks import settings_text
from unmask.models.predict import Predictor
from unmask.runtime.disk import content_digest

SRC = str(Path(__file__).parents[2] / "src")


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return pack_small(tmp_path_factory.mktemp("archives"))


def environment(folder):
    return task_environment(os.environ | {"PYTHONPATH": SRC}, folder)


def run_checked(plan, members, assets, folder):
    names = [member.name for member in members]
    check(
        plan, [Organisation(m.name, m.samples, tuple(names)) for m in members],
        submitter=names[0], functions_open_to=dict.fromkeys(FUNCTIONS, names),
    )  # fmt: skip
    return list(run(plan, members, assets, folder, environment=environment(folder)))


def run_here(plan, members, assets, folder, monkeypatch):
    """Run the plan's functions in this process; return its metrics, and the model's zip."""
    by_name = {member.name: member for member in members}
    made, values = {}, {}
    for task in plan.tasks:
        own = folder / task.name
        own.mkdir(parents=True)
        monkeypatch.chdir(own)
        made[task.name] = own / "out"
        taken = [made[name] for name in task.takes]
        if task.reads:
            videos = read_videos(by_name[task.organisation].folders_of(task.reads)[::-1])
        if task.function == "train":
            with zipfile.ZipFile(assets.functions["train"].path) as archive:
                archive.extract("settings.json")
            start = taken[0] if taken else None
            settings = Path("settings.json")
            tasks.train(videos, settings, start, own / "out", Path(), workers=0)
        elif task.function == "aggregate":
            federated_state.average(taken[::-1], own / "out")
        elif task.function == "predict":
            tasks.predict(videos, taken[0], own / "out", Path(), workers=0)
        else:
            values[task.name] = getattr(predictions, task.function)(videos, taken[0])
    return values, made[plan.model_task]


@pytest.mark.slow
def test_a_plan_runs_and_a_second_run_gives_the_same(assets, tmp_path, monkeypatch):
    """Two organisations average twice; a third, which never trained, tests."""
    members, _ = make_members(tmp_path / "all", ["org1", "org2", "org3"])
    plan = fedavg(["org1", "org2"], ["org3"], rounds=2)
    done = run_checked(plan, members, assets, tmp_path / "run")
    assert [each.task for each in done] == [task.name for task in plan.tasks]
    scores = {each.task: each.value for each in done if each.value is not None}
    assert len(scores) == len(METRICS)
    assert next(value for task, value in scores.items() if task.startswith("coverage")) == 1.0
    state = federated_state.read(tmp_path / "run/model.zip")
    assert state.about == federated_state.About(tracks=4, rounds=2)
    # The second run: the same functions in this process, in other folders, the samples backwards.
    again, model = run_here(plan, members, assets, tmp_path / "here", monkeypatch)
    assert again == scores
    assert model.read_bytes() == (tmp_path / "run/model.zip").read_bytes()
    assert [path.name for path in (tmp_path / "run").iterdir() if "substra" in path.name] == []


@pytest.mark.slow
def test_an_adopted_model_is_scored_as_it_is_in_processes_of_its_own(tmp_path):
    adopted = adopt_made_up(tmp_path / "there", described("mobilenetv3_small_050"))
    assets = pack(ROOT, Recipe(settings_text(small_settings()), None, "", adopted), tmp_path / "a")
    members, _ = make_members(tmp_path / "all", ["org1", "org2"])
    plan = as_it_is("org1", ["org1", "org2"])
    done = run_checked(plan, members, assets, tmp_path / "run")
    assert [each.task for each in done] == [task.name for task in plan.tasks]
    scores = {each.task: each.value for each in done if each.value is not None}
    # The model that was scored is the folder's, and its answers are those that it gives here.
    state = federated_state.read(tmp_path / "run/model.zip")
    assert state.settings == json.loads((adopted / "checkpoint.json").read_text())
    ours = Predictor.load(adopted)
    for member in members:
        videos = read_videos(member.folders_of("test"))
        said = predictions.read_predictions(
            videos, tmp_path / f"run/predictions/{member.name}.json"
        )
        own = tmp_path / f"own-{member.name}"
        [chunk] = tasks.lay_out(videos, ours.checkpoint.faces, own, workers=0)
        rows = [chunk.faces[record.video_id] for record in chunk.records]
        expected = [each.probability for each in ours.score_videos(chunk.faces_dir, rows)]
        assert said == pytest.approx(expected, abs=1e-6)
        assert scores[f"coverage-{member.name}"] == 1.0
        labels = np.array(videos.labels)
        loss = -np.log(np.where(labels == 1, said, 1 - np.array(said))).mean()
        assert scores[f"log_loss-{member.name}"] == pytest.approx(loss, rel=1e-5)


# ---------------------------------------------------------------- what goes wrong


def replaced(assets, name, source, folder):
    """Return the assets with another function.py in one archive."""
    dockerfile = f'ENTRYPOINT ["python3", "function.py", "--function-name", "{name}"]'
    members = {"function.py": source.encode(), "Dockerfile": dockerfile.encode()}
    folder.mkdir(parents=True)
    write_zip(folder / f"{name}.zip", members)
    own = assets.functions[name]
    broken = Asset(folder / f"{name}.zip", own.description, content_digest(folder / f"{name}.zip"))
    return replace(assets, functions={**assets.functions, name: broken})


def test_a_failing_task_is_named_with_its_organisation_and_its_log(assets, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    members, _ = make_members(tmp_path / "all", ["org1", "org2"])
    script = (
        "import os, sys\n"
        "print('sees', sorted(os.environ), 'at', os.environ['HOME'])\n"
        "sys.exit('out of luck: ' + os.environ.get('AWS_SECRET_ACCESS_KEY', 'no secret'))\n"
    )
    assets = replaced(assets, "train", script, tmp_path / "broken")
    with pytest.raises(FederatedError) as caught:
        run_checked(single("org2", ["org1"]), members, assets, tmp_path / "run")
    said = str(caught.value)
    assert "Plan single-org2: asked org2 for the task train-1-org2; its function train" in said
    assert "| out of luck: no secret" in said
    log = tmp_path / "run/logs/train-1-org2.log"
    assert f"{log} ends:" in said
    assert f"at {tmp_path / 'run'}" in log.read_text()
    assert "AWS" not in log.read_text()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["logs"]


def test_what_substra_refuses_is_said_in_its_words(assets, tmp_path):
    members, _ = make_members(tmp_path / "all", ["org1", "org2"])
    plan = single("org1", ["org2"])
    lost = Assets(replace(assets.opener, path=tmp_path / "gone.py"), assets.functions)
    with pytest.raises(FederatedError, match=r"asked Substra for 5 tasks; it(.|\n)*gone\.py"):
        run_checked(plan, members, lost, tmp_path / "run")


def test_a_function_that_gives_nothing_is_named_too(assets, tmp_path):
    members, _ = make_members(tmp_path / "all", ["org1", "org2"])
    assets = replaced(assets, "train", "pass\n", tmp_path / "idle")
    logs = tmp_path / "run/logs"
    logs.mkdir(parents=True)
    (logs / "predict-org2.log").write_text("of a run before")
    with pytest.raises(FederatedError, match=r"asked org1 for the task train-1-org1(.|\n)*No such"):
        run_checked(single("org1", ["org2"]), members, assets, tmp_path / "run")
    assert not (logs / "predict-org2.log").exists()


def test_ending_early_ends_the_task_too(assets, tmp_path):
    members, _ = make_members(tmp_path / "all", ["org1", "org2"])
    waits = (
        "import os, pathlib, sys, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    quick = (
        "import substratools\n"
        "def train(inputs, outputs, task_properties):\n"
        "    open(outputs['model'], 'w').write('x')\n"
        "substratools.register(train)\n"
        "substratools.execute()\n"
    )
    assets = replaced(assets, "train", quick, tmp_path / "quick")
    assets = replaced(assets, "predict", waits, tmp_path / "waits")
    steps = run(
        single("org1", ["org2"]), members, assets, tmp_path / "run",
        environment=environment(tmp_path),
    )  # fmt: skip
    assert next(steps).task == "train-1-org1"
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    steps.close()
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert [path.name for path in (tmp_path / "run").iterdir() if "substra" in path.name] == []
