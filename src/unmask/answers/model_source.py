"""Where a model comes from: a folder, a DVC revision, MLflow, the Hub. What came is checked."""

import logging
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from unmask.answers import hub_model
from unmask.errors import MALFORMED, UnmaskError, WeightsError
from unmask.hub import address as hub_address
from unmask.runtime import checkout
from unmask.runtime.code import PACKAGE
from unmask.runtime.digests import SETTINGS, WEIGHTS, dvc_digest, mlflow_digest
from unmask.tracking.mlflow_client import (
    ANSWER_S,
    UPLOAD_S,
    default_uri,
    in_short,
    init_lock,
    mlflow,
    refusals,
    shown,
    sqlite_file,
    timeouts,
)
from unmask.tracking.provenance import main_checkout
from unmask.tracking.tracker import environment

_log = logging.getLogger(__name__)

_MLFLOW = ("models:/", "runs:/")
SCHEMES = (*_MLFLOW, hub_address.HUB)  # what is fetched, and stays as it is
WAYS = (
    "Name a model's folder by --model. In a checkout, train one with `make repro`, or fetch one: "
    "`dvc pull model`, `--rev REVISION` for that of a commit, `--model models:/unmask@champion` "
    "for one of MLflow's, `--model hf:OWNER/NAME` for one of the Hugging Face Hub's."
)
DEFAULT = "model"  # of `make repro`, in the folder that a command is typed in
DEMONSTRATION = "demonstration"  # the name of the model that a wheel holds
SHIPPED = PACKAGE / DEMONSTRATION  # where hatch_build.py puts it

# Where MLflow puts the folder that track_mlflow gave it, and the tag with its digest there.
_PYFUNC_FOLDER, _CONTENT = "artifacts/model", "unmask.sha256"
_SHA256 = re.compile(r"[0-9a-f]{64}")

# A stranger's file may be of any size, with nothing in it. A ViT-L's weights have 1.2 GB.
_MOST_BYTES = {SETTINGS: 2**20, WEIGHTS: 2**31}


def chosen(model: str | None, rev: str | None, *, shipped: Path = SHIPPED) -> str:
    """Return what --model means: without it the folder model, or else what the package ships.

    The demonstration is also meant by its name, where no folder here has it.
    """
    if model is None and (rev or os.path.lexists(DEFAULT) or not shipped.is_dir()):
        return DEFAULT
    if model is None:
        _log.info(
            "No --model, and no folder %s here: the demonstration model answers that comes with "
            "unmask. On videos unlike its own it is no better than chance.", DEFAULT,
        )  # fmt: skip
    elif model != DEMONSTRATION or rev or os.path.lexists(model):
        return model
    return str(shipped)


def is_shipped(model: str) -> bool:
    """Say whether what chosen returned is the package's own model, which stays as it is."""
    return model == str(SHIPPED)


def named(model: str | None, rev: str | None, *, cache: Path) -> Path:
    """Return what --model and --rev name, as resolve does for the folder and the environment here.

    Raises:
        WeightsError: there is no such model, or it can't be had.
    """
    model = chosen(model, rev)
    root = Path.cwd()
    uri = default_uri(os.environ, main_checkout(root))
    return resolve(model, rev, root=root, cache=cache, tracking_uri=uri)


def origin(model_dir: Path) -> tuple[Path, Path | None, Path | None]:
    """Return the folder whose metrics may be the model's, the checkout to ask, and MLflow's file.

    The folder is the one that the model lies in, by a dvc.lock beside it, or else the one worked
    in. Git is only asked of the checkout worked in, and so is MLflow's file, unless
    MLFLOW_TRACKING_URI names one: where the model lies in another folder, which may be a
    stranger's, the checkout is None.
    """
    here = main_checkout(Path.cwd()).resolve()
    beside = model_dir.resolve().parent
    if not (beside / "dvc.lock").is_file():
        beside = here
    ours = checkout.find(here)
    is_ours = beside == here or (ours is not None and checkout.find(beside) == ours)
    # The model of the checkout's top, asked for from a folder in it.
    at = beside if ours is not None and beside == ours.top else here
    return beside, beside if is_ours else None, sqlite_file(default_uri(os.environ, at))


