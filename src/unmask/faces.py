"""Find the faces of videos, follow them and cut them out; the only module that knows MTCNN."""

import hashlib
import logging
import math
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask import params
from unmask.disk import sole_writer, writing
from unmask.errors import DatasetError, DecodeError
from unmask.processes import run_jobs
from unmask.records import (
    Box,
    FaceTrack,
    Points,
    Reason,
    VideoFaces,
    content_digest,
    faces_from_line,
    faces_line,
    write_atomically,
)
from unmask.tracks import Detection as Detection
from unmask.tracks import Linker, Track, align_square, square_around
from unmask.video import Frame, TruncatedError, VideoWriter, read_frames

_log = logging.getLogger(__name__)

Picture = NDArray[np.uint8]

_INDEX = "index.jsonl"
_JOURNAL = ".index.jsonl.partial"
_CODE = ("faces.py", "tracks.py", "video.py")  # a change of these re-crops
_FAILURES = (Reason.MISSING, Reason.EMPTY, Reason.UNREADABLE)
# For a GPU: on one CPU thread MTCNN takes 60 ms for a picture of 640 x 480 in batches of any size.
_BATCH_PICTURES = 8
_BATCH_BYTES = 8 * 2**20  # of reduced pictures; MTCNN took 15 times as much beside them
_WAITING_BYTES = 128 * 2**20  # of full frames that wait for a batch


# ---------------------------------------------------------------- detection


class Detector:
    """MTCNN (Zhang et al., 2016, arXiv:1604.02878) with its trained weights."""

    def __init__(self, settings: params.Detect, device: str = "cpu") -> None:
        # Here, as importing torch takes seconds that a reader of records need not wait.
        import torch
        from facenet_pytorch import MTCNN

        self._settings = settings
        self._mtcnn = MTCNN(
            keep_all=True,
            min_face_size=settings.min_face_px,
            thresholds=list(settings.thresholds),
            post_process=False,
            device=torch.device(device),
        ).eval()

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        """Return the faces of each upright RGB picture, the largest first.

        All pictures have one size.
        """
        # MTCNN's pyramid has no level for a picture smaller than a face, and it fails on that.
        if not pictures or min(pictures[0].shape[:2]) < self._settings.min_face_px:
            return [[] for _ in pictures]
        boxes, scores, points = self._mtcnn.detect(np.stack(pictures), landmarks=True)
        return [self._detections(*found) for found in zip(boxes, scores, points, strict=True)]

    def _detections(
        self,
        boxes_N4: NDArray[np.object_] | None,
        scores_N: NDArray[np.object_],
        points_N52: NDArray[np.object_] | None,
    ) -> list[Detection]:
        if boxes_N4 is None or points_N52 is None:
            return []
        found = []
        for box, score, points in zip(boxes_N4, scores_N, points_N52, strict=True):
            left, top, right, bottom = (float(side) for side in box)
            if score >= self._settings.min_score and left < right and top < bottom:
                points_52 = tuple((float(x), float(y)) for x, y in points)
                found.append(Detection((left, top, right, bottom), float(score), points_52))
        return found


# ---------------------------------------------------------------- one video


def crop_video(
    path: Path,
    video_id: str,
    faces_dir: Path,
    settings: params.Faces,
    detector: Detector,
    *,
    key: str,
) -> VideoFaces:
    """Return the faces of a video, each followed and cut out into a crop file of faces_dir.

    A video that cannot be read gives a row with its reason, never an error. The video is read
    once and in pieces: memory does not grow with its length.
    """
    reason, detail = None, ""
    with _Cropper(faces_dir, video_id, settings, detector) as cropper:
        try:
            for frame in read_frames(path, rate_fps=settings.rate_fps):
                cropper.add(frame)
        except TruncatedError as error:
            reason, detail = Reason.TRUNCATED, str(error)
        except DecodeError as error:
            return VideoFaces(video_id, key, (), _name_failure(path), str(error))
        tracks = cropper.finish()
    if not tracks and reason is None:
        reason = Reason.TOO_SHORT if cropper.detections else Reason.NO_FACE
        found = (
            f"none for {settings.min_track_s:g} s" if cropper.detections else "none in any picture"
        )
        detail = f"{path}: asked for faces, found {found}. Leave it out or see the faces params."
    return VideoFaces(video_id, key, tracks, reason, detail)


