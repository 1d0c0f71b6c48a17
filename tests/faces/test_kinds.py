"""Whatever comes in: each kind of video is cropped where its face is, all else gets its reason.

A red square stands for a face. One of its quarters is green, so that a crop shows which side is up.
"""

import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from painted import RED, SETTINGS, at, crop, iou, load_squares, show

from unmask.faces import crops
from unmask.records import Box, FaceTrack, Reason, VideoFaces
from unmask.runtime.record_files import read_faces
from unmask.video import decode

Picture = NDArray[np.uint8]
MakeVideo = Callable[..., Path]
ROOT = Path(__file__).parents[2]

GREEN = (20, 200, 20)
FACE = at(40, 30, 40)
FAST: dict[str, Any] = {"rate_fps": 20, "size": (160, 90)}


def paint_face(_: int, size: tuple[int, int], where: Box = FACE) -> Picture:
    """Return a grey picture with a red square whose upper left quarter is green in the middle."""
    picture_HWC = np.full((size[1], size[0], 3), 90, np.uint8)
    left, top, right, bottom = map(round, where)
    picture_HWC[top:bottom, left:right] = RED
    eighth = (right - left) // 8
    picture_HWC[top + eighth : top + 3 * eighth, left + eighth : left + 3 * eighth] = GREEN
    return picture_HWC


def check_crops(faces_dir: Path, track: FaceTrack, where: Box = FACE) -> None:
    """Make sure that each crop of a track shows the face of paint_face, upright and whole."""
    assert all(iou(box, where) > 0.85 for box in track.boxes_T4)
    crops = show(faces_dir / track.file)
    assert len(crops) == len(track.times_T)
    for crop_HWC in crops:
        quarters = [crop_HWC[y, x].astype(int) for y in (16, 48) for x in (16, 48)]
        for shown, painted in zip(quarters, (GREEN, RED, RED, RED), strict=True):
            assert np.abs(shown - painted).max() < 80, quarters


