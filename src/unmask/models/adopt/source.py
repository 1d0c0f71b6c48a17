"""Where published weights are: the Hub, an address, a file. What was fetched is not asked again."""

import http.client
import logging
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.errors import WeightsError
from unmask.hub import address as hub_address
from unmask.hub import refusals
from unmask.hub.address import HUB
from unmask.runtime.addresses import public
from unmask.runtime.disk import content_digest, create, delete_stale, give_name, new_name, writing

logger = logging.getLogger(__name__)

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_MOST_BYTES = 20 * 2**30


@dataclass(frozen=True)
class Found:
    """Published weights on this machine."""

    path: Path
    name: str  # of the file where it was published
    source: str  # as it is written into the model's folder
    commit: str | None
    sha256: str
    configs: dict[str, Path]  # JSON files that lie beside it


def repository_of(source: str) -> str | None:
    """Return the repository of the Hub that a source names; None if it names something else.

    Raises:
        WeightsError: it begins as one and names none.
    """
    return hub_address.parse(source).repository if source.startswith(HUB) else None


def find(
    source: str,
    *,
    files: Sequence[str],
    configs: Sequence[str],
    sha256: str | None,
    cache: Path,
) -> Found:
    """Return the weights that a source names, fetched if they are not here yet.

    files are the names that the weights may have in a repository, the best first; configs those of
    JSON files beside them, each of which may be missing. sha256 is what the file must have.

    Raises:
        WeightsError: they can't be had, or have another digest.
        DiskError: the disk takes no more.
    """
    if source.startswith(HUB):
        found = _of_hub(source, files, configs)
    elif source.startswith(("https:", "http:")):
        found = _of_address(source, sha256, cache)
    elif "://" in source:
        raise WeightsError(
            f"Asked for {source}; known are hf:OWNER/NAME[@COMMIT], an https address with its "
            "--sha256, and a file."
        )
    else:
        found = _of_file(Path(source), configs)
    if sha256 not in (None, found.sha256):
        raise WeightsError(
            f"{found.name} of {found.source} should have the sha256 {sha256} and has "
            f"{found.sha256}. It is damaged, or not the file that was meant: nothing was adopted."
        )
    return found


def _of_file(path: Path, configs: Sequence[str]) -> Found:
    if not path.is_file():
        raise WeightsError(
            f"Asked for {path}; there is no such file. Name a file of weights, hf:OWNER/NAME, or "
            "an https address."
        )
    beside = {name: path.parent / name for name in configs if (path.parent / name).is_file()}
    return Found(path, path.name, path.name, None, content_digest(path), beside)


# ---------------------------------------------------------------- the Hub


def _of_hub(source: str, files: Sequence[str], configs: Sequence[str]) -> Found:
    repository = repository_of(source)
    assert repository is not None
    _, _, revision = source.partition("@")
    path = _first_of(repository, revision or None, files, source)
    # The folder is named after the commit, whatever branch or tag was asked for.
    commit = next(part for part in reversed(path.parts) if re.fullmatch("[0-9a-f]{40}", part))
    beside = {}
    for name in configs:
        if (config := _download(repository, commit, name, source, is_optional=True)) is not None:
            beside[name] = config
    name = path.relative_to(_snapshot(path, commit)).as_posix()
    return Found(path, name, f"{HUB}{repository}", commit, content_digest(path), beside)


def _snapshot(path: Path, commit: str) -> Path:
    return next(parent for parent in path.parents if parent.name == commit)


def _first_of(repository: str, revision: str | None, files: Sequence[str], source: str) -> Path:
    if not files:
        raise WeightsError(
            f"Asked for {source}; this adapter was written for a file that is on no Hub. Fetch the "
            "file and name it."
        )
    for name in files:
        if (path := _download(repository, revision, name, source, is_optional=True)) is not None:
            return path
    raise WeightsError(
        f"Asked for {source}; it has none of {', '.join(files)}. Name another repository or "
        "commit, or fetch the file yourself and name it."
    )


