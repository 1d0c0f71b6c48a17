"""DeeperForensics-1.0: manipulated videos by variant, its lists of splits, and target videos.

By its dataset/README.md (Jiang et al., 2020, arXiv:2001.03024) manipulated_videos/<variant>/ holds
<target>_<actor>.mp4 for each of 1,000 target videos, in eleven variants: the raw swaps
(end_to_end, reenact_postprocess) and distorted ones. The real videos are the targets, which are
sequences of FaceForensics++ in c23 and not part of it: copy them to target_videos/<target>.mp4, or
leave them in original_sequences/youtube/c23/videos/. Videos of its actors, source_videos/, show
faces that were swapped in, and its authors say that they are not the real part; without any target
video they are read as such all the same, as DeepfakeBench does, and a warning says so.
lists/splits/{train,val,test}.txt name manipulated videos.
"""

import logging
import re

from unmask.data.archive import ChunkFiles, first_few, shorten
from unmask.data.layouts.entry import MAX_METADATA_BYTES, Entry, refuse
from unmask.data.layouts.frames import Clip, clips_below
from unmask.data.words import tidy
from unmask.errors import DatasetError

MANIPULATED = "manipulated_videos/"
TARGETS = ("target_videos/", "original_sequences/youtube/c23/")
SOURCES = "source_videos/"
SPLIT_LISTS = {split: f"lists/splits/{split}.txt" for split in ("train", "val", "test")}

_log = logging.getLogger(__name__)


def read_deeperforensics(files: ChunkFiles) -> list[Entry]:
    """Return the videos; a target is a source, an actor a donor.

    Targets are called as in FaceForensics++, so that they are the same people beside that.
    """
    splits = read_split_lists(files)
    of_target = {name[:3]: split for name, split in splits.items()}
    entries: list[Entry] = []
    problems: list[str] = []
    folders = set()
    for clip in clips_below(files, (MANIPULATED,)):
        variant, match = (
            clip.path.split("/")[1],
            re.fullmatch(r"([0-9]{3})_([MW][0-9]{3})", clip.name),
        )
        if not match or clip.path.count("/") < 2:
            problems.append(
                f"{shorten(clip.path)}: should be like {MANIPULATED}end_to_end/000_M101.mp4"
            )
            continue
        folders.add(variant)
        entries.append(
            Entry(
                file=clip.file(f"{variant}_{clip.path.split('/')[-1]}"), label=1,
                source_id=match[1], method=variant, split=splits.get(clip.name, ""),
                path=clip.path, donors=(match[2],), frames=clip.frames,
            )
        )  # fmt: skip
    real = clips_below(files, TARGETS)
    for clip in real:
        if not re.fullmatch(r"[0-9]{3}", clip.name):
            problems.append(f"{shorten(clip.path)}: should be a target's name like 000.mp4")
            continue
        entries.append(
            Entry(
                file=clip.file(f"target_{clip.path.split('/')[-1]}"), label=0, source_id=clip.name,
                method="real", split=of_target.get(clip.name, ""), path=clip.path,
                frames=clip.frames,
            )
        )  # fmt: skip
    if not real:
        entries += _actors(clips_below(files, (SOURCES,)), problems, files.where)
    refuse(problems, files.where)
    if unknown := sorted(
        splits.keys() - {entry.path.split("/")[-1].split(".")[0] for entry in entries}
    ):
        _log.info(
            "%s: %d listed videos are in no variant: %s",
            files.where,
            len(unknown),
            first_few(unknown),
        )
    return entries


def _actors(clips: list[Clip], problems: list[str], where: str) -> list[Entry]:
    entries = []
    for clip in clips:
        match = re.match(r"([MW][0-9]{3})_", clip.name)
        if not match:
            problems.append(f"{shorten(clip.path)}: should be a name like M004_light_up_....mp4")
            continue
        entries.append(
            Entry(
                file=clip.file(f"source_{clip.path.split('/')[-1]}"), label=0, source_id=match[1],
                method="real", split="", path=clip.path, frames=clip.frames,
            )
        )  # fmt: skip
    if entries:
        _log.warning(
            "%s: the real videos are %d of %s, which its authors say are not the real part. Put "
            "the targets, sequences of FaceForensics++ in c23, into %s",
            where, len(entries), SOURCES, TARGETS[0],
        )  # fmt: skip
    return entries


def read_split_lists(files: ChunkFiles) -> dict[str, str]:
    """Return the split of each manipulated video that lists/splits/*.txt name, without its ending.

    Raises:
        DatasetError: a line is no video's name, or a video is in two lists.
    """
    splits: dict[str, str] = {}
    for split, path in SPLIT_LISTS.items():
        if path not in files.sizes:
            continue
        text = files.read_bytes(path, MAX_METADATA_BYTES).decode("utf-8-sig", "replace")
        problems = []
        for number, line in enumerate(text.splitlines(), start=1):
            said = tidy(line).rpartition("/")[2]
            name = said.removesuffix(".mp4")
            if not said:
                continue
            if not re.fullmatch(r"[0-9]{3}_[MW][0-9]{3}", name):
                problems.append(f"line {number}: {shorten(said)} is not like 000_M101.mp4")
            elif name in splits:
                problems.append(f"line {number}: {shorten(said)} is in {splits[name]} too")
            else:
                splits[name] = split
        refuse(problems, f"{path} of {files.where}")
    return splits


def needed_list(files: ChunkFiles) -> str:
    """Return the path of the list of test videos.

    Raises:
        DatasetError: there is none.
    """
    path = SPLIT_LISTS["test"]
    if path not in files.sizes:
        raise DatasetError(
            f"Asked for {path} of {files.where}; there is no such file. Unpack its lists too."
        )
    return path
