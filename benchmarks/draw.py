"""Seconds to take a draw out of a zipped chunk, against unpacking all of it.

Type: python benchmarks/draw.py [--gigabytes 2] [--videos 2400] [--drawn 720]

The zip has DFDC's layout and as many videos as one of its chunks; their bytes are random, because
video does not shrink either. Both ways read the zip from the page cache.
"""

import argparse
import json
import os
import random
import tempfile
import time
import zipfile
from pathlib import Path

from unmask.data import archive, datasets


def write_chunk(path: Path, *, gigabytes: float, videos: int) -> None:
    """Write a zip of half real, half fake videos with random content."""
    size = int(gigabytes * 1e9 / videos)
    listed = {f"{n:05}.mp4": {"label": ["REAL", "FAKE"][n % 2]} for n in range(videos)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        packed.writestr("dfdc_train_part_00/metadata.json", json.dumps(listed))
        for name in listed:
            packed.writestr(f"dfdc_train_part_00/{name}", os.urandom(size))


def take_out(chunk: Path, folder: Path, *, drawn: int) -> tuple[float, float]:
    """Return the seconds of listing the chunk and of placing some of its videos."""
    folder.mkdir(exist_ok=True)
    started = time.monotonic()
    with archive.open_chunk(chunk) as files:
        entries = datasets.read(files)
        listed = time.monotonic()
        for entry in random.Random(1).sample(entries, drawn):
            files.place(entry.path, folder / entry.file)
    assert len(list(folder.iterdir())) == drawn
    return listed - started, time.monotonic() - listed


def main() -> None:
    """Print a row for each way, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--videos", type=int, default=2400)
    parser.add_argument("--drawn", type=int, default=720)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        chunk = Path(scratch, "chunk.zip")
        write_chunk(chunk, gigabytes=args.gigabytes, videos=args.videos)
        print(f"{args.drawn} of {args.videos} videos, {chunk.stat().st_size / 1e9:.2f} GB")
        listing, placing = take_out(chunk, Path(scratch, "drawn"), drawn=args.drawn)
        print(f"{'list':24}{listing:8.2f} s\n{'place the drawn':24}{placing:8.2f} s")
        again, keeping = take_out(chunk, Path(scratch, "drawn"), drawn=args.drawn)
        print(f"{'again, all there':24}{again + keeping:8.2f} s")
        started = time.monotonic()
        with zipfile.ZipFile(chunk) as packed:
            packed.extractall(Path(scratch, "all"))
        whole = time.monotonic() - started
        print(f"{'unpack all (zipfile)':24}{whole:8.2f} s")
        print(f"{'ratio':24}{whole / (listing + placing):8.2f}")


if __name__ == "__main__":
    main()
