"""The ticks of a video, and the main face by a detector of painted squares."""

import itertools

import cv2
import numpy as np
import pytest

from unmask import params
from unmask.faces.landmarks import MAX_SIDE_PX, Face, find_face, read_ticks
from unmask.faces.tracks import Detection
from unmask.video.decode import read_frames
from unmask.video.failures import DecodeError, TruncatedError

DETECT = params.Detect(max_side_px=160, min_face_px=40, thresholds=(0.6, 0.7, 0.7), min_score=0.9)
SETTINGS = params.Faces(
    rate_fps=10.0, side_px=64, margin_ratio=0.0, crf=14, detect=DETECT, detect_every_s=0.3,
    smooth_s=0.2, min_track_s=0.4, max_gap_s=0.5, min_overlap=0.3, max_failed_ratio=0.5,
    stall_s=60.0,
)  # fmt: skip
RED, BLUE = (230, 20, 20), (20, 20, 230)
SHAPE_52 = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.3, 0.7], [0.7, 0.7]])


def find_squares(pictures):
    """Detect the bounding boxes of red and of blue pixels, with landmarks at fixed places."""
    found = []
    for picture in pictures:
        faces = []
        for colour in (RED, BLUE):
            rows, columns = np.nonzero(np.abs(picture.astype(int) - colour).max(axis=2) < 70)
            if rows.size > 20:
                corner = np.array([columns.min(), rows.min()], float)
                end = np.array([columns.max() + 1, rows.max() + 1], float)
                points = corner + SHAPE_52 * (end - corner)
                faces.append(Detection((*corner, *end), 0.99, tuple(map(tuple, points))))
        found.append(faces)
    return found


def paint_squares(*paths):
    """Return a painter of a red and a blue square; a path says (left, top, side) or None."""

    def paint(index, size):
        picture = np.full((size[1], size[0], 3), 90, np.uint8)
        for path, colour in zip(paths, (RED, BLUE), strict=False):
            if where := path(index):
                left, top, side = where
                picture[top : top + side, left : left + side] = colour
        return picture

    return paint


def find(path, *, max_seconds=10.0, **changes):
    settings = SETTINGS.model_copy(update=changes)
    return find_face(path, settings, find_squares, max_seconds=max_seconds)


def indices(path, rate_fps, max_seconds, read_index):
    return [
        (tick, read_index(frame.rgb_HWC()))
        for tick, frame in read_ticks(path, rate_fps, max_seconds)
    ]


# ---------------------------------------------------------------- ticks


def test_a_steady_video_gives_each_frame_once(make_video, read_index, tmp_path):
    path = make_video(tmp_path / "v.mp4", frames=12, rate_fps=25)
    assert indices(path, 25, 10, read_index) == [(k, k) for k in range(12)]
    assert indices(path, 25, 0.2, read_index) == [(k, k) for k in range(5)]
    assert indices(path, 50, 0.1, read_index) == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)]


def test_a_video_of_varying_rate_keeps_its_pace(make_video, read_index, tmp_path):
    path = make_video(tmp_path / "v.mkv", frames=4, times_s=[0, 0.1, 0.5, 0.6])
    shown = [index for _, index in indices(path, 10, 10, read_index)]
    assert shown[:7] == [0, 1, 1, 1, 1, 2, 3]


def test_a_video_that_breaks_off_gives_what_came_before(make_video, tmp_path):
    path = make_video(tmp_path / "v.mp4", frames=120, rate_fps=25, size=(320, 240))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ticks = read_ticks(path, 25, 100)
    got = list(itertools.takewhile(lambda tick: tick[0] < 20, ticks))
    assert len(got) == 20
    with pytest.raises(TruncatedError):
        list(ticks)
    assert "end at" in find(path).broken


# ---------------------------------------------------------------- the face


