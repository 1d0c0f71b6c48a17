"""What a chunk holds: labels and sources from its metadata, and its files.

A chunk has the layout of the Deepfake Detection Challenge (Dolhansky et al., 2020,
arXiv:2006.07397): a folder of mp4 files beside a metadata.json

    {"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"}, "b.mp4": {"label": "REAL"}}

Two keys of our own may be added: "method", how a fake was made, and "source", the person or the
recording that is seen. Without it a fake's source is the video it was made from.
"""

import errno
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unmask.errors import DatasetError
from unmask.records import VideoRecord

METADATA = "metadata.json"
MAX_METADATA_BYTES = 2**28  # all of DFDC, 124,000 videos, takes 15 million
MAX_NAME_BYTES = 200  # file systems take 255; crops and partial files add to a name
MAX_NAMED = 5  # offenders that one message names

# What os.link says where a file system, or the owner of the file, allows no hard link.
NO_HARD_LINK = {
    errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP,
    errno.ENOSYS,
}  # fmt: skip

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


# ---------------------------------------------------------------- reading


def read_dfdc(folder: Path) -> list[Entry]:
    """Return the videos that a DFDC-shaped folder lists, in the order of their names.

    A listed video without a file keeps its entry; an mp4 that is not listed is only counted.

    Raises:
        DatasetError: there is no such folder or no metadata in it, or the metadata is not what
            the layout promises; one message lists up to five problems.
    """
    path = _find_metadata(folder)
    entries = read_metadata(path, str(path))
    here = {path.name for path in folder.iterdir() if path.is_file()}
    listed = {entry.file for entry in entries}
    unlisted = sum(name.lower().endswith(".mp4") for name in here - listed)
    log.info(
        "%s: %d videos, %d real and %d fake; %d without a file; %d mp4 files not listed, ignored",
        folder, len(entries), sum(entry.label == 0 for entry in entries),
        sum(entry.label == 1 for entry in entries), len(listed - here), unlisted,
    )  # fmt: skip
    return entries


def _find_metadata(folder: Path) -> Path:
    if not folder.is_dir():
        raise DatasetError(f"Asked for the chunk {folder}; {_what_instead(folder)}")
    path = folder / METADATA
    if not path.is_file():
        inner = sorted(child.name for child in folder.iterdir() if (child / METADATA).is_file())
        found = (
            f"its subfolder {inner[0]} holds one. Move that one's content up, or ask for "
            f"{folder / inner[0]}."
            if len(inner) == 1
            else "there is none. A chunk is a folder of mp4 files with DFDC's metadata.json."
        )
        raise DatasetError(f"Asked for {path}; {found}")
    return path


def _what_instead(folder: Path) -> str:
    zipped = folder if folder.suffix.lower() == ".zip" else folder.with_name(folder.name + ".zip")
    if zipped.is_file():
        return f"found a zip. Unpack it with `unmask unpack {zipped}`."
    if folder.exists():
        return "it is no folder. A chunk is a folder of mp4 files with DFDC's metadata.json."
    return "there is no such folder. Put it there, or drop it from `chunks` in params.yaml."