def resolve(model: str, rev: str | None, *, root: Path, cache: Path, tracking_uri: str) -> Path:
    """Return the folder that holds the model; a fetched one is in the cache, whole and checked.

    With a revision, model is the path that DVC tracks in the checkout around root; its files come
    from DVC's cache or remote, and the working tree stays as it is.

    Raises:
        WeightsError: there is no such model, it can't be had now, or not what was promised arrived.
    """
    if model.startswith(hub_address.HUB):
        address = hub_address.parse(model)
        if rev is not None:
            raise WeightsError(
                f"Asked for {model} of the revision {rev} (--rev), which is one of a checkout. "
                "Write the Hub's behind an @: hf:OWNER/NAME@REVISION."
            )
        return hub_model.resolve(address, cache)
    is_uri = model.startswith(_MLFLOW)
    if rev is not None and is_uri:
        raise WeightsError(
            f"Asked for {model} of the revision {rev}; a model of MLflow's has versions, not "
            "revisions. Leave one of the two out."
        )
    if rev is not None:
        return _of_revision(root, model, rev, cache / "models")
    if is_uri:
        return _of_mlflow(model, tracking_uri, cache / "models")
    if ":/" in model and not os.path.lexists(model):
        raise WeightsError(
            f"Asked for the model {model}; known are a folder, {', '.join(SCHEMES)}... Write "
            "models:/unmask@champion, models:/unmask/3, runs:/RUN_ID/model or hf:OWNER/NAME."
        )
    return _checked_folder(Path(model))


def _checked_folder(folder: Path) -> Path:
    for name, most_bytes in _MOST_BYTES.items():
        if not (folder / name).is_file():
            raise WeightsError(f"Asked for the model in {folder}; {name} is not there. {WAYS}")
        size = (folder / name).stat().st_size
        if size > most_bytes:
            raise WeightsError(
                f"Asked for the model in {folder}; {name} has {size:,} bytes, more than the "
                f"{most_bytes:,} it may have. {WAYS}"
            )
    return folder


def _kept(place: Path, fetch: Callable[[Path], None], is_whole: Callable[[Path], bool]) -> Path:
    """Return the place in the cache, filled first unless what it holds is whole."""
    if place.is_dir() and is_whole(place):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetched-", dir=place.parent) as folder:
        fetched = Path(folder, "model")
        fetch(fetched)
        if not is_whole(fetched):
            raise WeightsError(
                f"Asked for the model {place.name}; what arrived has another digest. Type the same "
                "again; if that does not help, the place it comes from is damaged."
            )
        _checked_folder(fetched)
        if place.exists():  # damaged since it was fetched
            place.rename(Path(folder, "damaged"))
        try:
            fetched.rename(place)
        except OSError:
            if not is_whole(place):  # else another process was faster
                raise
    return place


# ---------------------------------------------------------------- DVC


def _of_revision(root: Path, path: str, rev: str, cache: Path) -> Path:
    from dvc.repo import Repo

    asked = f"Asked DVC for {path} of the revision {rev} in {root}"
    try:
        # With a revision DVC reads Git's objects: the working tree is neither read nor changed.
        with environment(_own_aws_files()), Repo(str(root), rev=rev) as repo:
            tracked = os.path.relpath(Path(root, path).resolve(), Path(Repo.find_root(str(root))))
            out = next((out for out in repo.index.outs if _path_in(repo, out) == tracked), None)
            if out is None or not out.hash_info:
                raise WeightsError(
                    f"{asked}; that revision has no such output. Name one whose dvc.lock has it, "
                    "or another --model."
                )
            digest = str(out.hash_info.value)
            return _kept(
                cache / f"md5-{digest}",
                lambda folder: repo.dvcfs.get(out.fs_path, str(folder), recursive=True),
                lambda folder: dvc_digest(folder) == digest,
            )
    except UnmaskError:
        raise
    except Exception as error:  # a stranger's files may break DVC and dulwich anywhere
        said = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        raise WeightsError(
            f"{asked}; it said: {said}. If the revision is right, `git fetch --tags` brings it, "
            "and its model must be in DVC's cache here or in the remote (`dvc push`)."
        ) from error


def _own_aws_files() -> dict[str, str]:
    """Return the variables that name the user's own AWS files, as they are or by default.

    DVC sets these variables, where they are not set, to what the checkout's configuration names;
    and such a file may name a program that hands out keys (credential_process), which would run.
    """
    files = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"}
    own = Path("~/.aws").expanduser()
    return {name: os.environ.get(name) or str(own / file) for name, file in files.items()}


def _path_in(repo: Any, out: Any) -> str:
    return str(os.path.relpath(out.fs_path, repo.root_dir))


# ---------------------------------------------------------------- MLflow


