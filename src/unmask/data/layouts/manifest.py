"""manifest.csv or manifest.jsonl: a row for each video, written by whoever has them."""

import csv
import io
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from unmask.data.archive import (
    LAYOUTS,
    ChunkFiles,
    first_few,
    shorten,
)
from unmask.data.layouts.entry import MAX_METADATA_BYTES, Entry, refuse, without_repeated_keys
from unmask.data.layouts.frames import with_frames
from unmask.data.layouts.rows import (
    WORDS,
    check_count,
    entries_of,
    finder,
    is_blank,
    path_flaw,
    row_flaws,
    with_label,
)
from unmask.data.words import key_of
from unmask.errors import DatasetError
from unmask.records import DONOR_SEPARATOR, FORGED_COLUMNS

_log = logging.getLogger(__name__)


def read_manifest(files: ChunkFiles) -> list[Entry]:
    """Return the videos that a manifest.csv or manifest.jsonl lists, a row each.

    path and label (REAL or 0, FAKE or 1; in any case, as 0.0 too) stand in every row; source,
    donors (a list, or joined by "|"), method, split, original (the path of the video that a fake
    was made from), fake_box, fake_from_s and fake_to_s (rows.read_part) may. Paths go from the
    manifest down, with "/". Where no source is named it is a video's path in this chunk, which no
    other chunk has. A path may be that of a folder of frames.
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
    find = finder(files)
    for count, (number, found) in enumerate(lines, start=1):
        check_count(count, where)
        if isinstance(found, str):
            problems.append(f"line {number}: {found}")
            continue
        row = _like_dfdc(found)
        path = row.get("path")
        if isinstance(path, str):
            path = find(path)
        problems += [f"line {number}: {flaw}" for flaw in row_flaws(path, row, path_flaw)]
        if isinstance(path, str):
            if path in rows:
                problems.append(f"line {number}: {shorten(path)} is there twice")
            rows[path] = row
        extra |= row.keys() - {"path", "label", *WORDS, "donors", *FORGED_COLUMNS}
    refuse(problems, where)
    if not rows:
        raise DatasetError(f"Asked for the videos of {where}; it lists none. Add a row for each.")
    if extra:
        _log.info("%s: not read: %s", where, first_few([shorten(name) for name in sorted(extra)]))
    prefix = f"{PurePosixPath(files.where).name}/"
    entries = with_frames(files, entries_of(rows, prefix))
    if alone := sum(entry.source_id.startswith(prefix) for entry in entries):
        _log.info(
            "%s: %d of %d videos name no source: each recording counts as another person, and "
            "somebody seen in two of them may stand on two sides", where, alone, len(entries),
        )  # fmt: skip
    return entries


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
                row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=without_repeated_keys)
            except (ValueError, RecursionError) as error:
                yield number, f"is not JSON in UTF-8: {error}"
                continue
            odd = not isinstance(row, dict)
            yield number, f"should be an object, is {shorten(row)}" if odd else row


def _like_dfdc(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest's row with the values that a DFDC row has; what is empty is left out."""
    row = {key: value for key, value in row.items() if value is not None and not is_blank(value)}
    if isinstance(row.get("donors"), str):
        row["donors"] = row["donors"].split(DONOR_SEPARATOR)
    if isinstance(row.get("fake_box"), str):
        row["fake_box"] = row["fake_box"].replace(",", " ").split()
    return with_label(row)
