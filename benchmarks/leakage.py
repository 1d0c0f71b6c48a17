"""What the leakage check costs, and how far copies are from strangers: raw.alike_ratio.

Type: python benchmarks/leakage.py [CLIPS]

Compares the fingerprints of 5,000 made-up videos; takes fingerprints of CLIPS (20) noisy clips of
720p and 10 s, by as many processes as there are cores, against decoding all of their frames; and
says in how many of 256 bits the real videos of data/sources differ from copies of themselves, and
from videos and stills of other people.
"""

import csv
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask.data import leakage
from unmask.data.copies import Listing
from unmask.data.fingerprints import fingerprint_videos, hash_picture, hash_video
from unmask.records import SPLITS, Fingerprint, VideoRecord
from unmask.video.decode import read_frames
from unmask.video.encode import write_video

SOURCES = Path(__file__).parents[1] / "data/sources"
VIDEOS = 5000
WIDTH, HEIGHT, RATE_FPS, SECONDS = 1280, 720, 30, 10

Pictures = list[NDArray[np.uint8]]


def time_comparison() -> None:
    """Print the seconds of a check of many videos with ten random hashes each."""
    rng = random.Random(0)
    records, prints = [], {}
    for number in range(VIDEOS):
        name = f"v{number:05}"
        split = SPLITS[rng.choices(range(3), (70, 15, 15))[0]]
        records.append(VideoRecord(name, f"{name}.mp4", number % 2, name, "made up", split))
        pictures = tuple(rng.randbytes(32).hex() for _ in range(10))
        prints[name] = Fingerprint(name, rng.randbytes(32).hex(), "", pictures)
    started = time.perf_counter()
    found = list(leakage.find_twins([Listing("chunk", records, prints)], 0.08))
    seconds = time.perf_counter() - started
    print(
        f"{VIDEOS} videos of 10 hashes compared across splits: {seconds:.1f} s, {len(found)} twins"
    )


def make_clip(path: Path) -> Path:
    """Write a clip whose camera wanders over a blurred pattern, with the noise of a sensor."""
    rng = np.random.default_rng(abs(hash(path.stem)) % 2**32)
    wall = rng.integers(0, 256, (HEIGHT + 100, WIDTH + 100, 3)).astype(np.uint8)
    wall = cv2.normalize(cv2.GaussianBlur(wall, (0, 0), 6), None, 0, 255, cv2.NORM_MINMAX)
    grain = rng.integers(-6, 7, (8, HEIGHT, WIDTH, 1)).astype(np.int16)

    def film() -> Iterator[NDArray[np.uint8]]:
        for index in range(RATE_FPS * SECONDS):
            x, y = int(50 + 49 * np.sin(index / 20)), int(50 + 49 * np.cos(index / 25))
            seen = wall[y : y + HEIGHT, x : x + WIDTH].astype(np.int16) + grain[index % 8]
            yield np.clip(seen, 0, 255).astype(np.uint8)

    write_video(path, film(), rate_fps=RATE_FPS, crf=23, preset="veryfast")
    return path


def decode(path: Path) -> int:
    """Return the number of a video's frames, all decoded."""
    return sum(1 for _ in read_frames(path))


def time_fingerprints(folder: Path, clips: int) -> None:
    """Print clips per second of fingerprints, of the same again, and of decoding."""
    workers = len(os.sched_getaffinity(0))
    names = [folder / f"{number}.mp4" for number in range(clips)]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        paths = list(pool.map(make_clip, names))
        list(pool.map(decode, paths[:workers]))  # warm
        started = time.perf_counter()
        list(pool.map(decode, paths))
        decoding_s = time.perf_counter() - started
    videos = [(path.stem, path) for path in paths]
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        list(fingerprint_videos(videos, folder / "fingerprints.csv", workers=workers))
        seconds.append(time.perf_counter() - started)
    print(f"{clips} clips of 720p and {SECONDS} s, by {workers} processes:")
    for what, spent in (
        ("all frames decoded", decoding_s),
        ("fingerprints", seconds[0]),
        ("the same again, with nothing to decode: mostly the start of the processes", seconds[1]),
    ):
        print(f"  {what}: {spent:.1f} s")


