"""Crop the faces of all videos in a folder: python stages/faces.py VIDEOS_DIR FACES_DIR."""

import sys
from pathlib import Path

from unmask import faces, params
from unmask.doors import progress, run_stage, workers


def main() -> None:
    """Crop every file, whatever its label."""
    videos_dir, faces_dir = (Path(argument) for argument in sys.argv[1:])
    videos = faces.find_videos(videos_dir)
    rows = faces.crop_chunk(videos, faces_dir, params.load().faces, workers=workers())
    for _ in progress(rows, total=len(videos), label=f"faces of {faces_dir.name}"):
        pass


if __name__ == "__main__":  # workers import this file again
    run_stage(main)
