"""Training on crops that can be told apart at a glance: what is written, and that it repeats."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from unmask import geometry, params
from unmask.forgeries.blend import FIVE_POINTS_52
from unmask.models import checkpoint, frame_net
from unmask.models.clips import ClipDataset, clip_items
from unmask.models.fit import Fitted, plan
from unmask.models.frame_net import UnitLinear
from unmask.models.predict import Predictor
from unmask.models.settings import Settings
from unmask.models.train import describe, forget, train
from unmask.records import Chunk, FaceTrack, Reason, VideoFaces, VideoRecord
from unmask.runtime.record_files import read_history
from unmask.timm_facts import Colours, TimmFacts, timm_facts
from unmask.tracking.tracker import NullTracker
from unmask.video.encode import write_video

SIDE_PX = 64
POINTS_52 = tuple((x, y) for x, y in (32 + 20 * FIVE_POINTS_52).tolist())


class Notes(NullTracker):
    """Keeps what it is told."""

    def __init__(self):
        self.metrics, self.files, self.models = [], [], []

    def log_metrics(self, values, *, step=None):
        self.metrics.append((step, dict(values)))

    def log_file(self, path, folder=None):  # noqa: ARG002  # the protocol's
        self.files.append(Path(path).name)

    def log_model(self, model_dir):
        self.models.append(model_dir.name)


def make_chunk(folder, *, splits=("train", "train", "train", "validation", "validation", "test")):
    """Write crops: real ones are plain, fake ones striped; one video has no face."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    records, faces = [], {}
    for number, split in enumerate(splits):
        for label in (0, 1):
            video_id = f"{'fake' if label else 'real'}{number}"
            frames = np.full((20, SIDE_PX, SIDE_PX, 3), rng.integers(90, 160), np.uint8)
            if label:
                frames[:, ::8] = 255
                frames[:, 1::8] = 255
            write_video(folder / f"{video_id}_0.mp4", frames, rate_fps=10.0, crf=10)
            times = tuple(index / 10 for index in range(20))
            points_T52 = (POINTS_52,) * 20
            track = FaceTrack(
                0, f"{video_id}_0.mp4", times, ((0.0, 0.0, SIDE_PX, SIDE_PX),) * 20, (1.0,) * 20,
                points_T52,
            )  # fmt: skip
            method = "stripes" if label else "real"
            records.append(VideoRecord(video_id, video_id, label, str(number), method, split))
            faces[video_id] = VideoFaces(video_id, "", (track,))
    records.append(VideoRecord("wall", "wall", 0, "wall", "real", "train"))
    faces["wall"] = VideoFaces("wall", "", (), Reason.NO_FACE)
    return Chunk("made", records, faces, folder)


def small_settings(*, epochs=3):
    shipped = params.load()
    small = {"batch_size": 3, "epochs": epochs, "milestone": 1, "lr_head": 1e-3, "lr_gamma": 0.5}
    return Settings(
        faces=shipped.faces,
        clips=shipped.clips.model_copy(update={"side_px": SIDE_PX, "max_per_track": 1}),
        augment=shipped.augment,
        model=shipped.model.model_copy(update={"weights": "none"}),
        train=shipped.train.model_copy(update=small),
        verdicts=shipped.verdicts,
    )


@pytest.fixture(scope="module")
def settings():
    return small_settings()


def run(chunks, settings, model_dir, tracker, *, workers=0):
    """Do what the stage does; return what it planned."""
    cache = model_dir.parent
    scratch = model_dir.with_name("scratch")
    planned = plan(chunks, settings, scratch=scratch, weights_cache=cache)
    train(
        chunks, settings, model_dir, tracker,
        plan=planned, scratch=scratch, workers=workers, weights_cache=cache,
    )  # fmt: skip
    forget(scratch)
    return planned


@pytest.fixture(scope="module")
def trained(tmp_path_factory, settings):
    """Return the folder of one training, and what its tracker was told."""
    folder, notes = tmp_path_factory.mktemp("trained"), Notes()
    chunk = make_chunk(folder / "crops")
    run([chunk], settings, folder / "model", notes)
    return folder, notes, chunk


