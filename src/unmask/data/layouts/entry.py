"""One video of a chunk as its metadata tells of it, and what every layout's reader needs."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from unmask.data.archive import (
    MAX_NAME_BYTES,
    VIDEO_ENDINGS,
    ChunkFiles,
    first_few,
    shorten,
)
from unmask.errors import DatasetError
from unmask.records import DONOR_SEPARATOR, ForgedPart

MAX_METADATA_BYTES = 2**26  # all of DFDC, 124,000 videos, takes 15 million


@dataclass(frozen=True)
class FrameFolder:
    """A folder of pictures that are a video's frames."""

    pictures: tuple[str, ...]  # their paths in the chunk, in the order in which they are shown
    ticks: tuple[int, ...]  # when each begins to be shown, in units of 1 / rate_fps
    rate_fps: float
    is_track: bool  # each picture is one face, cut out already: no face is searched in it
    left_out: int = 0  # pictures of a number that another one has


@dataclass(frozen=True)
class Entry:
    """One video that a chunk's metadata lists, whether or not its file is there."""

    file: str  # the plain name that its video gets; its stem is the video's id
    label: int  # 1 is fake
    source_id: str
    method: str
    split: str  # the metadata's own word; empty where it says nothing
    path: str = ""  # where it lies in the chunk, "/" between folders; empty: where file says
    donors: tuple[str, ...] = ()  # sources whose faces were pasted in
    forged: ForgedPart | None = None  # where in a fake the forged face is; None: nobody says
    frames: FrameFolder | None = None  # what it is made of, where path is a folder of frames

    def is_in(self, files: ChunkFiles) -> bool:
        """Say whether the chunk holds the video, as a file or as frames."""
        return self.frames is not None or self.path in files.sizes


def stem(path: str) -> str:
    """Return a file's name without its ending."""
    return PurePosixPath(path).stem


def is_video(path: str) -> bool:
    """Say whether a name has the ending of a video."""
    return PurePosixPath(path).suffix.lower() in VIDEO_ENDINGS


def name_flaw(name: str) -> str | None:
    """Return why this is no plain name of a file that shows, or None."""
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        return "should be a plain file name"
    # Not printable are control characters and lone surrogates, which no index.csv could hold.
    if not name.isprintable():
        return "holds characters that do not print"
    if DONOR_SEPARATOR in name:  # a source may be called after it
        return f"holds {DONOR_SEPARATOR}, which stands between identities"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"has more than {MAX_NAME_BYTES} bytes"
    return None


def refuse(problems: list[str], where: str) -> None:
    """Raise DatasetError with up to five of the problems, if there is one."""
    if problems:
        raise DatasetError(
            f"Asked for the videos of {where}; {len(problems)} problem(s): "
            f"{first_few(problems, '; ')}. Mend it or take a fresh copy."
        )


def videos_below(files: ChunkFiles, tops: tuple[str, ...]) -> list[str]:
    """Return the paths of the videos in some folders of the chunk."""
    return [path for path in files.sizes if path.startswith(tops) and is_video(path)]


def read_json(files: ChunkFiles, path: str) -> Any:
    """Return what a JSON file of the chunk holds.

    Raises:
        DatasetError: it is too large, not JSON in UTF-8, or has a key twice in one object.
    """
    content = files.read_bytes(path, MAX_METADATA_BYTES)
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=without_repeated_keys)
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"Asked for {path} of {files.where}; it is not JSON in UTF-8: {error}. Mend it or take "
            "a fresh copy."
        ) from error


def without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; JSON itself would let the last of two equal keys win."""
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"listed twice: {first_few([shorten(name) for name in twice])}")
    return dict(pairs)
