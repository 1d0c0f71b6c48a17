"""Decoded frames of crops on disk, which training maps into memory instead of decoding them.

A file of NumPy's holds the frames of one crop file, (T, H, W, C) as read_clips gives them. Its name
is a digest of the crop file's content and of what decodes it, so that another crop, or the same one
decoded by other code, has another name. Files that no training needs any more are deleted when the
next one begins.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np

from unmask.errors import MALFORMED, DatasetError, DiskError
from unmask.records import Chunk, Split
from unmask.runtime.code import code_digest
from unmask.runtime.disk import (
    content_digest,
    create,
    give_name,
    new_name,
    sole_writer,
    write_atomically,
    writing,
)
from unmask.runtime.processes import run_jobs
from unmask.video.decode import read_frames

_log = logging.getLogger(__name__)

INDEX = "paths.json"  # crop files and their frames' files, for DDP's further processes
_OURS = re.compile(r"[0-9a-f]{64}\.npy|\.[0-9a-f]{64}\.npy\.[0-9a-f]{16}\.partial")
_HEADER_BYTES = 128  # of a file of NumPy's with so few dimensions
_CHANNELS = 3
# What a crop's pixels depend on beside its file.
_CODE = (
    "models/frame_cache", "video/colour", "video/decode", "video/endings", "video/failures",
    "video/frame", "video/light", "video/streams", "video/transport",
)  # fmt: skip


@dataclass(frozen=True)
class Track:
    """A crop file, and how many frames its row says that it holds."""

    crop: Path
    frames: int

    def most_bytes(self, side_px: int) -> int:
        """Return the size of its frames' file; of smaller pictures it is less."""
        return _HEADER_BYTES + self.frames * side_px**2 * _CHANNELS


@dataclass(frozen=True)
class _Job:
    """A crop file whose frames are to be written."""

    track: Track
    sha256: str
    side_px: int
    path: Path


@dataclass(frozen=True)
class Filling:
    """Which crops a cache is to hold, and which of them it lacks."""

    paths: Mapping[Path, Path]  # each crop file's frames, also those that are not written yet
    missing: Sequence[_Job]
    left_out: int  # crops for which there is no room: they are decoded each time
    index: Path

    def write(self, *, workers: int) -> Iterator[Path]:
        """Yield each missing file as worker processes have written it; at the end, note them all.

        Interrupted at any moment, it goes on when it is planned and called again.

        Raises:
            DatasetError: a crop file holds fewer frames than its row says, or larger ones, changed
                meanwhile, or crashed its decoder.
            DiskError: the disk takes no more.
        """
        needed = sum(job.track.most_bytes(job.side_px) for job in self.missing)
        free = shutil.disk_usage(self.index.parent).free
        if needed > free:
            raise DiskError(
                f"Asked for {needed / 1e9:.1f} GB of decoded frames in {self.index.parent}; "
                f"{free / 1e9:.1f} GB are free there. Lower UNMASK_FRAME_CACHE, or name another "
                "folder by UNMASK_FRAME_CACHE_DIR."
            )
        for crop, is_written in run_jobs(
            self.missing, _write, _start, workers, crashed=_note_crash
        ):
            if not is_written:
                raise DatasetError(
                    f"Asked for the frames of {crop}; the process that decoded it crashed, or ran "
                    "out of memory. Delete the file and run `dvc repro`."
                )
            yield self.paths[crop]
        names = {str(crop): path.name for crop, path in self.paths.items()}
        write_atomically(self.index, json.dumps(names))


@contextmanager
def opened(
    chunks: Sequence[Chunk],
    folder: Path,
    *,
    most_bytes: int,
    side_px: int,
    workers: int,
    is_filler: bool,
    show: Callable[..., Iterator[Path]],
) -> Iterator[Mapping[Path, Path]]:
    """Give the frames' file of each crop file for which the cache has room; none for 0 bytes.

    One process fills the cache and keeps others out of it meanwhile; further processes that it
    starts take its word. show yields what it is given, as a progress bar up to `total`.

    Raises:
        DiskError: the disk takes no more, or another training uses the folder.
        DatasetError: a crop file can't be decoded.
    """
    if not most_bytes:
        yield {}
    elif not is_filler:
        yield find(folder)
    else:
        with sole_writer(folder):
            filling = plan(
                tracks_of(chunks), folder, most_bytes=most_bytes, side_px=side_px, workers=workers
            )
            _log.info(
                "frames of %d crop files in %s, %d of them still to be decoded%s",
                len(filling.paths), folder, len(filling.missing),
                f"; no room for those of {filling.left_out} more" if filling.left_out else "",
            )  # fmt: skip
            for _ in show(filling.write(workers=workers), total=len(filling.missing)):
                pass
            yield filling.paths


def tracks_of(chunks: Iterable[Chunk]) -> Iterator[Track]:
    """Yield the crop files that training and validation read."""
    splits: tuple[Split, ...] = ("train", "validation")
    for chunk in chunks:
        for split in splits:
            for found in chunk.of(split).faces():
                for track in found.tracks:
                    yield Track(chunk.faces_dir / track.file, len(track.times_T))


