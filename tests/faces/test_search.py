"""Which faces each frame shows: painted squares, searched for now and then, followed in between."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from painted import SETTINGS, Picture, SquareDetector, at, crop, squares

from unmask import params
from unmask.faces.search import FrameDetections, find_faces
from unmask.faces.tracks import Detection
from unmask.records import Box
from unmask.video.decode import read_frames
from unmask.video.frame import Frame

MakeVideo = Callable[..., Path]
Painter = Callable[[int, tuple[int, int]], Picture]

EVERY_S = SETTINGS.model_copy(update={"detect_every_s": 1.0})


class CountingDetector(SquareDetector):
    """Counts the pictures it searches and the faces it follows; blind in searches as told."""

    def __init__(self, blind: Sequence[int] = ()) -> None:
        self.searched = self.followed = 0
        self._blind = blind

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        found = []
        for faces in super().detect(pictures):
            found.append([] if self.searched in self._blind else faces)
            self.searched += 1
        return found

    def follow(self, frame: Frame, boxes: Sequence[Box]) -> list[Detection | None]:
        self.followed += len(boxes)
        return super().follow(frame, boxes)


def sight(
    path: Path, detector: SquareDetector, settings: params.Faces = EVERY_S
) -> list[FrameDetections]:
    return list(find_faces(read_frames(path, rate_fps=10), settings, detector))


def film(make_video: MakeVideo, folder: Path, paint: Painter, seconds: float = 3) -> Path:
    return make_video(
        folder / "v.mp4", frames=round(10 * seconds), rate_fps=10, size=(320, 180), paint=paint
    )


def test_every_frame_has_the_faces_that_it_shows(make_video: MakeVideo, tmp_path: Path) -> None:
    def move(time_s: float) -> Box:
        return at(20 + 60 * time_s, 40, 60)  # a tenth of its side a frame

    def visit(time_s: float) -> Box | None:
        return at(200, 100, 50) if 1.35 < time_s < 2.55 else None  # between two searches

    detector = CountingDetector()
    path = film(make_video, tmp_path, squares(move, visit, rate_fps=10))
    detections_by_frame = sight(path, detector)
    assert [round(each.frame.time_s, 2) for each in detections_by_frame] == [
        n / 10 for n in range(30)
    ]
    for detections in detections_by_frame:
        expected = [move(detections.frame.time_s), visit(detections.frame.time_s)]
        boxes = sorted(face.box_xyxy for face in detections.faces)
        assert len(boxes) == sum(box is not None for box in expected)
        for box, where in zip(boxes, filter(None, expected), strict=True):
            assert box == pytest.approx(where, abs=2)
    assert detector.searched == 4  # at 0, 1 and 2 s, and the last frame


def test_a_face_that_is_known_is_followed_once_a_frame(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    detector = CountingDetector()
    sight(film(make_video, tmp_path, squares(lambda _: at(50, 50, 60))), detector)
    assert detector.followed == 30 - detector.searched


@pytest.mark.parametrize("blind", [(1,), (2,), (0,), (3,)])
def test_a_search_that_misses_a_face_costs_no_frame_beside_it(
    blind: tuple[int], make_video: MakeVideo, tmp_path: Path
) -> None:
    path = film(make_video, tmp_path, squares(lambda _: at(50, 50, 60)))
    counts = [len(each.faces) for each in sight(path, CountingDetector(blind))]
    assert counts.count(1) >= 29
    assert max(counts) == 1
    (track,) = crop(path, CountingDetector(blind), EVERY_S).tracks
    assert len(track.times_T) >= 29


def test_two_faces_cheek_to_cheek_are_two_in_every_frame(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    class CheekToCheek(SquareDetector):
        """Finds two faces in every picture, and follows whichever is nearer."""

        faces = tuple(Detection(at(left, 40, 100), 0.99, ((0.0, 0.0),) * 5) for left in (50, 100))

        def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
            return [list(self.faces) for _ in pictures]

        def follow(self, _: Frame, boxes: Sequence[Box]) -> list[Detection | None]:
            return [min(self.faces, key=lambda f: abs(f.box_xyxy[0] - box[0])) for box in boxes]

    path = film(make_video, tmp_path, squares())
    assert [len(each.faces) for each in sight(path, CheekToCheek())] == [2] * 30
    assert [len(track.times_T) for track in crop(path, CheekToCheek(), EVERY_S).tracks] == [30, 30]


def test_what_no_search_finds_again_is_given_up(make_video: MakeVideo, tmp_path: Path) -> None:
    path = film(make_video, tmp_path, squares(lambda _: at(50, 50, 60)), seconds=6)
    counts = [len(each.faces) for each in sight(path, CountingDetector(range(1, 9)))]
    assert counts == [1] * 20 + [0] * 40  # unseen at 1 s and at 2 s


# ---------------------------------------------------------------- cuts


def scene(level: int, seed: int) -> Picture:
    coarse_HW = np.random.default_rng(seed).integers(-60, 60, (6, 8))
    return np.repeat(np.repeat(coarse_HW, 30, axis=0), 40, axis=1)[..., None] + level


def filmed(place: Callable[[float], Box | None], *scenes: Picture, at_s: float) -> Painter:
    """Return a painter of a square before one scene, then another."""
    paint = squares(place, rate_fps=10)

    def over(index: int, size: tuple[int, int]) -> Picture:
        picture_HWC = paint(index, size)
        behind = scenes[index / 10 >= at_s]
        is_square_HW1 = (picture_HWC != 90).any(axis=2, keepdims=True)
        return np.where(is_square_HW1, picture_HWC, np.clip(behind, 0, 160)).astype(np.uint8)

    return over


def test_a_cut_ends_a_track_though_another_face_is_in_the_same_place(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    paint = filmed(lambda _: at(100, 60, 50), scene(90, 1), scene(90, 2), at_s=1.4)
    path = film(make_video, tmp_path, paint)
    before, after = crop(path, CountingDetector(), EVERY_S).tracks
    assert (before.times_T[0], before.times_T[-1]) == (0.0, 1.3)
    assert (after.times_T[0], after.times_T[-1]) == (1.4, 2.9)


def test_a_flash_and_a_pan_are_no_cuts(make_video: MakeVideo, tmp_path: Path) -> None:
    room = scene(90, 1)

    def pan(index: int, size: tuple[int, int]) -> Picture:
        paint = filmed(lambda _: at(100, 60, 50), np.roll(room, 8 * index, axis=1), at_s=9)
        picture_HWC = paint(index, size)
        return np.clip(picture_HWC + 50.0 * (index == 12), 0, 255).astype(np.uint8)

    detections_by_frame = sight(film(make_video, tmp_path, pan), CountingDetector())
    assert [each.is_cut for each in detections_by_frame] == [True] + [False] * 29
