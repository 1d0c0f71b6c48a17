"""Two folders, real/ and fake/."""

from pathlib import PurePosixPath

from unmask.data.archive import (
    LAYOUTS,
    ChunkFiles,
)
from unmask.data.layouts.entry import Entry, stem, videos_below


def read_folders(files: ChunkFiles) -> list[Entry]:
    """Return the videos below real/ and fake/; fake/<method>/ names the method.

    A video's source is its name in this chunk: a fake that is called like a real one counts as
    made from it.
    """
    entries, chunk = [], PurePosixPath(files.where).name
    for path in videos_below(files, LAYOUTS["folders"]):
        kind, *folders, name = path.split("/")
        label = int(kind == "fake")
        method = folders[0] if folders else "unknown"
        entries.append(
            Entry(
                file=path.replace("/", "_"), label=label, source_id=f"{chunk}/{stem(name)}",
                method=method if label else "real", split="", path=path,
            )
        )  # fmt: skip
    return entries
