"""A chunk's missing crops in shards: cut, cropped anywhere that sees the videos, taken in.

A shard is cropped into a folder of its own, as the faces stage crops a chunk, so it is resumed and
has worker processes as that has. What is there of it is moved into the chunk's folder.
"""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from platform import machine, python_version

from unmask import params
from unmask.engine import on_cpu
from unmask.errors import UnmaskError
from unmask.faces import crops
from unmask.faces.crops import Job
from unmask.faces.detector import LoadDetector, detector_of_worker
from unmask.records import PASSING, VideoFaces
from unmask.runtime.disk import content_digest, writing

# Made clips of DFDC's size, length and bit rate: 2 s of a core for 4 MB (docs/machines.md).
ASSUMED_BYTES_PER_HOUR = 7e9
SHARDS_DIR = ".crop_shards"  # in a checkout; Git and DVC ignore it
# What decodes, searches and encodes, beside what runs nets on this CPU: another version of one may
# give other bytes.
_PACKAGES = ("av", "numpy", "opencv-python-headless")


class ShardError(UnmaskError):
    """A shard came back other than it was asked for."""


@dataclass(frozen=True)
class Shard:
    """Some videos of a chunk that are cropped by one job."""

    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        """Return a name by the content of the videos, the settings and the code."""
        keys = "\n".join(f"{job.key} {job.video_id}" for job in self.jobs)
        return hashlib.sha256(os.fsencode(keys)).hexdigest()[:16]

    @property
    def size_bytes(self) -> int:
        """Return the size of the videos that can be read."""
        return sum(job.path.stat().st_size for job in self.jobs if job.key)