def plan(
    tracks: Iterable[Track], folder: Path, *, most_bytes: int, side_px: int, workers: int
) -> Filling:
    """Return what the cache in a folder shall hold, after deleting what it shall not.

    side_px is the crops' side. No more than most_bytes are planned: where there is no room for all
    crops, it is the same ones for every training. Only one process at a time may work in a folder.

    Raises:
        DatasetError: a crop file can't be read.
    """
    chosen, planned, left_out = [], 0, 0
    for track in sorted(tracks, key=_place):
        if planned + (size := track.most_bytes(side_px)) <= most_bytes:
            planned += size
            chosen.append(track)
        else:
            left_out += 1
    recipe = f"{code_digest(*_CODE)} av {version('av')} numpy {version('numpy')}"
    with ThreadPoolExecutor(workers) as pool:  # hashing leaves Python's lock
        contents = list(pool.map(_digest, [track.crop for track in chosen]))
    paths, missing = {}, []
    for track, sha256 in zip(chosen, contents, strict=True):
        key = hashlib.sha256(f"{sha256} {track.frames} {recipe}".encode()).hexdigest()
        paths[track.crop] = folder / f"{key}.npy"
    (folder / INDEX).unlink(missing_ok=True)
    wanted = {path.name for path in paths.values()}
    for path in list(folder.iterdir()):
        if _OURS.fullmatch(path.name) and path.name not in wanted:
            path.unlink()
    planned_names: set[str] = set()
    for track, sha256 in zip(chosen, contents, strict=True):
        path = paths[track.crop]
        if path.name not in planned_names and not _is_whole(path, track.frames):
            missing.append(_Job(track, sha256, side_px, path))
        planned_names.add(path.name)  # two crops may have the same content
    return Filling(paths, missing, left_out, folder / INDEX)


def find(folder: Path) -> dict[Path, Path]:
    """Return what the process that filled the cache for this training noted.

    Raises:
        DatasetError: it noted nothing that can be read.
    """
    try:
        names = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return {Path(crop): folder / name for crop, name in names.items()}
    except (OSError, *MALFORMED) as error:
        raise DatasetError(
            f"Asked for the cache of decoded frames in {folder}, which the training's first "
            f"process fills; found: {error!r}. Start the training again."
        ) from error


def delete(folder: Path) -> tuple[int, int]:
    """Delete a cache and return how many files it had, and their bytes. Others' files are kept."""
    count, size = measure(folder)
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) or path.name == INDEX:
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return count, size


def measure(folder: Path) -> tuple[int, int]:
    """Return of how many crop files a cache holds the frames, and its bytes."""
    found = list(folder.iterdir()) if folder.is_dir() else []
    files = [path for path in found if _OURS.fullmatch(path.name)]
    whole = sum(path.suffix == ".npy" for path in files)
    return whole, sum(path.stat().st_size for path in files)


def _digest(crop: Path) -> str:
    try:
        return content_digest(crop)
    except OSError as error:
        raise DatasetError(
            f"Asked for the crop file {crop}; found: {error.strerror}. Run `dvc repro` to make it, "
            "or `dvc checkout` to take it from the cache."
        ) from error


def _place(track: Track) -> bytes:
    """Return where a track stands in the order in which room is given, at random but fixed."""
    name = "/".join(track.crop.parts[-2:])
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()


def _is_whole(path: Path, frames: int) -> bool:
    try:
        found = np.load(path, mmap_mode="r")
    except (OSError, EOFError, *MALFORMED):
        return False
    return found.dtype == np.uint8 and found.ndim == 4 and len(found) == frames


def _start() -> None:
    pass


def _note_crash(job: _Job) -> tuple[Path, bool]:
    return job.track.crop, False


def _write(job: _Job) -> tuple[Path, bool]:
    """Decode a crop file and write its frames, whole or not at all; runs in a worker process."""
    crop, count = job.track.crop, job.track.frames
    frames = [frame.rgb_HWC() for frame in islice(read_frames(crop), count)]
    if len(frames) < count:
        raise DatasetError(
            f"{crop} should hold {count} frames and ends before. Delete it and run `dvc repro`."
        )
    if max(frames[0].shape[:2]) > job.side_px:
        height, width, _ = frames[0].shape
        raise DatasetError(
            f"{crop} should be {job.side_px} pixels wide, as faces.side_px says; found {width} x "
            f"{height}. Run `dvc repro`."
        )
    part = new_name(job.path, "partial")
    with writing(job.path):
        try:
            with open(create(part), "wb") as file:
                frames_THWC = np.stack(frames)
                # Not np.save, whose error on a full disk doesn't say that it is full.
                header = np.lib.format.header_data_from_array_1_0(frames_THWC)
                np.lib.format.write_array_header_1_0(file, header)
                file.write(frames_THWC.data)
            if content_digest(crop) != job.sha256:
                raise DatasetError(
                    f"{crop} changed while its frames were decoded. Type the same again when "
                    "nothing else writes there."
                )
            give_name(part, job.path)
        finally:
            part.unlink(missing_ok=True)
    return crop, True
