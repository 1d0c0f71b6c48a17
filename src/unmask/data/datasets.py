"""What a chunk holds: one reader a layout says of each video its label, source, method, split.

A video's source is the person or the recording it shows; its donors are the sources whose faces
were put in. Both decide which videos may stand on different sides of a split, so a layout that
names them is believed, and one that cannot is read so that too much stays together, not too little.
"""

import csv
import io
import json
import logging
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from unmask.data.archive import (
    LAYOUTS,
    MAX_FILES,
    MAX_NAME_BYTES,
    VIDEO_ENDINGS,
    ChunkFiles,
    first_few,
    shorten,
    tops_of,
)
from unmask.data.words import join_spellings, key_of, say_joined, tidy
from unmask.errors import DatasetError
from unmask.records import DONOR_SEPARATOR, FORGED_COLUMNS, ForgedPart

MAX_METADATA_BYTES = 2**26  # all of DFDC, 124,000 videos, takes 15 million
PAIRS = {split: f"splits/{split}.json" for split in ("train", "val", "test")}
TESTING_LIST = "List_of_testing_videos.txt"
METADATA = {"metadata.json", "manifest.csv", "manifest.jsonl", TESTING_LIST, *PAIRS.values()}
FORENSICS_PATH = "<kind>/<group>/<compression>/videos/<name>.mp4"

WORDS = ("split", "original", "method", "source")  # what a list may say of a video
LABELS = {"real": "REAL", "0": "REAL", "fake": "FAKE", "1": "FAKE"}  # as a number too, as 0.0 too

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One video that a chunk's metadata lists, whether or not its file is there."""

    file: str  # the plain name that its video gets; its stem is the video's id
    label: int  # 1 is fake
    source_id: str
    method: str
    split: str  # the metadata's own word; empty where it says nothing
    path: str = ""  # where it lies in the chunk, "/" between folders; empty: where file says
    donors: tuple[str, ...] = ()  # sources whose faces were pasted in
    forged: ForgedPart | None = None  # where in a fake the forged face is; None: nobody says


# ---------------------------------------------------------------- reading


def read(files: ChunkFiles) -> list[Entry]:
    """Return the videos of a chunk, in the order of the names they get.

    A listed video without a file keeps its entry; a video file that is not listed is only counted.
    Names of people and of methods that differ only in case, blanks, invisible characters or the
    way Unicode encodes them are one name; the log says which were joined.

    Raises:
        DatasetError: the chunk has no layout that is known, or two, or it is not what its layout
            promises; one message lists up to five problems.
    """
    layout = _recognise(files)
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
    _refuse(problems, files.where)
    listed = {entry.path for entry in entries}
    unlisted = files.sizes.keys() - listed - METADATA
    log.info(
        "%s: %s, %d videos, %d real and %d fake; %d without a file; %d files not listed, %d of "
        "them videos",
        files.where, layout, len(entries), sum(entry.label == 0 for entry in entries),
        sum(entry.label == 1 for entry in entries), len(listed - files.sizes.keys()),
        len(unlisted), sum(_is_video(path) for path in unlisted),
    )  # fmt: skip
    return entries


def _recognise(files: ChunkFiles) -> str:
    tops = tops_of(files.sizes)
    found = {name: [m for m in marks if m in tops] for name, marks in LAYOUTS.items()}
    layouts = [name for name, marks in found.items() if marks]
    if len(layouts) == 1:
        return layouts[0]
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
    if flaw := _name_flaw(entry.file):
        yield flaw
    elif twins[_twin_key(entry.file)] > 1:
        yield f"another video gets this name too, but for its ending or case: {shorten(entry.file)}"
    if entry.label == 1 and key_of(entry.method) == "real":
        yield "a fake's method cannot be real"


def _twin_key(file: str) -> str:
    """Return what no two videos may share: ids, and files where a system knows no case.

    Nor do some systems tell an accented letter from a letter and its accent.
    """
    return unicodedata.normalize("NFC", _stem(file)).casefold()