def cut(jobs: Sequence[Job], most_videos: int) -> list[Shard]:
    """Return shards of at most so many videos, all about as large, in the order of content.

    So videos that take long, which stand together in a folder, are dealt to all shards.
    """
    ordered = sorted(jobs, key=lambda job: (job.key, job.video_id))
    count = -(-len(ordered) // most_videos)
    edges = [len(ordered) * number // count for number in range(count + 1)] if count else []
    return [Shard(tuple(ordered[start:end])) for start, end in pairwise(edges)]


def this_machine(settings: params.Faces) -> dict[str, str]:
    """Return what the bytes of crops depend on, by name: versions, and our own code in one digest.

    A package that is not installed has the version "none".
    """
    found = {"Python": python_version().rpartition(".")[0], "machine": machine()}
    for package in (*_PACKAGES, on_cpu.library() or "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found | {"the code of unmask": crops.code_and_settings(settings)[:12]}


# ---------------------------------------------------------------- where it is cropped


def crop(
    shard: Shard, folder: Path, *, workers: int, load_detector: LoadDetector = detector_of_worker
) -> dict[str, str]:
    """Crop a shard into a folder of its own, and return the SHA-256 of each crop file in it.

    The jobs' paths must be those of the chunk's own machine, as rows name them: relative ones are
    looked up in the current folder.

    Raises:
        DiskError: the disk takes no more.
    """
    rows = crop_each(shard, folder, workers=workers, load_detector=load_detector)
    return {track.file: content_digest(folder / track.file) for row in rows for track in row.tracks}


def crop_each(
    shard: Shard, folder: Path, *, workers: int, load_detector: LoadDetector = detector_of_worker
) -> Iterator[VideoFaces]:
    """Yield each row of a shard as crop does, once the row's crop files are in the folder.

    Raises:
        DiskError: the disk takes no more.
    """
    # How many may fail is a question about the whole chunk.
    settings = shard.jobs[0].settings.model_copy(update={"max_failed_ratio": 1.0})
    videos = [(job.video_id, job.path) for job in shard.jobs]
    tracks = {job.path.name for job in shard.jobs if job.is_track}
    yield from crops.crop_chunk(
        videos, folder, settings, workers=workers, load_detector=load_detector, tracks=tracks
    )


# ---------------------------------------------------------------- where it is collected


def new_folder(shards_dir: Path, shard: Shard) -> Path:
    """Return a folder that no other attempt at the shard writes to, dead or alive."""
    return shards_dir / f"{shard.name}.{secrets.token_hex(4)}"


def take_in(folder: Path, shard: Shard, digests: Mapping[str, str]) -> Iterator[VideoFaces]:
    """Move a whole shard's crop files to the chunk's folder; yield each row once its are there.

    Raises:
        ShardError: a row is not there, is of another content or other code, or a crop file does
            not have the digest that it had where it was made.
        DiskError: the disk takes no more.
    """
    rows = crops.read_rows(folder)
    for job in shard.jobs:
        row = rows.get(job.video_id)
        if row is None or not has_plain_names(row):
            raise ShardError(f"asked for the faces of {job.path}; found no row of it in {folder}")
        if row.key != job.key and (row.key or row.reason not in PASSING):
            raise ShardError(
                f"asked for the faces of {job.path}; its content, or the code that cropped it, is "
                f"not what it is here ({row.detail or 'it was cropped'})"
            )
        for track in row.tracks:
            path = folder / track.file
            found = content_digest(path) if path.is_file() else "no such file"
            if found != digests.get(track.file):
                raise ShardError(
                    f"asked for the crop {path}; found {found[:12]}, and it was made as "
                    f"{digests.get(track.file, 'nothing')[:12]}"
                )
        _move(row, folder, job.faces_dir)
        yield row


def take_in_leftovers(folders: Iterable[Path], jobs: Sequence[Job]) -> Iterator[VideoFaces]:
    """Yield the rows of what killed runs and dead nodes had finished of these jobs, as take_in.

    Then their folders are deleted.
    """
    wanted = {job.video_id: job for job in jobs}
    for folder in folders:
        for row in crops.read_rows(folder).values():
            job = wanted.get(row.video_id)
            # Without a key it failed in a way that may pass.
            if job and row.key == job.key != "" and _is_whole(row, folder):
                _move(row, folder, job.faces_dir)
                del wanted[row.video_id]
                yield row
        discard(folder)


def attempts_at(shards_dir: Path) -> list[Path]:
    """Return the folders of attempts that are there."""
    return sorted(shards_dir.iterdir()) if shards_dir.is_dir() else []


def crop_here(
    jobs: Sequence[Job], shards_dir: Path, *, workers: int, load_detector: LoadDetector
) -> Iterator[VideoFaces]:
    """Yield a row for each job, as crops.CropMissing: first of what a cluster had finished."""
    left = {job.video_id: job for job in jobs}
    for row in take_in_leftovers(attempts_at(shards_dir), jobs):
        del left[row.video_id]
        yield row
    discard(shards_dir)
    with suppress(OSError):  # it was not there, or holds other chunks' shards
        shards_dir.parent.rmdir()
    if left:
        yield from crops.crop_jobs(list(left.values()), workers, load_detector)


def discard(folder: Path) -> None:
    """Delete an attempt's folder; what a dying process still adds may stay for the next run."""
    shutil.rmtree(folder, ignore_errors=True)


def _is_whole(row: VideoFaces, folder: Path) -> bool:
    return has_plain_names(row) and all((folder / track.file).is_file() for track in row.tracks)


def has_plain_names(row: VideoFaces) -> bool:
    """Say whether a row names crop files alone: others would be moved to where the row says."""
    names = [track.file for track in row.tracks]
    return all(
        isinstance(name, str) and Path(name).name == name and name.endswith(".mp4")
        for name in names
    )


def _move(row: VideoFaces, folder: Path, faces_dir: Path) -> None:
    for track in row.tracks:
        source, target = folder / track.file, faces_dir / track.file
        with writing(target):
            try:
                os.replace(source, target)
            except OSError as error:
                if error.errno != errno.EXDEV:  # shards lie on another disk than faces
                    raise
                beside = faces_dir / f".{secrets.token_hex(8)}.part"
                shutil.copyfile(source, beside)
                os.replace(beside, target)


def describe(shards: Sequence[Shard]) -> str:
    """Return how much the shards are: videos, bytes and an assumption of the core-hours.

    >>> describe([])
    'nothing is missing'
    """
    if not shards:
        return "nothing is missing"
    size = sum(shard.size_bytes for shard in shards)
    videos = sum(len(shard.jobs) for shard in shards)
    hours = size / ASSUMED_BYTES_PER_HOUR
    return (
        f"{videos:,} videos are missing, in {len(shards):,} shard(s), {size / 1e9:,.3f} GB; about "
        f"{hours:,.2f} core-hours, assuming {ASSUMED_BYTES_PER_HOUR / 1e9:g} GB a core-hour, "
        "as clips in 1080p"
    )
