"""From tracks to answers, with a net whose logit can be read off the picture."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from unmask import params
from unmask.models.checkpoint import Checkpoint
from unmask.models.frame_net import DEVIATION, MEAN
from unmask.models.predict import Predictor, measure, pool, probability
from unmask.records import FaceTrack, Reason, TrackScore
from unmask.scoring.verdicts import NOTHING_LEARNED
from unmask.video.encode import write_video

SIDE_PX = 64


class Brightness(torch.nn.Module):
    """Says fake in proportion to the mean of the last frame: 0 for black, 10 for white."""

    def forward(self, clips_BCTHW):
        level_B = (clips_BCTHW[:, :, -1] * DEVIATION + MEAN).mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(level_B), 10 * level_B], dim=1)


@pytest.fixture
def checkpoint():
    settings = params.load()
    given = {"side_px": SIDE_PX, "max_per_track": 3, "brightness": None}
    clips = settings.clips.model_copy(update=given)
    return Checkpoint(
        settings.faces, clips, settings.model, temperature=2.0, limits=NOTHING_LEARNED, run_key=""
    )  # fmt: skip


def write_track(folder, track, levels):
    """Write a grey crop file with these levels, ten a second, and return its row."""
    file = f"clip_{track}.mp4"
    frames = [np.full((SIDE_PX, SIDE_PX, 3), level, np.uint8) for level in levels]
    write_video(folder / file, frames, rate_fps=10.0, crf=4)
    times = tuple(index / 10 for index in range(len(levels)))
    boxes = tuple((0.0, 0.0, 1.0, 1.0) for _ in levels)
    return FaceTrack(track, file, times, boxes, tuple(1.0 for _ in levels))


def test_a_tracks_logit_is_the_mean_over_clips_that_cover_it(tmp_path, checkpoint):
    # 4 frames, 0.4 s apart, span 1.2 s: in 3.1 s there is room for two, from 0 s and from 1.9 s,
    # that end at frames 12 and 31.
    levels = [0] * 32
    levels[12], levels[31] = 51, 204
    predictor = Predictor(Brightness(), checkpoint, device="cpu")
    [score] = predictor.score_tracks(tmp_path, [write_track(tmp_path, 0, levels)])
    assert score.clip_starts_s == pytest.approx((0, 1.9))
    assert score.clip_logits == pytest.approx((2, 8), abs=0.15)
    assert score.logit == pytest.approx(sum(score.clip_logits) / 2)


def test_batches_do_not_mix_tracks(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setattr("unmask.models.predict.CLIPS_AT_ONCE", 2)
    tracks = [write_track(tmp_path, n, [level] * 38) for n, level in enumerate((0, 255, 102))]
    predictor = Predictor(Brightness(), checkpoint, device="cpu")
    scores = predictor.score_tracks(tmp_path, tracks)
    assert [score.logit for score in scores] == pytest.approx([0, 10, 4], abs=0.15)


def test_the_most_suspicious_face_is_the_videos():
    tracks = [TrackScore(0, -1.0, (0.0,), (-1.0,)), TrackScore(1, 3.0, (0.0,), (3.0,))]
    score = pool("clip", tracks, None, temperature=1.5)
    assert score.probability == pytest.approx(1 / (1 + math.exp(-2)))
    assert score.worst is tracks[1]


def test_no_track_is_no_answer():
    score = pool("clip", [], Reason.NO_FACE, temperature=1.0)
    assert (score.probability, score.reason, score.tracks) == (None, Reason.NO_FACE, ())


@pytest.mark.parametrize(("logit", "expected"), [(0, 0.5), (1e4, 1.0), (-1e4, 0.0)])
def test_probability_does_not_overflow(logit, expected):
    assert probability(logit, 1.0) == expected


def test_a_faces_look_is_measured_in_the_middle_of_its_crops(tmp_path, checkpoint):
    # Left and right columns a pixel wide, 100 and 150, in a black frame: grey 125, spread 25. The
    # Laplacian of such columns is 2 * 50 up and down, so its variance is 100**2: 16 times as much.
    picture = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    middle = slice(SIDE_PX // 4 - 2, -SIDE_PX // 4 + 2)
    picture[middle, middle] = np.where(np.arange(SIDE_PX // 2 + 4) % 2, 150, 100)[None, :, None]
    # Columns that do not change from row to row are no grain.
    assert measure(picture) == pytest.approx((16, 125 / 255, 0))
    assert measure(np.full((64, 64, 3), 51, np.uint8)) == (0, 0.2, 0)
    noise = np.random.default_rng(1).normal(128, 5, (256, 256, 1)).round().astype(np.uint8)
    assert measure(np.repeat(noise, 3, 2))[2] == pytest.approx(5, rel=0.05)

    track = write_track(tmp_path, 0, [51] * 38)
    track = replace(track, boxes_T4=tuple((5.0, 0.0, 5.0 + 60 + n % 2, 1.0) for n in range(37)))
    predictor = Predictor(Brightness(), checkpoint, device="cpu")
    [(score, look)] = predictor.study_tracks(tmp_path, [track])
    assert look == predictor.measure_quality(tmp_path, track)
    assert [score] == predictor.score_tracks(tmp_path, [track])
    assert look.face_px == pytest.approx(60 / 1.2)  # the box without its margin of a tenth
    assert (look.track_s, look.brightness) == pytest.approx((3.7, 0.2), abs=0.01)


def test_a_denser_timeline_goes_over_the_whole_track(tmp_path, checkpoint):
    track = write_track(tmp_path, 0, [0] * 60 + [255] * 60)
    predictor = Predictor(Brightness(), checkpoint, device="cpu")
    moments = predictor.score_moments(tmp_path, track, most=20)
    assert len(moments) == 7  # 1.2 s each, 0.4 s apart
    assert [start_s for start_s, _ in moments] == pytest.approx(np.linspace(0, 10.7, 7))
    assert [logit for _, logit in moments] == pytest.approx([0] * 3 + [10] * 4, abs=0.15)


def test_importing_it_takes_no_torch():
    done = subprocess.run(
        [sys.executable, "-c",
         "import sys, unmask.answers.analysis; print('torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "False\n"
