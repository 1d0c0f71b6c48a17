"""Rows of a list of videos: what may stand in one, and the entries they make."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from unmask.data.archive import (
    MAX_FILES,
    ChunkFiles,
    shorten,
)
from unmask.data.layouts.entry import Entry, name_flaw
from unmask.data.words import key_of, tidy
from unmask.errors import DatasetError
from unmask.records import DONOR_SEPARATOR, FORGED_COLUMNS, ForgedPart

WORDS = ("split", "original", "method", "source")  # what a list may say of a video
LABELS = {"real": "REAL", "0": "REAL", "fake": "FAKE", "1": "FAKE"}  # as a number too, as 0.0 too


def is_blank(value: Any) -> bool:
    """Say whether a value is text that shows nothing."""
    return isinstance(value, str) and not tidy(value)


def with_label(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with REAL or FAKE for every spelling of it that is understood."""
    label = row.get("label")
    word = None
    # Not true and false, which Python takes for numbers: true may mean that a video is genuine.
    if isinstance(label, str | int | float) and not isinstance(label, bool):
        word = re.sub(r"(?<=^[01])\.0*$", "", key_of(str(label)))
    return {**row, "label": LABELS[word]} if word in LABELS else dict(row)


def check_count(count: int, where: str) -> None:
    """Raise DatasetError where a list holds more videos than a chunk may."""
    if count > MAX_FILES:
        raise DatasetError(
            f"Asked for the videos of {where}; it lists more than {MAX_FILES:,}. Split the chunk."
        )


def row_flaws(path: Any, row: Any, path_flaw: Callable[[str], str | None]) -> Iterator[str]:
    """Yield what is wrong with a row of a list, in words."""
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
        read_part(row)
    except (TypeError, ValueError) as error:
        yield str(error)


def read_part(row: Mapping[str, Any]) -> ForgedPart | None:
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


def path_flaw(path: str) -> str | None:
    """Return why this is no path from a list down to a video, or None."""
    if any(name_flaw(part) for part in path.split("/")):
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


def finder(files: ChunkFiles) -> Callable[[str], str]:
    """Return what finds the path of a listed video: the same, or one that looks the same.

    A list may have a blank too many, or be written where accents are encoded in another way.
    """
    alike: dict[str, str | None] = {}
    for path in files.sizes:
        alike[tidy(path)] = None if tidy(path) in alike else path  # None: two look the same

    def find(path: str) -> str:
        return path if path in files.sizes else alike.get(tidy(path)) or path

    return find


def entries_of(rows: Mapping[str, dict[str, Any]], prefix: str = "") -> list[Entry]:
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
            forged=read_part(row),
        )
        for path, row in rows.items()
    ]


def _without_ending(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _sources(rows: Mapping[str, dict[str, Any]], prefix: str) -> dict[str, str]:
    """Return each video's source: the first named along its chain of originals, else the last.

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
