"""The clips of the published backbones, and what params change about them."""

import subprocess
import sys
from typing import get_args

import pytest

from unmask.geometry import (
    GEOMETRIES,
    PRETRAINED,
    Geometry,
    clip_geometry,
    table_pixel_bytes,
    training_bytes,
)
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
    each = table_pixel_bytes(name, "milestones", layers)
    said_mib = training_bytes(each, GEOMETRIES[name], batch_size) / 2**20
    assert 0.25 * measured_mib < said_mib < measured_mib


@pytest.mark.parametrize(
    ("name", "batch_size", "measured_mib"),
    [("x3d_xs", 8, 1101), ("efficientnet_lite0", 4, 1238)],
)
def test_tuning_norms_takes_no_less_memory_than_is_said(
    name: str, batch_size: int, measured_mib: int
) -> None:
    each = table_pixel_bytes(name, "layernorm", 0)
    said_mib = training_bytes(each, GEOMETRIES[name], batch_size) / 2**20
    assert 0.25 * measured_mib < said_mib < measured_mib


def test_memory_grows_with_all_that_is_held() -> None:
    geometry = Geometry(4, 0.4, 100)
    assert training_bytes(1300, geometry, 1) == 4 * 100 * 100 * 1300
    assert training_bytes(1300, geometry, 3) == 3 * training_bytes(1300, geometry, 1)
    assert training_bytes(1300, Geometry(8, 0.4, 200), 1) == 8 * training_bytes(1300, geometry, 1)
    assert training_bytes(1300, geometry, 1, bytes_per_value=2) == 4 * 100 * 100 * 650


@pytest.mark.parametrize("name", GEOMETRIES)
def test_more_that_learns_takes_more_memory(name: str) -> None:
    by_layers = [table_pixel_bytes(name, "milestones", layers) for layers in range(6)]
    assert by_layers == sorted(by_layers)
    assert table_pixel_bytes(name, "head", 5) == by_layers[0]
    assert table_pixel_bytes(name, "all", 0) == by_layers[-1]
    assert by_layers[0] < table_pixel_bytes(name, "layernorm", 0) < by_layers[-1]


def test_a_net_of_timms_gets_the_image_nets_clip_at_its_own_side() -> None:
    def asked(name: str, side_px: int | None) -> Geometry:
        return clip_geometry(name, frames=None, interval_s=None, side_px=side_px)

    assert asked("timm/vit_small_patch16_384", None) == Geometry(4, 12 / 30, 384)
    assert asked("timm/vit_small_patch16_384", 96) == Geometry(4, 12 / 30, 96)
    assert asked("timm/vit_large_patch14_clip_224", None).side_px == 224


def test_a_side_that_is_given_needs_no_timm() -> None:
    code = (
        "import sys; from unmask.geometry import clip_geometry; "
        "clip_geometry('timm/vit_tiny_patch16_224', frames=None, interval_s=None, side_px=224); "
        "sys.exit('timm' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
