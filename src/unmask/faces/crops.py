"""A chunk of videos to its crops and their index: what is done already is kept."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unmask import params
from unmask.errors import DatasetError
from unmask.faces.cropper import crop_in_workers, crop_video
from unmask.faces.detector import (
    FaceDetector,
    LoadDetector,
    detector_of_worker,
)
from unmask.faces.whole import WholeFrame
from unmask.records import PASSING, Reason, VideoFaces
from unmask.runtime.code import code_digest
from unmask.runtime.disk import (
    content_digest,
    open_to_append,
    sole_writer,
    write_atomically,
    writing,
)
from unmask.runtime.record_files import faces_from_line, faces_line

_log = logging.getLogger(__name__)

_INDEX = "index.jsonl"
_PARTIAL_INDEX = ".index.jsonl.partial"
# A change of these crops everything anew.
_CODE = (
    "engine/on_cpu", "engine/onnxruntime_net", "engine/openvino_net",
    "faces/cascade", "faces/cropper", "faces/detector",
    "faces/search", "faces/torch_cascade", "faces/tracks", "video/colour",
    "video/decode", "video/encode", "video/endings", "video/failures", "video/frame",
    "video/light", "video/scale", "video/streams", "video/transport",
)  # fmt: skip
_WHOLE = ("faces/whole",)  # and of these, the crops of face tracks
_FAILURES = (
    Reason.MISSING, Reason.FORBIDDEN, Reason.EMPTY, Reason.NOT_A_VIDEO, Reason.UNREADABLE,
    *PASSING,
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A video that is to be cropped."""

    video_id: str
    path: Path
    faces_dir: Path
    settings: params.Faces
    key: str  # of its row: by its content, the settings and the code; empty if it can't be read
    is_track: bool  # each frame is a face, and none is searched


CropMissing = Callable[[Sequence[Job]], Iterator[VideoFaces]]


def find_videos(videos_dir: Path) -> list[tuple[str, Path]]:
    """Return the id and path of all that a folder shows, in order; an id is a name's stem.

    Raises:
        DatasetError: there is no such folder.
    """
    if not videos_dir.is_dir():
        raise DatasetError(
            f"Asked for the videos in {videos_dir}; there is no such folder. Run `dvc repro`."
        )
    paths = [path for path in videos_dir.iterdir() if not path.name.startswith(".")]
    return sorted((path.stem, path) for path in paths)


def crop_chunk(
    videos: Sequence[tuple[str, Path]],
    faces_dir: Path,
    settings: params.Faces,
    *,
    workers: int,
    load_detector: LoadDetector = detector_of_worker,
    tracks: Collection[str] = (),
    crop_missing: CropMissing | None = None,
) -> Iterator[VideoFaces]:
    """Yield the faces of each video, in the order they are done; then faces_dir is complete.

    videos are ids and paths. tracks names the files in whose frames no face is searched, as each
    is one already. What an earlier run cropped from the same content with the same
    params and code is kept, also where that run was killed. faces_dir ends up with crop files
    and index.jsonl, one line a video, in order of ids; no file in it is ever changed in place,
    as it may be a hard link into DVC's cache. Videos are cropped by worker processes: one that
    crashes its worker, or gives it no frame for settings.stall_s, gets a row that says so, and the
    next run tries it again.

    crop_missing crops what is missing elsewhere: it yields a row for each job once its crop files
    are in faces_dir. It is not called where nothing is missing.

    Raises:
        DatasetError: two videos have one id, or too many videos could not be read.
        DiskError: the disk takes no more, or another run crops into faces_dir; what is done is
            kept for the next run.
    """
    _refuse_name_collisions(videos)
    with sole_writer(faces_dir):
        jobs = _plan(videos, faces_dir, settings, workers, tracks)
        crop = crop_missing or partial(crop_jobs, workers=workers, load_detector=load_detector)
        yield from _fill(jobs, faces_dir, settings, crop)


