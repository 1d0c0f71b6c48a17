"""What a benchmark's videos look like without a detector, by a net whose feature is read off."""

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.test_looks import CountingNet
from unmask.evaluation.benchmarks import quality
from unmask.records import Chunk, FaceTrack, VideoFaces, VideoRecord
from unmask.video.encode import write_video

REDS = {"a": 40, "b": 200, "c": 60, "d": 220}


@pytest.fixture
def chunk(tmp_path: Path) -> Chunk:
    """Two genuine videos of little red, two fakes of much: one of each is for training."""
    records, faces = [], {}
    for name, red in REDS.items():
        write_video(
            tmp_path / f"{name}.mp4", [np.full((64, 64, 3), (red, 90, 90), np.uint8)] * 4,
            rate_fps=10.0, crf=1,
        )  # fmt: skip
        times = (0.0, 0.1, 0.2, 0.3)
        track = FaceTrack(0, f"{name}.mp4", times, ((0.0, 0.0, 120.0, 120.0),) * 4, (1.0,) * 4)
        label = int(red > 100)
        split = "train" if name in "ab" else "test"
        method = "swap" if label else "real"
        records.append(VideoRecord(name, f"{name}.mp4", label, name, method, split))
        faces[name] = VideoFaces(name, "k", (track,))
    records.append(VideoRecord("e", "e.mp4", 1, "e", "swap", "test"))
    faces["e"] = VideoFaces("e", "k", ())
    return Chunk("wild", records, faces, tmp_path)


def test_training_videos_teach_and_each_video_with_a_face_is_looked_at(
    chunk: Chunk, tmp_path: Path
) -> None:
    settings = {"margin_ratio": 0.1, "workers": 1}
    learned = quality.learn([chunk], tmp_path / "nowhere", CountingNet(), **settings)
    assert learned is not None
    # Of the training videos alone: a mean of 40 and 200, though the test videos have more.
    assert learned.linear.mean_D == pytest.approx([120], abs=4)
    logits = {"c": -1.0, "d": 2.0}
    found = dict(
        quality.look_at_videos(chunk, tmp_path, logits, CountingNet(), **settings)
    )  # fmt: skip
    assert list(found) == ["a", "b", "c", "d"]
    assert [found[name].score for name in REDS] == [None, None, -1.0, 2.0]
    assert found["d"].look.quantities["face_px"] == pytest.approx(100)
    assert found["d"].look.quantities["file_bytes"] == (tmp_path / "d.mp4").stat().st_size
    assert (found["d"].label, found["d"].group, found["d"].method) == (1, "d", "swap")
