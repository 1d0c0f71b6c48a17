"""What a repository of the Hugging Face Hub is called: hf:OWNER/NAME, with @REVISION."""

import re
from dataclasses import dataclass

from unmask.errors import WeightsError

HUB = "hf:"
_MOST_CHARACTERS = 96  # of OWNER/NAME: huggingface_hub's validate_repo_id
_PART = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")  # a commit, a tag, a branch
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKEN = re.compile(r"hf_\w+")


@dataclass(frozen=True)
class Address:
    """A repository of the Hub, and a state of it where one is named."""

    repository: str  # OWNER/NAME
    revision: str | None = None  # without one, the branch main

    def __str__(self) -> str:
        """Return it as it is typed."""
        return f"{HUB}{self.repository}" + (f"@{self.revision}" if self.revision else "")

    @property
    def commit(self) -> str | None:
        """Return the commit, if the revision is one, whose content never changes."""
        return self.revision if is_commit(self.revision or "") else None

    @property
    def folder(self) -> str:
        """Return a name for a folder. No two repositories share one: none has two hyphens."""
        return self.repository.replace("/", "--")

    def at(self, commit: str) -> "Address":
        """Return the same repository at a commit."""
        return Address(self.repository, commit)


def is_commit(text: str) -> bool:
    """Say whether this is the whole name of a commit."""
    return bool(_COMMIT.fullmatch(text))


def parse(text: str) -> Address:
    """Return what hf:OWNER/NAME or hf:OWNER/NAME@REVISION names.

    >>> str(parse("hf:ada/detector@v1")), parse("hf:ada/detector").folder
    ('hf:ada/detector@v1', 'ada--detector')

    Raises:
        WeightsError: it names no repository.
    """
    repository, at, revision = text.removeprefix(HUB).partition("@")
    parts = repository.split("/")
    is_repository = (
        len(parts) == 2
        and len(repository) <= _MOST_CHARACTERS
        and all(_PART.fullmatch(part) and not re.search(r"--|\.\.", part) for part in parts)
        and not repository.endswith((".git", ".ipynb"))
    )
    is_revision = not at or (
        _REVISION.fullmatch(revision) is not None
        and not re.search(r"\.\.|//|/$|\.lock$|\.$", revision)
    )
    if not text.startswith(HUB) or not is_repository or not is_revision:
        # A token that slipped into the address is not repeated.
        shown = _TOKEN.sub("hf_…", text)
        raise WeightsError(
            f"Asked for {shown!r:.200}; a repository of the Hub is named hf:OWNER/NAME, with "
            "@COMMIT where a certain state of it is meant: a commit, a tag or a branch."
        )
    return Address(repository, revision or None)
