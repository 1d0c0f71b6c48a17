"""Face cropping against plain decoding and against the article's method, on the same files.

Type: python benchmarks/faces.py [VIDEO ...]
      python benchmarks/faces.py --sheet PICTURE.png [VIDEO ...]   to look at the crops

Without videos it makes its own and also crops one of ten minutes, and eight with one worker and
with one a core. Decode: every frame by PyAV, nothing done with it. Article: every frame to RGB,
facenet-pytorch's MTCNN at full size on every third, factor 0.6, in batches. Seconds are those of
the work, not of starting Python and loading torch, which is printed once, in its own line.

Agreement, at each moment that ours crops: the intersection over union of our square with the
square, made the same way, around the box that MTCNN finds at full size in that very frame; and the
share of the faces it finds there without any square of ours (overlap below 0.3). Only faces of
the least size and score that params.yaml asks for count.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import film
import measured
import numpy as np
import torch

from unmask import params
from unmask.cli.common import workers as cores
from unmask.faces import cropper, crops
from unmask.faces.detector import detector_of_worker, start_worker
from unmask.faces.tracks import overlap, square_around
from unmask.video.decode import probe, read_frames

ROOT = Path(__file__).parents[1]
STRIDE, FACTOR, BATCH = 3, 0.6, 8
COPIES, SHEET_CROPS = 8, 20


# ---------------------------------------------------------------- measured, each in its own process


def decode(video: Path) -> dict[str, Any]:
    """Decode every frame."""
    started = time.monotonic()
    frames = sum(1 for _ in read_frames(video))
    return {"seconds": time.monotonic() - started, "frames": frames}


def ours(video: Path) -> dict[str, Any]:
    """Crop the video's faces as the stage does."""
    settings = params.load(ROOT / "params.yaml").faces
    start_worker(settings.detect)
    detector = detector_of_worker(settings.detect)
    detector.detect([np.zeros((360, 640, 3), np.uint8)])  # the first picture waits for oneDNN
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        found = cropper.crop_video(video, "v", Path(folder), settings, detector, key="")
        seconds = time.monotonic() - started
    tracks = [
        [track.track, list(zip(track.times_T, track.boxes_T4, strict=True))]
        for track in found.tracks
    ]
    return {"seconds": seconds, "tracks": tracks, "reason": found.reason}


def article(video: Path) -> dict[str, Any]:
    """Detect as the article does; then, untimed, in the frames at our ticks that it left out."""
    from facenet_pytorch import MTCNN

    settings = params.load(ROOT / "params.yaml").faces
    mtcnn = MTCNN(keep_all=True, factor=FACTOR, post_process=False)
    found: dict[str, list[tuple[list[float], float]]] = {}

    def detect(batch: list[tuple[float, Any]]) -> None:
        boxes, scores = mtcnn.detect(np.stack([picture for _, picture in batch]))
        for (time_s, _), some, likely in zip(batch, boxes, scores, strict=True):
            pairs = [] if some is None else zip(some.tolist(), likely.tolist(), strict=True)
            found[f"{time_s:.4f}"] = list(pairs)

    started = time.monotonic()
    batch: list[tuple[float, Any]] = []
    for index, frame in enumerate(read_frames(video)):
        picture = frame.rgb_HWC()
        if index % STRIDE == 0:
            batch.append((frame.time_s, picture))
        if len(batch) == BATCH:
            detect(batch)
            batch.clear()
    if batch:
        detect(batch)
    seconds = time.monotonic() - started
    ticks = []
    for frame in read_frames(video, rate_fps=settings.rate_fps):
        ticks.append(f"{frame.time_s:.4f}")
        if ticks[-1] not in found:
            detect([(frame.time_s, frame.rgb_HWC())])
    return {"seconds": seconds, "ticks": {tick: found[tick] for tick in ticks}}


def many(folder: Path, workers: int) -> dict[str, Any]:
    """Crop a folder's videos by that many workers."""
    settings = params.load(ROOT / "params.yaml").faces
    videos = crops.find_videos(folder)
    with tempfile.TemporaryDirectory() as target:
        started = time.monotonic()
        rows = list(crops.crop_chunk(videos, Path(target), settings, workers=workers))
        seconds = time.monotonic() - started
    assert all(row.tracks for row in rows), rows
    return {"seconds": seconds}


