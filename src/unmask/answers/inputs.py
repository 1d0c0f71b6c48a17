"""From what a user names to video files: files, folders, globs, and lists on stdin."""

import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.data.archive import VIDEO_ENDINGS
from unmask.errors import UnmaskError
from unmask.video.still import ENDINGS as STILL_ENDINGS

STDIN = "-"  # in the place of a path: a list of paths


class InputError(UnmaskError):
    """What was named holds no videos."""


@dataclass(frozen=True)
class Inputs:
    """What to answer, and where nobody could look."""

    videos: tuple[Path, ...]  # each once, by the first of its names
    unread: tuple[Path, ...]  # folders that this user may not list


def find_videos(names: Sequence[str], listed: bytes, *, stills: bool = False) -> Inputs:
    """Return the videos of the names, and of the list where one of them is `-`, in that order.

    With stills, still pictures are taken too wherever videos are looked for by their ending; else
    only those that are named, or by a glob whose own ending is a picture's.

    A name is a file, whatever its ending, or there is nothing of that name: both are kept, and get
    their reason later. It is a folder: then all in it that end like a video, in natural order,
    without hidden ones and without following links to folders. Or it is a glob, in which `**`
    stands for any folders: then what it matches and ends like a video, or lies in a folder that it
    matches. The list has a path a line or, where it holds NULs, between NULs; no
    globs.

    Raises:
        InputError: an empty name, a folder or a glob without videos, an empty list.
    """
    found: list[Path] = []
    unread: list[Path] = []
    endings = VIDEO_ENDINGS | STILL_ENDINGS if stills else frozenset(VIDEO_ENDINGS)
    for name in names:
        if not name:
            raise InputError(
                "Asked for a video; its name is empty, as of an unset variable. Name a file or "
                "folder."
            )
        if glob.has_magic(name) and not os.path.lexists(name):
            found += _matches(name, unread, endings)
            continue
        for path in _listed_paths(listed) if name == STDIN else [Path(name)]:
            found += _videos_in(path, unread, endings) if os.path.isdir(path) else [path]
    once: dict[str, Path] = {}
    for path in found:
        once.setdefault(os.path.realpath(path), path)
    return Inputs(tuple(once.values()), tuple(unread))


def _matches(pattern: str, unread: list[Path], endings: Collection[str]) -> list[Path]:
    own = Path(pattern).suffix.lower()
    named = {*endings, own} if own in STILL_ENDINGS else endings
    before, videos = len(unread), []
    for path in sorted(map(Path, glob.glob(pattern, recursive=True)), key=natural_key):
        if path.is_dir():
            videos += sorted(_walk(path, unread, endings), key=natural_key)
        elif path.suffix.lower() in named:
            videos.append(path)
    if not videos and len(unread) == before:
        raise InputError(
            f"Asked for {pattern}; nothing that ends like a video (.mp4, .mov ...) matches it. "
            "Check the pattern and the folder."
        )
    return videos


def _listed_paths(listed: bytes) -> list[Path]:
    separator = b"\0" if b"\0" in listed else b"\n"
    lines = [line if separator == b"\0" else line.rstrip(b"\r") for line in listed.split(separator)]
    paths = [Path(os.fsdecode(line)) for line in lines if line]
    if not paths:
        raise InputError(
            "Asked for the videos listed on stdin; the list is empty. Check the command before "
            "the pipe."
        )
    return paths


def _videos_in(folder: Path, unread: list[Path], endings: Collection[str]) -> list[Path]:
    before = len(unread)
    videos = sorted(_walk(folder, unread, endings), key=natural_key)
    if not videos and len(unread) == before:
        stills = sum(1 for _ in _walk(folder, [], STILL_ENDINGS)) if ".jpg" not in endings else 0
        others = f" Its {stills} still pictures are answered with --stills." if stills else ""
        raise InputError(
            f"Asked for the videos in {folder}; no file in it ends like one (.mp4, .mov ...). Name "
            f"another folder, or the files themselves.{others}"
        )
    return videos


def _walk(folder: Path, unread: list[Path], endings: Collection[str]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        unread.append(Path(os.fsdecode(error.filename)))

    for parent, folders, files in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            if path.suffix.lower() in endings and not name.startswith("."):
                yield path


def natural_key(path: Path) -> list[tuple[Iterable[object], str]]:
    """Return what to sort paths by, so that clip2 comes before clip10.

    >>> sorted([Path("clip10"), Path("clip2"), Path("a/clip1")], key=natural_key)
    [PosixPath('a/clip1'), PosixPath('clip2'), PosixPath('clip10')]
    """
    return [
        ([int(t) if t.isdecimal() else t.casefold() for t in re.split(r"(\d+)", part)], part)
        for part in path.parts
    ]
