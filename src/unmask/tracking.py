"""Where runs are written down for people to look at: MLflow, or nowhere.

MLflow is imported when a run opens, not before: it costs two seconds.
"""

import hashlib
import json
import logging
import os
import re
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import unquote

from unmask.errors import UnmaskError

logger = logging.getLogger(__name__)

# MLflow's limits (mlflow/utils/validation.py, 3.17): it refuses longer names and larger batches.
MAX_NAME, MAX_PARAM, MAX_TAG, MAX_BATCH = 250, 6000, 8000, 100

# How long a server may take to answer when a run opens. Later MLflow's own patience holds: it
# tries again for minutes.
ANSWER_S = 10
IMPATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_S),
}

# The folder beside an SQLite store that holds its pictures and models. `mlflow ui` started there
# puts what it is sent into the same one.
ARTIFACTS = "mlartifacts"

MODEL_NAME = "unmask"
MODEL_SCRIPT = Path(__file__).with_name("mlflow_model.py")


class TrackingError(UnmaskError):
    """Runs can't be written where they should go."""


class Tracker(Protocol):
    """One run. As a context manager it finishes itself: as failed where an error gets out.

    Only opening a run can fail. What breaks later is one WARNING and the end of tracking, for
    hours of training are not to be lost to a server that is down: metrics/*.json are the record.
    """

    run_id: str | None  # opens the same run again; None where nothing is kept

    def log_params(self, values: Mapping[str, object]) -> None:
        """Note settings; sections inside sections get dotted names, None is written null.

        MLflow never changes a param: where a run that was opened again has another value, the
        new one becomes the tag changed.<name>.
        """

    def log_tags(self, values: Mapping[str, object]) -> None:
        """Note facts about the run; a later value replaces an earlier one."""

    def log_metrics(self, values: Mapping[str, float | None], *, step: int | None = None) -> None:
        """Note numbers, of an epoch or of the run as a whole; None is left out."""

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file with the run, in a folder there."""

    def log_model(self, model_dir: Path, *, note: str | None = None) -> str | None:
        """Keep a model's folder as a pyfunc that takes video paths; return its URI.

        The note, Markdown, is shown as the model's description. None is returned where nothing
        was kept.
        """

    def finish(self, *, failed: bool) -> None:
        """End the run."""

    def __enter__(self) -> Self:
        """Return the run."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the run."""


