"""Stores of files by content: what one lacks, and what is sent to it, asked of a real S3 server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_server import BUCKET, names, running_s3

from unmask.storage import blobs
from unmask.storage.blobs import Store, StoredFile

pytestmark = pytest.mark.slow

HELLO = StoredFile("a/hello.mp4", "5d41402abc4b2a76b9719d911017c592", 5)
TWIN = StoredFile("b/twin.mp4", HELLO.md5, 5)
OTHER = StoredFile("a/other.mp4", "0cc175b9c0f1b6a831c399e269772661", 1)  # of "a"
STORE = Store(BUCKET, "shared/files/md5")


@pytest.fixture
def s3() -> Iterator[Any]:
    with running_s3() as (_, client):
        yield client


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for file, content in ((HELLO, "hello"), (TWIN, "hello"), (OTHER, "a")):
        (tmp_path / file.path).parent.mkdir(exist_ok=True)
        (tmp_path / file.path).write_text(content)
    return tmp_path


def send(s3: Any, root: Path, *files: StoredFile) -> list[StoredFile]:
    return list(blobs.upload(s3, STORE, files, root, workers=2, kms_key=None))


def test_a_store_keeps_each_content_once_where_dvc_would(s3: Any, root: Path) -> None:
    files = [HELLO, TWIN, OTHER]
    assert {file.md5 for file in blobs.missing(s3, STORE, files)} == {HELLO.md5, OTHER.md5}
    send(s3, root, HELLO)
    assert names(s3) == ["shared/files/md5/5d/41402abc4b2a76b9719d911017c592"]
    assert blobs.missing(s3, STORE, files) == [OTHER]


def test_half_a_file_is_missing(s3: Any, root: Path) -> None:
    s3.put_object(Bucket=BUCKET, Key=STORE.object_name(HELLO), Body=b"hel")
    assert blobs.missing(s3, STORE, [HELLO]) == [HELLO]
    send(s3, root, HELLO)
    assert blobs.missing(s3, STORE, [HELLO]) == []


def test_s3_is_told_the_digest_of_dvc_lock(s3: Any, root: Path) -> None:
    """It refuses what has another one; this server does not compare them, so we look at it."""
    said = []
    s3.meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: said.append(request.headers["Content-MD5"])
    )
    send(s3, root, HELLO)
    assert said == [b"XUFAKrxLKna5cZ2REBfFkg=="]
    assert s3.get_object(Bucket=BUCKET, Key=STORE.object_name(HELLO))["Body"].read() == b"hello"
