"""A training killed again and again ends as one that was left alone; what counts as the same."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from multiprocessing import get_context, set_start_method
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping

from tests.models.test_classifier import SETTINGS, SharedNoise, only
from tests.models.test_train import make_chunk, small_settings
from tests.test_layout import ROOT, import_closure
from unmask.models import train
from unmask.models.backbones import build
from unmask.models.classifier import Classifier, MilestoneFinetuning
from unmask.models.fit import plan
from unmask.models.predict import Predictor
from unmask.models.resume import CODE, ResumeCheckpoint, SwapIO, epochs_done, training_key
from unmask.records import Chunk
from unmask.tracking.tracker import NullTracker

EPOCHS = 4
# In the order of the killings: what is called, which call of it is the last thing the process
# does, and how many epochs the next one finds done. An epoch has two steps; the first of the
# epochs from 0 is the milestone.
KILLED = [
    (Classifier, "training_step", 2, 0),  # before anything is kept
    (os, "replace", 1, 0),  # an epoch is written, but not in place
    (NullTracker, "log_metrics", 2, 1),  # between two epochs; the next process passes the milestone
    (Classifier, "training_step", 4, 2),  # midway in an epoch after the milestone
    (Classifier, "on_validation_epoch_end", 2, 3),
    (Predictor, "score_videos", 1, 4),  # in calibration
    (os, "replace", 1, 4),  # while model/ is written: its weights
    (os, "replace", 2, 4),  # its settings
    (NullTracker, "log_model", 1, 4),  # model/ is there, the rest is not done
    (os, "rename", 2, 4),  # while the new model/ takes the old one's place
]


def work(folder: Path, workers: int, last: int | None) -> None:
    """Do what the stage does, in a process of its own; die as row `last` of KILLED says."""
    set_start_method("fork", force=True)  # loader workers: a forkserver of their own imports anew
    torch.set_num_threads(1)  # more wait for each other where the cores are busy
    chunk = make_chunk(folder / "crops")
    if last is not None:
        owner, name, call, _ = KILLED[last]
        real, calls = getattr(owner, name), itertools.count(1)

        def deadly(*args, **kwargs):
            if next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(owner, name, deadly)
    settings = small_settings(epochs=EPOCHS)
    planned = plan([chunk], settings, scratch=folder / "scratch", weights_cache=folder)
    (folder / "epochs_done").write_text(str(planned.epochs_done))
    train.train([chunk], settings, folder / "model", NullTracker(), plan=planned,
                scratch=folder / "scratch", workers=workers, weights_cache=folder)  # fmt: skip
    train.forget(folder / "scratch")


def run(folder: Path, *, workers: int, last: int | None) -> int:
    """Return how many epochs the process found done."""
    # Forked from one that has imported all and computed nothing: each starts at once.
    context = get_context("forkserver")
    context.set_forkserver_preload(["unmask.models.train"])
    process = context.Process(target=work, args=(folder, workers, last))
    process.start()
    process.join()
    assert process.exitcode == (0 if last is None else -signal.SIGKILL)
    return int((folder / "epochs_done").read_text())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(folder, workers=0, last=None) == 0
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_training_killed_at_any_moment_ends_as_if_it_had_not_been(undisturbed, kept, tmp_path):
    (tmp_path / "scratch").mkdir()
    shutil.copy(kept, tmp_path / "scratch")  # another training's: of no use
    done = 0
    for last, (_, name, _, expected) in enumerate(KILLED):
        # Workers ask for a resumed epoch's clips before Lightning says which epoch it is.
        assert run(tmp_path, workers=1, last=last) == done, name
        if (tmp_path / "model").exists():
            assert content(tmp_path / "model") == content(undisturbed / "model"), name
        done = expected
    assert run(tmp_path, workers=0, last=None) == EPOCHS
    assert content(tmp_path / "model") == content(undisturbed / "model")
    assert {"weights.safetensors", "history.csv"} <= content(tmp_path / "model").keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crops", "epochs_done", "model"]


# ---------------------------------------------------------------- what counts as the same


@pytest.fixture(scope="module")
def chunk(tmp_path_factory):
    return make_chunk(tmp_path_factory.mktemp("same") / "crops")


def key_of(
    chunk: Chunk, *, weights: str | None = "ab", library: str = "pytorchvideo", **sections: object
) -> str:
    return training_key({"train": {"epochs": 4}, **sections}, [chunk], weights, library)


def changed(chunk: Chunk, number: int, **given: object) -> Chunk:
    """Return the chunk with another record at the place."""
    records = list(chunk.records)
    records[number] = replace(records[number], **given)
    return replace(chunk, records=records)


def test_the_same_params_data_and_weights_have_the_same_key(chunk, tmp_path):
    again = make_chunk(tmp_path / "elsewhere")
    assert key_of(again) == key_of(chunk)


def test_another_param_label_face_or_starting_weight_has_another_key(chunk):
    video = chunk.records[1].video_id
    faces = chunk.faces[video]
    cropped_anew = replace(chunk, faces=chunk.faces | {video: replace(faces, key="other")})
    lost = replace(chunk, faces=chunk.faces | {video: replace(faces, tracks=())})
    keys = [
        key_of(chunk),
        key_of(chunk, train={"epochs": 5}),
        key_of(chunk, weights="cd"),
        key_of(chunk, weights=None),
        key_of(chunk, library="timm"),
        key_of(changed(chunk, 1, label=0)),
        key_of(changed(chunk, 1, split="validation")),
        key_of(cropped_anew),
        key_of(lost),
    ]
    assert len(set(keys)) == len(keys)


def test_test_videos_do_not_count(chunk):
    [*_, number] = [n for n, record in enumerate(chunk.records) if record.split == "test"]
    assert key_of(changed(chunk, number, method="other")) == key_of(chunk)


def test_the_code_that_counts_is_what_train_imports_but_what_cannot_change_weights():
    harmless = {
        # How many cores, what engines share, and which files are refused.
        "engine.cores", "engine.net", "engine.onnx_file",
        # What is said of a model, not what it is.
        "models.card_head", "models.checkpoint", "models.model_card", "tracking.tracker",
        # What folders hold that no training makes: nets of others, and promises.
        "models.adopt.nets", "models.adopt.record", "models.features", "models.looks",
        "runtime.digests",
        "scoring.promises", "scoring.unlike",
        # What refuses to train or to write, or drops copies from what is trained on.
        "data.copies", "data.leakage", "data.near_hashes", "data.same_pictures", "data.words",
        "errors", "models.fake_step", "models.memory", "runtime.disk", "runtime.system",
        "runtime.child", "runtime.confinement", "runtime.processes", "runtime.wire",  # not how
        "runtime.without_compiler",  # how soon
        # Rows and params count by their content, and so does code.
        "records", "models.settings", "runtime.code", "runtime.record_files",
        "runtime.packed_faces",
    }  # fmt: skip
    counted = {name.replace("/", ".") for name in CODE}
    assert counted.isdisjoint(harmless)
    assert counted | harmless == import_closure(ROOT, ROOT / "stages/train.py")


# ---------------------------------------------------------------- the file


def fit(
    path: Path, *, epochs: int, resumes: bool = False, devices: int = 1, key: str = "own",
    settings=SETTINGS, stop: EarlyStopping | None = None,
) -> ResumeCheckpoint:  # fmt: skip
    """Train X3D-XS on noise, as train does it."""
    torch.manual_seed(1)
    resume_checkpoint = ResumeCheckpoint(path, key)
    trainer = Trainer(
        accelerator="cpu", devices=devices, strategy="ddp_fork" if devices > 1 else "auto",
        max_epochs=epochs,
        callbacks=[resume_checkpoint, MilestoneFinetuning(settings), *([stop] if stop else [])],
        plugins=[SwapIO()], logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, use_distributed_sampler=False, log_every_n_steps=1,
    )  # fmt: skip
    classifier = Classifier(build("x3d_xs", dropout=0.5), settings, class_weights=(1.0, 1.0))
    trainer.fit(classifier, SharedNoise(), ckpt_path=path if resumes else None, weights_only=True)
    return resume_checkpoint


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The file of a training of one epoch."""
    path = tmp_path_factory.mktemp("kept") / "last.ckpt"
    fit(path, epochs=1)
    return path


