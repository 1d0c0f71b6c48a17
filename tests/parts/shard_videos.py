"""Videos of painted squares in the layout of a project, and detectors that fail on some of them."""

import ctypes
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import yaml
from painted import SETTINGS, PatientDetector, Picture, at, load_patiently, squares
from tests.conftest import make_video_file

from unmask import params
from unmask.errors import DiskError
from unmask.faces import shared_detector
from unmask.faces.detector import LoadDetector
from unmask.faces.tracks import Detection

ROOT = Path(__file__).parents[2]
CRASH, HANG = 110, 85  # places of the blue square that a decoder crashes or hangs at


def make_project(root: Path, videos: Iterable[str], *, chunk: str = "wild") -> Path:
    """Write params.yaml, and videos in raw/: crash.mp4 and hang.mp4 have a square that says so."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    changes = {"stall_s": 2.0, "side_px": 192, "min_track_s": 0.5}
    faces = SETTINGS.model_dump(mode="json") | changes
    values |= {"chunks": [chunk], "benchmarks": [], "faces": faces}
    root.mkdir(exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    folder = root / "raw" / chunk / "videos"
    folder.mkdir(parents=True)
    for number, name in enumerate(videos):
        left = {"crash": CRASH, "hang": HANG}.get(name)
        other = (lambda _, left=left: at(left, 20, 40)) if left else (lambda _: None)
        paint = squares(lambda t, n=number: at(5 + n % 20 + 9 * t, 30, 40), other)
        path = folder / f"{name}.mp4"
        make_video_file(path, frames=16, rate_fps=20, size=(160, 90), paint=paint)
    (folder / "text.mp4").write_text("no video")
    return root


class MoodyDetector(PatientDetector):
    """Crashes or hangs, as a decoder may, where a square says so; a node may have a full disk."""

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        if os.environ.get("DISK_OF_THIS_NODE") == "full":
            raise DiskError("Asked to write into faces; the system said: No space left on device.")
        time.sleep(float(os.environ.get("SECONDS_A_SEARCH", "0")))
        found = super().detect(pictures)
        for places in ([round(face.box_xyxy[0]) for face in faces] for faces in found):
            if any(abs(left - CRASH) < 4 for left in places):
                os.kill(os.getpid(), signal.SIGSEGV)
            if any(abs(left - HANG) < 4 for left in places):
                ctypes.PyDLL(None).pause()  # in C, with the GIL
        return found


def load_moody(_: params.Detect) -> MoodyDetector:
    """Return what a worker process finds squares with."""
    return MoodyDetector()


@contextmanager
def shared_on_gpu(_: params.Detect) -> Iterator[LoadDetector]:
    """Give workers one detector of squares, in a task to which Ray gave a GPU of the node."""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    with shared_detector.shared(PatientDetector(), load_patiently) as load_detector:
        yield load_detector


def no_fault() -> str:
    """Return what a node says whose GPU can be used."""
    return ""


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of each file of a folder of crops, by name."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def copy_of(project: Path, root: Path) -> Path:
    """Return another checkout with the same videos."""
    shutil.copytree(project, root, ignore=shutil.ignore_patterns("faces"))
    return root
