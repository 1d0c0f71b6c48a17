"""Celeb-DF, whose files' names tell target and donor; its list of test videos."""

import logging
import re

from unmask.data.archive import (
    LAYOUTS,
    ChunkFiles,
    shorten,
)
from unmask.data.layouts.entry import Entry, refuse, stem, videos_below

_log = logging.getLogger(__name__)


TESTING_LIST = "List_of_testing_videos.txt"


def read_celeb_df(files: ChunkFiles) -> list[Entry]:
    """Return the videos of Celeb-DF: a person is a source, and so is each video from YouTube.

    id0_id1_0000 is a video of id0 with the face of id1, as its author says:
    https://github.com/yuezunli/celeb-deepfakeforensics/issues/6
    """
    names = {
        "Celeb-real": r"(id[0-9]+)_[0-9]+",
        "YouTube-real": r"([0-9]+)",
        "Celeb-synthesis": r"(id[0-9]+)_(id[0-9]+)_[0-9]+",
    }
    entries, problems = [], []
    for path in videos_below(files, LAYOUTS["Celeb-DF"]):
        folder = path.split("/")[0]
        match = re.fullmatch(names[folder], stem(path))
        if not match:
            problems.append(f"{shorten(path)}: should be a name like id0_0000, id0_id1_0000, 00000")
            continue
        label = int(folder == "Celeb-synthesis")
        source, *donors = match.groups()
        entries.append(
            Entry(
                file=path.replace("/", "_"), label=label,
                source_id=f"youtube {source}" if folder == "YouTube-real" else source,
                method=folder if label else "real", split="", path=path, donors=tuple(donors),
            )
        )  # fmt: skip
    refuse(problems, files.where)
    if TESTING_LIST in files.sizes:
        _log.info(
            "%s: %s is not taken for a split: its people are in training videos too",
            files.where, TESTING_LIST,
        )  # fmt: skip
    return entries