def _join_names(entries: list[Entry], where: str) -> list[Entry]:
    """Return the entries with one spelling for each person, recording and method."""
    people = join_spellings(name for e in entries for name in (e.source_id, *e.donors))
    methods = join_spellings(entry.method for entry in entries)
    joined = say_joined(people, "person or recording") + say_joined(methods, "method")
    if joined:
        log.warning("%s: %s", where, first_few(joined, "; "))
    return [
        replace(
            entry, source_id=people[entry.source_id], method=methods[entry.method],
            split=tidy(entry.split),
            donors=tuple(dict.fromkeys(people[donor] for donor in entry.donors)),
        )
        for entry in entries
    ]  # fmt: skip


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _is_video(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in VIDEO_ENDINGS


def _name_flaw(name: str) -> str | None:
    """Return why this is no plain name of a file that shows, or None."""
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        return "should be a plain file name"
    # Not printable are control characters and lone surrogates, which no index.csv could hold.
    if not name.isprintable():
        return "holds characters that do not print"
    if DONOR_SEPARATOR in name:  # a source may be called after it
        return f"holds {DONOR_SEPARATOR}, which stands between identities"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"has more than {MAX_NAME_BYTES} bytes"
    return None


def _refuse(problems: list[str], where: str) -> None:
    if problems:
        raise DatasetError(
            f"Asked for the videos of {where}; {len(problems)} problem(s): "
            f"{first_few(problems, '; ')}. Mend it or take a fresh copy."
        )


# ---------------------------------------------------------------- layouts whose names tell


def _videos_below(files: ChunkFiles, tops: tuple[str, ...]) -> list[str]:
    return [path for path in files.sizes if path.startswith(tops) and _is_video(path)]


def read_faceforensics(files: ChunkFiles) -> list[Entry]:
    """Return the videos of FaceForensics++ and DeepFakeDetection.

    Of several compressions those that one class lacks are left out: they would tell the label.
    A sequence is its own source, an actor's videos share one. The names, target before donor, are
    those of the data set's README (Rössler et al., 2019, arXiv:1901.08971). Its lists of pairs are
    the videos' splits, where they lie in splits/.
    """
    splits = _read_pairs(files)
    entries, problems, strays = [], [], []
    for path in _videos_below(files, LAYOUTS["FaceForensics++"]):
        *folders, name = path.split("/")
        # Masks are videos too: manipulated_sequences/<method>/masks/videos/000_003.mp4.
        if "masks" in folders:
            continue
        if len(folders) != 3 and (len(folders) != 4 or folders[3] != "videos"):
            strays.append(shorten(path))
            continue
        kind, group, compression = folders[:3]
        label = int(kind == "manipulated_sequences")
        people = _sequences(_stem(name))
        if len(people) != 1 + label:
            expected = "000_003.mp4 or 01_02__scene__id" if label else "000.mp4 or 01__scene"
            problems.append(f"{shorten(path)}: should be a name like {expected}.mp4")
            continue
        entries.append(
            Entry(
                file=f"{group}_{compression}_{name}", label=label, source_id=people[0],
                method=group if label else "real", split=splits.get(people[0], ""), path=path,
                donors=people[1:],
            )
        )  # fmt: skip
    _refuse(problems, files.where)
    if not entries:
        raise DatasetError(
            f"Asked for the videos of {files.where}; found none at {FORENSICS_PATH}, but "
            f"{first_few(strays) or 'no video'}. A kind is "
            f"{' or '.join(LAYOUTS['FaceForensics++'])}: lay them out so."
        )
    if strays:
        log.warning(
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
    log.warning(
        "%s: left out, because a compression that one class lacks would tell the label: %s",
        where, first_few(apart),
    )  # fmt: skip
    return [entry for entry in entries if _compression(entry) in common]


def _compression(entry: Entry) -> str:
    return entry.path.split("/")[2]


def _sequences(stem: str) -> tuple[str, ...]:
    """Return the source that a name of FaceForensics++ tells, then the donor of a fake."""
    if match := re.fullmatch(r"([0-9]+)(?:_([0-9]+))?", stem):
        return tuple(number for number in match.groups() if number)
    if match := re.fullmatch(r"([0-9]+)(?:_([0-9]+))?__.+", stem):
        return tuple(f"actor {number}" for number in match.groups() if number)
    return ()


def _read_pairs(files: ChunkFiles) -> dict[str, str]:
    """Return the split of each sequence that splits/*.json list, as pairs of target and donor."""
    splits: dict[str, str] = {}
    for split, path in PAIRS.items():
        if path not in files.sizes:
            continue
        where = f"{path} of {files.where}"
        pairs = _read_json(files, path)
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
        _refuse([f"{shorten(number)}: is in {splits[number]} too" for number in twice], where)
        splits |= dict.fromkeys(numbers, split)
    return splits


def read_celeb_df(files: ChunkFiles) -> list[Entry]:
    """Return the videos of Celeb-DF: a person is a source, and so is each video from YouTube.

    id0_id1_0000 is a video of id0 with the face of id1, as its author says:
    https://github.com/yuezunli/celeb-deepfakeforensics/issues/6
    """
    names = {
        "Celeb-real": r"(id[0-9]+)_[0-9]+",
        "YouTube-real": r"([0-9]+)",
        "Celeb-synthesis": r"(id[0-9]+)_(id[0-9]+)_[0-9]+",
    }
    entries, problems = [], []
    for path in _videos_below(files, LAYOUTS["Celeb-DF"]):
        folder = path.split("/")[0]
        match = re.fullmatch(names[folder], _stem(path))
        if not match:
            problems.append(f"{shorten(path)}: should be a name like id0_0000, id0_id1_0000, 00000")
            continue
        label = int(folder == "Celeb-synthesis")
        source, *donors = match.groups()
        entries.append(
            Entry(
                file=path.replace("/", "_"), label=label,
                source_id=f"youtube {source}" if folder == "YouTube-real" else source,
                method=folder if label else "real", split="", path=path, donors=tuple(donors),
            )
        )  # fmt: skip
    _refuse(problems, files.where)
    if TESTING_LIST in files.sizes:
        log.info(
            "%s: %s is not taken for a split: its people are in training videos too",
            files.where, TESTING_LIST,
        )  # fmt: skip
    return entries


def read_folders(files: ChunkFiles) -> list[Entry]:
    """Return the videos below real/ and fake/; fake/<method>/ names the method.

    A video's source is its name in this chunk: a fake that is called like a real one counts as
    made from it.
    """
    entries, chunk = [], PurePosixPath(files.where).name
    for path in _videos_below(files, LAYOUTS["folders"]):
        kind, *folders, name = path.split("/")
        label = int(kind == "fake")
        method = folders[0] if folders else "unknown"
        entries.append(
            Entry(
                file=path.replace("/", "_"), label=label, source_id=f"{chunk}/{_stem(name)}",
                method=method if label else "real", split="", path=path,
            )
        )  # fmt: skip
    return entries


# ---------------------------------------------------------------- layouts with a list


def read_dfdc(files: ChunkFiles) -> list[Entry]:
    """Return the videos that a metadata.json lists, as the Deepfake Detection Challenge ships it.

    That is, mp4 files beside (Dolhansky et al., 2020, arXiv:2006.07397)

        {"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"},
         "b.mp4": {"label": "REAL", "split": "train"}}

    Keys of our own may be added: "method", how a fake was made; "source", the person or the
    recording that is seen, without which it is the video that the fake was made from; "donors", a
    list of the sources whose faces were put in; "fake_box", "fake_from_s" and "fake_to_s", where
    in a fake the forged face is (_read_part).
    """
    where = f"metadata.json of {files.where}"
    rows = _read_json(files, "metadata.json")
    if not isinstance(rows, dict) or not rows:
        raise DatasetError(
            f"Asked for the videos of {where}; found {shorten(rows)} where an object from file "
            "names to their labels should stand. Mend it or take a fresh copy."
        )
    _check_count(len(rows), where)
    listed, problems = rows, []
    find, rows = _finder(files), {}
    for name, row in listed.items():
        if (path := find(name)) in rows:
            problems.append(f"{shorten(name)} is there twice")
        rows[path] = _with_label(row) if isinstance(row, dict) else row
    problems += [
        f"{shorten(name)}: {flaw}"
        for name, row in rows.items() for flaw in _row_flaws(name, row, _name_flaw)
    ]  # fmt: skip
    _refuse(problems, where)
    fakes = [row for row in rows.values() if row["label"] == "FAKE"]
    if alone := sum(not row.get("donors") and not row.get("source") for row in fakes):
        log.info(
            "%s: %d of %d fakes name neither donors nor a source: an actor of theirs may stand on "
            "two sides", where, alone, len(fakes),
        )  # fmt: skip
    return _entries(rows)


def read_manifest(files: ChunkFiles) -> list[Entry]:
    """Return the videos that a manifest.csv or manifest.jsonl lists, a row each.

    path and label (REAL or 0, FAKE or 1; in any case, as 0.0 too) stand in every row; source,
    donors (a list, or joined by "|"), method, split, original (the path of the video that a fake
    was made from), fake_box, fake_from_s and fake_to_s (_read_part) may. Paths go from the manifest
    down, with "/". Where no source is named it is a video's path in this chunk, which no other
    chunk has.
    """
    names = [mark for mark in LAYOUTS["manifest"] if mark in files.sizes]
    where = f"{' and '.join(names)} of {files.where}"
    if len(names) > 1:
        raise DatasetError(f"Asked for the videos of {where}; a chunk has one. Take one out.")
    content = files.read_bytes(names[0], MAX_METADATA_BYTES)
    lines = _csv_rows(content, where) if names[0].endswith(".csv") else _json_rows(content)
    rows: dict[str, dict[str, Any]] = {}
    extra: set[str] = set()
    problems = []
    find = _finder(files)
    for count, (number, found) in enumerate(lines, start=1):
        _check_count(count, where)
        if isinstance(found, str):
            problems.append(f"line {number}: {found}")
            continue
        row = _like_dfdc(found)
        path = row.get("path")
        if isinstance(path, str):
            path = find(path)
        problems += [f"line {number}: {flaw}" for flaw in _row_flaws(path, row, _path_flaw)]
        if isinstance(path, str):
            if path in rows:
                problems.append(f"line {number}: {shorten(path)} is there twice")
            rows[path] = row
        extra |= row.keys() - {"path", "label", *WORDS, "donors", *FORGED_COLUMNS}
    _refuse(problems, where)
    if not rows:
        raise DatasetError(f"Asked for the videos of {where}; it lists none. Add a row for each.")
    if extra:
        log.info("%s: not read: %s", where, first_few([shorten(name) for name in sorted(extra)]))
    prefix = f"{PurePosixPath(files.where).name}/"
    entries = _entries(rows, prefix)
    if alone := sum(entry.source_id.startswith(prefix) for entry in entries):
        log.info(
            "%s: %d of %d videos name no source: each recording counts as another person, and "
            "somebody seen in two of them may stand on two sides", where, alone, len(entries),
        )  # fmt: skip
    return entries


def _finder(files: ChunkFiles) -> Callable[[str], str]:
    """Return what finds the path of a listed video: the same, or one that looks the same.

    A list may have a blank too many, or be written where accents are encoded in another way.
    """
    alike: dict[str, str | None] = {}
    for path in files.sizes:
        alike[tidy(path)] = None if tidy(path) in alike else path  # None: two look the same

    def find(path: str) -> str:
        return path if path in files.sizes else alike.get(tidy(path)) or path

    return find


def _csv_rows(content: bytes, where: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield each row with its line's number, or what is wrong with it."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        reader.fieldnames = columns = [key_of(name) for name in reader.fieldnames or []]
        if not {"path", "label"} <= set(columns) or len(set(columns)) < len(columns):
            raise DatasetError(
                f"Asked for the videos of {where}; found the columns {shorten(list(columns))}, "
                "not path and label and each once. Mend its first line."
            )
        for row in reader:
            # DictReader puts values without a column under None, and None where there is none.
            odd = None in row or None in row.values()
            yield reader.line_num, "more or fewer values than columns" if odd else row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"Asked for {where}; it is not CSV in UTF-8: {error}. Mend it or take a fresh copy."
        ) from error


def _json_rows(content: bytes) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield each row with its line's number, or what is wrong with it."""
    for number, line in enumerate(io.BytesIO(content), start=1):
        if line.strip():
            try:
                row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_without_twins)
            except (ValueError, RecursionError) as error:
                yield number, f"is not JSON in UTF-8: {error}"
                continue
            odd = not isinstance(row, dict)
            yield number, f"should be an object, is {shorten(row)}" if odd else row


def _like_dfdc(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest's row with the values that a DFDC row has; what is empty is left out."""
    row = {key: value for key, value in row.items() if value is not None and not _is_blank(value)}
    if isinstance(row.get("donors"), str):
        row["donors"] = row["donors"].split(DONOR_SEPARATOR)
    if isinstance(row.get("fake_box"), str):
        row["fake_box"] = row["fake_box"].replace(",", " ").split()
    return _with_label(row)


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not tidy(value)


def _with_label(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with REAL or FAKE for every spelling of it that is understood."""
    label = row.get("label")
    word = None
    # Not true and false, which Python takes for numbers: true may mean that a video is genuine.
    if isinstance(label, str | int | float) and not isinstance(label, bool):
        word = re.sub(r"(?<=^[01])\.0*$", "", key_of(str(label)))
    return {**row, "label": LABELS[word]} if word in LABELS else dict(row)


def _read_json(files: ChunkFiles, path: str) -> Any:
    content = files.read_bytes(path, MAX_METADATA_BYTES)
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"Asked for {path} of {files.where}; it is not JSON in UTF-8: {error}. Mend it or take "
            "a fresh copy."
        ) from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; JSON itself would let the last of two equal keys win."""
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"listed twice: {first_few([shorten(name) for name in twice])}")
    return dict(pairs)


def _check_count(count: int, where: str) -> None:
    if count > MAX_FILES:
        raise DatasetError(
            f"Asked for the videos of {where}; it lists more than {MAX_FILES:,}. Split the chunk."
        )


def _row_flaws(path: Any, row: Any, path_flaw: Callable[[str], str | None]) -> Iterator[str]:
    if not isinstance(path, str):
        yield f"path should be a word, is {shorten(path)}"
    elif flaw := path_flaw(path):
        yield flaw
    if not isinstance(row, dict):
        yield f"should be an object with a label, is {shorten(row)}"
        return
    if row.get("label") not in ("REAL", "FAKE"):
        yield (
            f"label should be REAL or FAKE, is {shorten(row.get('label'))} (case does not matter, "
            "and 0 and 1 are read too)"
        )
    for key in WORDS:
        value = row.get(key)
        if value is not None and not _is_word(value):
            yield f"{key} should be a word, is {shorten(value)}"
        elif key == "original" and value is not None and (flaw := path_flaw(tidy(value))):
            yield f"original {shorten(value)}: {flaw}"
    donors = row.get("donors")
    people = donors if isinstance(donors, list) else []
    if donors is not None and not (people and all(_is_word(donor) for donor in people)):
        yield f"donors should be a list of words, is {shorten(donors)}"
    for value in (row.get("source"), *people):
        if isinstance(value, str) and DONOR_SEPARATOR in value:
            yield f"{shorten(value)} holds {DONOR_SEPARATOR}, which stands between identities"
    yield from _part_flaws(row)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(tidy(value)) and tidy(value).isprintable()


def _part_flaws(row: Mapping[str, Any]) -> Iterator[str]:
    if row.get("label") == "REAL" and any(row.get(name) is not None for name in FORGED_COLUMNS):
        yield f"a real video has no {' or '.join(FORGED_COLUMNS)}"
    try:
        _read_part(row)
    except (TypeError, ValueError) as error:
        yield str(error)


def _read_part(row: Mapping[str, Any]) -> ForgedPart | None:
    """Return where in a fake the forged face is, if its row says so.

    fake_box holds four numbers, x0, y0, x1 and y1, in pixels of the picture as a player shows it;
    fake_from_s and fake_to_s are seconds from the first frame. Each may be missing.

    Raises:
        ValueError, TypeError: a value is no number, or not in its order.
    """
    if all(row.get(name) is None for name in FORGED_COLUMNS):
        return None
    box, times = row.get("fake_box"), [row.get("fake_from_s"), row.get("fake_to_s")]
    box_xyxy = None
    if box is not None:
        x0, y0, x1, y1 = box_xyxy = _numbers(box if isinstance(box, list) else [])
        if not (x0 < x1 and y0 < y1):
            raise ValueError(f"fake_box should be x0 y0 x1 y1 in pixels, is {shorten(box)}")
    from_s, to_s = (None if value is None else _number(value) for value in times)
    if to_s is not None and (from_s or 0.0) >= to_s:
        raise ValueError(f"fake_to_s should be after fake_from_s, is {shorten(row['fake_to_s'])}")
    return ForgedPart(box_xyxy, from_s, to_s)


def _path_flaw(path: str) -> str | None:
    if any(_name_flaw(part) for part in path.split("/")):
        return (
            f"{shorten(path)} should be a path from the manifest down, with / between plain names"
        )
    return None


def _numbers(values: list[Any]) -> tuple[float, float, float, float]:
    if len(values) != 4:
        raise ValueError(f"fake_box should be x0 y0 x1 y1 in pixels, is {shorten(values)}")
    x0, y0, x1, y1 = map(_number, values)
    return x0, y0, x1, y1


def _number(value: Any) -> float:
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(
            f"{' and '.join(FORGED_COLUMNS)} should hold numbers from 0, hold {shorten(value)}"
        )
    return number


def _entries(rows: Mapping[str, dict[str, Any]], prefix: str = "") -> list[Entry]:
    """Return the entries of rows without flaws, by their paths.

    prefix stands before the sources that no row names, but a path tells.
    """
    sources = _sources({_without_ending(path): row for path, row in rows.items()}, prefix)
    return [
        Entry(
            file=path.replace("/", "_"),
            label=int(row["label"] == "FAKE"),
            source_id=sources[_without_ending(path)],
            method=row.get("method") or ("unknown" if row["label"] == "FAKE" else "real"),
            split=row.get("split") or "",
            path=path,
            donors=tuple(row.get("donors") or ()),
            forged=_read_part(row),
        )
        for path, row in rows.items()
    ]


def _without_ending(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _sources(rows: Mapping[str, dict[str, Any]], prefix: str) -> dict[str, str]:
    """Return the source named first on the way from each video through its originals, or the last.

    Videos that name each other in a circle share the first of their names in the alphabet.
    """
    sources: dict[str, str] = {}
    named = {key_of(row["source"]) for row in rows.values() if row.get("source")}
    named.update(key_of(donor) for row in rows.values() for donor in row.get("donors") or ())
    stems = {key_of(stem): stem for stem in rows}  # no two are alike, or their files would be

    def told_by(stem: str) -> str:
        return stem if key_of(stem) in named else prefix + stem

    for stem in rows:
        way: dict[str, None] = {}
        while stem not in way:
            row = rows.get(stem, {})
            found = sources.get(stem) or row.get("source")
            way[stem] = None
            if found:
                break
            if row.get("original") is None:
                found = told_by(stem)
                break
            stem = _without_ending(tidy(row["original"]))
            stem = stem if stem in rows else stems.get(key_of(stem), stem)
        else:
            visited = list(way)
            found = told_by(min(visited[visited.index(stem) :]))
        sources |= dict.fromkeys(way, found)
    return sources


READERS: dict[str, Callable[[ChunkFiles], list[Entry]]] = {
    "DFDC": read_dfdc,
    "FaceForensics++": read_faceforensics,
    "Celeb-DF": read_celeb_df,
    "manifest": read_manifest,
    "folders": read_folders,
}