def _name_failure(path: Path) -> Reason:
    if not path.is_file():
        return Reason.MISSING
    return Reason.UNREADABLE if path.stat().st_size else Reason.EMPTY


class _Cropper:
    """Takes the frames of one video in order and writes its crop files.

    A frame waits until its boxes are certain: until a face was seen later, beyond the reach of
    the smoothing, or is gone for good. Only then are the pixels of its crop converted.
    """

    def __init__(
        self, faces_dir: Path, video_id: str, settings: params.Faces, detector: Detector
    ) -> None:
        self.detections = 0
        self._faces_dir = faces_dir
        self._video_id = video_id
        self._settings = settings
        self._detector = detector
        self._linker = Linker(min_overlap=settings.min_overlap, max_gap_s=settings.max_gap_s)
        self._strips: list[_Strip] = []  # in order of first appearance
        self._frames: deque[Frame] = deque()  # those that a strip may still need
        self._batch: list[tuple[Frame, Picture]] = []  # frames to search, and their pictures
        self._searched_s = -math.inf  # of the latest frame that joined a batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for strip in self._strips:
            strip.discard()

    def add(self, frame: Frame) -> None:
        """Take the video's next frame."""
        self._frames.append(frame)
        # The frame shown at a tick may start almost a tick earlier.
        tolerance_s = 0.5 / self._settings.rate_fps
        if frame.time_s - self._searched_s >= self._settings.detect_every_s - tolerance_s:
            self._queue(frame)

    def finish(self) -> tuple[FaceTrack, ...]:
        """Return the tracks that lasted, now that their crop files are whole and in place."""
        if self._frames and self._frames[-1].time_s > self._searched_s:
            self._queue(self._frames[-1])
        if self._batch:
            self._search()
        self._linker.active.clear()
        self._cut()
        kept = [strip for strip in self._strips if strip.is_kept]
        return tuple(
            strip.publish(self._faces_dir / f"{self._video_id}_{number}.mp4", number)
            for number, strip in enumerate(kept)
        )

    def _queue(self, frame: Frame) -> None:
        picture = frame.reduced_rgb_HWC(self._settings.detect.max_side_px)
        if self._batch and self._batch[0][1].shape != picture.shape:  # the size changed midway
            self._search()
        self._batch.append((frame, picture))
        self._searched_s = frame.time_s
        waiting_s = frame.time_s - self._batch[0][0].time_s
        frame_bytes = 1.5 * frame.width * frame.height  # of 4:2:0
        if (
            len(self._batch) >= _BATCH_PICTURES
            or len(self._batch) * picture.nbytes >= _BATCH_BYTES
            or waiting_s * self._settings.rate_fps * frame_bytes >= _WAITING_BYTES
        ):
            self._search()

    def _search(self) -> None:
        """Detect faces in the batch, link them, cut what is now certain, let go of the rest."""
        found = self._detector.detect([picture for _, picture in self._batch])
        for (frame, picture), detections in zip(self._batch, found, strict=True):
            self.detections += len(detections)
            scaled = [_enlarge(detection, frame, picture) for detection in detections]
            for track in self._linker.add(frame.time_s, scaled):
                # Without the video's id, which may be as long as a file's name can be.
                part = self._faces_dir / f".{os.getpid()}_{len(self._strips)}.mp4"
                self._strips.append(_Strip(track, part, self._settings))
        self._batch.clear()
        self._cut()
        done_s = [strip.done_s for strip in self._strips if strip.is_open]
        while self._frames and self._frames[0].time_s <= min([self._searched_s, *done_s]):
            self._frames.popleft()

    def _cut(self) -> None:
        smooth_s = self._settings.smooth_s
        for strip in self._strips:
            if not strip.is_open:
                continue
            track, is_over = strip.track, strip.track not in self._linker.active
            if not is_over or track.lasts(self._settings.min_track_s):
                for frame in self._frames:
                    is_next = strip.done_s < frame.time_s <= track.last_s
                    if is_next and (is_over or track.settles(frame.time_s, smooth_s)):
                        strip.cut(frame)
            if is_over:
                strip.close()


