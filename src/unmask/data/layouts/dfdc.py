"""DFDC: one metadata.json lists the videos of a folder."""

import logging

from unmask.data.archive import (
    ChunkFiles,
    shorten,
)
from unmask.data.layouts.entry import Entry, name_flaw, read_json, refuse
from unmask.data.layouts.frames import with_frames
from unmask.data.layouts.rows import check_count, entries_of, finder, row_flaws, with_label
from unmask.errors import DatasetError

_log = logging.getLogger(__name__)


def read_dfdc(files: ChunkFiles) -> list[Entry]:
    """Return the videos that a metadata.json lists, as the Deepfake Detection Challenge ships it.

    That is, mp4 files beside (Dolhansky et al., 2020, arXiv:2006.07397)

        {"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"},
         "b.mp4": {"label": "REAL", "split": "train"}}

    Keys of our own may be added: "method", how a fake was made; "source", the person or the
    recording that is seen, without which it is the video that the fake was made from; "donors", a
    list of the sources whose faces were put in; "fake_box", "fake_from_s" and "fake_to_s", where
    in a fake the forged face is (rows.read_part).

    A video may be a folder of frames, frames/a/000.png, as DeepfakeBench makes them.
    """
    where = f"metadata.json of {files.where}"
    rows = read_json(files, "metadata.json")
    if not isinstance(rows, dict) or not rows:
        raise DatasetError(
            f"Asked for the videos of {where}; found {shorten(rows)} where an object from file "
            "names to their labels should stand. Mend it or take a fresh copy."
        )
    check_count(len(rows), where)
    listed, problems = rows, []
    find, rows = finder(files), {}
    for name, row in listed.items():
        if (path := find(name)) in rows:
            problems.append(f"{shorten(name)} is there twice")
        rows[path] = with_label(row) if isinstance(row, dict) else row
    problems += [
        f"{shorten(name)}: {flaw}"
        for name, row in rows.items() for flaw in row_flaws(name, row, name_flaw)
    ]  # fmt: skip
    refuse(problems, where)
    fakes = [row for row in rows.values() if row["label"] == "FAKE"]
    if alone := sum(not row.get("donors") and not row.get("source") for row in fakes):
        _log.info(
            "%s: %d of %d fakes name neither donors nor a source: an actor of theirs may stand on "
            "two sides", where, alone, len(fakes),
        )  # fmt: skip
    return with_frames(files, entries_of(rows))
