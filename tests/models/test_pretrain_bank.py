"""Rendered pairs of a real face and its forgery, and the batches that are cut from them."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from unmask.models import pretrain_bank
from unmask.models.pretrain_bank import BANK_PX, MASK_STEP, Bank, BaseFace
from unmask.params import Detect

STILLS = Path(__file__).parents[2] / "data/sources/stills"
MASK_PX = BANK_PX // MASK_STEP

# What MTCNN finds on 001_neutral.jpg and 005_neutral.jpg, rounded to half a pixel.
FOUND = {
    "001": ((139.0, 86.0, 367.5, 403.5),
            ((196.5, 222.5), (310.5, 217.0), (250.5, 277.5), (207.5, 333.5), (303.5, 329.5))),
    "005": ((135.5, 81.0, 373.0, 392.5),
            ((205.0, 201.0), (310.0, 207.0), (253.5, 261.0), (208.0, 319.0), (293.5, 324.0))),
}  # fmt: skip

DETECT = Detect(max_side_px=512, min_face_px=30, thresholds=(0.6, 0.7, 0.7), min_score=0.9)
PEOPLE = {"train": ("001", "005"), "validation": ("007", "008"), "test": ("009",)}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    rows = ["file,person,split"]
    for split, people in PEOPLE.items():
        for person in people:
            shutil.copy(STILLS / f"{person}_neutral.jpg", folder)
            rows.append(f"{person}_neutral.jpg,p{person},{split}")
    (folder / "sources.csv").write_text("\n".join(rows) + "\n")
    return folder


def base_faces(*, still):
    """Return two people's faces, as moved stills or as frames of genuine videos."""
    return [
        BaseFace(
            cv2.imread(str(STILLS / f"{person}_neutral.jpg"), cv2.IMREAD_COLOR_RGB),
            np.array(points, np.float32), np.array(box, np.float32), person, still,
        )
        for person, (box, points) in FOUND.items()
    ]  # fmt: skip


# ---------------------------------------------------------------- pairs


@pytest.mark.parametrize("still", [True, False])
def test_a_pair_depends_on_the_generator_alone(still):
    faces = base_faces(still=still)
    first, again, other = (
        pretrain_bank.render_pair(faces, 0.1, np.random.default_rng([1, index]))
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
        (real, fake), mask = pretrain_bank.render_pair(faces, 0.1, np.random.default_rng(seed))
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
            base_faces(still=True), 0.1, np.random.default_rng([2, seed])
        )
        rows, columns = np.indices(mask.shape) + 0.5
        centre = np.array([(mask * rows).sum(), (mask * columns).sum()]) / mask.sum()
        assert centre == pytest.approx([MASK_PX / 2] * 2, abs=0.12 * MASK_PX)


@pytest.mark.slow
def test_a_bank_holds_the_pairs_of_its_seed_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_bank, "RENDERED_AT_ONCE", 2)
    faces = base_faces(still=True)
    done = pretrain_bank.render_bank(faces, tmp_path, pairs=3, margin_ratio=0.1, seed=7, workers=1)
    assert list(done) == [0, 2]
    crops, masks = np.load(tmp_path / "crops.npy"), np.load(tmp_path / "masks.npy")
    assert (len(crops), len(masks)) == (3, 3)
    for index in range(3):
        crop, mask = pretrain_bank.render_pair(faces, 0.1, np.random.default_rng([7, index]))
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


# ---------------------------------------------------------------- where faces come from


def test_the_faces_of_a_split_are_collected(sources):
    faces = pretrain_bank.collect_faces(sources, "train", DETECT)
    assert [face.person for face in faces] == ["p001", "p005"]
    for face, (box, points) in zip(faces, FOUND.values(), strict=True):
        assert face.still
        assert face.points_52 == pytest.approx(np.array(points), abs=8)  # of 512
        assert face.box_xyxy == pytest.approx(np.array(box), abs=8)