def check_whole(path: Path, *, rate_fps: float = 20, ticks: int = 10, where: Box = FACE) -> None:
    """Make sure that a video gives one face from its first tick to its last."""
    row = crop(path)
    assert (row.reason, row.detail) == (None, "")
    (track,) = row.tracks
    shown_s = [k * rate_fps // 10 / rate_fps for k in range(ticks)]
    assert track.times_T == pytest.approx(shown_s, abs=1e-3)
    check_crops(path.parent / "faces", track, where)


# ---------------------------------------------------------------- codecs and containers

INTERLACED = {"flags": "+ildct+ilme"}
KINDS: dict[str, dict[str, Any]] = {
    "H.264.mp4": {},
    "H.264.mov": {},
    "H.264.mkv": {},
    "H.264.avi": {"options": {"bf": "0"}},
    "H.264.ts": {},
    "H.264.flv": {},
    "H.264 alone.h264": {},
    "H.264 10 bit.mp4": {"pix_fmt": "yuv420p10le"},
    "H.264 4:2:2.mp4": {"pix_fmt": "yuv422p"},
    "H.264 interlaced.mp4": {"size": (160, 96), "options": INTERLACED},
    "HEVC.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "HEVC 10 bit.mkv": {
        "codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"},
    },
    "VP8.webm": {"codec": "libvpx"},
    "VP9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}},
    "VP9.mp4": {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}},
    "AV1.mp4": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "AV1.webm": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "AV1 10 bit.mkv": {
        "codec": "libsvtav1", "pix_fmt": "yuv420p10le", "options": {"preset": "12"},
    },
    "MPEG-4.mp4": {"codec": "mpeg4"},
    "MPEG-4.avi": {"codec": "mpeg4"},
    "MPEG-4 B.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "MPEG-2.ts": {"codec": "mpeg2video", "rate_fps": 25},
    "MPEG-2 interlaced.mpg": {
        "codec": "mpeg2video", "rate_fps": 25, "size": (160, 96), "options": INTERLACED,
    },
    "MPEG-2 alone.m2v": {"codec": "mpeg2video", "rate_fps": 25},
    "MPEG-4 alone.m4v": {"codec": "mpeg4"},
    "HEVC alone.hevc": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "AV1 alone.obu": {"rate_fps": 25, "codec": "libsvtav1", "options": {"preset": "12"}},
    "AV1.ivf": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "FFV1.nut": {"codec": "ffv1"},
    "raw.y4m": {"codec": "rawvideo"},
    "MJPEG.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "MJPEG.mov": {"codec": "mjpeg", "pix_fmt": "yuvj422p"},
    "WMV.wmv": {"codec": "wmv2"},
    "Sorenson.flv": {"codec": "flv"},
    "ProRes.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "Animation.mov": {"codec": "qtrle", "pix_fmt": "rgb24"},
    "PNG.mov": {"codec": "png", "pix_fmt": "rgb24"},
    "FFV1.mkv": {"codec": "ffv1"},
    "raw.avi": {"codec": "rawvideo", "pix_fmt": "yuv420p"},
    "raw bottom up.avi": {"codec": "rawvideo", "pix_fmt": "bgr24"},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_codecs_and_containers(kind: str, make_video: MakeVideo, tmp_path: Path) -> None:
    settings = FAST | KINDS[kind]
    path = tmp_path / kind.replace(":", "")
    make_video(path, frames=settings["rate_fps"], paint=paint_face, **settings)
    check_whole(path, rate_fps=settings["rate_fps"])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.mp4", {"pix_fmt": "yuv444p"}),
        ("a.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ],
)
def test_odd_sizes(
    name: str, settings: dict[str, Any], make_video: MakeVideo, tmp_path: Path
) -> None:
    size = {"rate_fps": 20, "size": (161, 91)}
    check_whole(make_video(tmp_path / name, frames=20, paint=paint_face, **size, **settings))


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_64_pixels_square(name: str, make_video: MakeVideo, tmp_path: Path) -> None:
    codec = {"a.mp4": "libx264", "a.webm": "libvpx"}[name]

    def paint(index: int, size: tuple[int, int]) -> Picture:
        return paint_face(index, size, at(8, 8, 48))

    path = make_video(
        tmp_path / name, frames=20, rate_fps=20, size=(64, 64), codec=codec, paint=paint
    )
    check_whole(path, where=at(8, 8, 48))


@pytest.mark.slow
def test_8k(make_video: MakeVideo, tmp_path: Path) -> None:
    where = at(3000, 2000, 1000)

    def paint(index: int, size: tuple[int, int]) -> Picture:
        return paint_face(index, size, where)

    path = make_video(
        tmp_path / "a.mp4", frames=6, rate_fps=10, size=(7680, 4320), paint=paint,
        options={"preset": "ultrafast"},
    )  # fmt: skip
    check_whole(path, rate_fps=10, ticks=6, where=where)


# ---------------------------------------------------------------- as it is meant to be seen


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize("rotation_deg", [90, 180, 270])
def test_turned(rotation_deg: int, name: str, make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(
        tmp_path / name, frames=20, paint=paint_face, rotation_deg=rotation_deg, **FAST
    )
    check_whole(path)


@pytest.mark.parametrize("flip", ["hflip", "vflip"])
@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_mirrored(flip: str, rotation_deg: int, tmp_path: Path) -> None:
    # Front cameras write it: a player turns clockwise, then flips.
    painted_HWC = paint_face(0, (160, 90))
    flipped_HWC = painted_HWC[:, ::-1] if flip == "hflip" else painted_HWC[::-1]
    stored_HWC = np.rot90(flipped_HWC, rotation_deg // 90)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 20)
        stream.height, stream.width, _ = stored_HWC.shape
        stream.set_display_rotation(-rotation_deg, **{flip: True})
        for _ in range(20):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored_HWC), "rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    check_whole(path)


def squeezed(stored: tuple[int, int]) -> Callable[..., Picture]:
    """Return a painter of what, stretched from the stored size to 160 x 90, is paint_face's."""

    def paint(index: int, _: tuple[int, int]) -> Picture:
        whole_HWC = paint_face(index, (160, 90))
        return np.asarray(cv2.resize(whole_HWC, stored, interpolation=cv2.INTER_AREA), np.uint8)

    return paint


@pytest.mark.parametrize("rotation_deg", [0, 90])
@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("wide.mp4", (120, 90)),  # as HDV: 1440 x 1080 seen as 1920 x 1080
        ("wide.mkv", (110, 90)),  # as PAL's 720 x 576 seen as 16:9
        ("tall.mov", (160, 60)),
    ],
)
def test_pixels_that_are_not_square(
    name: str, stored: tuple[int, int], rotation_deg: int, make_video: MakeVideo, tmp_path: Path
) -> None:
    width, height = stored
    ratio = Fraction(160 * height, 90 * width)
    path = make_video(
        tmp_path / name, frames=20, rate_fps=20, size=stored, paint=squeezed(stored),
        rotation_deg=rotation_deg,
        options={"aspect": str(1 / ratio if rotation_deg else ratio)},
    )  # fmt: skip
    info = decode.probe(path)
    assert (info.width, info.height) == (160, 90)
    assert next(decode.read_frames(path)).reduced_rgb_HWC(80).shape == (45, 80, 3)
    check_whole(path)


