"""Temperature and limits: from scores worked out on paper, and of a model's folder alone."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.models.test_train import Notes, make_chunk, run, small_settings
from unmask import params
from unmask.models import checkpoint
from unmask.models.calibrate import ValidationScores, calibrate, score_validation
from unmask.models.checkpoint import Checkpoint
from unmask.models.predict import Predictor
from unmask.models.settings import Settings
from unmask.scoring import verdicts
from unmask.scoring.verdicts import FaceQuality


@pytest.fixture(scope="module")
def settings():
    return small_settings(epochs=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, settings):
    """Return a model's folder and the chunk it was trained on."""
    folder = tmp_path_factory.mktemp("trained")
    chunk = make_chunk(folder / "crops")
    run([chunk], settings, folder / "model", Notes())
    return folder / "model", chunk


def test_a_model_folder_is_calibrated_alone_as_its_training_did_it(trained, settings):
    folder, chunk = trained
    uncalibrated = Predictor(
        folder,
        replace(checkpoint.read_settings(folder), temperature=1.0, limits=verdicts.NOTHING_LEARNED),
    )
    found = score_validation(uncalibrated, [chunk])
    assert found.labels == [0, 1, 0, 1]
    assert [len(video) for video in found.real_stretches] == [1, 1]  # a clip each
    assert len(found.qualities) == 3 * 2 + 2 * 2  # the tracks of train and validation
    carried = calibrate(uncalibrated, found, settings.verdicts)
    assert carried == checkpoint.read_settings(folder)
    assert uncalibrated.checkpoint.temperature == 1.0  # what it was given is left as it was


def test_scores_of_another_chunk_give_the_net_another_temperature(trained, settings, tmp_path):
    folder, _ = trained
    predictor = Predictor.load(folder)
    other = make_chunk(tmp_path / "crops", splits=("validation",) * 3)
    found = score_validation(predictor, [other])
    assert found.labels == [0, 1] * 3
    carried = calibrate(predictor, found, settings.verdicts)
    assert (carried.limits.reals, carried.limits.fakes) == (3, 3)
    assert carried.run_key == predictor.checkpoint.run_key


def test_the_temperature_is_the_one_worked_out_on_paper():
    """Three of four on either side are right by the logit 2: the loss is least at sigmoid 4 / 6.

    Platt's targets for four videos of a class are 5/6 and 1/6. At the logits 2 and -2, each side's
    mean target is (3 * 5/6 + 1/6) / 4 = 2/3, so sigmoid(2 / T) = 2/3, and T = 2 / ln 2.
    """
    shipped = Settings.of(params.load())
    carried = Checkpoint(
        faces=shipped.faces, clips=shipped.clips, model=shipped.model,
        temperature=1.0, limits=verdicts.NOTHING_LEARNED, run_key="0" * 64,
    )  # fmt: skip
    found = ValidationScores(
        labels=[1, 1, 1, 1, 0, 0, 0, 0],
        logits=[2.0, 2.0, 2.0, -2.0, -2.0, -2.0, -2.0, 2.0],
        real_stretches=[],
        qualities=[FaceQuality(face_px=90.0, track_s=9.0, sharpness=0.1, brightness=0.5)] * 8,
    )
    learned = calibrate(Predictor(Path("unread"), carried), found, shipped.verdicts)
    assert learned.temperature == pytest.approx(2 / math.log(2), rel=1e-6)
    assert (learned.limits.reals, learned.limits.fakes) == (4, 4)
    assert learned.limits.min_face_px == 90.0
