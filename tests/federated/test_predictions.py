"""The benchmark's metrics: against scikit-learn, on paper, and what they refuse."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from unmask.errors import OneClassError
from unmask.federated.predictions import auc, coverage, log_loss, write_predictions
from unmask.federated.samples import FederatedError, Row, Videos
from unmask.records import Reason, VideoRecord, VideoScore
from unmask.scoring import metrics


def videos_of(labels):
    return Videos(
        tuple(
            Row("c", VideoRecord(f"v{n:03}", "", label, str(n), "", "test"), (), None, None)
            for n, label in enumerate(labels)
        )
    )


def write(path, videos, values):
    scores = [
        VideoScore(name, value, None if value is not None else Reason.NO_FACE, ())
        for name, value in zip(videos.names, values, strict=True)
    ]
    write_predictions(path, videos.names, scores)
    return path


@pytest.fixture
def pair(tmp_path):
    """Return 60 videos, made-up probabilities of them, and the predictions' file."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 60).tolist()
    values = np.clip(np.round(rng.random(60), 1), 0.05, 0.95).tolist()  # with ties
    videos = videos_of(labels)
    return videos, values, write(tmp_path / "p.json", videos, values)


def test_they_agree_with_scikit_learn_and_with_ours(pair):
    videos, values, path = pair
    assert log_loss(videos, path) == pytest.approx(sklearn_log_loss(videos.labels, values))
    assert log_loss(videos, path) == metrics.log_loss(videos.labels, values)
    assert auc(videos, path) == pytest.approx(roc_auc_score(videos.labels, values))
    assert coverage(videos, path) == 1.0


def test_the_perfect_beat_a_constant_and_that_beats_the_inverted(tmp_path):
    videos = videos_of([0, 1, 1, 0])
    perfect = write(tmp_path / "a", videos, [0.0, 1.0, 1.0, 0.0])
    constant = write(tmp_path / "b", videos, [0.5] * 4)
    inverted = write(tmp_path / "c", videos, [1.0, 0.0, 0.0, 1.0])
    losses = [log_loss(videos, path) for path in (perfect, constant, inverted)]
    assert losses == pytest.approx([-np.log1p(-1e-7), np.log(2), -np.log(1e-7)])
    assert [auc(videos, path) for path in (perfect, constant, inverted)] == [1.0, 0.5, 0.0]


def test_the_order_of_the_predictions_does_not_count(pair):
    videos, _, path = pair
    before = log_loss(videos, path), auc(videos, path)
    found = json.loads(path.read_text())
    found["scores"].reverse()
    path.write_text(json.dumps(found))
    assert (log_loss(videos, path), auc(videos, path)) == before


def test_a_video_without_a_score_is_left_out_and_counted(tmp_path):
    videos = videos_of([0, 1, 1, 0])
    path = write(tmp_path / "p", videos, [0.25, None, 0.75, 0.25])
    assert log_loss(videos, path) == pytest.approx(-np.log(0.75))
    assert coverage(videos, path) == 0.75


@pytest.mark.parametrize("metric", [log_loss, auc])
@pytest.mark.parametrize("values", [[0.5, 0.5, None], [None, None, 0.5], [None] * 3])
def test_a_single_class_is_an_error(tmp_path, metric, values):
    videos = videos_of([1, 1, 0])
    with pytest.raises(Exception, match="needs") as caught:
        metric(videos, write(tmp_path / "p", videos, values))
    assert isinstance(caught.value, OneClassError) == any(value is not None for value in values)


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-0.01", "1.01", "true", '"0.5"', "[0.5]", "1" * 400]
)
@pytest.mark.parametrize("metric", [log_loss, auc, coverage])
def test_what_is_no_probability_is_refused(pair, metric, value):
    videos, _, path = pair
    found = json.loads(path.read_text())
    found["scores"][7]["probability"] = "HERE"
    path.write_text(json.dumps(found).replace('"HERE"', value))
    with pytest.raises(FederatedError, match="gives c/v007"):
        metric(videos, path)


def test_predictions_of_other_videos_are_refused(pair):
    videos, _, path = pair
    whole = json.loads(path.read_text())["scores"]

    def say(rows):
        path.write_text(json.dumps({"format": 1, "scores": rows}))
        return path

    with pytest.raises(FederatedError, match="found 59, of which 0 are of others, and 1 videos"):
        log_loss(videos, say(whole[1:]))
    other = [{**whole[0], "video": "c/other"}, *whole[1:]]
    with pytest.raises(FederatedError, match="found 60, of which 1 are of others, and 1 videos"):
        log_loss(videos, say(other))
    with pytest.raises(FederatedError, match="has 61 of 60 videos"):
        log_loss(videos, say([whole[0], *whole]))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 9, "scores": []}', "[" * 9999])
def test_what_holds_no_predictions_is_refused(pair, text):
    videos, _, path = pair
    path.write_text(text)
    with pytest.raises(FederatedError, match="holds none"):
        log_loss(videos, path)


def test_light_functions_import_nothing_heavy():
    """Their images have numpy, safetensors and substratools alone."""
    script = (
        "import sys, unmask.federated.predictions, unmask.federated.state\n"
        "import unmask.federated.samples\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2] / "src",
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "pydantic", "lightning", "av", "cv2", "click", "yaml", "sklearn"}
