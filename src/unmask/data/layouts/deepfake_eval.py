"""Deepfake-Eval-2024's videos: a CSV of labels and the folder video-data/.

Its table (Chandra et al., 2025, arXiv:2503.02857) is video-metadata-publish.csv, later
video-metadata-publish-with-links.csv, with the columns Filename, Video Ground Truth (Real, Fake or
Unknown), Finetuning Set (Train or Test) and others, which are not read.
"""

import logging
from pathlib import PurePosixPath

from unmask.data.archive import LAYOUTS, ChunkFiles, shorten
from unmask.data.layouts.entry import Entry, is_video, name_flaw, refuse
from unmask.data.layouts.rows import LABELS
from unmask.data.layouts.tables import read_table
from unmask.data.words import key_of
from unmask.errors import DatasetError

TABLES = LAYOUTS["Deepfake-Eval-2024"][:2]
FOLDER = "video-data/"
_NOT_SAID = {"", "unknown", "unsure", "na", "n/a", "none", "-"}

_log = logging.getLogger(__name__)


def read_deepfake_eval(files: ChunkFiles) -> list[Entry]:
    """Return the videos of which it is known whether their pictures are real or fake.

    Nobody says who is seen: each video counts as another person.
    """
    names = [name for name in TABLES if name in files.sizes]
    if len(names) != 1:
        raise DatasetError(
            f"Asked for the labels of {files.where}; found {' and '.join(names) or 'no table'}. "
            f"Put {TABLES[1]} beside {FOLDER}, and nothing else of its kind."
        )
    where, chunk = f"{names[0]} of {files.where}", PurePosixPath(files.where).name
    entries: dict[str, Entry] = {}
    problems, unknown, others = [], 0, 0
    for line, row in read_table(
        files, names[0], ["filename", ("video ground truth", "ground truth")]
    ):
        name, said = row["filename"], row["video ground truth"]
        label, path = LABELS.get(key_of(said)), f"{FOLDER}{name}"
        if flaw := name_flaw(name):
            problems.append(f"line {line}: {shorten(name)}: {flaw}")
        elif not is_video(name):
            others += 1
        elif label is None and key_of(said) in _NOT_SAID:
            unknown += 1
        elif label is None:
            problems.append(f"line {line}: should be Real, Fake or Unknown, is {shorten(said)}")
        elif path in entries:
            problems.append(f"line {line}: {shorten(name)} is there twice")
        else:
            entries[path] = Entry(
                file=name, label=int(label == "FAKE"),
                source_id=f"{chunk}/{PurePosixPath(name).stem}",
                method="in the wild" if label == "FAKE" else "real",
                split=row.get("finetuning set", ""), path=path,
            )  # fmt: skip
    refuse(problems, where)
    if unknown or others:
        _log.info(
            "%s: %d videos left out whose pictures are neither called real nor fake, %d rows of "
            "other files", where, unknown, others,
        )  # fmt: skip
    return list(entries.values())
