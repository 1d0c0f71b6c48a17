"""A training's files in S3, by content: what dvc.lock says of them, and where a job reads them."""

import base64
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import Any

from unmask.runtime.digests import WEIGHTS
from unmask.sagemaker.checks import MAX_CONNECTIONS
from unmask.sagemaker.contract import JobError, StoredFile

_LAYOUT = "files/md5"  # below a DVC remote's address, since DVC 3


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


# ---------------------------------------------------------------- what DVC knows


def find_files(root: Path, chunks: Iterable[str], weights: str) -> list[StoredFile]:
    """Return what a training on the chunks reads, with the digests of dvc.lock.

    DVC remembers which files it has hashed: only what changed since is read again.

    Raises:
        JobError: a stage before training has not run, or its files are not those of dvc.lock.
    """
    from dvc.exceptions import DvcException

    try:
        tracked = _tracked(root)
        files = []
        for chunk in chunks:
            for path in (f"raw/{chunk}/index.csv", f"raw/{chunk}/fingerprints.csv"):
                files += _files_of(root, path, tracked.get(path), stage=f"raw@{chunk}")
            faces = f"faces/{chunk}"
            files += _files_of(root, faces, tracked.get(faces), stage=f"faces@{chunk}")
    except DvcException as error:
        raise JobError(
            f"Asked DVC for the crops in {root}; it said: {error}. Run `dvc repro faces` first."
        ) from error
    return [*files, *_weights_file(root, weights)]


def _tracked(root: Path) -> dict[str, Any]:
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        outs = {Path(out.fs_path): out for out in repo.index.outs if out.protocol == "local"}
    top = root.resolve()
    return {p.relative_to(top).as_posix(): out for p, out in outs.items() if top in p.parents}


def _files_of(root: Path, path: str, out: Any, *, stage: str) -> list[StoredFile]:
    remedy = f"Run `dvc repro {stage}` first (or `dvc pull {stage}`)."
    if out is None or not out.hash_info:
        raise JobError(f"Asked for {path}, which training reads; dvc.lock has none. {remedy}")
    if not out.exists:
        raise JobError(f"Asked for {path}, which training reads; it is not there. {remedy}")
    if out.changed_checksum():
        raise JobError(
            f"Asked for {path} as dvc.lock has it ({out.hash_info.value}); the files there differ. "
            f"{remedy}"
        )
    if not out.hash_info.isdir:
        return [StoredFile(path, out.hash_info.value, (root / path).stat().st_size)]
    tree = out.get_obj()
    if tree is None:
        raise JobError(
            f"Asked DVC's cache for the list of {path} ({out.hash_info.value}); it has none. Run "
            f"`dvc commit {stage}`, which writes it."
        )
    found = [("/".join((path, *parts)), content.value) for parts, _, content in tree]
    return [StoredFile(name, digest, (root / name).stat().st_size) for name, digest in found]


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
    content = path.read_bytes()  # planning has read it too
    return [StoredFile(weights, md5(content, usedforsecurity=False).hexdigest(), len(content))]


def remote_store(root: Path) -> Store | None:
    """Return DVC's default remote, where that is a folder by content in AWS's S3."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        name = repo.config["core"].get("remote")
        remote = repo.config["remote"].get(name, {}) if name else {}
    bucket, _, prefix = str(remote.get("url", "")).removeprefix("s3://").partition("/")
    elsewhere = any(remote.get(key) for key in ("endpointurl", "version_aware", "worktree"))
    if not str(remote.get("url", "")).startswith("s3://") or elsewhere:
        return None
    return Store(bucket, "/".join(part for part in (prefix.strip("/"), _LAYOUT) if part))


def own_store(bucket: str, prefix: str) -> Store:
    """Return the folder that files are sent to."""
    return Store(bucket, f"{prefix}/{_LAYOUT}")


# ---------------------------------------------------------------- what S3 has


def missing(s3: Any, store: Store, files: Collection[StoredFile]) -> list[StoredFile]:
    """Return one file for each content that the store does not hold whole."""
    wanted = {store.object_name(file): file for file in files}
    # Listed by their first two digits: a thousand names an answer, however many are asked for.
    starts = sorted({f"{store.prefix}/{file.md5[:2]}/" for file in files})
    there: dict[str, int] = {}
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        for found in pool.map(partial(_list, s3, store.bucket), starts):
            there |= found
    return [file for name, file in wanted.items() if there.get(name) != file.size_bytes]


def _list(s3: Any, bucket: str, start: str) -> dict[str, int]:
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
            pool.submit(_send, s3, store, file, root, _encryption(kms_key)): file for file in files
        }
        try:
            for sent in as_completed(sending):
                sent.result()
                yield sending[sent]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _send(s3: Any, store: Store, file: StoredFile, root: Path, encryption: dict[str, str]) -> None:
    digest = base64.b64encode(bytes.fromhex(file.md5)).decode()
    with (root / file.path).open("rb") as content:
        s3.put_object(
            Bucket=store.bucket, Key=store.object_name(file), Body=content, ContentMD5=digest,
            **encryption,
        )  # fmt: skip


def _encryption(kms_key: str | None) -> dict[str, str]:
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}


# ---------------------------------------------------------------- a job's two lists


def manifest_text(store: Store, files: Iterable[StoredFile]) -> str:
    """Return the manifest of a channel: the store's address, then each content's name once."""
    return json.dumps([{"prefix": store.uri}, *sorted({file.stored for file in files})])


def text_name(folder: str, text: str, name: str) -> str:
    """Return the name in the bucket of an object that holds the text, which says which text."""
    return f"{folder}/{md5(text.encode(), usedforsecurity=False).hexdigest()}/{name}"


def put_text(s3: Any, bucket: str, name: str, text: str, *, kms_key: str | None) -> None:
    """Write the object that text_name named, unless it is there."""
    if name not in _list(s3, bucket, name):
        s3.put_object(Bucket=bucket, Key=name, Body=text.encode(), **_encryption(kms_key))
