"""Runs in MLflow: events become a run's params, metrics, files and models."""

import json
import logging
import re
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from unmask.runtime.code import PACKAGE
from unmask.runtime.digests import mlflow_digest
from unmask.tracking import event_log
from unmask.tracking.event_log import EventTracker
from unmask.tracking.mlflow_client import (
    ANSWER_S,
    UPLOAD_S,
    delivering,
    in_short,
    init_lock,
    mlflow,
    passes,
    refusals,
    shortened,
    shown,
    sqlite_file,
    timeouts,
)
from unmask.tracking.offline_queue import DeliveryError, Event
from unmask.tracking.tracker import TrackingError, environment

logger = logging.getLogger(__name__)

# MLflow's limits (mlflow/utils/validation.py, 3.17): it refuses longer names and larger batches.
MAX_NAME, MAX_PARAM, MAX_TAG, MAX_BATCH = 250, 6000, 8000, 100

# The folder beside an SQLite store that holds its pictures and models. `mlflow ui` started there
# puts what it is sent into the same one.
ARTIFACTS = "mlartifacts"

MODEL_NAME = "unmask"
MODEL_SCRIPT = PACKAGE / "answers/pyfunc.py"

# Where an SQLite store names folders of files, absolutely.
_LOCATIONS = (
    ("experiments", "artifact_location"), ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"), ("model_versions", "source"),
    ("model_versions", "storage_location"),
)  # fmt: skip

# Tags of ours: a run's key, the opening that made the run, the content of a logged model, and
# before a param's name the value that it has by now.
KEY, OPENED, CONTENT, CHANGED = "unmask.run", "unmask.opened", "unmask.sha256", "changed."
PARENT = "mlflow.parentRunId"  # MLflow's own: mlflow.utils.mlflow_tags.MLFLOW_PARENT_RUN_ID

# What a registered model shows of its run.
TEST_METRICS = "test.video."


def open_run(
    *,
    uri: str,
    experiment: str,
    run_name: str | None,
    key: str,
    resume: bool,
    queues: Path,
    adds_only: bool = False,
    parent: str | None = None,
) -> EventTracker:
    """Return a new run with our key; with resume the newest one that has it, running again.

    With adds_only it keeps the status it has, and must be there. With parent it is nested in the
    newest run of that key, if there is one.

    Raises:
        TrackingError: it can never be written there, as things are: a server's refusal, a
            damaged file, a deleted experiment, or one whose files only a server can write. A
            server that does not answer is no error: what it misses waits in queues.
    """
    sender = MlflowSender(uri)
    return event_log.begin(
        sender, queues, key=key, resume=resume, experiment=experiment, run_name=run_name,
        adds_only=adds_only, parent=parent,
    )  # fmt: skip


