"""A model's folder is written, read back, damaged and overwritten."""

import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from unmask.errors import WeightsError
from unmask.geometry import Geometry
from unmask.models import checkpoint
from unmask.models.backbones import build
from unmask.models.checkpoint import SETTINGS, WEIGHTS, Checkpoint
from unmask.params import Clips, Detect, Faces, Model
from unmask.runtime.digests import NET
from unmask.scoring.verdicts import Limits
from unmask.timm_facts import Colours

DETECT = Detect(max_side_px=640, min_face_px=24, thresholds=(0.6, 0.7, 0.75), min_score=0.9)
CARRIED = Checkpoint(
    faces=Faces(
        rate_fps=12.5, side_px=192, margin_ratio=0.1, crf=14, detect=DETECT, detect_every_s=0.3,
        smooth_s=0.0, min_track_s=0.4, max_gap_s=0.7, min_overlap=0.3, max_failed_ratio=0.5,
        stall_s=60.0,
    ),
    clips=Clips(
        frames=5, interval_s=None, side_px=96, brightness=0.4, max_per_track=8, stretch_s=2.5,
        max_padding_ratio=0.5,
    ),
    model=Model(
        backbone="x3d_xs", weights="weights/größe.safetensors", weights_sha256="ab" * 32,
        dropout=0.25,
    ),
    temperature=1.2345678901234567,
    limits=Limits(
        fake_from=0.7813319700143926, real_to=None, min_face_px=40.5, min_track_s=1.2,
        min_sharpness=0.01, max_sharpness=0.3, min_brightness=0.2, max_brightness=0.7,
        max_error_ratio=0.1, reals=16, fakes=8, tracks=132,
        stretches=((2, 0.8), (4, 0.9000000000000001)),
    ),
    run_key="0123abc",
)  # fmt: skip


def make_net(seed: int) -> nn.Module:
    """Return an X3D-XS whose BatchNorms have met noise, as a trained one's have."""
    torch.manual_seed(seed)
    net = build("x3d_xs", dropout=0.25)
    with torch.no_grad():
        net(torch.randn(2, 3, 4, 64, 64))
    return net.eval()


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return make_net(1)


