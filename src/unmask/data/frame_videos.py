"""A chunk's videos in place: files as they are, and a video made of each folder of frames.

What crops, compares and shows videos then needs to know of no other kind. A video is made once: its
note (video/pictures.py) tells by a digest of the pictures whether they are still the same.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from unmask.data import archive
from unmask.data.archive import ChunkFiles, first_few, shorten
from unmask.data.layouts.entry import Entry
from unmask.errors import DatasetError
from unmask.runtime.child import heartbeat
from unmask.video import pictures

_SAVE_EVERY = 100  # new videos

_log = logging.getLogger(__name__)


def fill(files: ChunkFiles, entries: Sequence[Entry], folder: Path) -> Iterator[str]:
    """Yield each entry's name as its video is in place, until folder holds these and no others.

    An entry that is not in the chunk is left out and logged, as is a folder without any picture
    that can be shown.

    Raises:
        DatasetError: a file is damaged, there is no room, or the folder lies in the chunk.
        DiskError: the disk takes no more.
    """
    of_frames = {entry.file: entry for entry in entries if entry.frames}
    wanted = {entry.file: entry.path for entry in entries if not entry.frames}
    known = _read_known(folder)
    yield from archive.fill(files, wanted, folder, keep={*of_frames, pictures.NOTES})
    notes = {name: note for name, note in known.items() if name in of_frames}
    left_out: Counter[str] = Counter()
    unusable, new = [], 0
    for name, entry in sorted(of_frames.items()):
        found = _make(files, entry, folder / name, known.get(name))
        if isinstance(found, pictures.Note):
            if found != notes.get(name):
                notes[name], new = found, new + 1
                if new % _SAVE_EVERY == 0:
                    pictures.write_notes(folder, notes)  # a killed run's videos stay known
            left_out.update(found.left_out)
            yield name
        else:
            notes.pop(name, None)
            (folder / name).unlink(missing_ok=True)
            left_out.update(found)
            unusable.append(shorten(entry.path))
    if notes != known or not notes:
        pictures.write_notes(folder, notes)
    _say(files.where, notes, left_out, unusable)


def _read_known(folder: Path) -> Mapping[str, pictures.Note]:
    try:
        return pictures.read_notes(folder)
    except DatasetError as error:  # it only costs time
        _log.warning("%s All are made anew.", error)
        return {}


def _make(
    files: ChunkFiles, entry: Entry, target: Path, known: pictures.Note | None
) -> pictures.Note | Mapping[str, int]:
    frames = entry.frames
    assert frames is not None

    def read(place: int) -> bytes:
        heartbeat()
        path = frames.pictures[place]
        if files.sizes[path] > pictures.MAX_PICTURE_BYTES:
            return b""
        return files.read_bytes(path, pictures.MAX_PICTURE_BYTES)

    planned = pictures.plan(len(frames.pictures), read, frames.ticks, frames.rate_fps)
    if not isinstance(planned, pictures.Plan):
        return planned
    is_there = (
        known is not None and known.digest == planned.digest
        and target.is_file() and not target.is_symlink() and target.stat().st_size == known.bytes
    )  # fmt: skip
    if known is not None and is_there:
        size = known.bytes
    else:
        size = pictures.write_video(target, planned, read, frames.ticks, frames.rate_fps)
    twice = {"of a number that is there twice": frames.left_out} if frames.left_out else {}
    return pictures.Note(
        planned.digest, size, len(planned.places), {**planned.left_out, **twice},
        frames.ticks[-1] + 1 - len(frames.ticks), frames.rate_fps, frames.is_track,
    )  # fmt: skip


def _say(
    where: str, notes: Mapping[str, pictures.Note], left_out: Counter[str], unusable: Sequence[str]
) -> None:
    if notes:
        made = notes.values()
        rates = sorted({note.rate_fps for note in made})
        _log.info(
            "%s: %d folders of frames, %d pictures, at %s frames/s; %d are face tracks; %d "
            "numbers are missing", where, len(made), sum(note.pictures for note in made),
            " and ".join(f"{rate:g}" for rate in rates), sum(note.is_track for note in made),
            sum(note.gaps for note in made),
        )  # fmt: skip
    if left_out:
        counts = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items()))
        _log.warning("%s: pictures left out: %s", where, counts)
    if unusable:
        _log.warning(
            "%s: %d folders of frames without a picture that can be shown: %s",
            where, len(unusable), first_few(unusable),
        )  # fmt: skip