def test_the_model_carries_what_made_its_input(trained, settings):
    folder, _, chunk = trained
    read = checkpoint.read_settings(folder / "model")
    assert (read.faces, read.clips, read.model) == (settings.faces, settings.clips, settings.model)
    assert read.run_key == plan([chunk], settings, scratch=folder, weights_cache=folder).key
    assert 0.05 <= read.temperature <= 20


def test_limits_say_what_training_and_validation_looked_like(trained):
    folder, _, chunk = trained
    predictor = Predictor.load(folder / "model", device="cpu")
    limits = predictor.checkpoint.limits
    looks = [
        predictor.measure_quality(chunk.faces_dir, track)
        for split in ("train", "validation")
        for _, found in chunk.of(split)
        for track in found.tracks
    ]
    assert limits.tracks == len(looks)
    assert limits.min_face_px == min(look.face_px for look in looks)
    assert limits.max_sharpness == max(look.sharpness for look in looks)
    # As long as one clip of 4 frames, 0.4 s apart: all tracks are scored by one.
    assert limits.min_track_s == pytest.approx(1.2)
    # Too few videos for any verdict: the made chunk has not nine of each class.
    assert (limits.reals, limits.fakes) == (2, 2)
    assert (limits.fake_from, limits.real_to) == (None, None)


def test_the_tracker_hears_of_every_epoch_and_each_groups_rate(trained):
    folder, notes, _ = trained
    assert [step for step, _ in notes.metrics] == [0, 1, 2]
    assert "lr_top" not in notes.metrics[0][1]
    # Each epoch's own rates: the milestone, epoch 1, halves the head's.
    assert [row["lr_head"] for _, row in notes.metrics] == [1e-3, 5e-4, 5e-4]
    assert all({"train_loss", "val_loss", "val_auc", "lr_head", "lr_top"} <= set(row)
               for _, row in notes.metrics[1:])  # fmt: skip
    assert notes.models == ["model"]
    assert "MODEL_CARD.md" in notes.files
    assert [row["epoch"] for row in read_history(folder / "model" / checkpoint.HISTORY)] == [
        0,
        1,
        2,
    ]


def test_the_kept_epoch_is_the_best_on_validation(trained):
    folder, notes, chunk = trained
    best = min(row["val_loss"] for _, row in notes.metrics)
    predictor = Predictor.load(folder / "model", device="cpu")
    rows = chunk.of("validation")
    scores = predictor.score_videos(chunk.faces_dir, [found for _, found in rows])
    losses = [
        np.logaddexp(0, -score.worst.logit if record.label else score.worst.logit)
        for (record, _), score in zip(rows, scores, strict=True)
    ]
    assert np.mean(losses) == pytest.approx(best, rel=1e-4)


def test_nothing_is_left_behind(trained):
    folder, _, _ = trained
    assert sorted(path.name for path in folder.iterdir()) == ["crops", "model"]
    card = (folder / "model" / checkpoint.CARD).read_text()
    assert "stripes" in card


def test_a_card_is_described_alone_as_the_training_did_it(trained, settings):
    folder, notes, chunk = trained
    carried = checkpoint.read_settings(folder / "model")
    net = checkpoint.load_net(folder / "model", carried)
    history = read_history(folder / "model" / checkpoint.HISTORY)
    clips = ClipDataset(clip_items([chunk], "validation"), carried.geometry, augment=None, seed=1)
    fitted = Fitted(net, history, None, None, clips)
    card = describe([chunk], settings, fitted, carried)
    assert card == (folder / "model" / checkpoint.CARD).read_text()
    # Another best epoch is another card.
    losses = [row["val_loss"] for _, row in notes.metrics]
    assert f"Epochs run: 3. Epoch {losses.index(min(losses))}" in card
    swapped = [{**row, "val_loss": 0.125 if row["epoch"] == 1 else 9.0} for row in history]
    assert "log-loss 0.125" in describe(
        [chunk], settings, replace(fitted, history=swapped), carried
    )


# ---------------------------------------------------------------- a net of timm's


