"""Clips are read back from crop files whose frames spell their own index."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from unmask import params
from unmask.errors import DatasetError
from unmask.faces import cropper
from unmask.faces.detector import Detector
from unmask.forgeries.blend import FIVE_POINTS_52
from unmask.geometry import Geometry
from unmask.models import clips
from unmask.models.clips import (
    ClipDataset,
    ClipItem,
    EpochSampler,
    augment,
    clip_items,
    count_clips,
    different_fps,
    forge_clip,
    frame_indices,
    looked_at_ratio,
    moving_starts,
    read_clips,
    shortest_alike_s,
    spread_starts,
    to_input,
)
from unmask.models.frame_net import DEVIATION, MEAN
from unmask.params import Augment
from unmask.records import Chunk, FaceTrack, ForgedPart, VideoFaces, VideoRecord
from unmask.video.frame import Frame

Picture = NDArray[np.uint8]
MakeVideo = Callable[..., Path]
ReadIndex = Callable[[Picture], int]

XS, S, M = Geometry(4, 0.4, 64), Geometry(13, 0.2, 64), Geometry(16, 1 / 6, 64)
NOTHING = Augment(flip=0.0, colour=0.0, compress=0.0, blur=0.0, resize=0.0, shift_ratio=0.0)
EVERYTHING = Augment(flip=1.0, colour=1.0, compress=1.0, blur=1.0, resize=1.0, shift_ratio=0.2)


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


LEFT, RIGHT = (0.0, 0.0, 100.0, 100.0), (100.0, 0.0, 200.0, 100.0)  # their centres: 50, 150 across


def two_people(label: int, forged: ForgedPart | None) -> Chunk:
    """Return a video of 4 s that shows two faces beside each other."""
    times_T = ticks(41)
    tracks = tuple(
        FaceTrack(number, f"{number}.mp4", times_T, (box,) * 41, (1.0,) * 41)
        for number, box in enumerate((LEFT, RIGHT))
    )
    record = VideoRecord("v", "v.mp4", label, "p", ["real", "swap"][label], "train", (), forged)
    return Chunk("c", [record], {"v": VideoFaces("v", "", tracks)}, Path())


@pytest.mark.parametrize(
    ("forged", "expected"),
    [
        (None, [("0.mp4", None), ("1.mp4", None)]),
        (ForgedPart((120.0, 20.0, 180.0, 80.0)), [("1.mp4", (0.0, 4.0))]),
        (ForgedPart((0.0, 0.0, 200.0, 100.0)), [("0.mp4", (0.0, 4.0)), ("1.mp4", (0.0, 4.0))]),
        (ForgedPart((0.0, 0.0, 99.0, 99.0), 1.0, 2.5), [("0.mp4", (1.0, 2.5))]),
        (ForgedPart(None, 3.0), [("0.mp4", (3.0, 4.0)), ("1.mp4", (3.0, 4.0))]),
        (ForgedPart((0.0, 0.0, 9.0, 9.0)), []),
        (ForgedPart(None, 4.5), []),
    ],
)
def test_of_a_fake_the_face_that_is_marked_is_trained_on(
    forged: ForgedPart | None, expected: list[tuple[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    items = clip_items([two_people(1, forged)], "train")
    assert [(str(item.crop), item.part_s) for item in items] == expected
    assert {item.label for item in items} <= {1}
    left_out = f"train: {2 - len(items)} face(s) of fakes left out, as others are marked there"
    assert caplog.messages == [left_out] * (len(items) < 2)


def test_both_faces_of_a_real_video_are_real() -> None:
    assert [item.label for item in clip_items([two_people(0, None)], "train")] == [0, 0]


@pytest.mark.parametrize(
    ("part_s", "starts_s"),
    [
        (None, (0.0, 1.4, 2.8)),  # 4 s hold a clip of 1.2 s from 0 to 2.8
        ((1.0, 3.0), (1.0, 1.4, 1.8)),
        ((1.0, 1.5), (1.0, 1.0, 1.0)),  # shorter than a clip, which goes on beyond it
        ((3.5, 4.0), (2.8, 2.8, 2.8)),  # or begins before it, where the track ends
    ],
)
def test_a_clip_lies_where_its_face_is_forged(
    part_s: tuple[float, float] | None, starts_s: tuple[float, ...]
) -> None:
    item = ClipItem(Path("a.mp4"), ticks(41), 1, "v", part_s=part_s)
    found = [item.start_s(XS.span_s, share) for share in (0.0, 0.5, 1.0)]
    assert found == pytest.approx(starts_s)


# ---------------------------------------------------------------- frames that are different


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
    counting = CountingReader(clips.read_frames)
    monkeypatch.setattr(clips, "read_frames", counting)
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
    assert clip_CTHW.dtype == torch.float32
    # (1 - 0.45) / 0.225, (0.2 - 0.45) / 0.225, -0.45 / 0.225
    red, green, blue = (clip_CTHW[channel, 2] for channel in range(3))
    torch.testing.assert_close(red, torch.full((64, 64), 22 / 9))
    torch.testing.assert_close(green, torch.full((64, 64), -10 / 9))
    torch.testing.assert_close(blue, torch.full((64, 64), -2.0))
    torch.testing.assert_close(clip_CTHW[:, [0, 1, 3, 4]], torch.full((3, 4, 64, 64), -2.0))


def test_input_keeps_rows_and_columns_apart() -> None:
    frames_THWC = np.zeros((1, 64, 64, 3), np.uint8)
    frames_THWC[0, 3, 50] = 255
    assert torch.nonzero(to_input(frames_THWC, 64)[0, 0] > 0).tolist() == [[3, 50]]


def test_a_shrunk_clip_holds_the_means_of_what_it_covers() -> None:
    block = np.array([[0, 100, 50], [200, 60, 255], [5, 90, 50]], np.uint8)  # mean 90
    frames_THWC = np.repeat(np.tile(block, (64, 64))[None, ..., None], 3, axis=3)
    clip_CTHW = to_input(frames_THWC, 64)
    torch.testing.assert_close(clip_CTHW, torch.full((3, 1, 64, 64), scaled(90)))


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
    torch.testing.assert_close(to_input(frames_THWC, 64), expected_CTHW, atol=level, rtol=0)


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
    clip_CTHW = to_input(frames_THWC, 64, brightness=0.5)
    expected_T = (torch.tensor(levels) / 255 * factor - MEAN) / DEVIATION
    torch.testing.assert_close(clip_CTHW, expected_T[None, :, None, None].expand(3, 2, 64, 64))


def test_a_clip_in_the_dark_is_the_same_input_but_for_rounding() -> None:
    frames_THWC = np.random.default_rng(0).integers(40, 250, (3, 64, 64, 3), dtype=np.uint8)
    dark_THWC = np.round(frames_THWC * 0.6).astype(np.uint8)
    own = float(frames_THWC.mean()) / 255
    bright, dark = (to_input(frames, 64, brightness=own) for frames in (frames_THWC, dark_THWC))
    torch.testing.assert_close(bright, to_input(frames_THWC, 64), atol=0, rtol=0)
    largest = 1.1 * 0.5 / 255 / 0.6 / DEVIATION  # half a level of the dark clip, made brighter
    torch.testing.assert_close(dark, bright, atol=largest, rtol=0)
    assert (to_input(dark_THWC, 64) - to_input(frames_THWC, 64)).abs().max() > 10 * largest


# ---------------------------------------------------------------- augmentation


def noise(frames: int, side: int = 64, *, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3), dtype=np.uint8)


def changed(frames_THWC: Picture, settings: Augment, seed: int) -> Picture:
    return augment(frames_THWC, settings, np.random.default_rng(seed))


def only(**given: float) -> Augment:
    return NOTHING.model_copy(update=given)


SINGLE: list[dict[str, float]] = [
    {"flip": 1.0}, {"colour": 1.0}, {"compress": 1.0}, {"blur": 1.0}, {"resize": 1.0},
    {"shift_ratio": 0.3},
]  # fmt: skip
ALL_SETTINGS = [NOTHING, EVERYTHING, *(only(**given) for given in SINGLE)]
NAMES = ["nothing", "everything", *(next(iter(given)) for given in SINGLE)]


def test_without_a_chance_of_anything_a_clip_stays_as_it_is() -> None:
    frames_THWC = noise(4)
    for seed in range(5):
        assert np.array_equal(changed(frames_THWC, NOTHING, seed), frames_THWC)


def test_a_sure_flip_mirrors_every_frame() -> None:
    frames_THWC = noise(4)
    for seed in range(5):
        assert np.array_equal(changed(frames_THWC, only(flip=1.0), seed), frames_THWC[:, :, ::-1])


def test_half_of_the_clips_are_flipped_at_a_half() -> None:
    frames_THWC = noise(1, 8)
    flips = 0
    for seed in range(400):
        result = changed(frames_THWC, only(flip=0.5), seed)
        flips += not np.array_equal(result, frames_THWC)
    assert 150 < flips < 250  # five standard deviations


@pytest.mark.parametrize("settings", ALL_SETTINGS, ids=NAMES)
@pytest.mark.parametrize("side", [64, 63])
def test_frames_that_were_equal_stay_equal_and_keep_type_and_shape(
    settings: Augment, side: int
) -> None:
    frames_THWC = np.repeat(noise(1, side), 5, axis=0)
    before = frames_THWC.copy()
    for seed in range(8):
        result = changed(frames_THWC, settings, seed)
        assert result.shape == frames_THWC.shape
        assert result.dtype == np.uint8
        assert (result == result[:1]).all()
        assert np.array_equal(frames_THWC, before)  # not changed in place


@pytest.mark.parametrize("settings", ALL_SETTINGS[1:], ids=NAMES[1:])
def test_the_generator_alone_decides(settings: Augment) -> None:
    frames_THWC = noise(2)
    first = changed(frames_THWC, settings, 7)
    assert np.array_equal(changed(frames_THWC, settings, 7), first)
    if settings.flip != 1.0 or settings is EVERYTHING:  # a sure flip has nothing to draw
        assert any(not np.array_equal(changed(frames_THWC, settings, s), first) for s in range(5))


@pytest.mark.parametrize("settings", ALL_SETTINGS[1:], ids=NAMES[1:])
def test_a_change_changes_something(settings: Augment) -> None:
    frames_THWC = noise(2)
    for seed in range(3):
        assert not np.array_equal(changed(frames_THWC, settings, seed), frames_THWC)


def test_the_same_draw_reaches_every_frame() -> None:
    frames_THWC = noise(3)
    together = changed(frames_THWC, EVERYTHING, 3)
    alone = [changed(frames_THWC[index : index + 1], EVERYTHING, 3)[0] for index in range(3)]
    assert np.array_equal(together, np.stack(alone))


def test_colour_saturates_instead_of_wrapping_round() -> None:
    # Gains are 0.9 to 1.1 times 0.95 to 1.05, and at most 10 levels are added or taken.
    frames_THWC = np.zeros((2, 16, 16, 3), np.uint8)
    frames_THWC[1] = 255
    for seed in range(100):
        black, white = changed(frames_THWC, only(colour=1.0), seed)
        assert black.max() <= 10
        assert white.min() >= 255 * 0.9 * 0.95 - 10.5


def test_colour_is_a_rising_curve_of_each_channel() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    curves = changed(np.repeat(levels, 3, axis=3), only(colour=1.0), 1)[0].reshape(256, 3)
    assert (np.diff(curves.astype(int), axis=0) >= 0).all()
    assert len({tuple(curve) for curve in curves.T}) == 3


@pytest.mark.parametrize("name", ["compress", "blur", "resize", "shift_ratio"])
def test_loss_of_detail_keeps_a_flat_colour(name: str) -> None:
    frames_THWC = np.full((1, 64, 64, 3), (200, 120, 40), np.uint8)
    for seed in range(10):
        result = changed(frames_THWC, only(**{name: 0.4 if name == "shift_ratio" else 1.0}), seed)
        assert np.abs(result.astype(int) - frames_THWC).max() <= 4  # JPEG's colours are rounded


@pytest.mark.parametrize("name", ["blur", "resize"])
def test_blur_and_resize_take_detail_away(name: str) -> None:
    frames_THWC = noise(1)
    for seed in range(10):
        assert changed(frames_THWC, only(**{name: 1.0}), seed).std() < 0.95 * frames_THWC.std()


def test_a_shift_cuts_a_square_of_at_least_the_asked_share() -> None:
    side, ratio = 200, 0.25
    frames_THWC = np.zeros((1, side, side, 3), np.uint8)
    frames_THWC[..., 0] = np.arange(side)  # red says the column, green the row
    frames_THWC[..., 1] = np.arange(side)[:, None]
    places = set()
    for seed in range(50):
        result = changed(frames_THWC, only(shift_ratio=ratio), seed)[0].astype(int)
        left, right = result[0, 0, 0], result[0, -1, 0]
        top, bottom = result[0, 0, 1], result[-1, 0, 1]
        assert abs((right - left) - (bottom - top)) <= 1
        assert (1 - ratio) * side - 2 <= right - left <= side - 1
        assert 0 <= left < right < side
        assert 0 <= top < bottom < side
        places.add((left, top))
    assert any(left < top for left, top in places)
    assert any(left > top for left, top in places)


# ---------------------------------------------------------------- the data set


@pytest.fixture
def items(crop: Path) -> list[ClipItem]:
    times_T = ticks(60, first_s=2.0)
    return [ClipItem(crop, times_T, 1, "fake"), ClipItem(crop, times_T, 0, "real")]


def spelt(clip_CTHW: torch.Tensor, read_index: ReadIndex) -> list[int]:
    frames_THWC = (clip_CTHW * DEVIATION + MEAN).mul(255).permute(1, 2, 3, 0).numpy()
    return [read_index(frame) for frame in frames_THWC]


def test_validation_takes_each_middle_clip_in_every_epoch(
    items: list[ClipItem], read_index: ReadIndex
) -> None:
    dataset = ClipDataset(items, XS, augment=None, seed=1)
    assert len(dataset) == 2
    # 5.9 s less 1.2 s: half of the spare 4.7 s is 2.35 s, which 2.3 is no further from than 2.4.
    for epoch in (0, 3):
        for index, label in ((0, 1.0), (1, 0.0)):
            clip_CTHW, found = dataset[epoch, index]
            assert clip_CTHW.shape == (3, 4, 64, 64)
            assert spelt(clip_CTHW, read_index) == [23, 27, 31, 35]
            assert found == label


def test_an_item_depends_on_seed_epoch_and_index_alone(items: list[ClipItem]) -> None:
    dataset = ClipDataset(items, XS, augment=EVERYTHING, seed=1)
    first, _ = dataset[2, 1]
    dataset[0, 0], dataset[5, 1]
    assert torch.equal(dataset[2, 1][0], first)
    assert torch.equal(ClipDataset(items, XS, augment=EVERYTHING, seed=1)[2, 1][0], first)
    assert not torch.equal(dataset[3, 1][0], first)
    assert not torch.equal(dataset[2, 0][0], first)  # the same file, drawn for another place
    assert not torch.equal(ClipDataset(items, XS, augment=EVERYTHING, seed=2)[2, 1][0], first)


def test_training_clips_start_anywhere_on_the_track(
    items: list[ClipItem], read_index: ReadIndex
) -> None:
    dataset = ClipDataset(items, XS, augment=NOTHING, seed=1)
    starts = []
    for epoch in range(40):
        clip_CTHW, label = dataset[epoch, 0]
        found = spelt(clip_CTHW, read_index)
        assert np.diff(found).tolist() == [4, 4, 4]
        assert label == 1.0
        starts.append(found[0])
    # 48 possible starts: of 40 even draws, the lowest tenth has one with a chance of 98 %.
    assert min(starts) >= 0
    assert max(starts) <= 47
    assert min(starts) < 5
    assert max(starts) > 42
    assert len(set(starts)) > 20


def test_augmentation_reaches_the_clip(items: list[ClipItem]) -> None:
    short = ClipItem(items[0].crop, ticks(13), 1, "fake")  # one clip fits, so no time is drawn
    plain, _ = ClipDataset([short], XS, augment=None, seed=1)[0, 0]
    mirrored, _ = ClipDataset([short], XS, augment=only(flip=1.0), seed=1)[0, 0]
    assert torch.equal(mirrored, plain.flip(3))
    assert not torch.equal(mirrored, plain)


def test_a_clip_is_resized_to_its_geometry(items: list[ClipItem], read_index: ReadIndex) -> None:
    for side_px in (32, 96):
        clip_CTHW, _ = ClipDataset(items, Geometry(4, 0.4, side_px), augment=None, seed=1)[0, 0]
        assert clip_CTHW.shape == (3, 4, side_px, side_px)
        assert spelt(clip_CTHW, read_index) == [23, 27, 31, 35]


def test_red_in_the_file_is_red_for_the_net(tmp_path: Path, make_video: MakeVideo) -> None:
    def paint_red(_: int, size: tuple[int, int]) -> Picture:
        return np.full((size[1], size[0], 3), (220, 30, 30), np.uint8)

    path = make_video(tmp_path / "red.mp4", frames=3, rate_fps=10, size=(64, 64), paint=paint_red)
    dataset = ClipDataset([ClipItem(path, ticks(3), 0, "red")], XS, augment=None, seed=1)
    channels = dataset[0, 0][0].mean(dim=(1, 2, 3)).tolist()
    assert channels == pytest.approx([scaled(220), scaled(30), scaled(30)], abs=0.1)


def test_batches_are_the_same_with_and_without_a_worker_process(items: list[ClipItem]) -> None:
    dataset = ClipDataset(items, XS, augment=EVERYTHING, seed=1)

    def batches(workers: int) -> list[Any]:
        sampler = EpochSampler(2, shuffle_seed=1)
        sampler.set_epoch(4)
        return list(DataLoader(dataset, 1, sampler=sampler, num_workers=workers))

    for (clip, label), (other_clip, other_label) in zip(batches(0), batches(1), strict=True):
        assert torch.equal(clip, other_clip)
        assert torch.equal(label, other_label)


# ---------------------------------------------------------------- self-blending


STILL = Path(__file__).parents[2] / "data/sources/stills/001_neutral.jpg"
# Of the still; measured once by MTCNN, as in test_blend.py.
STILL_POINTS_52 = np.array(
    [[196.5, 222.5], [310.5, 217.0], [250.5, 277.5], [207.5, 333.5], [303.5, 329.5]]
)
STEP_PX = 3  # by which the still moves to the right in each frame, ten a second


@pytest.fixture(scope="module")
def moving_face(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> ClipItem:
    """A still that crosses the frame at half its size, cropped by the cropper itself."""
    folder = tmp_path_factory.mktemp("face")
    still_HWC = cv2.imread(str(STILL), cv2.IMREAD_COLOR_RGB)
    still_HWC = cv2.resize(still_HWC, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    height, width = (side - side % 2 for side in still_HWC.shape[:2])

    def paint(index: int, size: tuple[int, int]) -> Picture:
        frame_HWC = np.full((size[1], size[0], 3), 90, np.uint8)
        left = STEP_PX * index
        frame_HWC[:, left : left + width] = still_HWC[:height, :width]
        return frame_HWC

    path = make_video(
        folder / "v.mp4", frames=15, rate_fps=10, size=(width + 60, height), paint=paint
    )
    settings = params.load().faces
    found = cropper.crop_video(path, "v", folder, settings, Detector(settings.detect), key="")
    (track,) = found.tracks
    return ClipItem(
        folder / track.file, track.times_T, 0, "v", track.boxes_T4, track.points_T52, 1.0
    )


def in_crop(item: ClipItem, index: int) -> Picture:
    """Return where the still's points are in a frame of the crop file, of 256 x 256 px."""
    left, top, right, _ = item.boxes_T4[index]
    points_52 = STILL_POINTS_52 / 2 + (STEP_PX * index, 0)
    return (points_52 - (left, top)) * 256 / (right - left)


