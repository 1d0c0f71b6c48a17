"""What every tracker does: the same calls, read back with each place's own means."""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from unmask.tracking import mlflow_tracker, wandb_tracker
from unmask.tracking.tracker import NullTracker, Tracker, TrackingError, checked_alias, environment

PIXEL = bytes.fromhex("89504e470d0a1a0a")


@dataclass(frozen=True)
class Kept:
    """What a place holds of a run."""

    params: dict[str, Any]
    tags: dict[str, Any]
    history: dict[str, list[tuple[int, float]]]
    metrics: dict[str, float]
    files: dict[str, bytes]
    model: dict[str, bytes]
    failed: bool


Place = tuple[Callable[[str], Tracker], Callable[[str], Kept]]


def mlflow_place(uri: str, folder: Path) -> Place:
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    client = MlflowClient(uri)

    def begin(key: str) -> Tracker:
        return mlflow_tracker.open_run(
            uri=uri, experiment="unmask", run_name=None, key=key, resume=True,
            queues=folder / "queues",
        )  # fmt: skip

    def read(key: str) -> Kept:
        number = client.get_experiment_by_name("unmask").experiment_id
        [run] = client.search_runs([number], f"tags.`unmask.run` = '{key}'")
        run_id = run.info.run_id
        back = folder / f"back-{key}"
        back.mkdir()
        files = Path(download_artifacts(f"runs:/{run_id}/", dst_path=str(back), tracking_uri=uri))
        model = {}
        for output in run.outputs.model_outputs if run.outputs else []:
            location = client.get_logged_model(output.model_id).artifact_location
            inside = back / output.model_id
            inside.mkdir()
            found = Path(download_artifacts(location, dst_path=str(inside), tracking_uri=uri))
            model = contents(found / "artifacts/model")
        assert run.info.status in {"FINISHED", "FAILED"}
        assert not (folder / "queues").exists()
        return Kept(
            params=run.data.params, tags=run.data.tags, metrics=run.data.metrics,
            history={
                name: [(p.step, p.value) for p in client.get_metric_history(run_id, name)]
                for name in run.data.metrics
            },
            files=contents(files), model=model, failed=run.info.status == "FAILED",
        )  # fmt: skip

    return begin, read


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def wandb_records(folder: Path) -> Iterator[Any]:
    """Yield what an offline run's own file holds: protocol buffers in a LevelDB log."""
    from wandb.proto.wandb_internal_pb2 import Record

    [file] = folder.glob("*.wandb")
    data, at, parts = file.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at + 7 <= len(data):
        left = 32768 - at % 32768  # of the block; a head does not cross its end
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def wandb_place(root: Path) -> Place:
    import wandb

    def begin(key: str) -> Tracker:
        return wandb_tracker.open_run(root, key=key, run_name=None)

    def read(key: str) -> Kept:
        wandb.teardown()  # as at the end of a process: the files are written by another one
        config: dict[str, Any] = {}
        summary: dict[str, Any] = {}
        history: dict[str, list[tuple[int, float]]] = {}
        files, model, failed = {}, {}, None
        for folder in sorted(root.glob(f"wandb/offline-run-*-{key}*")):
            for record in wandb_records(folder):
                kind = record.WhichOneof("record_type")
                if kind == "config":
                    config |= {i.key: json.loads(i.value_json) for i in record.config.update}
                elif kind == "summary":
                    new = {i.key: json.loads(i.value_json) for i in record.summary.update if i.key}
                    summary |= new
                elif kind == "history":
                    row = {i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
                    for name in row.keys() - {"epoch"}:
                        history.setdefault(name, []).append((row["epoch"], row[name]))
                elif kind == "files":
                    for item in record.files.files:
                        files[item.path] = (folder / "files" / item.path).read_bytes()
                elif kind == "artifact":
                    model = {
                        entry.path: Path(entry.local_path).read_bytes()
                        for entry in record.artifact.manifest.contents
                    }
                elif kind == "exit":
                    failed = record.exit.exit_code != 0
        assert failed is not None
        strings = {n: v if isinstance(v, str) else json.dumps(v) for n, v in config.items()}
        return Kept(
            params=strings,
            tags={n.removeprefix("tags."): v for n, v in strings.items() if n.startswith("tags.")},
            history=history, metrics=summary, files=files, model=model, failed=failed,
        )  # fmt: skip

    return begin, read


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.slow), "wandb"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "wandb":
        monkeypatch.setenv("WANDB_MODE", "offline")
        return wandb_place(tmp_path)
    return mlflow_place(request.getfixturevalue(f"{request.param}_uri"), tmp_path)