def _of_mlflow(model: str, uri: str, cache: Path) -> Path:
    asked = f"Asked MLflow at {shown(uri)} for {model}"
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise WeightsError(
            f"{asked}; {file} is not there, and MLFLOW_TRACKING_URI is not set. Set it to the "
            "server that has the model, or name a folder by --model."
        )
    if file is not None:
        _check_tables(file, asked)
    known: tuple[type[Exception], ...] = (*refusals(uri), *MALFORMED)
    try:
        # A file may say that the model's files are at a server, which MLflow asks for minutes.
        soon = {
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{UPLOAD_S}",
        }
        with environment({"MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri} | soon):
            with timeouts(uri, ANSWER_S), init_lock(uri):
                address, digest = _find(mlflow().MlflowClient(uri), model)
            with timeouts(uri, UPLOAD_S):
                place = cache / f"sha256-{digest}"
                return _kept(
                    place,
                    lambda folder: _download(f"{address}/{_PYFUNC_FOLDER}", uri, folder),
                    lambda folder: mlflow_digest(folder) == digest,
                )
    except known as error:
        # From None: what MLflow raises may hold the URI with its password.
        raise WeightsError(
            f"{asked}; found: {in_short(error, uri)}. Check the name and MLFLOW_TRACKING_URI, or "
            "name a folder by --model."
        ) from None


def _check_tables(file: Path, asked: str) -> None:
    """Refuse a file whose SQL runs when it is read; a view's may go on without end.

    MLflow's own files have tables, and a trigger for writing. One that SQLite can't read is for
    MLflow to refuse.
    """
    made_up = (
        "SELECT name FROM sqlite_master "
        "WHERE type = 'view' OR type = 'table' AND rootpage = 0 LIMIT 1"
    )
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as store:
            found = store.execute(made_up).fetchone()
    except sqlite3.Error:
        return
    if found:
        raise WeightsError(
            f"{asked}; {file} holds {str(found[0])!r}, which is no table of MLflow's but a view or "
            "a virtual table. Name a folder by --model, or a file that MLflow wrote."
        )


def _find(client: Any, model: str) -> tuple[str, str]:
    """Return where the logged model's files are, and their digest."""
    logged = _logged_model(client, model)
    digest = logged.tags.get(_CONTENT)
    if digest and not _SHA256.fullmatch(digest):  # it is part of a path
        raise WeightsError(
            f"Asked for {model}; its tag {_CONTENT} in MLflow is no SHA-256. Name one that `dvc "
            "repro` logged."
        )
    if not digest:
        raise WeightsError(
            f"Asked for {model}; MLflow's model {logged.model_id} ({logged.name}) has no tag "
            f"{_CONTENT}: unmask did not log it. Name one that `dvc repro` logged."
        )
    return str(logged.artifact_location), digest


def _logged_model(client: Any, model: str) -> Any:
    scheme, _, rest = model.partition(":/")
    parts = rest.strip("/").split("/")
    if scheme == "runs" and len(parts) == 2:
        return _model_of_run(client, *parts)
    if scheme == "models" and len(parts) == 1 and "@" in rest:
        version = client.get_model_version_by_alias(*parts[0].rsplit("@", 1))
    elif scheme == "models" and len(parts) == 2:
        version = client.get_model_version(*parts)
    elif scheme == "models" and len(parts) == 1 and parts[0].startswith("m-"):
        return client.get_logged_model(parts[0])
    else:
        raise WeightsError(
            f"Asked for {model}; that names no model. Write models:/unmask@champion, "
            "models:/unmask/3 or runs:/RUN_ID/model."
        )
    if not version.source.startswith("models:/"):
        raise WeightsError(
            f"Asked for {model}; its files are at {shown(version.source)}, where unmask logs none. "
            "Name a version that `unmask log --register` made."
        )
    return client.get_logged_model(version.source.removeprefix("models:/"))


def _model_of_run(client: Any, run_id: str, name: str) -> Any:
    run = client.get_run(run_id)
    known = client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run_id}'",
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
    )  # fmt: skip
    for logged in known:
        if logged.status == "READY" and name in ("model", logged.name):
            return logged
    names = ", ".join(sorted({logged.name for logged in known})) or "none"
    raise WeightsError(
        f"Asked for runs:/{run_id}/{name}; the run has no such model that is whole, of {names}. "
        "Name another one, or send what waits by `unmask log`."
    )


def _download(address: str, uri: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="unmask-") as scratch:
        got = mlflow().artifacts.download_artifacts(
            artifact_uri=address, dst_path=scratch, tracking_uri=uri
        )
        shutil.move(got, folder)
