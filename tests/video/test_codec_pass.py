"""A codec's pass over a few pictures, in memory."""

import numpy as np
import pytest

from unmask.video.codec_pass import recode_last


def stripes(shift_px=0):
    """Fine vertical stripes over a slope of grey, 64 x 96."""
    columns = np.arange(96) + shift_px
    row = 60 + columns + 30 * (columns // 2 % 2)
    return np.repeat(np.tile(row, (64, 1))[..., None], 3, axis=2).astype(np.uint8)


def error(picture, original):
    return float(np.abs(picture.astype(int) - original).mean())


@pytest.mark.parametrize(("codec", "light", "heavy"), [("h264", 10, 43), ("mpeg4", 2, 25)])
def test_the_last_picture_comes_back_the_worse_the_heavier_the_pass(codec, light, heavy):
    shots = [stripes(2), stripes(1), stripes()]
    good, bad = recode_last(shots, codec, light), recode_last(shots, codec, heavy)
    assert good.shape == (64, 96, 3)
    assert error(good, stripes()) < 4
    assert error(bad, stripes()) > 2 * error(good, stripes())
    assert np.array_equal(recode_last(shots, codec, heavy), bad)


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_it_is_predicted_from_the_pictures_before(codec):
    """Alone the picture would be coded in itself, and come back otherwise."""
    quality = {"h264": 40, "mpeg4": 20}[codec]
    assert not np.array_equal(
        recode_last([stripes(8), stripes()], codec, quality),
        recode_last([stripes()], codec, quality),
    )


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_a_single_picture_keeps_its_colours(codec):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert recode_last([red], codec, 4).mean(axis=(0, 1)) == pytest.approx([200, 0, 0], abs=6)


def test_odd_sides_are_refused():
    with pytest.raises(AssertionError, match="even sides"):
        recode_last([np.zeros((31, 32, 3), np.uint8)], "h264", 30)
