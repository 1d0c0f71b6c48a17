"""What both ends of a training job agree on: its hyperparameters, and how its files travel.

Files travel by content, as in DVC's cache and remotes: a store holds each one below the first two
digits of its MD5, and a listing says which path has which content. So a job can read a DVC remote
as it is, and what was sent once is never sent again.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field, ValidationError

from unmask import params
from unmask.errors import MALFORMED, ParamsError, UnmaskError
from unmask.storage.blobs import StoredFile, content_md5

# The channels of a job, folders below /opt/ml/input/data: the stores, our own and DVC's remote, of
# which a job may have one or both, and the listing's file.
FILES, REMOTE, LISTING = "files", "remote", "listing"
LISTING_NAME = "listing.json"
DIGESTS = "digests.json"  # beside the model's files, which a job makes: name -> SHA-256
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html
_MAX_KEYS, _MAX_KEY_CHARS, _MAX_VALUE_CHARS = 100, 256, 2500
_KEY = "key"  # of the hyperparameters: the training's
# What SageMaker reads of a job's log: each metric's name, and where records.epoch_line has it.
METRICS = {
    name: rf"unmask epoch=\d+ (?:\S+ )*?{name}=([0-9.]+)"
    for name in ("train_loss", "val_loss", "val_auc")
} | {"epoch": r"unmask epoch=(\d+)"}


class JobError(UnmaskError):
    """A training job can't be sent, went wrong, or did not get what it was promised."""


class JobParams(params.Section):
    """What a training reads of params.yaml, and the key of the training that is asked for."""

    chunks: tuple[str, ...] = Field(strict=False, min_length=1)
    raw: params.Raw
    faces: params.Faces
    clips: params.Clips
    augment: params.Augment
    model: params.Model
    train: params.Train
    verdicts: params.Verdicts
    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # resume.training_key's


# ---------------------------------------------------------------- hyperparameters


def job_params(settings: params.Params, key: str) -> JobParams:
    """Return what the training of that key reads of all params."""
    names = [name for name in JobParams.model_fields if name != _KEY]
    return JobParams(**{name: getattr(settings, name) for name in names}, key=key)


def hyperparameters(wanted: JobParams) -> dict[str, str]:
    """Return a value in JSON for each param, as `train.epochs`: all that a job's request takes.

    Raises:
        JobError: a value is longer than SageMaker takes.
    """
    flat: dict[str, Any] = {}
    for name, value in wanted.model_dump(mode="json").items():
        inner = value if isinstance(value, dict) else {}
        flat |= {f"{name}.{field}": each for field, each in inner.items()} or {name: value}
    encoded = {name: json.dumps(value) for name, value in flat.items()}
    # Params alone decide how many keys there are, and their length.
    assert len(encoded) <= _MAX_KEYS
    assert max(map(len, encoded)) <= _MAX_KEY_CHARS
    for name, text in encoded.items():
        if len(text) > _MAX_VALUE_CHARS:
            raise JobError(
                f"{name} is to be sent as a hyperparameter, which has at most {_MAX_VALUE_CHARS} "
                f"characters; found {len(text)}. Train on fewer chunks, or give them shorter names."
            )
    return encoded


def read_hyperparameters(encoded: Mapping[str, str]) -> JobParams:
    """Return the params of hyperparameters as a job gets them, each a value in JSON.

    Raises:
        ParamsError: one is missing, unknown, no JSON, or out of range.
    """
    nested: dict[str, Any] = {}
    # Fields before whole sections, in which there is no place for a field.
    for name, text in sorted(encoded.items(), key=lambda pair: "." not in pair[0]):
        try:
            value = json.loads(text)
        except MALFORMED as error:
            raise ParamsError(
                f"Hyperparameter {name} should be a value in JSON; found {text!r}. Start the job "
                "by `unmask sagemaker submit`, which writes them."
            ) from error
        section, _, field = name.partition(".")
        if field:
            nested.setdefault(section, {})[field] = value
        else:
            nested[name] = value
    try:
        return JobParams(**nested)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        ]
        raise ParamsError(
            "The job's hyperparameters are not those of this image's unmask:\n  "
            + "\n  ".join(problems)
            + "\n  Build the image from the commit that submits: containers/build_and_push."
        ) from error


# ---------------------------------------------------------------- files


def listing_text(files: Iterable[StoredFile]) -> str:
    """Return the listing, the same text for the same files."""
    rows = sorted(map(asdict, files), key=lambda row: str(row["path"]))
    return json.dumps(rows, indent=0)


def read_listing(path: Path) -> list[StoredFile]:
    """Return the files of a listing.

    Raises:
        JobError: it is missing, damaged, or names a path outside of the checkout.
    """
    try:
        files = [StoredFile(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
        if odd := [f for f in files if type(f.path) is not str or type(f.md5) is not str]:
            raise TypeError(f"a path and a digest should be words: {odd[0]!r:.200}")
    except (OSError, *MALFORMED) as error:
        raise JobError(
            f"Asked for the list of the job's files, {path}; found none that can be read "
            f"({error}). Start the job by `unmask sagemaker submit`, which sends it."
        ) from error
    check_paths(str(path), [file.path for file in files])
    return files


def check_paths(where: str, paths: Iterable[str]) -> None:
    """Raises JobError for a path that leads out of the folder that it should be in."""
    for path in paths:
        parts = PurePosixPath(path).parts
        if not parts or ".." in parts or PurePosixPath(path).is_absolute():
            raise JobError(
                f"{where} names {path!r}, which is no path in a checkout: none of it is used. Look "
                "who may write to the bucket, and start the job again."
            )


def lay_out(
    files: Sequence[StoredFile], stores: Sequence[Path], root: Path, *, workers: int
) -> None:
    """Put each file of the stores at its path below root, by a hard link where that is possible.

    Raises:
        JobError: a file is in none of the stores, or not what the listing says.
    """
    with ThreadPoolExecutor(workers) as pool:  # hashing leaves Python's lock
        list(pool.map(partial(_place, stores, root), files))


def _place(stores: Sequence[Path], root: Path, file: StoredFile) -> None:
    source = find_blob(file, stores, command="unmask sagemaker submit")
    target = root / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # a job that was stopped and started again
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that is read only
        shutil.copyfile(source, target)


def find_blob(file: StoredFile, stores: Sequence[Path], *, command: str) -> Path:
    """Return where one of the stores has a file's content, after checking its digest.

    command starts such a job: what to type where the content is not as it should be.

    Raises:
        JobError: the content is in none of the stores, or another content is in its place.
    """
    sources = [store / file.stored for store in stores]
    source = next((path for path in sources if path.is_file()), None)
    if source is None:
        raise JobError(
            f"{file.path}: asked for its content, {sources[0]}; found no file. Type `{command}` "
            "again: what is missing is sent."
        )
    if (found := content_md5(source)) != file.md5:
        raise JobError(
            f"{file.path}: asked for content of MD5 {file.md5}, found {found} in {source}. Delete "
            f"the object that ends in {file.stored} from its bucket, and type `{command}` again: "
            "it is sent anew."
        )
    return source