class NullTracker:
    """Keeps nothing."""

    run_id: str | None = None

    def log_params(self, values: Mapping[str, object]) -> None:
        """Do nothing."""

    def log_tags(self, values: Mapping[str, object]) -> None:
        """Do nothing."""

    def log_metrics(self, values: Mapping[str, float | None], *, step: int | None = None) -> None:
        """Do nothing."""

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Do nothing."""

    def log_model(self, model_dir: Path, *, note: str | None = None) -> str | None:
        """Do nothing."""

    def finish(self, *, failed: bool) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        pass


class MlflowTracker:
    """A run in MLflow, made by open_run."""

    def __init__(self, client: Any, run: Any, uri: str) -> None:
        self.run_id: str | None = run.info.run_id
        self._client, self._uri = client, uri
        self._experiment_id = run.info.experiment_id
        self._params: dict[str, str] = dict(run.data.params)
        self._lost = False

    def log_params(self, values: Mapping[str, object]) -> None:
        """Note settings under dotted names."""
        given = {_name(name): _text(value, MAX_PARAM) for name, value in _flat(values)}
        changed = {n: v for n, v in given.items() if self._params.get(n, v) != v}
        for name, value in changed.items():
            logger.info(
                "MLflow run %s keeps %s = %s, which it began with; now %s is its tag changed.%s",
                self.run_id, name, self._params[name], value, name,
            )  # fmt: skip
        self.log_tags({f"changed.{name}": value for name, value in changed.items()})
        new = {name: value for name, value in given.items() if name not in self._params}
        self._send_batches("params", [_mlflow().entities.Param(*item) for item in new.items()])
        self._params |= new

    def log_tags(self, values: Mapping[str, object]) -> None:
        """Note facts about the run."""
        tag = _mlflow().entities.RunTag
        tags = [tag(_name(name), _text(value, MAX_TAG)) for name, value in _flat(values)]
        self._send_batches("tags", tags)

    def log_metrics(self, values: Mapping[str, float | None], *, step: int | None = None) -> None:
        """Note numbers; those without a step stand at step 0."""
        metric, now_ms = _mlflow().entities.Metric, int(time.time() * 1000)
        known = {_name(name): float(value) for name, value in values.items() if value is not None}
        self._send_batches("metrics", [metric(*item, now_ms, step or 0) for item in known.items()])

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Copy a file to the run's artifacts."""
        assert path.is_file(), f"{path} is no file"
        self._send(str(path), self._client.log_artifact, self.run_id, str(path), folder)

    def log_model(self, model_dir: Path, *, note: str | None = None) -> str | None:
        """Copy the folder into a logged model of the run; return its models: URI."""
        assert model_dir.is_dir(), f"{model_dir} is no folder"
        uri: str | None = self._send(str(model_dir), self._save_model, model_dir, note)
        return uri

    def finish(self, *, failed: bool) -> None:
        """Mark the run FINISHED or FAILED, by one more try where the server was lost before."""
        # MLflow would print the run's address on stdout, with the password that is in the URI.
        quiet = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
        lost, self._lost = self._lost, False
        with _environment(quiet | (IMPATIENCE if lost else {})):
            status = "FAILED" if failed else "FINISHED"
            self._send("the end", self._client.set_terminated, self.run_id, status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.finish(failed=kind is not None)

    def _send_batches(self, kind: str, entities: Sequence[Any]) -> None:
        for start in range(0, len(entities), MAX_BATCH):
            batch = {kind: entities[start : start + MAX_BATCH]}
            self._send(kind, self._client.log_batch, self.run_id, **batch)

    def _send(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._lost:
            return None
        try:
            return call(*args, **kwargs)
        except _refusals(self._uri) as error:
            self._lost = True
            logger.warning(
                "MLflow run %s: %s did not reach %s: %s. The work goes on; MLflow gets no more "
                "of this run.",
                self.run_id, what, shown(self._uri), _in_short(error, self._uri),
            )  # fmt: skip
            return None

    def _save_model(self, model_dir: Path, note: str | None) -> str:
        # What mlflow.pyfunc.log_model does, less its global run and global tracking URI.
        mlflow = _mlflow()
        logged = self._client.create_logged_model(
            self._experiment_id, MODEL_NAME, source_run_id=self.run_id, params=self._params,
            tags={} if note is None else {"mlflow.note.content": _text(note, MAX_TAG)},
        )  # fmt: skip
        with (
            tempfile.TemporaryDirectory(prefix="unmask-") as folder,
            _environment({"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}),
            warnings.catch_warnings(),
        ):
            # MLflow advises an input example, which would be a path on this machine, and warns
            # of classes of its own.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"mlflow\.")
            saved = Path(folder, "model")
            mlflow.pyfunc.save_model(
                saved, python_model=str(MODEL_SCRIPT), signature=_signature(),
                artifacts={"model": model_dir.resolve().as_uri()},
                mlflow_model=mlflow.models.Model(
                    artifact_path=logged.artifact_location, model_uuid=logged.model_id,
                    run_id=self.run_id, model_id=logged.model_id,
                ),
                # Without these MLflow loads the model once more to see what it imports.
                pip_requirements=[f"unmask=={version('unmask')}"],
            )  # fmt: skip
            self._client.log_model_artifacts(logged.model_id, str(saved))
        output = mlflow.entities.LoggedModelOutput(logged.model_id, step=0)
        self._client.log_outputs(self.run_id, [output])
        self._client.finalize_logged_model(logged.model_id, "READY")
        return f"models:/{logged.model_id}"


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec("string", "path")]),
        outputs=Schema(
            [
                ColSpec("string", "path"),
                ColSpec("double", "probability", required=False),
                ColSpec("string", "reason", required=False),
            ]
        ),
    )


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _name(name: str) -> str:
    # MLflow refuses other characters, and a data set may call its methods what it likes.
    return re.sub(r"[^\w.\- :/]", "_", name)[:MAX_NAME]


def _text(value: object, longest: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= longest else text[: longest - 1] + "…"


# ---------------------------------------------------------------- opening a run


def open_run(
    *, uri: str, experiment: str, run_name: str | None, run_id: str | None = None
) -> MlflowTracker:
    """Return a new run, or the one with run_id where the server knows it, running again.

    Raises:
        TrackingError: the server does not answer within ANSWER_S seconds or refuses; the
            experiment was deleted there, or only a server can write its files.
    """
    try:
        with _impatience(uri):
            client = _mlflow().MlflowClient(uri)
            run = _known_run(client, run_id) if run_id else None
            if run_id and run is None:
                logger.info("MLflow run %s is not in %s: a new one begins", run_id, shown(uri))
            if run is None:
                run = client.create_run(_experiment_id(client, experiment, uri), run_name=run_name)
            else:
                _check_location(run.info.artifact_uri, uri)
                client.update_run(run_id, status="RUNNING")
    except _refusals(uri) as error:
        # From None: what MLflow raises may hold the URI with its password.
        raise TrackingError(
            f"Asked MLflow at {shown(uri)} for a run; found: {_in_short(error, uri)}. "
            f"{'Mend or move that file' if _sqlite_file(uri) else 'Start that server'}, or unset "
            "MLFLOW_TRACKING_URI to use mlflow.db here, or set UNMASK_TRACKING=none."
        ) from None
    logger.info("MLflow run %s (%s) in %s", run.info.run_name, run.info.run_id, shown(uri))
    return MlflowTracker(client, run, uri)


def _known_run(client: Any, run_id: str) -> Any:
    try:
        run = client.get_run(run_id)
    except _mlflow().exceptions.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _experiment_id(client: Any, name: str, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        file = _sqlite_file(uri)
        # MLflow's own choice for an SQLite store depends on the current folder.
        location = None if file is None else (file.parent / ARTIFACTS).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except _mlflow().exceptions.MlflowException as error:
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


def _check_location(location: str, uri: str) -> None:
    file = _sqlite_file(uri)
    if file is None:
        return
    if location.startswith("mlflow-artifacts:"):
        raise TrackingError(
            f"Asked to write a run into {shown(uri)}; its experiment was made through a server, "
            f"which keeps the files ({location}). Set MLFLOW_TRACKING_URI to that server, or "
            "MLFLOW_EXPERIMENT_NAME to another name."
        )
    if not location.startswith((file.parent.as_uri(), str(file.parent))):
        logger.warning(
            "%s was elsewhere when its experiment began: files still go to %s", file, location
        )


def default_uri(environment: Mapping[str, str], root: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the file that plain `mlflow ui` opens in root."""
    # SQLAlchemy decodes %xx since 2.1; other characters stand as they are.
    folder = root.resolve().as_posix().replace("%", "%25").replace("?", "%3F")
    return environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db"


def _sqlite_file(uri: str) -> Path | None:
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])).resolve()


def shown(uri: str) -> str:
    """Return the URI without user and password.

    >>> shown("https://ann:secret@mlflow.example.org/team")
    'https://mlflow.example.org/team'
    """
    return _without_credentials(uri, uri)


def _without_credentials(text: str, uri: str) -> str:
    user, at, _ = uri.partition("://")[2].rpartition("@")
    return re.sub(r"://[^/\s]*@", "://", text.replace(user + at, "") if at else text)


def _in_short(error: BaseException, uri: str) -> str:
    words = " ".join(_without_credentials(str(error), uri).split()).rstrip(".")
    return _text(words or type(error).__name__, 400)


# ---------------------------------------------------------------- MLflow's settings


@cache
def _mlflow() -> Any:
    """Return the mlflow module, imported so that it sends no usage data from this process.

    Its telemetry asks the internet for its settings at import; MLFLOW_DISABLE_TELEMETRY=false
    lets it.
    """
    wanted = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
    with _environment({n: value for n, value in wanted.items() if n not in os.environ}):
        import mlflow
    # A plugin that comes with the sagemaker SDK fails, with a warning, on each request to a
    # server that is not SageMaker's; and the database's errors are logged before they are raised.
    logging.getLogger("mlflow.tracking.request_header.registry").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


def _refusals(uri: str) -> tuple[type[Exception], ...]:
    """Return what MLflow lets out when a store does not do as it is told."""
    # OSError covers requests' errors; ImportError is a database's missing driver.
    known = (_mlflow().exceptions.MlflowException, OSError, ImportError)
    if uri.startswith("http"):
        return known
    from mlflow.store.db import utils

    return (*known, utils.sqlalchemy.exc.SQLAlchemyError)


@contextmanager
def _impatience(uri: str) -> Iterator[None]:
    """Let MLflow give up soon and quietly; it takes no arguments for this."""
    if uri.startswith("http"):
        with _environment(IMPATIENCE):
            yield
        return
    _mlflow()
    from mlflow.store.db import utils

    tries, utils.MAX_RETRY_COUNT = utils.MAX_RETRY_COUNT, 1
    try:
        yield
    finally:
        utils.MAX_RETRY_COUNT = tries


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# ---------------------------------------------------------------- where a run comes from


def source_tags(root: Path) -> dict[str, str]:
    """Return the Git commit, whether files differ from it, and the digest of dvc.lock.

    What is not there has no tag: a wheel or a container has no Git. dvc.lock does not count as a
    difference, for DVC rewrites it while the stages run.
    """
    tags = {}
    commit = _git(root, "rev-parse", "HEAD")
    if commit:
        changes = _git(root, "status", "--porcelain", "-uno", "--", ".", ":(exclude)dvc.lock")
        tags = {
            "mlflow.source.name": root.resolve().name,  # without it the page hides the commit
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": commit,
            "git.dirty": str(bool(changes)).lower(),
        }
    lock = root / "dvc.lock"
    if lock.is_file():
        tags["dvc.lock.sha256"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    return tags


def _git(root: Path, *arguments: str) -> str | None:
    # No locks: DVC may be using the repository too.
    command = ["git", "-C", str(root), "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def lock_digests(root: Path) -> dict[str, str]:
    """Return the MD5 of each output in dvc.lock, as data.<path>; empty without the file.

    DVC writes one key a line and indents by two (`dvc/utils/serialize/_yaml.py`), so no YAML
    reader is needed: stages.<name>.outs is a list of path, hash, md5 ...
    """
    lock = root / "dvc.lock"
    digests, section, path = {}, "", ""
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else []
    for line in lines:
        if found := re.match(r"    (\w+):", line):
            section = found[1]
        elif found := re.match(r"    - path: (.+)", line):
            path = found[1].strip("'\"")
        elif section == "outs" and (found := re.match(r"      md5: (\S+)", line)):
            digests[f"data.{path}"] = found[1]
    return digests
