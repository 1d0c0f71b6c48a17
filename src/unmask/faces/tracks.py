"""Join detections into tracks, and say where a track's face lies: numbers only, no pictures."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unmask.records import Box, Points

TOLERANCE_S = 0.0005  # 0.7 s - 0.3 s is a little less than 0.4 s in floating point
_REACH = 2  # standard deviations before and after a moment that its smoothed place depends on
_SMOOTHING_POINTS = 9  # how often the face is looked at within that reach


@dataclass(frozen=True)
class Detection:
    """A face found in a picture; coordinates are its pixels."""

    box_xyxy: Box
    score: float
    points_52: Points


class Track:
    """One face's detections, in order of time."""

    def __init__(self, time_s: float, detection: Detection) -> None:
        self._times_s: list[float] = []
        self._boxes: list[Box] = []
        self._places: list[tuple[float, ...]] = []  # box, then points
        self._scores: list[float] = []
        self.add(time_s, detection)

    def add(self, time_s: float, detection: Detection) -> None:
        """Append the face's next detection."""
        self._times_s.append(time_s)
        self._boxes.append(detection.box_xyxy)
        points = (coordinate for point in detection.points_52 for coordinate in point)
        self._places.append((*detection.box_xyxy, *points))
        self._scores.append(detection.score)

    def hold(self, until_s: float) -> None:
        """Say that the latest detection's frame is still shown at a later moment."""
        self._times_s.append(until_s)
        self._boxes.append(self._boxes[-1])
        self._places.append(self._places[-1])
        self._scores.append(self._scores[-1])

    @property
    def first_s(self) -> float:
        """When the face was first seen."""
        return self._times_s[0]

    @property
    def last_s(self) -> float:
        """When the face was last seen."""
        return self._times_s[-1]

    @property
    def last_box(self) -> Box:
        """Where the face was last seen."""
        return self._boxes[-1]

    def lasts(self, duration_s: float) -> bool:
        """Return whether first and last detection are this far apart, or farther."""
        return self.last_s - self.first_s >= duration_s - TOLERANCE_S

    def score_at(self, time_s: float) -> float:
        """Return the score of the latest detection up to a moment."""
        return self._scores[bisect_right(self._times_s, time_s) - 1]

    def settles(self, time_s: float, smooth_s: float) -> bool:
        """Return whether the smoothed box at that time is final, whatever is detected later."""
        return time_s + _REACH * smooth_s <= self.last_s

    def place_at(self, time_s: float, smooth_s: float) -> tuple[Box, Points]:
        """Return the box and the points between first and last detection, smoothed alike."""
        left, top, right, bottom, *points = self._smooth(time_s, smooth_s).tolist()
        return (left, top, right, bottom), tuple(zip(points[::2], points[1::2], strict=True))

    def _smooth(self, time_s: float, smooth_s: float) -> NDArray[np.float64]:
        """Return a moment's coordinates, those of the box, then of the points.

        The coordinates, linear between detections, are fitted by a straight line under a Gaussian
        weight of standard deviation smooth_s, cut off at two of them (local linear regression:
        Cleveland, 1979, JASA 74). Inside a track this is Gaussian smoothing; at its ends, where
        a plain Gaussian would pull a moving face inwards, it keeps following the face.
        """
        moments = time_s + np.linspace(-_REACH, _REACH, _SMOOTHING_POINTS) * smooth_s
        moments = moments[(moments >= self.first_s) & (moments <= self.last_s)]
        if smooth_s == 0 or moments.size < 2:
            now_K: NDArray[np.float64] = self._interpolate(np.array([time_s]))[0]
            return now_K
        away_N = moments - time_s
        weights_N = np.exp(-0.5 * (away_N / smooth_s) ** 2)
        weights_N /= weights_N.sum()
        places_NK = self._interpolate(moments)
        mean_away, mean_K = weights_N @ away_N, weights_N @ places_NK
        spread = weights_N @ (away_N - mean_away) ** 2
        slope_K = (weights_N * (away_N - mean_away)) @ places_NK / spread
        fitted_K: NDArray[np.float64] = mean_K - slope_K * mean_away
        return fitted_K

    def _interpolate(self, moments_M: NDArray[np.float64]) -> NDArray[np.float64]:
        start = max(0, bisect_right(self._times_s, moments_M[0]) - 1)
        stop = bisect_left(self._times_s, moments_M[-1]) + 1
        near_DK = np.array(self._places[start:stop])
        if len(near_DK) == 1:
            return np.repeat(near_DK, len(moments_M), axis=0)
        times_D = np.array(self._times_s[start:stop])
        after_M = np.searchsorted(times_D, moments_M).clip(1, len(times_D) - 1)
        spans_M = times_D[after_M] - times_D[after_M - 1]
        share_M1 = ((moments_M - times_D[after_M - 1]) / spans_M)[:, None]
        placed: NDArray[np.float64] = (
            near_DK[after_M - 1] * (1 - share_M1) + near_DK[after_M] * share_M1
        )
        return placed


