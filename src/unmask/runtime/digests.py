"""A model's folder in one line: by what moves a score, as DVC writes it, as MLflow shows it."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

WEIGHTS, SETTINGS, CARD = "weights.safetensors", "checkpoint.json", "MODEL_CARD.md"
NET = "net.onnx"  # the same net without torch: checkpoint.json has its digest
CALIBRATION = "calibration"  # the folder that calibrating adds


def model_digest(folder: Path) -> str:
    """Return the SHA-256 that stands for a model's weights and settings: all that moves a score."""
    whole = hashlib.sha256()
    for name in (WEIGHTS, SETTINGS):
        whole.update(f"{_digest(folder / name, 'sha256')}  {name}\n".encode())
    return whole.hexdigest()


def mlflow_digest(folder: Path) -> str:
    """Return the SHA-256 of all files and their names: the tag of a model that MLflow keeps."""
    whole = hashlib.sha256()
    for path in _files(folder):
        content = _digest(path, "sha256")
        whole.update(f"{content} {path.relative_to(folder).as_posix()}\n".encode())
    return whole.hexdigest()


def dvc_digest(folder: Path) -> str:
    """Return the MD5 that dvc.lock has of a folder, with its `.dir`.

    It is that of the list of its files (dvc_data/hashfile/tree.py, Tree.as_bytes).
    """
    return _dvc_digest({path.relative_to(folder).as_posix(): path for path in _files(folder)})


def dvc_digest_before(folder: Path) -> str:
    """Return what dvc_digest was before the model was calibrated; the same if it was not.

    A calibrated model keeps the files that it replaced, see answers/calibration.
    """
    files = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    added = {name: path for name, path in files.items() if name.startswith(f"{CALIBRATION}/")}
    if f"{CALIBRATION}/{SETTINGS}" not in added:
        return _dvc_digest(files)
    before = {name: path for name, path in files.items() if name not in (*added, CARD)}
    for name in (SETTINGS, CARD):
        if f"{CALIBRATION}/{name}" in added:
            before[name] = added[f"{CALIBRATION}/{name}"]
    return _dvc_digest(before)


def _dvc_digest(files: Mapping[str, Path]) -> str:
    rows = [{"md5": _digest(path, "md5"), "relpath": name} for name, path in files.items()]
    listing = json.dumps(sorted(rows, key=lambda row: row["relpath"]), sort_keys=True)
    return hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path, kind: str) -> str:
    # MD5 is what DVC writes: a machine that forbids it for secrets shall allow it here.
    new = partial(hashlib.new, kind, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, new).hexdigest()
