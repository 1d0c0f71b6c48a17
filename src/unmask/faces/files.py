"""Files' faces, cut out by worker processes while something else is done: what predict begins with.

Importing it takes no torch: the workers can start while their parent still loads its model.
"""

import hashlib
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from unmask import params
from unmask.faces.cropper import crop_video
from unmask.faces.detector import detector_of_worker, start_worker
from unmask.records import FileDoubt, Reason, VideoFaces
from unmask.runtime.child import heartbeat
from unmask.runtime.confinement import Confinement
from unmask.runtime.disk import writing
from unmask.runtime.processes import run_jobs
from unmask.runtime.scratch import private_folder
from unmask.video import still
from unmask.video.decode import Info, probe
from unmask.video.failures import DecodeError

_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Cropped:
    """A file's faces, and what one asks of the file itself."""

    place: int  # among the files that were asked for
    path: Path
    crops_dir: Path
    found: VideoFaces
    sha256: str | None  # of its content; None where it can't be read
    duration_s: float | None  # as it declares it
    codec: str = ""  # as it declares it; empty where it can't be read
    bits_per_px: float | None = None  # of the file, a pixel of its picture and second
    still: str | None = None  # of a still picture: its pixels as a video of one frame, in crops_dir

    @property
    def shown(self) -> Path:
        """Return the file that holds what the file shows as a video: itself, or the still's."""
        return self.path if self.still is None else self.crops_dir / self.still


@dataclass(frozen=True)
class _Job:
    place: int
    path: Path
    crops_dir: Path
    settings: params.Faces


def crop_files(
    paths: Sequence[Path], settings: params.Faces, *, crops_dir: Path | None = None, workers: int
) -> Generator[Cropped]:
    """Yield the faces of each file as it is done: in order, where there is one worker.

    Crop files come into crops_dir, named by the place of their video; where it is None, into a
    folder that lasts until the next file is asked for. The workers crop as those of the faces stage
    without a GPU do. A file that can't be read, crashes its worker or gives no frame for
    settings.stall_s costs itself alone: its reason says so.

    Raises:
        DiskError: the disk takes no more.
    """
    with ExitStack() as stack:
        folder = crops_dir
        if folder is None:
            folder = stack.enter_context(private_folder("crops"))
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        found = run_jobs(
            [_Job(place, path, folder, settings) for place, path in enumerate(paths)],
            _crop,
            partial(start_worker, settings.detect),
            workers,
            crashed=_crashed,
            exhausted=_exhausted,
            stalled=_stalled,
            stall_s=settings.stall_s,
            confined=Confinement((folder,)),
        )
        assert isinstance(found, Generator)
        stack.callback(found.close)  # ends the workers before the folder goes
        for cropped in found:
            yield cropped
            if crops_dir is None:
                for track in cropped.found.tracks:
                    (folder / track.file).unlink()
                if cropped.still is not None:
                    (folder / cropped.still).unlink()


def crop_file(path: Path, settings: params.Faces, *, crops_dir: Path) -> Cropped:
    """Return the faces of a file, cropped in this process, which the file may crash or stall.

    Raises:
        DiskError: the disk takes no more.
    """
    return _crop(_Job(0, path, crops_dir, settings))


def _crop(job: _Job) -> Cropped:
    sha256 = _digest(job.path)
    if still.is_still(job.path):
        return _crop_still(job, sha256)
    detector = detector_of_worker(job.settings.detect)
    found = crop_video(job.path, str(job.place), job.crops_dir, job.settings, detector, key="")
    try:
        info = probe(job.path)
    except DecodeError:
        return Cropped(job.place, job.path, job.crops_dir, found, sha256, None)
    return Cropped(
        job.place, job.path, job.crops_dir, found, sha256, info.duration_s, info.codec,
        bits_per_px(job.path, info),
    )  # fmt: skip


def _crop_still(job: _Job, sha256: str | None) -> Cropped:
    """Return the faces of a still picture, which last for no time."""
    name, settings = f"{job.place}_still.mov", job.settings
    shown = job.crops_dir / name
    try:
        # For longer than a face has to be seen.
        known = still.write_video(job.path, shown, shown_s=settings.min_track_s + 1)
    except DecodeError as error:
        failed = VideoFaces(str(job.place), "", (), error.reason, str(error))
        return Cropped(job.place, job.path, job.crops_dir, failed, sha256, None)
    heartbeat()
    detector = detector_of_worker(settings.detect)
    found = crop_video(shown, str(job.place), job.crops_dir, settings, detector, key="")
    reason, doubts = found.reason, list(found.doubts)
    said = [found.detail.replace(str(shown), str(job.path)), *known.remarks]
    if known.others:
        reason = reason or Reason.INCOMPLETE
        doubts.append(FileDoubt.NOT_ALL_SEEN)
        said.append(
            f"{job.path}: asked for a still picture, found an animation, of which {known.others} "
            "more pictures were not looked at. Convert it to a video."
        )
    if known.colour_doubt:
        doubts.append(FileDoubt.COLOUR_NOT_UNDERSTOOD)
        said.append(known.colour_doubt)
    tracks = tuple(replace(track, held_s=0.0) for track in found.tracks)
    detail = " ".join(filter(None, said))
    seen = VideoFaces(found.video_id, "", tracks, reason, detail, tuple(doubts))
    return Cropped(
        job.place, job.path, job.crops_dir, seen, sha256, None, known.kind.lower(), still=name
    )


def bits_per_px(path: Path, info: Info) -> float | None:
    """Return a file's bits for a pixel of its picture and second; None where it names no such."""
    if not (info.duration_s and info.width and info.height):
        return None
    return 8 * path.stat().st_size / (info.duration_s * info.width * info.height)


def _digest(path: Path) -> str | None:
    digest = hashlib.sha256()
    try:
        if not path.is_file():  # a pipe has no content to wait for
            return None
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                heartbeat()  # a large file from a slow drive is no stall
    except OSError:
        return None
    return digest.hexdigest()


def _crashed(job: _Job) -> Cropped:
    detail = f"{job.path}: asked for its faces, but the decoder crashed. Leave it out."
    return _failed(job, Reason.CRASHED, detail)


def _exhausted(job: _Job) -> Cropped:
    detail = (
        f"{job.path}: asked for its faces, but decoding it takes more memory than one file may "
        "have. Convert it to a smaller size."
    )
    return _failed(job, Reason.OUT_OF_MEMORY, detail)


def _stalled(job: _Job) -> Cropped:
    detail = (
        f"{job.path}: asked for its faces, found no new frame for {job.settings.stall_s:g} s. "
        "Leave it out."
    )
    return _failed(job, Reason.TIMED_OUT, detail)


def _failed(job: _Job, reason: Reason, detail: str) -> Cropped:
    found = VideoFaces(str(job.place), "", (), reason, detail)
    return Cropped(job.place, job.path, job.crops_dir, found, _digest(job.path), None)
