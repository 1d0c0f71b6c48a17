"""Damage small videos of many kinds and crop them: no row may be lost, no worker may hang.

Type: python benchmarks/fuzz.py [--files 600] [--seed 0] [--folder DIR]

Fails where a file has no row, a video timed out, or a crop file does not hold the frames that its
row tells of. One worker crops, so that the seconds between two rows are one file's. With --folder
the damaged files stay there.
"""

import argparse
import math
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from unmask import params
from unmask.faces.crops import crop_chunk, find_videos
from unmask.faces.tracks import Detection
from unmask.records import Box, FaceTrack, Reason, VideoFaces
from unmask.runtime.record_files import read_faces
from unmask.video.decode import read_frames
from unmask.video.failures import DecodeError
from unmask.video.frame import Frame

SETTINGS = params.Faces(
    rate_fps=10.0, side_px=32, margin_ratio=0.1, crf=30,
    detect=params.Detect(
        max_side_px=160, min_face_px=12, thresholds=(0.5, 0.5, 0.5), min_score=0.5
    ),
    detect_every_s=0.3, smooth_s=0.2, min_track_s=0.2, max_gap_s=0.7, min_overlap=0.1,
    max_failed_ratio=1.0, stall_s=20.0,
)  # fmt: skip
KINDS = {  # file ending -> codec, its options, pixel format, frame size, frames a second
    "h264.mp4": ("libx264", {"bf": "3", "g": "12"}, "yuv420p", (160, 90), 25),
    "matroska.mkv": ("libx264", {"bf": "0", "tune": "zerolatency"}, "yuv420p", (64, 64), 25),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none"}, "yuv420p", (128, 96), 25),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime"}, "yuv420p", (160, 90), 25),
    "mpeg4.avi": ("mpeg4", {"bf": "2"}, "yuv420p", (128, 96), 25),
    "mjpeg.mov": ("mjpeg", {}, "yuvj420p", (96, 64), 15),
    "mpeg2.ts": ("mpeg2video", {"bf": "2"}, "yuv420p", (160, 96), 25),
    "ps.mpg": ("mpeg2video", {}, "yuv420p", (96, 96), 25),
    "flv.flv": ("flv", {}, "yuv420p", (96, 64), 25),
    "asf.wmv": ("wmv2", {}, "yuv420p", (96, 64), 25),
    "gif.gif": ("gif", {}, "rgb8", (80, 64), 10),
}
BOMBS = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x00FFFFFF, 0x0000FFFF, 0, 1)
BOXES = (
    b"ftyp moov mvhd trak tkhd edts elst mdia mdhd hdlr minf stbl stsd avc1 hev1 hvc1 avcC hvcC "
    b"stts stss ctts stsc stsz stco mdat RIFF avih strh strf movi idx1 jpeg"
).split()