def _download(
    repository: str, revision: str | None, name: str, source: str, *, is_optional: bool
) -> Path | None:
    refusals.has_token()  # what is wrong with it, or with HF_ENDPOINT, is said before it is used
    from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache

    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        # A commit never changes: what was fetched of it, or found missing, is not asked again.
        kept = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(kept, str):
            return Path(kept)
        if kept is not None and is_optional:
            return None
    try:
        with writing(Path(_cache()) / name), refusals.quiet():
            return Path(hf_hub_download(repository, name, revision=revision))
    except errors.GatedRepoError as error:
        raise WeightsError(
            f"Asked for {source}; its owner gives it only to those who asked. Ask for access on "
            "its page, then set HF_TOKEN or run `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(
            f"Asked for {source}; the repository has no such commit, branch or tag. Correct what "
            "follows the @, or leave it out."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"Asked for {source}; the Hub knows no such repository, or shows it only to those who "
            "may see it. Correct the name, or set HF_TOKEN."
        ) from error
    except errors.LocalEntryNotFoundError as error:  # neither reached nor fetched before
        raise WeightsError(
            f"Asked for {name} of {source}; the Hub can't be reached, and the file was not fetched "
            "before. Try again where there is a network, or name a file that you have."
        ) from error
    except errors.EntryNotFoundError:
        if is_optional:
            return None
        raise
    except (errors.OfflineModeIsEnabled, errors.RevisionResolutionError) as error:
        raise WeightsError(
            f"Asked for {name} of {source}; the Hub may not or can't be asked now, and the file "
            "was not fetched before. Unset HF_HUB_OFFLINE, or name a file that you have."
        ) from error
    except (
        errors.HTTPError,  # type: ignore[attr-defined]  # of its library of HTTP, which it names so
        errors.XetDownloadError, ConnectionError, TimeoutError,
    ) as error:  # fmt: skip
        raise _broke_off(name, source, str(error)) from error
    except OSError as error:
        if "onsistency" in str(error):  # of the size that the Hub said with what came
            raise _broke_off(name, source, "it ends too early") from error
        raise


def _broke_off(name: str, source: str, said: str) -> WeightsError:
    first = said.splitlines()[0] if said else "no answer"
    return WeightsError(
        f"Asked for {name} of {source}; it did not arrive whole: {first:.200}. Type the same again."
    )


def _cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


# ---------------------------------------------------------------- an address


def _of_address(source: str, sha256: str | None, cache: Path) -> Found:
    address = urllib.parse.urlsplit(source)
    shown = public(source)
    if address.scheme != "https" and address.hostname not in _LOOPBACK:
        raise WeightsError(
            f"Asked for {shown}; whoever sits on the way could change what comes by http. Name an "
            "https address."
        )
    if sha256 is None:
        raise WeightsError(
            f"Asked for {shown}; an address may serve anything. Say what is meant by --sha256 (of "
            "a file that you have, `sha256sum FILE` says it)."
        )
    name = Path(urllib.parse.unquote(address.path)).name or "weights"
    path = fetch(source, sha256, cache)
    return Found(path, name, shown, None, sha256, {})


def fetch(address: str, sha256: str, cache: Path) -> Path:
    """Return the file of that digest, fetched into the cache unless it is there.

    Raises:
        WeightsError: it can't be had, breaks off, or has another digest; nothing is kept then.
        DiskError: the disk takes no more.
    """
    path = cache / "fetched" / sha256
    if path.is_file() and content_digest(path) == sha256:
        return path
    shown = public(address)
    logger.info("fetching %s", shown)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        delete_stale(path, "partial")
        partial = new_name(path, "partial")
        try:
            with os.fdopen(create(partial), "wb") as out:
                _receive(address, shown, out)
                out.flush()
                found = content_digest(partial)
                if found != sha256:
                    raise WeightsError(
                        f"{shown} should have the sha256 {sha256} and has {found}. It is not the "
                        "file that was meant: nothing was kept."
                    )
                give_name(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def _receive(address: str, shown: str, out: Any) -> None:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            expected = answer.headers.get("Content-Length")
            received = 0
            while block := answer.read(1 << 20):
                received += len(block)
                if received > _MOST_BYTES:
                    raise WeightsError(f"{shown} has more than 20 GiB: that is no detector.")
                out.write(block)
    except (
        urllib.error.URLError, http.client.HTTPException,
        TimeoutError, ConnectionError, ssl.SSLError,
    ) as error:  # fmt: skip
        raise WeightsError(
            f"Asked for {shown}; it can't be had ({error}). Try again where there is a network, or "
            "name a file that you have."
        ) from error
    if expected is not None and received != int(expected):
        raise WeightsError(
            f"{shown} broke off at {received} of {expected} bytes. Type the same again."
        )
