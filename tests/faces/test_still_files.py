"""A still picture's faces are those of a video that shows the same picture."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from painted import STILLS
from PIL import Image

from unmask import params
from unmask.faces.files import crop_files
from unmask.records import FileDoubt, Reason
from unmask.video.decode import read_frames

ROOT = Path(__file__).parents[2]
SETTINGS = params.load(ROOT / "params.yaml").faces


@pytest.fixture(scope="module")
def face():
    """A photo of a face, in a scene that is larger than what is searched."""
    photo = cv2.imread(str(sorted(STILLS.glob("*_neutral.jpg"))[0]), cv2.IMREAD_COLOR_RGB)
    scene = np.full((700, 900, 3), 120, np.uint8)
    scene[100:612, 200:712] = cv2.resize(photo, (512, 512))
    return scene


def lossless(path, picture, *, frames):
    """Write a video of the same picture again and again, without loss."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", 10)
        stream.height, stream.width, _ = picture.shape
        stream.pix_fmt = "bgr0"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_crops_are_those_of_a_video_that_shows_the_picture(tmp_path, face):
    photo, video = tmp_path / "photo.png", lossless(tmp_path / "v.mkv", face, frames=20)
    Image.fromarray(face).save(photo)
    files = crop_files([photo, video], SETTINGS, crops_dir=tmp_path / "crops", workers=1)
    of_photo, of_video = files
    [still], [moving] = of_photo.found.tracks, of_video.found.tracks
    assert (len(still.times_T), len(moving.times_T)) == (1, 20)
    assert still.boxes_T4[0] == moving.boxes_T4[0]
    assert (still.times_T[0], still.end_s) == (0.0, 0.0)
    one, other = (
        next(read_frames(tmp_path / "crops" / track.file)).rgb_HWC().astype(int)
        for track in (still, moving)
    )
    assert np.abs(one - other).mean() < 1.5  # both are coded by H.264, one with frames behind it
    assert of_photo.codec == "png"
    assert of_photo.duration_s is None
    assert (next(read_frames(of_photo.shown)).rgb_HWC() == face).all()
    assert of_video.shown == video


def test_pictures_that_fail_cost_themselves_alone_and_nothing_stays(tmp_path, face):
    good, cut, wall = (tmp_path / name for name in ("good.jpg", "cut.jpg", "wall.png"))
    Image.fromarray(face).save(good, quality=95)
    cut.write_bytes(good.read_bytes()[:9000])
    Image.new("RGB", (300, 200), (90, 90, 90)).save(wall)
    moving = tmp_path / "moving.png"
    Image.fromarray(face).save(moving, save_all=True, append_images=[Image.new("RGB", (900, 700))])
    folders = []
    found = {}
    for cropped in crop_files([cut, wall, moving, good], SETTINGS, workers=1):
        folders.append(cropped.crops_dir)
        found[cropped.path.name] = cropped.found
    assert {name: each.reason for name, each in found.items()} == {
        "cut.jpg": Reason.UNREADABLE, "wall.png": Reason.NO_FACE,
        "moving.png": Reason.INCOMPLETE, "good.jpg": None,
    }  # fmt: skip
    assert [len(each.tracks) for each in found.values()] == [0, 0, 1, 1]
    assert found["moving.png"].doubts == (FileDoubt.NOT_ALL_SEEN,)
    assert str(cut) in found["cut.jpg"].detail
    assert "_still" not in found["wall.png"].detail
    assert not any(folder.exists() for folder in folders)
