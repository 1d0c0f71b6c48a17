"""Repositories of the Hub: what they list, single files of them, commits to them.

How each file is fetched is its own: huggingface_hub begins a file anew that was broken off.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from unmask.hub.address import Address, is_commit
from unmask.hub.refusals import ANSWER_S, HubError, asking, library
from unmask.runtime.disk import content_digest

_SHA256, _SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")
BRANCH = "main"


@dataclass(frozen=True)
class Remote:
    """A file of a repository: its size in bytes, and the digest that the Hub has of it."""

    size: int
    sha256: str | None  # of a large file
    git_sha1: str | None  # of a small one, as Git computes it

    def is_of(self, path: Path) -> bool:
        """Say whether a file here has this content."""
        if path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return content_digest(path) == self.sha256
        whole = _git_begins(self.size)
        with path.open("rb") as file:
            while block := file.read(2**20):
                whole.update(block)
        return bool(whole.hexdigest() == self.git_sha1)

    def is_content(self, content: bytes) -> bool:
        """Say whether these bytes are its content."""
        if self.sha256 is not None:
            return hashlib.sha256(content).hexdigest() == self.sha256
        whole = _git_begins(len(content))
        whole.update(content)
        return bool(whole.hexdigest() == self.git_sha1)


@dataclass(frozen=True)
class Listing:
    """A repository at a commit: its files by their names, which are a stranger's."""

    commit: str
    files: Mapping[str, Remote]
    is_private: bool


def _git_begins(size: int) -> Any:
    """Return the SHA-1 of a file as Git begins it: with its length."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def listing(address: Address) -> Listing:
    """Return what the repository holds, at its revision or in its branch main.

    Raises:
        HubError: it can't be had. UnreachableError and NotThereError say why.
    """
    with asking(address):
        info = library().HfApi().model_info(
            address.repository, revision=address.revision, files_metadata=True, timeout=ANSWER_S
        )  # fmt: skip
        files = {each.rfilename: _remote(each) for each in info.siblings or []}
        if not is_commit(info.sha or ""):
            raise HubError(f"Asked the Hub for {address}; it names no commit.")
        return Listing(info.sha, {n: f for n, f in files.items() if f}, bool(info.private))


def _remote(sibling: Any) -> Remote | None:
    """Return what the Hub says of a file; None where that is not enough to check it."""
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    size = sibling.lfs.size if sibling.lfs else sibling.size
    blob = None if sibling.lfs else sibling.blob_id
    if type(size) is not int or size < 0:
        return None
    if not (_SHA256.fullmatch(sha256) if sha256 else blob and _SHA1.fullmatch(blob)):
        return None
    return Remote(size, sha256, blob)


class _AtMost:
    """A file that takes a number of bytes and no more, whatever is sent."""

    def __init__(self, file: BinaryIO, most: int, what: str) -> None:
        self._file, self._most, self._what = file, most, what
        self.tell, self.seek, self.truncate = file.tell, file.seek, file.truncate

    def write(self, block: bytes) -> int:
        if self._file.tell() + len(block) > self._most:
            raise HubError(
                f"Asked the Hub for {self._what}; more came than the {self._most:,} bytes that it "
                "has. Check HF_ENDPOINT."
            )
        return self._file.write(block)


def download(address: Address, name: str, remote: Remote, part: Path) -> None:
    """Fetch a file of the repository's commit into part, going on from what part holds already.

    Raises:
        HubError: it can't be had, breaks off or has another digest. What came is kept in part but
            where its digest is wrong.
        OSError: the disk takes no more.
    """
    assert address.commit
    with asking(address):
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        with part.open("ab") as file:
            if file.tell() > remote.size:
                file.truncate(0)
            have = file.tell()
            http_get(
                hf_hub_url(address.repository, name, revision=address.commit),
                _AtMost(file, remote.size, f"{name} of {address}"),  # type: ignore[arg-type]  # all that it asks of a file
                resume_size=have, headers=build_hf_headers(), expected_size=remote.size,
                displayed_filename=name,
            )  # fmt: skip
    if not remote.is_of(part):
        part.unlink()
        raise HubError(
            f"Asked the Hub for {name} of {address}; what arrived has another digest than the Hub "
            "says. Type the same again; if that does not help, the repository is damaged."
        )


def create(address: Address, *, private: bool) -> None:
    """Make a repository for a model.

    Raises:
        HubError: it can't be made.
    """
    with asking(address):
        library().HfApi().create_repo(address.repository, private=private)


def commit(
    address: Address,
    files: Mapping[str, Path | bytes],
    gone: Sequence[str],
    *,
    parent: str,
    message: str,
) -> str:
    """Put files into the branch main, take others out, in one commit, and return that.

    parent is the commit that it follows: nothing is done where somebody else was faster.

    Raises:
        HubError: it did not come to that; the branch is as it was.
    """
    with asking(address):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        made = library().HfApi().create_commit(
            address.repository,
            [
                *(CommitOperationAdd(name, content) for name, content in files.items()),
                *(CommitOperationDelete(name) for name in gone),
            ],
            commit_message=message, parent_commit=parent,
        )  # fmt: skip
        if not is_commit(made.oid):
            raise HubError(f"Pushed to {address}; the Hub names no commit.")
        return str(made.oid)