@pytest.mark.parametrize("ratio", ["405/404", "9/1", "1/9"])
def test_a_pixel_ratio_that_is_a_rounding_or_nonsense_is_let_be(
    ratio: str, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = make_video(
        tmp_path / "a.mp4", frames=20, paint=paint_face, options={"aspect": ratio}, **FAST
    )
    assert (decode.probe(path).width, decode.probe(path).height) == (160, 90)
    check_whole(path)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("4444.mov", "prores_ks", "yuva444p10le"),
        ("animation.mov", "qtrle", "argb"),
        ("png.mov", "png", "rgba"),
    ],
)
def test_a_transparent_background(name: str, codec: str, pix_fmt: str, tmp_path: Path) -> None:
    face_HWC = paint_face(0, (160, 90))
    opaque_HW = (face_HWC != 90).any(axis=2) * np.uint8(255)
    picture_HWC = np.dstack([face_HWC, opaque_HW])
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 20, width=160, height=90, pix_fmt=pix_fmt)
        for _ in range(20):
            picture = av.VideoFrame.from_ndarray(picture_HWC, "rgba").reformat(format=pix_fmt)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    check_whole(path)


@pytest.mark.parametrize("size", [(160, 90), (161, 91)])
@pytest.mark.parametrize("alpha", [0, 255])
def test_a_gif(alpha: int, size: tuple[int, int], tmp_path: Path) -> None:
    colours = np.array([[90, 90, 90], RED, GREEN], np.uint8)
    face_HWC = paint_face(0, size)
    away = np.abs(face_HWC[:, :, None].astype(int) - colours).max(axis=3)
    indices = away.argmin(axis=2).astype(np.uint8)
    palette = np.zeros((256, 4), np.uint8)  # alpha, red, green, blue
    palette[:3] = [(alpha, 90, 90, 90), (255, *RED), (255, *GREEN)]
    path = tmp_path / "a.gif"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", 20, pix_fmt="pal8")
        stream.width, stream.height = size
        for _ in range(20):
            picture = av.VideoFrame.from_ndarray((indices, palette), "pal8")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    check_whole(path)


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv"])
def test_a_varying_rate(name: str, make_video: MakeVideo, tmp_path: Path) -> None:
    times_s = [0, 0.05, 0.1, 0.3, 0.5, 0.52, 0.54, 0.6, 0.85, 0.9, 1.3, 1.4]
    path = make_video(tmp_path / name, times_s=times_s, paint=paint_face, **FAST)
    row = crop(path)
    (track,) = row.tracks
    # At each tenth of a second the last frame that has begun, once: not the one at 0.85 s.
    assert track.times_T == pytest.approx([0, 0.1, 0.3, 0.5, 0.6, 0.9, 1.3, 1.4], abs=2e-3)
    assert row.reason is None
    check_crops(tmp_path / "faces", track)