def find_missing(
    videos: Sequence[tuple[str, Path]],
    faces_dir: Path,
    settings: params.Faces,
    *,
    workers: int,
    tracks: Collection[str] = (),
) -> list[Job]:
    """Return what crop_chunk would crop, without changing anything.

    Raises:
        DatasetError: two videos have one id.
    """
    _refuse_name_collisions(videos)
    known = read_rows(faces_dir)
    jobs = _plan(videos, faces_dir, settings, workers, tracks)
    return [job for job in jobs if not _is_done(job, known)]


def _fill(
    jobs: Sequence[Job], faces_dir: Path, settings: params.Faces, crop_missing: CropMissing
) -> Iterator[VideoFaces]:
    index, unfinished = faces_dir / _INDEX, faces_dir / _PARTIAL_INDEX
    known = read_rows(faces_dir)
    rows = {job.video_id: known[job.video_id] for job in jobs if _is_done(job, known)}
    # From here on crop files change: no index may remain that tells of the old ones.
    _write_rows(unfinished, rows)
    with writing(index):
        index.unlink(missing_ok=True)
    yield from list(rows.values())
    missing = [job for job in jobs if job.video_id not in rows]
    for row in crop_missing(missing) if missing else ():
        rows[row.video_id] = row
        with writing(unfinished), open_to_append(unfinished) as lines:
            lines.write(faces_line(row) + "\n")
        yield row
    _write_rows(unfinished, rows)
    with writing(index):
        os.replace(unfinished, index)
        _delete_strays(faces_dir, rows)
    _log.info("chunk %s: %s", faces_dir.name, _summarize(rows.values()))
    _refuse_failures(faces_dir, rows.values(), settings.max_failed_ratio)


def _refuse_name_collisions(videos: Sequence[tuple[str, Path]]) -> None:
    counts = Counter(video_id for video_id, _ in videos)
    twins = sorted(video_id for video_id, count in counts.items() if count > 1)
    if twins:
        raise DatasetError(
            f"Each video needs a name of its own, whatever its ending; found {len(twins)} names "
            f"twice, such as {twins[0]!r}. Rename one of each."
        )


def _plan(
    videos: Sequence[tuple[str, Path]],
    faces_dir: Path,
    settings: params.Faces,
    workers: int,
    tracks: Collection[str],
) -> list[Job]:
    recipe, of_tracks = _recipe(settings), _recipe_of_tracks(settings)
    with ThreadPoolExecutor(workers) as pool:  # hashing leaves Python's lock
        digests = list(pool.map(_digest_if_readable, [path for _, path in videos]))
    return [
        Job(
            video_id, path, faces_dir, settings,
            _key(digest, of_tracks if path.name in tracks else recipe) if digest else "",
            path.name in tracks,
        )
        for (video_id, path), digest in zip(videos, digests, strict=True)
    ]  # fmt: skip


def are_current(
    found: Mapping[str, VideoFaces], contents: Mapping[str, str], settings: params.Faces
) -> bool:
    """Say whether crops were made of these videos, with these settings, by the code as it is.

    contents holds the SHA-256 of each video's file, by its id. One that could not be read, or
    failed in a way that may pass, is not asked for.
    """
    recipes = _recipe(settings), _recipe_of_tracks(settings)
    return all(
        video_id in found
        and found[video_id].key in ("", *(_key(sha256, recipe) for recipe in recipes))
        for video_id, sha256 in contents.items()
    )


def code_and_settings(settings: params.Faces) -> str:
    """Return one digest of all but the videos that crops depend on: the settings and the code."""
    return _recipe_of_tracks(settings)


def _recipe(settings: params.Faces) -> str:
    # These say when a video or a chunk is given up: raising them changes no crop.
    values = settings.model_dump_json(exclude={"max_failed_ratio", "stall_s"})
    return hashlib.sha256(f"{values}\0{code_digest(*_CODE)}".encode()).hexdigest()


