"""Face tracks that come as pictures: each is cropped whole, and nobody searches it."""

import cv2
import numpy as np
import pytest
from painted import SETTINGS, load_squares, show

from unmask.faces.crops import crop_chunk, find_videos
from unmask.faces.tracks import square_around
from unmask.faces.whole import WholeFrame
from unmask.records import Reason
from unmask.video import pictures

GREY = np.random.default_rng(0).integers(60, 180, (6, 6, 1), np.uint8)
SCENE = cv2.resize(np.repeat(GREY, 3, axis=2), (64, 64), interpolation=cv2.INTER_CUBIC)


def write_track(path, size=(64, 64), count=12):
    """Write a face track of pictures that move a little."""
    shown = [cv2.resize(np.roll(SCENE, n, axis=1), size) for n in range(count)]
    files = [cv2.imencode(".png", picture)[1].tobytes() for picture in shown]
    planned = pictures.plan(count, files.__getitem__, range(count), 10.0)
    pictures.write_video(path, planned, files.__getitem__, range(count), 10.0)
    return [picture[..., ::-1] for picture in shown]


def crop(root, tracks):
    """Return the row of each video."""
    found = crop_chunk(
        find_videos(root / "videos"), root / "faces", SETTINGS, workers=1,
        load_detector=load_squares, tracks=tracks,
    )  # fmt: skip
    return {row.video_id: row for row in found}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "videos").mkdir()
    return tmp_path


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.3])
def test_the_face_and_its_margin_are_the_picture(margin):
    ((face,),) = WholeFrame(margin).detect([np.zeros((200, 200, 3), np.uint8)])
    assert square_around(face.box_xyxy, margin) == pytest.approx((0, 0, 200, 200))
    left_eye, right_eye, nose, *_ = face.points_52
    assert left_eye[0] < nose[0] < right_eye[0]


def test_a_picture_that_is_no_square_is_taken_whole():
    ((face,),) = WholeFrame(0.0).detect([np.zeros((100, 200, 3), np.uint8)])
    assert face.box_xyxy == pytest.approx((0, -50, 200, 150))


def test_a_track_is_cropped_whole_and_not_searched(root):
    shown = write_track(root / "videos/a.mov")
    write_track(root / "videos/b.mov")
    rows = crop(root, {"a.mov"})
    (track,) = rows["a"].tracks
    assert rows["a"].reason is None
    assert set(track.boxes_T4) == {(0.0, 0.0, 64.0, 64.0)}
    assert len(track.times_T) == 12
    crops = show(root / "faces" / track.file)
    # Only H.264 at crf 14 lies between them.
    assert np.abs(crops[3].astype(int) - shown[3]).mean() < 4
    # The other one was searched, and shows no red square.
    assert (rows["b"].tracks, rows["b"].reason) == ((), Reason.NO_FACE)


def test_what_is_no_track_any_more_is_searched_anew(root):
    write_track(root / "videos/a.mov")
    before = crop(root, {"a.mov"})["a"]
    assert crop(root, {"a.mov"})["a"] == before
    after = crop(root, set())["a"]
    assert after.tracks == ()
    assert after.key != before.key


def test_a_track_of_few_pictures_is_too_short(root):
    write_track(root / "videos/a.mov", count=3)
    assert crop(root, {"a.mov"})["a"].reason == Reason.TOO_SHORT
