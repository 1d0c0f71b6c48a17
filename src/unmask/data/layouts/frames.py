"""Folders of frames: which pictures are a video's, in which order, and when each is shown.

Data sets that are shared as frames keep a folder for each video, in which the pictures are named by
their numbers: 000.png, 009.png, ... Where every number follows on the one before, the numbers tell
the time as well: a picture that is missing leaves a gap, in which the one before stays on screen.
Where numbers leap (DeepfakeBench keeps 32 frames of a video), pictures are shown one after another.
"""

import logging
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath
from statistics import median_low

from unmask.data.archive import ChunkFiles, is_picture, shorten
from unmask.data.layouts.entry import Entry, FrameFolder, is_video, read_json, videos_below
from unmask.errors import DatasetError

SETTINGS = "frames.json"  # at a chunk's top: what its owner knows of its frames
RATE_FPS = 25.0  # of frames that follow on each other
SAMPLED_FPS = 10.0  # of frames that were taken out of a video: each is one tick of the crops
_FASTEST_FPS = 1000.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """A video of a chunk that its names tell of: a file, or a folder of frames."""

    path: str
    frames: FrameFolder | None = None

    @property
    def name(self) -> str:
        """Return its name, without the ending of a file."""
        name = self.path.rsplit("/", 1)[-1]
        return name if self.frames else PurePosixPath(name).stem

    def file(self, path: str | None = None) -> str:
        """Return the plain name that its video gets; path is what it is made from."""
        plain = (path or self.path).replace("/", "_")
        return f"{plain}.mov" if self.frames else plain


@dataclass(frozen=True)
class Settings:
    """What frames.json says; what is None, nobody says."""

    rate_fps: float | None = None
    is_track: bool | None = None


def clips_below(
    files: ChunkFiles,
    tops: tuple[str, ...],
    *,
    is_track: bool = True,
    is_frame: Callable[[str], bool] = is_picture,
) -> list[Clip]:
    """Return the videos in some folders of a chunk; where there is none, its folders of frames.

    A data set that was processed by DeepfakeBench keeps both, and its videos come first.

    Raises:
        DatasetError: frames.json is not what it should be.
    """
    videos = videos_below(files, tops)
    if videos:
        return [Clip(path) for path in videos]
    return frame_clips(
        (path for path in files.sizes if path.startswith(tops) and is_frame(path)),
        read_settings(files), is_track=is_track,
    )  # fmt: skip


def frame_clips(paths: Iterable[str], settings: Settings, *, is_track: bool = True) -> list[Clip]:
    """Return a clip for each folder that the pictures lie in, but for folders at the top."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, _, _ = path.rpartition("/")
        # DeepfakeBench's masks and landmarks lie beside the frames.
        if "/" in folder and not {"masks", "mask", "landmarks"}.intersection(folder.split("/")):
            folders[folder].append(path)
    return [
        Clip(folder, in_order(pictures, settings, is_track=is_track))
        for folder, pictures in sorted(folders.items())
    ]


def with_frames(files: ChunkFiles, entries: Iterable[Entry]) -> list[Entry]:
    """Return listed videos with the frames of those that are there as a folder of frames.

    That is a folder where the list says, or one of the video's name in frames/ beside it, as
    DeepfakeBench has it.

    Raises:
        DatasetError: frames.json is not what it should be.
    """
    entries = list(entries)
    if all(entry.is_in(files) for entry in entries):
        return entries
    pictures = [path for path in files.sizes if is_picture(path)]
    folders = {clip.path: clip.frames for clip in frame_clips(pictures, read_settings(files))}
    found = []
    for entry in entries:
        above, _, name = entry.path.rpartition("/")
        beside = "/".join(filter(None, [above, "frames", PurePosixPath(name).stem]))
        where = [path for path in (entry.path, beside) if path in folders]
        if where and not entry.is_in(files):
            plain = PurePosixPath(entry.file).stem if is_video(entry.file) else entry.file
            entry = replace(entry, file=f"{plain}.mov", path=where[0], frames=folders[where[0]])
        found.append(entry)
    return found


def in_order(pictures: Iterable[str], settings: Settings, *, is_track: bool = True) -> FrameFolder:
    """Return the frames of one video, by their numbers: the last number of each name.

    Where a name has no number, the names are the order. Of two pictures with one number the first
    by name stays.
    """
    numbers = {path: _number(path) for path in pictures}
    if None in numbers.values():
        ordered = sorted(numbers)
        rate = settings.rate_fps or RATE_FPS
        return FrameFolder(
            tuple(ordered), tuple(range(len(ordered))), rate, _or(settings.is_track, is_track)
        )
    by_number: dict[int, str] = {}
    for path in sorted(numbers):
        by_number.setdefault(numbers[path] or 0, path)
    places = sorted(by_number)
    steps = [later - earlier for earlier, later in pairwise(places)]
    follows = not steps or median_low(steps) == 1
    # A leap of more than the whole video is no gap, but another numbering.
    most = 2 * len(places)
    ticks = [0]
    for step in steps:
        ticks.append(ticks[-1] + (step if follows and step <= most else 1))
    rate = settings.rate_fps or (RATE_FPS if follows else SAMPLED_FPS)
    return FrameFolder(
        tuple(by_number[place] for place in places), tuple(ticks), rate,
        _or(settings.is_track, is_track), len(numbers) - len(places),
    )  # fmt: skip


def _or(said: bool | None, default: bool) -> bool:
    return default if said is None else said


def _number(path: str) -> int | None:
    found = re.findall(r"[0-9]{1,12}", PurePosixPath(path).name.partition(".")[0])
    return int(found[-1]) if found else None


def read_settings(files: ChunkFiles) -> Settings:
    """Return what a chunk's frames.json says: {"rate_fps": 25, "faces": "search"}.

    rate_fps is how many pictures a second are shown, faces whether each picture is a face's already
    ("cut out") or faces are searched in it ("search"). Both may be missing, and the file too.

    Raises:
        DatasetError: it says something else.
    """
    if SETTINGS not in files.sizes:
        return Settings()
    said = read_json(files, SETTINGS)
    known = {"rate_fps", "faces"}
    if not isinstance(said, Mapping) or not set(said) <= known:
        raise _bad_settings(files, said)
    rate, faces = said.get("rate_fps"), said.get("faces")
    is_rate = isinstance(rate, int | float) and not isinstance(rate, bool)
    if rate is not None and not (is_rate and math.isfinite(rate) and 0 < rate <= _FASTEST_FPS):
        raise _bad_settings(files, said)
    if faces not in (None, "cut out", "search"):
        raise _bad_settings(files, said)
    return Settings(
        None if rate is None else float(rate), None if faces is None else faces == "cut out"
    )


def _bad_settings(files: ChunkFiles, said: object) -> DatasetError:
    return DatasetError(
        f"Asked for {SETTINGS} of {files.where}; found {shorten(said)} where an object with "
        f'rate_fps (a number up to {_FASTEST_FPS:g}) and faces ("cut out" or "search"), or one of '
        "them, should stand. Mend it or take it away."
    )
