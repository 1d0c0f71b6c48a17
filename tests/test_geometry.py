"""The clips of the published backbones, and what params change about them."""

from typing import get_args

import pytest

from unmask.geometry import GEOMETRIES, Geometry, clip_geometry
from unmask.params import Backbone

# Feichtenhofer, "X3D", CVPR 2020, table 3; PyTorchVideo's hub: frames, sampling rate, side.
PUBLISHED = {
    "x3d_xs": (4, 12, 182), "x3d_s": (13, 6, 182), "x3d_m": (16, 5, 256), "x3d_l": (16, 5, 312),
}  # fmt: skip


def test_the_table_is_the_published_one_and_params_know_every_row() -> None:
    assert tuple(GEOMETRIES) == get_args(Backbone)
    for name, (frames, rate, side_px) in PUBLISHED.items():
        assert GEOMETRIES[name] == Geometry(frames, rate / 30, side_px)
        assert GEOMETRIES[name].span_s == pytest.approx((frames - 1) * rate / 30)


def test_given_values_override_the_nets_own_geometry() -> None:
    def asked(
        frames: int | None = None, interval_s: float | None = None, side_px: int | None = None
    ) -> Geometry:
        return clip_geometry("x3d_m", frames=frames, interval_s=interval_s, side_px=side_px)

    assert asked() == Geometry(16, 5 / 30, 256)
    assert asked(frames=4) == Geometry(4, 5 / 30, 256)
    assert asked(interval_s=0.5) == Geometry(16, 0.5, 256)
    assert asked(side_px=128) == Geometry(16, 5 / 30, 128)
    assert asked(2, 0.1, 96) == Geometry(2, 0.1, 96)
