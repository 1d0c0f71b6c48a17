"""Crop the faces of one video: find, follow, cut out and encode them while frames are decoded."""

import hashlib
import math
import os
import secrets
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import cv2
import numpy as np

from unmask import params
from unmask.faces.detector import (
    FaceDetector,
    LoadDetector,
    Picture,
    detector_of_worker,
    start_worker,
)
from unmask.faces.search import FrameDetections, find_faces
from unmask.faces.tracks import Linker, Track, align_square, square_around
from unmask.records import Box, FaceTrack, FileDoubt, Points, Reason, VideoFaces
from unmask.runtime.child import heartbeat
from unmask.runtime.confinement import Confinement
from unmask.runtime.disk import (
    writing,
)
from unmask.runtime.processes import run_jobs
from unmask.runtime.scratch import private_folder
from unmask.video.ahead import read_ahead
from unmask.video.decode import Account, read_frames
from unmask.video.encode import VideoWriter
from unmask.video.failures import DecodeError, TruncatedError
from unmask.video.frame import Frame
from unmask.video.scale import resize

# At crf 14 it is as close to the source as `superfast` (42.1 dB), makes files as large and takes
# 40 % of the time. Slower presets make smaller files only of pictures without grain.
_PRESET = "ultrafast"
_BESIDE_BYTES = 48 * 2**20  # most memory held by frames that wait to be cut and encoded
# Two frames are compared at this size (the input of MTCNN's last net), at which lips still show.
_COMPARED_PX, _CODING_LEVELS = 48, 3  # differences of up to so many levels are the codec's
_MAX_NAME_BYTES = 255  # what file systems take


def crop_video(
    path: Path,
    video_id: str,
    faces_dir: Path,
    settings: params.Faces,
    detector: FaceDetector,
    *,
    key: str,
) -> VideoFaces:
    """Return the faces of a video; each is followed and written to a crop file in faces_dir.

    For a video that can't be read, return a row with the reason instead of raising. The video is
    read once, and frames are kept only as long as they are needed.

    Raises:
        DiskError: the disk is full or can't be written to.
    """
    reason, said = None, list[str]()
    account, odd_colours = Account(meanwhile=heartbeat), dict[str, None]()
    read = read_frames(path, rate_fps=settings.rate_fps, account=account)
    frames = read_ahead(_beating(read, odd_colours))
    with closing(frames), _Cropper(faces_dir, video_id, settings) as cropper:
        try:
            try:
                for frame_faces in find_faces(frames, settings, detector):
                    heartbeat()
                    cropper.add(frame_faces)
            except TruncatedError as error:
                reason, said = error.reason, [str(error)]
            tracks = cropper.finish()
        except DecodeError as error:
            return VideoFaces(video_id, key, (), error.reason, str(error))
    doubts: list[FileDoubt] = []
    if account.left_out:
        if reason is None:  # a truncated file has its own reason, which also rules out `real`
            reason = Reason.INCOMPLETE
            doubts.append(FileDoubt.NOT_ALL_SEEN)
        said.append(
            f"{path}: asked for all that it shows, found {account.left_out_words}. What these show "
            "was not seen: get the file anew, or look at it in a player."
        )
    if odd_colours:
        doubts.append(FileDoubt.COLOUR_NOT_UNDERSTOOD)
        said += odd_colours
    if not tracks and reason is None:
        reason = Reason.TOO_SHORT if cropper.detections else Reason.NO_FACE
        found = (
            f"none for {settings.min_track_s:g} s" if cropper.detections else "none in any picture"
        )
        said.insert(
            0, f"{path}: asked for faces, found {found}. Leave it out or see the faces params."
        )
    if account.others:
        said.append(f"{path}: {account.others_words}.")
    return VideoFaces(video_id, key, tracks, reason, " ".join(said), tuple(doubts))


def _beating(frames: Iterator[Frame], odd_colours: dict[str, None]) -> Iterator[Frame]:
    for frame in frames:
        heartbeat()
        if doubt := frame.colour_doubt:
            odd_colours[doubt] = None
        yield frame


