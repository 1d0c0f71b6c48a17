"""Where in a face, and when, lies what a net took for traces of a fake: Grad-CAM.

It shows what the net looked at, not what was done to the video.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask.geometry import Geometry
from unmask.models.clip_times import frame_indices, read_clips, to_input
from unmask.records import FaceTrack, Points

Picture = NDArray[np.uint8]
Heat = NDArray[np.float32]

BANDS = ("eyes and forehead", "nose and cheeks", "mouth and chin")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Grad-CAM of one face: over its clips together, and over time.

    Heat has no unit: it is zero or more, and what is compared is one place, or one moment, of this
    face with another. All of it is zero where nothing in the face spoke for a fake.
    """

    heat_HW: Heat  # on the grid of the net's last stage, mean over all clips and their frames
    times_N: tuple[float, ...]  # of each frame that a clip holds, rising
    heat_N: tuple[float, ...]  # mean over the face, of each of these
    shares: Mapping[str, float]  # of the heat, by BANDS; without landmarks none
    crop_HWC: Picture  # the face in the frame of the most heat
    crop_s: float
    crop_heat_HW: Heat  # of that frame


def explain(
    heat_of: Callable[[NDArray[np.float32]], Heat],
    faces_dir: Path,
    track: FaceTrack,
    starts_s: Sequence[float],
    geometry: Geometry,
) -> Evidence:
    """Return where and when the clips of a face that start there speak for a fake.

    heat_of returns heat_THW of a clip_CTHW: Predictor.heat_of.

    Raises:
        DatasetError: the crop file holds fewer frames than its row says.
        NoMapError: the net's features have no places in the picture.
    """
    heats: list[Heat] = []
    times: list[float] = []
    points: list[Points] = []
    hottest, crop_HWC = -1, np.zeros((0, 0, 3), np.uint8)
    clips = read_clips(faces_dir / track.file, track.times_T, starts_s, geometry)
    for start_s, frames_THWC in zip(starts_s, clips, strict=True):
        heat_THW = heat_of(to_input(frames_THWC, geometry.side_px, geometry.brightness))
        indices = frame_indices(track.times_T, start_s, geometry)
        heat_of_T = heat_THW.mean(axis=(1, 2))
        best = int(heat_of_T.argmax())
        if hottest < 0 or heat_of_T[best] > heats[hottest].mean():
            hottest, crop_HWC = len(heats) + best, frames_THWC[best].copy()
        heats += list(heat_THW)
        times += [track.times_T[index] for index in indices]
        points += [track.points_T52[index] for index in indices] if track.points_T52 else []
    heat_HW: Heat = np.mean(heats, axis=0)
    order = np.argsort(times, kind="stable")
    return Evidence(
        heat_HW=heat_HW,
        times_N=tuple(times[index] for index in order),
        heat_N=tuple(float(heats[index].mean()) for index in order),
        shares=_shares(heats, points, track, times),
        crop_HWC=crop_HWC,
        crop_s=times[hottest],
        crop_heat_HW=heats[hottest],
    )


def _shares(
    heats: Sequence[Heat], points: Sequence[Points], track: FaceTrack, times: Sequence[float]
) -> dict[str, float]:
    """Return the bands' shares of the heat; a face's bands end half-way between its landmarks."""
    total = float(np.sum(heats))
    if not points or total == 0:
        return {}
    box_at = dict(zip(track.times_T, track.boxes_T4, strict=True))
    sums = np.zeros(len(BANDS))
    for heat_HW, face, time_s in zip(heats, points, times, strict=True):
        _, top, _, bottom = box_at[time_s]
        eyes, nose, mouth = (
            (np.mean([face[index][1] for index in group]) - top) / (bottom - top)
            for group in ((0, 1), (2,), (3, 4))
        )
        # Finer than the grid, whose rows would each fall into one band as a whole.
        rows = cv2.resize(heat_HW.mean(axis=1, keepdims=True), (1, 100)).ravel()
        places = (np.arange(100) + 0.5) / 100
        band = (places > (eyes + nose) / 2).astype(int) + (places > (nose + mouth) / 2)
        sums += [rows[band == index].sum() for index in range(len(BANDS))]
    return dict(zip(BANDS, (sums / sums.sum()).tolist(), strict=True))


def overlay(crop_HWC: Picture, heat_HW: Heat) -> Picture:
    """Return the crop in grey with the heat over it: dark purple for some, yellow for the most.

    The scale ends at the map's own maximum. Told apart by colour-blind readers, and in grey.
    """
    height, width, _ = crop_HWC.shape
    most = float(heat_HW.max())
    scaled = heat_HW / most if most > 0 else heat_HW
    fine = np.clip(cv2.resize(scaled, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    grey = cv2.cvtColor(cv2.cvtColor(crop_HWC, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    colours_bgr = cv2.applyColorMap(np.uint8(fine * 255), cv2.COLORMAP_INFERNO)
    share = (0.6 * fine)[..., None]
    mixed = grey * (1 - share) + colours_bgr[..., ::-1] * share
    shown: Picture = mixed.round().astype(np.uint8)
    return shown
