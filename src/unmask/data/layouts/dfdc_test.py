"""The test set of DFDC: labels.csv beside the videos, or beside DeepfakeBench's frames/.

As its authors ship it (Dolhansky et al., 2020, arXiv:2006.07397) the folder test/ holds 5,000 mp4
files and labels.csv, with the columns filename and label, in which 1 is fake. It has no originals.
A metadata.json there tells of augmentations; it is not read.
"""

import logging

from unmask.data.archive import VIDEO_ENDINGS, ChunkFiles, shorten
from unmask.data.layouts.entry import Entry, name_flaw, refuse
from unmask.data.layouts.frames import Clip, clips_below
from unmask.data.layouts.rows import LABELS
from unmask.data.layouts.tables import read_table
from unmask.data.words import key_of
from unmask.errors import DatasetError

LABELS_CSV = "labels.csv"

_log = logging.getLogger(__name__)


def read_dfdc_test(files: ChunkFiles) -> list[Entry]:
    """Return the videos that labels.csv lists; each counts as a person of its own."""
    where = f"{LABELS_CSV} of {files.where}"
    if LABELS_CSV not in files.sizes:
        raise DatasetError(f"Asked for {where}; there is no such file. Put it beside the videos.")
    kept = {clip.name: clip for clip in clips_below(files, ("",))}
    entries, problems, seen = [], [], set()
    for line, row in read_table(files, LABELS_CSV, ["filename", "label"]):
        name, label = row["filename"], LABELS.get(key_of(row["label"]))
        if flaw := name_flaw(name):
            problems.append(f"line {line}: {shorten(name)}: {flaw}")
        elif label is None:
            problems.append(f"line {line}: label should be 0 or 1, is {shorten(row['label'])}")
        elif name in seen:
            problems.append(f"line {line}: {shorten(name)} is there twice")
        else:
            seen.add(name)
            known = kept.get(name.rpartition(".")[0] or name)
            clip = known or Clip(name)
            if "." not in name or f".{name.rpartition('.')[2].lower()}" not in VIDEO_ENDINGS:
                problems.append(f"line {line}: {shorten(name)} should be a video's name")
                continue
            file = f"{name.rpartition('.')[0]}.mov" if clip.frames else name
            entries.append(
                Entry(
                    file=file, label=int(label == "FAKE"), source_id=name.rpartition(".")[0],
                    method="unknown" if label == "FAKE" else "real", split="test", path=clip.path,
                    frames=clip.frames,
                )
            )  # fmt: skip
    refuse(problems, where)
    if not entries:
        raise DatasetError(f"Asked for the videos of {where}; it lists none. Take a fresh copy.")
    _log.info("%s: it names neither people nor originals: each video counts as a person", where)
    return entries
