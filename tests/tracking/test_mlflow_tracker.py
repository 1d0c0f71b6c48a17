"""Runs are read back with MLflow's own client, from an SQLite file and from a real server."""

import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tracking.test_tracker import PIXEL, contents, some_key
from unmask.tracking import event_log, mlflow_tracker
from unmask.tracking.mlflow_client import default_uri
from unmask.tracking.mlflow_tracker import MlflowSender, open_run
from unmask.tracking.offline_queue import upload, waiting
from unmask.tracking.tracker import TrackingError, environment


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.slow)])
def uri(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_uri"))


@pytest.fixture
def own_uri(mlflow_tables: Path, tmp_path: Path) -> str:
    """A store of the test's own, to be broken."""
    return copy_store(mlflow_tables, tmp_path)


@pytest.fixture
def queues(tmp_path: Path) -> Path:
    return tmp_path / ".tracking"


def copy_store(file: Path, root: Path) -> str:
    shutil.copy(file, root / "mlflow.db")
    return default_uri({}, root)


def begin(uri: str, queues: Path, key: str, *, resume: bool = False, **others: Any) -> Any:
    settings = {"experiment": "unmask", "run_name": None} | others
    return open_run(uri=uri, key=key, resume=resume, queues=queues, **settings)


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def runs_of(uri: str, key: str) -> list[Any]:
    """Return the active runs of the key, the newest first."""
    number = client(uri).get_experiment_by_name("unmask").experiment_id
    wanted = f"tags.`unmask.run` = '{key}'"
    return list(client(uri).search_runs([number], wanted, order_by=["start_time DESC"]))


def run_of(uri: str, key: str) -> Any:
    [run] = runs_of(uri, key)
    return run


def losses(uri: str, key: str) -> list[tuple[int, float]]:
    history = client(uri).get_metric_history(run_of(uri, key).info.run_id, "val_loss")
    return sorted((point.step, point.value) for point in history)


def log_epochs(tracker: Any, *epochs: int) -> None:
    for epoch in epochs:
        tracker.log_metrics({"val_loss": epoch / 8}, step=epoch)


def logged_models(uri: str, run: Any) -> list[Any]:
    wanted = f"source_run_id = '{run.info.run_id}'"
    return list(client(uri).search_logged_models([run.info.experiment_id], wanted))


def download(uri: str, artifact_uri: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    folder.mkdir()
    with environment({"MLFLOW_TRACKING_URI": uri}):  # which is where it looks for aliases too
        return Path(download_artifacts(artifact_uri, dst_path=str(folder)))


# ---------------------------------------------------------------- what MLflow shows


def test_names_and_values_that_mlflow_refuses_are_mended(uri: str, queues: Path) -> None:
    key = some_key()
    with begin(uri, queues, key) as tracker:
        tracker.log_params({"long": "a" * 7000})
        tracker.log_metrics({"test.methods.swap (c23)": 1.0, "nan": float("nan")})
    run = run_of(uri, key)
    assert run.data.params["long"] == "a" * 5999 + "…"
    assert run.data.metrics["test.methods.swap _c23_"] == 1.0
    assert not queues.exists()
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time


def test_a_model_is_kept_with_its_signature_and_no_pickle(
    uri: str, queues: Path, tmp_path: Path, model_folder: Path
) -> None:
    key = some_key()
    with begin(uri, queues, key) as tracker:
        tracker.log_params({"train": {"seed": 7}})
        model_uri = tracker.log_model(model_folder)
        assert tracker.log_model(model_folder) == model_uri  # the same content, once
    run = run_of(uri, key)
    logged = client(uri).get_logged_model(model_uri.removeprefix("models:/"))
    assert logged.status == "READY"
    assert logged.source_run_id == run.info.run_id
    assert logged.params == {"train.seed": "7"}
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]
    assert [model.model_id for model in logged_models(uri, run)] == [logged.model_id]

    folder = download(uri, logged.artifact_location, tmp_path / "back")
    described = yaml.safe_load((folder / "MLmodel").read_text())
    columns = {name: json.loads(described["signature"][name]) for name in ("inputs", "outputs")}
    assert columns == {
        "inputs": [{"type": "string", "name": "path", "required": True}],
        "outputs": [
            {"type": "string", "name": "path", "required": True},
            {"type": "double", "name": "probability", "required": False},
            {"type": "string", "name": "verdict", "required": True},
            {"type": "string", "name": "doubts", "required": True},
            {"type": "string", "name": "reason", "required": False},
        ],
    }
    assert described["run_id"] == run.info.run_id
    assert described["model_id"] == logged.model_id
    inside = folder / described["flavors"]["python_function"]["artifacts"]["model"]["path"]
    assert {p.name: p.read_bytes() for p in inside.iterdir()} == {
        p.name: p.read_bytes() for p in model_folder.iterdir()
    }
    script = folder / "pyfunc.py"
    assert script.read_bytes() == mlflow_tracker.MODEL_SCRIPT.read_bytes()
    assert "unmask==" in (folder / "requirements.txt").read_text()
    assert not [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle"}]


# ---------------------------------------------------------------- opening a run again


def test_params_that_changed_become_tags(
    uri: str, queues: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unmask")
    key = some_key()
    with begin(uri, queues, key) as first:
        first.log_params({"train": {"seed": 7}, "evaluate": {"seed": 1}})
    with begin(uri, queues, key, resume=True) as again:
        assert run_of(uri, key).info.status == "RUNNING"
        again.log_params({"train": {"seed": 7}, "evaluate": {"seed": 2, "new": 3}})
    run = run_of(uri, key)
    with begin(uri, queues, key, resume=True) as back:
        back.log_params({"evaluate": {"seed": 1}})
    assert "changed.evaluate.seed" not in run_of(uri, key).data.tags
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.seed": "7", "evaluate.seed": "1", "evaluate.new": "3"}
    assert run.data.tags["changed.evaluate.seed"] == "2"
    assert "keeps evaluate.seed = 1" in caplog.text


def test_training_anew_begins_a_new_run_and_evaluation_takes_the_newest(
    uri: str, queues: Path
) -> None:
    key = some_key()
    for loss in (0.5, 0.25):
        with begin(uri, queues, key) as training:
            training.log_metrics({"val_loss": loss}, step=0)
        time.sleep(0.01)  # MLflow orders by milliseconds
    with begin(uri, queues, key, resume=True) as evaluation:
        evaluation.log_metrics({"test.auc": 0.75})
    newest, oldest = runs_of(uri, key)
    assert newest.data.metrics == {"val_loss": 0.25, "test.auc": 0.75}
    assert oldest.data.metrics == {"val_loss": 0.5}


def test_a_run_that_was_killed_ends_when_its_training_begins_anew(uri: str, queues: Path) -> None:
    key = some_key()
    begin(uri, queues, key)  # and no end
    time.sleep(0.01)
    with begin(uri, queues, key):
        newest, oldest = runs_of(uri, key)
        assert (newest.info.status, oldest.info.status) == ("RUNNING", "KILLED")
    assert oldest.info.end_time >= oldest.info.start_time


def test_only_an_evaluated_model_is_registered_and_its_run_stays_failed(
    uri: str, queues: Path, model_folder: Path
) -> None:
    key, alias = some_key(), f"a-{some_key()}"
    with pytest.raises(TrackingError, match=f"for the run {key}; it has none"):
        begin(uri, queues, key, resume=True, adds_only=True)
    begin(uri, queues, key).finish(failed=True)
    with (
        pytest.raises(TrackingError, match=r"no test metrics. Evaluate it first"),
        begin(uri, queues, key, resume=True, adds_only=True) as tracker,
    ):
        tracker.register_model(model_folder, alias)
    assert logged_models(uri, run_of(uri, key)) == []
    client(uri).log_metric(run_of(uri, key).info.run_id, "test.video.roc_auc.value", 0.875)
    with begin(uri, queues, key, resume=True, adds_only=True) as tracker:
        tracker.register_model(model_folder, alias)
    run = run_of(uri, key)
    assert client(uri).get_model_version_by_alias("unmask", alias).run_id == run.info.run_id
    assert run.info.status == "FAILED"
    assert not queues.exists()


def test_a_run_that_was_deleted_or_never_was_becomes_a_new_one(
    uri: str, queues: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unmask")
    key = some_key()
    begin(uri, queues, key, resume=True).finish(failed=False)
    assert f"MLflow has no run {key}: a new one begins" in caplog.text
    gone = run_of(uri, key).info.run_id
    client(uri).delete_run(gone)
    begin(uri, queues, key, resume=True).finish(failed=False)
    assert run_of(uri, key).info.run_id != gone


# ---------------------------------------------------------------- where runs can't be opened


def refusal(uri: str, queues: Path, **arguments: Any) -> str:
    """Return the error's message, after checking that it was quick and left nothing behind."""
    import mlflow  # noqa: F401  # its import is not part of the answer

    before, start_s = dict(os.environ), time.monotonic()
    with pytest.raises(TrackingError) as caught:
        begin(uri, queues, "k", **arguments)
    assert time.monotonic() - start_s < 30
    assert dict(os.environ) == before
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert not queues.exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gopher://ann:secret@host", "gopher://host"),
        ("http://ann:se/secret@127.0.0.1:1", "http://127.0.0.1:1"),
        ("mlruns", "mlruns"),
    ],
)
def test_what_is_no_store_is_one_error(uri: str, said: str, queues: Path) -> None:
    message = refusal(uri, queues)
    assert f"Asked MLflow at {said} for a run" in message
    assert "unset MLFLOW_TRACKING_URI" in message
    assert "UNMASK_TRACKER=none" in message


def test_a_file_that_is_no_database_is_one_error(tmp_path: Path, queues: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database " * 100)
    message = refusal(default_uri({}, tmp_path), queues)
    assert "file is not a database" in message
    assert "Mend or move that file" in message


def test_a_deleted_experiment_says_how_to_bring_it_back(own_uri: str, queues: Path) -> None:
    begin(own_uri, queues, "k").finish(failed=False)
    number = client(own_uri).get_experiment_by_name("unmask").experiment_id
    client(own_uri).delete_experiment(number)
    assert f"`mlflow experiments restore -x {number}`" in refusal(own_uri, queues)


def test_an_experiment_whose_files_a_server_keeps_is_refused(own_uri: str, queues: Path) -> None:
    client(own_uri).create_experiment("unmask", artifact_location="mlflow-artifacts:/1")
    assert "made through a server" in refusal(own_uri, queues)
    assert "made through a server" in refusal(own_uri, queues, resume=True)


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_copied_project_has_its_files_to_itself(
    mlflow_tables: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As `cp -r` of a checkout makes it: database, files and all, in a folder with odd letters."""
    first, second = tmp_path / "the first 100%", tmp_path / "the second é"
    first.mkdir()
    uri = copy_store(mlflow_tables, first)
    (tmp_path / "old.txt").write_text("of the first")
    (tmp_path / "new.txt").write_text("of the second")
    with begin(uri, first / ".tracking", "k") as tracker:
        tracker.log_file(tmp_path / "old.txt", "plots")
    shutil.copytree(first, second)
    before = files_below(first)
    caplog.set_level("INFO")
    copied = default_uri({}, second)
    with begin(copied, second / ".tracking", "k2") as tracker:
        tracker.log_file(tmp_path / "new.txt", "plots")
    assert sum("was copied or moved" in message for message in caplog.messages) == 1
    assert files_below(first) == before
    assert files_below(second / "mlartifacts") == ["new.txt", "old.txt"]
    # What the first project had logged is found in the copy, also once the first is gone.
    shutil.rmtree(first)
    runs = client(copied).search_runs(["1"], order_by=["attributes.start_time"])
    logged = [client(copied).list_artifacts(run.info.run_id, "plots")[0].path for run in runs]
    assert logged == ["plots/old.txt", "plots/new.txt"]
    caplog.clear()
    begin(copied, second / ".tracking", "k3").finish(failed=False)
    assert not any("was copied" in message for message in caplog.messages)


def test_a_project_behind_a_link_was_not_copied(
    mlflow_tables: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    uri = copy_store(mlflow_tables, tmp_path / "real")
    begin(uri, tmp_path / ".tracking", "k").finish(failed=False)
    begin(default_uri({}, tmp_path / "link"), tmp_path / ".tracking", "k").finish(failed=False)
    assert caplog.messages == []


def test_files_that_somebody_put_elsewhere_stay_there(
    own_uri: str, tmp_path: Path, queues: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = (tmp_path.parent / f"{tmp_path.name}_large_disk").as_uri()
    client(own_uri).create_experiment("unmask", artifact_location=place)
    begin(own_uri, queues, "k").finish(failed=False)
    (warning,) = caplog.messages
    assert warning.endswith(f"files still go to {place}")
    assert client(own_uri).get_experiment_by_name("unmask").artifact_location == place


# ---------------------------------------------------------------- what breaks later


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_a_server_that_is_down_costs_little_and_tells_no_password(
    queues: Path,
    model_folder: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    address = closed_port()
    import mlflow  # noqa: F401  # its import takes longer

    start_s = time.monotonic()
    with begin(f"http://ann:secret@{address}", queues, "k") as tracker:
        log_epochs(tracker, *range(20))
        tracker.log_model(model_folder)
    assert time.monotonic() - start_s < 30  # its own retries take minutes
    (warning,) = caplog.messages
    assert warning.startswith(f"Run k: MLflow at http://{address}: ")
    assert "refused" in warning
    assert "`unmask log`" in warning
    assert "secret" not in caplog.text
    assert capfd.readouterr() == ("", "")
    written = [path.read_bytes() for path in queues.rglob("*") if path.is_file()]
    assert written
    assert not any(b"secret" in content for content in written)


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up_after_seconds(queues: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start_s = time.monotonic()
        tracker = begin(f"http://127.0.0.1:{silent.getsockname()[1]}", queues, "k")
        assert time.monotonic() - start_s < 30
        log_epochs(tracker, *range(20))
        assert time.monotonic() - start_s < 30
    tracker.finish(failed=False)
    assert len(waiting(queues)) == 1


def test_a_store_that_breaks_and_is_mended_loses_nothing(
    own_uri: str, tmp_path: Path, queues: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with begin(own_uri, queues, "k") as tracker:
        database = sqlite3.connect(tmp_path / "mlflow.db")
        database.execute("ALTER TABLE metrics RENAME TO elsewhere")
        log_epochs(tracker, 0, 1)
        tracker.log_tags({"late": "yes"})
    (warning,) = caplog.messages
    assert "no such table: metrics" in warning
    database.execute("ALTER TABLE elsewhere RENAME TO metrics")
    database.close()
    [line] = upload(queues, lambda _: MlflowSender(own_uri))
    run = run_of(own_uri, "k")
    assert line.endswith(f"4 events sent to {own_uri}, run {run.info.run_id}")
    assert losses(own_uri, "k") == [(0, 0.0), (1, 0.125)]
    assert run.data.tags["late"] == "yes"
    assert run.info.status == "FINISHED"
    assert waiting(queues) == []


def test_a_model_whose_upload_broke_off_is_one_model_in_the_end(
    own_uri: str, tmp_path: Path, queues: Path, model_folder: Path
) -> None:
    (tmp_path / "mlartifacts").write_text("in the way of the folder")
    tracker = begin(own_uri, queues, "k")
    assert tracker.log_model(model_folder) is None
    [broken] = logged_models(own_uri, run_of(own_uri, "k"))
    assert broken.status == "PENDING"
    tracker.log_file(model_folder / "MODEL_CARD.md")
    log_epochs(tracker, 0, 1)
    tracker.finish(failed=False)
    # The files are refused; that holds nothing back.
    assert losses(own_uri, "k") == [(0, 0.0), (1, 0.125)]
    assert run_of(own_uri, "k").info.status == "FINISHED"
    (tmp_path / "mlartifacts").unlink()
    list(upload(queues, lambda _: MlflowSender(own_uri)))
    assert waiting(queues) == []
    assert run_of(own_uri, "k").info.status == "FINISHED"
    [whole] = logged_models(own_uri, run_of(own_uri, "k"))
    assert (whole.model_id, whole.status) == (broken.model_id, "READY")
    kept = download(own_uri, f"models:/{whole.model_id}", tmp_path / "back")
    assert contents(kept / "artifacts/model") == contents(model_folder)


def test_sending_all_of_it_twice_keeps_it_once(
    own_uri: str, tmp_path: Path, queues: Path, model_folder: Path
) -> None:
    with begin(f"http://{closed_port()}", queues, "k", resume=True) as tracker:
        tracker.log_params({"seed": 7})
        log_epochs(tracker, 0, 1)
        tracker.log_metrics({"test.video.roc_auc.value": 0.875})
        tracker.log_file(model_folder / "MODEL_CARD.md")
        tracker.register_model(model_folder, "champion")
    shutil.copytree(queues, tmp_path / "copy")
    for folder in (queues, tmp_path / "copy"):
        list(upload(folder, lambda _: MlflowSender(own_uri)))
        assert waiting(folder) == []
        run = run_of(own_uri, "k")
        assert losses(own_uri, "k") == [(0, 0.0), (1, 0.125)]
        assert run.data.params == {"seed": "7"}
        [model] = logged_models(own_uri, run)
        [version] = client(own_uri).search_model_versions("name = 'unmask'")
        assert version.source == f"models:/{model.model_id}"
        assert version.run_id == run.info.run_id
        assert version.tags == {"test.video.roc_auc.value": "0.875"}
        by_alias = client(own_uri).get_model_version_by_alias("unmask", "champion")
        assert by_alias.version == version.version


def test_an_alias_moves_to_the_model_that_asks_for_it_last(
    uri: str, queues: Path, tmp_path: Path, model_folder: Path
) -> None:
    first, second = some_key(), some_key()
    alias = f"a-{first}"
    for key in (first, second):
        (model_folder / "MODEL_CARD.md").write_text(key)
        with begin(uri, queues, key) as tracker:
            tracker.log_model(model_folder)
            tracker.log_metrics({"test.video.log_loss.value": 0.25, "test.video.count.low": 1.0})
            tracker.register_model(model_folder, alias)
    version = client(uri).get_model_version_by_alias("unmask", alias)
    assert version.run_id == run_of(uri, second).info.run_id
    assert version.tags == {"test.video.log_loss.value": "0.25"}
    kept = download(uri, f"models:/unmask@{alias}", tmp_path / "back")
    assert (kept / "artifacts/model/MODEL_CARD.md").read_text() == second


@pytest.mark.slow
def test_a_password_in_the_uri_is_never_shown(
    server_uri: str,
    queues: Path,
    model_folder: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    key = some_key()
    with begin(server_uri.replace("//", "//ann:secret@"), queues, key) as tracker:
        log_epochs(tracker, 0)
        tracker.log_metrics({"test.video.roc_auc.value": 0.875})
        tracker.log_file(model_folder / "MODEL_CARD.md")
        tracker.register_model(model_folder, "champion")
    assert run_of(server_uri, key).info.status == "FINISHED"
    assert server_uri in caplog.text
    out, err = capfd.readouterr()
    assert out == ""
    assert "secret" not in caplog.text + err


# ---------------------------------------------------------------- a server that comes and goes


SCRIPT = """
import sys, time
from pathlib import Path
from unmask.cli import common as doors
with doors.open_tracker(Path.cwd(), key=sys.argv[1]) as tracker:
    tracker.log_params({"key": sys.argv[1]})
    for epoch in range(int(sys.argv[2])):
        tracker.log_metrics({"val_loss": epoch / 8}, step=epoch)
        print(epoch, flush=True)
        time.sleep(0.02)
"""


def start(root: Path, key: str, epochs: int, **variables: str) -> subprocess.Popen[str]:
    """Start a process that logs a run as a stage does."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("MLFLOW", "UNMASK"))}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, key, str(epochs)], cwd=root, env=kept | variables,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def unmask_log(root: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Return the exit code and the words of `unmask log`."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("MLFLOW", "UNMASK"))}
    done = subprocess.run(
        [sys.executable, "-m", "unmask", "log", *arguments], cwd=root, env=kept | variables,
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_what_a_server_missed_is_uploaded_by_unmask_log(
    own_server: Any, tmp_path: Path, queues: Path, model_folder: Path
) -> None:
    with begin(own_server.uri, queues, "whole") as training:
        training.log_params({"seed": 7})
        log_epochs(training, 0, 1)
        training.log_model(model_folder)
    with begin(own_server.uri, queues, "whole", resume=True) as evaluation:
        evaluation.log_metrics({"test.video.roc_auc.value": 0.875})
        evaluation.log_file(model_folder / "MODEL_CARD.md")
        evaluation.register_model(model_folder, "champion")
    with start(tmp_path, "killed", 10**6, MLFLOW_TRACKING_URI=own_server.uri) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "50":
            pass
        process.send_signal(signal.SIGKILL)
        logged = 51 + sum(1 for line in process.stdout.readlines() if line.endswith("\n"))

    code, words = unmask_log(tmp_path)
    assert code == 1
    assert words.splitlines()[-1].startswith("Error: Asked to send what waits in ")
    assert "Nothing is lost" in words
    assert len(waiting(queues)) == 3

    own_server.start()
    code, words = unmask_log(tmp_path)
    assert code == 0, words
    assert waiting(queues) == []
    run = run_of(own_server.uri, "whole")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "7"}
    assert losses(own_server.uri, "whole") == [(0, 0.0), (1, 0.125)]
    kept = download(own_server.uri, "models:/unmask@champion", tmp_path / "back")
    assert contents(kept / "artifacts/model") == contents(model_folder)
    assert run_of(own_server.uri, "killed").info.status == "KILLED"
    arrived = losses(own_server.uri, "killed")
    assert arrived == [(epoch, epoch / 8) for epoch in range(len(arrived))]
    assert len(arrived) in {logged, logged + 1}  # killed between writing and saying so


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_has_all_of_it(
    own_server: Any, queues: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_server.start()
    tracker = begin(own_server.uri, queues, "k")
    log_epochs(tracker, 0)
    own_server.kill()
    start_s = time.monotonic()
    log_epochs(tracker, *range(1, 20))
    tracker.log_file(model_folder / "MODEL_CARD.md")
    tracker.log_model(model_folder)
    assert time.monotonic() - start_s < 30  # its own retries take minutes
    assert len(waiting(queues)) == 1
    own_server.start()
    monkeypatch.setattr(event_log, "PAUSE_S", 0.0)
    tracker._next_try_s = 0.0  # the pause is over
    log_epochs(tracker, 20)
    assert waiting(queues) == []
    log_epochs(tracker, 21)
    tracker.finish(failed=False)
    run = run_of(own_server.uri, "k")
    assert run.info.status == "FINISHED"
    assert losses(own_server.uri, "k") == [(epoch, epoch / 8) for epoch in range(22)]
    assert [model.status for model in logged_models(own_server.uri, run)] == ["READY"]
    assert waiting(queues) == []


@pytest.mark.slow
@pytest.mark.parametrize("where", ["server", "a file that is not there yet"])
def test_parallel_runs_do_not_disturb_each_other(
    where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    at = {}
    if where == "server":
        at["MLFLOW_TRACKING_URI"] = str(request.getfixturevalue("server_uri"))
    keys = [some_key() for _ in range(2)]
    processes = [start(tmp_path, key, 12, **at) for key in keys]
    for process in processes:
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        assert "The work goes on" not in err
    for key in keys:
        uri = default_uri(at, tmp_path)
        assert losses(uri, key) == [(epoch, epoch / 8) for epoch in range(12)]
        run = run_of(uri, key)
        assert (run.data.params, run.info.status) == ({"key": key}, "FINISHED")
    assert not (tmp_path / ".tracking").exists()


# ---------------------------------------------------------------- beside plain `mlflow ui`


def test_plain_mlflow_finds_the_store_and_its_files_in_the_root(
    own_uri: str, tmp_path: Path, tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    Path("roc.png").write_bytes(PIXEL)
    with begin(own_uri, tmp_path / ".tracking", "k") as tracker:
        tracker.log_file(Path("roc.png"), "plots")
    run_id = run_of(own_uri, "k").info.run_id
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlartifacts"}
    [picture] = tmp_path.glob("mlartifacts/**/*.png")
    assert picture.parts[-4:] == (run_id, "artifacts", "plots", "roc.png")
    monkeypatch.chdir(tmp_path)
    assert client(mlflow.get_tracking_uri()).get_run(run_id) is not None


# ---------------------------------------------------------------- a proxy that takes no large files


class SmallProxy(BaseHTTPRequestHandler):
    """Hands everything on but files, as nginx with its 1 MB does."""

    behind, small = "", True

    def do_PUT(self) -> None:
        if not self.small:
            self.do_GET()
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(413, b"<html>413 Request Entity Too Large</html>")

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        asked = urllib.request.Request(
            self.behind + self.path, body or None, kept, method=self.command
        )
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                self.answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read())

    do_POST = do_PATCH = do_DELETE = do_GET

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.slow
def test_a_file_that_a_proxy_refuses_holds_nothing_back(
    server_uri: str,
    queues: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(SmallProxy, "behind", server_uri)
    key = some_key()
    with ThreadingHTTPServer(("127.0.0.1", 0), SmallProxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        with begin(f"http://127.0.0.1:{proxy.server_port}", queues, key) as tracker:
            log_epochs(tracker, 0)
            tracker.log_file(model_folder / "weights.safetensors")
            assert tracker.log_model(model_folder) is None
            log_epochs(tracker, 1)
            tracker.log_tags({"late": "yes"})
            assert losses(server_uri, key) == [(0, 0.0), (1, 0.125)]
        run = run_of(server_uri, key)
        assert len(waiting(queues)) == 1
        assert [model.status for model in logged_models(server_uri, run)] == ["PENDING"]
        monkeypatch.setattr(SmallProxy, "small", False)
        list(upload(queues, MlflowSender))
        proxy.shutdown()
    assert (run.info.status, run.data.tags["late"]) == ("FINISHED", "yes")
    assert len(caplog.messages) == 2
    assert all("413" in message and "refuses it" in message for message in caplog.messages)
    assert waiting(queues) == []
    assert [model.status for model in logged_models(server_uri, run)] == ["READY"]
    assert run_of(server_uri, key).info.status == "FINISHED"


def test_a_run_is_nested_in_the_newest_one_of_its_parent(sqlite_uri: str, queues: Path) -> None:
    parent, child = some_key(), some_key()
    for _ in range(2):
        begin(sqlite_uri, queues, parent).finish(failed=False)
    for _ in range(2):  # again after a param changed: it stays one run
        with begin(sqlite_uri, queues, child, resume=True, parent=parent) as tracker:
            tracker.log_metrics({"video.roc_auc.value": 0.75})
    newest = runs_of(sqlite_uri, parent)[0].info.run_id
    assert run_of(sqlite_uri, child).data.tags["mlflow.parentRunId"] == newest


def test_a_run_whose_parent_is_not_there_stands_by_itself(sqlite_uri: str, queues: Path) -> None:
    child = some_key()
    begin(sqlite_uri, queues, child, parent=some_key()).finish(failed=False)
    assert "mlflow.parentRunId" not in run_of(sqlite_uri, child).data.tags


def test_a_folder_of_any_name_is_kept_as_the_model(
    uri: str, queues: Path, tmp_path: Path, model_folder: Path
) -> None:
    """predict --model models:/... and the pyfunc ask for `model`."""
    ours = tmp_path / "ours"
    shutil.copytree(model_folder, ours)
    with begin(uri, queues, some_key()) as tracker:
        model_uri = tracker.log_model(ours)
    model_id = model_uri.removeprefix("models:/")
    kept = client(uri).list_logged_model_artifacts(model_id, "artifacts")
    assert [artifact.path for artifact in kept] == ["artifacts/model"]
