"""stages/faces.py with the tests' detector of painted squares: crop_squares.py VIDEOS FACES.

Neither MTCNN nor torch, which take seconds to load at each start; all else is the stage's own.
"""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

from test_faces import SquareDetector

from unmask import faces
from unmask.doors import run_stage

STAGE = Path(__file__).parents[1] / "stages/faces.py"

faces.Detector = SquareDetector
sys.modules["torch"] = SimpleNamespace(set_num_threads=int, get_num_threads=int)

if __name__ == "__main__":  # workers import this file again
    run_stage(runpy.run_path(str(STAGE))["main"])