class SquareDetector:
    """Finds the bounding box of red pixels, in next to no time."""

    batch = 1

    def detect(self, pictures: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Return one face for each picture that shows red."""
        return [self._find(picture_HWC.astype(int)) for picture_HWC in pictures]

    def follow(self, frame: Frame, boxes: Sequence[Box]) -> list[Detection | None]:
        """Return the one face for every box, if the frame shows it."""
        faces = self._find(frame.rgb_HWC().astype(int))
        return [faces[0] if faces else None for _ in boxes]

    def _find(self, picture_HWC: NDArray[np.int_]) -> list[Detection]:
        is_red_HW = picture_HWC[..., 0] - picture_HWC[..., 1:].max(axis=2) > 80
        rows, columns = np.nonzero(is_red_HW)
        smallest_px = SETTINGS.detect.min_face_px
        if rows.size == 0 or min(np.ptp(rows), np.ptp(columns)) < smallest_px:  # as MTCNN does
            return []
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        box = float(left), float(top), float(right), float(bottom)
        return [Detection(box, 0.99, (box[:2], box[2:], box[:2], box[2:], box[:2]))]


def load_squares(_: params.Detect) -> SquareDetector:
    """Return what stands in for MTCNN."""
    return SquareDetector()


def write_whole(path: Path, kind: str) -> None:
    """Write 1.2 s of a moving red square."""
    codec, options, pix_fmt, (width, height), rate = KINDS[kind]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, Fraction(rate), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for index in range(round(1.2 * rate)):
            picture_HWC = np.full((height, width, 3), 90, np.uint8)
            left = 4 + index
            picture_HWC[8:40, left : left + 32] = (230, 20, 20)
            picture = av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(picture.reformat(format=pix_fmt)))
        container.mux(stream.encode(None))


# ---------------------------------------------------------------- damage


def flip(data: bytearray, rng: np.random.Generator) -> None:
    """Change some bytes anywhere."""
    for place in rng.integers(len(data), size=rng.integers(1, 40)):
        data[place] = rng.integers(256)


def flip_header(data: bytearray, rng: np.random.Generator) -> None:
    """Change some bits where most containers say what is in them: at the start or the end."""
    for place in rng.integers(min(len(data), 900), size=rng.integers(1, 12)):
        data[place if rng.random() < 0.7 else -1 - place] ^= 1 << rng.integers(8)


def blank(data: bytearray, rng: np.random.Generator) -> None:
    """Overwrite a range by zeros."""
    start, stop = sorted(rng.integers(len(data), size=2))
    stop = min(stop, start + 2000)
    data[start:stop] = bytes(stop - start)


def cut(data: bytearray, rng: np.random.Generator) -> None:
    """Lose the end."""
    del data[rng.integers(1, len(data)) :]


def drop(data: bytearray, rng: np.random.Generator) -> None:
    """Lose a part in the middle."""
    start = rng.integers(len(data))
    del data[start : start + rng.integers(1, 400)]


def repeat(data: bytearray, rng: np.random.Generator) -> None:
    """Say a part twice, or many times."""
    start = rng.integers(len(data))
    part = data[start : start + rng.integers(1, 3000)]
    data[start:start] = part * int(rng.choice([1, 2, 30]))


def bomb(data: bytearray, rng: np.random.Generator) -> None:
    """Write an absurd size, count, length or time, most often into a box that is known."""
    found = [place for box in BOXES if (place := data.find(box)) >= 4]
    for _ in range(rng.integers(1, 4)):
        if found and rng.random() < 0.8:
            start = int(rng.choice(found)) + int(rng.choice([-4, *range(4, 64, 2)]))
        else:
            start = int(rng.integers(min(len(data), 400)))
        order = "<I" if data[:4] in (b"RIFF", b"GIF8") else ">I"
        word = struct.pack(order, rng.choice(BOMBS))[: rng.choice([2, 4])]
        if start + len(word) <= len(data):
            data[start : start + len(word)] = word


DAMAGES = (flip, flip_header, flip_header, blank, cut, drop, repeat, bomb, bomb)


def write_damaged(folder: Path, files: int, seed: int) -> None:
    """Write that many damaged videos, of all kinds in turn; their names say what was done."""
    with tempfile.TemporaryDirectory() as scratch:
        wholes = []
        for kind in KINDS:
            path = Path(scratch) / kind
            write_whole(path, kind)
            wholes.append((kind, path.read_bytes()))
    for number in range(files):
        kind, whole = wholes[number % len(wholes)]
        rng = np.random.default_rng([seed, number])
        data, done = bytearray(whole), []
        for _ in range(rng.integers(1, 4)):
            damage = DAMAGES[rng.integers(len(DAMAGES))]
            damage(data, rng)
            done.append(damage.__name__)
        (folder / f"{number:05d}_{'_'.join(done)}_{kind}").write_bytes(data)


# ---------------------------------------------------------------- checks


def find_lie(track: FaceTrack, faces_dir: Path) -> str:
    """Return what is wrong with a track's crop file or times, or nothing."""
    try:
        frames = sum(1 for _ in read_frames(faces_dir / track.file))
    except DecodeError as error:
        return str(error)
    if frames != len(track.times_T):
        return f"{frames} frames in the file, {len(track.times_T)} in the row"
    numbers = [*track.times_T, *(side for box in track.boxes_T4 for side in box)]
    if not all(map(math.isfinite, numbers)) or any(np.diff(track.times_T) <= 0):
        return "times that do not rise, or a box without end"
    return ""


def report(rows: Sequence[VideoFaces], seconds: Sequence[float]) -> None:
    """Print the outcomes by kind, the slowest file, and the largest worker's memory."""
    kinds = sorted(kind.split(".")[0] for kind in KINDS)
    counts = Counter((row.video_id.split("_")[-1], row.reason) for row in rows)
    print(f"{'outcome':12}" + "".join(f"{kind:>10}" for kind in kinds) + f"{'all':>10}")
    for reason in (None, *Reason):
        of_kinds = [counts[kind, reason] for kind in kinds]
        listed = "".join(f"{count:10}" for count in (*of_kinds, sum(of_kinds)))
        print(f"{reason or 'cropped':12}{listed}")
    slowest = int(np.argmax(seconds))
    print(f"{sum(seconds):.1f} s; at most {seconds[slowest]:.1f} s: {rows[slowest].video_id}")
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"at most {peak_bytes / 1e6:.0f} MB in a worker")


def fuzz(videos_dir: Path, faces_dir: Path) -> list[str]:
    """Crop all files of a folder, print what came of it, and return what should not have."""
    videos = find_videos(videos_dir)
    rows, seconds = [], []
    started = time.monotonic()
    for row in crop_chunk(videos, faces_dir, SETTINGS, workers=1, load_detector=load_squares):
        rows.append(row)
        seconds.append(time.monotonic() - started)
        started = time.monotonic()
    report(rows, seconds)
    faults = [f"{row.video_id}: {row.detail}" for row in rows if row.reason is Reason.TIMED_OUT]
    for row in rows:
        lies = [lie for track in row.tracks if (lie := find_lie(track, faces_dir))]
        faults += [f"{row.video_id}: {lie}" for lie in lies]
    indexed = read_faces(faces_dir / "index.jsonl")
    lost = {video_id for video_id, _ in videos} ^ indexed.keys()
    return faults + [f"{video_id}: no row" for video_id in sorted(lost)]


def main() -> None:
    """Read the arguments, and exit with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where damaged files and crops are kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        write_damaged(folder / "videos", arguments.files, arguments.seed)
        faults = fuzz(folder / "videos", folder / "faces")
    sys.exit("\n".join([f"{len(faults)} faults:", *faults]) if faults else 0)


if __name__ == "__main__":
    # Workers import what they are handed by its module's name, which `__main__` is not.
    from fuzz import main as run

    run()