class _Strip:
    """One track's crop file in the making, under a hidden name."""

    def __init__(self, track: Track, part: Path, settings: params.Faces) -> None:
        self.track = track
        self.is_open = True
        self.is_kept = False
        self.done_s = math.nextafter(track.first_s, -math.inf)  # frames up to here are not needed
        self._part = part
        self._settings = settings
        self._writer: VideoWriter | None = None
        self._times: list[float] = []
        self._boxes: list[Box] = []
        self._scores: list[float] = []
        self._points: list[Points] = []

    def cut(self, frame: Frame) -> None:
        """Add the face as a frame shows it."""
        if self._writer is None:
            self._writer = VideoWriter(
                self._part, rate_fps=self._settings.rate_fps, crf=self._settings.crf
            )
        side_px = self._settings.side_px
        face = self.track.box_at(frame.time_s, self._settings.smooth_s)
        square = align_square(square_around(face, self._settings.margin_ratio), side_px)
        self._writer.write(cut_square(frame, square, side_px))
        self._times.append(round(frame.time_s, 4))
        self._boxes.append(square)
        self._scores.append(round(self.track.score_at(frame.time_s), 4))
        points_52 = self.track.points_at(frame.time_s, self._settings.smooth_s)
        self._points.append(tuple((round(x, 1), round(y, 1)) for x, y in points_52))
        self.done_s = frame.time_s

    def close(self) -> None:
        """Finish the file of a track that has ended; one that was too short leaves none."""
        self.is_kept = self.track.lasts(self._settings.min_track_s)
        if not self.is_kept:
            self.discard()
        elif self._writer:
            self._writer.close()
        self.is_open = False

    def publish(self, path: Path, number: int) -> FaceTrack:
        """Return the track after its file got its name."""
        with writing(path):
            os.replace(self._part, path)
        return FaceTrack(
            number, path.name, tuple(self._times), tuple(self._boxes), tuple(self._scores),
            tuple(self._points),
        )  # fmt: skip

    def discard(self) -> None:
        """Leave no file; does nothing after publish."""
        self.is_open = False
        if self._writer:
            self._writer.discard()
            self._part.unlink(missing_ok=True)


def _enlarge(detection: Detection, frame: Frame, picture: Picture) -> Detection:
    """Return a detection of a reduced picture in the pixels of its frame."""
    x_scale, y_scale = frame.width / picture.shape[1], frame.height / picture.shape[0]
    left, top, right, bottom = detection.box_xyxy
    box = left * x_scale, top * y_scale, right * x_scale, bottom * y_scale
    points_52 = tuple((x * x_scale, y * y_scale) for x, y in detection.points_52)
    return Detection(box, detection.score, points_52)


# ---------------------------------------------------------------- one crop