def _recipe_of_tracks(settings: params.Faces) -> str:
    return hashlib.sha256(f"{_recipe(settings)} {code_digest(*_WHOLE)}".encode()).hexdigest()


def _key(digest: str, recipe: str) -> str:
    return hashlib.sha256(f"{digest} {recipe}".encode()).hexdigest()


def _digest_if_readable(path: Path) -> str:
    try:
        # A pipe has no content to wait for.
        return content_digest(path) if path.is_file() else ""
    except OSError:
        return ""


def read_rows(faces_dir: Path) -> dict[str, VideoFaces]:
    """Return the rows of a folder of crops, by video id, also of one that is not complete."""
    # A partial beside an index is older than it: `dvc checkout` brought the index back.
    index = faces_dir / _INDEX
    path, rows = index if index.exists() else faces_dir / _PARTIAL_INDEX, {}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                row = faces_from_line(line)
            except (ValueError, LookupError, TypeError):
                continue  # a kill may have cut the last one
            rows[row.video_id] = row
    return rows


def _is_done(job: Job, known: dict[str, VideoFaces]) -> bool:
    row = known.get(job.video_id)
    return (
        row is not None
        and row.key == job.key != ""
        and all((job.faces_dir / track.file).is_file() for track in row.tracks)
    )


def _write_rows(path: Path, rows: dict[str, VideoFaces]) -> None:
    write_atomically(path, "".join(faces_line(rows[key]) + "\n" for key in sorted(rows)))


def _delete_strays(faces_dir: Path, rows: dict[str, VideoFaces]) -> None:
    """Delete crop files that are no video's: of videos that left, or of a run that was killed."""
    files = {track.file for row in rows.values() for track in row.tracks}
    for path in faces_dir.iterdir():
        if path.suffix in (".mp4", ".part") and path.name not in files:
            path.unlink()


def _summarize(rows: Collection[VideoFaces]) -> str:
    seen = [row for row in rows if row.tracks]
    unseen = [row for row in rows if not row.tracks]
    return (
        f"{len(rows)} videos, {len(seen)} with a face{_count_reasons(seen)}, "
        f"{len(unseen)} without{_count_reasons(unseen)}"
    )


def _count_reasons(rows: Sequence[VideoFaces]) -> str:
    counts = Counter(row.reason for row in rows if row.reason)
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return f" ({listed})" if counts else ""


def _refuse_failures(
    faces_dir: Path, rows: Collection[VideoFaces], max_failed_ratio: float
) -> None:
    failed = sum(row.reason in _FAILURES for row in rows)
    if failed > max_failed_ratio * len(rows):
        raise DatasetError(
            f"{faces_dir}: at most {max_failed_ratio:.0%} of {len(rows)} videos may be unreadable "
            f"(faces.max_failed_ratio); found {failed}. {faces_dir / _INDEX} says why for each: "
            "mend or remove them, or raise the ratio."
        )


# ---------------------------------------------------------------- processes


def crop_jobs(
    jobs: Sequence[Job], workers: int, load_detector: LoadDetector
) -> Iterator[VideoFaces]:
    """Yield a row for each of one or more jobs of a chunk, by worker processes of this machine."""
    yield from crop_in_workers(
        jobs, _crop, _row_of_failure, jobs[0].settings, {jobs[0].faces_dir}, workers, load_detector
    )


def _crop(load_detector: LoadDetector, job: Job) -> VideoFaces:
    detector: FaceDetector = WholeFrame(job.settings.margin_ratio)
    if not job.is_track:
        detector = load_detector(job.settings.detect)
    return crop_video(job.path, job.video_id, job.faces_dir, job.settings, detector, key=job.key)


def _row_of_failure(reason: Reason, words: str, job: Job) -> VideoFaces:
    # Without a key the next run tries again: memory may have run out, or the disk was busy.
    detail = f"{job.path}: asked for its faces, but {words}"
    return VideoFaces(job.video_id, "", (), reason, detail)
