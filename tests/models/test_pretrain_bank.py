"""Rendered pairs of a real face and its forgery, and the batches that are cut from them."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from unmask.forgeries.blend import forge_frame
from unmask.forgeries.mesh_hulls import POINTS
from unmask.models import pretrain_bank
from unmask.models.pretrain_bank import BANK_PX, MASK_STEP, SHARES, Bank, Shares
from unmask.models.pretrain_faces import BaseFace

STILLS = Path(__file__).parents[2] / "data/sources/stills"
MASK_PX = BANK_PX // MASK_STEP

# What MTCNN finds on 001_neutral.jpg and 005_neutral.jpg, rounded to half a pixel.
FOUND = {
    "001": ((139.0, 86.0, 367.5, 403.5),
            ((196.5, 222.5), (310.5, 217.0), (250.5, 277.5), (207.5, 333.5), (303.5, 329.5))),
    "005": ((135.5, 81.0, 373.0, 392.5),
            ((205.0, 201.0), (310.0, 207.0), (253.5, 261.0), (208.0, 319.0), (293.5, 324.0))),
}  # fmt: skip

PLAIN = Shares(dark=0, coded=0, hulls=0)


def base_faces(*, still, **facts):
    """Return two people's faces, as moved stills or as frames of genuine videos."""
    return [
        BaseFace(
            cv2.imread(str(STILLS / f"{person}_neutral.jpg"), cv2.IMREAD_COLOR_RGB),
            np.array(points, np.float32), np.array(box, np.float32), person, still, **facts,
        )
        for person, (box, points) in FOUND.items()
    ]  # fmt: skip


# ---------------------------------------------------------------- pairs


@pytest.mark.parametrize("still", [True, False])
def test_a_pair_depends_on_the_generator_alone(still):
    faces = base_faces(still=still)
    first, again, other = (
        pretrain_bank.render_pair(faces, 0.1, np.random.default_rng([1, index]), SHARES)
        for index in (5, 5, 6)
    )
    assert first[0].shape == (2, BANK_PX, BANK_PX, 3)
    assert first[1].shape == (MASK_PX, MASK_PX)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


# A still's two pictures have noise of their own; a genuine video's share every pixel.
@pytest.mark.parametrize(("still", "noise_levels"), [(True, 4), (False, 0.05)])
def test_the_two_of_a_pair_differ_only_where_the_mask_says(still, noise_levels):
    faces = base_faces(still=still)
    for seed in range(12):
        (real, fake), mask = pretrain_bank.render_pair(
            faces, 0.1, np.random.default_rng(seed), PLAIN
        )
        fine = cv2.resize(mask, (BANK_PX, BANK_PX), interpolation=cv2.INTER_NEAREST)
        # JPEG carries a change through its block of 16 x 16.
        outside = cv2.dilate(fine, np.ones((33, 33))) == 0
        inside = fine > 0.5
        assert 0.1 < inside.mean() < 0.9
        assert outside.mean() > 0.02
        off = np.abs(real.astype(int) - fake)
        assert off[outside].mean() < noise_levels
        assert off[inside].mean() > 8


def test_a_crop_shows_the_face_in_its_middle():
    for seed in range(8):
        _, mask = pretrain_bank.render_pair(
            base_faces(still=True), 0.1, np.random.default_rng([2, seed]), SHARES
        )
        rows, columns = np.indices(mask.shape) + 0.5
        centre = np.array([(mask * rows).sum(), (mask * columns).sum()]) / mask.sum()
        assert centre == pytest.approx([MASK_PX / 2] * 2, abs=0.15 * MASK_PX)


def pair(faces, seed, **shares):
    wanted = Shares(**({"dark": 0, "coded": 0, "hulls": 0} | shares))
    return pretrain_bank.render_pair(faces, 0.1, np.random.default_rng(seed), wanted)


def far_from(mask, px):
    fine = cv2.resize(mask, (BANK_PX, BANK_PX), interpolation=cv2.INTER_NEAREST)
    return cv2.dilate(fine, np.ones((2 * px + 1, 2 * px + 1))) == 0


def test_both_pictures_of_a_dark_pair_have_lost_the_same_light():
    for seed in range(8):
        (bright, _), mask = pair(base_faces(still=False), seed)
        (real, fake), same_mask = pair(base_faces(still=False), seed, dark=1)
        assert np.array_equal(mask, same_mask)
        gain = real.mean() / bright.mean()
        assert 0.28 < gain < 0.92  # drawn from .3 to .9
        outside = far_from(mask, 16)
        assert fake[outside].mean() == pytest.approx(real[outside].mean(), rel=0.01)


def sharpness(picture, where):
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(cv2.Laplacian(grey, cv2.CV_32F)[where].var())


def test_both_pictures_of_a_coded_pair_have_lost_the_same_detail():
    """Frames of videos have no noise of their own: outside the mask the two show the same."""
    lost = []
    for seed in range(8):
        (real, fake), mask = pair(base_faces(still=False), seed, coded=1)
        (clear, _), same_mask = pair(base_faces(still=False), seed)
        assert np.array_equal(mask, same_mask)
        outside = far_from(mask, 24)
        assert sharpness(fake, outside) == pytest.approx(sharpness(real, outside), rel=0.35)
        lost.append(sharpness(real, outside) / sharpness(clear, outside))
    assert np.median(lost) < 0.8


