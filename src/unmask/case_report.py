"""One video's answer as one page that can be mailed: nothing in it asks for another file."""

from dataclasses import dataclass
from pathlib import Path

from unmask.analysis import Answer
from unmask.custody import Provenance
from unmask.predict import Predictor


@dataclass(frozen=True)
class Source:
    """The model's folder, the checkout whose metrics and digests are its own, and provenance."""

    model_dir: Path
    root: Path
    provenance: Provenance


def write(out: Path, answer: Answer, predictor: Predictor, crops_dir: Path, source: Source) -> None:
    """Write the page; crops_dir is the folder that the tracks' crop files lie in.

    Raises:
        DiskError: the disk takes no more.
    """
    raise NotImplementedError