def some_key() -> str:
    return uuid.uuid4().hex[:16]


def test_a_run_reads_back_as_it_was_logged(place: Place, tmp_path: Path) -> None:
    begin, read = place
    key = some_key()
    (tmp_path / "roc.png").write_bytes(PIXEL)
    many = {f"p{number}": number for number in range(150)}
    with begin(key) as tracker:
        assert tracker.run_key == key
        tracker.log_params({"train": {"lr_head": 1e-3, "seed": None, "top": {"crf": [1, 2]}}})
        tracker.log_params({"flag": True, "name": "x3d_xs", "none": {}} | many)
        tracker.log_tags({"git.dirty": "true", "data.raw/sample": "abc.dir"})
        tracker.log_tags({"git.dirty": "false"})
        for epoch, loss in enumerate([0.75, 0.5]):
            tracker.log_metrics({"val_loss": loss, "lr_top": None}, step=epoch)
        tracker.log_metrics({"test.auc": 0.875})
        tracker.log_file(tmp_path / "roc.png", "plots")
    (tmp_path / "roc.png").write_bytes(b"another")  # what was logged is a copy
    kept = read(key)
    expected = {
        "train.lr_head": "0.001", "train.seed": "null", "train.top.crf": "[1, 2]", "flag": "true",
        "name": "x3d_xs", "none": "{}",
    }  # fmt: skip
    expected |= {name: str(number) for name, number in many.items()}
    assert {name: kept.params[name] for name in expected} == expected
    assert kept.tags["git.dirty"] == "false"
    assert kept.tags["data.raw/sample"] == "abc.dir"
    assert kept.history["val_loss"] == [(0, 0.75), (1, 0.5)]
    assert kept.metrics["test.auc"] == 0.875
    assert "lr_top" not in kept.metrics
    assert kept.files["plots/roc.png"] == PIXEL
    assert not kept.failed


def test_an_error_that_gets_out_fails_the_run(place: Place) -> None:
    begin, read = place
    key = some_key()
    with pytest.raises(ZeroDivisionError), begin(key):
        raise ZeroDivisionError
    assert read(key).failed


def test_a_model_is_kept_whole(place: Place, model_folder: Path) -> None:
    begin, read = place
    key = some_key()
    with begin(key) as tracker:
        tracker.log_model(model_folder)
    assert read(key).model == contents(model_folder)


def test_train_and_evaluate_report_to_one_run(place: Place) -> None:
    begin, read = place
    key = some_key()
    with begin(key) as first:
        first.log_params({"train": {"seed": 7}})
        first.log_metrics({"val_loss": 0.5}, step=3)
    with begin(key) as again:
        assert again.run_key == key
        again.log_params({"train": {"seed": 7}, "evaluate": {"seed": 2}})
        again.log_metrics({"test.auc": 0.75})
    kept = read(key)
    assert kept.params["train.seed"] == "7"
    assert kept.params["evaluate.seed"] == "2"
    assert kept.history["val_loss"] == [(3, 0.5)]
    assert kept.metrics["test.auc"] == 0.75
    assert not kept.failed


def test_nowhere_keeps_only_the_key(tmp_path: Path, model_folder: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with NullTracker("a-key") as tracker:
        tracker.log_params({"train": {"seed": 7}})
        tracker.log_metrics({"val_loss": 0.5}, step=3)
        assert tracker.log_model(model_folder) is None
        tracker.register_model(model_folder, "champion")
    assert tracker.run_key == "a-key"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("alias", ["latest", "Latest", "v7", "a b", "a/b", "", "a" * 256])
def test_an_alias_that_no_model_can_have_is_refused(alias: str) -> None:
    with pytest.raises(TrackingError, match="champion"):
        checked_alias(alias)
    assert checked_alias("champion-2_x") == "champion-2_x"


def test_variables_are_set_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_A", "before")
    with environment({"UNMASK_A": "while", "UNMASK_B": "while"}):
        assert (os.environ["UNMASK_A"], os.environ["UNMASK_B"]) == ("while", "while")
    assert os.environ["UNMASK_A"] == "before"
    assert "UNMASK_B" not in os.environ
