"""The cascade against facenet-pytorch's own search, on real faces and on noise."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from facenet_pytorch import MTCNN
from painted import faces_over_noise, iou

from unmask.faces.cascade import Cascade

THRESHOLDS = (0.6, 0.7, 0.7)


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    return Cascade(min_face_px=24, thresholds=THRESHOLDS)


def test_it_finds_the_faces_that_facenet_finds(cascade: Cascade) -> None:
    names = ["001_neutral", "002_smiling", "010_neutral", "016_smiling", "033_neutral"]
    pictures = np.stack([
        faces_over_noise((f"{one}.jpg", 12 * n, 5 * n), (f"{other}.jpg", 300 + 9 * n, 100))(
            0, (640, 360)
        )
        for n, (one, other) in enumerate(zip(names, names[1:] + names[:1], strict=True))
    ])  # fmt: skip
    library = MTCNN(keep_all=True, min_face_size=24, post_process=False).eval()
    boxes, scores, points = library.detect(pictures, landmarks=True)
    found = cascade.search(pictures)
    assert [len(faces) for faces in found] == [2] * 5
    for faces, their_boxes, their_scores, their_points in zip(
        found, boxes, scores, points, strict=True
    ):
        assert len(their_boxes) == 2
        for box, score, points_52 in zip(their_boxes, their_scores, their_points, strict=True):
            face = max(faces, key=lambda face, box=box: iou(face.box_xyxy, box))
            assert iou(face.box_xyxy, box) > 0.85
            assert face.score == pytest.approx(score, abs=0.01)
            away = np.abs(np.subtract(face.points_52, points_52)).max()
            assert away < 0.06 * (box[2] - box[0])


def test_a_picture_s_faces_do_not_depend_on_its_batch(cascade: Cascade) -> None:
    pictures = [
        faces_over_noise((f"{name}.jpg", 40, 20))(0, (320, 240))
        for name in ("004_smiling", "005_neutral")
    ]
    together = cascade.search(np.stack([*pictures, np.full_like(pictures[0], 90)]))
    assert together[2] == []
    for picture, faces in zip(pictures, together, strict=False):
        ((alone,), (face,)) = cascade.search(picture[None])[0], faces
        assert face.box_xyxy == pytest.approx(alone.box_xyxy, abs=1e-3)
        assert face.score == pytest.approx(alone.score, abs=1e-5)


def test_a_face_in_a_window_is_where_the_window_lies(cascade: Cascade) -> None:
    picture = faces_over_noise(("007_smiling.jpg", 60, 40))(0, (320, 240))
    ((face,),) = cascade.search(picture[None])
    left, top, right, bottom = map(round, face.box_xyxy)
    side = bottom - top
    left -= (side - (right - left)) // 2
    window = np.ascontiguousarray(picture[top : top + side, left : left + side])
    small = cv2.resize(window, (48, 48), interpolation=cv2.INTER_AREA)
    (here,) = cascade.look(small[None], [(left, top, left + side, top + side)])
    (there,) = cascade.look(small[None], [(1000, 2000, 1000 + 2 * side, 2000 + 2 * side)])
    assert iou(here.box_xyxy, face.box_xyxy) > 0.85
    for (x, y), (far_x, far_y) in zip(here.points_52, there.points_52, strict=True):
        assert far_x == pytest.approx(1000 + 2 * (x - left))
        assert far_y == pytest.approx(2000 + 2 * (y - top))


@pytest.mark.parametrize("min_face_px", [24, 47, 94])
def test_a_picture_as_small_as_a_face_has_one_level(min_face_px: int) -> None:
    cascade = Cascade(min_face_px=min_face_px, thresholds=THRESHOLDS)
    assert cascade.search(np.full((1, min_face_px, 2 * min_face_px, 3), 90, np.uint8)) == [[]]


def test_it_imports_no_torch() -> None:
    code = (
        "import sys; from unmask.faces.cascade import Cascade;"
        "Cascade(min_face_px=24, thresholds=(0.6, 0.7, 0.7)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
