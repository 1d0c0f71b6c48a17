"""Clips are read back from crop files whose frames spell their own index."""

import sys
from collections.abc import Callable, Sequence
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
from unmask.faces import cropper
from unmask.faces.detector import Detector
from unmask.forgeries.blend import FIVE_POINTS_52
from unmask.geometry import DEVIATION, MEAN, Geometry
from unmask.models.clip_times import read_clips, to_input
from unmask.models.clips import (
    ClipDataset,
    ClipItem,
    EpochSampler,
    add_twins,
    augment,
    clip_items,
    forge_clip,
)
from unmask.params import Augment
from unmask.records import Chunk, FaceTrack, ForgedPart, VideoFaces, VideoRecord

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


def test_items_hold_arrays_and_what_forges_them_only_where_they_may_be_forged() -> None:
    real, fake = two_people(0, None), two_people(1, None)
    for chunk, chance, forgeable in ((real, 0.0, 0), (real, 0.3, 41), (fake, 0.3, 0)):
        items = clip_items([chunk], "train", self_blend=chance)
        assert [list(item.times_T) for item in items] == [list(ticks(41))] * 2
        assert [sys.getsizeof(item.times_T) < 41 * 8 + 100 for item in items] == [True, True]
        assert [len(item.boxes_T4) for item in items] == [forgeable] * 2
        assert [item.self_blend for item in items] == [chance if forgeable else 0.0] * 2
    assert [tuple(box) for box in clip_items([real], "train", self_blend=1.0)[1].boxes_T4] == (
        [RIGHT] * 41
    )


def test_real_tracks_and_their_twins_for_validation() -> None:
    plain = clip_items([two_people(0, None)], "train")
    found = add_twins(clip_items([two_people(0, None)], "train", self_blend=1.0))
    assert found[:2] == plain
    assert [(item.label, item.self_blend) for item in found[2:]] == [(1, 1.0), (1, 1.0)]
    assert [len(item.boxes_T4) for item in found[2:]] == [41, 41]


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


# ---------------------------------------------------------------- reading


@pytest.fixture(scope="module")
def crop(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> Path:
    """A crop file of 60 frames that spell their index."""
    path = tmp_path_factory.mktemp("crops") / "a.mp4"
    return make_video(path, frames=60, rate_fps=10, size=(64, 64))


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
    levels = [(level / 255 - MEAN) / DEVIATION for level in (220, 30, 30)]
    assert channels == pytest.approx(levels, abs=0.1)


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
        assert np.array_equal(clip_CTHW, expected)
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
