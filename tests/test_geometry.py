"""The clips of the published backbones, and what params change about them."""

from typing import get_args

import pytest

from unmask.geometry import GEOMETRIES, PRETRAINED, Geometry, clip_geometry, training_bytes
from unmask.params import Backbone

# Feichtenhofer, "X3D", CVPR 2020, table 3; PyTorchVideo's hub: frames, sampling rate, side.
PUBLISHED = {
    "x3d_xs": (4, 12, 182), "x3d_s": (13, 6, 182), "x3d_m": (16, 5, 256), "x3d_l": (16, 5, 312),
}  # fmt: skip


def test_the_table_is_the_published_one_and_params_know_every_row() -> None:
    assert tuple(GEOMETRIES) == tuple(PRETRAINED) == get_args(Backbone)
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


# The peak of a training step's resident memory over what was there before, in MiB.
@pytest.mark.parametrize(
    ("name", "batch_size", "layers", "measured_mib"),
    [
        ("x3d_xs", 8, 0, 246), ("x3d_xs", 8, 1, 349), ("x3d_xs", 8, 2, 654),
        ("x3d_xs", 8, 3, 1020), ("x3d_xs", 8, 4, 1444), ("x3d_xs", 8, 5, 1445),
        ("x3d_m", 2, 2, 1072), ("x3d_m", 2, 5, 2779),
        ("efficientnet_lite0", 8, 0, 548), ("efficientnet_lite0", 8, 1, 638),
    ],
)  # fmt: skip
def test_training_takes_no_less_memory_than_is_said(
    name: str, batch_size: int, layers: int, measured_mib: int
) -> None:
    said_mib = training_bytes(name, GEOMETRIES[name], batch_size, layers) / 2**20
    assert 0.25 * measured_mib < said_mib < measured_mib


def test_memory_grows_with_all_that_is_held() -> None:
    geometry = Geometry(4, 0.4, 100)
    assert training_bytes("x3d_m", geometry, 1, 5) == 4 * 100 * 100 * 1300
    assert training_bytes("x3d_m", geometry, 3, 5) == 3 * training_bytes("x3d_m", geometry, 1, 5)
    assert training_bytes("x3d_m", Geometry(8, 0.4, 200), 1, 5) == 8 * training_bytes(
        "x3d_m", geometry, 1, 5
    )
    assert training_bytes("x3d_m", geometry, 1, 5, bytes_per_value=2) == 4 * 100 * 100 * 650
    by_layers = [training_bytes("x3d_m", geometry, 1, layers) for layers in range(6)]
    assert by_layers == sorted(by_layers)