def apart(what: str, *arguments: object) -> dict[str, Any]:
    """Return what a function above measured in a process of its own, with its peak memory."""
    command = [sys.executable, __file__, f"--{what}", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    seconds, peak_bytes, words = measured.run(command, env=environment)
    row: dict[str, Any] = json.loads(words.splitlines()[-1])
    return row | {"peak_mb": peak_bytes / 1e6, "start_s": seconds - row["seconds"]}


# ---------------------------------------------------------------- compared


def agreement(mine: dict[str, Any], theirs: dict[str, Any]) -> tuple[list[float], int]:
    """Return the overlap of our square with each face found at full size, and how many we lack."""
    settings = params.load(ROOT / "params.yaml").faces
    width, height = theirs["size"]
    scale = max(1.0, max(width, height) / settings.detect.max_side_px)
    squares: dict[str, list[Any]] = {}
    for _, places in mine["tracks"]:
        for time_s, square in places:
            squares.setdefault(f"{time_s:.4f}", []).append(square)
    overlaps, missed = [], 0
    for tick, boxes in theirs["ticks"].items():
        for box, score in boxes:
            side = max(box[2] - box[0], box[3] - box[1])
            if score < settings.detect.min_score or side < settings.detect.min_face_px * scale:
                continue
            square = square_around(tuple(box), settings.margin_ratio)
            best = max((overlap(square, other) for other in squares.get(tick, [])), default=0.0)
            if best < 0.3:
                missed += 1
            else:
                overlaps.append(best)
    return overlaps, missed


def compare(videos: list[Path]) -> None:
    """Print a row for each video, then all together."""
    print(
        f"{'video':16}{'frames':>7}{'decode':>9}{'ours':>9}{'article':>9}{'ours':>8}"
        f"{'ours/':>8}{'article/':>10}{'MB':>6}{'article':>9}{'faces':>7}{'IoU':>7}{'missed':>8}\n"
        f"{'':16}{'':7}{'s':>9}{'s':>9}{'s':>9}{'fps':>8}"
        f"{'decode':>8}{'ours':>10}{'ours':>6}{'MB':>9}{'':7}{'median':>7}{'%':>8}"
    )
    overlaps: list[float] = []
    missed = 0
    sums = np.zeros(3)
    for video in videos:
        # Before and after ours, as a busy machine would slow down one of them alone.
        before, mine, after = (apart(what, video) for what in ("decode", "ours", "decode"))
        plain = min(before, after, key=lambda row: row["seconds"])
        info = probe(video)
        theirs = apart("article", video) | {"size": (info.width, info.height)}
        some, lacking = agreement(mine, theirs)
        overlaps += some
        missed += lacking
        seconds = np.array([row["seconds"] for row in (plain, mine, theirs)])
        sums += seconds
        line(video.name, plain["frames"], seconds, mine, theirs, some, lacking)
    print(
        f"{'all':23}{sums[0]:9.1f}{sums[1]:9.1f}{sums[2]:9.1f}{'':8}{sums[1] / sums[0]:8.2f}"
        f"{sums[2] / sums[1]:10.1f}{'':6}{'':9}{len(overlaps) + missed:7}"
        f"{np.median(overlaps or [0]):7.3f}{100 * missed / max(1, len(overlaps) + missed):8.2f}"
    )
    print(f"starting Python, torch and MTCNN: {mine['start_s']:.1f} s, once a worker")


def line(
    name: str, frames: int, seconds: Any, mine: Any, theirs: Any, overlaps: list[float], missed: int
) -> None:
    """Print one video's row."""
    faces_found = len(overlaps) + missed
    print(
        f"{name[:15]:16}{frames:7}{seconds[0]:9.2f}{seconds[1]:9.2f}{seconds[2]:9.1f}"
        f"{frames / seconds[1]:8.0f}{seconds[1] / seconds[0]:8.2f}{seconds[2] / seconds[1]:10.1f}"
        f"{mine['peak_mb']:6.0f}{theirs['peak_mb']:9.0f}{faces_found:7}"
        f"{np.median(overlaps or [0]):7.3f}{100 * missed / max(1, faces_found):8.2f}",
        flush=True,
    )


def compare_lengths(clip: Path, folder: Path) -> None:
    """Print what ten minutes cost beside ten seconds."""
    lengthy = film.lengthen(clip, folder / "long.mp4", 60)
    for video in (clip, lengthy):
        plain, mine = apart("decode", video), apart("ours", video)
        print(
            f"{plain['frames']:6} frames: decode {plain['seconds']:.1f} s, "
            f"ours {mine['seconds']:.1f} s (x {mine['seconds'] / plain['seconds']:.2f}), "
            f"peak {mine['peak_mb']:.0f} MB",
            flush=True,
        )


def compare_workers(clips: list[Path], folder: Path) -> None:
    """Print the throughput of one worker and of one a core, on copies of the clips."""
    folder.mkdir()
    for number in range(COPIES):
        clip = clips[number % len(clips)]
        (folder / f"{number}_{clip.name}").symlink_to(clip)
    one, each = (apart("many", folder, workers) for workers in (1, cores()))
    print(
        f"{COPIES} videos: 1 worker {one['seconds']:.1f} s, {cores()} workers "
        f"{each['seconds']:.1f} s: x {one['seconds'] / each['seconds']:.2f}, peak "
        f"{one['peak_mb']:.0f} and {each['peak_mb']:.0f} MB"
    )


def draw_sheet(videos: list[Path], picture: Path) -> None:
    """Write a picture of each track's crops, one row a track, a crop every half second."""
    settings = params.load(ROOT / "params.yaml").faces
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for video in videos:
            detector = detector_of_worker(settings.detect)
            found = cropper.crop_video(video, video.stem, Path(folder), settings, detector, key="")
            for track in found.tracks:
                crops = [frame.rgb_HWC() for frame in read_frames(Path(folder, track.file))][::5]
                blank = [np.zeros_like(crops[0])] * (SHEET_CROPS - len(crops))
                row = np.hstack([*crops[:SHEET_CROPS], *blank])
                rows.append(cv2.resize(row, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(picture), np.vstack(rows)[..., ::-1])


def main() -> None:
    """Measure what was asked for, or everything."""
    match sys.argv[1:]:
        case [("--decode" | "--ours" | "--article") as what, video]:
            print(
                json.dumps(
                    {"decode": decode, "ours": ours, "article": article}[what[2:]](Path(video))
                )
            )
        case ["--many", folder, workers]:
            print(json.dumps(many(Path(folder), int(workers))))
        case ["--sheet", picture, *videos]:
            with tempfile.TemporaryDirectory() as name:
                chosen = [Path(video) for video in videos] or film.make_clips(Path(name))
                draw_sheet(chosen, Path(picture))
        case []:
            with tempfile.TemporaryDirectory() as name:
                made = film.make_clips(Path(name))
                compare(made)
                compare_workers(made, Path(name, "many"))
                compare_lengths(made[0], Path(name))
        case videos:
            compare([Path(video).resolve() for video in videos])


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
