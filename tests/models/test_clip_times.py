"""Clips of crop files whose frames spell their own index: their times, their pixels."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from unmask.errors import DatasetError
from unmask.geometry import DEVIATION, MEAN, Geometry
from unmask.models import clip_times
from unmask.models.clip_times import (
    Clip,
    count_clips,
    different_fps,
    frame_indices,
    looked_at_ratio,
    moving_starts,
    read_clips,
    shortest_alike_s,
    spread_starts,
    to_input,
)
from unmask.records import FaceTrack
from unmask.video.frame import Frame

Picture = NDArray[np.uint8]
MakeVideo = Callable[..., Path]
ReadIndex = Callable[[Picture], int]

XS, S, M = Geometry(4, 0.4, 64), Geometry(13, 0.2, 64), Geometry(16, 1 / 6, 64)


def ticks(frames: int, *, first_s: float = 0.0) -> tuple[float, ...]:
    """Return the times of a crop file of 10 frames/s, as the cropper rounds them."""
    return tuple(round(first_s + index / 10, 3) for index in range(frames))


def track(times_T: tuple[float, ...]) -> FaceTrack:
    count = len(times_T)
    return FaceTrack(0, "a.mp4", times_T, ((0.0, 0.0, 9.0, 9.0),) * count, (1.0,) * count)


# ---------------------------------------------------------------- which frames


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        (XS, [0, 4, 8, 12]),
        (S, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24]),
        # Every 1/6 s: 0, .167, .333, .5, .667, .833, 1, ... to the nearest tenth.
        (M, [0, 2, 3, 5, 7, 8, 10, 12, 13, 15, 17, 18, 20, 22, 23, 25]),
    ],
)
@pytest.mark.parametrize("first_s", [0.0, 5.3])
def test_a_clip_takes_the_ticks_of_its_geometry(
    geometry: Geometry, expected: list[int], first_s: float
) -> None:
    assert frame_indices(ticks(30, first_s=first_s), first_s, geometry) == expected


def test_a_clip_may_start_at_any_frame() -> None:
    for start in range(17):
        found = frame_indices(ticks(30), start / 10, XS)
        assert found == [start, start + 4, start + 8, start + 12]


def test_a_start_between_two_frames_takes_the_nearer_and_half_way_the_earlier() -> None:
    assert frame_indices(ticks(30), 0.04, XS) == [0, 4, 8, 12]
    assert frame_indices(ticks(30), 0.06, XS) == [1, 5, 9, 13]
    # In floats 0.05 + 0.4 is half-way, but 0.05 + 0.8 is past it.
    assert frame_indices(ticks(30), 0.05, XS) == [0, 4, 8, 12]


def test_beyond_the_end_the_last_frame_is_repeated() -> None:
    assert frame_indices(ticks(6), 0.0, XS) == [0, 4, 5, 5]
    assert frame_indices(ticks(6), 0.0, S) == [0, 2, 4] + [5] * 10


def test_a_single_frame_fills_the_clip() -> None:
    assert frame_indices((7.5,), 7.5, XS) == [0, 0, 0, 0]
    assert frame_indices((7.5,), 0.0, S) == [0] * 13


def test_two_frames_share_the_clip() -> None:
    assert frame_indices((0.0, 0.1), 0.0, XS) == [0, 1, 1, 1]


def test_a_gap_is_filled_by_its_nearer_edge() -> None:
    times_T = (0.0, 0.1, 0.2, 1.0, 1.1, 1.2)
    # Asked 0, 0.4, 0.8, 1.2; and 0, 0.2, ... 1.2, of which 0.6 is half-way, then beyond the end.
    assert frame_indices(times_T, 0.0, XS) == [0, 2, 3, 5]
    assert frame_indices(times_T, 0.0, S)[:7] == [0, 2, 2, 2, 3, 3, 5]


def test_every_frame_taken_is_a_nearest_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        times = np.sort(rng.uniform(0, 4, rng.integers(1, 30)))
        geometry = Geometry(int(rng.integers(1, 17)), float(rng.uniform(0.03, 0.6)), 64)
        start_s = float(rng.uniform(0, 4))
        found = frame_indices(tuple(times), start_s, geometry)
        for order, index in enumerate(found):
            away = np.abs(times - (start_s + order * geometry.interval_s))
            assert away[index] <= away.min() + 1e-5


# ---------------------------------------------------------------- which faces


@pytest.mark.parametrize(
    ("rate_fps", "moves"),
    [
        (1, False),  # asked 0, 0.4, 0.8, 1.2: two different frames
        (2, False),  # 0, 0.5, 1, 1: three of four
        (2.5, True),
        (10, True),
    ],
)
def test_a_short_clip_needs_four_different_frames(rate_fps: float, moves: bool) -> None:
    slow = track(tuple(index / rate_fps for index in range(30)))
    starts_s = spread_starts(slow, XS, most=4)
    found = moving_starts(slow, starts_s, XS, 10)
    assert found == (starts_s if moves else [])
    assert different_fps(slow) == pytest.approx(rate_fps, rel=0.05)


def test_a_held_frame_is_one_however_long_it_is_shown() -> None:
    photo = replace(track((0.0,)), held_s=9.9)
    assert moving_starts(photo, [0.0], XS, 10) == []
    assert different_fps(photo) == pytest.approx(1 / 9.9)


def test_a_short_track_is_not_called_still_for_its_padding() -> None:
    for count in (6, 13):
        short = track(ticks(count))
        for geometry in (XS, S, M):
            assert moving_starts(short, [0.0], geometry, 10) == [0.0]
    fine = Geometry(8, 0.02, 64)  # finer than the crops' own rate: two frames are all there are
    assert moving_starts(track(ticks(30)), [0.0], fine, 10) == [0.0]


def test_frames_that_look_the_same_are_one() -> None:
    slides = replace(track(ticks(40)), same_T=tuple(n for n in range(40) if n % 10))
    assert moving_starts(slides, [0.0, 1.4, 2.7], XS, 10) == []
    assert different_fps(slides) == pytest.approx(4 / 3.9)


def test_clips_are_taken_where_a_face_moves() -> None:
    # It moves for 3 s, is held for 20 s, moves for 3 s.
    times_T = (*ticks(30), *ticks(30, first_s=23.0))
    held = track(times_T)
    starts_s = spread_starts(held, XS, most=8)
    assert len(starts_s) == 8
    found = moving_starts(held, starts_s, XS, 10)
    assert len(found) == 8
    assert found[0] == 0.0
    assert found[-1] == pytest.approx(times_T[-1] - XS.span_s)
    for start_s in found:
        assert start_s < 3 or start_s > 22
        assert len(set(frame_indices(times_T, start_s, XS))) == 4


# ---------------------------------------------------------------- where clips start


def test_clips_cover_the_first_and_the_last_frame_of_a_track() -> None:
    # Four clips of 1.2 s, each 0.4 s after the last, take 6.0 s: 61 frames.
    assert spread_starts(track(ticks(61)), XS, most=8) == pytest.approx([0.0, 1.6, 3.2, 4.8])
    # Two take 2.8 s, and lie at most 0.8 s apart, two frames of theirs, in up to 3.2 s.
    assert spread_starts(track(ticks(29)), XS, most=8) == pytest.approx([0.0, 1.6])
    assert spread_starts(track(ticks(33)), XS, most=8) == pytest.approx([0.0, 2.0])
    assert spread_starts(track(ticks(34)), XS, most=8) == pytest.approx([0.0, 1.05, 2.1])
    # In 5.9 s three would leave out 1.15 s after each.
    found = spread_starts(track(ticks(60)), XS, most=8)
    assert found == pytest.approx([0.0, 4.7 / 3, 9.4 / 3, 4.7])


@pytest.mark.parametrize("geometry", [XS, S, M], ids=["xs", "s", "m"])
def test_no_moment_of_a_track_of_whatever_length_is_far_from_a_picture(geometry: Geometry) -> None:
    before, reach_s = 0, 2 * geometry.interval_s + 1e-6
    for frames in range(13, 400):
        last_s = (frames - 1) / 10
        starts_s = spread_starts(track(ticks(frames)), geometry, most=1000)
        shown_s = [
            start_s + n * geometry.interval_s
            for start_s in starts_s
            for n in range(geometry.frames)
        ]
        gaps = np.diff([0.0, *shown_s, last_s])
        assert gaps.max() <= reach_s, frames
        assert len(starts_s) >= before
        before = len(starts_s)


@pytest.mark.parametrize("geometry", [XS, S, M], ids=["xs", "s", "m"])
def test_the_shortest_track_alike_is_the_shortest(geometry: Geometry) -> None:
    for count in range(1, 30):
        longest_s = next(
            n / 100 for n in range(10**5) if count_clips(n / 100, geometry, most=99) > count
        )
        shortest_s = shortest_alike_s(longest_s - 0.02, geometry, most=99)
        if count > 1:
            assert count_clips(shortest_s + 1e-3, geometry, most=99) == count
            assert count_clips(shortest_s - 1e-3, geometry, most=99) == count - 1


def test_what_clips_show_is_counted_once_and_to_the_tracks_ends() -> None:
    # Pictures at 0 to 1.2 and 1.7 to 2.9 s, of which each stands for 0.4 s on either side.
    assert looked_at_ratio(track(ticks(30)), [0.0, 1.7], XS) == 1.0
    assert looked_at_ratio(track(ticks(30)), [0.0], XS) == pytest.approx(1.6 / 2.9)
    assert looked_at_ratio(track(ticks(101)), [4.0], XS) == pytest.approx(0.2)
    assert looked_at_ratio(track(ticks(101)), [1.0, 1.4, 4.0], XS) == pytest.approx(0.44)
    assert looked_at_ratio(track((4.2,)), [4.2], XS) == 1.0
    # An hour by 2400 clips, and ten of them.
    hour = track(ticks(36001))
    starts_s = spread_starts(hour, XS, most=2400)
    assert (len(starts_s), looked_at_ratio(hour, starts_s, XS)) == (2250, pytest.approx(1.0))
    starts_s = spread_starts(hour, XS, most=240)
    assert looked_at_ratio(hour, starts_s, XS) == pytest.approx(240 * 2.0 / 3600, abs=0.001)


@pytest.mark.parametrize("frames", [13, 28, 29, 45, 77, 100, 301])
@pytest.mark.parametrize("first_s", [0.0, 2.7])
@pytest.mark.parametrize("geometry", [XS, S, M], ids=["xs", "s", "m"])
def test_clips_stay_on_the_track_evenly_and_share_no_frame_where_they_fit(
    geometry: Geometry, frames: int, first_s: float
) -> None:
    times_T = ticks(frames, first_s=first_s)
    starts_s = spread_starts(track(times_T), geometry, most=100)
    per_clip = [frame_indices(times_T, start_s, geometry) for start_s in starts_s]
    if len(starts_s) == 1:
        spare_s = max(times_T[-1] - first_s - geometry.span_s, 0.0)
        assert starts_s == pytest.approx([first_s + spare_s / 2])
        return
    assert per_clip[0][0] == 0
    assert per_clip[-1][-1] == frames - 1
    steps = np.diff(starts_s)
    assert steps == pytest.approx(steps[0])
    side_by_side_s = geometry.span_s + geometry.interval_s
    if steps[0] >= side_by_side_s - 1e-6:
        used = [index for indices in per_clip for index in indices]
        assert len(set(used)) == len(used)
        # One more would not fit side by side.
        assert steps[0] * len(steps) / (len(steps) + 1) < side_by_side_s
    elif len(steps) > 1:  # one clip less would leave out more than a picture of theirs
        fewer_s = steps[0] * len(steps) / (len(steps) - 1)
        assert fewer_s > side_by_side_s + geometry.interval_s


def test_most_bounds_the_count_but_not_the_cover() -> None:
    whole = track(ticks(301, first_s=1.0))
    assert len(spread_starts(whole, XS, most=100)) == 19  # 1 + floor((30 - 1.2) / 1.6)
    assert spread_starts(whole, XS, most=3) == pytest.approx([1.0, 15.4, 29.8])
    assert spread_starts(whole, XS, most=2) == pytest.approx([1.0, 29.8])
    assert spread_starts(whole, XS, most=1) == pytest.approx([15.4])


def test_a_track_shorter_than_a_clip_gives_one_from_its_start() -> None:
    assert spread_starts(track((4.2,)), XS, most=8) == [4.2]
    assert spread_starts(track(ticks(5, first_s=3.0)), XS, most=8) == [3.0]
    assert spread_starts(track(ticks(13)), XS, most=8) == pytest.approx([0.0])
    assert spread_starts(track(ticks(15)), XS, most=8) == pytest.approx([0.1])


# ---------------------------------------------------------------- reading


@pytest.fixture(scope="module")
def crop(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> Path:
    """A crop file of 60 frames that spell their index."""
    path = tmp_path_factory.mktemp("crops") / "a.mp4"
    return make_video(path, frames=60, rate_fps=10, size=(64, 64))


class CountingReader:
    """Stands in for read_frames; counts files opened and frames taken."""

    def __init__(self, read: Callable[[Path], Iterator[Frame]]) -> None:
        self.read, self.files, self.frames = read, 0, 0

    def __call__(self, path: Path) -> Iterator[Frame]:
        self.files += 1
        for frame in self.read(path):
            self.frames += 1
            yield frame


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> CountingReader:
    counting = CountingReader(clip_times.read_frames)
    monkeypatch.setattr(clip_times, "read_frames", counting)
    return counting


def read_indices(
    crop: Path, times_T: tuple[float, ...], starts_s: list[float], read_index: ReadIndex
) -> list[list[int]]:
    return [
        [read_index(frame) for frame in frames_THWC]
        for frames_THWC in read_clips(crop, times_T, starts_s, XS)
    ]


def test_clips_hold_the_frames_of_their_times(
    crop: Path, read_index: ReadIndex, reader: CountingReader
) -> None:
    # A track's times count from the video's start, its file from the track's.
    times_T = ticks(60, first_s=12.0)
    found = read_indices(crop, times_T, [12.0, 14.35, 16.7], read_index)
    assert found == [[0, 4, 8, 12], [23, 27, 31, 35], [47, 51, 55, 59]]
    assert reader.files == 1


def test_clips_that_overlap_share_what_was_read(
    crop: Path, read_index: ReadIndex, reader: CountingReader
) -> None:
    found = read_indices(crop, ticks(60), [0.0, 0.1, 0.4, 0.4], read_index)
    assert found == [[0, 4, 8, 12], [1, 5, 9, 13], [4, 8, 12, 16], [4, 8, 12, 16]]
    assert reader.files == 1


def test_clips_come_in_the_order_asked_for(crop: Path, read_index: ReadIndex) -> None:
    found = read_indices(crop, ticks(60), [2.0, 0.0], read_index)
    assert found == [[20, 24, 28, 32], [0, 4, 8, 12]]


def test_a_short_track_repeats_its_last_frame(crop: Path, read_index: ReadIndex) -> None:
    assert read_indices(crop, ticks(6), [0.0], read_index) == [[0, 4, 5, 5]]
    assert read_indices(crop, (3.3,), [3.3], read_index) == [[0, 0, 0, 0]]


def test_no_frame_is_read_beyond_the_last_that_is_needed(
    crop: Path, reader: CountingReader
) -> None:
    frames = [clip.shape for clip in read_clips(crop, ticks(60), [0.0, 0.5], XS)]
    assert frames == [(4, 64, 64, 3)] * 2
    assert reader.frames == 18  # 0 to 17


def test_a_clip_comes_as_soon_as_its_last_frame_is_read(crop: Path, reader: CountingReader) -> None:
    reading = read_clips(crop, ticks(60), [0.0, 4.0], XS)
    next(reading)
    assert reader.frames == 13
    next(reading)
    assert reader.frames == 53


def test_no_clip_asked_for_gives_none(crop: Path) -> None:
    assert list(read_clips(crop, ticks(60), [], XS)) == []


def test_a_file_with_fewer_frames_than_its_row_says_is_an_error(crop: Path) -> None:
    reading = read_clips(crop, ticks(61), [0.0, 4.8], XS)
    next(reading)
    with pytest.raises(DatasetError, match=r"a\.mp4 should hold 61 frames .* `dvc repro`"):
        next(reading)


# ---------------------------------------------------------------- what the net gets


def scaled(level: float) -> float:
    return (level / 255 - MEAN) / DEVIATION


def test_input_is_channels_then_time_and_normalised() -> None:
    frames_THWC = np.zeros((5, 64, 64, 3), np.uint8)
    frames_THWC[2] = (255, 51, 0)
    clip_CTHW = to_input(frames_THWC, 64)
    assert clip_CTHW.shape == (3, 5, 64, 64)
    assert clip_CTHW.dtype == np.float32
    # (1 - 0.45) / 0.225, (0.2 - 0.45) / 0.225, -0.45 / 0.225
    red, green, blue = (clip_CTHW[channel, 2] for channel in range(3))
    np.testing.assert_allclose(red, np.full((64, 64), 22 / 9), rtol=1e-6)
    np.testing.assert_allclose(green, np.full((64, 64), -10 / 9), rtol=1e-6)
    np.testing.assert_allclose(blue, np.full((64, 64), -2.0), rtol=1e-6)
    np.testing.assert_allclose(clip_CTHW[:, [0, 1, 3, 4]], -2.0, rtol=1e-6)


def test_input_keeps_rows_and_columns_apart() -> None:
    frames_THWC = np.zeros((1, 64, 64, 3), np.uint8)
    frames_THWC[0, 3, 50] = 255
    assert np.argwhere(to_input(frames_THWC, 64)[0, 0] > 0).tolist() == [[3, 50]]


def test_a_shrunk_clip_holds_the_means_of_what_it_covers() -> None:
    block = np.array([[0, 100, 50], [200, 60, 255], [5, 90, 50]], np.uint8)  # mean 90
    frames_THWC = np.repeat(np.tile(block, (64, 64))[None, ..., None], 3, axis=3)
    clip_CTHW = to_input(frames_THWC, 64)
    np.testing.assert_allclose(clip_CTHW, np.full((3, 1, 64, 64), scaled(90)), rtol=1e-5)


def test_an_enlarged_clip_is_bicubic_and_stays_in_place() -> None:
    rng = np.random.default_rng(0)
    frames_THWC = rng.integers(60, 200, (2, 32, 32, 3), dtype=np.uint8)
    pixels = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2).float()
    larger_TCHW = torch.nn.functional.interpolate(
        pixels, size=(64, 64), mode="bicubic", align_corners=False
    )
    expected_CTHW = larger_TCHW.permute(1, 0, 2, 3).clamp(0, 255).div(255).sub(MEAN).div(DEVIATION)
    # Pixels are whole levels.
    level = 1 / 255 / DEVIATION
    np.testing.assert_allclose(to_input(frames_THWC, 64), expected_CTHW, atol=level, rtol=0)


# ---------------------------------------------------------------- augmentation


def test_every_level_is_normalised_as_torch_does_it_to_the_last_bit() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    clip_CTHW: Clip = to_input(levels, 16)
    pixels = torch.from_numpy(levels).permute(3, 0, 1, 2).float()
    assert np.array_equal(clip_CTHW, pixels.div_(255).sub_(MEAN).div_(DEVIATION).numpy())
    assert clip_CTHW.flags.c_contiguous


@pytest.mark.parametrize(
    ("levels", "factor"),
    [
        ((90, 110), 0.5 * 255 / 100),  # one factor for all frames: they differ as they did
        ((30, 42), 0.5 * 255 / 36),
        ((2, 4), 4.0),  # cut off: nothing but noise would be left
        ((0, 0), 4.0),
        ((100, 106), 1.0),  # of a mean above 0.4
        ((250, 254), 1.0),
    ],
)
def test_a_dark_clip_is_brought_to_the_brightness(levels: tuple[int, int], factor: float) -> None:
    frames_THWC = np.stack([np.full((64, 64, 3), level, np.uint8) for level in levels])
    clip_CTHW = torch.from_numpy(to_input(frames_THWC, 64, brightness=0.5))
    expected_T = (torch.tensor(levels) / 255 * factor - MEAN) / DEVIATION
    torch.testing.assert_close(clip_CTHW, expected_T[None, :, None, None].expand(3, 2, 64, 64))


def test_a_clip_in_the_dark_is_the_same_input_but_for_rounding() -> None:
    frames_THWC = np.random.default_rng(0).integers(40, 250, (3, 64, 64, 3), dtype=np.uint8)
    dark_THWC = np.round(frames_THWC * 0.6).astype(np.uint8)
    own = float(frames_THWC.mean()) / 255
    bright, dark = (to_input(frames, 64, brightness=own) for frames in (frames_THWC, dark_THWC))
    np.testing.assert_array_equal(bright, to_input(frames_THWC, 64))
    largest = 1.1 * 0.5 / 255 / 0.6 / DEVIATION  # half a level of the dark clip, made brighter
    np.testing.assert_allclose(dark, bright, atol=largest, rtol=0)
    assert np.abs(to_input(dark_THWC, 64) - to_input(frames_THWC, 64)).max() > 10 * largest
