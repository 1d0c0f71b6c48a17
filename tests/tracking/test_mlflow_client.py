"""MLflow's client as we want it: addresses, errors, variables."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from unmask.tracking import mlflow_client
from unmask.tracking.mlflow_client import default_uri, delivering, in_short, shown, sqlite_file
from unmask.tracking.offline_queue import DeliveryError


def test_the_environment_says_where_runs_go(tmp_path: Path, mlflow_tables: Path) -> None:
    at = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert default_uri(at, tmp_path) == "http://mlflow:5000"
    assert default_uri({"MLFLOW_TRACKING_URI": ""}, Path("/a b")).endswith("/a b/mlflow.db")
    odd = tmp_path / "100%20#?"
    odd.mkdir()
    uri = default_uri({}, odd)
    assert sqlite_file(uri) == odd / "mlflow.db"
    shutil.copy(mlflow_tables, odd)
    mlflow_client.mlflow().MlflowClient(uri).create_experiment("unmask")
    assert (odd / "mlflow.db").read_bytes() != mlflow_tables.read_bytes()


@pytest.fixture
def own_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield silent.getsockname()[1]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://ann:secret@host:5000/a", "http://host:5000/a"),
        ("http://ann:se/secret@host", "http://host"),
        ("postgresql+psycopg2://ann:secret@host/runs", "postgresql+psycopg2://host/runs"),
        ("sqlite:////a/mlflow.db", "sqlite:////a/mlflow.db"),
        ("http://ann:se?cret@host", "http://host"),
        ("mlruns", "mlruns"),
        ("postgresql://db/x?user=ann&password=secret", "postgresql://db/x"),
        ("postgresql://db/x?user=ann&password=a%20secret@b?c", "postgresql://db/x"),
    ],
)
def test_what_is_shown_holds_no_credentials(uri: str, expected: str) -> None:
    assert shown(uri) == expected
    said = f"no {uri} nor  http://b:secret@other/x, nor http://o/?p=secret\n."
    assert "secret" not in in_short(OSError(said), uri)
    if "?" in uri:
        assert "secret" not in in_short(OSError("tried secret, a secret@b?c"), uri + "&x=secret")


def test_other_clients_get_no_more_patience() -> None:
    for uri in ("postgresql://db/x", "http://host"):
        with mlflow_client.timeouts(uri, 7):
            assert (os.environ["AWS_MAX_ATTEMPTS"], os.environ["PGCONNECT_TIMEOUT"]) == ("1", "7")
    assert "PGCONNECT_TIMEOUT" not in os.environ


def test_a_refusal_is_told_from_a_place_that_does_not_answer() -> None:
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
    from mlflow.exceptions import MlflowException

    def of_a_bucket(status: int) -> Exception:
        inner = ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")
        outer = S3UploadFailedError("Failed to upload")
        outer.__context__ = inner
        return outer

    def page(status: int) -> Exception:
        return MlflowException(f"API request to x failed with error code {status} != 200")

    lasting = [
        of_a_bucket(403), page(413), NoCredentialsError(), ImportError("No module named 'boto3'"),
        PermissionError(13, "Permission denied"), MlflowException.invalid_parameter_value("name"),
    ]  # fmt: skip
    passing = [
        of_a_bucket(503), page(502), page(429), EndpointConnectionError(endpoint_url="http://x"),
        ConnectionRefusedError(111, "refused"), TimeoutError(), OSError(28, "No space left"),
    ]  # fmt: skip
    assert [mlflow_client.refuses(error) for error in lasting] == [True] * len(lasting)
    assert [mlflow_client.refuses(error) for error in passing] == [False] * len(passing)


def test_a_silent_server_is_given_up_soon_and_without_traces(own_port: int) -> None:
    uri = f"http://ann:secret@127.0.0.1:{own_port}"
    before, start_s = dict(os.environ), time.monotonic()
    with pytest.raises(DeliveryError) as caught, delivering("a run", uri, patience_s=1):
        mlflow_client.mlflow().MlflowClient(uri).get_run("0" * 32)
    assert time.monotonic() - start_s < 30
    assert dict(os.environ) == before
    assert str(caught.value).startswith(
        f"a run did not reach MLflow at http://127.0.0.1:{own_port}"
    )
    assert "timed out" in str(caught.value).lower()
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.slow
def test_mlflow_is_imported_late_and_sends_no_usage_data() -> None:
    code = """
import os, sys
from unmask.cli import common as doors
from unmask.tracking import mlflow_client
assert "mlflow" not in sys.modules and "wandb" not in sys.modules
before = dict(os.environ)
mlflow_client.mlflow()
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
assert dict(os.environ) == before
"""
    # MLflow sends nothing from tests and CI anyway: hide that this is one.
    kept = {n: os.environ[n] for n in ("PATH", "HOME", "PYTHONPATH") if n in os.environ}
    done = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
