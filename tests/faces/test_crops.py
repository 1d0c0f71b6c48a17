"""MTCNN on real faces moved over a background; exact geometry by a detector of painted squares."""

import ctypes
import errno
import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from painted import (
    RED,
    SETTINGS,
    PatientDetector,
    SquareDetector,
    at,
    corners_and_centre,
    crop,
    faces_over_noise,
    iou,
    load_squares,
    show,
    squares,
)

from unmask import params
from unmask.errors import DatasetError, DiskError
from unmask.faces import cropper, crops, search
from unmask.faces.cropper import cut_square
from unmask.faces.crops import crop_chunk
from unmask.faces.detector import Detector
from unmask.faces.tracks import Detection
from unmask.records import Box, FileDoubt, Reason, VideoFaces
from unmask.runtime.confinement import Confinement
from unmask.runtime.record_files import faces_line, read_faces
from unmask.video import decode as decoding
from unmask.video.frame import Frame

ROOT = Path(__file__).parents[2]
STILLS = ROOT / "data/sources/stills"
Picture = NDArray[np.uint8]
MakeVideo = Callable[..., Path]

SMALL: dict[str, Any] = {"rate_fps": 20, "size": (160, 90)}
LARGE: dict[str, Any] = {"rate_fps": 20, "size": (320, 180)}


class LoggingDetector(SquareDetector):
    """Writes a line for each picture it is given, as it is given them in another process."""

    def __init__(self, log: Path, _: params.Detect) -> None:
        self._log = log

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        with self._log.open("a") as lines:
            lines.write("picture\n" * len(pictures))
        return super().detect(pictures)


class FailingDetector(SquareDetector):
    """Crashes where it finds two squares, or hangs in C with the GIL, as a decoder may."""

    def __init__(self, how: str, _: params.Detect) -> None:
        self._how = how

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        found = super().detect(pictures)
        if max(map(len, found)) > 1:
            if self._how == "crashed":
                os.kill(os.getpid(), signal.SIGSEGV)
            ctypes.PyDLL(None).pause()
        return found


# ---------------------------------------------------------------- real faces


def test_a_shifted_face_shifts_its_crops_and_nothing_else(
    mtcnn: Detector, make_video: MakeVideo, tmp_path: Path
) -> None:
    rows = []
    for left, top in [(10, 10), (34, 26)]:
        paint = faces_over_noise(("003_neutral.jpg", left, top), speed_px=2)
        path = make_video(tmp_path / f"{left}.mp4", frames=30, **LARGE, paint=paint)
        rows.append(crop(path, mtcnn, SETTINGS.model_copy(update={"side_px": 96})))
    (one,), (other,) = rows[0].tracks, rows[1].tracks
    assert one.times_T == other.times_T == pytest.approx([n / 10 for n in range(15)])
    moved_T4 = np.subtract(other.boxes_T4, one.boxes_T4)
    assert np.abs(moved_T4 - [24, 16, 24, 16]).max() < 3  # MTCNN itself wavers by 2 pixels
    assert np.abs(moved_T4 - [24, 16, 24, 16]).mean() < 1
    steps = np.diff([box[0] for box in one.boxes_T4])  # the face moves 4 pixels a tick
    assert np.abs(steps - 4).max() < 1.5
    points_T52, other_T52 = np.array(one.points_T52), np.array(other.points_T52)
    assert np.abs(other_T52 - points_T52 - [24, 16]).mean() < 1
    assert np.abs(np.diff(points_T52, axis=0) - [4, 0]).mean() < 0.7
    assert (points_T52[:, 0, 0] < points_T52[:, 2, 0]).all()  # left eye, nose, right eye
    assert (points_T52[:, 2, 0] < points_T52[:, 1, 0]).all()
    # The crops show the same face, steady: a pixel has nearly one colour over time and videos.
    shown_T = np.array(
        [show(tmp_path / "faces" / track.file) for track in (one, other)], np.float32
    )
    assert shown_T.shape == (2, 15, 96, 96, 3)
    assert shown_T.std(axis=(0, 1)).mean() < 8


