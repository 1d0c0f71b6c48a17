"""Which folders `unmask crop` reads and fills, and how they are called in dvc.yaml."""

from dataclasses import dataclass
from pathlib import Path

from unmask import params
from unmask.errors import UnmaskError


@dataclass(frozen=True)
class Folders:
    """Where the videos of a chunk lie, and where its crops go: as dvc.yaml says."""

    videos: Path
    faces: Path
    stage: str  # that makes the videos

    @property
    def name(self) -> str:
        """Return the chunk's name."""
        return self.faces.name


def find(name: str, settings: params.Params) -> Folders:
    """Return the folders of a chunk or a benchmark.

    Raises:
        UnmaskError: params.yaml does not name it.
    """
    if name in settings.chunks:
        raw, faces, stage = Path("raw"), Path("faces"), "raw"
    elif name in settings.benchmarks:
        raw, faces, stage = Path("held_out/raw"), Path("held_out/faces"), "raw_benchmark"
    else:
        known = ", ".join([*settings.chunks, *settings.benchmarks]) or "none"
        raise UnmaskError(
            f"Asked for the crops of {name!r}, which params.yaml does not name; its chunks and "
            f"benchmarks are {known}. Add it to chunks there, or correct the name."
        )
    return Folders(raw / name / "videos", faces / name, f"{stage}@{name}")