def read_metadata(path: Path, where: str) -> list[Entry]:
    """Return the videos that a metadata file lists; where is what messages call the file.

    Raises:
        DatasetError: it is too large, or not what the layout promises; one message lists up to
            five problems.
    """
    if path.stat().st_size > MAX_METADATA_BYTES:
        raise DatasetError(
            f"Asked for the metadata {where}; it has {path.stat().st_size:,} bytes, more than "
            f"{MAX_METADATA_BYTES:,}. Split the chunk."
        )
    content = path.read_bytes()
    try:
        listed = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"Asked for {where}; it is not JSON in UTF-8: {error}. Mend it or take a fresh copy."
        ) from error
    if not isinstance(listed, dict) or not listed:
        raise DatasetError(
            f"Asked for the videos of {where}; found {shorten(listed)} where an object from file "
            "names to their labels should stand. Mend it or take a fresh copy."
        )
    problems = [
        f"{shorten(name)}: {problem}" for name in listed for problem in _flaws(name, listed[name])
    ]
    stems = Counter(_stem(name) for name in listed)
    problems += [
        f"{shorten(name)}: another file has this name too, but for the ending"
        for name in listed if stems[_stem(name)] > 1
    ]  # fmt: skip
    if problems:
        raise DatasetError(
            f"Asked for the videos of {where}; {len(problems)} problem(s): "
            f"{first_few(problems, '; ')}. Mend it or take a fresh copy."
        )
    rows = {_stem(name): row for name, row in listed.items()}
    return [
        Entry(
            file=name,
            label=int(row["label"] == "FAKE"),
            source_id=_source_id(_stem(name), rows),
            method=row.get("method") or ("unknown" if row["label"] == "FAKE" else "real"),
            split=row.get("split") or "",
        )
        for name, row in sorted(listed.items())
    ]


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; JSON itself would let the last of two equal keys win."""
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"listed twice: {first_few([shorten(name) for name in twice])}")
    return dict(pairs)


def _flaws(name: str, row: Any) -> Iterator[str]:
    if flaw := _name_flaw(name):
        yield flaw
    if not isinstance(row, dict):
        yield f"should be an object with a label, is {shorten(row)}"
        return
    if row.get("label") not in ("REAL", "FAKE"):
        yield f"label should be REAL or FAKE, is {shorten(row.get('label'))}"
    for key in ("split", "original", "method", "source"):
        value = row.get(key)
        if value is not None and not (isinstance(value, str) and value and value.isprintable()):
            yield f"{key} should be a word, is {shorten(value)}"
        elif key == "original" and value is not None and (flaw := _name_flaw(value)):
            yield f"original {shorten(value)}: {flaw}"
    if row.get("label") == "FAKE" and row.get("method") == "real":
        yield "a fake's method cannot be real"


def _name_flaw(name: str) -> str | None:
    """Return why this is no plain name of a file that shows, or None."""
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        return "should be a plain file name"
    # Not printable are control characters and lone surrogates, which no index.csv could hold.
    if not name.isprintable():
        return "holds characters that do not print"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"has more than {MAX_NAME_BYTES} bytes"
    return None


def _source_id(stem: str, rows: dict[str, dict[str, Any]]) -> str:
    """Return the source named first on the way from a video through its originals, or the last.

    Videos that name each other in a circle share the first of their names in the alphabet.
    """
    way: dict[str, None] = {}
    while stem not in way:
        way[stem] = None
        row = rows.get(stem, {})
        if row.get("source"):
            return str(row["source"])
        if row.get("original") is None:
            return stem
        stem = _stem(row["original"])
    visited = list(way)
    return min(visited[visited.index(stem) :])


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def shorten(value: object) -> str:
    """Return how a message shows a value that a stranger wrote: ASCII, 80 characters at most."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def first_few(names: Collection[str], separator: str = ", ") -> str:
    """Return the first MAX_NAMED names, and how many more there are."""
    more = len(names) - MAX_NAMED
    return separator.join(list(names)[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------- files


def link_videos(records: Iterable[VideoRecord], chunk_dir: Path, videos_dir: Path) -> None:
    """Make videos_dir hold exactly the videos' files, as hard links where that is possible.

    A copy is made where it is not; a video without a file is left out and logged. Anything else
    in videos_dir is removed.

    Raises:
        DatasetError: one folder lies in the other.
    """
    ours, theirs = videos_dir.resolve(), chunk_dir.resolve()
    if ours in (theirs, *theirs.parents) or theirs in ours.parents:
        raise DatasetError(
            f"Asked to fill {videos_dir} from {chunk_dir}; one lies in the other, and what is not "
            "asked for is removed. Give it a folder of its own."
        )
    files = {record.file for record in records}
    missing = sorted(file for file in files if not (chunk_dir / file).is_file())
    if missing:
        log.warning("%s: %d videos without a file: %s", chunk_dir, len(missing), first_few(missing))
    files.difference_update(missing)
    videos_dir.mkdir(parents=True, exist_ok=True)
    for path in list(videos_dir.iterdir()):
        if path.name in files and _is_same(path, chunk_dir / path.name):
            files.remove(path.name)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for file in sorted(files):
        _link(chunk_dir / file, videos_dir / file)


def _is_same(path: Path, original: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.samefile(original)


def _link(original: Path, path: Path) -> None:
    try:
        # Resolved, because DVC may itself have put a symbolic link there.
        os.link(original.resolve(), path)
    except OSError as error:
        if error.errno not in NO_HARD_LINK:
            raise
        partial = path.with_name(f".{path.name}.partial")
        shutil.copyfile(original, partial)
        partial.replace(path)