class MlflowSender:
    """The way to one MLflow server or database; nothing is asked of it before begin."""

    def __init__(self, uri: str) -> None:
        self.place = shown(uri)
        self._uri = uri
        self._client: Any = None
        self._run: Any = None
        self._params: dict[str, str] = {}
        self._changed: set[str] = set()  # params that have a tag with a later value

    def begin(self, opening: Event) -> str:
        """Find the opening's run, or with resume its key's newest one, or make it."""
        uri = self._uri
        try:
            with timeouts(uri, ANSWER_S), init_lock(uri):
                self._client = mlflow().MlflowClient(uri)
                run = self._known_run(opening["run"]) or self._run_in_experiment(opening)
                if parent := opening.get("parent"):  # queues of an earlier version have no word
                    self._nest(run, parent)
                if run.info.status != "RUNNING" and not opening.get("adds_only"):
                    self._client.update_run(run.info.run_id, status="RUNNING")
        except refusals(uri) as error:
            # From None: what MLflow raises may hold the URI with its password.
            if passes(error, uri):
                raise DeliveryError(f"MLflow at {shown(uri)}: {in_short(error, uri)}") from None
            mend = "Mend or move that file" if sqlite_file(uri) else "Mend its address or password"
            raise TrackingError(
                f"Asked MLflow at {shown(uri)} for a run; found: {in_short(error, uri)}. {mend}, "
                "or unset MLFLOW_TRACKING_URI to use mlflow.db here, or set UNMASK_TRACKER=none."
            ) from None
        logger.info("MLflow run %s (%s) in %s", run.info.run_name, run.info.run_id, shown(uri))
        self._run, self._params = run, dict(run.data.params)
        self._changed = {
            tag.removeprefix(CHANGED) for tag in run.data.tags if tag.startswith(CHANGED)
        }
        return str(run.info.run_id)

    def _known_run(self, run_id: str | None) -> Any:
        if run_id is None:
            return None
        try:
            run = self._client.get_run(run_id)
        except mlflow().exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def _run_in_experiment(self, opening: Event) -> Any:
        experiment_id = _experiment_id(self._client, opening["experiment"], self._uri)
        wanted = {OPENED: opening["opened"]}  # it may be there, though we heard no answer
        if opening["resume"]:
            wanted[KEY] = opening["key"]
        for tag, value in wanted.items():
            found = self._client.search_runs(
                [experiment_id], f"tags.`{tag}` = '{value}'", max_results=1,
                order_by=["attributes.start_time DESC"],
            )  # fmt: skip
            if found:
                return found[0]
        if opening.get("adds_only"):
            raise TrackingError(
                f"Asked MLflow at {self.place} for the run {opening['key']}; it has none in "
                f"{opening['experiment']}. Set MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME to "
                "where it is, or train and evaluate that model first."
            )
        if opening["resume"]:
            logger.info("MLflow has no run %s: a new one begins", opening["key"])
        else:
            self._end_a_killed_one(experiment_id, opening)
        return self._client.create_run(
            experiment_id, start_time=opening["time_ms"], run_name=opening["run_name"],
            tags={KEY: opening["key"], OPENED: opening["opened"]},
        )  # fmt: skip

    def _nest(self, run: Any, parent: str) -> None:
        """Show a run below the newest one with the parent's key, where there is one."""
        above = self._client.search_runs(
            [run.info.experiment_id], f"tags.`{KEY}` = '{parent}'", max_results=1,
            order_by=["attributes.start_time DESC"],
        )  # fmt: skip
        for one in above:
            if run.data.tags.get(PARENT) != one.info.run_id:
                self._client.set_tag(run.info.run_id, PARENT, one.info.run_id)

    def _end_a_killed_one(self, experiment_id: str, opening: Event) -> None:
        """End the key's newest run if it still runs: its process can't have ended it."""
        newest = self._client.search_runs(
            [experiment_id], f"tags.`{KEY}` = '{opening['key']}'", max_results=1,
            order_by=["attributes.start_time DESC"],
        )  # fmt: skip
        for run in newest:
            if run.info.status == "RUNNING" and run.info.start_time <= opening["time_ms"]:
                logger.info("MLflow run %s was killed: another one begins", run.info.run_id)
                self._client.set_terminated(run.info.run_id, "KILLED", opening["time_ms"])

    def send(self, event: Event, path: Path | None) -> str | None:
        """Deliver one event; return a logged model's models: URI."""
        kind, run_id = event["kind"], self._run.info.run_id
        if path is not None:
            # An upload may take its time, but not where nobody answers.
            with delivering(str(path), self._uri):
                self._client.get_run(run_id)
        with delivering(kind if path is None else path.name, self._uri,
                        patience_s=ANSWER_S if path is None else UPLOAD_S):  # fmt: skip
            if kind == "params":
                self._send_params(event["values"])
            elif kind == "tags":
                self._send_tags(event["values"])
            elif kind == "metrics":
                metric, at = mlflow().entities.Metric, (event["time_ms"], event["step"])
                values = event["values"].items()
                self._send_batches("metrics", [metric(_name(n), v, *at) for n, v in values])
            elif kind == "file":
                self._client.log_artifact(run_id, str(path), event["folder"])
            elif kind == "model":
                assert path is not None
                return f"models:/{self._log_model(path)}"
            elif kind == "register":
                assert path is not None
                self._register(path, event["alias"])
            else:
                assert kind == "end", f"an event of kind {kind}"
                self._client.set_terminated(run_id, event["status"], event["time_ms"])
        return None

    def _send_params(self, values: Mapping[str, object]) -> None:
        # MLflow never changes a param: the value of a run that was opened again becomes a tag.
        given = {_name(name): _text(value, MAX_PARAM) for name, value in values.items()}
        changed = {n: v for n, v in given.items() if self._params.get(n, v) != v}
        for name, value in changed.items():
            logger.info(
                "MLflow run %s keeps %s = %s, which it began with; now %s is its tag %s%s",
                self._run.info.run_id, name, self._params[name], value, CHANGED, name,
            )  # fmt: skip
        self._send_tags({f"{CHANGED}{name}": value for name, value in changed.items()})
        for name in sorted(self._changed & given.keys() - changed.keys()):
            self._client.delete_tag(self._run.info.run_id, _name(f"{CHANGED}{name}"))
            self._changed.remove(name)
        self._changed |= changed.keys()
        new = {name: value for name, value in given.items() if name not in self._params}
        self._send_batches("params", [mlflow().entities.Param(*item) for item in new.items()])
        self._params |= new

    def _send_tags(self, values: Mapping[str, object]) -> None:
        tag = mlflow().entities.RunTag
        tags = [tag(_name(name), _text(value, MAX_TAG)) for name, value in values.items()]
        self._send_batches("tags", tags)

    def _send_batches(self, kind: str, entities: Sequence[Any]) -> None:
        for start in range(0, len(entities), MAX_BATCH):
            batch = {kind: entities[start : start + MAX_BATCH]}
            self._client.log_batch(self._run.info.run_id, **batch)

    def _log_model(self, model_dir: Path) -> str:
        """Return the id of the run's logged model of this content, made where it is not there."""
        # What mlflow.pyfunc.log_model does, less its global run and global tracking URI.
        run, content = self._run.info, mlflow_digest(model_dir)
        logged = next(
            (model for model in self._client.search_logged_models(
                [run.experiment_id], f"source_run_id = '{run.run_id}'"
            ) if model.tags.get(CONTENT) == content), None,
        )  # fmt: skip
        if logged is None:
            logged = self._client.create_logged_model(
                run.experiment_id, MODEL_NAME, source_run_id=run.run_id, params=self._params,
                tags={CONTENT: content},
            )  # fmt: skip
        if logged.status != "READY":  # new, or its upload was cut off
            with tempfile.TemporaryDirectory(prefix="unmask-") as folder:
                # MLflow keeps a folder by its own name, whatever the artifact's, and follows no
                # link; whoever fetches it asks for `model`.
                named = model_dir.resolve()
                if named.name != "model":
                    named = Path(shutil.copytree(named, Path(folder, "named", "model")))
                saved = Path(folder, "model")
                _save_pyfunc(named, saved, logged, run.run_id)
                self._client.log_model_artifacts(logged.model_id, str(saved))
            output = mlflow().entities.LoggedModelOutput(logged.model_id, step=0)
            self._client.log_outputs(run.run_id, [output])
            self._client.finalize_logged_model(logged.model_id, "READY")
        return str(logged.model_id)

    def _register(self, model_dir: Path, alias: str) -> None:
        """Point the alias at the model's version, which carries the run's test metrics."""
        client, run_id = self._client, self._run.info.run_id
        metrics = {
            name: value for name, value in client.get_run(run_id).data.metrics.items()
            if name.startswith(TEST_METRICS) and name.endswith(".value")
        }  # fmt: skip
        if not metrics:
            raise TrackingError(
                f"Asked to register {model_dir} as {alias}; its run {run_id} in MLflow at "
                f"{self.place} has no test metrics. Evaluate it first: `dvc repro evaluate`, then "
                f"`unmask log --register {alias}`."
            )
        model_id = self._log_model(model_dir)
        try:
            client.create_registered_model(MODEL_NAME)
        except mlflow().exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        known = client.search_model_versions(f"name = '{MODEL_NAME}' and run_id = '{run_id}'")
        one = next((each for each in known if each.source == f"models:/{model_id}"), None)
        if one is None:
            # A database's registry looks for the model where the environment points.
            with environment({"MLFLOW_TRACKING_URI": self._uri}):
                one = client.create_model_version(
                    MODEL_NAME, f"models:/{model_id}", run_id, model_id=model_id
                )
        for name, value in metrics.items():
            client.set_model_version_tag(MODEL_NAME, one.version, name, f"{value:.6g}")
        client.set_registered_model_alias(MODEL_NAME, alias, one.version)
        logger.info("Model %s, version %s, is %s", MODEL_NAME, one.version, alias)


