"""A batch that can't fit is refused, with the largest that may."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unmask import params
from unmask.errors import ParamsError
from unmask.models.memory import check_memory, pixel_bytes

SHIPPED = params.load(Path(__file__).parents[2] / "params.yaml")
MIB = 2**20


def sections(
    backbone: str = "x3d_xs", side_px: int = 64, **train: Any
) -> tuple[params.Clips, params.Model, params.Train]:
    return (
        SHIPPED.clips.model_copy(update={"side_px": side_px}),
        SHIPPED.model.model_copy(update={"backbone": backbone}),
        SHIPPED.train.model_copy(update={"batch_size": 100, "unfreeze_top_layers": 2} | train),
    )


def test_a_batch_that_memory_cannot_hold_is_refused() -> None:
    # A clip of 4 frames of 64 px takes 7.0 MiB where two layers learn; in mixed precision half.
    check_memory(*sections(), available_bytes=704 * MIB)
    check_memory(*sections(), available_bytes=352 * MIB, bytes_per_value=2)
    with pytest.raises(
        ParamsError,
        match=r"100 clips of 4 frames .* 2 top layers .* 0\.7 GiB .* Set it to 7 at most",
    ):
        check_memory(*sections(), available_bytes=50 * MIB)
    with pytest.raises(ParamsError, match=r"Set clips\.frames or clips\.side_px"):
        check_memory(*sections(), available_bytes=MIB)


@pytest.mark.parametrize(
    ("tune", "mib", "said"),
    [("head", 110, "training the head on"), ("all", 2032, "all layers"),
     ("layernorm", 1564, "the norms and the head")],
)  # fmt: skip
def test_what_learns_decides(tune: str, mib: int, said: str) -> None:
    """100 clips x 4 x 64 x 64 pixels are 1.5625 MiB a byte of a pixel; X3D: 70, 1300 and 1000."""
    check_memory(*sections(tune=tune), available_bytes=mib * MIB)
    with pytest.raises(ParamsError, match=f"{said}.*, set train.tune to head, or"):
        check_memory(*sections(tune=tune), available_bytes=(mib - 2) * MIB)


def test_a_net_of_timms_is_refused_by_what_a_step_of_it_keeps() -> None:
    given = sections("timm/vit_tiny_patch16_224", tune="all")
    each = pixel_bytes(*given)
    needed = int(100 * 4 * 64 * 64 * each)
    check_memory(*given, available_bytes=needed)
    with pytest.raises(ParamsError, match=r"all layers on them .* Set it to 50 at most"):
        check_memory(*given, available_bytes=needed // 2)
    # Steiner's ViT-S at its own side, a batch of 100 on a laptop of 16 GiB.
    large = sections("timm/vit_small_patch16_384", 384, tune="all")
    with pytest.raises(ParamsError, match=r"100 clips of 4 frames of 384 px"):
        check_memory(*large, available_bytes=16 * 2**30)


def test_a_backbone_of_the_table_needs_no_torch_to_be_checked() -> None:
    code = (
        "import sys; from unmask import params; from unmask.models.memory import pixel_bytes; "
        "p = params.load(); "
        "pixel_bytes(p.clips, p.model, p.train); sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
    assert done.returncode == 0
