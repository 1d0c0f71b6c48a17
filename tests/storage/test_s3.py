"""Objects fetched, checked, and what goes wrong in one line: asked of a real S3 server."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    LoginRefreshRequired,
    ParamValidationError,
    PartialCredentialsError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.response import StreamingBody
from s3_server import BUCKET, running_s3

from unmask.storage import s3 as storage_s3
from unmask.storage.blobs import StorageError, Store, StoredFile
from unmask.storage.s3 import Remote, asking, download, read, save

pytestmark = pytest.mark.slow

HELLO = StoredFile("a/hello.mp4", "5d41402abc4b2a76b9719d911017c592", 5)
STORE = Store(BUCKET, "files/md5")


@pytest.fixture
def s3() -> Iterator[Any]:
    with running_s3() as (_, client):
        yield client


def test_a_blob_is_laid_at_its_path(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket=BUCKET, Key=STORE.object_name(HELLO), Body=b"hello")
    download(s3, STORE, [HELLO], tmp_path)
    assert (tmp_path / "a/hello.mp4").read_text() == "hello"


def test_a_changed_blob_and_a_missing_one_are_named(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"a/hello.mp4: .* no such object. Run `dvc push` where"):
        download(s3, STORE, [HELLO], tmp_path)
    s3.put_object(Bucket=BUCKET, Key=STORE.object_name(HELLO), Body=b"jello")
    words = r"a/hello.mp4: asked for content of MD5 5d41402\w+, found 7aa6991a\w+ in s3://the-rem"
    with pytest.raises(StorageError, match=words):
        download(s3, STORE, [HELLO], tmp_path)


def test_what_is_not_there_is_none(s3: Any, tmp_path: Path) -> None:
    assert read(s3, BUCKET, "row.json", most_bytes=10) is None
    assert not save(s3, BUCKET, "row.json", tmp_path / "row.json")
    s3.put_object(Bucket=BUCKET, Key="row.json", Body=b"{}")
    assert read(s3, BUCKET, "row.json", most_bytes=10) == b"{}"
    assert read(s3, BUCKET, "row.json", most_bytes=1) is None
    with pytest.raises(StorageError, match=r"for s3://another/row.json; it answered NoSuchBucket"):
        read(s3, "another", "row.json", most_bytes=10)


def test_half_an_answer_is_not_taken_for_the_whole(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="row.json", Body=b"{}")

    def cut(parsed: Any, **_: Any) -> None:
        parsed["Body"] = StreamingBody(io.BytesIO(b"{"), 2)

    s3.meta.events.register("after-call.s3.GetObject", cut)
    with pytest.raises(StorageError, match=r"for s3://[a-z-]+/row.json; it could not be asked"):
        read(s3, BUCKET, "row.json", most_bytes=10)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDenied", "it was refused: no. Have s3:GetObject allowed for you"),
        ("403", "it was refused: no. Have s3:GetObject allowed for you"),
        ("ExpiredToken", "; no. Sign in"),
        ("SlowDown", "it answered SlowDown: no. Correct what it names"),
    ],
)
def test_a_refusal_is_a_line(code: str, words: str) -> None:
    answer: Any = {"Error": {"Code": code, "Message": "no"}}
    with pytest.raises(StorageError) as caught, asking("for s3://a/b", "s3:GetObject"):
        raise ClientError(answer, "GetObject")
    assert str(caught.value).startswith("Asked AWS for s3://a/b; ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        UnauthorizedSSOTokenError(),
        SSOTokenLoadError(error_msg="no token"),
        TokenRetrievalError(provider="sso", error_msg="Token has expired and refresh failed"),
        CredentialRetrievalError(provider="custom-process", error_msg="it ended with 1"),
        PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        LoginRefreshRequired(),
    ],
)
def test_a_sign_in_that_has_ended_is_to_be_done_again(error: BotoCoreError) -> None:
    """Not to be waited for: AWS was never asked."""
    with pytest.raises(StorageError) as caught, asking("for s3://a/b", "s3:GetObject"):
        raise error
    assert "Sign in (`aws sso login`" in str(caught.value)
    assert "when it answers" not in str(caught.value)


def test_a_name_that_aws_can_not_have_is_to_be_corrected() -> None:
    with pytest.raises(StorageError) as caught, asking("for s3://a b/c", "s3:GetObject"):
        raise ParamValidationError(report='Invalid bucket name "a b"')
    assert 'Invalid bucket name "a b". Correct what it names' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_keeps_its_password_from_errors() -> None:
    """Botocore repeats the address of the server, which may hold one."""
    address = "http://ann:a-secret@127.0.0.1:9/the-remote/row.json"
    with pytest.raises(StorageError) as caught, asking("for s3://a/b", "s3:GetObject"):
        raise EndpointConnectionError(endpoint_url=address)
    assert "http://127.0.0.1:9/the-remote/row.json" in str(caught.value)
    assert "a-secret" not in str(caught.value)


def test_an_address_that_is_none_is_to_be_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with pytest.raises(StorageError, match=r"Invalid endpoint: minio:9000. Correct its address"):
        Remote(STORE, "minio:9000", "eu-west-1").client()


def test_a_client_has_the_environment_s_credentials_alone(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = s3.meta.endpoint_url
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    remote = Remote(STORE, endpoint, "eu-west-1")
    with pytest.raises(StorageError, match=r"found no credentials. Sign in"):
        read(remote.client(), BUCKET, "row.json", most_bytes=10)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    assert read(remote.client(), BUCKET, "row.json", most_bytes=10) is None
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match=r"The config profile \(nobody\) could not be found"):
        remote.client()
    assert storage_s3.code_of(ClientError({"Error": {"Code": "404"}}, "HeadObject")) == "404"
