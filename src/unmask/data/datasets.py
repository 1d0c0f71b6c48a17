"""What a chunk holds: one reader a layout says of each video its label, source, method, split.

A video's source is the person or the recording it shows; its donors are the sources whose faces
were put in. Both decide which videos may stand on different sides of a split, so a layout that
names them is believed, and one that cannot is read so that too much stays together, not too little.
"""

import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from unmask.data.archive import (
    LAYOUTS,
    PREFERRED,
    VIDEO_ENDINGS,
    ChunkFiles,
    first_few,
    shorten,
    tops_of,
)
from unmask.data.layouts.celeb_df import TESTING_LIST, read_celeb_df
from unmask.data.layouts.deeperforensics import SPLIT_LISTS, read_deeperforensics
from unmask.data.layouts.deepfake_eval import TABLES, read_deepfake_eval
from unmask.data.layouts.deepfakebench import read_deepfakebench
from unmask.data.layouts.df_timit import read_df_timit
from unmask.data.layouts.dfdc import read_dfdc
from unmask.data.layouts.dfdc_test import LABELS_CSV, read_dfdc_test
from unmask.data.layouts.entry import Entry, is_video, name_flaw, refuse, stem
from unmask.data.layouts.faceforensics import PAIRS, read_deepfakedetection, read_faceforensics
from unmask.data.layouts.fakeavceleb import META_CSV, read_fakeavceleb
from unmask.data.layouts.folders import is_uadfv, read_folders, read_uadfv
from unmask.data.layouts.frames import SETTINGS
from unmask.data.layouts.manifest import read_manifest
from unmask.data.layouts.wilddeepfake import read_wilddeepfake
from unmask.data.words import join_spellings, key_of, say_joined, tidy
from unmask.errors import DatasetError

METADATA = {
    "metadata.json", "manifest.csv", "manifest.jsonl", TESTING_LIST, LABELS_CSV, META_CSV, SETTINGS,
    *PAIRS.values(), *SPLIT_LISTS.values(), *TABLES, *LAYOUTS["DeepfakeBench"],
}  # fmt: skip

_log = logging.getLogger(__name__)


def read(files: ChunkFiles) -> list[Entry]:
    """Return the videos of a chunk, in the order of the names they get.

    A listed video without a file keeps its entry; a video file that is not listed is only counted.
    Names of people and of methods that differ only in case, blanks, invisible characters or the
    way Unicode encodes them are one name; the log says which were joined.

    Raises:
        DatasetError: the chunk has no layout that is known, or two, or it is not what its layout
            promises; one message lists up to five problems.
    """
    layout = recognise(files)
    entries = sorted(READERS[layout](files), key=lambda entry: entry.file)
    entries = _join_names(entries, files.where)
    if not entries:
        raise DatasetError(
            f"Asked for the videos of {files.where}; found the layout {layout} and no video where "
            f"it has them. Known endings are {', '.join(sorted(VIDEO_ENDINGS))}."
        )
    twins = Counter(_twin_key(entry.file) for entry in entries)
    problems = [
        f"{shorten(entry.path)}: {flaw}"
        for entry in entries for flaw in _entry_flaws(entry, twins)
    ]  # fmt: skip
    refuse(problems, files.where)
    listed = {entry.path for entry in entries}
    listed.update(path for entry in entries if entry.frames for path in entry.frames.pictures)
    absent = sum(not entry.is_in(files) for entry in entries)
    unlisted = files.sizes.keys() - listed - METADATA
    _log.info(
        "%s: %s, %d videos, %d real and %d fake; %d without a file; %d files not listed, %d of "
        "them videos",
        files.where, layout, len(entries), sum(entry.label == 0 for entry in entries),
        sum(entry.label == 1 for entry in entries), absent,
        len(unlisted), sum(is_video(path) for path in unlisted),
    )  # fmt: skip
    return entries


def recognise(files: ChunkFiles) -> str:
    """Return the name of a chunk's layout, by what lies at its top.

    UADFV, whose folders are called as anybody's are, is known by its files' names.

    Raises:
        DatasetError: the chunk has no layout that is known, or two.
    """
    tops = tops_of(files.sizes)
    found = {name: [m for m in marks if m in tops] for name, marks in LAYOUTS.items()}
    layouts = [name for name, marks in found.items() if marks]
    for name in [name for name in layouts if name in PREFERRED]:
        layouts = [other for other in layouts if other == name or other not in PREFERRED[name]]
    if len(layouts) == 1:
        return "UADFV" if layouts == ["folders"] and is_uadfv(files) else layouts[0]
    if layouts:
        both = " and ".join(f"{', '.join(found[name])} ({name})" for name in layouts)
        raise DatasetError(
            f"Asked for the videos of {files.where}; found {both}. A chunk has one layout: take "
            "the others out, or make chunks of them."
        )
    known = "; ".join(f"{' or '.join(marks)} ({name})" for name, marks in LAYOUTS.items())
    shown = [shorten(top) for top in sorted(tops)]
    raise DatasetError(
        f"Asked for the videos of {files.where}; found {first_few(shown) or 'nothing'} at its top. "
        f"There a chunk has {known}. Put one there; a folder that has one is a chunk of its own."
    )


def _entry_flaws(entry: Entry, twins: Mapping[str, int]) -> Iterator[str]:
    if flaw := name_flaw(entry.file):
        yield flaw
    elif twins[_twin_key(entry.file)] > 1:
        yield f"another video gets this name too, but for its ending or case: {shorten(entry.file)}"
    if entry.label == 1 and key_of(entry.method) == "real":
        yield "a fake's method cannot be real"


def _twin_key(file: str) -> str:
    """Return what no two videos may share: ids, and files where a system knows no case.

    Nor do some systems tell an accented letter from a letter and its accent.
    """
    return unicodedata.normalize("NFC", stem(file)).casefold()


def _join_names(entries: list[Entry], where: str) -> list[Entry]:
    """Return the entries with one spelling for each person, recording and method."""
    people = join_spellings(name for e in entries for name in (e.source_id, *e.donors))
    methods = join_spellings(entry.method for entry in entries)
    joined = say_joined(people, "person or recording") + say_joined(methods, "method")
    if joined:
        _log.warning("%s: %s", where, first_few(joined, "; "))
    return [
        replace(
            entry, source_id=people[entry.source_id], method=methods[entry.method],
            split=tidy(entry.split),
            donors=tuple(dict.fromkeys(people[donor] for donor in entry.donors)),
        )
        for entry in entries
    ]  # fmt: skip


READERS: dict[str, Callable[[ChunkFiles], list[Entry]]] = {
    "DFDC": read_dfdc,
    "DFDC test set": read_dfdc_test,
    "FaceForensics++": read_faceforensics,
    "DeepFakeDetection": read_deepfakedetection,
    "Celeb-DF": read_celeb_df,
    "DeeperForensics-1.0": read_deeperforensics,
    "FakeAVCeleb": read_fakeavceleb,
    "WildDeepfake": read_wilddeepfake,
    "DF-TIMIT": read_df_timit,
    "Deepfake-Eval-2024": read_deepfake_eval,
    "DeepfakeBench": read_deepfakebench,
    "UADFV": read_uadfv,
    "manifest": read_manifest,
    "folders": read_folders,
}