@pytest.fixture(scope="module")
def saved(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model that no test changes."""
    path = tmp_path_factory.mktemp("saved") / "model"
    checkpoint.save(path, net, CARRIED)
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A saved model."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def without_net(found: Checkpoint) -> Checkpoint:
    """Return settings as they were before they were saved beside a portable net."""
    return dataclasses.replace(found, net=None)


def logits(net: nn.Module) -> torch.Tensor:
    clips_BCTHW = torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        result: torch.Tensor = net(clips_BCTHW)
    return result


def replaced(**given: Any) -> Checkpoint:
    return Checkpoint(**{**vars(CARRIED), **given})


# ---------------------------------------------------------------- round trip


def test_a_loaded_net_gives_the_same_logits_bit_for_bit(net: nn.Module, folder: Path) -> None:
    loaded, _ = checkpoint.load(folder)
    assert torch.equal(logits(loaded), logits(net))
    own, found = net.state_dict(), loaded.state_dict()
    assert own.keys() == found.keys()
    for name, value in own.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_a_loaded_net_is_ready_to_score(folder: Path) -> None:
    loaded, _ = checkpoint.load(folder)
    assert not any(module.training for module in loaded.modules())
    assert {value.device.type for value in loaded.state_dict().values()} == {"cpu"}
    dropouts = [module.p for module in loaded.modules() if isinstance(module, nn.Dropout)]
    assert dropouts == [0.25]


def test_a_net_in_another_memory_layout_is_saved_the_same(folder: Path, tmp_path: Path) -> None:
    other = make_net(1).to(memory_format=torch.channels_last_3d)
    checkpoint.save(tmp_path / "other", other, CARRIED)
    for name in (WEIGHTS, SETTINGS, NET):
        assert (tmp_path / "other" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    "carried",
    [
        CARRIED,
        replaced(
            clips=Clips(
                frames=None,
                interval_s=0.25,
                side_px=None,
                brightness=None,
                max_per_track=1,
                stretch_s=3.0,
                max_padding_ratio=0.0,
            )
        ),
        replaced(
            model=Model(backbone="x3d_l", weights="none", weights_sha256=None, dropout=0.0),
            temperature=0.05,
        ),
    ],
    ids=["all given", "the backbone's clips", "no weights"],
)
def test_settings_read_back_as_they_were(tmp_path: Path, carried: Checkpoint) -> None:
    checkpoint.write_settings(tmp_path, carried)
    assert checkpoint.read_settings(tmp_path) == carried


def test_load_returns_the_settings_too(folder: Path) -> None:
    assert without_net(checkpoint.load(folder)[1]) == CARRIED


def test_settings_are_read_without_the_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert without_net(checkpoint.read_settings(folder)) == CARRIED


def test_the_geometry_is_the_one_of_training() -> None:
    assert CARRIED.geometry == Geometry(5, 12 / 30, 96, 0.4)


def test_a_model_of_before_clips_had_a_brightness_sees_them_as_they_are(folder: Path) -> None:
    path = folder / SETTINGS
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["clips"]["brightness"]
    path.write_text(json.dumps(values), encoding="utf-8")
    assert checkpoint.read_settings(folder).geometry.brightness is None


def test_a_folder_holds_safe_weights_and_plain_settings_only(folder: Path, net: nn.Module) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [SETTINGS, NET, WEIGHTS]
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1, "who may read one may read the other"
    assert load_file(folder / WEIGHTS).keys() == net.state_dict().keys()
    values = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    assert values["format"] == 5
    assert values["temperature"] == CARRIED.temperature
    assert values["model"] == {
        "backbone": "x3d_xs", "weights": "weights/größe.safetensors", "weights_sha256": "ab" * 32,
        "dropout": 0.25,
    }  # fmt: skip
    assert values["clips"]["interval_s"] is None
    assert values["net"] == {
        "sha256": hashlib.sha256((folder / NET).read_bytes()).hexdigest(),
        "weights_sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
    }


def test_colours_and_the_unit_sphere_are_written_where_there_are_any(
    tmp_path: Path,
) -> None:
    own = Colours((0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
    carried = replaced(colours=own, unit_features=True)
    checkpoint.write_settings(tmp_path / "m", carried)
    values = json.loads((tmp_path / "m" / SETTINGS).read_text(encoding="utf-8"))
    assert values["model"]["colours"] == {
        "mean": [0.48, 0.46, 0.41], "deviation": [0.27, 0.26, 0.28],
    }  # fmt: skip
    assert values["model"]["unit_features"] is True
    assert checkpoint.read_settings(tmp_path / "m") == carried


def test_missing_folders_are_made(net: nn.Module, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a" / "b", net, CARRIED)
    assert without_net(checkpoint.read_settings(tmp_path / "a" / "b")) == CARRIED


# ---------------------------------------------------------------- damage


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite the settings by change, which edits them in place."""
    values = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    change(values)
    (folder / SETTINGS).write_text(json.dumps(values), encoding="utf-8")


def test_a_missing_model_says_how_to_get_one(tmp_path: Path) -> None:
    message = rf"model in {tmp_path}/gone; .*{SETTINGS} is not there. Run `make repro` .*dvc pull"
    with pytest.raises(WeightsError, match=message):
        checkpoint.load(tmp_path / "gone")
    with pytest.raises(WeightsError, match="is not there"):
        checkpoint.read_settings(tmp_path)  # a folder with something else
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(WeightsError, match="is not there"):
        checkpoint.load(tmp_path / "weights.safetensors")  # a file in the folder's place


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"format": 5', "[]", "null", '"format"', "1", "{}", '{"format": 5}', "\0\1"],
)
def test_settings_that_are_none_are_refused(folder: Path, text: str) -> None:
    (folder / SETTINGS).write_text(text)
    with pytest.raises(WeightsError, match=rf"{SETTINGS} is not a model's settings: .*dvc repro"):
        checkpoint.load(folder)


def test_settings_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / SETTINGS).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WeightsError, match="is not a model's settings"):
        checkpoint.load(folder)


