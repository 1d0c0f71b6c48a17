"""Addresses whose secrets are written in ways that the rules for them don't know."""

from contextlib import suppress

import pytest

from unmask.runtime.addresses import hides, holds_secret, public, redacted
from unmask.sagemaker.config import read_config
from unmask.sagemaker.contract import JobError
from unmask.sagemaker.submit import tracker_variables

ODD = [
    ("http://ann:se@cret@host/a", "http://host/a"),
    ("http://ann:secret@host/#token", "http://host/"),
    ("http://host/a#access_token=secret", "http://host/a"),
    ("//ann:secret@host", "//host"),
    ("ann:secret@host", "host"),
    ("https://secret@host/x", "https://host/x"),
    ("https://:secret@host/x", "https://host/x"),
    ("https://ann%3Asecret@host/x", "https://host/x"),
    ("https://ann:secret%40host/x", "https://…"),
    ("http://ann:se#cret@host/x", "http://host/x"),
    ("http://ann:se/cr#e?t@host/x", "http://host/x"),
    ("HTTP://ann:secret@Host/", "http://Host/"),
    ("http:/ann:secret@host", "http://host"),
    ("http:\\\\ann:secret@host", "http://host"),
    (" http://ann:secret@host", "http://host"),
    ("http://ann:sec\tret@host", "http://host"),
    ("https://host/x?sig=secret", "https://host/x"),
    ("https://host/x;token=secret", "https://host/x"),
    ("https://secret/x@host", "https://…"),
    ("https://se?cr=et@host", "https://…"),
    ("http://ann:secret@[::1]:5000/a", "http://[::1]:5000/a"),
    ("mssql+pyodbc://sa:se#c?r/et@db:1433/x?driver=a", "mssql+pyodbc://db:1433/x"),
]
PLAIN = [
    "http://mlflow.example.org:5000/team", "http://[::1]:5000/a", "sqlite:////a@b/mlflow.db",
    "models:/unmask@champion", "mlruns", "s3://bucket/a/b", "databricks", "file:///a@b/c",
    "arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/x", "",
]  # fmt: skip


@pytest.mark.parametrize(("address", "expected"), ODD)
def test_nothing_of_a_secret_is_shown(address: str, expected: str) -> None:
    assert public(address) == expected
    assert hides(address)
    assert holds_secret(address)
    assert holds_secret(f"http://plain.example,{address}")


@pytest.mark.parametrize("address", PLAIN)
def test_plain_addresses_stay(address: str) -> None:
    assert public(address) == address
    assert not hides(address)
    assert not holds_secret(address)


def test_an_image_by_its_digest_is_no_secret() -> None:
    assert not holds_secret("registry.example/unmask:v1@sha256:" + 64 * "0")


def test_an_error_repeats_no_part_of_an_address() -> None:
    address = "https://ann:s%21cret@host/x?key=abc#frag"
    said = redacted(
        f"no {address}, no (http://bob:pw@other/a), user ann, s!cret, s%21cret, abc and frag.",
        address,
    )
    assert said == "no https://host/x, no (http://other/a), user …, …, …, … and …."


@pytest.mark.parametrize(
    "address", [address for address, _ in ODD if address.lower().startswith("http")]
)
def test_no_job_reports_to_an_address_with_a_secret(address: str) -> None:
    sent = {}
    with suppress(JobError):  # or it is no address of a server at all
        sent = tracker_variables({"MLFLOW_TRACKING_URI": address})
    assert sent in ({}, {"UNMASK_TRACKER": "none"})


@pytest.mark.parametrize("address", [address for address, _ in ODD if "\t" not in address])
def test_no_secret_travels_in_a_jobs_environment(address: str) -> None:
    with pytest.raises(JobError) as refused:
        read_config({}, {"environment": {"PROXY": address}})
    assert "PROXY looks like a secret" in str(refused.value)
    assert address not in str(refused.value)


def test_a_malformed_environment_is_not_repeated() -> None:
    with pytest.raises(JobError) as refused:
        read_config({"UNMASK_SAGEMAKER_ENVIRONMENT": "TOKEN,http://ann:secret@host"}, {})
    assert "environment: asked for pairs" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_an_address_that_is_none_keeps_the_run_here() -> None:
    assert tracker_variables({"MLFLOW_TRACKING_URI": "http://["}) == {"UNMASK_TRACKER": "none"}


@pytest.mark.parametrize("part", ["http://", "a:", "?a=b&", "a", "//", "a@", "a:b@sha256:"])
def test_long_texts_take_no_square_of_their_length(part: str) -> None:
    """A hundred thousand of these would take hours: that this ends is what is tested."""
    text = part * 100_000
    assert holds_secret(text) is ("//" in part or "@" in part)
    assert len(redacted(text)) <= len(text)
