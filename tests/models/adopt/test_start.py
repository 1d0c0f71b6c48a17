"""Trainings that start from weights that others trained: the same net, its head, its terms."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adopted import TINY, adopt_made_up, described
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from tests.models.test_train import SIDE_PX, Notes, make_chunk, run, small_settings
from unmask.cli.main import main
from unmask.errors import WeightsError
from unmask.models import backbones, checkpoint
from unmask.models.adopt.record import Adopted, Architecture, read_origin
from unmask.models.frame_net import FrameNet
from unmask.models.predict import Predictor


def started(model: Path, architecture: Architecture) -> tuple[FrameNet, backbones.WeightsInfo]:
    """Return the net that a training of one frame's clips would begin with."""
    name = f"timm/{architecture.net}"
    found = backbones.find_weights(str(model), name, sha256=None, cache_dir=model)
    assert found is not None
    net = backbones.build(
        name, dropout=0.5, side_px=SIDE_PX, published=found.published,
        unit_features=architecture.on_unit_sphere,
    ).eval()  # fmt: skip
    info = backbones.load_weights(net, str(model), name, sha256=None, cache_dir=model)
    assert isinstance(net, FrameNet)
    return net, info


@pytest.mark.parametrize(
    "architecture",
    [
        described(),
        described(fake=(0,)),  # the head's rows are the other way round
        described(outputs=1, fake=(0,)),
        described(outputs=1, fake=()),  # it speaks for real
        described(on_unit_sphere=True),
        described(options={"act_layer": "quick_gelu", "global_pool": "avg"}),
        described("mobilenetv3_small_050", channels="bgr", mean=(0.1, 0.5, 0.9)),
        described("tf_mobilenetv3_small_minimal_100", padded_for_px=300, stem_padding=False),
    ],
)
def test_a_training_begins_with_the_answers_of_the_adopted_net(
    architecture: Architecture, tmp_path: Path
) -> None:
    model = adopt_made_up(tmp_path / "there", architecture)
    clip = torch.randn(2, 3, 1, SIDE_PX, SIDE_PX, generator=torch.manual_seed(0))
    theirs = checkpoint.load(model)[0]
    ours, info = started(model, architecture)
    assert info.head
    with torch.inference_mode():
        expected = backbones.clip_logits(theirs, clip)
        found = backbones.clip_logits(ours, clip)
    assert abs(float(expected[0] - expected[1])) > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_head_that_no_two_rows_can_say_is_left_out(tmp_path: Path) -> None:
    model = adopt_made_up(tmp_path / "there", described(outputs=3, fake=(0, 2)))
    net, info = started(model, described(outputs=3, fake=(0, 2)))
    assert not info.head
    theirs = load_file(model / "weights.safetensors")
    state = net.state_dict()
    assert torch.equal(state["image.norm.weight"], theirs["image.norm.weight"])
    assert state["image.head.weight"].shape == (2, 192)


def test_the_file_alone_says_what_its_folder_says(tmp_path: Path) -> None:
    model = adopt_made_up(tmp_path / "there", described(channels="bgr"))
    alone = tmp_path / "sent.safetensors"
    alone.write_bytes((model / "weights.safetensors").read_bytes())
    assert read_origin(alone) == checkpoint.read_settings(model).adopted
    assert read_origin(tmp_path / "there/published.safetensors") is None
    damaged = tmp_path / "damaged.safetensors"
    save_file({"a": torch.zeros(1)}, damaged, metadata={"unmask.origin": '{"net": 1}'})
    with pytest.raises(WeightsError, match="in a form that this version does not read") as raised:
        read_origin(damaged)
    assert "source: Field required" in str(raised.value)
    assert str(raised.value).isprintable()  # in one line


@pytest.mark.parametrize(
    ("architecture", "backbone", "said"),
    [
        (described(), "x3d_xs", "Set model.backbone to timm/vit_tiny_patch16_224"),
        (described(), "timm/resnet10t", "Set model.backbone to timm/vit_tiny_patch16_224"),
        (described("ucf"), "timm/legacy_xception", "it can be calibrated and used as it is"),
    ],
)
def test_a_backbone_that_is_another_net_is_named(
    architecture: Architecture, backbone: str, said: str, tmp_path: Path
) -> None:
    model = adopt_made_up(tmp_path / "there", architecture)
    with pytest.raises(WeightsError, match=said):
        backbones.find_weights(str(model), backbone, sha256=None, cache_dir=tmp_path)


