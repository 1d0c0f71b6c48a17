"""A training's files in S3, by content: what dvc.lock says of them, and where a job reads them."""

import json
from collections.abc import Iterable
from hashlib import md5
from pathlib import Path
from typing import Any

from unmask.runtime.digests import WEIGHTS
from unmask.sagemaker.contract import JobError
from unmask.storage import dvc_files
from unmask.storage.blobs import LAYOUT, Store, StoredFile, content_md5, encryption, sizes

# ---------------------------------------------------------------- what DVC knows


def find_files(root: Path, chunks: Iterable[str], weights: str) -> list[StoredFile]:
    """Return what a training on the chunks reads, with the digests of dvc.lock.

    Raises:
        StorageError: a stage before training has not run, or its files are not those of dvc.lock.
        JobError: the weights are no file of the checkout.
    """
    paths = {}
    for chunk in chunks:
        for path in (f"raw/{chunk}/index.csv", f"raw/{chunk}/fingerprints.csv"):
            paths[path] = f"raw@{chunk}"
        paths[f"faces/{chunk}"] = f"faces@{chunk}"
    return [*dvc_files.files_of(root, paths), *_weights_file(root, weights)]


def _weights_file(root: Path, weights: str) -> list[StoredFile]:
    """Return the starting weights where they are a file: they may be in Git, so DVC isn't asked."""
    if weights in {"none", "imagenet"}:  # the image has the package that holds the latter
        return []
    if weights == "kinetics400":
        raise JobError(
            "model.weights is kinetics400, which a job would have to fetch from the web. Download "
            "the file into weights/, and name it in model.weights, with its model.weights_sha256."
        )
    if (root / weights).is_dir():  # a model's folder stands for the weights in it
        weights = f"{weights.rstrip('/')}/{WEIGHTS}"
    path = (root / weights).resolve()
    if root.resolve() not in path.parents or Path(weights).is_absolute():
        raise JobError(
            f"model.weights is {weights}, which is not in this checkout: a job would not find it "
            "there. Copy it to weights/ and name that."
        )
    return [StoredFile(weights, content_md5(path), path.stat().st_size)]  # planning has read it too


def remote_store(root: Path) -> Store | None:
    """Return DVC's default remote, where that is a folder by content in AWS's S3."""
    remote = dvc_files.remote(root)
    return remote.store if remote and not remote.endpoint_url else None


def own_store(bucket: str, prefix: str) -> Store:
    """Return the folder that files are sent to."""
    return Store(bucket, f"{prefix}/{LAYOUT}")


# ---------------------------------------------------------------- a job's two lists


def manifest_text(store: Store, files: Iterable[StoredFile]) -> str:
    """Return the manifest of a channel: the store's address, then each content's name once."""
    return json.dumps([{"prefix": store.uri}, *sorted({file.stored for file in files})])


def text_name(folder: str, text: str, name: str) -> str:
    """Return the name in the bucket of an object that holds the text, which says which text."""
    return f"{folder}/{md5(text.encode(), usedforsecurity=False).hexdigest()}/{name}"


def put_text(s3: Any, bucket: str, name: str, text: str, *, kms_key: str | None) -> None:
    """Write the object that text_name named, unless it is there."""
    if name not in sizes(s3, bucket, name):
        s3.put_object(Bucket=bucket, Key=name, Body=text.encode(), **encryption(kms_key))
