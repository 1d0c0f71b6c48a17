"""Pictures in other sizes, against weights worked out by hand and torch's own bytes."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from unmask.video.scale import Source, resize


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
    assert found[1] == (0 + 3 * 80 + 3 * 160 + 240) / 8


@pytest.mark.parametrize("size", [(48, 48), (24, 24), (256, 256), (200, 5), (7, 331), (3, 2)])
@pytest.mark.parametrize("given", [(360, 640), (181, 77), (24, 48), (5, 900)])
def test_it_has_the_bytes_of_torch(given: tuple[int, int], size: tuple[int, int]) -> None:
    """Noise of black and white has the largest sums, and rounds wherever rounding can go wrong."""
    rng = np.random.default_rng(2)
    for picture in (
        rng.integers(0, 256, (*given, 3), dtype=np.uint8),
        rng.choice(np.array([0, 255], np.uint8), (*given, 3)),
    ):
        found = resize(picture, size)
        assert found.flags.c_contiguous
        assert np.array_equal(found, by_torch(picture, size))


def test_a_picture_is_reduced_to_every_level_of_a_pyramid() -> None:
    picture = np.random.default_rng(4).integers(0, 256, (270, 480, 3), dtype=np.uint8)
    source = Source(picture)
    for size in ((136, 241), (96, 171), (49, 86), (17, 31), (13, 23)):
        assert np.array_equal(source.resize(size), by_torch(picture, size))


def by_torch(picture_HW3: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return what torch makes of bytes on a CPU."""
    pixels_13HW = torch.from_numpy(picture_HW3).permute(2, 0, 1)[None]
    made = torch.nn.functional.interpolate(pixels_13HW, size, mode="bilinear", antialias=True)
    return made[0].permute(1, 2, 0).numpy()


def test_a_part_of_a_picture_is_scaled_as_it_lies() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    part = picture[10:50, 20:60]
    assert np.array_equal(resize(part, (20, 20)), resize(part.copy(), (20, 20)))