@pytest.mark.parametrize(
    ("name", "first_s", "ticks"),
    [
        ("a.mp4", 1000.0, 10),
        ("a.mp4", -0.4, 6),  # MP4 says by an edit list that nobody is to see what is before 0
        ("a.mkv", 1000.0, 10),
        ("a.mkv", -0.37, 10),  # FFmpeg gives frames before 0 no time
        ("a.ts", 1000.0, 10),
        ("a.ts", -3.0, 10),
    ],
)
def test_a_first_time_other_than_zero(
    name: str, first_s: float, ticks: int, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = tmp_path / name
    rewrap(make_video(tmp_path / "zero.mp4", frames=20, paint=paint_face, **FAST), path, first_s)
    check_whole(path, ticks=ticks)


def rewrap(source: Path, path: Path, first_s: float, copies: int = 1, step_s: float = 0) -> None:
    """Copy the packets of a video so that they begin at a time, several times over."""
    options = {"avoid_negative_ts": "disabled"}
    with (
        av.open(str(source)) as before,
        av.open(str(path), "w", container_options=options) as after,
    ):
        stream = before.streams.video[0]
        packets = [packet for packet in before.demux(stream) if packet.size]
        copy = after.add_stream_from_template(stream)
        for number in range(copies):
            shift = round((first_s + number * step_s) / stream.time_base)
            for packet in packets:
                again = av.Packet(bytes(packet))
                again.stream, again.time_base = copy, stream.time_base
                again.pts, again.dts = packet.pts + shift, packet.dts + shift
                again.is_keyframe = packet.is_keyframe
                after.mux(again)


@pytest.mark.slow
def test_an_hour(make_video: MakeVideo, tmp_path: Path) -> None:
    # A minute at 2 frames a second, 60 times: a face is there in its first three seconds.
    def paint(index: int, size: tuple[int, int]) -> Picture:
        return paint_face(index, size) if index < 6 else np.full((*size[::-1], 3), 90, np.uint8)

    minute = make_video(
        tmp_path / "minute.mp4", frames=120, rate_fps=2, size=(96, 80), paint=paint,
        options={"bf": "0"},
    )  # fmt: skip
    path = tmp_path / "hour.mp4"
    rewrap(minute, path, 0, copies=60, step_s=60)
    assert 3599 < decode.probe(path).duration_s <= 3600
    row = crop(path)
    assert row.reason is None
    firsts_s = [track.times_T[0] for track in row.tracks]
    assert firsts_s == pytest.approx([60 * number for number in range(60)])
    for track in (row.tracks[0], row.tracks[-1]):
        assert len(track.times_T) == 6
        check_crops(tmp_path / "faces", track)


# ---------------------------------------------------------------- few frames, or a part of a file


def test_one_frame_is_too_short(make_video: MakeVideo, tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.avi"):
        row = crop(make_video(tmp_path / name, frames=1, paint=paint_face, **FAST))
        assert (row.reason, row.tracks) == (Reason.TOO_SHORT, ())


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi"])
def test_a_video_without_frames_is_unreadable(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        container.add_stream("mpeg4", 20, width=160, height=90)
        container.start_encoding()
    row = crop(path)
    assert (row.reason, row.tracks) == (Reason.UNREADABLE, ()), row.detail


def test_a_codec_that_nobody_knows_is_unreadable(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=20, paint=paint_face, **FAST)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    row = crop(path)
    assert row.reason == Reason.UNREADABLE
    assert "a codec that this FFmpeg does not know" in row.detail


CUT: dict[str, tuple[dict[str, Any], Reason | None]] = {
    "index first.mp4": ({}, Reason.TRUNCATED),
    "index last.mov": ({}, Reason.UNREADABLE),
    "a.mkv": ({}, Reason.TRUNCATED),
    "a.webm": ({"codec": "libvpx"}, Reason.TRUNCATED),
    "a.avi": ({"codec": "mpeg4"}, Reason.TRUNCATED),
    "a.flv": ({}, Reason.TRUNCATED),
    # These do not say how long they are, or FFmpeg does not tell: the last packet is not whole.
    "a.ts": ({}, Reason.TRUNCATED),
    "a.wmv": ({"codec": "wmv2"}, Reason.TRUNCATED),
    "a.mpg": ({"codec": "mpeg2video"}, Reason.TRUNCATED),
}


@pytest.mark.parametrize("name", CUT)
def test_a_part_of_a_video_is_never_called_no_video(
    name: str, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = tmp_path / name
    settings, reason = CUT[name]
    settings = FAST | {"rate_fps": 30, "options": {"g": "30"}} | settings
    whole = make_video(path, frames=150, paint=paint_face, **settings).read_bytes()
    for percent in (1, 3, 10, 40):
        path.write_bytes(whole[: max(400, len(whole) * percent // 100)])
        assert crop(path).reason != Reason.NOT_A_VIDEO, percent
    path.write_bytes(whole[: len(whole) * 7 // 10])
    row = crop(path)
    assert row.reason == reason, row.detail
    assert [30 < len(track.times_T) * 3 < 120 for track in row.tracks] == [True] * (
        reason != Reason.UNREADABLE
    )
    for track in row.tracks:
        check_crops(tmp_path / "faces", track)


# ---------------------------------------------------------------- what is no video, and names


def write_jpeg(path: Path) -> None:
    path.write_bytes(cv2.imencode(".jpg", paint_face(0, (160, 90)))[1].tobytes())


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.mp4", b"x" * 1000)


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", 48_000)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        silence.sample_rate = 48_000
        container.mux([*stream.encode(silence), *stream.encode(None)])


# What lies in a folder of videos, how it gets there, and the reason in its row.
OTHERS: dict[str, tuple[Callable[[Path], object], Reason]] = {
    "zero bytes.mp4": (Path.touch, Reason.EMPTY),
    "text.mp4": (lambda path: path.write_text("<html>404</html>\n" * 50), Reason.NOT_A_VIDEO),
    "a word.mp4": (lambda path: path.write_text("hello"), Reason.NOT_A_VIDEO),
    "one byte.mkv": (lambda path: path.write_bytes(b"\0"), Reason.NOT_A_VIDEO),
    "zeros.avi": (lambda path: path.write_bytes(bytes(100_000)), Reason.NOT_A_VIDEO),
    "noise.mp4": (
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(100_000)), Reason.NOT_A_VIDEO
    ),
    "photo.mov": (write_jpeg, Reason.NOT_A_VIDEO),
    "zip.mp4": (write_zip, Reason.NOT_A_VIDEO),
    "sound.mp4": (write_sound, Reason.NOT_A_VIDEO),
    "folder.mp4": (Path.mkdir, Reason.NOT_A_VIDEO),
    "pipe.mp4": (os.mkfifo, Reason.NOT_A_VIDEO),
    "device.mp4": (lambda path: path.symlink_to("/dev/zero"), Reason.NOT_A_VIDEO),
    "broken link.mp4": (lambda path: path.symlink_to("gone.mp4"), Reason.MISSING),
    "link to itself.mp4": (lambda path: path.symlink_to(path.name), Reason.UNREADABLE),
}  # fmt: skip


@pytest.mark.timeout(60)  # whoever opens the pipe waits for ever
def test_all_else_has_its_reason_in_its_row_and_in_the_closing_line(
    make_video: MakeVideo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unmask.faces.crops")
    (tmp_path / "videos").mkdir()
    for name, (put, _) in OTHERS.items():
        put(tmp_path / "videos" / name)
    make_video(tmp_path / "videos/good.mp4", frames=20, paint=paint_face, **FAST)
    cut = make_video(tmp_path / "videos/cut.mkv", frames=80, paint=paint_face, **FAST)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 7 // 10])
    rows = crop_folder(tmp_path)
    expected = {Path(name).stem: reason for name, (_, reason) in OTHERS.items()}
    assert {row.video_id: row.reason for row in rows.values()} == expected | {
        "good": None, "cut": Reason.TRUNCATED,
    }  # fmt: skip
    for video_id in expected:
        assert rows[video_id].detail.startswith(f"{tmp_path}/videos/{video_id}.")
        assert not rows[video_id].tracks
    assert caplog.messages == [
        "chunk faces: 16 videos, 2 with a face (1 truncated), 14 without "
        "(1 empty, 1 missing, 11 not_a_video, 1 unreadable)"
    ]
    assert read_faces(tmp_path / "faces/index.jsonl") == rows == crop_folder(tmp_path)


def crop_folder(folder: Path) -> dict[str, VideoFaces]:
    settings = SETTINGS.model_copy(update={"max_failed_ratio": 1.0})
    videos = crops.find_videos(folder / "videos")
    rows = crops.crop_chunk(
        videos, folder / "faces", settings, workers=1, load_detector=load_squares
    )
    return {row.video_id: row for row in rows}


@pytest.mark.parametrize("ending", [".txt", ".avi", ".jpg", ""])
def test_the_ending_of_a_name_does_not_matter(
    ending: str, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = make_video(tmp_path / "a.mp4", frames=20, paint=paint_face, **FAST)
    check_whole(path.rename(tmp_path / f"b{ending}"))


NAMES = {
    "space": "a b.mp4",
    "other alphabets": "vidéo 脸 \U0001f600.mp4",
    "leading dash": "-rf.mp4",
    "line break": "a\nb.mp4",
    "separator of lines": "a\u2028b.mp4",
    "protocol": "http:a.mp4",
    "percent": "50%d.mp4",
    "quotes": "a\"'b.mp4",
    "not UTF-8": os.fsdecode(b"caf\xe9.mp4"),
    "longest": "x" * 251 + ".mp4",
}


@pytest.mark.parametrize("kind", NAMES)
def test_any_name_will_do(kind: str, make_video: MakeVideo, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    path = make_video(tmp_path / "a.mp4", frames=20, paint=paint_face, **FAST)
    path.rename(tmp_path / "videos" / NAMES[kind])
    rows = crop_folder(tmp_path)
    row = rows[NAMES[kind].removesuffix(".mp4")]
    assert (len(rows), row.reason) == (1, None)
    assert read_faces(tmp_path / "faces/index.jsonl") == rows
    check_crops(tmp_path / "faces", row.tracks[0])


# Root may read whatever its bits say: become nobody, who may start no Python in root's home.
CROP_AS_NOBODY = """
import logging, os, shutil
from pathlib import Path
from tests.faces.test_kinds import crop, crop_folder, crops
# This checkout may be closed, too: load whatever is loaded on the way.
Path("warm").mkdir()
crop(Path(shutil.copy("videos/good.mp4", "warm")))
crops._CODE = ()
def crop_jobs(jobs, workers, load_detector):
    return (crops._crop(load_detector, job) for job in jobs)
crops.crop_jobs = crop_jobs
logging.basicConfig(level=logging.INFO, format="%(message)s")
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
crop_folder(Path())
"""


def test_a_video_that_may_not_be_read_is_forbidden(make_video: MakeVideo, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    (videos / "hidden").mkdir(parents=True)
    good = make_video(videos / "good.mp4", frames=20, paint=paint_face, **FAST)
    for name in ("file.mp4", "hidden/a.mp4"):
        (videos / name).write_bytes(good.read_bytes())
    (videos / "link.mp4").symlink_to("hidden/a.mp4")
    (tmp_path / "faces").mkdir()
    for path, mode in (
        (tmp_path, 0o755), (videos, 0o755), (tmp_path / "faces", 0o777),
        (videos / "file.mp4", 0), (videos / "hidden", 0),
    ):  # fmt: skip
        path.chmod(mode)
    done = subprocess.run(
        [sys.executable, "-c", CROP_AS_NOBODY], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=False,
    )  # fmt: skip
    (videos / "hidden").chmod(0o755)  # or pytest could not remove it
    assert done.returncode == 0, done.stderr
    rows = read_faces(tmp_path / "faces/index.jsonl")
    assert {row.video_id: (row.reason, row.key == "") for row in rows.values()} == {
        "good": (None, False), "file": (Reason.FORBIDDEN, True), "link": (Reason.FORBIDDEN, True),
        "hidden": (Reason.NOT_A_VIDEO, True),
    }  # fmt: skip
    assert "Give this user the right to read it" in rows["file"].detail
    assert "1 with a face, 3 without (2 forbidden, 1 not_a_video)" in done.stderr