def copies_of(frames: Pictures, rate_fps: float) -> dict[str, tuple[Pictures, float, float]]:
    """Return a video's copies: frames, frames per second, crf."""
    half = [cv2.resize(f, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for f in frames]
    start = round(rate_fps / 2)
    cut = 0.03
    height, width = frames[0].shape[:2]
    inner = [
        f[int(cut * height) : int((1 - cut) * height), int(cut * width) : int((1 - cut) * width)]
        for f in frames
    ]
    return {
        "crf 35": (frames, rate_fps, 35),
        "crf 45": (frames, rate_fps, 45),
        "half size": (half, rate_fps, 23),
        "half the frames": (frames[::2], rate_fps / 2, 23),
        "0.5 s cut off": (frames[start:], rate_fps, 23),
        "1 s cut off": (frames[2 * start :], rate_fps, 23),
        "10 % brighter": (brighten(frames), rate_fps, 23),
        "half, brighter, 0.5 s off, crf 35": (brighten(half[start:]), rate_fps, 35),
        "3 % cut from every side": (inner, rate_fps, 23),
    }


def brighten(frames: Pictures) -> Pictures:
    """Return frames whose values are a tenth higher."""
    return [np.clip(frame * 1.1, 0, 255).astype(np.uint8) for frame in frames]


def count_differing(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the fewest bits in which a hash of one differs from one of the other."""
    return min((int(a, 16) ^ int(b, 16)).bit_count() for a in first for b in second)


def print_closest(
    what: str, hashes: dict[str, tuple[str, ...]], person: Callable[[str], str]
) -> None:
    """Print the fewest bits between different people."""
    names = sorted(hashes)
    bits = [
        count_differing(hashes[a], hashes[b])
        for i, a in enumerate(names) for b in names[:i] if person(a) != person(b)
    ]  # fmt: skip
    print(f"{what}, different people: {len(bits)} pairs, at least {min(bits)} bits")


def measure_distances(folder: Path) -> None:
    """Print the bits in which copies differ at most, and strangers at least."""
    with (SOURCES / "sources.csv").open(newline="", encoding="utf-8") as lines:
        people = {row["file"]: row["person"] for row in csv.DictReader(lines)}
    videos = [name for name in people if not name.startswith("stills/")]
    hashes = {name: hash_video(SOURCES / name) for name in videos}
    worst: dict[str, int] = {}
    for name in videos[::3]:
        frames = list(read_frames(SOURCES / name))
        rate_fps = (len(frames) - 1) / frames[-1].time_s
        for what, (copy, rate, crf) in copies_of([f.rgb_HWC() for f in frames], rate_fps).items():
            height, width = (side // 2 * 2 for side in copy[0].shape[:2])
            path = folder / "copy.mp4"
            write_video(path, [f[:height, :width] for f in copy], rate_fps=rate, crf=crf)
            bits = count_differing(hashes[name], hash_video(path))
            worst[what] = max(worst.get(what, 0), bits)
    for what, bits in worst.items():
        print(f"copies, {what}: at most {bits} bits")
    print_closest("videos", hashes, people.__getitem__)
    stills = {}
    for name in people.keys() - set(videos):
        found = hash_picture(cv2.imread(str(SOURCES / name))[..., ::-1].copy())
        assert found is not None
        stills[name] = (found.tobytes().hex(),)
    print_closest("stills", stills, people.__getitem__)


if __name__ == "__main__":
    time_comparison()
    with tempfile.TemporaryDirectory() as scratch:
        time_fingerprints(Path(scratch), int(sys.argv[1]) if len(sys.argv) > 1 else 20)
        measure_distances(Path(scratch))
