"""Files by content in a bucket of S3: a store holds each below the first two digits of its MD5."""

import base64
import hashlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unmask.errors import UnmaskError

MAX_CONNECTIONS = 16
LAYOUT = "files/md5"  # below a DVC remote's address, since DVC 3


class StorageError(UnmaskError):
    """A store can't be asked, or does not hold what it should."""


class BlobError(StorageError):
    """A store lacks a file's content, or has another in its place: whoever asks gets the same."""


@dataclass(frozen=True)
class StoredFile:
    """A file of a checkout: where it belongs, and what it holds."""

    path: str  # posix, relative to the root of the checkout
    md5: str
    size_bytes: int

    @property
    def stored(self) -> str:
        """Where a store keeps it."""
        return f"{self.md5[:2]}/{self.md5[2:]}"


@dataclass(frozen=True)
class Store:
    """A folder of a bucket with files by their content, as a DVC remote keeps them."""

    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """Return its address, with a slash at its end."""
        return f"s3://{self.bucket}/{self.prefix}/"

    def object_name(self, file: StoredFile) -> str:
        """Return the name of the object that holds the file's content."""
        return f"{self.prefix}/{file.stored}"


def content_md5(path: Path) -> str:
    """Return the MD5 of a file's content, by which stores name it."""
    with path.open("rb") as content:
        # Also on machines that allow no MD5 for signatures.
        digest = hashlib.file_digest(content, partial(hashlib.md5, usedforsecurity=False))
    return digest.hexdigest()


def missing(s3: Any, store: Store, files: Collection[StoredFile]) -> list[StoredFile]:
    """Return one file for each content that the store does not hold whole."""
    wanted = {store.object_name(file): file for file in files}
    # Listed by their first two digits: a thousand names an answer, however many are asked for.
    starts = sorted({f"{store.prefix}/{file.md5[:2]}/" for file in files})
    there: dict[str, int] = {}
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        for found in pool.map(partial(sizes, s3, store.bucket), starts):
            there |= found
    return [file for name, file in wanted.items() if there.get(name) != file.size_bytes]


def sizes(s3: Any, bucket: str, start: str) -> dict[str, int]:
    """Return the objects whose names begin so, with their sizes in bytes."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start)
    return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}


def upload(
    s3: Any,
    store: Store,
    files: Sequence[StoredFile],
    root: Path,
    *,
    workers: int,
    kms_key: str | None,
) -> Iterator[StoredFile]:
    """Yield each file as it is in the store; whoever stops listening stops it.

    An object appears at once and whole, and S3 refuses what has not the digest of dvc.lock: what
    an interrupted upload had sent need not be sent again.
    """
    with ThreadPoolExecutor(workers) as pool:
        sending = {
            pool.submit(_send, s3, store, file, root, encryption(kms_key)): file for file in files
        }
        try:
            for sent in as_completed(sending):
                sent.result()
                yield sending[sent]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _send(s3: Any, store: Store, file: StoredFile, root: Path, encrypted: dict[str, str]) -> None:
    digest = base64.b64encode(bytes.fromhex(file.md5)).decode()
    with (root / file.path).open("rb") as content:
        s3.put_object(
            Bucket=store.bucket, Key=store.object_name(file), Body=content, ContentMD5=digest,
            **encrypted,
        )  # fmt: skip


def encryption(kms_key: str | None) -> dict[str, str]:
    """Return what a request to write an object says of the key that it is encrypted by."""
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
