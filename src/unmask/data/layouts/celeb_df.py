"""Celeb-DF, whose files' names tell target and donor; its list of test videos.

Read by version 1 and 2 (Li et al., 2020, arXiv:1909.12962), as files, in videos/ folders, or in the
frames/ folders of DeepfakeBench.
"""

import logging
import re

from unmask.data.archive import (
    LAYOUTS,
    ChunkFiles,
    shorten,
)
from unmask.data.layouts.entry import MAX_METADATA_BYTES, Entry, refuse
from unmask.data.layouts.frames import clips_below
from unmask.data.words import tidy
from unmask.errors import DatasetError

_log = logging.getLogger(__name__)


TESTING_LIST = "List_of_testing_videos.txt"
NAMES = {
    "Celeb-real": r"(id[0-9]+)_[0-9]+",
    "YouTube-real": r"([0-9]+)",
    "Celeb-synthesis": r"(id[0-9]+)_(id[0-9]+)_[0-9]+",
}


def read_celeb_df(files: ChunkFiles) -> list[Entry]:
    """Return the videos of Celeb-DF: a person is a source, and so is each video from YouTube.

    id0_id1_0000 is a video of id0 with the face of id1, as its author says:
    https://github.com/yuezunli/celeb-deepfakeforensics/issues/6
    """
    entries, problems = [], []
    for clip in clips_below(files, LAYOUTS["Celeb-DF"]):
        path = clip.path
        folder = path.split("/")[0]
        match = re.fullmatch(NAMES[folder], clip.name)
        if not match:
            problems.append(f"{shorten(path)}: should be a name like id0_0000, id0_id1_0000, 00000")
            continue
        label = int(folder == "Celeb-synthesis")
        source, *donors = match.groups()
        entries.append(
            Entry(
                file=clip.file(), label=label,
                source_id=f"youtube {source}" if folder == "YouTube-real" else source,
                method=folder if label else "real", split="", path=path, donors=tuple(donors),
                frames=clip.frames,
            )
        )  # fmt: skip
    refuse(problems, files.where)
    if TESTING_LIST in files.sizes:
        _log.info(
            "%s: %s is not taken for a split: its people are in training videos too",
            files.where, TESTING_LIST,
        )  # fmt: skip
    return entries


def read_testing_list(files: ChunkFiles) -> dict[str, int]:
    """Return the label (1 is fake) of each test video, by its folder and name without an ending.

    A line is a digit and a path, in which 1 is real: "1 YouTube-real/00170.mp4".

    Raises:
        DatasetError: there is no such list, or lines of it are not what they should be.
    """
    where = f"{TESTING_LIST} of {files.where}"
    if TESTING_LIST not in files.sizes:
        raise DatasetError(
            f"Asked for {where}; there is no such file. Take it from the data set's archive."
        )
    text = files.read_bytes(TESTING_LIST, MAX_METADATA_BYTES).decode("utf-8-sig", "replace")
    videos: dict[str, int] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        said = tidy(line)
        if not said:
            continue
        match = re.fullmatch(r"([01]) ([A-Za-z-]+)/([^/]+)\.mp4", said)
        folder, name = match.group(2, 3) if match else ("", "")
        is_fake = int(folder == "Celeb-synthesis")
        if not match or folder not in NAMES or not re.fullmatch(NAMES[folder], name):
            problems.append(f"line {number}: {shorten(said)} is not like 1 YouTube-real/00170.mp4")
        elif int(match[1]) == is_fake:
            problems.append(f"line {number}: {shorten(said)}: 1 is real, and 0 is fake")
        elif f"{folder}/{name}" in videos:
            problems.append(f"line {number}: {shorten(said)} is there twice")
        else:
            videos[f"{folder}/{name}"] = is_fake
    refuse(problems, where)
    return videos
