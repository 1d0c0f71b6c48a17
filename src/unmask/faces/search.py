"""Which faces each frame of a video shows: searched for now and then, followed in between."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from unmask import params
from unmask.faces.detector import FaceDetector, Picture
from unmask.faces.tracks import Detection, link_boxes, overlap
from unmask.records import Box
from unmask.video.failures import TruncatedError
from unmask.video.frame import Frame

# Full frames that may wait for a batch of pictures, which only a GPU profits from.
_WAITING_BYTES = 128 * 2**20
_MISSES = 2  # at so many searches in a row that do not find it, a followed face is given up
_SAME_OVERLAP = 0.6  # intersection over union from which two boxes in a frame are one face
# Two thumbnails are of two scenes where they differ by as much (levels of 255) and resemble each
# other as little (correlation). A fast pan keeps the second above 0.7, a flash above 0.9.
_CUT_LEVELS, _CUT_LIKENESS = 10.0, 0.5


@dataclass(eq=False)
class FrameDetections:
    """A frame and the faces it shows, in its pixels."""

    frame: Frame
    is_cut: bool  # it begins a new scene
    faces: list[Detection] = field(default_factory=list)


@dataclass(frozen=True)
class _FollowedFace:
    """A face that is followed."""

    face: Detection
    # How far its centre moved since the last frame; frames are a tick apart, or nearly.
    step_xy: tuple[float, float] = (0.0, 0.0)
    misses: int = 0  # searches that did not find it

    def expected(self) -> Box:
        """Return where the next frame should show it."""
        left, top, right, bottom = self.face.box_xyxy
        x, y = self.step_xy
        return left + x, top + y, right + x, bottom + y

    def moved_to(self, face: Detection) -> "_FollowedFace":
        """Return it as the next frame shows it."""
        (x, y), (x0, y0) = _centre(face), _centre(self.face)
        return replace(self, face=face, step_xy=(x - x0, y - y0))


def find_faces(
    frames: Iterable[Frame], settings: params.Faces, detector: FaceDetector
) -> Iterator[FrameDetections]:
    """Yield each frame with its faces, in order.

    A frame is searched every settings.detect_every_s and at the end. Between two searches each
    face of the first is followed onwards, and each face of the second that was not among them
    is followed back to where it came in. No face is followed across a cut.
    """
    finder = _Finder(settings, detector)
    latest: Frame | None = None
    before = np.zeros((0, 0), np.uint8)  # its thumbnail
    searched_s = -np.inf
    tolerance_s = 0.5 / settings.rate_fps  # a frame shown at a tick may start almost a tick earlier
    try:
        for frame in frames:
            thumbnail = frame.thumbnail_HW()
            is_cut = latest is None or _is_cut(latest, before, frame, thumbnail)
            latest, before = frame, thumbnail
            frame_faces = FrameDetections(frame, is_cut)
            if frame.time_s - searched_s >= settings.detect_every_s - tolerance_s:
                searched_s = frame.time_s
                yield from finder.add_searched(frame_faces)
            else:
                finder.add(frame_faces)
    except TruncatedError:
        yield from finder.finish()
        raise
    yield from finder.finish()


class _Finder:
    """Takes the frames in order; gives them back with their faces, a stretch at a time."""

    def __init__(self, settings: params.Faces, detector: FaceDetector) -> None:
        self._settings = settings
        self._detector = detector
        self._stretch: list[FrameDetections] = []  # since the latest search
        self._waiting: list[list[FrameDetections]] = []  # stretches that end with a frame to search
        self._pictures: list[Picture] = []  # of these frames, reduced
        self._going: list[_FollowedFace] = []

    def add(self, frame_faces: FrameDetections) -> None:
        """Take the next frame."""
        self._stretch.append(frame_faces)

    def add_searched(self, frame_faces: FrameDetections) -> Iterator[FrameDetections]:
        """Take the next frame, which is to be searched; yield those that are done."""
        picture = frame_faces.frame.reduced_rgb_HWC(self._settings.detect.max_side_px)
        if self._pictures and self._pictures[0].shape != picture.shape:  # the size changed midway
            yield from self._search()
        self._waiting.append([*self._stretch, frame_faces])
        self._pictures.append(picture)
        self._stretch = []
        waiting_bytes = sum(map(len, self._waiting)) * frame_faces.frame.stored_bytes
        if len(self._pictures) >= self._detector.batch or waiting_bytes >= _WAITING_BYTES:
            yield from self._search()

    def finish(self) -> Iterator[FrameDetections]:
        """Yield the rest, after a search of the last frame."""
        if self._stretch:
            yield from self.add_searched(self._stretch.pop())
        yield from self._search()

    def _search(self) -> Iterator[FrameDetections]:
        found = self._detector.detect(self._pictures)
        for stretch, picture, detections in zip(self._waiting, self._pictures, found, strict=True):
            frame = stretch[-1].frame
            self._follow(stretch, [_enlarge(face, frame, picture) for face in detections])
            yield from stretch
        self._waiting, self._pictures = [], []

    def _follow(self, stretch: Sequence[FrameDetections], found: list[Detection]) -> None:
        """Fill in the faces of a stretch, whose last frame shows those that were found."""
        for frame_faces in stretch[:-1]:
            self._going = self._step(self._going if not frame_faces.is_cut else [], frame_faces)
        last = stretch[-1]
        going = [] if last.is_cut else self._going
        pairs = link_boxes(
            [each.expected() for each in going], [face.box_xyxy for face in found],
            self._settings.min_overlap,
        )  # fmt: skip
        last.faces += found
        rows = {row for row, _ in pairs}
        missed = [each for row, each in enumerate(going) if row not in rows]
        patient = [
            replace(each, misses=each.misses + 1) for each in missed if each.misses + 1 < _MISSES
        ]
        followed = self._step(patient, last)
        matched = {column: going[row].moved_to(found[column]) for row, column in pairs}
        self._follow_back(stretch, [f for n, f in enumerate(found) if n not in matched])
        fresh = [_FollowedFace(face) for n, face in enumerate(found) if n not in matched]
        self._going = [replace(each, misses=0) for each in matched.values()] + fresh + followed

    def _follow_back(self, stretch: Sequence[FrameDetections], begun: Sequence[Detection]) -> None:
        """Fill in where faces of the last frame were before, until they meet a known one."""
        going = [_FollowedFace(face) for face in begun]
        for now, frame_faces in zip(reversed(stretch), reversed(stretch[:-1]), strict=False):
            if now.is_cut or not going:
                return
            going = self._step(going, frame_faces)

    def _step(
        self, going: Sequence[_FollowedFace], frame_faces: FrameDetections
    ) -> list[_FollowedFace]:
        """Add to a frame the faces that it still shows, and return these.

        A face that has come to where another one is already known is that one.
        """
        seen = self._detector.follow(frame_faces.frame, [each.expected() for each in going])
        moved: list[_FollowedFace] = []
        for each, face in zip(going, seen, strict=True):
            if face and not any(_is_same(face, other) for other in frame_faces.faces):
                frame_faces.faces.append(face)
                moved.append(each.moved_to(face))
        return moved


def _is_cut(
    before: Frame, one_HW: NDArray[np.uint8], now: Frame, other_HW: NDArray[np.uint8]
) -> bool:
    if (before.width, before.height) != (now.width, now.height):
        return True
    one, other = one_HW.astype(np.float64), other_HW.astype(np.float64)
    if np.abs(one - other).mean() < _CUT_LEVELS:
        return False
    spread = one.std() * other.std()
    likeness = ((one - one.mean()) * (other - other.mean())).mean() / spread if spread else 0.0
    return bool(likeness < _CUT_LIKENESS)


def _is_same(one: Detection, other: Detection) -> bool:
    # Stricter than a link from frame to frame: two faces cheek to cheek are two.
    return overlap(one.box_xyxy, other.box_xyxy) >= _SAME_OVERLAP


def _centre(face: Detection) -> tuple[float, float]:
    left, top, right, bottom = face.box_xyxy
    return (left + right) / 2, (top + bottom) / 2


def _enlarge(detection: Detection, frame: Frame, picture: Picture) -> Detection:
    """Return a detection of a reduced picture in the pixels of its frame."""
    x_scale, y_scale = frame.width / picture.shape[1], frame.height / picture.shape[0]
    left, top, right, bottom = detection.box_xyxy
    box = left * x_scale, top * y_scale, right * x_scale, bottom * y_scale
    points_52 = tuple((x * x_scale, y * y_scale) for x, y in detection.points_52)
    return Detection(box, detection.score, points_52)
