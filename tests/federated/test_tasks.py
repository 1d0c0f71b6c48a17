"""The functions as tasks call them: they train and predict what the library would."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from federated_small import paint_chunk, small_settings
from painted import faces_over_noise

from tests.conftest import make_video_file
from unmask.faces.crops import crop_chunk
from unmask.federated import state as federated_state
from unmask.federated.samples import (
    FederatedError,
    Videos,
    cropped,
    deal,
    make_samples,
    read_videos,
    uncropped,
)
from unmask.federated.tasks import lay_out, predict, read_settings, settings_text, train
from unmask.models.fit import plan
from unmask.models.predict import Predictor
from unmask.models.train import train as train_library
from unmask.records import Chunk, Reason, VideoRecord
from unmask.runtime.record_files import read_faces, write_index
from unmask.tracking.tracker import NullTracker


def samples_of(material, tmp_path, *, side):
    """Return a material's videos of a side, as a task that has all samples of it sees them."""
    dealt = deal([material], ["org"])["org"]
    samples = make_samples("org", dealt, tmp_path / "samples")
    return read_videos(
        [tmp_path / "samples/org" / side / s.name for s in samples if s.side == side]
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a task's own folder, the current one as in Substra."""
    (tmp_path / "task").mkdir()
    monkeypatch.chdir(tmp_path / "task")
    return tmp_path


def test_settings_come_back_whole(tmp_path):
    (tmp_path / "settings.json").write_text(settings_text(small_settings()))
    assert read_settings(tmp_path / "settings.json") == small_settings()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"faces": {"side_px": -1}}'])
def test_settings_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(FederatedError, match="Pack the archives anew"):
        read_settings(tmp_path / "settings.json")


def slow_settings():
    """Return settings by which training changes no weight that a comparison could see."""
    settings = small_settings()
    return replace(settings, train=settings.train.model_copy(update={"lr_head": 1e-30}))


@dataclass(frozen=True)
class Trained:
    """A training as a task does it, on all but the test samples of a chunk."""

    chunk: Chunk
    videos: Videos
    tested: Videos
    state: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    chunk = paint_chunk(root / "painted", 3)
    material = cropped(chunk, small_settings().faces.model_dump(mode="json"))
    videos = samples_of(material, root, side="train")
    (root / "task").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "task")
        Path("settings.json").write_text(settings_text(slow_settings()))
        before = contents(root / "samples")
        train(videos, Path("settings.json"), None, root / "state", Path(), workers=0)
        assert contents(root / "samples") == before
    return Trained(chunk, videos, samples_of(material, root, side="test"), root / "state")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_train_and_predict_are_those_of_the_library(trained, folder):
    predict(trained.tested, trained.state, folder / "scores.json", Path(), workers=0)

    settings, model, chunk = slow_settings(), folder / "model", trained.chunk
    # What dvc repro trains on: the same rows of the same chunk, test videos beside them.
    scratch = folder / "scratch"
    planned = plan([chunk], settings, scratch=scratch, weights_cache=folder)
    train_library(
        [chunk], settings, model, NullTracker(),
        plan=planned, scratch=scratch, workers=0, weights_cache=folder,
    )  # fmt: skip
    federated_state.unpack(trained.state, folder / "unpacked")
    for name in ("weights.safetensors", "checkpoint.json"):
        assert (folder / "unpacked" / name).read_bytes() == (model / name).read_bytes()
    rows = chunk.of("test")
    answers = Predictor.load(model).score_videos(chunk.faces_dir, [found for _, found in rows])
    expected = [
        {"video": f"painted/{answer.video_id}", "probability": answer.probability, "reason": None}
        for answer in answers
    ]
    assert json.loads((folder / "scores.json").read_text())["scores"] == expected
    assert [row["video"] for row in expected] == ["painted/fake2", "painted/real2"]
    assert federated_state.read(trained.state).about == federated_state.About(2, 1)


def test_training_goes_on_from_another_models_weights(trained, folder):
    Path("settings.json").write_text(settings_text(slow_settings()))
    videos = trained.videos
    train(videos, Path("settings.json"), trained.state, folder / "two", Path(), workers=0)
    one, two = federated_state.read(trained.state), federated_state.read(folder / "two")
    # At no rate to speak of, weights stay those of the start; a fresh net would have others.
    for name, value in one.weights.items():
        if "running" not in name and "batches" not in name:
            assert two.weights[name] == pytest.approx(value, abs=1e-20)
    assert (one.about.rounds, two.about.rounds) == (1, 2)
    assert one.settings["run_key"] != two.settings["run_key"]
    federated_state.check_alike("This test", one.settings, two.settings)


def test_a_start_of_other_settings_is_refused(trained, folder):
    other = slow_settings()
    other = replace(other, clips=other.clips.model_copy(update={"frames": 3}))
    Path("settings.json").write_text(settings_text(other))
    two = folder / "two"
    with pytest.raises(FederatedError, match="differ in clips"):
        train(trained.videos, Path("settings.json"), trained.state, two, Path(), workers=0)
    assert not two.exists()


def test_crops_of_other_params_are_refused(folder):
    faces = small_settings().faces
    made_by = faces.model_copy(update={"margin_ratio": 0.5}).model_dump(mode="json")
    videos = samples_of(cropped(paint_chunk(folder / "p", 3), made_by), folder, side="train")
    with pytest.raises(FederatedError, match="another margin_ratio"):
        lay_out(videos, faces, folder / "faces", workers=0)


@pytest.mark.slow
def test_whole_videos_are_cropped_as_the_stage_crops_them(folder):
    raw = folder / "raw"
    (raw / "videos").mkdir(parents=True)
    records = []
    for split in ("train", "validation", "test"):
        for label in (0, 1):
            video_id = f"{split}{label}"
            records.append(
                VideoRecord(video_id, f"{video_id}.mp4", label, split, "m", split)  # type: ignore[arg-type]
            )
    write_index(raw / "index.csv", records)
    still = sorted((Path(__file__).parents[2] / "data/sources/stills").glob("*_neutral.jpg"))[0]
    face = raw / "videos/train0.mp4"
    make_video_file(
        face, frames=40, rate_fps=20, size=(320, 240), paint=faces_over_noise((still.name, 90, 50))
    )
    make_video_file(raw / "videos/train1.mp4", frames=40, rate_fps=20, size=(320, 240))
    videos = samples_of(uncropped("wild", raw), folder, side="train")
    faces = small_settings().faces
    [chunk] = lay_out(videos, faces, folder / "faces", workers=1)
    [track] = chunk.faces["train0"].tracks
    assert chunk.faces["train1"].reason == Reason.NO_FACE
    assert chunk.faces["validation0"].reason == Reason.MISSING
    list(crop_chunk([("train0", face)], folder / "stage", faces, workers=1))
    assert read_faces(folder / "stage/index.jsonl")["train0"] == chunk.faces["train0"]
    assert (folder / "stage" / track.file).read_bytes() == (
        chunk.faces_dir / track.file
    ).read_bytes()
