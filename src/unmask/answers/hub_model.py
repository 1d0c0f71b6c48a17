"""A model's folder out of a repository of the Hugging Face Hub: known files alone, each checked."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from unmask.errors import MALFORMED, DiskError, WeightsError
from unmask.hub import client
from unmask.hub.address import Address, is_commit
from unmask.hub.client import Listing, Remote
from unmask.hub.refusals import UnreachableError
from unmask.models import checkpoint, looks, net_file
from unmask.models.checkpoint import Checkpoint
from unmask.params import say_problems
from unmask.runtime import system
from unmask.runtime.digests import CALIBRATION, CARD, NET, SETTINGS, WEIGHTS
from unmask.runtime.disk import content_digest, read_regular, write_atomically, writing

_log = logging.getLogger(__name__)

README = "README.md"  # what a repository calls its card
LOOKS = f"{CALIBRATION}/{looks.LOOKS}"
# What a model's folder gives to a repository, and takes from one: a file's name there, its name in
# the folder, and how many bytes it may have.
FILES = {
    SETTINGS: (SETTINGS, net_file.MOST_SETTINGS_BYTES),
    WEIGHTS: (WEIGHTS, 2**31),
    NET: (NET, net_file.MOST_BYTES),
    README: (CARD, 2**18),
    LOOKS: (LOOKS, 2**24),
    f"{CALIBRATION}/{SETTINGS}": (f"{CALIBRATION}/{SETTINGS}", net_file.MOST_SETTINGS_BYTES),
    f"{CALIBRATION}/{CARD}": (f"{CALIBRATION}/{CARD}", 2**18),
}
_NEEDED = (SETTINGS, WEIGHTS)
# Published weights have such names; all but the first may run code when they are read.
_WEIGHTS_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".tar")
_PICKLES = (*_WEIGHTS_ENDINGS[1:], ".joblib", ".dill")
_MOST_RECORD_BYTES = 2**16


def resolve(address: Address, cache: Path) -> Path:
    """Return the folder in the cache that holds the repository's model, whole and checked.

    A commit that was fetched is not asked for again. Which commit a branch or a tag is, is asked
    each time; where the Hub can't be reached, it is the one that it was when it was last asked.

    Raises:
        WeightsError: there is no such model, it can't be had, or not what was promised arrived.
        DiskError: the disk takes no more.
    """
    home = _home(cache) / address.folder
    if (commit := address.commit) and _is_whole(home / commit):
        return home / commit
    try:
        found = client.listing(address)
    except UnreachableError as error:
        return _kept(address, home, error)
    with _alone(home, address):
        if not _is_whole(home / found.commit):
            _fetch(address.at(found.commit), found, home)
        if _noted(home, address) != found.commit:
            write_atomically(_note(home, address), found.commit)
    return home / found.commit


def source_of(folder: Path, cache: Path) -> str | None:
    """Return hf:OWNER/NAME@COMMIT of a folder that resolve returned, and None of any other."""
    commit, home = folder.name, folder.parent
    if home.parent != _home(cache) or not is_commit(commit):
        return None
    return str(Address(home.name.replace("--", "/"), commit))


def _home(cache: Path) -> Path:
    return cache / "models" / "hub"


# ---------------------------------------------------------------- what is here already


def _kept(address: Address, home: Path, error: UnreachableError) -> Path:
    commit = address.commit or _noted(home, address)
    if commit and _is_whole(home / commit):
        _log.warning("%s: the Hub can't be asked; commit %s, fetched before", address, commit)
        return home / commit
    raise WeightsError(f"{error} It was not fetched before, or is damaged.") from error


def _note(home: Path, address: Address) -> Path:
    """Return the file that says which commit a branch or a tag was."""
    return home / "refs" / quote(address.revision or client.BRANCH, safe="")


def _noted(home: Path, address: Address) -> str | None:
    try:
        commit = read_regular(_note(home, address), 40).decode(errors="replace")
    except OSError:
        return None
    return commit if is_commit(commit) else None


def _record(place: Path) -> Path:
    """Return the file beside a fetched model that has the digests of its files."""
    return place.with_name(f"{place.name}.json")


def _is_whole(place: Path) -> bool:
    try:
        digests = json.loads(read_regular(_record(place), _MOST_RECORD_BYTES))
        return bool(_digests(place) == digests)
    except (OSError, *MALFORMED):
        return False


def _digests(place: Path) -> dict[str, str]:
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): content_digest(path) for path in files}


@contextmanager
def _alone(home: Path, address: Address) -> Iterator[None]:
    """Wait until no other process fetches a model of this repository."""
    try:
        with writing(home):
            home.mkdir(parents=True, exist_ok=True)
        handle = system.open_folder(home)
    except OSError as error:
        raise DiskError(
            f"Asked to keep {address} in {home}; the system said: {error.strerror}. Set "
            "XDG_CACHE_HOME to a folder that you may write to."
        ) from error
    try:
        with suppress(OSError):  # not every file system can lock
            try:
                system.lock(handle)
            except BlockingIOError:
                _log.info("%s: waiting for another process that fetches it", address)
                system.lock(handle, wait=True)
        yield
    finally:
        os.close(handle)


# ---------------------------------------------------------------- fetching


def _fetch(address: Address, found: Listing, home: Path) -> None:
    """Put the model into the place of its commit. What has arrived of it outlives a failure."""
    wanted = _wanted(address, found)
    partial = home / f".{found.commit}.partial"
    for stale in home.glob(".*.partial"):
        if stale != partial:
            shutil.rmtree(stale, ignore_errors=True)
    _check_space(address, wanted, home)
    _get(address, SETTINGS, wanted.pop(SETTINGS), partial)
    settings = _settings(address, partial)
    _check_digests(address, wanted, settings)
    if settings.net is None:
        wanted.pop(NET, None)
    for name, remote in wanted.items():
        _get(address, name, remote, partial)
    _check_content(address, partial, settings)
    place = home / found.commit
    with writing(place):
        shutil.rmtree(place, ignore_errors=True)  # damaged since it was fetched
        write_atomically(_record(place), json.dumps(_digests(partial)))
        partial.rename(place)


def _wanted(address: Address, found: Listing) -> dict[str, Remote]:
    """Return the files to fetch.

    Raises:
        WeightsError: the repository holds no model of ours, or one with too large a file.
    """
    if missing := [name for name in _NEEDED if name not in found.files]:
        published = sorted(name for name in found.files if name.endswith(_WEIGHTS_ENDINGS))
        do = (
            "Name another one, or a commit that has one."
            if not published
            else "Where these are weights that others published, run `unmask adopt "
            f"{Address(address.repository)}`."
        )
        has = f", and has {published[0]!r:.80}" if published else ""
        raise WeightsError(
            f"Asked for {address}; it holds no model of unmask's: {missing[0]} is not there{has}. "
            f"{do}"
        )
    if pickles := sorted(name for name in found.files if name.endswith(_PICKLES)):
        _log.warning(
            "%s also holds %r, a kind of file that may run code: it is not fetched",
            address, pickles[0][:80],
        )  # fmt: skip
    wanted = {name: found.files[name] for name in FILES if name in found.files}
    for name, remote in wanted.items():
        if remote.size > (most := FILES[name][1]):
            raise WeightsError(
                f"Asked for {address}; {name} has {remote.size:,} bytes, more than the {most:,} "
                "that it may have. Nothing was fetched."
            )
    return wanted


def _check_space(address: Address, wanted: dict[str, Remote], home: Path) -> None:
    needed, free = sum(each.size for each in wanted.values()), shutil.disk_usage(home).free
    if needed > free:
        raise DiskError(
            f"Asked for {address}, of {needed:,} bytes; {home} has room for {free:,}. Free space "
            "there, or set XDG_CACHE_HOME to a place with more."
        )


def _get(address: Address, name: str, remote: Remote, partial: Path) -> None:
    path = partial / FILES[name][0]
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and remote.is_of(path):
            return
        _log.info("fetching %s of %s: %s bytes", name, address, f"{remote.size:,}")
        part = path.with_name(f".{path.name}.part")
        client.download(address, name, remote, part)
        part.replace(path)


# ---------------------------------------------------------------- what came


def _settings(address: Address, folder: Path) -> Checkpoint:
    """Return the fetched settings.

    Raises:
        WeightsError: they are of another version of the format, or none of a model.
    """
    path = folder / SETTINGS
    try:
        values: Any = json.loads(path.read_bytes())
        if isinstance(values, dict) and values.get("format") != checkpoint.FORMAT:
            raise WeightsError(
                f"Asked for {address}; its {SETTINGS} has the format {values.get('format')!r:.40}, "
                f"and this version reads {checkpoint.FORMAT}. Use the version of unmask that wrote "
                "it, or another revision."
            )
        if isinstance(values, dict) and "start" in values:
            raise WeightsError(
                f"Asked for {address}; it holds weights that a training can start from, and no "
                "model. Name another one."
            )
        return checkpoint.read_settings(folder)
    except WeightsError as error:
        if not isinstance(error.__cause__, Exception):
            raise
        said = say_problems(error.__cause__)
    except MALFORMED as error:
        said = say_problems(error)
    raise WeightsError(
        f"Asked for {address}; its {SETTINGS} is not what unmask writes: {said:.300}. Name another "
        "revision, or ask whoever pushed it."
    )


def _check_digests(address: Address, wanted: dict[str, Remote], settings: Checkpoint) -> None:
    """Pass if the files that are still to come are those that the settings name."""
    promise, net = settings.promise, settings.net
    pairs = [
        (WEIGHTS, net.weights_sha256 if net else None),
        (WEIGHTS, promise.weights_sha256 if promise else None),
        (NET, net.sha256 if net else None),
        (LOOKS, promise.looks_sha256 if promise else None),
    ]
    for name, named in pairs:
        remote = wanted.get(name)
        if named and remote is None and name != NET:  # without which torch makes it
            raise _other(address, name, "is not there")
        if named and remote and remote.sha256 not in (None, named):
            raise _other(address, name, f"has {remote.sha256}")


def _check_content(address: Address, folder: Path, settings: Checkpoint) -> None:
    """Pass if what came is what the settings name, and weights without code."""
    promise, net = settings.promise, settings.net
    named = {
        WEIGHTS: {each.weights_sha256 for each in (net, promise) if each},
        NET: {net.sha256} if net else set(),
        LOOKS: {promise.looks_sha256} if promise and promise.looks_sha256 else set(),
    }
    for name, digests in named.items():
        if not digests or not (folder / name).is_file():
            continue
        if digests != {found := content_digest(folder / name)}:
            raise _other(address, name, f"has {found}")
    check_weights(folder / WEIGHTS, f"Asked for {address}; its {WEIGHTS}")


def _other(address: Address, name: str, found: str) -> WeightsError:
    return WeightsError(
        f"Asked for {address}; its {SETTINGS} names the sha256 of {name}, which {found}. Files of "
        "different models are mixed there: name another revision."
    )


def check_weights(path: Path, subject: str) -> None:
    """Pass if a file is of safetensors, whose reading runs nothing. subject begins the message.

    Raises:
        WeightsError: it is another one, such as a pickle.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            file.keys()
    except SafetensorError as error:
        raise WeightsError(
            f"{subject} is no file of safetensors ({error!s:.200}); any other may run code when "
            "it is read. Nothing was done with it."
        ) from error