def test_a_net_of_timms_is_trained_and_read_back_as_it_was_whatever_timm_says_later(
    tmp_path, monkeypatch
):
    small = small_settings(epochs=1)
    settings = replace(
        small,
        model=small.model.model_copy(update={"backbone": "timm/vit_tiny_patch16_224"}),
        train=small.train.model_copy(update={"tune": "layernorm"}),
    )
    chunk, notes = make_chunk(tmp_path / "crops"), Notes()
    planned = run([chunk], settings, tmp_path / "model", notes)
    heads = settings.train.model_copy(update={"tune": "head"})
    other = replace(settings, train=heads)
    assert plan([chunk], other, scratch=tmp_path, weights_cache=tmp_path).key != planned.key
    assert {"lr_head", "lr_top"} <= set(notes.metrics[0][1])
    card = (tmp_path / "model" / checkpoint.CARD).read_text()
    assert "the head sees features on the unit sphere" in " ".join(card.split())
    assert f"timm {version('timm')}" in card

    written = json.loads((tmp_path / "model" / checkpoint.SETTINGS).read_text())
    assert written["model"] == settings.model.model_dump() | {
        "colours": {"mean": [0.5] * 3, "deviation": [0.5] * 3}, "unit_features": True,
    }  # fmt: skip
    assert written["clips"]["side_px"] == SIDE_PX
    net, carried = checkpoint.load(tmp_path / "model")
    assert isinstance(net.get_submodule("image.head"), UnitLinear)
    assert sorted(carried.clips.model_dump()) == sorted(settings.clips.model_dump())
    clip = torch.randn(1, 3, 4, SIDE_PX, SIDE_PX)
    with torch.inference_mode():
        before = net(clip)
    # Another version of timm: other colours, another side.
    changed = TimmFacts(384, True, Colours((0.1,) * 3, (0.9,) * 3), "head")
    monkeypatch.setattr(frame_net, "timm_facts", lambda _: changed)
    monkeypatch.setattr(geometry, "timm_facts", lambda _: changed)
    again, carried = checkpoint.load(tmp_path / "model")
    assert carried.geometry.side_px == SIDE_PX
    with torch.inference_mode():
        assert torch.equal(again(clip), before)


def test_the_side_that_timm_says_is_recorded(tmp_path):
    """Clips that leave their side to the net have it in the checkpoint, where timm may change."""
    small = small_settings(epochs=1)
    settings = replace(
        small,
        clips=small.clips.model_copy(update={"side_px": None}),
        model=small.model.model_copy(update={"backbone": "timm/test_resnet"}),
        train=small.train.model_copy(update={"tune": "head"}),
    )
    run([make_chunk(tmp_path / "crops")], settings, tmp_path / "model", Notes())
    carried = checkpoint.read_settings(tmp_path / "model")
    assert carried.clips.side_px == timm_facts("timm/test_resnet").side_px == 160
    assert not carried.unit_features


# ---------------------------------------------------------------- real videos alone


@pytest.fixture(scope="module")
def real_chunk(tmp_path_factory):
    """Return a chunk of real videos alone."""
    chunk = make_chunk(tmp_path_factory.mktemp("real") / "crops")
    return replace(chunk, records=[record for record in chunk.records if record.label == 0])


def blending(settings, share):
    return replace(settings, train=settings.train.model_copy(update={"self_blend": share}))


def test_training_on_real_videos_alone_validates_on_both_classes(tmp_path, settings, real_chunk):
    small = settings.train.model_copy(update={"self_blend": 0.5, "epochs": 1, "batch_size": 3})
    notes = Notes()
    run([real_chunk], replace(settings, train=small), tmp_path / "model", notes)
    [(_, row)] = notes.metrics
    assert "val_auc" in row
    read = checkpoint.read_settings(tmp_path / "model")
    assert 0.05 <= read.temperature <= 20
    assert read.limits.reals == read.limits.fakes > 0  # each face beside its twin
    card = " ".join((tmp_path / "model" / checkpoint.CARD).read_text().split())
    assert "50% of the real clips were turned into self-blended fakes" in card
    assert "each real face stood there beside its self-blended twin" in card


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_whatever_the_workers(tmp_path, trained, settings):
    folder, notes, chunk = trained
    again = Notes()
    run([chunk], settings, tmp_path / "model", again, workers=2)
    assert again.metrics == notes.metrics
    one = load_file(folder / "model" / checkpoint.WEIGHTS)
    two = load_file(tmp_path / "model" / checkpoint.WEIGHTS)
    assert all(bool((one[name] == two[name]).all()) for name in one)
    texts = [(f / "model" / checkpoint.SETTINGS).read_text() for f in (folder, tmp_path)]
    assert json.loads(texts[0]) == json.loads(texts[1])