def test_points_follow_a_moving_face(moving_face: ClipItem) -> None:
    moved_T52 = np.array([(STEP_PX * index, 0) for index in range(15)])[:, None]
    away_T52 = np.array(moving_face.points_T52) - moved_T52 - STILL_POINTS_52 / 2
    wavering_T52 = away_T52 - away_T52.mean(axis=0)
    assert np.abs(wavering_T52).max() < 2.5
    assert np.abs(wavering_T52).mean() < 0.7
    # MTCNN now sees a smaller picture, and takes the mouth's corners to be elsewhere.
    assert np.abs(away_T52.mean(axis=(0, 1))).max() < 2


@pytest.mark.parametrize("seed", range(4))
def test_a_forgery_lies_on_the_face_and_leaves_the_rest_alone(
    moving_face: ClipItem, seed: int
) -> None:
    indices = [0, 4, 8, 12]
    (real_THWC,) = read_clips(moving_face.crop, moving_face.times_T, [0.0], XS)
    forged_THWC = forge_clip(real_THWC, moving_face, indices, np.random.default_rng(seed))
    rows, columns = np.mgrid[:256, :256]
    for index, real_HWC, forged_HWC in zip(indices, real_THWC, forged_THWC, strict=True):
        points_52 = in_crop(moving_face, index)
        centre_xy, eyes_px = points_52.mean(axis=0), points_52[1, 0] - points_52[0, 0]
        # In face units the outline reaches 1.03 to the sides and 1.26 down; it is deformed by
        # a tenth or so, and feathered.
        x, y = (columns - centre_xy[0]) / eyes_px, (rows - centre_xy[1]) / eyes_px
        outside_HW = (np.abs(x) > 1.5) | (np.abs(y) > 1.7)
        inside_HW = (np.abs(x) < 0.4) & (np.abs(y) < 0.5)
        changed_HW = (real_HWC != forged_HWC).any(axis=2)
        assert outside_HW.mean() > 0.1
        assert not changed_HW[outside_HW].any()
        assert changed_HW[inside_HW].mean() > 0.8
        assert abs(x[changed_HW].mean()) < 0.15