def cut_square(frame: Frame, square: Box, side_px: int) -> Picture:
    """Return what a square shows, black outside the frame, scaled to side_px x side_px.

    A square larger than that lies on whole pixels and is averaged by area; a smaller one may lie
    between pixels and is interpolated by cubics.
    """
    left, top, right, bottom = square
    shrinks = right - left > side_px
    reach = 0 if shrinks else 2  # how far a cubic looks
    x0, y0 = max(0, math.floor(left) - reach), max(0, math.floor(top) - reach)
    x1 = min(frame.width, math.ceil(right) + reach)
    y1 = min(frame.height, math.ceil(bottom) + reach)
    if x0 >= x1 or y0 >= y1:
        return np.zeros((side_px, side_px, 3), np.uint8)
    part = frame.crop_rgb_HWC((x0, y0, x1, y1))
    crop: Picture
    if shrinks:
        above, below, before, after = map(int, (y0 - top, bottom - y1, x0 - left, right - x1))
        padded = cv2.copyMakeBorder(part, above, below, before, after, cv2.BORDER_CONSTANT)
        crop = cv2.resize(padded, (side_px, side_px), interpolation=cv2.INTER_AREA)
    else:
        scale = (right - left) / side_px
        centre = (scale - 1) / 2  # pixels are squares: their centres lie at a half
        place = np.array([[scale, 0, left - x0 + centre], [0, scale, top - y0 + centre]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        crop = cv2.warpAffine(part, place, (side_px, side_px), flags=flags)
    return crop


# ---------------------------------------------------------------- a chunk


@dataclass(frozen=True)
class _Job:
    video_id: str
    path: Path
    faces_dir: Path
    settings: params.Faces
    key: str


def find_videos(videos_dir: Path) -> list[tuple[str, Path]]:
    """Return the id and path of every file in a folder, in order; an id is a name's stem.

    Raises:
        DatasetError: there is no such folder.
    """
    if not videos_dir.is_dir():
        raise DatasetError(
            f"Asked for the videos in {videos_dir}; there is no such folder. Run `dvc repro`."
        )
    paths = [path for path in videos_dir.iterdir() if not path.name.startswith(".")]
    return sorted((path.stem, path) for path in paths if not path.is_dir())


def crop_chunk(
    videos: Sequence[tuple[str, Path]],
    faces_dir: Path,
    settings: params.Faces,
    *,
    workers: int,
) -> Iterator[VideoFaces]:
    """Yield the faces of each video, in the order they are done; then faces_dir is complete.

    videos are ids and paths. What an earlier run cropped from the same content with the same
    params and code is kept, also where that run was killed. faces_dir ends up with crop files
    and index.jsonl, one line a video, in order of ids; no file in it is ever changed in place,
    as it may be a hard link into DVC's cache. With several workers, a video that kills its
    process gets a row; with one, everything happens in this process.

    Raises:
        DatasetError: two videos have one id, or too many videos could not be read.
        DiskError: the disk takes no more, or another run crops into faces_dir; what is done is
            kept for the next run.
    """
    _refuse_twins(videos)
    with sole_writer(faces_dir):
        yield from _fill(videos, faces_dir, settings, workers)


def _fill(
    videos: Sequence[tuple[str, Path]], faces_dir: Path, settings: params.Faces, workers: int
) -> Iterator[VideoFaces]:
    index, journal = faces_dir / _INDEX, faces_dir / _JOURNAL
    jobs = _plan(videos, faces_dir, settings, workers)
    # A journal beside an index is older than it: `dvc checkout` brought the index back.
    known = _read_rows(index if index.exists() else journal)
    rows = {job.video_id: known[job.video_id] for job in jobs if _is_done(job, known)}
    # From here on crop files change: no index may remain that tells of the old ones.
    _write_rows(journal, rows)
    with writing(index):
        index.unlink(missing_ok=True)
    yield from list(rows.values())
    for row in _crop_all([job for job in jobs if job.video_id not in rows], workers):
        rows[row.video_id] = row
        with writing(journal), journal.open("a", encoding="utf-8") as lines:
            lines.write(faces_line(row) + "\n")
        yield row
    _write_rows(journal, rows)
    with writing(index):
        os.replace(journal, index)
        _delete_strays(faces_dir, rows)
    reasons = Counter(row.reason for row in rows.values() if not row.tracks)
    _log.info("chunk %s: %s", faces_dir.name, _summarize(len(rows), reasons))
    _refuse_failures(faces_dir, len(rows), reasons, settings.max_failed_ratio)


def _refuse_twins(videos: Sequence[tuple[str, Path]]) -> None:
    counts = Counter(video_id for video_id, _ in videos)
    twins = sorted(video_id for video_id, count in counts.items() if count > 1)
    if twins:
        raise DatasetError(
            f"Each video needs a name of its own, whatever its ending; found {len(twins)} names "
            f"twice, such as {twins[0]!r}. Rename one of each."
        )


def _plan(
    videos: Sequence[tuple[str, Path]], faces_dir: Path, settings: params.Faces, workers: int
) -> list[_Job]:
    # The ratio says when a chunk fails: raising it re-crops nothing.
    values = settings.model_dump_json(exclude={"max_failed_ratio"})
    code = [Path(__file__).with_name(name).read_bytes() for name in _CODE]
    recipe = hashlib.sha256(b"\0".join([values.encode(), *code])).hexdigest()
    with ThreadPoolExecutor(workers) as pool:  # hashing leaves Python's lock
        digests = list(pool.map(_digest_if_readable, [path for _, path in videos]))
    return [
        _Job(
            video_id, path, faces_dir, settings,
            hashlib.sha256(f"{digest} {recipe}".encode()).hexdigest() if digest else "",
        )
        for (video_id, path), digest in zip(videos, digests, strict=True)
    ]  # fmt: skip


def _digest_if_readable(path: Path) -> str:
    try:
        return content_digest(path)
    except OSError:
        return ""


def _read_rows(path: Path) -> dict[str, VideoFaces]:
    """Return the whole rows of an index or a journal, whose last one a kill may have cut."""
    rows = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                row = faces_from_line(line)
            except (ValueError, LookupError, TypeError):
                continue
            rows[row.video_id] = row
    return rows


def _is_done(job: _Job, known: dict[str, VideoFaces]) -> bool:
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


def _summarize(videos: int, reasons: Counter[Reason | None]) -> str:
    without = reasons.total()
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items(), key=str))
    why = f" ({listed})" if without else ""
    return f"{videos} videos, {videos - without} with a face, {without} without{why}"


