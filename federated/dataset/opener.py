"""How a task reads an organisation's videos: Substra gives this file to each task beside them."""

import tempfile
from pathlib import Path

import substratools

from unmask.federated.samples import Videos, read_videos


class UnmaskOpener(substratools.Opener):
    """Opens train and test datasets alike."""

    def get_data(self, folders: list[str]) -> Videos:
        """Return the samples' videos; paths, labels and source_ids are lists in one order."""
        return read_videos(folders)

    def fake_data(self, n_samples: int | None = None) -> Videos:
        """Return painted videos of n_samples samples, two videos each, real and fake."""
        from unmask.federated.synthetic_samples import (
            paint_samples,  # it takes PyAV, which metrics don't have
        )

        folder = Path(tempfile.mkdtemp(prefix="unmask-painted-"))
        return read_videos(paint_samples(folder, n_samples or 4, splits=("train", "validation")))
