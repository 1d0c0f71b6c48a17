"""The starting checkpoint: fitting on tiny made pairs, interruptions, what is written."""

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.models.test_pretrain_bank import MASK_PX, save_bank
from tests.models.test_pretrain_faces import DETECT, material
from tests.test_layout import ROOT, import_closure
from unmask.errors import DatasetError
from unmask.models import backbones, pretrain
from unmask.models.image_net import ImageX3D
from unmask.models.pretrain_bank import BANK_PX, MASK_STEP, Bank
from unmask.models.pretrain_faces import Material
from unmask.params import Pretrain
from unmask.runtime import code

__all__ = ["material"]  # a fixture


def settings(**changes):
    values = {
        "pairs": 8, "pictures": 8 * 12, "side_px": 64, "batch_size": 8, "lr": 2e-3,
        "weight_decay": 0.05, "mask_weight": 4.0, "seed": 1,
    }  # fmt: skip
    return Pretrain(**(values | changes))


# ---------------------------------------------------------------- fitting


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    """A folder with eight pairs; in the fake a square of 64 px is brighter and finely striped."""
    rng = np.random.default_rng(6)
    crops = np.empty((8, 2, BANK_PX, BANK_PX, 3), np.uint8)
    masks = np.zeros((8, MASK_PX, MASK_PX), np.uint8)
    for pair in range(8):
        noise = cv2.GaussianBlur(rng.uniform(0, 255, (BANK_PX, BANK_PX, 3)), (0, 0), 4)
        crops[pair] = np.clip(128 + 4 * (noise - 128), 40, 215)
        top, left = rng.integers(12, 17, 2)
        masks[pair, top : top + 16, left : left + 16] = 255
        rows, columns = (slice(MASK_STEP * at, MASK_STEP * (at + 16)) for at in (top, left))
        crops[pair, 1, rows, columns] += 40
        crops[pair, 1, rows, columns][::2] -= 80
    return save_bank(tmp_path_factory.mktemp("easy"), crops, masks)


def fresh_model(seed):
    torch.manual_seed(seed)
    model = ImageX3D(backbones.build("x3d_xs", dropout=0.5))
    return model.to(memory_format=torch.channels_last)


@pytest.mark.slow
def test_a_tiny_bank_is_overfitted(easy, tmp_path):
    model, bank = fresh_model(1), Bank(easy, side_px=96)
    wanted = settings(side_px=96, batch_size=16, pictures=16 * 24)
    steps = list(pretrain.fit(model, bank, tmp_path / "state.pt", wanted))
    assert [seen for seen, _ in steps] == [16 * (step + 1) for step in range(24)]
    # With the batch's own statistics: BatchNorm's running ones lag behind so few steps.
    frames, labels, masks = bank.batch(np.arange(8), None)
    with torch.no_grad():
        logits, mask_logits = model.train()(frames)
    assert logits[labels == 0].max() < -1
    assert logits[labels == 1].min() > 1
    where = masks[1::2]
    assert mask_logits[1::2][where > 0.9].mean() > 0
    assert mask_logits[1::2][where < 0.1].mean() < -1
    assert mask_logits[::2].mean() < -1


def test_every_picture_of_a_bank_is_scored_as_it_is_alone(easy):
    model, bank = fresh_model(3), Bank(easy, side_px=64)
    labels, logits = pretrain.score_bank(model, bank)
    assert labels.tolist() == [0, 1] * 8
    assert not model.training
    for pair in (0, 7):
        frames, _, _ = bank.batch(np.array([pair]), None)
        with torch.no_grad():
            alone = model(frames)[0].numpy()
        assert logits[2 * pair : 2 * pair + 2] == pytest.approx(alone, abs=1e-4)