def _experiment_id(client: Any, name: str, uri: str) -> str:
    file = sqlite_file(uri)
    found = client.get_experiment_by_name(name)
    if found is not None and file is not None and _is_elsewhere(found.artifact_location, file):
        _move_here(file, found.artifact_location)
        found = client.get_experiment_by_name(name)
    if found is None:
        # MLflow's own choice for an SQLite store depends on the current folder.
        location = None if file is None else (file.parent / ARTIFACTS).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except mlflow().exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)  # another process was faster
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"Asked for the experiment {name!r} in {shown(uri)}; it was deleted there. Bring it "
            f"back with `mlflow experiments restore -x {found.experiment_id}`, or set "
            "MLFLOW_EXPERIMENT_NAME to another name."
        )
    _check_location(found.artifact_location, uri)
    return str(found.experiment_id)


def _is_elsewhere(location: str, file: Path) -> bool:
    """Say whether files go to the folder that lay beside a store before it was copied or moved.

    Another folder than ARTIFACTS was somebody's choice and stays.
    """
    folder = _local_folder(location)
    if folder is None or folder.name != ARTIFACTS:
        return False
    return folder.resolve().parent != file.parent.resolve()


def _local_folder(location: str) -> Path | None:
    scheme, _, path = location.rpartition("://")
    if scheme not in ("", "file"):
        return None
    return Path(unquote(path) if scheme else path)