def _refuse_failures(
    faces_dir: Path, videos: int, reasons: Counter[Reason | None], max_failed_ratio: float
) -> None:
    failed = sum(reasons[reason] for reason in _FAILURES)
    if failed > max_failed_ratio * videos:
        raise DatasetError(
            f"{faces_dir}: at most {max_failed_ratio:.0%} of {videos} videos may be unreadable "
            f"(faces.max_failed_ratio); found {failed}. {faces_dir / _INDEX} says why for each: "
            "mend or remove them, or raise the ratio."
        )


# ---------------------------------------------------------------- processes


def _crop_all(jobs: Sequence[_Job], workers: int) -> Iterator[VideoFaces]:
    if not jobs:
        return
    detect = jobs[0].settings.detect
    if workers > 1:
        start = partial(start_worker, detect)
        yield from run_jobs(jobs, _crop_in_worker, start, workers, crashed=_row_of_crash)
        return
    with _one_thread():
        detector = Detector(detect)
        for job in jobs:
            yield _crop(job, detector)


def _crop(job: _Job, detector: Detector) -> VideoFaces:
    return crop_video(job.path, job.video_id, job.faces_dir, job.settings, detector, key=job.key)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread, as each worker does: more might change a sum's last digit."""
    import torch

    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def _row_of_crash(job: _Job) -> VideoFaces:
    # Without a key, so that the next run tries again: memory may have run out.
    detail = f"{job.path}: asked for its faces, but the decoder crashed. Leave it out."
    return VideoFaces(job.video_id, "", (), Reason.UNREADABLE, detail)


def start_worker(settings: params.Detect) -> None:
    """Make a worker process ready: one thread, as more might change a sum's last digit."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    detector_of_worker(settings)


@cache
def detector_of_worker(settings: params.Detect) -> Detector:
    """Return this process's detector."""
    return Detector(settings)


def _crop_in_worker(job: _Job) -> VideoFaces:
    return _crop(job, detector_of_worker(job.settings.detect))
