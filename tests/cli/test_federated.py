"""The commands, as a user types them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from adopted import adopt_made_up, described
from click.testing import CliRunner
from federated_small import ROOT, paint_chunk, small_settings

from unmask import params
from unmask.cli.main import main
from unmask.federated.leaderboard import read_all
from unmask.federated.local import task_environment
from unmask.federated.samples import read_manifest, read_videos
from unmask.federated.tasks import lay_out
from unmask.runtime.record_files import faces_line, write_index

CARRIED = (
    "federated", "src", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "NOTICE",
    "requirements.lock",
)  # fmt: skip


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Return a checkout in which a painted chunk was cropped, as the current folder."""
    for name in CARRIED:
        (tmp_path / name).symlink_to(ROOT / name)
    chunk = paint_chunk(tmp_path / "painted", 6)
    write_index(tmp_path / "raw/painted/index.csv", chunk.records)
    faces = tmp_path / "faces/painted"
    shutil.copytree(chunk.faces_dir, faces)
    rows = [faces_line(chunk.faces[record.video_id]) for record in chunk.records]
    (faces / "index.jsonl").write_text("".join(f"{row}\n" for row in rows))
    values = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"chunks": ["painted"]}
    for name, section in vars(small_settings()).items():
        values[name] = section.model_dump(mode="json")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNMASK_TRACKER", "none")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    return tmp_path


def type_in(*words):
    return CliRunner().invoke(main, ["federated", *words])


def test_samples_are_dealt_and_counted(checkout):
    done = type_in("samples", "--organisations", "2")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        f"org{number} {side}: {samples} samples, {samples} real and {samples} fake videos"
        for number in (1, 2) for side, samples in (("train", 2), ("test", 1))
    ]  # fmt: skip
    assert len(read_manifest(checkout / ".federated/samples/org2")) == 3
    done = type_in("samples", "painted", "--organisation", "lab", "--folder", "mine")
    assert done.output.startswith("lab train: 4 samples")
    # The samples say which params their crops were made by: those of the checkout.
    home = checkout / "mine/samples/lab"
    folders = [home / each.side / each.name for each in read_manifest(home)]
    lay_out(read_videos(folders), params.load().faces, checkout / "laid", workers=0)


@pytest.mark.parametrize("words", [[], ["--organisations", "2", "--organisation", "lab"]])
def test_samples_of_nobody_are_an_error(checkout, words):
    done = type_in("samples", *words)
    assert done.exit_code == 1
    assert "say whose: --organisation NAME, or --organisations 2" in done.output
    assert not (checkout / ".federated").exists()


def test_a_chunk_that_was_not_cropped_is_an_error(checkout):
    shutil.rmtree(checkout / "faces")
    done = type_in("samples", "--organisations", "2")
    assert done.exit_code == 1
    assert "Run `dvc repro`" in done.output


def test_a_leaderboard_of_nothing_is_an_error(checkout):
    done = type_in("leaderboard")
    assert done.exit_code == 1
    assert "Make one: `unmask federated run-local`" in done.output
    assert not (checkout / ".federated").exists()


@pytest.mark.slow
def test_a_benchmark_runs_is_kept_and_is_shown(checkout):
    words = ["run-local", "--organisations", "2", "--plan", "pooled"]
    done = type_in(*words)
    assert done.exit_code == 0, done.output
    [line] = [line for line in done.output.splitlines() if line.startswith("1 ")]
    [submission] = read_all(checkout / ".federated/submissions")
    assert f"pooled  org1, org2  {submission.mean('log_loss'):.4f}    +0.0000" in line
    assert set(submission.scores) == {"org1", "org2"}
    assert "pooled" in (checkout / ".federated/leaderboard.html").read_text()
    model = checkout / f".federated/plans/pooled-{submission.key[:16]}/model.zip"
    kept = model.stat().st_mtime_ns
    again = type_in(*words)
    assert line in again.output
    assert model.stat().st_mtime_ns == kept
    shown = type_in("leaderboard", "--html", "page.html")
    assert line in shown.output
    assert submission.model in (checkout / "page.html").read_text()


@pytest.mark.slow
def test_an_adopted_model_is_scored_as_it_is(checkout):
    model = adopt_made_up(checkout / "there", described("mobilenetv3_small_050"))
    words = ["run-local", "--organisations", "2", "--model", "there/model"]
    refused = type_in(*words)
    assert refused.exit_code == 1
    assert "A detector of ours expects faces of 64 px" in refused.output
    assert not (checkout / ".federated").exists()

    values = yaml.safe_load((checkout / "params.yaml").read_text())
    values["faces"] = json.loads((model / "checkpoint.json").read_text())["faces"]
    (checkout / "params.yaml").write_text(yaml.safe_dump(values))
    done = type_in(*words)
    assert done.exit_code == 0, done.output
    [submission] = read_all(checkout / ".federated/submissions")
    assert (submission.plan, submission.train_on) == ("as-it-is", ())
    assert set(submission.scores) == {"org1", "org2"}
    [line] = [line for line in done.output.splitlines() if line.startswith("1 ")]
    assert f"as-it-is  -           {submission.mean('log_loss'):.4f}" in line


def test_the_script_has_the_same_commands():
    script = [sys.executable, "federated/submit.py", "--help"]
    said = subprocess.run(
        script, capture_output=True, text=True, check=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    ).stdout  # fmt: skip
    ours = type_in("--help").output
    commands = [
        re.findall(r"^  ([a-z][\w-]+)  ", text, flags=re.MULTILINE) for text in (said, ours)
    ]
    assert (
        commands
        == [["fetch", "leaderboard", "register", "run-local", "samples", "status", "submit"]] * 2
    )


def test_dvc_runs_the_benchmarks_that_are_asked_for_and_none_unasked(tmp_path):
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    listed = {}
    for asked in ([], [2, 3]):
        values["federated"]["organisations"] = asked
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        dvc = [sys.executable, "-m", "dvc"]
        if not (tmp_path / ".dvc").exists():
            subprocess.run([*dvc, "init", "--quiet", "--no-scm"], cwd=tmp_path, check=True)
        done = subprocess.run(
            [*dvc, "stage", "list", "--name-only"], cwd=tmp_path, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        listed[len(asked)] = set(done.stdout.split())
    assert not [name for name in listed[0] if "federated" in name]
    assert listed[2] - listed[0] == {"federated@2", "federated@3"}


def test_tasks_see_no_secrets_and_find_what_they_import(tmp_path):
    secrets = {"AWS_SECRET_ACCESS_KEY": "x", "MLFLOW_TRACKING_PASSWORD": "x", "SUBSTRA_TOKEN": "x"}
    given = {"PATH": "/bin", "HOME": "/home/me", "PYTHONPATH": f"src{os.pathsep}{tmp_path}"}
    assert task_environment(given | secrets, tmp_path) == {
        "PATH": "/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": f"{Path('src').resolve()}{os.pathsep}{tmp_path}",
    }