def test_a_frame_that_is_held_does_not_tremble(moving_face: ClipItem) -> None:
    (real_THWC,) = read_clips(moving_face.crop, moving_face.times_T[:5], [0.0], XS)
    forged_THWC = forge_clip(real_THWC, moving_face, [0, 4, 4, 4], np.random.default_rng(1))
    assert (forged_THWC[1:] == forged_THWC[1]).all()
    assert (forged_THWC[1] != real_THWC[1]).any()


def test_a_sure_forgery_is_a_fake_and_alike_in_every_validation(moving_face: ClipItem) -> None:
    real, label = ClipDataset([replace(moving_face, self_blend=0.0)], XS, augment=None, seed=1)[
        0, 0
    ]
    twins = ClipDataset([moving_face], XS, augment=None, seed=1)
    forged, forged_label = twins[0, 0]
    assert (label, forged_label) == (0.0, 1.0)
    assert not torch.equal(forged, real)
    assert torch.equal(twins[5, 0][0], forged)


@pytest.fixture
def drawn(crop: Path) -> Callable[..., Sequence[ClipItem]]:
    """Return a function that gives a real track that is forged with a chance, and a fake one."""
    points_52 = tuple((x, y) for x, y in (30 + 16 * FIVE_POINTS_52).tolist())

    def items_at(chance: float, *, frames: int = 60) -> Sequence[ClipItem]:
        boxes_T4, points_T52 = ((0.0, 0.0, 64.0, 64.0),) * frames, (points_52,) * frames
        real = ClipItem(crop, ticks(frames), 0, "real", boxes_T4, points_T52, chance)
        return [real, ClipItem(crop, ticks(frames), 1, "fake")]

    return items_at


