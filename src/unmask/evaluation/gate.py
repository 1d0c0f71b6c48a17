"""May this be released? What a model is worth now against the last release, by what Git keeps."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.errors import MALFORMED, UnmaskError
from unmask.params import CLEAN, Gate
from unmask.runtime import checkout

RECORD = "metrics/robustness.json"
RELEASES = "v*"  # Git tags
_MEASURED_ON = ("test videos", "degradations")
Record = Mapping[str, Any]  # what robustness.record returns


class GateError(UnmaskError):
    """There is nothing to compare, or two records that can't be compared."""


@dataclass(frozen=True)
class Check:
    """One number of two releases. A drop is how much worse degraded videos are answered."""

    what: str
    released: float | None
    now: float | None
    limit: float | None  # how bad it may be now; None where the release has no such number
    more_is_worse: bool

    @property
    def holds(self) -> bool:
        """Return whether it is no worse than it may be; a number that is gone does not hold."""
        if self.limit is None:
            return True
        if self.now is None:
            return False
        beyond = self.now - self.limit if self.more_is_worse else self.limit - self.now
        return round(beyond, 9) <= 0  # 0.1 + 0.2 is a little more than 0.3


def read_record(root: Path) -> Record:
    """Return the record of the working tree.

    Raises:
        GateError: there is none, or it is damaged.
    """
    path = root / RECORD
    if not path.is_file():
        raise GateError(
            f"Asked whether this may be released; {path} is not there. Run `dvc repro robustness`."
        )
    return _parse(path.read_text(encoding="utf-8"), str(path))


def last_release(root: Path) -> tuple[str, Record] | None:
    """Return the newest release before this commit that has a record, by name; None without one.

    Releases are the tags v*, ordered as versions: v1.10 is newer than v1.9, and than v1.10-rc1. A
    tag that this commit does not descend from is another line's: v2 is none before a mended v1.

    Raises:
        GateError: this is no Git repository, has no commit, or is a shallow clone without tags; or
            all releases are of other lines; or the record is damaged.
    """
    order = ("-c", "versionsort.suffix=-", "tag", "--list", RELEASES, "--sort=-version:refname")
    before = set(_git(root, "tag", "--merged", "HEAD").splitlines())
    others = []
    for tag in _git(root, *order, "--no-contains", "HEAD").splitlines():
        if _git(root, "ls-tree", "--name-only", tag, "--", RECORD):
            if tag in before:
                return tag, record_of(root, tag)
            others.append(tag)
    if _git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise GateError(
            "Asked for the last release; this is a shallow clone, which may lack its tag. Run `git "
            "fetch --unshallow --tags` first."
        )
    if others:
        raise GateError(
            f"Asked for the last release; this commit descends from none of {', '.join(others)}. "
            "Say which to compare with (--against)."
        )
    return None


def record_of(root: Path, revision: str) -> Record:
    """Return the record of a Git revision.

    Raises:
        GateError: there is no such revision, or it has no record, or a damaged one.
    """
    # Not `git show`, which has a program that the configuration names make text of the file.
    # --end-of-options is unknown to cat-file: a revision that begins with a dash is none.
    if revision.startswith("-"):
        raise GateError(f"Asked for the record of {revision}; no revision begins with a dash.")
    content = _git(root, "cat-file", "blob", f"{revision}:./{RECORD}")
    return _parse(content, f"{RECORD} of {revision}")


def compare(released: Record, now: Record, settings: Gate) -> list[Check]:
    """Return the checks of a record against a released one.

    Raises:
        GateError: they are of other test videos or other degradations.
    """
    pairs = zip(_MEASURED_ON, released["measured_on"], now["measured_on"], strict=True)
    if other := [what for what, before, after in pairs if before != after]:
        raise GateError(
            f"Asked to compare two records; they were measured on other {' and '.join(other)}. "
            "Compare with a release that shares them (--against), or measure that release again on "
            "these: check out its code and model in a worktree, copy params.yaml's robustness "
            "section and the chunks there, and run `dvc repro robustness`."
        )
    growth = settings.max_growth
    return [
        Check(what, before, after, _limit(before, most, more_is_worse=worse), worse)
        for what, path, most, worse in (
            ("AUC", ("robustness", CLEAN, "roc_auc"), growth.roc_auc, False),
            ("log-loss", ("robustness", CLEAN, "log_loss"), growth.log_loss, True),
            ("worst AUC drop", ("worst", "roc_auc_drop"), growth.roc_auc, True),
            ("worst log-loss growth", ("worst", "log_loss_drop"), growth.log_loss, True),
            ("lowest coverage", ("worst", "coverage"), growth.coverage, False),
        )
        for before, after in [(_value(released, path), _value(now, path))]
    ]


def _limit(before: float | None, most: float, *, more_is_worse: bool) -> float | None:
    if before is None:
        return None
    return before + most if more_is_worse else before - most


def _value(record: Record, path: Sequence[str]) -> float | None:
    found: Any = record
    for key in path:
        found = found[key]
    return None if found is None else float(found)


def table(release: str, checks: Sequence[Check]) -> str:
    """Return the checks as a table for people."""
    return "\n".join(_lines(release, checks))


def _lines(release: str, checks: Sequence[Check]) -> Iterator[str]:
    yield f"{'':24}{release:>12}{'now':>12}{'limit':>12}"
    for check in checks:
        numbers = "".join(
            f"{'-' if number is None else format(number, '.4f'):>12}"
            for number in (check.released, check.now, check.limit)
        )
        yield f"{check.what:24}{numbers}  {'ok' if check.holds else 'WORSE'}"


def _parse(text: str, where: str) -> Record:
    try:
        found = json.loads(text)
        if not {"worst", "robustness", "measured_on"} <= set(found):
            raise ValueError(f"only {', '.join(found) or 'nothing'}")
    except MALFORMED as error:
        raise GateError(
            f"{where} should hold what the robustness stage writes; found {error}. Take it from "
            "Git again, or run `dvc repro robustness`."
        ) from error
    record: Record = found
    return record


def _git(root: Path, *arguments: str) -> str:
    try:
        return checkout.ask(root, *arguments)
    except checkout.GitError as error:
        raise GateError(
            f"Asked Git for `git {' '.join(arguments)}` in {root}; it said: {error}. "
            "Run this in a clone of the project, and name a revision that `git log` knows."
        ) from error
