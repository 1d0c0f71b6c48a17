"""What DVC knows of a checkout's files: their digests by dvc.lock, and where its remote is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unmask.storage.blobs import LAYOUT, StorageError, Store, StoredFile
from unmask.storage.s3 import Remote


def files_of(root: Path, paths: Mapping[str, str]) -> list[StoredFile]:
    """Return what files and folders of a checkout hold, with the digests of dvc.lock.

    paths gives the stage that makes each. DVC remembers which files it has hashed: only what
    changed since is read again.

    Raises:
        StorageError: a stage has not run, or its files are not those of dvc.lock.
    """
    from dvc.exceptions import DvcException

    try:
        tracked = _tracked(root)
        return [
            file
            for path, stage in paths.items()
            for file in _files_of(root, path, tracked.get(path), stage=stage)
        ]
    except DvcException as error:
        raise StorageError(
            f"Asked DVC for the files in {root}; it said: {error}. Run `dvc repro` first."
        ) from error


def files_at(
    root: Path, paths: Sequence[Path], stages: Mapping[Path, str]
) -> dict[Path, StoredFile]:
    """Return what files of a checkout hold, as files_of does, by their paths.

    stages gives the stage that makes each file's folder.

    Raises:
        StorageError: as files_of; or dvc.lock does not have one of the files.
    """
    folders = sorted({path.parent for path in paths})
    made_by = {folder.as_posix(): stages[folder] for folder in folders}
    found = {Path(file.path): file for file in files_of(root, made_by)}
    if lost := [path for path in paths if path not in found]:
        raise StorageError(
            f"Asked for {lost[0]} as dvc.lock has it; it has no such file. Run `dvc repro "
            f"{stages[lost[0].parent]}` first."
        )
    return {path: found[path] for path in paths}


def _tracked(root: Path) -> dict[str, Any]:
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        outs = {Path(out.fs_path): out for out in repo.index.outs if out.protocol == "local"}
    top = root.resolve()
    return {p.relative_to(top).as_posix(): out for p, out in outs.items() if top in p.parents}


def _files_of(root: Path, path: str, out: Any, *, stage: str) -> list[StoredFile]:
    remedy = f"Run `dvc repro {stage}` first (or `dvc pull {stage}`)."
    if out is None or not out.hash_info:
        raise StorageError(f"Asked for {path} as dvc.lock has it; it has none. {remedy}")
    if not out.exists:
        raise StorageError(f"Asked for {path}, which dvc.lock has; it is not there. {remedy}")
    if out.changed_checksum():
        raise StorageError(
            f"Asked for {path} as dvc.lock has it ({out.hash_info.value}); the files there differ. "
            f"{remedy}"
        )
    if not out.hash_info.isdir:
        return [StoredFile(path, out.hash_info.value, (root / path).stat().st_size)]
    tree = out.get_obj()
    if tree is None:
        raise StorageError(
            f"Asked DVC's cache for the list of {path} ({out.hash_info.value}); it has none. Run "
            f"`dvc commit {stage}`, which writes it."
        )
    found = [("/".join((path, *parts)), content.value) for parts, _, content in tree]
    return [StoredFile(name, digest, (root / name).stat().st_size) for name, digest in found]


def remote(root: Path) -> Remote | None:
    """Return DVC's default remote, where that is a folder by content in S3, or in what is like it.

    Its credentials are no part of it: whoever asks it has the environment's.

    Raises:
        StorageError: the folder is no checkout that DVC can read.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            name = repo.config["core"].get("remote")
            found = repo.config["remote"].get(name, {}) if name else {}
    except DvcException as error:
        raise StorageError(
            f"Asked DVC for the remote of {root}; it said: {error}. Run `dvc init` first."
        ) from error
    bucket, _, prefix = str(found.get("url", "")).removeprefix("s3://").partition("/")
    by_version = any(found.get(key) for key in ("version_aware", "worktree"))
    if not str(found.get("url", "")).startswith("s3://") or by_version:
        return None
    store = Store(bucket, "/".join(part for part in (prefix.strip("/"), LAYOUT) if part))
    return Remote(store, found.get("endpointurl"), found.get("region"))
