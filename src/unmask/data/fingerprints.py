"""What tells a video from every other: digests of its file and of its coded pictures, and hashes
of what some frames show.

A picture's hash is the perceptual hash by DCT (Zauner, Implementation and Benchmarking of
Perceptual Image Hash Functions, 2010, section 3.2.1), longer than there: of a grey picture of
64 x 64 pixels the 256 lowest frequencies, without the mean, each above their median or not. Copies
of a video keep nearly all of these bits, however they were scaled, brightened and compressed.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask.errors import DatasetError
from unmask.records import Fingerprint
from unmask.runtime.child import heartbeat
from unmask.runtime.code import code_digest
from unmask.runtime.confinement import Confinement
from unmask.runtime.disk import content_digest
from unmask.runtime.processes import run_jobs
from unmask.runtime.record_files import read_fingerprints, write_fingerprints
from unmask.video.coded import read_coded
from unmask.video.decode import read_frames, read_keyframes
from unmask.video.failures import DecodeError
from unmask.video.frame import Frame

_log = logging.getLogger(__name__)

# A change of these takes all fingerprints anew.
_CODE = (
    "data/fingerprints", "video/coded", "video/colour", "video/decode", "video/endings",
    "video/failures", "video/frame", "video/light", "video/streams", "video/transport",
)  # fmt: skip
# Hashing 30 GB from a slow disk, or finding no second keyframe in them, takes as long.
_STALL_S = 300.0
_SAVE_EVERY = 200  # videos; a run that is killed loses no more

# Frames of the first seconds find copies that begin a little later: 0.5 s cut off left a copy's
# first frame 26 % of its bits from the original's. Later keyframes cost little, and find what was
# cut out without encoding anew, as that begins at one.
_HEAD_S, _HEAD_FPS = 1.5, 4.0
_KEYFRAMES, _KEYFRAME_GAP_S = 4, 2.0

_REDUCED_PX, _SIDE_PX, _FREQUENCIES = 256, 64, 16
_MIN_CONTRAST = 4.0  # grey levels (standard deviation); in plain ones noise would make the hash


@dataclass(frozen=True)
class _Job:
    video_id: str
    path: Path
    recipe: str
    known: Fingerprint | None  # of an earlier run, by the same code


def fingerprint_videos(
    videos: Sequence[tuple[str, Path]], path: Path, *, workers: int
) -> Iterator[Fingerprint]:
    """Yield the fingerprint of each video, in the order they are done; then path holds them all.

    videos are ids and paths. A file whose content is as path knows it is not decoded again. One
    that cannot be decoded, or crashes or stalls its worker process, has a fingerprint without
    pictures.
    """
    recipe = _recipe()
    known = {row.video_id: row for row in _read_known(path) if row.recipe == recipe}
    jobs = [_Job(video_id, file, recipe, known.get(video_id)) for video_id, file in videos]
    rows: dict[str, Fingerprint] = {}
    for row in _take_all(jobs, workers):
        rows[row.video_id] = row
        if len(rows) % _SAVE_EVERY == 0:
            # With what an earlier run knows and this one has not come to.
            write_fingerprints(path, (known | rows).values())
        yield row
    write_fingerprints(path, rows.values())
    new = [row for row in rows.values() if row != known.get(row.video_id)]
    blind = [row for row in rows.values() if not row.pictures]
    _log.info(
        "%s: %d fingerprints, %d of them new; %d show no picture",
        path, len(rows), len(new), len(blind),
    )  # fmt: skip


def hash_video(path: Path) -> tuple[str, ...]:
    """Return the hashes of some of a video's frames in hex, each once; none if nothing decodes."""
    hashes: dict[str, None] = {}
    try:
        for frame in _choose_frames(path):
            heartbeat()
            if (hash_32 := hash_picture(frame.reduced_rgb_HWC(_REDUCED_PX))) is not None:
                hashes[hash_32.tobytes().hex()] = None
    except DecodeError as error:
        _log.warning("%s", error)
    return tuple(hashes)


def digest_pictures(path: Path) -> str:
    """Return the SHA-256 of a video's coded pictures, whatever container they are in.

    Raises:
        DecodeError: no such file, not a video.
    """
    digest = hashlib.sha256()
    for coded in read_coded(path):
        heartbeat()
        digest.update(coded)
    return digest.hexdigest()


def hash_picture(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the 32 bytes of a picture's perceptual hash, or None if it shows next to nothing."""
    grey = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    if small.std() < _MIN_CONTRAST:
        return None
    # One column more, whose first takes the place of the mean.
    lowest = cv2.dct(small)[:_FREQUENCIES, : _FREQUENCIES + 1]
    values = np.append(lowest[:, :-1].ravel()[1:], lowest[0, -1])
    return np.packbits(values > np.median(values))


def _choose_frames(path: Path) -> Iterator[Frame]:
    head = read_frames(path, rate_fps=_HEAD_FPS)
    yield from takewhile(lambda frame: frame.time_s < _HEAD_S, head)
    last_s, found = _HEAD_S, 0
    for frame in read_keyframes(path):
        heartbeat()
        if frame.time_s >= last_s + _KEYFRAME_GAP_S:
            yield frame
            last_s, found = frame.time_s, found + 1
        if found == _KEYFRAMES:
            return


def _recipe() -> str:
    return code_digest(*_CODE)[:16]


def _read_known(path: Path) -> list[Fingerprint]:
    """Return what an earlier run left; a damaged file only costs time."""
    if not path.is_file():
        return []
    try:
        return list(read_fingerprints(path).values())
    except DatasetError as error:
        _log.warning("%s All are taken anew.", error)
        return []


# ---------------------------------------------------------------- processes


def _take_all(jobs: Sequence[_Job], workers: int) -> Iterator[Fingerprint]:
    yield from run_jobs(
        jobs, _take, _start_worker, workers,
        crashed=_row_of_crash, exhausted=_row_of_memory, stalled=_row_of_stall, stall_s=_STALL_S,
        confined=Confinement(),
    )  # fmt: skip


def _take(job: _Job) -> Fingerprint:
    sha256 = content_digest(job.path)
    if job.known and job.known.sha256 == sha256:
        return job.known
    pictures = hash_video(job.path)
    stream = digest_pictures(job.path) if pictures else ""
    return Fingerprint(job.video_id, sha256, job.recipe, pictures, stream)


def _start_worker() -> None:
    cv2.setNumThreads(1)


def _row_of_crash(job: _Job) -> Fingerprint:
    return _row_of_failure(job, "the decoder crashed")


def _row_of_memory(job: _Job) -> Fingerprint:
    return _row_of_failure(job, "decoding it takes more memory than one file may have")


def _row_of_stall(job: _Job) -> Fingerprint:
    return _row_of_failure(job, f"none came for {_STALL_S:g} s")


def _row_of_failure(job: _Job, found: str) -> Fingerprint:
    # Without a recipe, so that the next run tries again: memory may have run out.
    _log.warning("%s: asked for some frames, but %s. Leave it out.", job.path, found)
    return Fingerprint(job.video_id, content_digest(job.path), "", ())
