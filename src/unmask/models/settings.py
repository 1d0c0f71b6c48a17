"""The sections of params.yaml that training reads, as one value; imports no torch."""

from dataclasses import dataclass
from typing import Any, Protocol

from unmask.params import Augment, Clips, Faces, Model, Train, Verdicts


class _Sections(Protocol):
    """All of params.yaml, or the part of it that a job is given."""

    @property
    def faces(self) -> Faces: ...
    @property
    def clips(self) -> Clips: ...
    @property
    def augment(self) -> Augment: ...
    @property
    def model(self) -> Model: ...
    @property
    def train(self) -> Train: ...
    @property
    def verdicts(self) -> Verdicts: ...


@dataclass(frozen=True)
class Settings:
    """The sections of params.yaml that training reads."""

    faces: Faces
    clips: Clips
    augment: Augment
    model: Model
    train: Train
    verdicts: Verdicts

    @classmethod
    def of(cls, params: _Sections) -> "Settings":
        """Return the sections out of params that may hold others too."""
        return cls(
            faces=params.faces, clips=params.clips, augment=params.augment,
            model=params.model, train=params.train, verdicts=params.verdicts,
        )  # fmt: skip

    def dumped(self) -> dict[str, Any]:
        """Return each section by name as plain values: what keys and trackers are given."""
        return {name: part.model_dump(mode="json") for name, part in vars(self).items()}