class _Cropper:
    """Takes the frames of one video in order and writes its crop files.

    A frame waits until its boxes are final: until each face was detected again beyond the reach
    of the smoothing, or its track has ended. Only then are the crop's pixels converted.
    """

    def __init__(self, faces_dir: Path, video_id: str, settings: params.Faces) -> None:
        self.detections = 0
        self._faces_dir = faces_dir
        self._video_id = video_id
        # Random, as a process id is not unique: workers in PID namespaces share them.
        self._run = secrets.token_hex(8)
        self._settings = settings
        self._linker = Linker(
            min_overlap=settings.min_overlap, max_gap_s=settings.max_gap_s,
            tick_s=1 / settings.rate_fps,
        )  # fmt: skip
        self._begun = 0
        self._open: list[_CropWriter] = []  # both in order of first appearance
        self._kept: list[_CropWriter] = []
        self._frames: deque[Frame] = deque()  # those that an open crop file may still need
        self._beside = _BackgroundWriter()  # cuts and encodes while the search goes on

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.stop()
        for strip in (*self._open, *self._kept):
            strip.discard()

    def add(self, frame_faces: FrameDetections) -> None:
        """Take the video's next frame and its faces."""
        frame = frame_faces.frame
        self.detections += len(frame_faces.faces)
        self._frames.append(frame)
        if frame_faces.is_cut:
            self._linker.active.clear()
            self._cut()
        for track in self._linker.add(frame.time_s, frame_faces.faces, shown_s=frame.duration_s):
            # Without the video's id, which may be as long as a file's name can be.
            part = self._faces_dir / f".{self._run}_{self._begun}.mp4"
            strip = _CropWriter(track, self._begun, part, self._settings, self._beside)
            self._open.append(strip)
            self._begun += 1
        self._cut()
        done_s = [strip.done_s for strip in self._open]
        while self._frames and self._frames[0].time_s <= min([frame.time_s, *done_s]):
            self._frames.popleft()

    def finish(self) -> tuple[FaceTrack, ...]:
        """Finish the crop files, and return the tracks that are long enough to be kept."""
        self._linker.active.clear()
        self._cut()
        self._kept.sort(key=lambda strip: strip.number)  # they were added in the order of closing
        return tuple(
            strip.publish(self._faces_dir / _crop_name(self._video_id, number), number)
            for number, strip in enumerate(self._kept)
        )

    def _cut(self) -> None:
        smooth_s = self._settings.smooth_s
        for strip in tuple(self._open):
            track, is_over = strip.track, strip.track not in self._linker.active
            if not is_over or track.lasts(self._settings.min_track_s):
                for frame in self._frames:
                    is_next = strip.done_s < frame.time_s <= track.last_s
                    if is_next and (is_over or track.settles(frame.time_s, smooth_s)):
                        strip.cut(frame)
            if is_over:
                self._open.remove(strip)
                if strip.close():
                    self._kept.append(strip)


class _BackgroundWriter:
    """Runs tasks one by one in a thread; the memory that waiting tasks hold is limited."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[tuple[Future[None], int]] = deque()

    def do(self, held_bytes: int, work: Callable[..., None], *arguments: object) -> None:
        """Queue a task; wait while queued tasks hold too much memory.

        held_bytes is the memory that this task holds until it is done. Errors of tasks are raised
        by later calls.
        """
        self._waiting.append((self._thread.submit(work, *arguments), held_bytes))
        self._wait_for(_BESIDE_BYTES)

    def finish(self) -> None:
        """Wait until all tasks are done."""
        self._wait_for(0)

    def _wait_for(self, held_bytes: int) -> None:
        while self._waiting and sum(held for _, held in self._waiting) > held_bytes:
            future, _ = self._waiting.popleft()
            future.result()

    def stop(self) -> None:
        """Cancel the tasks that have not begun, and wait for the one under way."""
        self._thread.shutdown(cancel_futures=True)


class _CropWriter:
    """Writes one track's crop file, under a hidden name until it is published."""

    def __init__(
        self,
        track: Track,
        number: int,
        part: Path,
        settings: params.Faces,
        beside: _BackgroundWriter,
    ) -> None:
        self.track = track
        self.number = number  # by first appearance
        self.done_s = math.nextafter(track.first_s, -math.inf)  # time of the last frame cut
        self._part = part
        self._settings = settings
        self._beside = beside
        self._writer: VideoWriter | None = None
        self._times: list[float] = []
        self._boxes: list[Box] = []
        self._scores: list[float] = []
        self._points: list[Points] = []
        self._same: list[int] = []  # crop frames like the one before; filled by the writer's thread
        self._latest: tuple[Frame, Box] | None = None  # the last frame that showed a change

    def cut(self, frame: Frame) -> None:
        """Add the face as a frame shows it."""
        side_px = self._settings.side_px
        face, points_52 = self.track.place_at(frame.time_s, self._settings.smooth_s)
        square = align_square(square_around(face, self._settings.margin_ratio), side_px)
        self._beside.do(frame.stored_bytes, self._write, frame, square)
        self._times.append(round(frame.time_s, 4))
        self._boxes.append(square)
        self._scores.append(round(self.track.score_at(frame.time_s), 4))
        self._points.append(tuple((round(x, 1), round(y, 1)) for x, y in points_52))
        self.done_s = frame.time_s

    def _write(self, frame: Frame, square: Box) -> None:
        if self._writer is None:
            self._writer = VideoWriter(
                self._part,
                rate_fps=self._settings.rate_fps,
                crf=self._settings.crf,
                preset=_PRESET,
            )
        if self._latest and looks_same(self._latest[0], frame, self._latest[1]):
            self._same.append(self._writer.frames_written)
        else:
            self._latest = frame, square
        self._writer.write(cut_square(frame, square, self._settings.side_px))

    def close(self) -> bool:
        """Finish the file of an ended track; if the track is too short, delete it, return False."""
        self._beside.finish()
        self._latest = None
        is_kept = self.track.lasts(self._settings.min_track_s)
        if not is_kept:
            self.discard()
        elif self._writer:
            self._writer.close()
        return is_kept

    def publish(self, path: Path, number: int) -> FaceTrack:
        """Give the file its final name and return the track."""
        with writing(path):
            os.replace(self._part, path)
        return FaceTrack(
            number, path.name, tuple(self._times), tuple(self._boxes), tuple(self._scores),
            tuple(self._points), tuple(self._same),
            round(max(0.0, self.track.last_s - self.done_s), 4),
        )  # fmt: skip

    def discard(self) -> None:
        """Delete the file; has no effect after publish."""
        if self._writer:
            self._writer.discard()
            self._part.unlink(missing_ok=True)