def test_the_file_tells_how_many_epochs_of_its_own_training_are_done(kept, caplog):
    assert epochs_done(kept, "own") == 1
    assert not caplog.text
    assert epochs_done(kept.with_name("none.ckpt"), "own") == 0
    assert not caplog.text
    with caplog.at_level("INFO"):
        assert epochs_done(kept, "other") == 0
    assert "is of other params, data or code: training starts afresh" in caplog.text


@pytest.mark.parametrize("damage", ["empty", "half", "text", "a bit"])
def test_a_damaged_file_starts_training_afresh(kept, tmp_path, caplog, damage):
    whole = kept.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # in a tensor: torch alone would not notice
    broken = {"empty": b"", "half": whole[: len(whole) // 2], "text": b"abc" * 99, "a bit": flipped}
    path = tmp_path / "last.ckpt"
    path.write_bytes(broken[damage])
    assert epochs_done(path, "own") == 0
    assert "last.ckpt is damaged" in caplog.text
    assert "training starts afresh" in caplog.text


class Bomb:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_the_file_is_never_unpickled(tmp_path, caplog):
    torch.save(
        {"callbacks": {"ResumeCheckpoint": Bomb(tmp_path / "exploded")}}, tmp_path / "last.ckpt"
    )
    assert zipfile.is_zipfile(tmp_path / "last.ckpt")
    assert epochs_done(tmp_path / "last.ckpt", "own") == 0
    assert "last.ckpt is damaged" in caplog.text
    assert not (tmp_path / "exploded").exists()


def test_a_training_that_stopped_early_stays_stopped(tmp_path):
    """Where it was cut off between its end and the model."""

    def until_it_stops(*, resumes: bool) -> ResumeCheckpoint:
        # Nothing betters a loss by so much: the second epoch is the last.
        stop = EarlyStopping("val_loss", patience=1, min_delta=1e9)
        return fit(tmp_path / "last.ckpt", epochs=9, resumes=resumes, stop=stop)

    first, again = until_it_stops(resumes=False), until_it_stops(resumes=True)
    assert first.epochs_done == 2
    assert again.epochs_done == 2
    assert again.best_loss == first.best_loss
    assert all(torch.equal(again.best_state[name], value)
               for name, value in first.best_state.items())  # fmt: skip


def two_ranks(folder: str) -> None:
    """Run in a process of its own, which forks one a rank."""
    settings = only(epochs=3, milestone=1, unfreeze_top_layers=2)
    for name, parts in (("once", [3]), ("twice", [2, 3])):
        for epochs in parts:
            resumes = epochs != parts[0]
            fit(Path(folder) / name, epochs=epochs, resumes=resumes, devices=2, settings=settings)


@pytest.mark.slow
def test_two_ranks_go_on_after_the_milestone_as_if_they_had_not_stopped(tmp_path):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",  # a forked process has none of the threads it was forked beside
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c",
         f"from tests.models.test_resume import two_ranks; two_ranks({str(tmp_path)!r})"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    once, twice = (
        torch.load(tmp_path / name, map_location="cpu", weights_only=True)
        for name in ("once", "twice")
    )
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(twice[part], once[part], rtol=0, atol=0)
    assert len(twice["optimizer_states"][0]["param_groups"]) == 2
