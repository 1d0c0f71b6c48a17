"""What the environment says about where runs go."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from unmask.cli import common
from unmask.cli.main import main
from unmask.errors import UnmaskError
from unmask.tracking.event_log import EventTracker
from unmask.tracking.offline_queue import read_events, waiting
from unmask.tracking.tracker import NullTracker, TrackingError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name in ("UNMASK_TRACKER", "UNMASK_REGISTER", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_a_tracker_that_nobody_knows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNMASK_TRACKER", "wandbb")
    with pytest.raises(TrackingError, match="'wandbb'; known are mlflow, wandb, none"):
        common.open_tracker(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("UNMASK_TRACKER", "none"), ("LOCAL_RANK", "1"), ("NODE_RANK", "1")]
)
def test_a_model_carries_its_key_also_where_nothing_is_kept(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    tracker = common.open_tracker(tmp_path, key="abc")
    assert isinstance(tracker, NullTracker)
    assert tracker.run_key == "abc"
    keys = {common.open_tracker(tmp_path).run_key for _ in range(5)}
    assert len(keys) == 5
    assert all(keys)
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_in_a_copy_is_kept_in_the_main_checkout(
    tmp_path: Path, mlflow_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unmask.tracking.mlflow_client import mlflow

    copy = tmp_path / ".dvc/tmp/exps/tmpabc"
    copy.mkdir(parents=True)
    outs = "".join(f"    - path: {n}\n      md5: {'0' * 32}\n" for n in ("raw/a", "model"))
    (copy / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  all:\n    outs:\n{outs}")
    monkeypatch.setenv("DVC_STAGE", "train")
    shutil.copy(mlflow_tables, tmp_path)
    monkeypatch.setenv("DVC_EXP_NAME", "brave-newt")
    with common.open_tracker(copy, key="abc") as tracker:
        assert isinstance(tracker, EventTracker)
    client = mlflow().MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    number = client.get_experiment_by_name("unmask").experiment_id
    [run] = client.search_runs([number])
    assert run.info.run_name == "brave-newt"
    assert run.data.tags["unmask.run"] == "abc"
    assert run.data.tags["data.raw/a"] == "0" * 32
    assert "data.model" not in run.data.tags
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")  # nobody listens there
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    common.open_tracker(copy, key="abc").finish(failed=False)
    [folder] = waiting(tmp_path / ".tracking")
    opening, tags, end = read_events(folder)
    assert (opening["experiment"], opening["run_name"]) == ("mine", "brave-newt")
    assert (tags["kind"], end["kind"]) == ("tags", "end")
    assert [path.name for path in copy.iterdir()] == ["dvc.lock"]


def test_unmask_log_sends_to_where_the_environment_says(
    tmp_path: Path, mlflow_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(mlflow_tables, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    common.open_tracker(tmp_path, key="abc").finish(failed=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # then where it was meant to go
    lines = common.upload_runs(tmp_path)
    assert "not sent: MLflow at http://127.0.0.1:1: " in next(lines)
    with pytest.raises(TrackingError, match="Nothing is lost"):
        next(lines)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    [line] = common.upload_runs(tmp_path)
    assert f"sent to sqlite:///{tmp_path}/mlflow.db" in line


def test_an_alias_that_no_model_can_have_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert common.registration_request() is None
    monkeypatch.setenv("UNMASK_REGISTER", "champion")
    assert common.registration_request() == "champion"
    monkeypatch.setenv("UNMASK_REGISTER", "v7")
    with pytest.raises(TrackingError, match="'v7'"):
        common.registration_request()
    with pytest.raises(TrackingError, match="'latest'"):
        common.register_model(tmp_path, tmp_path, "latest", key=None)


def test_a_wish_to_register_where_nothing_is_kept_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNMASK_TRACKER", "none")
    assert common.registration_request() is None
    monkeypatch.setenv("UNMASK_REGISTER", "champion")
    with pytest.raises(TrackingError, match="UNMASK_TRACKER is none"):
        common.registration_request()
    with pytest.raises(TrackingError, match="UNMASK_TRACKER is none"):
        common.register_model(tmp_path, tmp_path, "champion", key="k")


def test_a_password_in_a_query_is_written_nowhere(
    tmp_path: Path,
    mlflow_tables: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1/?user=ann&password=secret")
    common.open_tracker(tmp_path, key="abc").finish(failed=False)
    assert "http://127.0.0.1:1" in caplog.text
    assert "secret" not in caplog.text
    [folder] = waiting(tmp_path / ".tracking")
    assert "secret" not in (folder / "events.jsonl").read_text()
    shutil.copy(mlflow_tables, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    [line] = common.upload_runs(tmp_path)
    assert "events sent to sqlite:" in line


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, 0), ("", 0), ("0", 0), ("500MB", 500_000_000), ("40GB", 40_000_000_000),
        ("1.5 TB", 1_500_000_000_000), ("2gb", 2_000_000_000),
    ],
)  # fmt: skip
def test_the_room_for_decoded_frames_is_a_size(
    said: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNMASK_FRAME_CACHE", raising=False)
    if said is not None:
        monkeypatch.setenv("UNMASK_FRAME_CACHE", said)
    assert common.frame_cache_bytes() == expected


@pytest.mark.parametrize("said", ["40", "GB", "-1GB", "1e3GB", "40GiB", "nan GB", "all"])
def test_what_is_no_size_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_FRAME_CACHE", said)
    with pytest.raises(UnmaskError, match=f"UNMASK_FRAME_CACHE is '{said}', which is no size"):
        common.frame_cache_bytes()


def test_decoded_frames_are_told_of_and_deleted_by_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNMASK_FRAME_CACHE_DIR", "cache")
    folder, name = tmp_path / "cache", "5" * 64

    def frames(*words: str) -> str:
        done = CliRunner().invoke(main, ["frames", *words])
        assert done.exit_code == 0, done.output
        return done.output.strip()

    assert frames("--delete") == "cache: there is nothing to delete"
    assert frames() == "cache: frames of 0 crop files, 0.00 GB"
    folder.mkdir()
    (folder / f"{name}.npy").write_bytes(bytes(30_000_000))
    (folder / f".{name}.npy.{'a' * 16}.partial").write_bytes(b"half")
    (folder / "paths.json").write_text("{}")
    (folder / "notes.txt").write_text("somebody's")
    assert frames() == "cache: frames of 1 crop files, 0.03 GB"
    assert frames("--delete") == "cache: deleted frames of 1 crop files, 0.03 GB"
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    frames("--delete")
    assert not folder.exists()
