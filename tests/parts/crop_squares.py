"""stages/faces.py with the tests' detector of painted squares: crop_squares.py VIDEOS FACES."""

import runpy
from contextlib import nullcontext
from pathlib import Path

from painted import load_patiently

from unmask.cli.common import run_stage
from unmask.faces import shared_detector

STAGE = Path(__file__).parents[2] / "stages/faces.py"

if __name__ == "__main__":  # workers import this file again
    shared_detector.best_detector = lambda *_, **__: nullcontext(load_patiently)
    run_stage(runpy.run_path(str(STAGE))["main"])