@pytest.mark.parametrize("tune", ["layernorm", "head"])
def test_what_was_trained_on_from_adopted_weights_says_so_and_can_be_trained_on(
    tune: str, tmp_path: Path
) -> None:
    architecture = described(fake=(0,), on_unit_sphere=True, mean=(0.1, 0.2, 0.3))
    start = adopt_made_up(tmp_path / "there", architecture)
    small = small_settings(epochs=1)

    def settings(weights: Path):
        model = {"backbone": f"timm/{TINY}", "weights": str(weights)}
        return replace(
            small, model=small.model.model_copy(update=model),
            train=small.train.model_copy(update={"tune": tune}),
        )  # fmt: skip

    chunk = make_chunk(tmp_path / "crops")
    run([chunk], settings(start), tmp_path / "first", Notes())
    trained = checkpoint.read_settings(tmp_path / "first")
    origin = checkpoint.read_settings(start).adopted
    assert (trained.adopted, trained.began_as) == (None, origin)
    assert trained.licence == "CC BY-NC 4.0"
    assert trained.unit_features
    card = " ".join((tmp_path / "first" / checkpoint.CARD).read_text().split())
    assert "which others trained: A detector of ours. That saw: Ten faces." in card
    assert "whose weights are under: CC BY-NC 4.0. Not for commerce." in card
    # What was not to learn is theirs; what is read back is what was trained.
    theirs, ours = (load_file(f / checkpoint.WEIGHTS) for f in (start, tmp_path / "first"))
    frozen = "image.blocks.0.attn.qkv.weight"
    assert torch.equal(theirs[frozen], ours[frozen])
    assert not torch.equal(theirs["image.head.weight"].flip(0), ours["image.head.weight"])
    predictor = Predictor.load(tmp_path / "first")
    assert isinstance(predictor.torch_net, FrameNet)
    assert predictor.torch_net.row.colours.mean == (0.1, 0.2, 0.3)

    run([chunk], settings(tmp_path / "first"), tmp_path / "second", Notes())
    again = checkpoint.read_settings(tmp_path / "second")
    assert isinstance(again.began_as, Adopted)
    assert again.began_as.title == "A detector of ours"


# ---------------------------------------------------------------- X3D of Kinetics


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """Return a file in the form of FAIR's X3D_S.pyth, with random weights, and its net."""
    from pytorchvideo.models.hub import x3d_s

    torch.manual_seed(2)
    net = x3d_s(pretrained=False)
    for name, value in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            value.add_(torch.rand(value.shape) * 0.1)
    path = tmp_path_factory.mktemp("kinetics") / "X3D_S.pyth"
    torch.save({"model_state": net.state_dict()}, path)
    return path, net.eval()


def adopt(*words: str | Path):
    return CliRunner().invoke(main, ["adopt", *map(str, words)])


def test_fairs_x3d_is_a_start_that_answers_nothing(
    kinetics: tuple[Path, torch.nn.Module], tmp_path: Path
) -> None:
    path, theirs = kinetics
    asked = (path, "--adapter", "x3d-s-kinetics", "--as", tmp_path / "x3d")
    assert "its model zoo names no terms" in adopt(*asked).output
    said = adopt(*asked, "--accept-licence")
    assert said.exit_code == 0, said.output
    assert "model.backbone x3d_s," in said.output
    with pytest.raises(WeightsError, match=r"X3D-S of Kinetics-400.* has no head of real and fake"):
        Predictor.load(tmp_path / "x3d")
    assert adopt(*asked, "--accept-licence").exit_code == 0  # it is there already

    # What the body gives to the last layer is what PyTorchVideo's own loading gives.
    net = backbones.build("x3d_s", dropout=0.0).eval()
    info = backbones.load_weights(
        net, str(tmp_path / "x3d"), "x3d_s", sha256=None, cache_dir=tmp_path
    )
    assert not info.head
    clip = torch.randn(1, 3, 13, 160, 160, generator=torch.manual_seed(0))
    given = []
    for each in (theirs, net):
        each.blocks[5].proj.register_forward_pre_hook(lambda _, x: given.append(x[0].flatten(1)))
        with torch.inference_mode():
            each(clip)
    assert float(given[0].std()) > 0
    torch.testing.assert_close(given[1], given[0].reshape(given[1].shape), rtol=1e-4, atol=1e-6)


def test_what_is_no_x3d_of_kinetics_is_told(
    kinetics: tuple[Path, torch.nn.Module], tmp_path: Path
) -> None:
    path, theirs = kinetics
    said = adopt(path, "--adapter", "x3d-l-kinetics", "--accept-licence", "--as", tmp_path / "l")
    assert said.exit_code == 1
    assert "missing (blocks.1.res_blocks.3." in said.output
    state = dict(theirs.state_dict())
    state["blocks.5.proj.bias"] = torch.zeros(2)
    torch.save({"model_state": state}, tmp_path / "X3D_S.pyth")
    said = adopt(tmp_path / "X3D_S.pyth", "--adapter", "x3d-s-kinetics", "--accept-licence")
    assert "found 2 classes" in said.output
    assert not (tmp_path / "adopted").exists()