def test_a_mask_follows_the_mesh_where_one_is_known():
    """The mesh is a square of 120 of the still's pixels about the face's centre."""
    faces = [
        replace(face, mesh_P2=square_mesh(face.points_52.mean(axis=0), half_px=60.0))
        for face in base_faces(still=True)
    ]
    for seed in range(6):
        _, hull = pair(faces, seed, hulls=1)
        _, oval = pair(faces, seed)
        assert 0 < (hull > 0.25).sum() < 0.6 * (oval > 0.25).sum()
        _, unknown = pair(base_faces(still=True), seed, hulls=1)
        assert np.array_equal(unknown, pair(base_faces(still=True), seed)[1])


def square_mesh(centre_xy, *, half_px):
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32) * half_px
    return np.resize(corners, (len(POINTS), 2)) + centre_xy.astype(np.float32)


@pytest.mark.parametrize(
    ("portraits", "found"),
    [
        ((False, False), {"itself", "001", "005"}),
        ((True, False), {"itself"}),  # 005 has nobody else who may give a face
        ((True, True), {"itself"}),
    ],
)
def test_a_portrait_is_never_swapped_nor_gives_its_face(portraits, found, monkeypatch):
    """Person 001 is the first of the two, 005 the other: who is pasted onto whom?"""
    faces = [
        replace(face, portrait=portrait)
        for face, portrait in zip(base_faces(still=True), portraits, strict=True)
    ]
    owner = {id(face.picture_HWC): face.person for face in faces}
    donors = []

    def recorded(frame_HWC, points_52, recipe, rng, *, donor):
        donors.append("itself" if donor is None else owner[id(donor[0])])
        return forge_frame(frame_HWC, points_52, recipe, rng, donor=donor)

    monkeypatch.setattr(pretrain_bank, "forge_frame", recorded)
    for seed in range(24):
        pair(faces, seed)
    assert set(donors) == found


@pytest.mark.slow
def test_a_bank_holds_the_pairs_of_its_seed_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_bank, "RENDERED_AT_ONCE", 2)
    faces = base_faces(still=True)
    done = pretrain_bank.render_bank(faces, tmp_path, pairs=3, margin_ratio=0.1, seed=7, workers=1)
    assert list(done) == [0, 2]
    crops, masks = np.load(tmp_path / "crops.npy"), np.load(tmp_path / "masks.npy")
    assert (len(crops), len(masks)) == (3, 3)
    for index in range(3):
        rng = np.random.default_rng([7, index])
        crop, mask = pretrain_bank.render_pair(faces, 0.1, rng, SHARES)
        assert np.array_equal(crops[index], crop)
        assert np.abs(masks[index] / 255 - mask).max() <= 0.5 / 255 + 1e-6


# ---------------------------------------------------------------- the bank


def save_bank(folder, crops, masks):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "crops.npy", crops)
    np.save(folder / "masks.npy", masks)
    return folder


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    """A folder with six pairs whose red is their mask, whose green is 255 in the fake."""
    masks = np.random.default_rng(3).integers(0, 256, (6, MASK_PX, MASK_PX), np.uint8)
    crops = np.zeros((6, 2, BANK_PX, BANK_PX, 3), np.uint8)
    crops[..., 0] = masks.repeat(MASK_STEP, 1).repeat(MASK_STEP, 2)[:, None]
    crops[:, 1, ..., 1] = 255
    return save_bank(tmp_path_factory.mktemp("telling"), crops, masks)


def colours(frames):
    return (frames * 0.225 + 0.45) * 255


@pytest.mark.parametrize("side_px", [64, 160, 176])
def test_a_batch_holds_both_of_each_pair(telling, side_px):
    frames, labels, masks = Bank(telling, side_px=side_px).batch(
        np.array([4, 0, 2]), np.random.default_rng(0)
    )
    assert frames.shape == (6, 3, side_px, side_px)
    assert frames.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert masks.shape == (6, side_px // 16, side_px // 16)
    assert not masks[::2].any()
    green = colours(frames)[:, 1]
    assert torch.allclose(green, (labels * 255)[:, None, None].expand_as(green), atol=1e-3)


def test_the_two_of_a_pair_and_their_mask_are_cut_and_flipped_alike(telling):
    bank, flips, cuts = Bank(telling, side_px=96), set(), set()
    for seed in range(16):
        pairs = np.random.default_rng([0, seed]).permutation(6)[:4]
        frames, _, masks = bank.batch(pairs, np.random.default_rng([1, seed]))
        red = colours(frames)[:, 0]
        assert torch.equal(red[::2], red[1::2])
        means = torch.nn.functional.avg_pool2d(red[1::2, None], 16)[:, 0]
        assert torch.allclose(means / 255, masks[1::2], atol=1e-4)
        for pair, seen in zip(pairs, red[1::2].round().numpy(), strict=True):
            whole = bank.crops[pair, 1, ..., 0]
            places = [
                (top, left, flip)
                for flip in (False, True)
                for top in range(0, BANK_PX - 95, MASK_STEP)
                for left in range(0, BANK_PX - 95, MASK_STEP)
                if np.array_equal(
                    whole[top : top + 96, left : left + 96][:, :: -1 if flip else 1], seen
                )
            ]
            [(top, left, flip)] = places  # a flip is of the width, never of the height
            flips.add(flip)
            cuts.add((top, left))
    assert flips == {False, True}
    assert len(cuts) > 40
    assert {0, 80} <= {place for cut in cuts for place in cut}  # up to both edges


def test_without_a_generator_the_centre_is_taken_unflipped(telling):
    bank = Bank(telling, side_px=160)
    frames, _, _ = bank.batch(np.array([1]), None)
    seen = colours(frames).round().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(seen, bank.crops[1, :, 8:168, 8:168])