@pytest.mark.parametrize("key", ["faces", "clips", "model", "temperature", "limits", "run_key"])
def test_a_setting_that_is_missing_is_named(folder: Path, key: str) -> None:
    edit(folder, lambda values: values.pop(key))
    with pytest.raises(WeightsError, match=f"is not a model's settings: '{key}'"):
        checkpoint.read_settings(folder)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "backbone", "x3d_huge"),
        ("model", "colour", "red"),
        ("clips", "frames", 0),
        ("faces", "side_px", "192"),
        ("faces", "margin_ratio", None),
        ("model", "backbone", "timm/../x3d_xs"),
        ("model", "unit_features", 1),
        ("model", "colours", {"mean": [0.5, 0.5, 0.5], "deviation": [0.5, 0.5, 0.0]}),
        ("model", "colours", {"mean": [0.5, 0.5], "deviation": [0.5, 0.5, 0.5]}),
        ("model", "colours", {"mean": [0.5, 0.5, math.inf], "deviation": [0.5, 0.5, 0.5]}),
        ("model", "colours", {"mean": [0, 0, 0], "deviation": [0.5, 0.5, 0.5]}),
        ("model", "colours", "red"),
        ("limits", "min_face_px", "40"),
        ("limits", "colour", 1.0),
        ("limits", "min_face_px", 10**400),  # no number of pixels can be compared with it
        ("limits", "reals", 10**400),
    ],
)
def test_a_setting_that_the_schema_refuses_is_named(
    folder: Path, section: str, key: str, value: Any
) -> None:
    edit(folder, lambda values: values[section].update({key: value}))
    with pytest.raises(WeightsError, match=f"is not a model's settings: .*{key}") as raised:
        checkpoint.read_settings(folder)
    assert str(raised.value).isprintable()  # in one line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 0.0),  # logits are divided by it
        ("temperature", -1.0),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", 10**400),
        ("run_key", None),
        ("run_key", ["a"]),
    ],
)
def test_a_value_that_no_training_writes_is_refused(folder: Path, key: str, value: Any) -> None:
    edit(folder, lambda values: values.update({key: value}))
    with pytest.raises(WeightsError, match="is not a model's settings"):
        checkpoint.read_settings(folder)


def test_lists_in_lists_without_end_are_refused(folder: Path) -> None:
    (folder / SETTINGS).write_text('{"format": 4, "faces": ' + "[" * 2000)
    with pytest.raises(WeightsError, match="is not a model's settings"):
        checkpoint.read_settings(folder)


def test_settings_that_may_not_be_read_are_an_error(folder: Path) -> None:
    (folder / SETTINGS).unlink()
    (folder / SETTINGS).mkdir()
    with pytest.raises(WeightsError, match="is not a model's settings"):
        checkpoint.read_settings(folder)


@pytest.mark.parametrize("number", [0, 1, "2", None])
def test_another_format_is_refused_by_its_number(folder: Path, number: Any) -> None:
    # A later format may have other keys: the number is read first.
    edit(folder, lambda values: (values.clear(), values.update(format=number)))
    with pytest.raises(WeightsError, match=f"has format {number}; this version reads 5"):
        checkpoint.load(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match=rf"{WEIGHTS} should hold the weights of x3d_xs"):
        checkpoint.load(folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_truncated_weights_are_refused(folder: Path, share: float) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match="should hold the weights of x3d_xs"):
        checkpoint.load(folder)


@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "another backbone"])
def test_weights_of_another_net_are_refused(folder: Path, change: str) -> None:
    state = load_file(folder / WEIGHTS)
    name = "blocks.5.proj.weight"
    if change == "missing":
        del state[name]
    elif change == "unknown":
        state["blocks.6.weight"] = torch.zeros(2)
    elif change == "shape":
        state[name] = torch.zeros(400, 2048)
    else:
        edit(folder, lambda values: values["model"].update(backbone="x3d_l"))
    save_file(state, folder / WEIGHTS)
    with pytest.raises(WeightsError, match="should hold the weights of x3d_"):
        checkpoint.load(folder)


# ---------------------------------------------------------------- writing over a model


def test_saving_over_a_hard_link_leaves_the_other_name_alone(
    folder: Path, net: nn.Module, tmp_path: Path
) -> None:
    """DVC's cache may hold the same file: written in place, it would be spoilt."""
    cache = tmp_path / "cache"
    cache.mkdir()
    digests = {}
    for name in (WEIGHTS, SETTINGS, NET):
        os.link(folder / name, cache / name)
        (cache / name).chmod(0o444)  # as DVC leaves it
        digests[name] = hashlib.sha256((cache / name).read_bytes()).hexdigest()

    other, carried = make_net(2), replaced(temperature=3.0)
    checkpoint.save(folder, other, carried)

    for name, digest in digests.items():
        assert hashlib.sha256((cache / name).read_bytes()).hexdigest() == digest
        assert not (folder / name).samefile(cache / name)
    loaded, found = checkpoint.load(folder)
    assert without_net(found) == carried
    assert torch.equal(logits(loaded), logits(other))
    assert not torch.equal(logits(loaded), logits(net))
    assert sorted(path.name for path in folder.iterdir()) == [SETTINGS, NET, WEIGHTS]


def test_other_files_of_the_folder_stay(folder: Path, net: nn.Module) -> None:
    (folder / checkpoint.CARD).write_text("# A model\n")
    checkpoint.save(folder, net, CARRIED)
    assert (folder / checkpoint.CARD).read_text() == "# A model\n"
