"""Crop the faces of all videos in a folder: python stages/crops.py VIDEOS_DIR FACES_DIR."""

import sys
from pathlib import Path

from unmask import params
from unmask.cli.common import has_gpu, progress, run_stage, workers
from unmask.faces import crops
from unmask.faces.shared_detector import best_detector
from unmask.video.pictures import read_tracks


def main() -> None:
    """Crop every file, whatever its label."""
    videos_dir, faces_dir = (Path(argument) for argument in sys.argv[1:])
    videos, settings = crops.find_videos(videos_dir), params.load().faces
    with best_detector(settings.detect, on_gpu=has_gpu()) as load_detector:
        rows = crops.crop_chunk(
            videos, faces_dir, settings, workers=workers(), load_detector=load_detector,
            tracks=read_tracks(videos_dir),
        )  # fmt: skip
        for _ in progress(rows, total=len(videos), label=f"faces of {faces_dir.name}"):
            pass


if __name__ == "__main__":  # workers import this file again
    run_stage(main)
