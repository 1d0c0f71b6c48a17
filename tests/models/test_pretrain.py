"""The starting checkpoint: pairs, their bank, the image net and back, on tiny made material."""

import shutil
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from unmask.models import backbones, pretrain
from unmask.models.pretrain import BANK_PX, MASK_STEP, Bank, BaseFace, ImageX3D
from unmask.params import Detect, Pretrain

STILLS = Path(__file__).parents[2] / "data/sources/stills"
MASK_PX = BANK_PX // MASK_STEP

# What MTCNN finds on 001_neutral.jpg and 005_neutral.jpg, rounded to half a pixel.
FOUND = {
    "001": ((139.0, 86.0, 367.5, 403.5),
            ((196.5, 222.5), (310.5, 217.0), (250.5, 277.5), (207.5, 333.5), (303.5, 329.5))),
    "005": ((135.5, 81.0, 373.0, 392.5),
            ((205.0, 201.0), (310.0, 207.0), (253.5, 261.0), (208.0, 319.0), (293.5, 324.0))),
}  # fmt: skip


def settings(**changes):
    values = {
        "pairs": 8, "pictures": 8 * 12, "side_px": 64, "batch_size": 8, "lr": 2e-3,
        "weight_decay": 0.05, "mask_weight": 4.0, "seed": 1,
    }  # fmt: skip
    return Pretrain(**(values | changes))


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
        pretrain.render_pair(faces, 0.1, np.random.default_rng([1, index])) for index in (5, 5, 6)
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
        (real, fake), mask = pretrain.render_pair(faces, 0.1, np.random.default_rng(seed))
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
        _, mask = pretrain.render_pair(
            base_faces(still=True), 0.1, np.random.default_rng([2, seed])
        )
        rows, columns = np.indices(mask.shape) + 0.5
        centre = np.array([(mask * rows).sum(), (mask * columns).sum()]) / mask.sum()
        assert centre == pytest.approx([MASK_PX / 2] * 2, abs=0.12 * MASK_PX)


@pytest.mark.slow
def test_a_bank_holds_the_pairs_of_its_seed_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "RENDERED_AT_ONCE", 2)
    faces = base_faces(still=True)
    done = pretrain.render_bank(faces, tmp_path, pairs=3, margin_ratio=0.1, seed=7, workers=1)
    assert list(done) == [0, 2]
    crops, masks = np.load(tmp_path / "crops.npy"), np.load(tmp_path / "masks.npy")
    assert (len(crops), len(masks)) == (3, 3)
    for index in range(3):
        crop, mask = pretrain.render_pair(faces, 0.1, np.random.default_rng([7, index]))
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


# ---------------------------------------------------------------- the image net and back


def blobs(count, side_px, seed):
    """Return pictures (N, 3, H, W) of soft coloured blobs."""
    coarse = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (side_px, side_px), mode="bicubic")