def test_two_people_are_two_tracks(mtcnn: Detector, make_video: MakeVideo, tmp_path: Path) -> None:
    paint = faces_over_noise(("004_smiling.jpg", 5, 20), ("005_neutral.jpg", 150, 20), speed_px=1)
    path = make_video(tmp_path / "two.mp4", frames=20, **LARGE, paint=paint)
    row = crop(path, mtcnn)
    assert (row.reason, row.detail, row.key) == (None, "", "k")
    assert [track.file for track in row.tracks] == ["two_0.mp4", "two_1.mp4"]
    assert [track.track for track in row.tracks] == [0, 1]
    lefts = [[box[0] for box in track.boxes_T4] for track in row.tracks]
    assert len(lefts[0]) == len(lefts[1]) == 10
    assert sorted(max(left) < 150 for left in lefts) == [False, True]
    assert all(0.9 <= score <= 1 for track in row.tracks for score in track.scores_T)


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize("rotation_deg", [0, 90])
@pytest.mark.parametrize("side", [40, 90])  # the crop of 64 pixels enlarges one, shrinks the other
def test_boxes_follow_the_painted_square(
    side: float, rotation_deg: int, make_video: MakeVideo, tmp_path: Path
) -> None:
    def path_of(time_s: float) -> Box:
        return at(20 + 0.8 * side * time_s, 10 + 0.2 * side * time_s, side)

    path = make_video(
        tmp_path / "one.mp4", frames=40, **LARGE, paint=squares(path_of),
        rotation_deg=rotation_deg,
    )  # fmt: skip
    (track,) = crop(path).tracks
    assert len(track.times_T) == 20
    for time_s, box in zip(track.times_T, track.boxes_T4, strict=True):
        assert iou(box, path_of(time_s)) > 0.9
        assert round(box[2] - box[0], 1) == round(box[3] - box[1], 1)
    for time_s, points_52 in zip(track.times_T, track.points_T52, strict=True):
        away_52 = np.subtract(points_52, corners_and_centre(path_of(time_s)))
        assert np.abs(away_52).max() < 1.5  # the painter and the detector each round to pixels
        assert np.array_equal(points_52, np.round(points_52, 1))
    for picture_HWC in show(tmp_path / "faces" / track.file):
        assert np.abs(picture_HWC[6:-6, 6:-6].astype(int) - RED).max() < 60
    assert set(track.scores_T) == {0.99}


