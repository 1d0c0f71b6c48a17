"""The memory of a laid-out step, against what a real step keeps and what a process took."""

from pathlib import Path

import pytest
import torch
from adopted import adopt_made_up, described

from tests.models.test_memory import sections
from unmask.errors import ParamsError
from unmask.geometry import Geometry, training_bytes
from unmask.models.adopt.record import Architecture
from unmask.models.fake_step import timm_pixel_bytes
from unmask.models.frame_net import FrameNet, timm_row
from unmask.models.memory import check_memory
from unmask.models.tuning import freeze_but, head_parameters, keep_statistics

SIDE_PX = 64


def really_kept_bytes(
    name: str, tune: str, layers: int, published: Architecture | None = None
) -> int:
    """Return what autograd keeps when a net of random weights sees one frame."""
    row = timm_row(name, side_px=SIDE_PX, colours=None, published=published)
    net = FrameNet(row, dropout=0.5).train()
    keep_statistics(net)
    if tune == "milestones":
        net.requires_grad_(False)
        top = [p for layer in net.layers()[-layers:] for m in layer for p in m.parameters()]
        for parameter in (*head_parameters(net), *top):
            parameter.requires_grad_(True)
    else:
        freeze_but(net, tune)
    own = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers())}
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(torch.randn(1, 3, 1, SIDE_PX, SIDE_PX)).sum()
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return sum(size for place, size in storages.items() if place not in own)


@pytest.mark.parametrize(
    ("name", "tune", "layers"),
    [
        ("timm/vit_tiny_patch16_224", "layernorm", 0),
        ("timm/vit_tiny_patch16_224", "all", 0),
        ("timm/vit_tiny_patch16_224", "milestones", 3),
        ("timm/tf_efficientnet_lite0", "layernorm", 0),
        ("timm/resnet18", "milestones", 4),
    ],
)
def test_it_is_what_a_real_step_keeps(name: str, tune: str, layers: int) -> None:
    given = sections(name, SIDE_PX, tune=tune, unfreeze_top_layers=layers)
    said = timm_pixel_bytes(*given) * SIDE_PX**2
    assert said == pytest.approx(really_kept_bytes(name, tune, layers), rel=0.02)


def test_a_net_that_others_built_with_smaller_patches_keeps_what_theirs_does(
    tmp_path: Path,
) -> None:
    """Patches of 8 px instead of 16 are four times as many, and so is what all layers keep."""
    theirs = described(options={"patch_size": 8})
    folder = adopt_made_up(tmp_path / "there", theirs)
    name = "timm/vit_tiny_patch16_224"
    clips, model, train = sections(name, SIDE_PX, tune="all")
    usual = timm_pixel_bytes(clips, model, train)
    for weights in (folder, folder / "weights.safetensors"):
        start = model.model_copy(update={"weights": str(weights)})
        said = timm_pixel_bytes(clips, start, train)
        expected = really_kept_bytes(name, "all", 0, theirs) / SIDE_PX**2
        assert said == pytest.approx(expected, rel=0.02)
        assert said > 3.5 * usual
        with pytest.raises(ParamsError, match=r"100 clips .* all layers"):
            check_memory(
                clips, start, train,
                available_bytes=int(2 * 100 * clips.geometry(name).frames * SIDE_PX**2 * usual),
            )  # fmt: skip
    # The training tells that these are another net's, or not there.
    for weights in (str(folder), str(tmp_path / "none.safetensors")):
        other = sections("timm/vit_small_patch16_224", SIDE_PX, tune="all")
        start = other[1].model_copy(update={"weights": weights})
        assert timm_pixel_bytes(other[0], start, other[2]) == timm_pixel_bytes(*other)


def test_where_the_head_alone_learns_it_is_a_layers_input_and_output() -> None:
    # The second linear layer of a block takes 16 patches and the class of 4 x 192 numbers and
    # gives 192 of each: 17 x 960 x 4 bytes. The first part, 3 x 64 x 64 x 4, has 12 a pixel.
    said = timm_pixel_bytes(*sections("timm/vit_tiny_patch16_224", SIDE_PX, tune="head"))
    frame, patches = 3 * SIDE_PX**2 * 4, 16 * 192 * 4
    mlp = 17 * (192 + 4 * 192) * 4
    act = 17 * 2 * 4 * 192 * 4
    assert said * SIDE_PX**2 == max(frame + patches, mlp, act)


# The peak of a training step's resident memory over what was there before, in MiB: batches of 8
# clips of 4 frames, on a CPU, with an allocator that gives back at once what is freed.
@pytest.mark.parametrize(
    ("tune", "layers", "measured_mib"),
    [("head", 0, 111), ("milestones", 2, 217), ("layernorm", 0, 639), ("all", 0, 953)],
)
def test_a_step_takes_no_less_memory_than_is_said(
    tune: str, layers: int, measured_mib: int
) -> None:
    given = sections("timm/vit_tiny_patch16_224", 224, tune=tune, unfreeze_top_layers=layers)
    said_mib = training_bytes(timm_pixel_bytes(*given), Geometry(4, 0.4, 224), 8) / 2**20
    assert 0.3 * measured_mib < said_mib < measured_mib