def _move_here(file: Path, old: str) -> None:
    """Let a copied or moved store name the files beside it, for which MLflow has no function."""
    new = (file.parent / ARTIFACTS).as_uri()
    with closing(sqlite3.connect(file)) as store, store:  # all of it or, on an error, nothing
        for table, column in _LOCATIONS:
            known = [name for _, name, *_ in store.execute(f"PRAGMA table_info({table})")]
            if column in known:
                store.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )
    logger.info(
        "%s was copied or moved: its files now go to %s, and are looked for there, no longer in %s",
        file, new, old,
    )  # fmt: skip


def _check_location(location: str, uri: str) -> None:
    file = sqlite_file(uri)
    if file is None:
        return
    if location.startswith("mlflow-artifacts:"):
        raise TrackingError(
            f"Asked to write a run into {shown(uri)}; its experiment was made through a server, "
            f"which keeps the files ({location}). Set MLFLOW_TRACKING_URI to that server, or "
            "MLFLOW_EXPERIMENT_NAME to another name."
        )
    if not location.startswith((f"{file.parent.as_uri()}/", f"{file.parent}/")):
        logger.warning(
            "%s was elsewhere when its experiment began: files still go to %s", file, location
        )


def _name(name: str) -> str:
    # MLflow refuses other characters, and a data set may call its methods what it likes.
    return re.sub(r"[^\w.\- :/]", "_", name)[:MAX_NAME]


def _text(value: object, longest: int) -> str:
    return shortened(value if isinstance(value, str) else json.dumps(value), longest)


def _save_pyfunc(model_dir: Path, saved: Path, logged: Any, run_id: str) -> None:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec("string", "path")]),
        outputs=Schema(
            [
                ColSpec("string", "path"),
                ColSpec("double", "probability", required=False),
                ColSpec("string", "verdict"),
                ColSpec("string", "doubts"),
                ColSpec("string", "reason", required=False),
            ]
        ),
    )
    with warnings.catch_warnings():
        # MLflow advises an input example, which would be a path on this machine, and warns of
        # classes of its own.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"mlflow\.")
        mlflow().pyfunc.save_model(
            saved, python_model=str(MODEL_SCRIPT), signature=signature,
            artifacts={"model": model_dir.as_uri()},
            mlflow_model=mlflow().models.Model(
                artifact_path=logged.artifact_location, model_uuid=logged.model_id,
                run_id=run_id, model_id=logged.model_id,
            ),
            # Without these MLflow loads the model once more to see what it imports.
            pip_requirements=[f"unmask=={version('unmask')}"],
        )  # fmt: skip
