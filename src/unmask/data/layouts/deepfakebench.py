"""DeepfakeBench's processed form: one of its JSON lists beside the folders of frames that it names.

Its preprocessing (Yan et al., 2023, arXiv:2307.01426; preprocessing/rearrange.py) writes
<data set>.json, {data set: {label: {split: {video: {"label": ..., "frames": [paths]}}}}}, and in
FaceForensics++ a compression between split and video. Paths begin where their writer kept the data,
and may have backslashes; here their last parts count. Pictures are faces, cut out and aligned.
Without such a list the frames/ folders are read by the data set's own layout.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from unmask.data.archive import LAYOUTS, ChunkFiles, first_few, is_picture, shorten
from unmask.data.layouts.entry import Entry, FrameFolder, name_flaw, read_json, refuse
from unmask.data.layouts.faceforensics import sequences_in
from unmask.data.layouts.frames import Settings, in_order, read_settings
from unmask.errors import DatasetError

SPLITS = ("train", "val", "test")
# Their JSON's words for labels; the method is what a fake is called.
_METHODS = {
    "FF-DF": "Deepfakes", "FF-F2F": "Face2Face", "FF-FS": "FaceSwap", "FF-NT": "NeuralTextures",
    "FF-FH": "FaceShifter", "DFD_fake": "DeepFakeDetection", "CelebDFv1_fake": "Celeb-synthesis",
    "CelebDFv2_fake": "Celeb-synthesis", "DFDC_Fake": "unknown", "DFDCP_FakeA": "method_A",
    "DFDCP_FakeB": "method_B", "DF_fake": "DF-VAE", "UADFV_Fake": "FakeApp",
}  # fmt: skip
_REAL = {
    "FF-real", "DFD_real", "CelebDFv1_real", "CelebDFv2_real", "DFDC_Real", "DFDCP_Real", "DF_real",
    "UADFV_Real",
}  # fmt: skip
_MAX_PARTS = 40  # of a listed path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Row:
    label: str
    compression: str  # empty outside FaceForensics++
    name: str
    frames: tuple[str, ...] = field(compare=False)  # each split has them in another order


def read_deepfakebench(files: ChunkFiles) -> list[Entry]:
    """Return the videos that the list names; test wins where a video stands in several splits.

    (In Celeb-DF its train has all videos, and its val is its test.)
    """
    there = [name for name in LAYOUTS["DeepfakeBench"] if name in files.sizes]
    where = f"{' and '.join(there)} of {files.where}"
    if len(there) > 1:
        raise DatasetError(f"Asked for the videos of {where}; a chunk has one. Take one out.")
    problems: list[str] = []
    splits: dict[_Row, str] = {}
    for split, row in _rows(read_json(files, there[0]), where, problems):
        if splits.get(row) != "test":
            splits[row] = split
    refuse(problems, where)
    if not splits:
        raise DatasetError(f"Asked for the videos of {where}; it lists none. Take a fresh copy.")
    settings, find = read_settings(files), _Finder(files)
    rows = _in_common_compressions(splits, where)
    entries, missing = [], 0
    for row in rows:
        found = [path for frame in row.frames if (path := find.path(frame))]
        missing += len(row.frames) - len(found)
        entries.append(_entry(row, splits[row], found, settings))
    total = sum(len(row.frames) for row in rows)
    if missing == total:
        shown = shorten(next((frame for row in rows for frame in row.frames), "no frame"))
        raise DatasetError(
            f"Asked for the frames that {where} names; none of {total:,} is in the chunk, such as "
            f"{shown}. Put the data set's folders beside the list."
        )
    if missing:
        _log.warning("%s: %d of %d listed frames are not there", where, missing, total)
    return entries


def _rows(said: Any, where: str, problems: list[str]) -> Iterator[tuple[str, _Row]]:
    """Yield each split and video; what is not in the form is a problem."""
    shape = "{data set: {label: {split: {video: {label, frames}}}}}"
    if not isinstance(said, dict) or len(said) != 1:
        raise DatasetError(
            f"Asked for the videos of {where}; found {shorten(said)}, not {shape}. Take a fresh "
            "copy."
        )
    (labels,) = said.values()
    for label, by_split in labels.items() if isinstance(labels, dict) else ():
        if label not in _REAL and label not in _METHODS:
            problems.append(f"{shorten(label)} is no label that DeepfakeBench has")
            continue
        for split, videos in by_split.items() if isinstance(by_split, dict) else ():
            if split not in SPLITS or not isinstance(videos, dict):
                problems.append(f"{shorten(label)}: {shorten(split)} should be a split, {shape}")
                continue
            if _is_video(videos):  # the last video of DFDC's val, which its writer left there
                continue
            for name, row in videos.items():
                if _is_video(row):
                    yield from _row(split, label, "", name, row, problems)
                elif isinstance(row, dict) and all(map(_is_video, row.values())):
                    for video, inner in row.items():
                        yield from _row(split, label, name, video, inner, problems)
                else:
                    problems.append(
                        f"{shorten(name)}: should be {{label, frames}}, is {shorten(row)}"
                    )


def _is_video(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("frames"), list)


def _row(
    split: str, label: str, compression: str, name: str, row: dict[str, Any], problems: list[str]
) -> Iterator[tuple[str, _Row]]:
    frames = row["frames"]
    if flaw := name_flaw(name) or (compression and name_flaw(compression)):
        problems.append(f"{shorten(name)}: {flaw}")
    elif not all(isinstance(frame, str) for frame in frames):
        problems.append(f"{shorten(name)}: frames should be a list of paths")
    else:
        yield split, _Row(label, compression, name, tuple(frames))


class _Finder:
    """Finds listed frames in the chunk, by the last parts of their paths."""

    def __init__(self, files: ChunkFiles) -> None:
        self._files = files
        self._prefix = ""  # of the latest frame that was found

    def path(self, listed: str) -> str | None:
        """Return the path of a listed picture, or None where the chunk has none."""
        path = listed.replace("\\", "/")
        if not is_picture(path):
            return None
        if self._prefix and path.startswith(self._prefix):
            short = path.removeprefix(self._prefix)
            if short in self._files.sizes:
                return short
        parts = path.split("/")[-_MAX_PARTS:]
        # Three at least: a number alone, or a video and a number, may be another's.
        for start in range(len(parts) - 2):
            short = "/".join(parts[start:])
            if short in self._files.sizes:
                self._prefix = path.removesuffix(short)
                return short
        return None


def _in_common_compressions(rows: dict[_Row, str], where: str) -> list[_Row]:
    held = [
        {row.compression for row in rows if (row.label in _REAL) == is_real}
        for is_real in (True, False)
    ]
    common = held[0] & held[1]
    if not all(held) or held[0] == held[1]:
        return list(rows)
    if not common:
        raise DatasetError(
            f"Asked for the videos of {where}; found no compression of both classes. It would tell "
            "real from fake: take a list that has one for both."
        )
    apart = sorted((held[0] | held[1]) - common)
    _log.warning(
        "%s: left out, because a compression that one class lacks would tell the label: %s",
        where, first_few([shorten(name) for name in apart]),
    )  # fmt: skip
    return [row for row in rows if row.compression in common]


def _entry(row: _Row, split: str, found: list[str], settings: Settings) -> Entry:
    source, donors = _people(row)
    label = int(row.label not in _REAL)
    parts = [part for part in (row.label, row.compression, row.name) if part]
    frames: FrameFolder | None = in_order(found, settings) if found else None
    path = frames.pictures[0].rpartition("/")[0] if frames else "/".join(parts)
    return Entry(
        file=f"{'_'.join(parts)}.mov", label=label, source_id=source,
        method=_METHODS.get(row.label, "real"), split=split, path=path, donors=donors,
        frames=frames,
    )  # fmt: skip


def _people(row: _Row) -> tuple[str, tuple[str, ...]]:
    """Return who is seen and whose face was put in, as the data set's own layout has them."""
    name = row.name
    if row.label.startswith(("FF-", "DFD_")) and (people := sequences_in(name)):
        return people[0], people[1:]
    if row.label.startswith("CelebDF"):
        if match := re.fullmatch(r"(id[0-9]+)(?:_(id[0-9]+))?_[0-9]+", name):
            return match[1], tuple(filter(None, [match[2]]))
        return f"youtube {name}", ()
    if row.label.startswith("UADFV"):
        return f"uadfv {name.removesuffix('_fake')}", ("uadfv actor",) * (row.label not in _REAL)
    if match := re.fullmatch(r"([0-9]{3})_([MW][0-9]{3})", name):
        return match[1], (match[2],)
    if row.label == "DF_real" and (match := re.match(r"[MW][0-9]{3}(?=_)", name)):
        return match[0], ()
    return name, ()
