"""MTCNN on real faces: searching a picture, following from frame to frame."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from painted import DETECT, faces_over_noise, iou, still

from unmask.engine import on_cpu
from unmask.faces.detector import Detector
from unmask.records import Box
from unmask.video import decode

MakeVideo = Callable[..., Path]


def test_faces_are_found_where_they_are(mtcnn: Detector) -> None:
    empty = np.full((180, 320, 3), 90, np.uint8)
    both, one = empty.copy(), empty.copy()
    both[20:160, 10:150], both[20:160, 170:310] = (
        still("001_neutral.jpg", 140),
        still("002_smiling.jpg", 140),
    )
    one[20:160, 170:310] = still("002_smiling.jpg", 140)
    found = mtcnn.detect([empty, both, one])
    assert [len(faces_of_picture) for faces_of_picture in found] == [0, 2, 1]
    assert sorted(face.box_xyxy[0] < 150 for face in found[1]) == [False, True]
    for face in (*found[1], *found[2]):
        left_eye, right_eye, nose, mouth_left, mouth_right = face.points_52
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_eye[1] < nose[1] < mouth_left[1]
        assert mouth_left[0] < mouth_right[0]
        assert 0.9 <= face.score <= 1
        left, top, right, bottom = face.box_xyxy
        assert all(left < x < right and top < y < bottom for x, y in face.points_52)
    assert mtcnn.detect([empty, both, one]) == found


@pytest.mark.parametrize("size", [(1, 1), (12, 12), (19, 500), (39, 60), (40, 40), (41, 300)])
def test_pictures_without_a_face_however_small_give_none(
    mtcnn: Detector, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(3)]
    assert mtcnn.detect(pictures) == [[], [], []]


def test_no_pictures_give_nothing(mtcnn: Detector) -> None:
    assert mtcnn.detect([]) == []


def test_importing_the_module_imports_no_torch() -> None:
    code = "import sys, unmask.faces.crops; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("rotation_deg", [0, 90])
def test_a_face_is_followed_to_where_a_search_finds_it(
    mtcnn: Detector, make_video: MakeVideo, tmp_path: Path, rotation_deg: int
) -> None:
    paint = faces_over_noise(("001_neutral.jpg", 10, 20), ("002_smiling.jpg", 170, 20))
    path = make_video(
        tmp_path / "v.mp4", frames=1, size=(320, 180), paint=paint, rotation_deg=rotation_deg
    )
    (frame,) = decode.read_frames(path)
    searched = sorted(mtcnn.detect([frame.rgb_HWC()])[0], key=lambda face: face.box_xyxy)
    assert len(searched) == 2

    def moved(box: Box, share: float) -> Box:
        x, y = share * (box[2] - box[0]), share * (box[3] - box[1])
        return box[0] + x, box[1] - y, box[2] + x, box[3] - y

    expected = [moved(face.box_xyxy, 0.15) for face in searched]
    nowhere = [(120.0, 40.0, 190.0, 110.0), (400.0, 40.0, 470.0, 110.0), (-60.0, 0.0, 5.0, 60.0)]
    *followed, between, right, left = mtcnn.follow(frame, [*expected, *nowhere])
    assert (right, left) == (None, None)
    assert between is None
    for found, face, start in zip(followed, searched, expected, strict=True):
        assert found is not None
        assert iou(found.box_xyxy, face.box_xyxy) > 0.8 > iou(start, face.box_xyxy)
        assert found.score > 0.9
        away = np.abs(np.subtract(found.points_52, face.points_52)).max()
        assert away < 0.1 * (face.box_xyxy[2] - face.box_xyxy[0])
    assert mtcnn.follow(frame, []) == []


@pytest.mark.parametrize("library", ["onnxruntime", None])
def test_without_openvino_the_same_faces_are_found(
    mtcnn: Detector, monkeypatch: pytest.MonkeyPatch, library: str | None
) -> None:
    """By ONNX Runtime, and by torch where neither is installed."""
    if library is not None:
        pytest.importorskip(library, reason=f"{library} is not installed: nothing to be tested")
    picture = np.full((180, 320, 3), 90, np.uint8)
    picture[20:160, 170:310] = still("002_smiling.jpg", 140)
    ((expected,),) = mtcnn.detect([picture])
    monkeypatch.setattr(on_cpu, "library", lambda: library)
    ((found,),) = Detector(DETECT).detect([picture])
    assert iou(found.box_xyxy, expected.box_xyxy) > 0.95
    assert found.score == pytest.approx(expected.score, abs=0.01)