def test_an_interrupted_run_ends_with_the_same_weights(easy, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 32)  # every fourth step
    bank, wanted = Bank(easy, side_px=64), settings()
    whole, resumed = fresh_model(1), fresh_model(1)
    seen = [seen for seen, _ in pretrain.fit(whole, bank, tmp_path / "whole.pt", wanted)]
    assert seen == [8 * (step + 1) for step in range(12)]

    state = tmp_path / "state.pt"
    broken_off = pretrain.fit(resumed, bank, state, wanted)
    list(islice(broken_off, 6))
    broken_off.close()
    resumed = fresh_model(2)  # what it starts from does not matter now
    seen = [seen for seen, _ in pretrain.fit(resumed, bank, state, wanted)]
    assert seen == [8 * (step + 1) for step in range(4, 12)]

    one, other = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert list(pretrain.fit(resumed, bank, state, wanted)) == []


# ---------------------------------------------------------------- the whole of it


@pytest.mark.slow
def test_the_run_leaves_weights_that_load_and_a_card(material, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "VALIDATION_PAIRS", 3)
    weights = tmp_path / "weights/x3d_xs.safetensors"
    wanted = settings(pairs=4, pictures=24)
    other_run = weights.parent / ".pretraining-0123456789ab/train"
    other_run.mkdir(parents=True)  # of other params, and never finished
    (other_run / "crops.npy").write_bytes(b"forged pictures")
    steps = list(pretrain.run(material, weights, wanted, DETECT, margin_ratio=0.1, workers=1))
    assert len(steps) == pretrain.count_steps(wanted) == 2 + 3
    assert sorted(path.name for path in weights.parent.iterdir()) == [
        "x3d_xs.md", "x3d_xs.safetensors",
    ]  # fmt: skip
    assert weights.stat().st_size <= 10_000_000

    net = backbones.build("x3d_xs", dropout=0.0)
    origin = backbones.load_weights(net, str(weights), "x3d_xs", sha256=None, cache_dir=tmp_path)
    assert origin.head
    kernels = {name: v for name, v in net.state_dict().items() if v.ndim == 5 and v.shape[2] == 3}
    assert kernels
    assert all(not value[:, :, [0, 2]].any() for value in kernels.values())
    with torch.no_grad():
        assert torch.isfinite(net.eval()(torch.zeros(1, 3, 4, 64, 64))).all()

    card = weights.with_suffix(".md").read_text()
    for words in (
        "4 rendered pairs", "24 pictures of 64 px", "6 single pictures", "CC BY 4.0",
        "from data/sources and 2 portraits", "**Portraits**: 2 official portraits",
    ):  # fmt: skip
        assert words in " ".join(card.split())


# ---------------------------------------------------------------- what an interrupted run takes up


def key_of(material, *, margin_ratio=0.1, **changes):
    return pretrain.run_key(material, settings(**changes), DETECT, margin_ratio)


@pytest.fixture
def own(material, tmp_path):
    """The material as a copy that may be changed."""
    return Material(
        sources=shutil.copytree(material.sources, tmp_path / "sources"),
        mesh_points=Path(shutil.copy(material.mesh_points, tmp_path)),
        portraits_list=Path(shutil.copy(material.portraits_list, tmp_path)),
        portraits=shutil.copytree(material.portraits, tmp_path / "portraits"),
    )


