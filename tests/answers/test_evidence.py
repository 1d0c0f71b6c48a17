"""Evidence, by heat of which one knows where it lies."""

import numpy as np
import pytest

from unmask.answers import evidence
from unmask.geometry import Geometry
from unmask.records import FaceTrack
from unmask.video.encode import write_video


def corner(clip_CTHW):
    """Return heat_THW of a net that looks at how bright the first channel is, in cells of 8 px."""
    frames, side = clip_CTHW.shape[1], clip_CTHW.shape[2] // 8
    return np.maximum(clip_CTHW[0], 0).reshape(frames, side, 8, side, 8).mean(axis=(2, 4))


def test_a_face_is_explained_over_its_clips(tmp_path):
    levels = np.full((8, 32, 32, 3), 40, np.uint8)
    levels[6, 24:, :, 0] = 255  # red at the bottom of frame 6
    write_video(tmp_path / "v_0.mp4", levels, rate_fps=10.0, crf=1)
    times = tuple(index / 10 for index in range(8))
    # Landmarks of a face that fills its box of 32 pixels: eyes at 8, nose at 16, mouth at 24.
    points = ((8.0, 8.0), (24.0, 8.0), (16.0, 16.0), (10.0, 24.0), (22.0, 24.0))
    track = FaceTrack(0, "v_0.mp4", times, ((0.0, 0.0, 32.0, 32.0),) * 8, (1.0,) * 8, (points,) * 8)
    geometry = Geometry(frames=2, interval_s=0.1, side_px=32)
    found = evidence.explain(corner, tmp_path, track, [0.0, 0.3, 0.6], geometry)
    assert found.times_N == (0.0, 0.1, 0.3, 0.4, 0.6, 0.7)
    assert [heat > 0 for heat in found.heat_N] == [False, False, False, False, True, False]
    assert found.crop_s == 0.6
    assert found.crop_HWC[30, 16, 0] > 200
    assert found.heat_HW.argmax() // 4 == 3  # the lowest row
    assert found.shares["mouth and chin"] == pytest.approx(1, abs=0.15)
    assert sum(found.shares.values()) == pytest.approx(1)


def test_an_overlay_is_bright_where_heat_is_and_else_the_grey_crop():
    crop = np.full((64, 64, 3), (200, 100, 50), np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[3, 3] = 0.01  # the scale ends at the map's own maximum
    shown = evidence.overlay(crop, heat).astype(int)
    assert np.ptp(shown[5, 5]) == 0
    assert shown[60, 60, 0] > shown[60, 60, 2] + 50
    assert np.array_equal(evidence.overlay(crop, heat * 0)[60, 60], shown[5, 5])
