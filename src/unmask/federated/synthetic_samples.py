"""Painted samples: what an opener shows to whoever has no right to the videos.

They have the layout of real ones, their labels can be learned, and nobody is seen in them.
"""

from pathlib import Path

import numpy as np

from unmask.federated.samples import PAINTED, Material, cropped, make_samples
from unmask.records import Chunk, FaceTrack, Points, Split, VideoFaces, VideoRecord
from unmask.video.encode import write_video

FRAMES, RATE_FPS, SIDE_PX = 20, 10.0, 64
# Left eye, right eye, nose, mouth left and right, as shares of a crop's side.
POINTS_52: Points = ((0.31, 0.31), (0.69, 0.31), (0.5, 0.55), (0.35, 0.75), (0.65, 0.75))


def paint_samples(folder: Path, count: int, *, splits: tuple[Split, ...]) -> list[Path]:
    """Return the folders of samples below folder: each a plain video, real, and a striped, fake.

    The samples take turns in the splits.
    """
    crops, painted = folder / "crops", folder / "painted"
    crops.mkdir(parents=True, exist_ok=True)
    dealt: list[tuple[Material, list[VideoRecord]]] = []
    for number in range(count):
        records, found = [], {}
        for label in (0, 1):
            video_id = f"{'fake' if label else 'real'}{number}"
            split = splits[number % len(splits)]
            method = "stripes" if label else "real"
            records.append(
                VideoRecord(video_id, f"{video_id}.mp4", label, f"nobody{number}", method, split)
            )
            track = _paint(crops / f"{video_id}_0.mp4", number, label)
            found[video_id] = VideoFaces(video_id, "painted", (track,))
        dealt.append((cropped(Chunk("painted", records, found, crops), PAINTED), records))
    samples = make_samples("nobody", dealt, painted)
    return [painted / "nobody" / sample.side / sample.name for sample in samples]


def _paint(path: Path, number: int, label: int) -> FaceTrack:
    grey = np.random.default_rng(number).integers(90, 160)
    frames_THWC = np.full((FRAMES, SIDE_PX, SIDE_PX, 3), grey, np.uint8)
    if label:
        frames_THWC[:, ::8] = frames_THWC[:, 1::8] = 255
    write_video(path, frames_THWC, rate_fps=RATE_FPS, crf=10)
    times_T = tuple(index / RATE_FPS for index in range(FRAMES))
    points = tuple((SIDE_PX * x, SIDE_PX * y) for x, y in POINTS_52)
    box = (0.0, 0.0, float(SIDE_PX), float(SIDE_PX))
    return FaceTrack(0, path.name, times_T, (box,) * FRAMES, (1.0,) * FRAMES, (points,) * FRAMES)
