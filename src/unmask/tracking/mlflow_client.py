"""MLflow's client as we want it: quiet, quick to give up, silent about passwords."""

import errno
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from unmask.runtime import system
from unmask.runtime.addresses import public, redacted
from unmask.tracking.offline_queue import DeliveryError, RefusedError
from unmask.tracking.tracker import environment

# How long a server may take to answer a question, and to take a file. With MLflow's own patience
# the work would stand still for minutes.
ANSWER_S, UPLOAD_S = 5, 60

# At a run's end MLflow would print its address on stdout, with the password that is in the URI.
QUIET = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

# What a folder of files answers that is not to be written to, or where something else stands.
REFUSING = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOENT, errno.ENOTDIR,
    errno.EISDIR, errno.EFBIG, errno.ENAMETOOLONG,
}  # fmt: skip

# What MLflow calls errors that pass: the first is also what it makes of a refused connection.
PASSING = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "ABORTED"}


@cache
def mlflow() -> Any:
    """Return the mlflow module, imported so that it sends no usage data from this process.

    It is imported when a run opens, not before: it costs two seconds. Its telemetry asks the
    internet for its settings at import; MLFLOW_DISABLE_TELEMETRY=false lets it.
    """
    wanted = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
    with environment({n: value for n, value in wanted.items() if n not in os.environ}):
        import mlflow
    # A plugin that comes with the sagemaker SDK fails, with a warning, on each request to a
    # server that is not SageMaker's; and the database's errors are logged before they are raised.
    logging.getLogger("mlflow.tracking.request_header.registry").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


# ---------------------------------------------------------------- addresses


def default_uri(variables: Mapping[str, str], root: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the file that plain `mlflow ui` opens in root."""
    # SQLAlchemy decodes %xx since 2.1; other characters stand as they are.
    folder = root.resolve().as_posix().replace("%", "%25").replace("?", "%3F")
    return variables.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db"


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite store; None for other stores."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])).resolve()


def shown(uri: str) -> str:
    """Return the URI without what may be a secret."""
    return public(uri)


def shortened(text: str, longest: int) -> str:
    """Return the text, cut where it is longer."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def in_short(error: BaseException, uri: str) -> str:
    """Return what the error says, in one line and without credentials."""
    words = " ".join(redacted(str(error), uri).split()).rstrip(".")
    return shortened(words or type(error).__name__, 400)


# ---------------------------------------------------------------- patience and errors


@contextmanager
def delivering(what: str, uri: str, *, patience_s: int = ANSWER_S) -> Iterator[None]:
    """Let MLflow give up soon, and turn what it raises into a DeliveryError or RefusedError."""
    try:
        with timeouts(uri, patience_s):
            yield
    except refusals(uri) as error:
        # From None: what MLflow raises may hold the URI with its password.
        if refuses(error):
            raise RefusedError(
                f"MLflow at {shown(uri)} refuses it: {in_short(error, uri)}"
            ) from None
        raise DeliveryError(
            f"{what} did not reach MLflow at {shown(uri)}: {in_short(error, uri)}"
        ) from None


def passes(error: Exception, uri: str) -> bool:
    """Return whether the same call may work later, although nothing here changes."""
    exceptions = mlflow().exceptions
    if uri.startswith("http"):
        if isinstance(error, exceptions.InvalidUrlException):
            return False
        return not isinstance(error, exceptions.MlflowException) or error.error_code in PASSING
    if uri.startswith("sqlite:"):
        return "database is locked" in str(error)
    return "OperationalError" in str(error)  # another database that does not answer


def refuses(error: BaseException) -> bool:
    """Return whether this event is never taken, while the place may take the next one."""
    # boto3 says only in the error before its own what the bucket answered.
    status = _http_status(error) or (error.__context__ and _http_status(error.__context__))
    if status:
        return 400 <= status < 500 and status not in {408, 429}
    if isinstance(error, mlflow().exceptions.MlflowException):
        return error.error_code not in PASSING
    if isinstance(error, OSError):
        return error.errno in REFUSING
    # A driver that is missing, or boto3's word that it has no credentials.
    return isinstance(error, ImportError) or "Credentials" in type(error).__name__


def _http_status(error: BaseException) -> int | None:
    """Return what a server or bucket answered, from requests', botocore's or MLflow's error."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
    if response is not None:
        return int(response.status_code)
    # A proxy's own page; MLflow knows few of its codes.
    found = re.search(r"failed with error code (\d{3}) ", str(error))
    return int(found[1]) if found else None


def refusals(uri: str) -> tuple[type[Exception], ...]:
    """Return what MLflow lets out when a store does not do as it is told."""
    # OSError covers requests' errors; ImportError is a database's missing driver.
    known = [mlflow().exceptions.MlflowException, OSError, ImportError]
    if not uri.startswith("http"):
        from mlflow.store.db import utils

        known.append(utils.sqlalchemy.exc.SQLAlchemyError)
    try:  # a server may send its clients straight to its bucket
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return tuple(known)
    return (*known, Boto3Error, BotoCoreError, ClientError)


@contextmanager
def timeouts(uri: str, patience_s: int) -> Iterator[None]:
    """Let MLflow give up soon and quietly; it takes no arguments for this."""
    # A bucket's client tries five times; PostgreSQL's waits for ever.
    limits = QUIET | {"AWS_MAX_ATTEMPTS": "1", "PGCONNECT_TIMEOUT": str(patience_s)}
    if uri.startswith("http"):
        mlflows = {"MAX_RETRIES": "0", "TIMEOUT": str(patience_s)}
        limits |= {f"MLFLOW_HTTP_REQUEST_{name}": text for name, text in mlflows.items()}
        with environment(limits):
            yield
        return
    mlflow()
    from mlflow.store.db import utils

    tries, utils.MAX_RETRY_COUNT = utils.MAX_RETRY_COUNT, 1
    try:
        with environment(limits):
            yield
    finally:
        utils.MAX_RETRY_COUNT = tries


@contextmanager
def init_lock(uri: str) -> Iterator[None]:
    """Let one process at a time open an SQLite store: two that make its tables both fail."""
    file = sqlite_file(uri)
    if file is None or not file.parent.is_dir():
        yield
        return
    folder = system.open_folder(file.parent)  # a lock file would lie there for ever
    try:
        system.lock(folder, wait=True)
        yield
    finally:
        os.close(folder)