@pytest.fixture(scope="module")
def nets():
    """An image net, the clip net that it was inflated to, and the kernels it was cut from."""
    torch.manual_seed(4)
    clip_net = backbones.build("x3d_xs", dropout=0.5)
    # Biases and BatchNorm's statistics are not at rest, and the head is strong enough that the
    # answers differ, as after training.
    with torch.no_grad():
        for value in clip_net.parameters():
            value += 0.3 * torch.randn(value.shape) if value.ndim == 1 else 0
        backbones.blocks(clip_net)[-1].proj.weight *= 100
        for seed in range(8):
            clip_net.train()(blobs(8, 64, seed)[:, :, None].expand(-1, -1, 4, -1, -1))
    before = {name: value.clone() for name, value in clip_net.state_dict().items()}
    image_net = ImageX3D(clip_net).eval()
    inflated = backbones.build("x3d_xs", dropout=0.5)
    inflated.load_state_dict(pretrain.inflate(image_net.net.state_dict(), before))
    return image_net, inflated.eval(), before


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 4, 7])
@pytest.mark.parametrize("side_px", [64, 96])
def test_the_inflated_net_answers_a_standing_clip_as_the_image_net_its_picture(
    nets, frames, side_px
):
    image_net, clip_net, _ = nets
    pictures = blobs(4, side_px, 99)
    logits, mask_logits = image_net(pictures)
    assert mask_logits.shape == (4, side_px // 16, side_px // 16)
    assert logits.std() > 0.05  # it does not answer all alike
    real_fake = clip_net(pictures[:, :, None].expand(-1, -1, frames, -1, -1))
    assert torch.allclose(real_fake[:, 1] - real_fake[:, 0], logits, atol=1e-4)


def test_an_inflated_kernel_stands_in_its_middle_slice(nets):
    image_net, clip_net, before = nets
    deep = 0
    for name, value in clip_net.state_dict().items():
        if value.ndim == 5 and value.shape[2] > 1:
            deep += 1
            middle = value.shape[2] // 2
            assert torch.equal(value[:, :, middle], before[name][:, :, middle])
            assert value[:, :, middle].any()
            assert not value[:, :, :middle].any()
            assert not value[:, :, middle + 1 :].any()
        else:
            assert torch.equal(value, before[name])
    assert deep > 10
    assert not any(isinstance(module, torch.nn.Conv3d) for module in image_net.modules())


# ---------------------------------------------------------------- fitting


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    """A folder with eight pairs; in the fake a square of 64 px is brighter and finely striped."""
    rng = np.random.default_rng(6)
    crops = np.empty((8, 2, BANK_PX, BANK_PX, 3), np.uint8)
    masks = np.zeros((8, MASK_PX, MASK_PX), np.uint8)
    for pair in range(8):
        noise = cv2.GaussianBlur(rng.uniform(0, 255, (BANK_PX, BANK_PX, 3)), (0, 0), 4)
        crops[pair] = np.clip(128 + 4 * (noise - 128), 40, 215)
        top, left = rng.integers(12, 17, 2)
        masks[pair, top : top + 16, left : left + 16] = 255
        rows, columns = (slice(MASK_STEP * at, MASK_STEP * (at + 16)) for at in (top, left))
        crops[pair, 1, rows, columns] += 40
        crops[pair, 1, rows, columns][::2] -= 80
    return save_bank(tmp_path_factory.mktemp("easy"), crops, masks)


def fresh_model(seed):
    torch.manual_seed(seed)
    model = ImageX3D(backbones.build("x3d_xs", dropout=0.5))
    return model.to(memory_format=torch.channels_last)


@pytest.mark.slow
def test_a_tiny_bank_is_overfitted(easy, tmp_path):
    model, bank = fresh_model(1), Bank(easy, side_px=96)
    wanted = settings(side_px=96, batch_size=16, pictures=16 * 24)
    steps = list(pretrain.fit(model, bank, tmp_path / "state.pt", wanted))
    assert [seen for seen, _ in steps] == [16 * (step + 1) for step in range(24)]
    # With the batch's own statistics: BatchNorm's running ones lag behind so few steps.
    frames, labels, masks = bank.batch(np.arange(8), None)
    with torch.no_grad():
        logits, mask_logits = model.train()(frames)
    assert logits[labels == 0].max() < -1
    assert logits[labels == 1].min() > 1
    where = masks[1::2]
    assert mask_logits[1::2][where > 0.9].mean() > 0
    assert mask_logits[1::2][where < 0.1].mean() < -1
    assert mask_logits[::2].mean() < -1


def test_every_picture_of_a_bank_is_scored_as_it_is_alone(easy):
    model, bank = fresh_model(3), Bank(easy, side_px=64)
    labels, logits = pretrain.score_bank(model, bank)
    assert labels.tolist() == [0, 1] * 8
    assert not model.training
    for pair in (0, 7):
        frames, _, _ = bank.batch(np.array([pair]), None)
        with torch.no_grad():
            alone = model(frames)[0].numpy()
        assert logits[2 * pair : 2 * pair + 2] == pytest.approx(alone, abs=1e-4)


def test_an_interrupted_run_ends_with_the_same_weights(easy, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 32)  # every fourth step
    bank, wanted = Bank(easy, side_px=64), settings()
    whole, resumed = fresh_model(1), fresh_model(1)
    seen = [seen for seen, _ in pretrain.fit(whole, bank, tmp_path / "whole.pt", wanted)]
    assert seen == [8 * (step + 1) for step in range(12)]

    state = tmp_path / "state.pt"
    broken_off = pretrain.fit(resumed, bank, state, wanted)
    list(islice(broken_off, 6))
    broken_off.close()
    resumed = fresh_model(2)  # what it starts from does not matter now
    seen = [seen for seen, _ in pretrain.fit(resumed, bank, state, wanted)]
    assert seen == [8 * (step + 1) for step in range(4, 12)]

    one, other = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert list(pretrain.fit(resumed, bank, state, wanted)) == []


# ---------------------------------------------------------------- the whole of it


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


def test_the_faces_of_a_split_are_collected(sources):
    faces = pretrain.collect_faces(sources, "train", DETECT)
    assert [face.person for face in faces] == ["p001", "p005"]
    for face, (box, points) in zip(faces, FOUND.values(), strict=True):
        assert face.still
        assert face.points_52 == pytest.approx(np.array(points), abs=8)  # of 512
        assert face.box_xyxy == pytest.approx(np.array(box), abs=8)


@pytest.mark.slow
def test_the_run_leaves_weights_that_load_and_a_card(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "VALIDATION_PAIRS", 3)
    weights = tmp_path / "weights/x3d_xs.safetensors"
    wanted = settings(pairs=4, pictures=24)
    steps = list(pretrain.run(sources, weights, wanted, DETECT, margin_ratio=0.1, workers=1))
    assert len(steps) == pretrain.count_steps(wanted) == 2 + 3
    assert sorted(path.name for path in weights.parent.iterdir()) == [
        "x3d_xs.md", "x3d_xs.safetensors",
    ]  # fmt: skip
    assert weights.stat().st_size <= 10_000_000

    net = backbones.build("x3d_xs", dropout=0.0)
    origin = backbones.load_weights(net, str(weights), "x3d_xs", sha256=None, cache_dir=tmp_path)
    assert origin.head
    kernels = {name: v for name, v in net.state_dict().items() if v.ndim == 5 and v.shape[2] == 3}
    assert kernels
    assert all(not value[:, :, [0, 2]].any() for value in kernels.values())
    with torch.no_grad():
        assert torch.isfinite(net.eval()(torch.zeros(1, 3, 4, 64, 64))).all()

    card = weights.with_suffix(".md").read_text()
    for words in ("4 rendered pairs", "24 pictures of 64 px", "6 single pictures", "CC BY 4.0"):
        assert words in " ".join(card.split())