def test_without_self_blending_nothing_else_is_drawn(
    drawn: Callable[..., Sequence[ClipItem]],
) -> None:
    dataset = ClipDataset(drawn(0.0), XS, augment=EVERYTHING, seed=1)
    for epoch in range(5):
        rng = np.random.default_rng([1, epoch, 0])
        start_s = (5.9 - XS.span_s) * rng.random()
        (frames_THWC,) = read_clips(dataset.items[0].crop, ticks(60), [start_s], XS)
        expected = to_input(augment(frames_THWC, EVERYTHING, rng), 64)
        clip_CTHW, label = dataset[epoch, 0]
        assert torch.equal(clip_CTHW, expected)
        assert label == 0.0


def test_the_share_is_kept_and_clips_that_are_not_forged_stay_as_they_are(
    drawn: Callable[..., Sequence[ClipItem]],
) -> None:
    plain = ClipDataset(drawn(0.0, frames=13), XS, augment=EVERYTHING, seed=1)
    mixed = ClipDataset(drawn(0.3, frames=13), XS, augment=EVERYTHING, seed=1)
    forged = 0
    for epoch in range(120):
        clip_CTHW, label = mixed[epoch, 0]
        assert torch.equal(clip_CTHW, plain[epoch, 0][0]) == (label == 0.0)
        forged += int(label)
    assert 11 <= forged <= 61  # 36, and five standard deviations
    for epoch in range(5):
        assert mixed[epoch, 1][1] == 1.0
        assert torch.equal(mixed[epoch, 1][0], plain[epoch, 1][0])


