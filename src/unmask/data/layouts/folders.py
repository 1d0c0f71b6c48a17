"""Two folders, real/ and fake/; UADFV, which has them too."""

import re
from pathlib import PurePosixPath

from unmask.data.archive import (
    LAYOUTS,
    ChunkFiles,
)
from unmask.data.layouts.entry import Entry
from unmask.data.layouts.frames import Clip, clips_below

_UADFV = {"real": r"([0-9]{4})", "fake": r"([0-9]{4})_fake"}


def read_folders(files: ChunkFiles) -> list[Entry]:
    """Return the videos below real/ and fake/; fake/<method>/ names the method.

    A video's source is its name in this chunk: a fake that is called like a real one counts as
    made from it.
    """
    entries, chunk = [], PurePosixPath(files.where).name
    for clip in clips_below(files, LAYOUTS["folders"]):
        kind, *folders, _ = clip.path.split("/")
        label = int(kind == "fake")
        folders = [folder for folder in folders if not (clip.frames and folder == "frames")]
        method = folders[0] if folders else "unknown"
        entries.append(
            Entry(
                file=clip.file(), label=label, source_id=f"{chunk}/{clip.name}",
                method=method if label else "real", split="", path=clip.path, frames=clip.frames,
            )
        )  # fmt: skip
    return entries


def is_uadfv(files: ChunkFiles) -> bool:
    """Say whether real/ and fake/ are UADFV's, in which every name is a number of four digits."""
    clips = clips_below(files, LAYOUTS["folders"])
    kinds = {kind for clip in clips if (kind := _kind_in_uadfv(clip))}
    return bool(clips) and "fake" in kinds and all(_kind_in_uadfv(clip) for clip in clips)


def _kind_in_uadfv(clip: Clip) -> str:
    """Return real or fake for a video at its place in UADFV, else nothing."""
    kind, *folders, _ = clip.path.split("/")
    at_its_place = folders in ([], ["frames"], ["videos"])
    return kind if at_its_place and re.fullmatch(_UADFV[kind], clip.name) else ""


def read_uadfv(files: ChunkFiles) -> list[Entry]:
    """Return the videos of UADFV (Yang, Li and Lyu, 2019, arXiv:1811.00661).

    It has 49 videos, real/0000.mp4, and a fake of each with one actor's face, fake/0000_fake.mp4.
    Its actor, Nicolas Cage, is the donor of all fakes.
    """
    entries = []
    for clip in clips_below(files, LAYOUTS["folders"]):
        kind = _kind_in_uadfv(clip)
        label = int(kind == "fake")
        entries.append(
            Entry(
                file=clip.file(), label=label, source_id=f"uadfv {clip.name[:4]}",
                method="FakeApp" if label else "real", split="", path=clip.path,
                donors=("uadfv actor",) if label else (), frames=clip.frames,
            )
        )  # fmt: skip
    return entries
