"""Pictures as a video: which are whole, which are shown and when, that nothing of them is lost."""

import json
import struct
import zlib
from fractions import Fraction

import cv2
import numpy as np
import pytest

from unmask.errors import DatasetError
from unmask.video import pictures
from unmask.video.decode import Account, read_frames
from unmask.video.pictures import Note, Picture, Plan, inspect

RNG = np.random.default_rng(0)
SCENE = cv2.resize(
    RNG.integers(0, 255, (6, 8, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC
)


def encode(picture_HWC=SCENE, ending=".png", **options):
    """Return a picture's file; the picture is BGR, as OpenCV has it."""
    flags = [value for pair in options.items() for value in (getattr(cv2, pair[0]), pair[1])]
    is_done, content = cv2.imencode(ending, picture_HWC, flags)
    assert is_done
    return content.tobytes()


def numbered(count):
    """Return pictures of which no two are alike, as RGB, and their PNG files."""
    shown = [np.roll(SCENE, 5 * number, axis=1) for number in range(count)]
    return [picture[..., ::-1] for picture in shown], [encode(picture) for picture in shown]


def make(path, files, ticks=None, rate_fps=10.0):
    """Write a video of picture files; return its plan."""
    ticks = range(len(files)) if ticks is None else ticks
    planned = pictures.plan(len(files), files.__getitem__, ticks, rate_fps)
    assert isinstance(planned, Plan)
    assert (
        pictures.write_video(path, planned, files.__getitem__, ticks, rate_fps)
        == path.stat().st_size
    )
    return planned


# One picture


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (encode(), Picture("png", 64, 48)),
        (encode(SCENE[..., 0]), Picture("png", 64, 48)),
        (encode(ending=".jpg"), Picture("mjpeg", 64, 48)),
        (encode(ending=".jpg", IMWRITE_JPEG_PROGRESSIVE=1), Picture("mjpeg", 64, 48)),
        (encode(ending=".jpg") + b"notes of a camera", Picture("mjpeg", 64, 48)),
    ],
)
def test_a_whole_picture_is_what_its_header_says(content, found):
    assert inspect(content) == found


@pytest.mark.parametrize("content", [encode(), encode(ending=".jpg")])
def test_a_picture_that_is_cut_anywhere_is_damaged(content):
    for length in [*range(2, 40), len(content) // 2, len(content) - 1]:
        assert inspect(content[:length]) in ("damaged", "neither PNG nor JPEG")


def test_a_png_with_a_wrong_bit_is_damaged():
    content = bytearray(encode())
    content[len(content) // 2] ^= 1
    assert inspect(bytes(content)) == "damaged"


def _png_of_size(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "neither PNG nor JPEG"),
        (b"GIF89a" + b"\0" * 20, "neither PNG nor JPEG"),
        (b"\xff\xd8" + b"\xff" * 50, "damaged"),
        (b"\xff\xd8\xff\xe0\x00\x00" * 9, "damaged"),
        (b"\xff\xd8\xff\xe0\x00\x01" * 9, "damaged"),
        (_png_of_size(60_000, 60_000), "of an impossible size"),
        (_png_of_size(0, 5), "of an impossible size"),
    ],
)
def test_what_is_no_picture_is_said_why(content, why):
    assert inspect(content) == why


# One video


def test_a_video_of_png_shows_each_picture_to_the_bit(tmp_path):
    shown, files = numbered(12)
    make(tmp_path / "v.mov", files)
    account = Account()
    frames = list(read_frames(tmp_path / "v.mov", account=account))
    assert [round(frame.time_s, 4) for frame in frames] == [n / 10 for n in range(12)]
    for frame, picture in zip(frames, shown, strict=True):
        np.testing.assert_array_equal(frame.rgb_HWC(), picture)
    assert not account.left_out


def test_a_video_of_jpeg_shows_each_picture_as_it_was_compressed(tmp_path):
    file = encode(ending=".jpg", IMWRITE_JPEG_SAMPLING_FACTOR=0x111111)
    make(tmp_path / "v.mov", [file] * 12)
    frames = list(read_frames(tmp_path / "v.mov"))
    compressed = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert len(frames) == 12
    # Two decoders round YCbCr in different ways.
    assert np.abs(frames[5].rgb_HWC().astype(int) - compressed).max() <= 3


