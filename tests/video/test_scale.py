"""Pictures in other sizes, against weights worked out by hand and torch's own antialiasing."""

import numpy as np
import pytest
import torch

from unmask.video.scale import resize


def test_colours_stay_apart_and_flat_ones_stay_as_they_are() -> None:
    picture = np.empty((90, 120, 3), np.uint8)
    picture[...] = (250, 3, 128)
    for size in ((45, 60), (180, 240), (31, 7), (90, 120)):
        assert np.array_equal(
            np.unique(resize(picture, size).reshape(-1, 3), axis=0), [[250, 3, 128]]
        )


def test_half_of_a_picture_is_a_triangle_over_four_pixels() -> None:
    """Each pixel of the result lies between two, and weighs four by 1, 3, 3 and 1 eighths."""
    row = np.array([0, 0, 80, 160, 240, 240, 0, 0], np.uint8)
    picture = np.repeat(np.tile(row, (8, 1))[..., None], 3, axis=2)
    found = resize(picture, (4, 4))[2, :, 0]
    assert abs(int(found[1]) - (0 + 3 * 80 + 3 * 160 + 240) / 8) <= 1


@pytest.mark.parametrize("size", [(256, 256), (33, 58), (24, 24), (400, 500)])
def test_it_is_torchs_to_a_few_levels(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = resize(coarse, (300, 420))  # smooth, as faces are
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    found = resize(picture, size)
    assert found.flags.c_contiguous
    away = np.abs(found - theirs[0].permute(1, 2, 0).numpy())
    assert away.mean() < 1
    assert away[2:-2, 2:-2].max() < 4  # at the edges both make up for what is not there


def test_a_part_of_a_picture_is_scaled_as_it_lies() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    part = picture[10:50, 20:60]
    assert np.array_equal(resize(part, (20, 20)), resize(part.copy(), (20, 20)))