def test_params_have_keys_of_their_own(material):
    keys = [
        key_of(material), key_of(material, seed=2), key_of(material, pairs=9),
        key_of(material, margin_ratio=0.2),
        pretrain.run_key(material, settings(), DETECT.model_copy(update={"min_score": 0.8}), 0.1),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert key_of(material) == keys[0]


def test_portraits_and_mesh_points_count(own):
    whole, without = key_of(own), key_of(replace(own, portraits=None))
    assert whole != without
    lines = own.portraits_list.read_text().splitlines(keepends=True)
    own.portraits_list.write_text("".join(lines[:-1]))
    assert key_of(own) not in {whole, without}
    assert key_of(replace(own, portraits=None)) == without  # a list that is not used
    with own.mesh_points.open("ab") as points:
        points.write(b"more")
    assert key_of(replace(own, portraits=None)) != without


def test_a_portrait_that_is_not_the_listed_one_is_refused_before_any_work(own, tmp_path):
    (own.portraits / "003.jpg").write_bytes(b"somebody else")
    weights = tmp_path / "weights/x3d_xs.safetensors"
    steps = pretrain.run(own, weights, settings(), DETECT, margin_ratio=0.1, workers=1)
    with pytest.raises(DatasetError, match=r"1 with another SHA-256 \(003\.jpg\)"):
        next(steps)
    assert not weights.parent.exists()


@pytest.mark.parametrize("person", ["001", "007"])
def test_another_picture_of_a_person_who_is_used_has_another_key(own, person):
    before = key_of(own)
    with (own.sources / f"{person}_neutral.jpg").open("ab") as still:
        still.write(b"more")
    assert key_of(own) != before


def test_a_person_of_another_split_has_another_key(own):
    before, listing = key_of(own), own.sources / "sources.csv"
    listing.write_text(listing.read_text().replace("p005,train", "p005,test"))
    assert key_of(own) != before


def test_pictures_of_test_people_do_not_count(own):
    before = key_of(own)
    (own.sources / "009_neutral.jpg").write_bytes(b"other")
    assert key_of(own) == before


@pytest.mark.parametrize(
    "module",
    ["forgeries/blend", "forgeries/mesh_hulls", "forgeries/sample", "models/pretrain_bank"],
)
def test_an_edit_of_the_code_that_renders_has_another_key(material, tmp_path, monkeypatch, module):
    before = key_of(material)
    edited = shutil.copytree(code.PACKAGE, tmp_path / "unmask")
    monkeypatch.setattr(code, "PACKAGE", edited)
    assert key_of(material) == before
    with (edited / f"{module}.py").open("a") as source:
        source.write("# edited\n")
    assert key_of(material) != before


def test_the_code_that_counts_is_what_pretraining_imports_but_what_cannot_change_weights():
    harmless = {
        "engine.net", "engine.onnx_file",  # what engines share, and which files are refused
        "scoring.metrics",  # what the card says of the weights
        # What refuses, how work is shared out, how files are written.
        "errors", "runtime.child", "runtime.confinement", "runtime.disk", "runtime.processes",
        "runtime.resume_manifest", "runtime.system", "runtime.wire", "video.encode",
        "runtime.without_compiler",  # how soon torchvision is imported
        "timm_facts",  # nets of timm's that are no table's
        # Weights that others trained.
        "models.adopt.padding", "models.adopt.record", "models.adopt.start", "runtime.digests",
        # Rows of sources, with people's names as words makes them one, and code count themselves.
        "data.words", "records", "runtime.code",
    }  # fmt: skip
    counted = {name.replace("/", ".") for name in pretrain.CODE}
    assert counted.isdisjoint(harmless)
    closure = import_closure(ROOT, ROOT / "src/unmask/models/pretrain.py")
    assert counted | harmless == closure | {"models.pretrain"}


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_pictures_and_never_with_those_of_another_forger(
    own, tmp_path, monkeypatch
):
    """Each run is broken off once the training people's bank is rendered."""
    monkeypatch.setattr(pretrain, "VALIDATION_PAIRS", 1)
    wanted, weights = settings(pairs=1), tmp_path / "weights/x3d_xs.safetensors"

    def break_off(steps_done=2):
        steps = pretrain.run(own, weights, wanted, DETECT, margin_ratio=0.1, workers=1)
        list(islice(steps, steps_done))
        steps.close()
        return {path.parents[1].name: path.stat().st_mtime_ns
                for path in weights.parent.glob(".pretraining-*/train/done")}  # fmt: skip

    first = break_off()
    [name] = first
    assert name == f".pretraining-{pretrain.run_key(own, wanted, DETECT, 0.1)[:12]}"
    assert break_off(1) == first  # taken up: the first step is validation's
    edited = shutil.copytree(code.PACKAGE, tmp_path / "unmask")
    (edited / "forgeries/blend.py").write_text("# another forger\n")
    monkeypatch.setattr(code, "PACKAGE", edited)
    second = break_off()
    assert len(second) == 2  # rendered anew, apart
    assert second[name] == first[name]
