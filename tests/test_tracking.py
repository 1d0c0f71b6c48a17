"""Runs are read back with MLflow's own client, from an SQLite file and from a real server."""

import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from unmask import tracking
from unmask.tracking import NullTracker, Tracker, TrackingError, open_run

PIXEL = bytes.fromhex("89504e470d0a1a0a")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with MLflow's tables, to be copied: making them takes seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    client(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="module")
def sqlite_uri(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> str:
    return copy_store(empty_store, tmp_path_factory.mktemp("a root"))


def copy_store(file: Path, root: Path) -> str:
    shutil.copy(file, root / "mlflow.db")
    return tracking.default_uri({}, root)


@pytest.fixture(scope="module")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server on loopback."""
    folder = tmp_path_factory.mktemp("server")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    # Without the second variable it starts a dozen processes for jobs that nobody gives it.
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)], cwd=folder, stdout=log, stderr=log,
            env=os.environ | quiet, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", server, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # its own group: it starts a worker
        server.wait()


def wait_until_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + 120
    while time.monotonic() < end_s and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"no MLflow server at {url}:\n{log.read_text()[-2000:]}")


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.slow)])
def uri(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_uri"))


@pytest.fixture
def own_uri(empty_store: Path, tmp_path: Path) -> str:
    """A store of the test's own, to be broken."""
    return copy_store(empty_store, tmp_path)


def begin(uri: str, *, run_id: str | None = None, experiment: str = "unmask") -> Any:
    return open_run(uri=uri, experiment=experiment, run_name=None, run_id=run_id)


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def download(uri: str, artifact_uri: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    folder.mkdir()
    found = download_artifacts(artifact_uri, dst_path=str(folder), tracking_uri=uri)
    return Path(found)


def model_folder(root: Path) -> Path:
    root.joinpath("model").mkdir()
    root.joinpath("model", "weights.safetensors").write_bytes(bytes(range(256)))
    root.joinpath("model", "MODEL_CARD.md").write_text("# A model\n")
    return root / "model"


# ---------------------------------------------------------------- what every tracker does


@pytest.fixture(params=["null", "sqlite", pytest.param("server", marks=pytest.mark.slow)])
def tracker_and_uri(request: pytest.FixtureRequest) -> tuple[Tracker, str | None]:
    if request.param == "null":
        return NullTracker(), None
    uri = str(request.getfixturevalue(f"{request.param}_uri"))
    return begin(uri), uri


def test_a_run_reads_back_as_it_was_logged(
    tracker_and_uri: tuple[Tracker, str | None], tmp_path: Path
) -> None:
    tracker, uri = tracker_and_uri
    picture = tmp_path / "roc.png"
    picture.write_bytes(PIXEL)
    many = {f"p{number}": number for number in range(150)}
    with tracker:
        tracker.log_params({"train": {"lr_head": 1e-3, "seed": None, "top": {"crf": [1, 2]}}})
        tracker.log_params({"long": "a" * 7000, "flag": True, "name": "x3d_xs", "none": {}} | many)
        tracker.log_tags({"git.dirty": "false", "data.raw/sample": "abc.dir"})
        for epoch, loss in enumerate([0.75, 0.5]):
            tracker.log_metrics({"val_loss": loss, "lr_top": None}, step=epoch)
        tracker.log_metrics({"test.auc": 0.875, "test.methods.swap (c23)": 1.0})
        tracker.log_file(picture, "plots")
    if uri is None:
        assert tracker.run_id is None
        assert list(tmp_path.iterdir()) == [picture]
        return
    run = client(uri).get_run(tracker.run_id)
    params = run.data.params
    assert params["train.lr_head"] == "0.001"
    assert params["train.seed"] == "null"
    assert params["train.top.crf"] == "[1, 2]"
    assert params["flag"] == "true"
    assert params["name"] == "x3d_xs"
    assert params["none"] == "{}"
    assert params["long"] == "a" * 5999 + "…"
    assert [params[name] for name in many] == [str(number) for number in range(150)]
    assert run.data.tags["git.dirty"] == "false"
    assert run.data.tags["data.raw/sample"] == "abc.dir"
    history = client(uri).get_metric_history(tracker.run_id, "val_loss")
    assert [(point.step, point.value) for point in history] == [(0, 0.75), (1, 0.5)]
    assert run.data.metrics["test.auc"] == 0.875
    assert run.data.metrics["test.methods.swap _c23_"] == 1.0
    assert "lr_top" not in run.data.metrics
    kept = download(uri, f"runs:/{tracker.run_id}/plots/roc.png", tmp_path / "back")
    assert kept.read_bytes() == PIXEL
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time


def test_an_error_that_gets_out_fails_the_run(
    tracker_and_uri: tuple[Tracker, str | None],
) -> None:
    tracker, uri = tracker_and_uri
    with pytest.raises(ZeroDivisionError), tracker:
        raise ZeroDivisionError
    if uri is not None:
        assert client(uri).get_run(tracker.run_id).info.status == "FAILED"


def test_a_model_is_kept_with_its_signature_and_no_pickle(
    tracker_and_uri: tuple[Tracker, str | None], tmp_path: Path
) -> None:
    tracker, uri = tracker_and_uri
    model_dir = model_folder(tmp_path)
    with tracker:
        tracker.log_params({"train": {"seed": 7}})
        model_uri = tracker.log_model(model_dir, note="# A model")
    if uri is None:
        assert model_uri is None
        return
    assert model_uri is not None
    logged = client(uri).get_logged_model(model_uri.removeprefix("models:/"))
    assert logged.status == "READY"
    assert logged.source_run_id == tracker.run_id
    assert logged.params == {"train.seed": "7"}
    assert logged.tags["mlflow.note.content"] == "# A model"
    outputs = client(uri).get_run(tracker.run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [logged.model_id]

    folder = download(uri, logged.artifact_location, tmp_path / "back")
    described = yaml.safe_load((folder / "MLmodel").read_text())
    columns = {name: json.loads(described["signature"][name]) for name in ("inputs", "outputs")}
    assert columns == {
        "inputs": [{"type": "string", "name": "path", "required": True}],
        "outputs": [
            {"type": "string", "name": "path", "required": True},
            {"type": "double", "name": "probability", "required": False},
            {"type": "string", "name": "reason", "required": False},
        ],
    }
    assert described["run_id"] == tracker.run_id
    assert described["model_id"] == logged.model_id
    inside = folder / described["flavors"]["python_function"]["artifacts"]["model"]["path"]
    assert {p.name: p.read_bytes() for p in inside.iterdir()} == {
        p.name: p.read_bytes() for p in model_dir.iterdir()
    }
    script = folder / "mlflow_model.py"
    assert script.read_bytes() == tracking.MODEL_SCRIPT.read_bytes()
    assert "unmask==" in (folder / "requirements.txt").read_text()
    assert not [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle"}]


# ---------------------------------------------------------------- opening a run again


def test_train_and_evaluate_report_to_one_run(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "unmask")
    with begin(uri) as first:
        first.log_params({"train": {"seed": 7}, "evaluate": {"seed": 1}})
        first.log_metrics({"val_loss": 0.5}, step=3)
    again = begin(uri, run_id=first.run_id)
    assert again.run_id == first.run_id
    assert client(uri).get_run(first.run_id).info.status == "RUNNING"
    with again:
        again.log_params({"train": {"seed": 7}, "evaluate": {"seed": 2, "new": 3}})
        again.log_metrics({"test.auc": 0.75})
    run = client(uri).get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"val_loss": 0.5, "test.auc": 0.75}
    assert run.data.params == {"train.seed": "7", "evaluate.seed": "1", "evaluate.new": "3"}
    assert run.data.tags["changed.evaluate.seed"] == "2"
    assert "keeps evaluate.seed = 1" in caplog.text


def test_an_unknown_or_deleted_run_becomes_a_new_one(
    uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unmask")
    gone = begin(uri)
    gone.finish(failed=False)
    client(uri).delete_run(gone.run_id)
    for run_id in ("0" * 32, gone.run_id):
        with begin(uri, run_id=run_id) as tracker:
            assert tracker.run_id != run_id
        assert f"run {run_id} is not in {uri}: a new one begins" in caplog.text
        assert client(uri).get_run(tracker.run_id).info.status == "FINISHED"


# ---------------------------------------------------------------- where runs can't be opened


def refusal(uri: str, **arguments: Any) -> str:
    """Return the error's message, after checking that it was quick and left nothing behind."""
    import mlflow  # noqa: F401  # its import is not part of the answer

    before, start_s = dict(os.environ), time.monotonic()
    with pytest.raises(TrackingError) as caught:
        begin(uri, **arguments)
    assert time.monotonic() - start_s < 15
    assert dict(os.environ) == before
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def test_a_server_that_is_down_is_one_quick_error(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    message = refusal(f"http://ann:secret@{address}")
    assert f"http://{address}" in message
    assert "refused" in message
    assert "unset MLFLOW_TRACKING_URI" in message
    assert "UNMASK_TRACKING=none" in message
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_server_that_never_answers_is_one_error_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert "timed out" in refusal(f"http://ann:secret@{address}").lower()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gopher://ann:secret@host", "gopher://host"),
        ("http://ann:se/secret@127.0.0.1:1", "http://127.0.0.1:1"),
        ("mlruns", "mlruns"),
    ],
)
def test_what_is_no_store_is_one_error(uri: str, said: str) -> None:
    assert f"Asked MLflow at {said} for a run" in refusal(uri)


def test_a_file_that_is_no_database_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database " * 100)
    message = refusal(tracking.default_uri({}, tmp_path))
    assert "file is not a database" in message
    assert "Mend or move that file" in message


def test_a_deleted_experiment_says_how_to_bring_it_back(own_uri: str) -> None:
    begin(own_uri).finish(failed=False)
    number = client(own_uri).get_experiment_by_name("unmask").experiment_id
    client(own_uri).delete_experiment(number)
    assert f"`mlflow experiments restore -x {number}`" in refusal(own_uri)


def test_an_experiment_whose_files_a_server_keeps_is_refused(own_uri: str) -> None:
    number = client(own_uri).create_experiment("unmask", artifact_location="mlflow-artifacts:/1")
    assert "made through a server" in refusal(own_uri)
    run_id = client(own_uri).create_run(number).info.run_id
    assert "made through a server" in refusal(own_uri, run_id=run_id)


def test_a_store_that_moved_says_where_its_files_go(
    own_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begin(own_uri).finish(failed=False)
    begin(own_uri).finish(failed=False)
    assert caplog.messages == []
    (tmp_path / "moved").mkdir()
    begin(copy_store(tmp_path / "mlflow.db", tmp_path / "moved")).finish(failed=False)
    (warning,) = caplog.messages
    assert warning.startswith(f"{tmp_path}/moved/mlflow.db was elsewhere when its experiment began")
    assert warning.endswith(f"files still go to {(tmp_path / 'mlartifacts').as_uri()}")


# ---------------------------------------------------------------- what breaks later


def test_a_store_that_breaks_ends_tracking_and_not_the_work(
    own_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with begin(own_uri) as tracker:
        database = sqlite3.connect(tmp_path / "mlflow.db")
        database.execute("DROP TABLE metrics")
        database.close()
        tracker.log_metrics({"val_loss": 0.5}, step=0)
        tracker.log_metrics({"val_loss": 0.4}, step=1)
        tracker.log_tags({"late": "yes"})
    (warning,) = caplog.messages
    assert "no such table: metrics" in warning
    assert "MLflow gets no more of this run" in warning
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        rows = database.execute("SELECT status FROM runs WHERE run_uuid = ?", [tracker.run_id])
        assert rows.fetchall() == [("FINISHED",)]
        late = database.execute("SELECT * FROM tags WHERE key = 'late'").fetchall()
        assert late == []
    database.close()


@pytest.mark.slow
def test_a_password_in_the_uri_is_never_shown(
    server_uri: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    with begin(server_uri.replace("//", "//ann:secret@")) as tracker:
        tracker.log_metrics({"val_loss": 0.5}, step=0)
        tracker.log_file(model_folder(tmp_path) / "MODEL_CARD.md")
        tracker.log_model(tmp_path / "model")
    assert client(server_uri).get_run(tracker.run_id).info.status == "FINISHED"
    assert server_uri in caplog.text
    out, err = capfd.readouterr()
    assert out == ""
    assert "secret" not in caplog.text + err


# ---------------------------------------------------------------- beside plain `mlflow ui`


def test_plain_mlflow_finds_the_store_and_its_files_in_the_root(
    sqlite_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)  # not the root
    (tmp_path / "roc.png").write_bytes(PIXEL)
    with begin(sqlite_uri) as tracker:
        tracker.log_file(tmp_path / "roc.png", "plots")
    root = Path(sqlite_uri.removeprefix("sqlite:///")).parent
    assert {path.name for path in root.iterdir()} == {"mlflow.db", "mlartifacts"}
    pictures = root.glob("mlartifacts/**/*.png")
    assert [path.parts[-4:] for path in pictures if tracker.run_id in path.parts] == [
        (tracker.run_id, "artifacts", "plots", "roc.png")
    ]
    monkeypatch.chdir(root)
    assert client(mlflow.get_tracking_uri()).get_run(tracker.run_id) is not None


def test_the_environment_says_where_runs_go(empty_store: Path, tmp_path: Path) -> None:
    at = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert tracking.default_uri(at, tmp_path) == "http://mlflow:5000"
    assert tracking.default_uri({"MLFLOW_TRACKING_URI": ""}, Path("/a b")).endswith(
        "/a b/mlflow.db"
    )
    odd = tmp_path / "100%20#?"
    odd.mkdir()
    uri = copy_store(empty_store, odd)
    begin(uri).finish(failed=False)
    assert (odd / "mlflow.db").read_bytes() != empty_store.read_bytes()


@pytest.mark.slow
def test_mlflow_is_imported_late_and_sends_no_usage_data(sqlite_uri: str) -> None:
    code = f"""
import os, sys
from unmask import tracking
assert "mlflow" not in sys.modules
before = dict(os.environ)
tracking.open_run(uri={sqlite_uri!r}, experiment="unmask", run_name=None).finish(failed=False)
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
assert dict(os.environ) == before
"""
    # MLflow sends nothing from tests and CI anyway: hide that this is one.
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")


# ---------------------------------------------------------------- where a run comes from


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(root), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_source_tags_name_the_commit_and_what_differs_from_it(tmp_path: Path) -> None:
    git(tmp_path, "init")
    for name in ("params.yaml", "dvc.lock"):
        (tmp_path / name).write_text("a: 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    expected = {
        "mlflow.source.name": tmp_path.name,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git(tmp_path, "rev-parse", "HEAD"),
        "git.dirty": "false",
        "dvc.lock.sha256": hashlib.sha256(b"a: 1\n").hexdigest(),
    }
    (tmp_path / "untracked").touch()
    assert tracking.source_tags(tmp_path) == expected
    (tmp_path / "dvc.lock").write_text("b: 2\n")
    expected["dvc.lock.sha256"] = hashlib.sha256(b"b: 2\n").hexdigest()
    assert tracking.source_tags(tmp_path) == expected
    (tmp_path / "params.yaml").write_text("a: 2\n")
    assert tracking.source_tags(tmp_path) == expected | {"git.dirty": "true"}


def test_source_tags_do_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert tracking.source_tags(tmp_path) == {}
    git(tmp_path, "init")  # no commit yet
    assert tracking.source_tags(tmp_path) == {}
    monkeypatch.setenv("PATH", str(tmp_path))  # nor the program
    (tmp_path / "dvc.lock").write_text("")
    assert list(tracking.source_tags(tmp_path)) == ["dvc.lock.sha256"]
    assert tracking.lock_digests(tmp_path) == {}


def test_lock_digests_are_those_of_the_outputs(tmp_path: Path) -> None:
    from dvc.utils.serialize import dump_yaml

    def entry(path: str, digit: str) -> dict[str, Any]:
        return {"path": path, "hash": "md5", "md5": digit * 32 + ".dir", "size": 3, "nfiles": 1}

    lock = {
        "schema": "2.0",
        "stages": {
            "raw@sample": {
                "cmd": "python stages/raw.py sample",
                "deps": [entry("data/chunks/sample", "1")],
                "params": {"params.yaml": {"raw": {"outs": [{"path": "x", "md5": "y"}]}}},
                "outs": [entry("raw/sample/videos", "2"), entry("raw/sample/index.csv", "3")],
            },
            "train": {
                "cmd": ["python a.py", "python b.py: c"],
                "deps": [entry("raw/sample/videos", "2")],
                "outs": [entry("a: model's #1", "4")],
            },
        },
    }
    dump_yaml(tmp_path / "dvc.lock", lock)
    assert yaml.safe_load((tmp_path / "dvc.lock").read_text()) == lock
    assert tracking.lock_digests(tmp_path) == {
        "data.raw/sample/videos": "2" * 32 + ".dir",
        "data.raw/sample/index.csv": "3" * 32 + ".dir",
        "data.a: model's #1": "4" * 32 + ".dir",
    }
    assert tracking.lock_digests(tmp_path / "elsewhere") == {}
