"""Clips of crop files, as every net is given them: which times, which pixels. Without torch."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from unmask.errors import DatasetError
from unmask.geometry import DEVIATION, MEAN, Geometry
from unmask.records import FaceTrack
from unmask.video.decode import read_frames

Image = npt.NDArray[np.uint8]
Clip = npt.NDArray[np.float32]

# Share of a clip's frames that are different at least: all of x3d_xs's four, which takes 2.5
# frames/s, and 12 of x3d_s's 13. Among three of four there may be three photos of a slide show.
_MOVING = 0.9
DARK = 0.8  # of the brightness that a clip should have: darker than all that training saw
MAX_GAIN = 4.0  # a clip is brightened by no more: what is darker is mostly noise


def spread_starts(track: FaceTrack, geometry: Geometry, *, most: int) -> list[float]:
    """Return the start times, in seconds, of clips that cover the whole track evenly.

    They lie side by side, at most `most` of them; a track shorter than a clip gives one.
    """
    first, last = track.times_T[0], track.times_T[-1]
    spare = max(last - first - geometry.span_s, 0.0)
    count = count_clips(last - first, geometry, most=most)
    if count == 1:
        return [first + spare / 2]
    return [first + spare * index / (count - 1) for index in range(count)]


def count_clips(track_s: float, geometry: Geometry, *, most: int) -> int:
    """Return how many clips a track of that length is scored by: 1 to `most`.

    As many as fit side by side, and one more where those would leave out more than a frame of
    the clips' own rate between two of them, or before the first and after the last.
    """
    # One step further on than the last frame, so that neighbours do not share a frame.
    step_s = geometry.span_s + geometry.interval_s
    spare_s = max(track_s - geometry.span_s, 0.0)
    count = 1 + int(spare_s / step_s + 1e-6)
    gap_s = spare_s / 2 if count == 1 else spare_s / (count - 1) - geometry.span_s
    return min(count + (gap_s > 2 * geometry.interval_s + 1e-6), most)


def shortest_alike_s(track_s: float, geometry: Geometry, *, most: int) -> float:
    """Return how long the shortest track is that holds as many clips as one of that length.

    One clip may be longer than its track: then it is that track's length.
    """
    count = count_clips(track_s, geometry, most=most)
    if count == 1:
        return min(track_s, geometry.span_s)
    side_by_side_s = (count - 1) * (geometry.span_s + geometry.interval_s)
    # Beyond this one clip less would leave out too much.
    reach_s = 2 * geometry.interval_s
    apart_s = 2 * reach_s if count == 2 else (count - 2) * (geometry.span_s + reach_s)
    return geometry.span_s + min(side_by_side_s, apart_s)


def looked_at_ratio(track: FaceTrack, starts_s: Sequence[float], geometry: Geometry) -> float:
    """Return the share of a track's time that its clips show, in (0, 1].

    A moment is shown where a picture of a clip lies no further from it than the time between two
    pictures of a clip.
    """
    first, last = track.times_T[0], track.times_T[-1]
    if last == first:
        return 1.0
    shown_s, until_s = 0.0, first
    for start_s in starts_s:
        begin_s = max(start_s - geometry.interval_s, until_s)
        until_s = max(min(start_s + geometry.span_s + geometry.interval_s, last), until_s)
        shown_s += max(until_s - begin_s, 0.0)
    return min(shown_s / (last - first), 1.0)


def frame_indices(times_T: npt.ArrayLike, start_s: float, geometry: Geometry) -> list[int]:
    """Return which frames of the crop file make the clip: the nearest to each asked time.

    Beyond the track's end its last frame is repeated.
    """
    asked = start_s + np.arange(geometry.frames) * geometry.interval_s
    times = np.asarray(times_T)
    right = np.clip(np.searchsorted(times, asked), 1, max(len(times) - 1, 1))
    left = right - 1
    if len(times) == 1:
        return [0] * geometry.frames
    # A tick half-way between two frames takes the earlier one, whatever the rounding.
    nearer_right = times[right] - asked + 1e-6 < asked - times[left]
    return [int(index) for index in np.where(nearer_right, right, left)]


def moving_starts(
    track: FaceTrack, starts_s: Sequence[float], geometry: Geometry, rate_fps: float
) -> list[float]:
    """Return the starts of clips that move, as many as were asked for where there are so many.

    A clip moves where enough of its frames look different: _MOVING of those that it could have at
    the crops' rate. In place of starts whose clips stand still, others of the track are taken,
    spread evenly over those that move. Nothing is returned for a face that hardly ever changes.
    """
    groups_T = np.arange(len(track.times_T))
    for place in track.same_T:
        groups_T[place] = groups_T[place - 1]

    def moves(start_s: float) -> bool:
        asked = start_s + np.arange(geometry.frames) * geometry.interval_s
        inside = int((asked <= track.end_s + 1e-6).sum())
        possible = min(inside, 1 + math.floor(geometry.interval_s * (inside - 1) * rate_fps + 1e-6))
        seen = {int(groups_T[i]) for i in frame_indices(track.times_T, start_s, geometry)}
        return len(seen) >= _MOVING * possible

    moving = [start_s for start_s in starts_s if moves(start_s)]
    if len(moving) == len(starts_s):
        return moving
    last_s = max(track.times_T[0], track.times_T[-1] - geometry.span_s)
    others = [time_s for time_s in track.times_T if time_s <= last_s and moves(time_s)]
    places = np.linspace(0, len(others) - 1, min(len(starts_s), len(others)))
    return [others[place] for place in dict.fromkeys(places.round().astype(int).tolist())]


def different_fps(track: FaceTrack) -> float:
    """Return how many different pictures of a face are shown in a second of its track."""
    different = len(track.times_T) - len(track.same_T)
    return different / max(track.end_s - track.times_T[0], 1e-6)


def read_clips(
    crop: Path, times_T: Sequence[float], starts_s: Sequence[float], geometry: Geometry
) -> Iterator[Image]:
    """Yield each clip's frames (T, H, W, C) as stored, reading the file once and no further than
    needed.

    Raises:
        DatasetError: the file holds fewer frames than its row says.
    """
    times = np.asarray(times_T)  # once: an hour has thousands of clips and of frames
    wanted = [frame_indices(times, start_s, geometry) for start_s in starts_s]
    last_use = {index: clip for clip, indices in enumerate(wanted) for index in indices}
    kept: dict[int, Image] = {}
    clip = 0
    for index, frame in enumerate(read_frames(crop)):
        if index in last_use:
            kept[index] = frame.rgb_HWC()
        while clip < len(wanted) and max(wanted[clip]) <= index:
            yield np.stack([kept[i] for i in wanted[clip]])
            clip += 1
            kept = {i: image for i, image in kept.items() if last_use[i] >= clip}
        if clip == len(wanted):
            return
    raise DatasetError(
        f"{crop} should hold {len(times_T)} frames and ends before. Delete it and run `dvc repro`."
    )


def to_input(frames_THWC: Image, side_px: int, brightness: float | None = None) -> Clip:
    """Return the clip (C, T, side, side), float32, normalised.

    A clip whose mean is below DARK times brightness, of 0 to 1, is brought to it by one factor,
    MAX_GAIN at most: so a forgery in the dark looks as it does in the light of training.
    """
    if frames_THWC.shape[1] != side_px:
        shrinks = frames_THWC.shape[1] > side_px
        mode = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        frames_THWC = np.stack(
            [cv2.resize(frame, (side_px, side_px), interpolation=mode) for frame in frames_THWC]
        )
    # In this order, value by value, as the nets were trained: (x / 255 - mean) / deviation.
    clip = frames_THWC.transpose(3, 0, 1, 2).astype(np.float32, order="C")
    clip /= 255
    if brightness is not None:
        mean = float(frames_THWC.mean()) / 255
        if mean < DARK * brightness:
            clip *= brightness / max(mean, brightness / MAX_GAIN)
    clip -= MEAN
    clip /= DEVIATION
    return clip