class Linker:
    """Follows the faces of a video from one detection to the next."""

    def __init__(self, *, min_overlap: float, max_gap_s: float, tick_s: float = math.inf) -> None:
        """Take what links two detections; tick_s is the time between frames that are not held."""
        self.active: list[Track] = []  # in order of first appearance; those that may still grow
        self._min_overlap = min_overlap
        self._max_gap_s = max_gap_s
        self._tick_s = tick_s

    def add(
        self, time_s: float, detections: Sequence[Detection], *, shown_s: float = 0.0
    ) -> list[Track]:
        """Return the tracks that the faces at a moment began; the others went to active tracks.

        Tracks unseen for too long are no longer active afterwards. A frame that is shown for
        several ticks shows its faces at the last of these as well.
        """
        alive_s = time_s - self._max_gap_s - TOLERANCE_S
        self.active = [track for track in self.active if track.last_s >= alive_s]
        pairs = link_boxes(
            [track.last_box for track in self.active],
            [detection.box_xyxy for detection in detections],
            self._min_overlap,
        )
        for row, column in pairs:
            self.active[row].add(time_s, detections[column])
        linked = {column for _, column in pairs}
        begun = [Track(time_s, d) for n, d in enumerate(detections) if n not in linked]
        self.active += begun
        if shown_s >= 2 * self._tick_s - TOLERANCE_S:
            for track in self.active:
                if track.last_s == time_s:
                    track.hold(time_s + shown_s - self._tick_s)
        return begun


def link_boxes(
    before: Sequence[Box], now: Sequence[Box], min_overlap: float
) -> list[tuple[int, int]]:
    """Return which box before and which box now are one face: indices, best overlap first.

    Boxes match from an intersection over union of min_overlap on, or where their centres are
    nearer than half a box, as those of a fast face are.
    """
    if not before or not now:
        return []
    rows_M14, columns_1N4 = np.array(before)[:, None], np.array(now)[None]
    overlaps_MN = _intersect_over_union(rows_M14, columns_1N4)
    apart_MN = np.linalg.norm(_centres(rows_M14) - _centres(columns_1N4), axis=-1)
    reach_MN = (_longer_sides(rows_M14) + _longer_sides(columns_1N4)) / 4
    match_MN = (overlaps_MN >= min_overlap) | (apart_MN < reach_MN)
    pairs: list[tuple[int, int]] = []
    for flat in np.argsort(-overlaps_MN, axis=None, kind="stable"):
        row, column = divmod(int(flat), len(now))
        taken = any(row == r or column == c for r, c in pairs)
        if match_MN[row, column] and not taken:
            pairs.append((row, column))
    return pairs


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes."""
    return float(_intersect_over_union(np.array(one), np.array(other)))


def square_around(box_xyxy: Box, margin_ratio: float) -> Box:
    """Return the square about a box's centre: its longer side and the margin on either side."""
    left, top, right, bottom = box_xyxy
    half = max(right - left, bottom - top) * (0.5 + margin_ratio)
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - half, y - half, x + half, y + half


def align_square(square: Box, side_px: int) -> Box:
    """Return the square as it can be cut: on whole pixels where it shrinks, on tenths otherwise.

    Whole pixels would make an enlarged face jump by several pixels of the crop.
    """
    left, top, right, _ = square
    digits = 0 if right - left > side_px else 1
    left, top = round(left, digits), round(top, digits)
    side = max(1.0, round(right - square[0], digits))
    return left, top, round(left + side, digits), round(top + side, digits)


def _intersect_over_union(
    ones: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.float64]:
    shared = np.minimum(ones[..., 2:], others[..., 2:]) - np.maximum(ones[..., :2], others[..., :2])
    shared_area = shared.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (ones, others)]
    ratio: NDArray[np.float64] = shared_area / (areas[0] + areas[1] - shared_area)
    return ratio


def _centres(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _longer_sides(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    sides: NDArray[np.float64] = (boxes[..., 2:] - boxes[..., :2]).max(axis=-1)
    return sides