def test_forgeries_are_the_same_with_and_without_worker_processes(
    drawn: Callable[..., Sequence[ClipItem]],
) -> None:
    items = [drawn(0.5)[0]] * 12

    def batches(workers: int) -> list[Any]:
        dataset = ClipDataset(items, XS, augment=NOTHING, seed=1)
        sampler = EpochSampler(12, shuffle_seed=1)
        return list(DataLoader(dataset, 3, sampler=sampler, num_workers=workers))

    alone, shared = batches(0), batches(2)
    assert 0 < sum(float(labels.sum()) for _, labels in alone) < 12
    for (clip, label), (other_clip, other_label) in zip(alone, shared, strict=True):
        assert torch.equal(clip, other_clip)
        assert torch.equal(label, other_label)


# ---------------------------------------------------------------- the order of items


def draws(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    pairs = list(sampler)
    assert {pair[0] for pair in pairs} <= {epoch}
    return [index for _, index in pairs]


def test_each_epoch_is_another_permutation() -> None:
    sampler = EpochSampler(50, shuffle_seed=3)
    orders = [draws(sampler, epoch) for epoch in range(4)]
    for order in orders:
        assert sorted(order) == list(range(50))
    assert len({tuple(order) for order in orders}) == 4
    assert len(sampler) == 50


def test_an_order_depends_on_seed_and_epoch_alone() -> None:
    order = draws(EpochSampler(50, shuffle_seed=3), 2)
    again = EpochSampler(50, shuffle_seed=3)
    draws(again, 7)
    assert draws(again, 2) == order
    assert draws(EpochSampler(50, shuffle_seed=4), 2) != order


def test_an_epoch_lasts_until_the_next_is_set() -> None:
    sampler = EpochSampler(50, shuffle_seed=3)
    assert list(sampler) == list(sampler) == [(0, index) for index in draws(sampler, 0)]


def test_without_a_seed_items_come_in_order() -> None:
    sampler = EpochSampler(5, shuffle_seed=None)
    assert draws(sampler, 0) == draws(sampler, 9) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shuffle_seed", [None, 3])
def test_ranks_share_out_the_same_order(shuffle_seed: int | None) -> None:
    whole = draws(EpochSampler(12, shuffle_seed=shuffle_seed), 1)
    shares = [
        draws(EpochSampler(12, shuffle_seed=shuffle_seed, rank=rank, ranks=3), 1)
        for rank in range(3)
    ]
    assert [index for step in zip(*shares, strict=True) for index in step] == whole


@pytest.mark.parametrize(("count", "ranks", "each"), [(10, 4, 3), (7, 2, 4), (1, 4, 1), (2, 5, 1)])
def test_ranks_are_padded_to_equal_shares_from_the_start(count: int, ranks: int, each: int) -> None:
    samplers = [
        EpochSampler(count, shuffle_seed=3, rank=rank, ranks=ranks) for rank in range(ranks)
    ]
    shares = [draws(sampler, 0) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(share) for share in shares]
    assert [len(share) for share in shares] == [each] * ranks
    joined = [index for step in zip(*shares, strict=True) for index in step]
    whole = draws(EpochSampler(count, shuffle_seed=3), 0)
    assert joined == (whole * ranks)[: each * ranks]
    both = torch.tensor([[share, [index + 100 for index in share]] for share in shares])
    assert samplers[0].join(both).tolist() == [whole, [index + 100 for index in whole]]