def test_landmarks_follow_a_moving_face_between_searches(make_video, tmp_path):
    paint = paint_squares(lambda index: (20 + 2 * index, 30, 60))
    face = find(
        make_video(tmp_path / "v.mp4", frames=48, size=(320, 180), paint=paint, rate_fps=25)
    )
    assert (face.rate_fps, face.size_px, face.broken) == (25.0, [320, 180], "")
    [track] = face.tracks
    assert [tick for tick, _ in track] == [*range(0, 48, 5), 47]  # every 0.2 s, and the last
    for tick in range(48):
        expected = np.array([20 + 2 * tick, 30]) + SHAPE_52 * 60
        assert face.points_at(tick) == pytest.approx(expected, abs=2.1)  # searched at half size
    assert face.points_at(48) is None


def test_the_largest_face_is_followed_and_where_it_is_gone_the_next(make_video, tmp_path):
    def small(index):
        return (10, 10, 40) if index < 75 else None

    def large(index):
        if index < 25:
            return 10, 100, 60
        return (180, 60, 100) if 50 <= index < 100 else None

    path = make_video(
        tmp_path / "v.mp4", frames=110, size=(320, 180), paint=paint_squares(small, large),
        rate_fps=25,
    )  # fmt: skip
    face = find(path)
    eyes = {t: p[1, 0] - p[0, 0] for t in range(110) if (p := face.points_at(t)) is not None}
    # The blue squares: 60 px wide, then 100. The red one is there with both, so it is no one's.
    assert eyes[10] == pytest.approx(24, abs=2)
    assert eyes[80] == pytest.approx(40, abs=2)
    assert 30 not in eyes
    assert 108 not in eyes


def test_a_face_seen_too_shortly_is_none(make_video, tmp_path):
    paint = paint_squares(lambda index: (20, 30, 60) if index < 8 else None)
    path = make_video(tmp_path / "v.mp4", frames=40, size=(320, 180), paint=paint, rate_fps=25)
    face = find(path)
    assert (face.tracks, face.best, face.seen) == ([], None, 2)
    nobody = make_video(tmp_path / "n.mp4", frames=10, paint=paint_squares(lambda _: None))
    assert find(nobody).seen == 0


def test_the_best_frame_is_the_sharpest(make_video, tmp_path):
    texture = np.random.default_rng(0).integers(0, 2, (60, 60, 1)) * np.array([25, 40, 40])

    def paint(index, size):
        picture = paint_squares(lambda _: (40, 40, 60))(index, size)
        face = picture[40:100, 40:100]
        face[:] = np.clip(face + texture, 0, 255)
        return picture if index == 20 else cv2.blur(picture, (9, 9))

    path = make_video(tmp_path / "v.mp4", frames=40, size=(320, 180), paint=paint, rate_fps=25)
    tick, _ = find(path).best
    assert tick == 20


def test_odd_sides_lose_a_row_and_huge_ones_are_reduced(make_video, tmp_path):
    paint = paint_squares(lambda _: (20, 30, 60))
    odd = make_video(
        tmp_path / "v.mp4", frames=20, size=(321, 181), paint=paint, rate_fps=25,
        pix_fmt="yuv444p",
    )  # fmt: skip
    face = find(odd)
    assert face.size_px == [321, 181]
    frame = next(read_frames(odd))
    assert face.show(frame).shape == (180, 320, 3)
    assert np.array_equal(face.show(frame), frame.rgb_HWC()[:180, :320])
    huge = make_video(tmp_path / "h.mp4", frames=1, size=(2880, 160), paint=paint)
    assert find(huge).size_px == [MAX_SIDE_PX, 107]
    other = Face(25, [64, 32], [], None, 0, "")
    assert other.show(frame).shape == (32, 64, 3)


def test_a_turned_video_is_followed_upright(make_video, tmp_path):
    paint = paint_squares(lambda _: (20, 30, 60))
    path = make_video(
        tmp_path / "v.mp4", frames=20, size=(320, 180), paint=paint, rate_fps=25, rotation_deg=90
    )
    face = find(path)
    assert face.size_px == [320, 180]
    assert face.points_at(3) == pytest.approx(np.array([20, 30]) + SHAPE_52 * 60, abs=2.1)


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "v.mp4").write_text("no video")
    with pytest.raises(DecodeError, match="no whole video file"):
        find(tmp_path / "v.mp4")
