"""stages/faces.py with the tests' detector of painted squares: crop_squares.py VIDEOS FACES."""

import runpy
from functools import partial
from pathlib import Path

from squares import load_squares

from unmask import faces
from unmask.doors import run_stage

STAGE = Path(__file__).parents[1] / "stages/faces.py"

if __name__ == "__main__":  # workers import this file again
    faces.crop_chunk = partial(faces.crop_chunk, load_detector=load_squares)
    run_stage(runpy.run_path(str(STAGE))["main"])
