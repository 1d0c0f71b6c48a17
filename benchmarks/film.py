"""Clips like those of the wild, made from the open face material: what benchmarks/faces.py crops.

H.264 of about 3.2 Mbit/s, 30 frames/s, so that decoding costs what it does in a real data set.
"""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from unmask.video.decode import read_frames

Picture = NDArray[np.uint8]
SOURCES = Path(__file__).parents[1] / "data/sources"
RATE_FPS, SECONDS, BIT_RATE = 30, 10, 3_200_000
_ROOM = 0.1  # how much larger than the picture the room is
SIZES = {"1080p": (1920, 1080), "720p": (1280, 720)}

# Where a face's picture is at a time: centre as a share of the frame, height likewise; or gone.
Path3 = Callable[[float], tuple[float, float, float] | None]


def _strolls(x: float, y: float, height: float, phase: float = 0.0) -> Path3:
    return lambda t: (
        x + 0.06 * math.sin(0.9 * t + phase) + 0.02 * math.sin(3.1 * t + phase),
        y + 0.03 * math.sin(1.3 * t + phase),
        height * (1 + 0.08 * math.sin(0.7 * t)),
    )


def _from(start_s: float, path: Path3, until_s: float = math.inf) -> Path3:
    return lambda t: path(t) if start_s <= t < until_s else None


def _crosses(start_s: float, y: float, height: float) -> Path3:
    # 0.45 frame widths a second: 860 pixels of 1920.
    return _from(start_s, lambda t: (-0.1 + 0.45 * (t - start_s), y, height))


_ACTORS: dict[str, list[tuple[str, Path3]]] = {
    "one": [("stills/005_smiling.jpg", _strolls(0.45, 0.5, 0.5))],
    "two": [
        ("talking_heads/lbax4n.mp4", _strolls(0.28, 0.5, 0.6)),
        ("stills/010_neutral.jpg", _strolls(0.75, 0.45, 0.42, 2.0)),
    ],
    "cut": [
        ("sign_language/milk.mkv", _from(0, _strolls(0.5, 0.5, 0.9), 4.7)),
        ("stills/018_smiling.jpg", _from(4.7, _strolls(0.4, 0.55, 0.55))),
    ],
    "late": [
        ("stills/027_smiling.jpg", _crosses(3.0, 0.5, 0.55)),
        ("talking_heads/sbwe5n.mp4", _from(6.4, _strolls(0.55, 0.5, 0.55))),
    ],
}


def make_clips(folder: Path) -> list[Path]:
    """Return the clips, made in a folder: every scene in 1080p, and two faces in 720p."""
    return [
        _make(folder / f"{scene}_{size}.mp4", scene, size)
        for size, scenes in (("1080p", tuple(_ACTORS)), ("720p", ("two",)))
        for scene in scenes
    ]


def lengthen(clip: Path, path: Path, times: int) -> Path:
    """Return a video that shows a clip many times; its packets are copied, not coded again."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        span = round(SECONDS / stream.time_base)
        for turn in range(times):
            source.seek(0)
            for packet in source.demux(stream):
                if packet.dts is None:
                    continue
                packet.pts += turn * span
                packet.dts += turn * span
                packet.stream = copy
                target.mux(packet)
    return path


def _make(path: Path, scene: str, size: str) -> Path:
    with av.open(str(path), "w", container_options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", RATE_FPS, options={"preset": "medium"})
        stream.width, stream.height = SIZES[size]
        stream.pix_fmt, stream.bit_rate = "yuv420p", BIT_RATE
        stream.thread_type = "AUTO"
        for index, picture in enumerate(_paint(scene, SIZES[size])):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE_FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _paint(scene: str, size: tuple[int, int]) -> Iterator[Picture]:
    rng = np.random.default_rng(7)
    width, height = size
    rooms = [_room(rng, size) for _ in range(2)]
    actors = [(list(_pictures(SOURCES / file)), path) for file, path in _ACTORS[scene]]
    noises = [rng.normal(0, 3, (height, width, 3)).astype(np.int8) for _ in range(8)]
    for index in range(RATE_FPS * SECONDS):
        time_s = index / RATE_FPS
        picture = _look(rooms[scene == "cut" and time_s >= 4.7], time_s, size)
        for pictures, path in actors:
            if place := path(time_s):
                _paste(picture, pictures[round(time_s * 25) % len(pictures)], place)
        yield cv2.add(picture, noises[index % 8], dtype=cv2.CV_8U)


def _room(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Return a background with large and small structure, and a little colour."""
    size = round(size[0] * (1 + _ROOM)), round(size[1] * (1 + _ROOM))
    room = np.full((size[1], size[0], 3), 110, np.float32)
    for cells, contrast in ((4, 40), (24, 20), (160, 8)):
        grey = rng.normal(0, contrast, (cells * 9 // 16 + 1, cells, 1))
        coarse = (grey + rng.normal(0, contrast / 4, (*grey.shape[:2], 3))).astype(np.float32)
        room += cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(room, 0, 255).astype(np.uint8)


def _look(room: Picture, time_s: float, size: tuple[int, int]) -> Picture:
    """Return what a camera in a hand sees: at rest, most blocks would cost nothing to decode."""
    x = _ROOM * size[0] / 2 * (1 + 0.6 * math.sin(0.7 * time_s) + 0.1 * math.sin(5.3 * time_s))
    y = _ROOM * size[1] / 2 * (1 + 0.5 * math.sin(0.9 * time_s) + 0.1 * math.sin(6.1 * time_s))
    turn = math.radians(0.5 * math.sin(1.1 * time_s))
    matrix = np.array([[1, -turn, -x], [turn, 1, -y]])
    return cv2.warpAffine(room, matrix, size, borderMode=cv2.BORDER_REFLECT_101)


def _pictures(path: Path) -> Iterator[Picture]:
    if path.suffix == ".jpg":
        yield np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
    else:
        yield from (frame.rgb_HWC() for frame in read_frames(path))


def _paste(picture: Picture, actor: Picture, place: tuple[float, float, float]) -> None:
    height, width = picture.shape[:2]
    x, y, share = place
    scale = share * height / actor.shape[0]
    move = (x * width - scale * actor.shape[1] / 2, y * height - scale * actor.shape[0] / 2)
    matrix = np.array([[scale, 0, move[0]], [0, scale, move[1]]])
    cv2.warpAffine(
        actor, matrix, (width, height), dst=picture,
        flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC, borderMode=cv2.BORDER_TRANSPARENT,
    )  # fmt: skip
