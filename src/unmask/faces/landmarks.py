"""Follow a video's main face: its landmarks over time, and the frame that shows it best."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask.faces.tracks import Detection, Linker, Track
from unmask.params import Faces
from unmask.runtime.child import heartbeat
from unmask.video.decode import Account, probe, read_frames
from unmask.video.failures import TruncatedError
from unmask.video.frame import Frame

Picture = NDArray[np.uint8]
Detect = Callable[[Sequence[Picture]], list[list[Detection]]]
Points = list[list[float]]  # the five landmarks of a Detection

DETECT_EVERY_S = 0.2  # between detections landmarks are interpolated
MAX_SIDE_PX = 1920  # larger footage is reduced
RATE_FPS, MAX_RATE_FPS = 25.0, 60.0  # where a file does not say; some say 1000
SHARPNESS_PX = 96  # faces are compared at this size, so that a small one counts as soft


@dataclass(frozen=True)
class Face:
    """A video's main face; ticks count from 0 at rate_fps, points are pixels of show()'s picture.

    Lists, as a resume manifest's JSON has them.
    """

    rate_fps: float
    size_px: list[int]  # width and height, before show() makes them even
    tracks: list[list[tuple[int, Points]]]  # empty where there is none to be followed
    best: tuple[int, Points] | None  # where it is sharpest, seen from the front
    seen: int  # searched frames that show any face
    broken: str  # why not all of the video was seen, or nothing

    def points_at(self, tick: int) -> NDArray[np.float32] | None:
        """Return the landmarks (5, 2), between searches by interpolation; None where unknown."""
        for track in self.tracks:
            ticks = [at for at, _ in track]
            if ticks[0] <= tick <= ticks[-1]:
                points_D10 = np.array([points for _, points in track]).reshape(-1, 10)
                at_10 = [np.interp(tick, ticks, values_D) for values_D in points_D10.T]
                return np.array(at_10, np.float32).reshape(5, 2)
        return None

    def show(self, frame: Frame) -> Picture:
        """Return a frame upright at the face's size; an odd side loses its last row or column."""
        picture = frame.reduced_rgb_HWC(MAX_SIDE_PX)
        width, height = self.size_px
        if picture.shape[:2] != (height, width):  # the size changed midway
            size = width, height
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        return picture[: height - height % 2, : width - width % 2]


def read_ticks(
    path: Path, rate_fps: float, max_seconds: float, *, account: Account | None = None
) -> Iterator[tuple[int, Frame]]:
    """Yield the frame that is shown at each tick k / rate_fps, with k.

    So footage whose rate varies keeps its pace. account is told what was left out.

    Raises:
        DecodeError: no frame decodes.
        TruncatedError: after the last tick, where the file breaks off.
    """
    shown: Frame | None = None
    tick, end = 0, math.ceil(max_seconds * rate_fps)
    broken = None
    try:
        for frame in read_frames(path, account=account):
            heartbeat()
            start = math.ceil((frame.time_s - 0.0005) * rate_fps)  # as read_frames counts
            while shown is not None and tick < min(start, end):
                yield tick, shown
                tick += 1
            shown = frame
            if tick >= end:
                return
    except TruncatedError as error:
        broken = error
    assert shown is not None, "read_frames yields or raises"
    stop = math.ceil((shown.time_s + shown.duration_s - 0.0005) * rate_fps)
    while tick < min(max(stop, 1), end):
        yield tick, shown
        tick += 1
    if broken:
        raise broken


@dataclass(frozen=True)
class _Glimpse:
    """A face in one searched frame."""

    tick: int
    points: Points
    area: float
    quality: float  # as a donor


def find_face(path: Path, settings: Faces, detect: Detect, *, max_seconds: float) -> Face:
    """Return where a video's largest face is; where that is gone, the next largest.

    The video is read once, and searched on reduced frames: memory does not grow with its length.

    Raises:
        DecodeError: it gives no frame.
    """
    rate_fps = min(probe(path).rate_fps or RATE_FPS, MAX_RATE_FPS)
    step = max(1, round(DETECT_EVERY_S * rate_fps))
    max_gap_s = max(settings.max_gap_s, DETECT_EVERY_S)
    linker = Linker(min_overlap=settings.min_overlap, max_gap_s=max_gap_s)
    looks: dict[Track, list[_Glimpse]] = {}
    size: list[int] = []
    seen, broken, account = 0, "", Account()

    def search(tick: int, frame: Frame) -> int:
        picture = frame.reduced_rgb_HWC(settings.detect.max_side_px)
        scale = size[0] / picture.shape[1], size[1] / picture.shape[0]
        [found] = detect([picture])
        linker.add(tick / rate_fps, found)
        for track in linker.active:
            for face in found:
                if (track.last_s, track.last_box) == (tick / rate_fps, face.box_xyxy):
                    looks.setdefault(track, []).append(_look(tick, face, picture, scale))
        return int(bool(found))

    try:
        for tick, frame in read_ticks(path, rate_fps, max_seconds, account=account):
            size = size or list(frame.reduced_rgb_HWC(MAX_SIDE_PX).shape[1::-1])
            if tick % step == 0:
                seen += search(tick, frame)
    except TruncatedError as error:
        broken = str(error)
    if account.left_out:
        broken = f"{broken} {path}: {account.left_out_words} were left out.".strip()
    if tick % step:  # the last one, so that the face is known to the end
        seen += search(tick, frame)
    tracks = [looks[track] for track in _main_tracks(looks, settings.min_track_s)]
    best = max(
        (look for track in tracks for look in track), key=lambda look: look.quality, default=None
    )
    return Face(
        rate_fps, size,
        tracks=[[(look.tick, look.points) for look in track] for track in tracks],
        best=(best.tick, best.points) if best else None, seen=seen, broken=broken,
    )  # fmt: skip


def _look(tick: int, face: Detection, picture_HWC: Picture, scale: tuple[float, float]) -> _Glimpse:
    points_52 = np.array(face.points_52)
    left, top, right, bottom = (max(0, round(side)) for side in face.box_xyxy)
    cut = picture_HWC[top:bottom, left:right]
    sharpness = 0.0
    if cut.size:  # a box may lie beyond the picture's edge
        grey = cv2.cvtColor(cv2.resize(cut, (SHARPNESS_PX, SHARPNESS_PX)), cv2.COLOR_RGB2GRAY)
        sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).std())
    # Of a face turned aside, one eye is nearer to the nose.
    to_eyes = np.linalg.norm(points_52[:2] - points_52[2], axis=1)
    frontal = float(to_eyes.min() / max(to_eyes.max(), 1e-3))
    points = np.round(points_52 * scale, 2).tolist()
    area = (right - left) * (bottom - top) * scale[0] * scale[1]
    return _Glimpse(tick, points, area, sharpness * frontal)


def _main_tracks(looks: dict[Track, list[_Glimpse]], min_track_s: float) -> list[Track]:
    """Return the largest face's track, and those of other times: one face at a moment at most."""
    lasting = [track for track in looks if track.lasts(min_track_s)]
    lasting.sort(key=lambda track: -sum(look.area for look in looks[track]))
    chosen: list[Track] = []
    for track in lasting:
        if all(track.last_s < one.first_s or one.last_s < track.first_s for one in chosen):
            chosen.append(track)
    return chosen
