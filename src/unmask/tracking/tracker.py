"""What a stage may ask of the place where its run is written down: a protocol, and nowhere.

The places themselves are track_mlflow and track_wandb, which no stage depends on.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

from unmask.errors import UnmaskError


class TrackingError(UnmaskError):
    """Runs can't be written where they should go."""


class Tracker(Protocol):
    """One run. As a context manager it finishes itself: as failed where an error gets out.

    A place that is down never stops the work: what it did not take waits on the disk.
    """

    run_key: str | None  # our own name of the run, the same in every place; opens it again

    def log_params(self, values: Mapping[str, object]) -> None:
        """Note settings; sections inside sections get dotted names."""

    def log_tags(self, values: Mapping[str, object]) -> None:
        """Note facts about the run; a later value replaces an earlier one."""

    def log_metrics(self, values: Mapping[str, float | None], *, step: int | None = None) -> None:
        """Note numbers, of an epoch or of the run as a whole; None is left out."""

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file with the run, in a folder there."""

    def log_model(self, model_dir: Path) -> str | None:
        """Keep a copy of a model's folder; return its address where it has one by now."""

    def register_model(self, model_dir: Path, alias: str) -> None:
        """Let the alias point to the run's model, which is kept first if it is not yet there."""

    def finish(self, *, failed: bool) -> None:
        """End the run."""

    def __enter__(self) -> Self:
        """Return the run."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the run."""


class NullTracker:
    """Keeps nothing but the run's key: a model must not differ by where its run was written."""

    run_key: str | None = None

    def __init__(self, run_key: str | None = None) -> None:
        self.run_key = run_key

    def log_params(self, values: Mapping[str, object]) -> None:
        """Do nothing."""

    def log_tags(self, values: Mapping[str, object]) -> None:
        """Do nothing."""

    def log_metrics(self, values: Mapping[str, float | None], *, step: int | None = None) -> None:
        """Do nothing."""

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Do nothing."""

    def log_model(self, model_dir: Path) -> str | None:
        """Do nothing."""

    def register_model(self, model_dir: Path, alias: str) -> None:
        """Do nothing."""

    def finish(self, *, failed: bool) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        pass


def checked_alias(alias: str) -> str:
    """Return the alias, if a registered model can have it.

    Raises:
        TrackingError: it holds other characters than letters, digits, _ and -, or is reserved.
    """
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"(?i)latest|v\d+", alias):
        raise TrackingError(
            f"Asked to register the model as {alias!r}; an alias is made of letters, digits, _ and "
            "-, and is neither `latest` nor v and a number. Choose another, such as champion."
        )
    return alias


def flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the values under dotted names.

    >>> flat({"train": {"lr": 0.1, "crf": [1]}, "none": {}})
    {'train.lr': 0.1, 'train.crf': [1], 'none': {}}
    """
    found: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