def _crop_name(video_id: str, number: int) -> str:
    name = f"{video_id}_{number}.mp4"
    if len(os.fsencode(name)) > _MAX_NAME_BYTES:  # the id may be as long as a file name can be
        name = f"{hashlib.sha256(os.fsencode(video_id)).hexdigest()}_{number}.mp4"
    return name


# ---------------------------------------------------------------- worker processes


Job = TypeVar("Job")
Row = TypeVar("Row")


def crop_in_workers(
    jobs: Sequence[Job],
    crop: Callable[[LoadDetector, Job], Row],
    failed: Callable[[Reason, str, Job], Row],
    settings: params.Faces,
    folders: Collection[Path],
    workers: int,
    load_detector: LoadDetector,
) -> Iterator[Row]:
    """Yield crop(load_detector, job) for each job, in the order in which jobs finish.

    Workers can write only into folders. For a job that crashes its worker, stalls it or takes too
    much memory, yield failed(reason, words, job); words say what happened and what to do.
    """
    crashed = "the decoder crashed. Leave it out."
    exhausted = (
        "it takes more memory than one file may have. Leave it out, or convert it to a smaller "
        "size."
    )
    stalled = f"no new frame came for {settings.stall_s:g} s. Leave it out, or raise faces.stall_s."
    # Temporary files of libraries go here, so that none ends up among the results.
    with private_folder("faces") as scratch:
        yield from run_jobs(
            jobs,
            partial(crop, load_detector),
            partial(start_worker, settings.detect, load_detector),
            workers,
            crashed=partial(failed, Reason.CRASHED, crashed),
            exhausted=partial(failed, Reason.OUT_OF_MEMORY, exhausted),
            stalled=partial(failed, Reason.TIMED_OUT, stalled),
            stall_s=settings.stall_s,
            # A detector that workers share is reached by a socket.
            confined=Confinement(
                (scratch, *folders), has_sockets=load_detector is not detector_of_worker
            ),
        )


# ---------------------------------------------------------------- one crop


def looks_same(before: Frame, now: Frame, square: Box) -> bool:
    """Return whether two frames show the same inside a square, apart from coding noise."""
    if (before.width, before.height) != (now.width, now.height):
        return False
    left, top = (max(0, math.floor(side)) for side in square[:2])
    right, bottom = min(now.width, math.ceil(square[2])), min(now.height, math.ceil(square[3]))
    if left >= right or top >= bottom:
        return False
    one, other = (
        frame.reduced_crop_rgb_HWC((left, top, right, bottom), _COMPARED_PX).astype(np.int16)
        for frame in (before, now)
    )
    return bool(np.abs(one - other).max() <= _CODING_LEVELS)


def cut_square(frame: Frame, square: Box, side_px: int) -> Picture:
    """Return the part of a frame inside a square, scaled to side_px x side_px, black outside.

    A larger square must lie on whole pixels and is averaged down. A smaller one may lie between
    pixels and is interpolated by cubics.
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
        crop = resize(padded, (side_px, side_px))
    else:
        scale = (right - left) / side_px
        centre = (scale - 1) / 2  # pixels are squares: their centres lie at a half
        place = np.array([[scale, 0, left - x0 + centre], [0, scale, top - y0 + centre]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        crop = cv2.warpAffine(part, place, (side_px, side_px), flags=flags)
    return crop
