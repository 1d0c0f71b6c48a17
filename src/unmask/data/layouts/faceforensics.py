"""FaceForensics++ and DeepFakeDetection, whose files' names tell target and donor.

DeepFakeDetection (Google and Jigsaw's data set of actors, "DFD") comes with FaceForensics++'s own
script, in its folders, or in two folders of its own: DFD_original_sequences/ and
DFD_manipulated_sequences/, as copies of it are shared.
"""

import logging
import re
from collections import Counter

from unmask.data.archive import (
    LAYOUTS,
    ChunkFiles,
    first_few,
    shorten,
)
from unmask.data.layouts.entry import Entry, read_json, refuse
from unmask.data.layouts.frames import clips_below
from unmask.data.words import tidy
from unmask.errors import DatasetError

_log = logging.getLogger(__name__)


PAIRS = {split: f"splits/{split}.json" for split in ("train", "val", "test")}
KEPT_IN = ("videos", "frames")  # the second is DeepfakeBench's
FORENSICS_PATH = "<kind>/<group>/<compression>/videos/<name>.mp4"


def read_faceforensics(files: ChunkFiles) -> list[Entry]:
    """Return the videos of FaceForensics++ and DeepFakeDetection.

    Of several compressions those that one class lacks are left out: they would tell the label.
    A sequence is its own source, an actor's videos share one. The names, target before donor, are
    those of the data set's README (Rössler et al., 2019, arXiv:1901.08971). Its lists of pairs are
    the videos' splits, where they lie in splits/.
    """
    splits = _read_pairs(files)
    entries, problems, strays = [], [], []
    for clip in clips_below(files, LAYOUTS["FaceForensics++"]):
        path = clip.path
        *folders, name = path.split("/")
        # Masks are videos too: manipulated_sequences/<method>/masks/videos/000_003.mp4.
        if "masks" in folders:
            continue
        if len(folders) != 3 and (len(folders) != 4 or folders[3] not in KEPT_IN):
            strays.append(shorten(path))
            continue
        kind, group, compression = folders[:3]
        label = int(kind == "manipulated_sequences")
        people = sequences_in(clip.name)
        if len(people) != 1 + label:
            expected = "000_003.mp4 or 01_02__scene__id" if label else "000.mp4 or 01__scene"
            problems.append(f"{shorten(path)}: should be a name like {expected}.mp4")
            continue
        entries.append(
            Entry(
                file=clip.file(f"{group}_{compression}_{name}"), label=label, source_id=people[0],
                method=group if label else "real", split=splits.get(people[0], ""), path=path,
                donors=people[1:], frames=clip.frames,
            )
        )  # fmt: skip
    refuse(problems, files.where)
    if not entries:
        raise DatasetError(
            f"Asked for the videos of {files.where}; found none at {FORENSICS_PATH}, but "
            f"{first_few(strays) or 'no video'}. A kind is "
            f"{' or '.join(LAYOUTS['FaceForensics++'])}: lay them out so."
        )
    if strays:
        _log.warning(
            "%s: %d video files are not at %s and are left out: %s",
            files.where, len(strays), FORENSICS_PATH, first_few(strays),
        )  # fmt: skip
    return _in_common_compressions(entries, files.where)


def _in_common_compressions(entries: list[Entry], where: str) -> list[Entry]:
    counts = Counter((_compression(entry), entry.label) for entry in entries)
    held = [{name for name, label in counts if label == wanted} for wanted in (0, 1)]
    common = held[0] & held[1]
    if not all(held) or held[0] == held[1]:
        return entries
    apart = [
        f"{count} {('real', 'fake')[label]} in {shorten(name)}"
        for (name, label), count in sorted(counts.items()) if name not in common
    ]  # fmt: skip
    if not common:
        raise DatasetError(
            f"Asked for the videos of {where}; found no compression of both classes, but "
            f"{first_few(apart)}. It would tell real from fake: add one for both."
        )
    _log.warning(
        "%s: left out, because a compression that one class lacks would tell the label: %s",
        where, first_few(apart),
    )  # fmt: skip
    return [entry for entry in entries if _compression(entry) in common]


def _compression(entry: Entry) -> str:
    return entry.path.split("/")[2]


def sequences_in(stem: str) -> tuple[str, ...]:
    """Return the source that a name of FaceForensics++ tells, then the donor of a fake."""
    if match := re.fullmatch(r"([0-9]+)(?:_([0-9]+))?", stem):
        return tuple(number for number in match.groups() if number)
    if match := re.fullmatch(r"([0-9]+)(?:_([0-9]+))?__.+", stem):
        return tuple(f"actor {number}" for number in match.groups() if number)
    return ()


def read_deepfakedetection(files: ChunkFiles) -> list[Entry]:
    """Return the videos of DeepFakeDetection in folders of its own.

    01__walking.mp4 shows actor 01, 01_02__walking__ABCDEFGH.mp4 the same with the face of actor 02.
    """
    entries, problems = [], []
    for clip in clips_below(files, LAYOUTS["DeepFakeDetection"]):
        label = int(clip.path.startswith("DFD_manipulated_sequences/"))
        kind = "manipulated" if label else "original"
        people = sequences_in(clip.name)
        if len(people) != 1 + label or not people[0].startswith("actor "):
            expected = "01_02__scene__ABCDEFGH" if label else "01__scene"
            problems.append(f"{shorten(clip.path)}: should be a name like {expected}.mp4")
            continue
        entries.append(
            Entry(
                file=clip.file(f"{kind}_{clip.path.split('/')[-1]}"), label=label,
                source_id=people[0], method="DeepFakeDetection" if label else "real", split="",
                path=clip.path, donors=people[1:], frames=clip.frames,
            )
        )  # fmt: skip
    refuse(problems, files.where)
    return entries


def pairs_path(files: ChunkFiles, split: str) -> str:
    """Return where a list of pairs lies: in splits/, or at the top, as DeepfakeBench has it."""
    path = PAIRS[split]
    return path if path in files.sizes else f"{split}.json"


def _read_pairs(files: ChunkFiles) -> dict[str, str]:
    """Return the split of each sequence that splits/*.json list, as pairs of target and donor."""
    splits: dict[str, str] = {}
    for split in PAIRS:
        path = pairs_path(files, split)
        if path not in files.sizes:
            continue
        where = f"{path} of {files.where}"
        pairs = read_json(files, path)
        if not isinstance(pairs, list) or not all(
            isinstance(pair, list) and all(isinstance(number, str) for number in pair)
            for pair in pairs
        ):
            raise DatasetError(
                f"Asked for the pairs of {where}; found {shorten(pairs)} where a list of pairs of "
                'names, [["000", "003"], ...], should stand. Mend it or take a fresh copy.'
            )
        numbers = {tidy(number) for pair in pairs for number in pair}
        twice = sorted(numbers & splits.keys())
        refuse([f"{shorten(number)}: is in {splits[number]} too" for number in twice], where)
        splits |= dict.fromkeys(numbers, split)
    return splits
