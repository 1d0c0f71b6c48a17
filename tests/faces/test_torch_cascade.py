"""torch's cascade, as GPUs run it, against the CPU's own."""

from itertools import chain

import numpy as np
import pytest
from painted import faces_over_noise

from unmask.faces.cascade import Cascade
from unmask.faces.torch_cascade import TorchCascade

THRESHOLDS = (0.6, 0.7, 0.7)


def test_both_find_the_same_faces() -> None:
    """On a CPU they see the same bytes at each step, so boxes differ by rounding alone."""
    pictures = np.stack([
        faces_over_noise((f"{one}.jpg", 20, 5), (f"{other}.jpg", 310, 100))(0, (640, 360))
        for one, other in (("001_neutral", "002_smiling"), ("010_neutral", "016_smiling"))
    ])  # fmt: skip
    ours = Cascade(min_face_px=24, thresholds=THRESHOLDS).search(pictures)
    theirs = TorchCascade(min_face_px=24, thresholds=THRESHOLDS, device="cpu").search(pictures)
    assert [len(faces) for faces in ours] == [len(faces) for faces in theirs] == [2, 2]
    for mine, other in zip(chain(*ours), chain(*theirs), strict=True):
        assert mine.box_xyxy == pytest.approx(other.box_xyxy, abs=1e-4)
        assert np.ravel(mine.points_52) == pytest.approx(np.ravel(other.points_52), abs=1e-4)
        assert mine.score == pytest.approx(other.score, abs=1e-5)


def test_both_say_the_same_of_one_window() -> None:
    window = faces_over_noise(("007_smiling.jpg", 0, 0))(0, (320, 240))[40:88, 50:98]
    places = [(0, 0, 96, 96)]
    (mine,) = Cascade(min_face_px=24, thresholds=THRESHOLDS).look(window[None], places)
    torchs = TorchCascade(min_face_px=24, thresholds=THRESHOLDS, device="cpu")
    (other,) = torchs.look(window[None], places)
    assert mine.box_xyxy == pytest.approx(other.box_xyxy, abs=1e-3)
    assert np.ravel(mine.points_52) == pytest.approx(np.ravel(other.points_52), abs=1e-3)
    assert mine.score == pytest.approx(other.score, abs=1e-5)
