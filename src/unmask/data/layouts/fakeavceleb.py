"""FakeAVCeleb: meta_data.csv and folders by type, race and gender.

Version 1.2 (Khalid et al., 2021, arXiv:2108.05080) has videos at
<type>/<race>/<gender>/<source>/<name>.mp4, where a type is RealVideo-RealAudio, FakeVideo-FakeAudio
and so on. meta_data.csv has the columns source, target1, target2, method, category, type, race,
gender, path and one without a name: path is the file's name, the last one its folder below
FakeAVCeleb/. Later copies call the two filename and path.
"""

import logging
import re
from collections import Counter

from unmask.data.archive import LAYOUTS, ChunkFiles, first_few, shorten
from unmask.data.layouts.entry import Entry, is_video, name_flaw, refuse
from unmask.data.layouts.tables import read_table
from unmask.errors import DatasetError

META_CSV = "meta_data.csv"
TYPES = tuple(mark.rstrip("/") for mark in LAYOUTS["FakeAVCeleb"][1:])
FAKE_SOUND = "RealVideo-FakeAudio"
SWAPS = ("faceswap", "fsgan")  # methods that put a target's face in

_log = logging.getLogger(__name__)


def read_fakeavceleb(files: ChunkFiles) -> list[Entry]:
    """Return the videos whose pictures are real or fake.

    Those whose sound alone is fake are left out: their pictures are a genuine video's. The source
    is the person who is seen; donors are the targets of a method that swaps faces.
    """
    where = f"{META_CSV} of {files.where}"
    if META_CSV not in files.sizes:
        raise DatasetError(
            f"Asked for {where}; there is no such file, and only it tells whose face was put in. "
            "Take it from the data set's archive."
        )
    entries: dict[str, Entry] = {}
    problems, twice, with_fake_sound = [], [], 0
    for line, row in read_table(
        files,
        META_CSV,
        ["source", "target1", "target2", "method", "type", "race", "gender", "path"],
    ):
        folder, name = row.get("", ""), row.get("filename") or row["path"]
        if row.get("filename"):
            folder = row["path"]
        path = _path(row, folder, name)
        if row["type"] not in TYPES:
            problems.append(
                f"line {line}: type should be like {TYPES[0]}, is {shorten(row['type'])}"
            )
        elif not is_video(name) or any(name_flaw(part) for part in path.split("/")):
            problems.append(f"line {line}: {shorten(path)} should be the path of a video")
        elif not re.fullmatch(r"id[0-9]+", row["source"]):
            problems.append(
                f"line {line}: source should be like id00076, is {shorten(row['source'])}"
            )
        elif row["type"] == FAKE_SOUND:
            with_fake_sound += 1
        elif path in entries:
            twice.append(shorten(path))
        else:
            entries[path] = _entry(row, path)
    refuse(problems, where)
    if twice:
        _log.warning(
            "%s: %d videos are listed twice, by several methods; the first counts: %s",
            where, len(twice), first_few(twice),
        )  # fmt: skip
    if with_fake_sound:
        _log.info("%s: %d videos left out, of which only the sound is fake", where, with_fake_sound)
    races = Counter(entry.path.split("/")[1] for entry in entries.values())
    _log.info(
        "%s: by race: %s", where, ", ".join(f"{n} {shorten(r)}" for r, n in sorted(races.items()))
    )
    return list(entries.values())


def _path(row: dict[str, str], folder: str, name: str) -> str:
    parts = [part for part in folder.replace("\\", "/").split("/") if part]
    if row["type"] in parts:
        parts = parts[parts.index(row["type"]) :]
    else:
        parts = [row["type"], row["race"], row["gender"], row["source"]]
    return "/".join([*parts, name])


def _entry(row: dict[str, str], path: str) -> Entry:
    label = int(row["type"].startswith("FakeVideo"))
    method = row["method"] or "unknown"
    swaps = label and any(swap in method.lower() for swap in SWAPS)
    targets = (row["target1"], row["target2"])
    return Entry(
        file=path.replace("/", "_"), label=label, source_id=row["source"],
        method=method if label else "real", split="", path=path,
        donors=tuple(dict.fromkeys(t for t in targets if swaps and re.fullmatch(r"id[0-9]+", t))),
    )  # fmt: skip