def test_a_gap_holds_the_picture_before_it(tmp_path):
    _, files = numbered(4)
    make(tmp_path / "v.mov", files, ticks=(0, 1, 4, 5), rate_fps=25.0)
    frames = list(read_frames(tmp_path / "v.mov"))
    assert [round(frame.time_s, 4) for frame in frames] == [0.0, 0.04, 0.16, 0.2]
    assert [round(frame.duration_s, 4) for frame in frames] == [0.04, 0.12, 0.04, 0.04]


@pytest.mark.parametrize("rate_fps", [10.0, 24.0, 25.0, 29.97, 30.0, 59.94, 1.0, 1000.0])
def test_every_rate_is_kept(tmp_path, rate_fps):
    make(tmp_path / "v.mov", [encode()] * 30, rate_fps=rate_fps)
    last = list(read_frames(tmp_path / "v.mov"))[-1]
    exact = Fraction(rate_fps).limit_denominator(1001)
    assert last.time_s == pytest.approx(float(29 / exact), abs=1e-4)


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    _, files = numbered(6)
    plans = [make(tmp_path / name, files) for name in ("a.mov", "b.mov")]
    assert (tmp_path / "a.mov").read_bytes() == (tmp_path / "b.mov").read_bytes()
    assert plans[0] == plans[1]


def test_bad_pictures_other_sizes_and_kinds_are_left_out_and_counted(tmp_path):
    shown, files = numbered(6)
    files[1] = files[1][:-20]
    files[2] = encode(SCENE[:24])
    files[3] = encode(ending=".jpg")
    files[4] = b"BM"
    planned = make(tmp_path / "v.mov", files)
    assert planned.places == (0, 5)
    assert planned.left_out == {
        "damaged": 1, "of another size": 1, "of another kind": 1, "neither PNG nor JPEG": 1,
    }  # fmt: skip
    first, last = read_frames(tmp_path / "v.mov")
    assert last.time_s == pytest.approx(0.5)
    np.testing.assert_array_equal(last.rgb_HWC(), shown[5])
    assert first.duration_s == pytest.approx(0.5)


def test_pictures_of_which_none_is_whole_make_no_video():
    assert pictures.plan(3, lambda _: b"", range(3), 10.0) == {"neither PNG nor JPEG": 3}


def test_a_digest_is_of_the_pictures_and_their_times():
    _, files = numbered(3)

    def digest(files, ticks=(0, 1, 2), rate_fps=10.0):
        return pictures.plan(len(files), files.__getitem__, ticks, rate_fps).digest

    same = digest(files)
    assert digest(list(files)) == same
    others = [digest(files[::-1]), digest(files, (0, 1, 3)), digest(files, rate_fps=25.0)]
    assert len({same, *others}) == 4


def test_a_link_that_lies_in_wait_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "v.mov").symlink_to(tmp_path / "mine")
    make(tmp_path / "v.mov", [encode()] * 3)
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "v.mov").is_symlink()


# Notes


def test_notes_are_read_as_they_were_written(tmp_path):
    notes = {
        "a.mov": Note("d" * 64, 5, 3, {"damaged": 2}, 1, 25.0, is_track=True),
        "b.mov": Note("e" * 64, 6, 4, {}, 0, 10.0),
    }
    pictures.write_notes(tmp_path, notes)
    assert pictures.read_notes(tmp_path) == notes
    assert pictures.read_tracks(tmp_path) == {"a.mov"}
    pictures.write_notes(tmp_path, {})
    assert not list(tmp_path.iterdir())
    assert pictures.read_tracks(tmp_path) == set()


@pytest.mark.parametrize("bad", ["", "[]", '{"a": 1}', '{"a": {"x": 1}}', "[" * 100_000])
def test_damaged_notes_are_refused(tmp_path, bad):
    (tmp_path / pictures.NOTES).write_text(bad)
    with pytest.raises(DatasetError, match=r"\.frames\.json; it is not what was written there"):
        pictures.read_notes(tmp_path)


def test_notes_are_plain_json(tmp_path):
    pictures.write_notes(tmp_path, {"a.mov": Note("d", 5, 3)})
    assert json.loads((tmp_path / pictures.NOTES).read_text())["a.mov"]["pictures"] == 3
