"""From tracks to answers, with a net whose logit can be read off the picture."""

import logging
import math
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from unmask import params
from unmask.engine import on_cpu
from unmask.engine.onnxruntime_net import OnnxRuntimeNet
from unmask.engine.openvino_net import OpenVinoNet
from unmask.engine.torch_net import TorchNet
from unmask.geometry import DEVIATION, MEAN
from unmask.models.backbones import build, clip_logits
from unmask.models.checkpoint import SETTINGS, WEIGHTS, Checkpoint, save
from unmask.models.clip_times import read_clips, to_input
from unmask.models.grad_cam import heat_of
from unmask.models.predict import Predictor, measure, pool, probability
from unmask.records import FaceTrack, Reason, TrackScore
from unmask.runtime.digests import NET
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


def test_tracks_do_not_mix(tmp_path, checkpoint):
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
    [(score, look, features)] = predictor.study_tracks(tmp_path, [track])
    assert features == []  # of a net without a last layer
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


def saved(tmp_path, checkpoint, *, side_px=64):
    """Return the folder of a small model, and its net."""
    torch.manual_seed(4)
    clips = checkpoint.clips.model_copy(update={"side_px": side_px})
    limits = replace(NOTHING_LEARNED, max_sharpness=1.0)  # a number that JSON has
    own = replace(checkpoint, clips=clips, limits=limits)
    net = build("x3d_xs", dropout=0.5)
    with torch.no_grad():
        net(torch.randn(2, 3, 4, side_px, side_px))
    save(tmp_path / "model", net.eval(), own)
    return tmp_path / "model", net


def test_every_way_to_a_net_gives_the_same_bits(tmp_path, checkpoint, caplog):
    """From the folder, from the net in memory, from a folder of before, by one thread or two."""
    folder, net = saved(tmp_path, checkpoint)
    tracks = [write_track(tmp_path, n, range(0, 250 - 40 * n, 5)) for n in range(2)]
    predictor = Predictor.load(folder)
    expected = predictor.study_tracks(tmp_path, tracks)
    assert isinstance(predictor.net, OpenVinoNet)
    assert [len(each.features) for each in expected] == [3, 3]
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    (old / NET).unlink()
    old.chmod(0o500)
    ways = {
        "in memory": Predictor(net, predictor.checkpoint, device="cpu"),
        "one thread": Predictor.load(folder, threads=1),
        "without the file": Predictor.load(old),
    }
    with caplog.at_level(logging.INFO):
        for way, other in ways.items():
            found = other.study_tracks(tmp_path, tracks[::-1])[::-1]
            assert [each.score for each in found] == [each.score for each in expected], way
            for mine, theirs in zip(expected, found, strict=True):
                assert np.array_equal(mine.features, theirs.features)
    assert "old has no net that runs without torch" in caplog.text
    assert sorted(path.name for path in old.iterdir()) == sorted([SETTINGS, WEIGHTS])
    # Both engines agree.
    clip = torch.from_numpy(next(read_clips(tmp_path / tracks[0].file, tracks[0].times_T, [0.0],
                                            predictor.checkpoint.geometry)))  # fmt: skip
    given = to_input(clip.numpy(), SIDE_PX)
    with torch.inference_mode():
        logit = float(clip_logits(net, torch.from_numpy(given)[None]))
    assert next(predictor.score_clips([given])) == pytest.approx(logit, abs=1e-4)


@pytest.mark.parametrize(("library", "engine"), [("onnxruntime", OnnxRuntimeNet), (None, TorchNet)])
def test_a_cpu_without_openvino_is_served_by_what_is_there(
    tmp_path, checkpoint, monkeypatch, library, engine
):
    if library is not None:
        pytest.importorskip(library, reason=f"{library} is not installed: nothing to be tested")
    folder, _ = saved(tmp_path, checkpoint)
    clips = np.random.default_rng(1).normal(0, 1, (3, 3, 4, 64, 64)).astype(np.float32)
    expected = list(Predictor.load(folder, device="cpu").score_clips(clips))
    monkeypatch.setattr(on_cpu, "library", lambda: library)
    predictor = Predictor.load(folder, device="cpu")
    found = list(predictor.score_clips(clips))
    assert isinstance(predictor.net, engine)
    assert found == pytest.approx(expected, abs=1e-4)
    assert list(predictor.score_clips(clips[::-1])) == found[::-1]


def test_a_net_without_a_portable_form_is_run_by_torch(tmp_path, checkpoint):
    class Spectrum(Brightness):
        def forward(self, clips_BCTHW):
            return super().forward(torch.fft.ifft(torch.fft.fft(clips_BCTHW)).real)

    track = write_track(tmp_path, 0, [102] * 38)
    (score,) = Predictor(Spectrum(), checkpoint, device="cpu").score_tracks(tmp_path, [track])
    assert score.logit == pytest.approx(4, abs=0.15)


def test_weights_of_others_are_scored_themselves(tmp_path, checkpoint):
    """Whoever puts other weights into a folder gets the answers of these, not of the old net."""
    folder, net = saved(tmp_path, checkpoint)
    clip = np.random.default_rng(1).normal(0, 1, (3, 4, 64, 64)).astype(np.float32)
    (before,) = Predictor.load(folder).score_clips([clip])
    state = net.state_dict()
    last = "blocks.5.proj"
    state = {name: -x if name.startswith(last) else x for name, x in state.items()}
    save_file(state, folder / WEIGHTS)
    (after,) = Predictor.load(folder).score_clips([clip])
    assert after == pytest.approx(-before, rel=1e-4)
    assert before != 0


def test_maps_are_the_nets_own_or_torchs(tmp_path, checkpoint):
    folder, net = saved(tmp_path, checkpoint)
    predictor = Predictor.load(folder)
    clip = np.random.default_rng(1).normal(0, 1, (3, 4, 64, 64)).astype(np.float32)
    heat_THW = predictor.heat_of(clip)
    expected = heat_of(net, clip)
    assert heat_THW == pytest.approx(expected, abs=1e-3 * float(expected.max()))
    assert not predictor.maps_tokens
    assert "torch_net" not in vars(predictor)
    torch.manual_seed(1)
    vit = build("timm/vit_tiny_patch16_224", dropout=0.0, side_px=64).eval()
    by_torch = Predictor(vit, predictor.checkpoint, device="cpu")
    assert by_torch.maps_tokens
    assert np.array_equal(by_torch.heat_of(clip), heat_of(vit, clip))
