"""What is measured of crops and files: noise of a known strength, colours worked out on paper."""

from pathlib import Path

import numpy as np
import pytest
import torch

from unmask.evaluation import looks
from unmask.evaluation.looks import FileFacts, FrozenNet
from unmask.records import FaceTrack, ForgedPart, VideoFaces
from unmask.video.encode import write_video

SIDE = 64


def track(number, times, box=(0.0, 0.0, 120.0, 120.0), file="face.mp4"):
    """Return a track with one box."""
    return FaceTrack(number, file, tuple(times), (box,) * len(times), (1.0,) * len(times))


class CountingNet:
    """Stands for the image net where it does not matter: a picture's feature is its mean red."""

    def features(self, frames_THWC):
        """Return a row for each picture."""
        return frames_THWC[..., 0].mean((1, 2))[:, None].astype(np.float32)


@pytest.mark.parametrize("strength", [2.0, 6.0])
def test_grain_is_the_deviation_of_the_noise(strength):
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 180, 256)[:, None, None]  # a slope, to which the mask is blind
    noise = rng.normal(0, strength, (256, 256, 1))
    picture = np.clip(np.round(ramp + noise), 0, 255).astype(np.uint8).repeat(3, axis=2)
    assert looks.measure_grain(picture) == pytest.approx(strength, rel=0.05)


def test_saturation_is_how_far_from_grey_the_middle_is():
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[:, :] = (200, 100, 150)  # (200 - 100) / 200
    picture[: SIDE // 4] = (255, 0, 0)  # around the face
    assert looks.measure_saturation(picture) == pytest.approx(0.5)
    assert looks.measure_saturation(np.full((SIDE, SIDE, 3), 90, np.uint8)) == 0.0
    assert looks.measure_saturation(np.zeros((SIDE, SIDE, 3), np.uint8)) == 0.0


def test_the_main_face_is_seen_longest_and_of_two_the_wider_one():
    short = track(0, (0.0, 0.1), (0.0, 0.0, 500.0, 500.0))
    long, wide = track(1, (0.0, 1.0)), track(2, (1.0, 2.0), (0.0, 0.0, 130.0, 130.0))
    assert looks.main_face(VideoFaces("v", "", (short, long, wide))) is wide
    assert looks.main_face(VideoFaces("v", "", ())) is None


def test_of_a_marked_fake_only_the_forged_face_counts():
    left, right = track(0, (0.0, 3.0)), track(1, (0.0, 1.0), (400.0, 0.0, 520.0, 120.0))
    found = VideoFaces("v", "", (left, right))
    part = ForgedPart(box_xyxy=(390.0, 0.0, 530.0, 130.0))
    assert looks.main_face(found, part) is right
    assert looks.main_face(found, ForgedPart(from_s=9.0)) is None


def test_a_look_has_the_quantities_of_crop_and_file(tmp_path: Path):
    pictures = [np.full((SIDE, SIDE, 3), (200, 100, 150), np.uint8) for _ in range(12)]
    write_video(tmp_path / "face.mp4", pictures, rate_fps=10.0, crf=1)
    seen = track(0, [n / 10 for n in range(12)])
    look = looks.look_at(tmp_path, seen, FileFacts(5000, 4.0), 0.1, CountingNet())
    assert look.quantities["face_px"] == pytest.approx(100.0)  # of 120 px a tenth on each side
    assert look.quantities["file_bytes"] == 5000
    assert look.quantities["bits_per_s"] == 10_000
    assert look.quantities["saturation"] == pytest.approx(0.5, abs=0.03)
    assert look.quantities["grain"] == pytest.approx(0.0, abs=0.1)
    assert look.features_FD.shape == (looks.PICTURES, 1)
    assert look.features_FD == pytest.approx(200, abs=4)
    unknown = looks.look_at(tmp_path, seen, FileFacts(5000, None), 0.1, CountingNet())
    assert set(looks.QUANTITIES) - set(unknown.quantities) == {"bits_per_s"}
    gone = looks.look_at(tmp_path, seen, FileFacts(None, None), 0.1, CountingNet())
    assert set(looks.QUANTITIES) - set(gone.quantities) == {"file_bytes", "bits_per_s"}


def test_a_short_track_has_fewer_pictures(tmp_path: Path):
    write_video(
        tmp_path / "face.mp4", [np.zeros((SIDE, SIDE, 3), np.uint8)] * 2, rate_fps=10.0, crf=1
    )
    look = looks.look_at(tmp_path, track(0, (0.0, 0.1)), FileFacts(1, 1.0), 0.1, CountingNet())
    assert 1 <= len(look.features_FD) <= 2


def test_a_file_has_its_size_and_length(make_video, tmp_path: Path):
    video = make_video(tmp_path / "known.mp4", frames=20, rate_fps=10)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    [known, unreadable, missing] = looks.file_facts(
        [video, broken, tmp_path / "gone.mp4"], workers=1
    )
    assert known.size_bytes == video.stat().st_size
    assert known.duration_s == pytest.approx(2.0, abs=0.11)
    assert unreadable == FileFacts(15, None)
    assert missing == FileFacts(None, None)


def test_the_frozen_net_gives_what_its_own_head_would_read(tmp_path: Path):
    net = FrozenNet(tmp_path)
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (2, 80, 80, 3), dtype=np.uint8)
    features = net.features(frames)
    assert features.shape == (2, 1280)
    # Whole net = head of these features: the classifier's two logits agree.
    from unmask.models.clip_times import to_input

    with torch.inference_mode():
        whole = net.net(torch.from_numpy(to_input(frames, 224))[None])[0]
        head = net.net.image.get_classifier()(torch.from_numpy(features)).mean(0)
    torch.testing.assert_close(whole.cpu(), head, atol=1e-4, rtol=1e-4)
    # Its weights are ImageNet's, not random ones: they are the same each time.
    np.testing.assert_array_equal(features, FrozenNet(tmp_path).features(frames))