def test_detection_on_a_reduced_frame_gives_boxes_of_the_full_one(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    where = at(300, 80, 200)
    paint = squares(lambda _: where)
    path = make_video(tmp_path / "large.mp4", frames=20, rate_fps=20, size=(960, 540), paint=paint)
    (track,) = crop(path).tracks
    assert all(iou(box, where) > 0.95 for box in track.boxes_T4)


def test_the_margin_widens_the_square(make_video: MakeVideo, tmp_path: Path) -> None:
    paint = squares(lambda _: (100, 40, 140, 120))
    path = make_video(tmp_path / "tall.mp4", frames=20, **LARGE, paint=paint)
    (track,) = crop(path, settings=SETTINGS.model_copy(update={"margin_ratio": 0.25})).tracks
    assert track.boxes_T4[0] == pytest.approx((60, 20, 180, 140), abs=2)


def test_what_lies_outside_the_frame_is_black(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "v.mp4", frames=1, size=(128, 96), paint=squares(lambda _: at(0, 0, 128))
    )
    frame = next(decoding.read_frames(path))
    for square in (at(-50.3, 36.2, 60), at(-80, 16, 160)):
        left, top, right, bottom = square
        crop_HWC = cut_square(frame, square, 64).astype(int)
        assert crop_HWC.shape == (64, 64, 3)
        scale = 64 / (right - left)
        x0, y1 = round(-left * scale), round((min(96, bottom) - top) * scale)
        assert crop_HWC[:, : x0 - 2].max() == 0
        assert y1 == 64 or crop_HWC[y1 + 2 :].max() == 0
        assert np.abs(crop_HWC[2 : y1 - 2, x0 + 2 :] - RED).max() < 30
    assert cut_square(frame, at(500, 500, 20), 64).max() == 0


def test_a_crop_between_pixels_shifts_by_less_than_a_pixel(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    def ramp(_: int, size: tuple[int, int]) -> Picture:
        row_W = np.arange(size[0], dtype=np.uint8) * 2
        return np.broadcast_to(row_W[None, :, None], (size[1], size[0], 3)).copy()

    path = make_video(tmp_path / "ramp.mp4", frames=1, size=(96, 96), paint=ramp)
    frame = next(decoding.read_frames(path))
    row_W = frame.rgb_HWC()[48, :, 1]
    for left in (30.0, 30.3, 30.7):
        centres = left - 0.5 + (np.arange(64) + 0.5) / 4  # pixel 0's centre lies at 0.5
        expected = np.interp(centres, np.arange(96), row_W)
        crop_HWC = cut_square(frame, at(left, 40, 16), 64)
        assert np.abs(crop_HWC[20:44, :, 1] - expected).max() < 1.5
        assert np.abs(crop_HWC[20:44, :, 1] - expected).mean() < 0.5
    halved = row_W[10:90].reshape(40, 2).mean(axis=1)
    assert np.abs(cut_square(frame, at(10, 10, 80), 40)[20, :, 1] - halved).max() <= 1


# ---------------------------------------------------------------- tracks of a video


def test_a_face_that_enters_late_starts_its_track_then(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    paint = squares(lambda _: at(10, 20, 60), lambda t: at(200, 20, 80) if t >= 0.9 else None)
    path = make_video(tmp_path / "late.mp4", frames=40, **LARGE, paint=paint)
    early, late = crop(path).tracks
    assert (early.times_T[0], late.times_T[0]) == (0, 0.9)
    assert early.times_T[-1] == late.times_T[-1] == 1.9  # the last frame is always searched
    assert len(show(tmp_path / "faces" / late.file)) == len(late.times_T) == 11


def test_a_face_that_returns_after_the_gap_is_a_new_track(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    def come_and_go(time_s: float) -> Box | None:
        return None if 1.0 <= time_s < 2.0 else at(50, 50, 60)

    paint = squares(come_and_go)
    path = make_video(tmp_path / "gone.mp4", frames=60, **LARGE, paint=paint)
    before, after = crop(path).tracks
    assert (before.times_T[0], before.times_T[-1]) == (0, 0.9)
    assert (after.times_T[0], after.times_T[-1]) == (2.0, 2.9)


def test_a_face_that_is_missed_once_keeps_its_track(make_video: MakeVideo, tmp_path: Path) -> None:
    paint = squares(lambda t: None if 0.85 < t < 0.95 else at(40 + 50 * t, 50, 60))
    path = make_video(tmp_path / "miss.mp4", frames=40, **LARGE, paint=paint)
    (track,) = crop(path).tracks
    assert len(track.times_T) == 20
    assert track.boxes_T4[9] == pytest.approx(at(85, 50, 60), abs=2)


def test_tracks_are_numbered_by_appearance_once_the_short_ones_are_gone(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    paint = squares(
        lambda t: at(10, 20, 60) if t < 0.4 or t > 1.4 else None, lambda _: at(200, 20, 60)
    )
    path = make_video(tmp_path / "n.mp4", frames=50, **LARGE, paint=paint)
    # Without smoothing a crop is cut before its track is known to be too short.
    first, second = crop(path, settings=SETTINGS.model_copy(update={"smooth_s": 0.0})).tracks
    assert (first.track, first.file, first.boxes_T4[0][0]) == (
        0,
        "n_0.mp4",
        pytest.approx(200, abs=1),
    )
    assert (second.track, second.file, second.times_T[0]) == (1, "n_1.mp4", 1.5)
    assert sorted(p.name for p in (tmp_path / "faces").iterdir()) == ["n_0.mp4", "n_1.mp4"]


def test_a_slow_video_keeps_its_own_times(make_video: MakeVideo, tmp_path: Path) -> None:
    times_s = [0.0, 0.25, 0.5, 1.0, 1.1, 1.3]
    paint = squares(lambda _: at(50, 50, 60))
    path = make_video(tmp_path / "slow.mp4", **LARGE, times_s=times_s, paint=paint)
    (track,) = crop(path).tracks
    assert track.times_T == pytest.approx(times_s)


@pytest.mark.parametrize("is_face_in_first", [True, False])
def test_a_frame_size_that_changes_midway_starts_a_track_in_the_new_pixels(
    is_face_in_first: bool,
    make_video: MakeVideo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = []
    for start_s, (size, side) in enumerate([((160, 90), 30), ((640, 360), 120)]):
        where = at(side, side, side) if start_s or is_face_in_first else None
        path = make_video(
            tmp_path / f"{side}.mp4", frames=10, rate_fps=10, size=size,
            paint=squares(lambda _, where=where: where),
        )  # fmt: skip
        for frame in decoding.read_frames(path):
            frames.append(Frame(start_s + frame.time_s, frame.duration_s, frame._picture))
    monkeypatch.setattr(cropper, "read_frames", lambda *_, **__: iter(frames))
    *small, large = crop(tmp_path / "both.mp4").tracks
    assert large.times_T == pytest.approx([n / 10 for n in range(10, 20)])
    assert large.boxes_T4[0] == pytest.approx(at(120, 120, 120), abs=3)
    assert [track.times_T[-1] for track in small] == [0.9] * is_face_in_first
    assert [track.boxes_T4[0] for track in small] == [
        pytest.approx(at(30, 30, 30), abs=1)
    ] * is_face_in_first


# ---------------------------------------------------------------- frames that are held


@pytest.mark.parametrize("rate_fps", [1, 1.4, 2, 5])
def test_a_face_that_is_on_screen_all_the_time_is_one_track_at_any_rate(
    rate_fps: float, make_video: MakeVideo, tmp_path: Path
) -> None:
    times_s = [index / rate_fps for index in range(8)]
    paint = squares(lambda t: at(50 + 8 * rate_fps * t, 50, 60), rate_fps=rate_fps)
    path = make_video(tmp_path / "slow.mp4", **LARGE, times_s=times_s, paint=paint)
    row = crop(path)
    (track,) = row.tracks
    assert row.reason is None
    assert track.times_T == pytest.approx(times_s, abs=1e-3)
    assert track.same_T == ()
    for time_s, box in zip(track.times_T, track.boxes_T4, strict=True):
        assert box == pytest.approx(at(50 + 8 * rate_fps * time_s, 50, 60), abs=4)


def test_a_held_frame_counts_for_as_long_as_it_is_shown(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    # Seen for 0.2 s, then held for 1.8 s; gone for a second; seen once, and held to the end.
    times_s = [0, 0.1, 0.2, 2.0, 3.0]
    there = {0, 1, 2, 4}
    paint = squares(lambda index: at(60, 50, 60) if index in there else None, rate_fps=1)
    path = make_video(tmp_path / "held.mkv", **LARGE, times_s=[*times_s, 4.5, 4.6], paint=paint)
    first, second = crop(path).tracks
    assert first.times_T == pytest.approx([0, 0.1, 0.2], abs=1e-3)
    assert first.end_s == pytest.approx(1.9, abs=2e-3)
    assert second.times_T == pytest.approx([3.0], abs=1e-3)
    assert second.end_s == pytest.approx(4.4, abs=2e-3)


def test_frames_that_show_nothing_new_are_told(make_video: MakeVideo, tmp_path: Path) -> None:
    # A picture a second at a constant rate: ten frames look the same, but for their coding.
    paint = squares(lambda t: at(50 + 6 * int(t), 50, 60))
    path = make_video(tmp_path / "slides.mp4", frames=80, **LARGE, paint=paint)
    (track,) = crop(path).tracks
    assert len(track.times_T) == 40
    assert not {10, 20, 30} & set(track.same_T)
    assert 30 <= len(track.same_T) <= 36  # an encoder refines a picture after it has changed
    moving = squares(lambda t: at(50 + 20 * t, 50, 60))
    path = make_video(tmp_path / "moves.mp4", frames=80, **LARGE, paint=moving)
    assert crop(path).tracks[0].same_T == ()


# ---------------------------------------------------------------- what is said of a file


def test_joined_recordings_are_cropped_as_one(make_video: MakeVideo, tmp_path: Path) -> None:
    parts = [
        make_video(
            tmp_path / f"{number}.ts", frames=30, rate_fps=30, size=size,
            paint=squares(lambda t, left=left: at(left + 30 * t, 30, 40), rate_fps=30), **codec,
        )
        for number, (left, size, codec) in enumerate(
            [(30, (160, 90), {}), (60, (192, 96), {"codec": "mpeg2video"})]
        )
    ]  # fmt: skip
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    row = crop(path)
    assert (row.reason, row.detail, row.doubts) == (None, "", ())
    first, second = row.tracks
    assert first.times_T == pytest.approx([k / 10 for k in range(10)], abs=2e-3)
    assert second.times_T == pytest.approx([1 + k / 10 for k in range(10)], abs=2e-3)
    assert second.boxes_T4[0] == pytest.approx(at(60, 30, 40), abs=3)


def test_what_was_left_out_is_counted_in_the_row(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "hole.mp4", frames=100, options={"g": "10", "bf": "0"},
        paint=squares(lambda t: at(30 + 10 * t, 30, 40)), **SMALL,
    )  # fmt: skip
    whole = bytearray(path.read_bytes())
    half = len(whole) // 2
    whole[half : half + len(whole) // 10] = bytes(len(whole) // 10)
    path.write_bytes(whole)
    row = crop(path)
    assert (row.reason, row.doubts) == (Reason.INCOMPLETE, (FileDoubt.NOT_ALL_SEEN,))
    assert re.match(rf"{path}: asked for all that it shows, found \d+ damaged packets", row.detail)
    assert row.tracks


def test_a_second_stream_is_named_without_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", 10, width=160, height=90) for _ in range(2)]
        streams[0].disposition, streams[1].disposition = 0, av.stream.Disposition.default
        for index in range(10):
            for stream, left in zip(streams, (20, 80), strict=True):
                paint = squares(lambda _, left=left: at(left, 30, 40))
                picture = av.VideoFrame.from_ndarray(paint(index, (160, 90)), format="rgb24")
                container.mux(stream.encode(picture))
        for stream in streams:
            container.mux(stream.encode(None))
    row = crop(path)
    assert (row.reason, row.doubts) == (None, ())
    assert row.detail == f"{path}: a second video stream, 160 x 90, h264, was not looked at."
    assert row.tracks[0].boxes_T4[0] == pytest.approx(at(80, 30, 40), abs=2)


@pytest.mark.parametrize("is_face_there", [True, False])
def test_colours_that_are_not_understood_are_told_of_the_frames_looked_at(
    is_face_there: bool, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(
        tmp_path / "a.mp4", frames=20,
        paint=squares(lambda _: at(30, 30, 40) if is_face_there else None), **SMALL,
    )  # fmt: skip
    monkeypatch.setattr(
        Frame, "colour_doubt",
        property(lambda frame: "Its colours are odd." if frame.time_s > 0.5 else ""),
    )  # fmt: skip
    row = crop(path)
    assert row.doubts == (FileDoubt.COLOUR_NOT_UNDERSTOOD,)
    assert row.reason == (None if is_face_there else Reason.NO_FACE)
    assert row.detail.endswith("Its colours are odd.")


# ---------------------------------------------------------------- bad videos


def test_a_bad_video_gets_a_row_with_its_reason(make_video: MakeVideo, tmp_path: Path) -> None:
    (tmp_path / "zero.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all\n" * 99)
    make_video(tmp_path / "faceless.mp4", frames=20, paint=squares(), **SMALL)
    make_video(tmp_path / "one.mp4", frames=1, paint=squares(lambda _: at(30, 30, 40)), **SMALL)
    make_video(
        tmp_path / "blink.mp4", frames=40, **SMALL,
        paint=squares(lambda t: at(30, 30, 40) if t < 0.3 else None),
    )  # fmt: skip
    reasons = {}
    for name in ("lost", "zero", "text", "faceless", "one", "blink"):
        row = crop(tmp_path / f"{name}.mp4")
        assert (row.video_id, row.key, row.tracks) == (name, "k", ())
        assert str(tmp_path / name) in row.detail
        reasons[name] = row.reason
    assert reasons == {
        "lost": Reason.MISSING, "zero": Reason.EMPTY, "text": Reason.NOT_A_VIDEO,
        "faceless": Reason.NO_FACE, "one": Reason.TOO_SHORT, "blink": Reason.TOO_SHORT,
    }  # fmt: skip
    assert list((tmp_path / "faces").iterdir()) == []


def test_a_truncated_video_keeps_the_tracks_up_to_there(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    paint = squares(lambda t: at(30 + 10 * t, 30, 40))
    path = make_video(tmp_path / "cut.mp4", frames=100, **SMALL, paint=paint,
                      options={"g": "10"})  # fmt: skip
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    row = crop(path)
    (track,) = row.tracks
    assert row.reason is Reason.TRUNCATED
    assert str(path) in row.detail
    assert 1 < track.times_T[-1] < 4
    assert len(show(tmp_path / "faces" / track.file)) == len(track.times_T)


def test_a_mistake_of_ours_propagates_and_leaves_no_file(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    class Breaks(SquareDetector):
        pictures = 0

        def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
            if Breaks.pictures:
                raise ZeroDivisionError
            Breaks.pictures += len(pictures)
            return super().detect(pictures)

    paint = squares(lambda _: at(30, 30, 40))
    path = make_video(tmp_path / "v.mp4", frames=120, **SMALL, paint=paint)
    with pytest.raises(ZeroDivisionError):
        crop(path, Breaks())
    assert Breaks.pictures == 8
    assert list((tmp_path / "faces").iterdir()) == []


# ---------------------------------------------------------------- memory and batches


def test_frames_are_let_go_however_long_the_video(
    make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def come_and_go(time_s: float) -> Box | None:
        return at(20, 20, 40) if time_s % 3 < 2 else None

    peaks = []
    for seconds in (12, 48):
        paint = squares(lambda _: at(80, 20, 40), come_and_go, rate_fps=10)
        path = make_video(
            tmp_path / f"{seconds}.mp4",
            frames=10 * seconds,
            rate_fps=10,
            size=(160, 90),
            paint=paint,
        )
        alive: weakref.WeakSet[Frame] = weakref.WeakSet()
        counts = []

        def read(
            *args: Any, alive: Any = alive, counts: Any = counts, **kwargs: Any
        ) -> Iterator[Frame]:
            for frame in decoding.read_frames(*args, **kwargs):
                alive.add(frame)
                counts.append(len(alive))
                yield frame

        monkeypatch.setattr(cropper, "read_frames", read)
        assert len(crop(path, PatientDetector()).tracks) == 1 + seconds // 3
        peaks.append(max(counts))
    # A batch of 8 spans 2.4 s, 16 frames are read ahead, and the gap adds 0.7 s; a few are in the
    # hands of the two threads. All of them would be 480.
    assert max(peaks) <= 24 + 16 + 7 + 8


def test_the_size_of_a_batch_changes_nothing(
    make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint = squares(
        lambda t: at(30 + 9 * t, 30, 40) if t % 2 < 1 else None,
        lambda t: at(90, 20 + 5 * t, 40),
        rate_fps=10,
    )
    path = make_video(tmp_path / "v.mp4", frames=60, rate_fps=10, size=(160, 90), paint=paint)
    rows, files = [], []
    for batch, waiting_bytes in ((1, 2**27), (8, 2**27), (1000, 150_000)):
        monkeypatch.setattr(SquareDetector, "batch", batch)
        monkeypatch.setattr(search, "_WAITING_BYTES", waiting_bytes)
        rows.append(crop(path))
        files.append(contents(tmp_path / "faces"))
    assert rows.count(rows[0]) == files.count(files[0]) == 3
    assert len(rows[0].tracks) == len(files[0]) == 4


# ---------------------------------------------------------------- a chunk


@pytest.fixture
def chunk(make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of four videos, one faceless, one empty; squares stand for faces.

    Workers are not confined, as the detector that counts what it searches writes beside the crops.
    """
    monkeypatch.setattr(cropper, "Confinement", lambda *_, **__: None)
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, paint in {
        "a": squares(lambda _: at(30, 30, 40)),
        "b": squares(lambda t: at(30 + 9 * t, 30, 40), lambda _: at(90, 20, 40)),
        "c": squares(),
    }.items():
        make_video(videos / f"{name}.mp4", frames=20, **SMALL, paint=paint)
    (videos / "d.mkv").touch()
    (videos / ".hidden").touch()
    return tmp_path


def start_cropping(chunk: Path, detector: Any = None, **changes: Any) -> Iterator[VideoFaces]:
    return crop_chunk(
        crops.find_videos(chunk / "videos"), chunk / "faces", SETTINGS.model_copy(update=changes),
        workers=1, load_detector=detector or partial(LoggingDetector, chunk / "log"),
    )  # fmt: skip


def crop_all(chunk: Path, detector: Any = None, **changes: Any) -> list[VideoFaces]:
    return list(start_cropping(chunk, detector, **changes))


def count_searched(chunk: Path) -> int:
    """Return how many pictures were searched since the last count."""
    log = chunk / "log"
    searched = len(log.read_text().splitlines()) if log.exists() else 0
    log.unlink(missing_ok=True)
    return searched


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return what tells whether a file was replaced or changed."""
    paths = list(folder.iterdir())
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in paths}


def load_untidy_squares(settings: Any) -> Any:
    """Load a detector as torch does: with a folder left where temporary files go."""
    Path(tempfile.gettempdir(), "left_by_a_library").mkdir(exist_ok=True)
    return load_squares(settings)


def test_what_a_library_leaves_for_temporary_files_is_no_crop(
    chunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cropper, "Confinement", Confinement)
    crop_all(chunk, load_untidy_squares)
    assert "left_by_a_library" not in {p.name for p in (chunk / "faces").iterdir()}


def test_a_chunk_has_a_row_for_every_video_in_order(
    chunk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unmask")
    rows = crop_all(chunk)
    assert [(row.video_id, row.reason) for row in rows] == [
        ("a", None), ("b", None), ("c", Reason.NO_FACE), ("d", Reason.EMPTY),
    ]  # fmt: skip
    assert list(read_faces(chunk / "faces/index.jsonl").values()) == rows
    names = {p.name for p in (chunk / "faces").iterdir()}
    assert names == {"index.jsonl", "a_0.mp4", "b_0.mp4", "b_1.mp4"}
    assert caplog.messages == [
        "chunk faces: 4 videos, 2 with a face, 2 without (1 empty, 1 no_face)"
    ]


def refuse_to_load(_: params.Detect) -> None:
    raise AssertionError("a worker was started")


def test_a_second_run_starts_no_worker(chunk: Path) -> None:
    rows = crop_all(chunk)
    before = snapshot(chunk / "faces")
    assert crop_all(chunk, refuse_to_load) == rows
    after = snapshot(chunk / "faces")
    assert after["index.jsonl"][-1] == before.pop("index.jsonl")[-1]
    assert before.items() <= after.items()


@pytest.mark.parametrize("what", ["content", "params", "code", "crop"])
def test_what_changed_is_cropped_again_and_nothing_else(
    what: str, chunk: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    crop_all(chunk)
    before, changes = snapshot(chunk / "faces"), {}
    if what == "content":
        paint = squares(lambda _: at(60, 30, 40))
        make_video(chunk / "videos/a.mp4", frames=20, **SMALL, paint=paint)
    elif what == "params":
        changes = {"smooth_s": 0.1}
    elif what == "code":
        monkeypatch.setattr(crops, "_CODE", ("errors",))
    else:
        (chunk / "faces/a_0.mp4").unlink()
    count_searched(chunk)
    crop_all(chunk, **changes)
    after = snapshot(chunk / "faces")
    assert set(after) == set(before)
    again = {name for name in after if name.endswith(".mp4") and after[name] != before[name]}
    # Each video is searched at 0, 0.3, 0.6 and 0.9 s.
    if what in ("content", "crop"):
        assert again == {"a_0.mp4"}
        assert count_searched(chunk) == 4
    else:
        assert again == {"a_0.mp4", "b_0.mp4", "b_1.mp4"}
        assert count_searched(chunk) == 12


def test_a_run_that_was_stopped_is_taken_up_where_it_stopped(chunk: Path) -> None:
    run = start_cropping(chunk)
    first = [next(run), next(run)]
    journal = chunk / "faces/.index.jsonl.partial"
    rows = journal.read_text()  # what a kill -9 here would leave
    run.close()
    assert rows == journal.read_text() == "".join(faces_line(row) + "\n" for row in first)
    assert not (chunk / "faces/index.jsonl").exists()
    journal.write_bytes(rows.encode() + '{"video_id":"c","key":"é'.encode()[:-1])
    (chunk / "faces/.123_0.mp4").write_text("of a worker that was killed")
    (chunk / "faces/..123_0.mp4.123.part").write_text("of a worker that was killed")
    count_searched(chunk)
    assert crop_all(chunk)[:2] == first
    assert count_searched(chunk) == 4  # those of c alone
    assert not journal.exists()
    names = {p.name for p in (chunk / "faces").iterdir()}
    assert names == {"index.jsonl", "a_0.mp4", "b_0.mp4", "b_1.mp4"}


def test_a_stopped_run_with_other_params_leaves_no_row_of_replaced_crops(chunk: Path) -> None:
    crop_all(chunk)
    original = contents(chunk / "faces")
    run = start_cropping(chunk, margin_ratio=0.5)
    next(run)
    run.close()  # a_0.mp4 is now the wider one
    crop_all(chunk)
    assert contents(chunk / "faces") == original


def test_an_index_that_dvc_brought_back_overrules_the_journal_of_a_stopped_run(
    chunk: Path,
) -> None:
    crop_all(chunk)
    checked_out = contents(chunk / "faces")
    run = start_cropping(chunk, margin_ratio=0.5)
    next(run)
    run.close()
    for name, data in checked_out.items():
        (chunk / "faces" / name).write_bytes(data)
    rows = {row.video_id: row for row in crop_all(chunk, margin_ratio=0.5)}
    shown = show(chunk / "faces/a_0.mp4")[0]
    assert rows["a"].tracks[0].boxes_T4[0] == pytest.approx(at(10, 10, 80), abs=1)
    assert shown[2, 2].max() < 120  # the margin is grey, and the square is in the middle
    assert shown[32, 32, 0] > 180


def test_hard_links_to_old_files_keep_their_content(chunk: Path, tmp_path: Path) -> None:
    crop_all(chunk)
    cache = tmp_path / "cache"
    cache.mkdir()
    for path in (chunk / "faces").iterdir():
        path.chmod(0o444)
        os.link(path, cache / path.name)
    before = snapshot(cache)
    crop_all(chunk, crf=30)
    assert snapshot(cache) == before
    after = snapshot(chunk / "faces")
    assert all(after[name] != before[name] for name in before)


def test_videos_that_left_the_chunk_leave_its_index_and_their_crops_go(chunk: Path) -> None:
    crop_all(chunk)
    (chunk / "videos/b.mp4").unlink()
    assert [row.video_id for row in crop_all(chunk)] == ["a", "c", "d"]
    assert list(read_faces(chunk / "faces/index.jsonl")) == ["a", "c", "d"]
    assert {p.name for p in (chunk / "faces").iterdir()} == {"index.jsonl", "a_0.mp4"}


def test_too_many_unreadable_videos_stop_the_chunk_after_its_index_is_written(
    chunk: Path,
) -> None:
    with pytest.raises(DatasetError, match=r"at most 20% of 4 videos.*found 1\..*index.jsonl"):
        crop_all(chunk, max_failed_ratio=0.2)
    assert len(read_faces(chunk / "faces/index.jsonl")) == 4
    again = crop_all(chunk, refuse_to_load, max_failed_ratio=0.25, stall_s=99.0)
    assert len(again) == 4  # other limits crop nothing again


def test_a_second_run_is_refused_while_the_first_one_crops(chunk: Path) -> None:
    first = start_cropping(chunk)
    rows = [next(first)]
    with pytest.raises(DiskError, match="another run is writing there"):
        crop_all(chunk)
    rows += first
    assert crop_all(chunk, refuse_to_load) == rows


@pytest.mark.parametrize(("frames", "reason"), [(0, "unreadable"), (15, "truncated")])
def test_an_error_of_reading_is_the_videos_own(
    frames: int, reason: str, chunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = decoding._decode

    def fail(*args: Any, **kwargs: Any) -> Iterator[Frame]:
        yield from itertools.islice(decode(*args, **kwargs), frames)
        raise av.error.OSError(errno.EIO, "Input/output error", "a.mp4")

    monkeypatch.setattr(decoding, "_decode", fail)  # no disk that fails is at hand
    assert crop(chunk / "videos/a.mp4").reason == reason


def test_two_videos_of_one_name_are_refused(chunk: Path) -> None:
    (chunk / "videos/a.avi").touch()
    with pytest.raises(DatasetError, match=r"a name of its own.*'a'"):
        crop_all(chunk)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        crops.find_videos(tmp_path / "videos")


# ---------------------------------------------------------------- processes


def test_two_workers_write_the_same_bytes_as_one(make_video: MakeVideo, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for number, name in enumerate(["006_smiling.jpg", "007_neutral.jpg", "008_smiling.jpg"]):
        paint = faces_over_noise((name, 10 * number, 20), speed_px=1 + number)
        make_video(tmp_path / f"videos/{number}.mp4", frames=24, **LARGE, paint=paint)
    videos = crops.find_videos(tmp_path / "videos")
    for workers in (1, 2):
        faces_dir = tmp_path / f"faces{workers}"
        assert len(list(crop_chunk(videos, faces_dir, SETTINGS, workers=workers))) == 3
    one, two = (contents(tmp_path / f"faces{workers}") for workers in (1, 2))
    assert one == two
    assert set(one) == {"index.jsonl", "0_0.mp4", "1_0.mp4", "2_0.mp4"}


@pytest.mark.parametrize("how", ["crashed", "timed_out"])
def test_a_video_that_ends_its_worker_costs_itself_and_is_tried_again(
    how: str, chunk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unmask")
    crop_all(chunk, partial(FailingDetector, how), stall_s=1.5)
    (counted,) = caplog.messages
    assert "1 with a face, 3 without" in counted
    assert f"1 {how}" in counted
    rows = read_faces(chunk / "faces/index.jsonl")
    assert [(row.video_id, row.reason) for row in rows.values()] == [
        ("a", None), ("b", Reason(how)), ("c", Reason.NO_FACE), ("d", Reason.EMPTY),
    ]  # fmt: skip
    assert rows["b"].tracks == ()
    assert str(chunk / "videos/b.mp4") in rows["b"].detail
    assert {p.name for p in (chunk / "faces").iterdir()} == {"index.jsonl", "a_0.mp4"}
    with pytest.raises(DatasetError, match=r"at most 49% of 4 videos.*found 2\."):
        crop_all(chunk, partial(FailingDetector, how), stall_s=1.5, max_failed_ratio=0.49)
    again = {row.video_id: row for row in crop_all(chunk)}
    assert count_searched(chunk) == 4  # those of b alone
    assert (again["b"].reason, len(again["b"].tracks)) == (None, 2)
    assert {name: again[name] for name in "acd"} == {name: rows[name] for name in "acd"}


# ---------------------------------------------------------------- the stage


def run_stage(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "stages/faces.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_stage_crops_a_folder(make_video: MakeVideo, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    paint = faces_over_noise(("009_smiling.jpg", 40, 20))
    make_video(tmp_path / "videos/v.mp4", frames=36, **LARGE, paint=paint)
    done = run_stage(tmp_path / "videos", tmp_path / "faces")
    assert done.returncode == 0, done.stderr
    assert "chunk faces: 1 videos, 1 with a face, 0 without" in done.stderr
    row = json.loads((tmp_path / "faces/index.jsonl").read_text())
    assert (row["video_id"], row["reason"], len(row["tracks"])) == ("v", None, 1)


def test_the_stage_says_in_one_line_what_is_missing(tmp_path: Path) -> None:
    done = run_stage(tmp_path / "videos", tmp_path / "faces")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no such folder" in done.stderr
