"""Videos made on the spot, whose frames carry their own index; later fixtures join below."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import psutil
import pytest
from made_once import made_once
from numpy.typing import NDArray

if TYPE_CHECKING:
    from unmask.faces.detector import Detector

# As in an activated environment, however pytest was called: dvc, mlflow and uvicorn are found.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
# Worker processes import what a test hands them, also where they leave out the current folder.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
)
# A shell has what it starts in the background ignore Ctrl-C, and so would all that is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

# With as many pytest processes as cores, each keeps to its own: what it starts then shares its work
# out among as many processes as it has cores, and torch is not imported twice for one short video.
if number := os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw"):
    _cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if _cores:
        os.sched_setaffinity(0, {_cores[int(number) % len(_cores)]})

Picture = NDArray[np.uint8]
Painter = Callable[[int, tuple[int, int]], Picture]

_COLUMNS, _ROWS = 4, 3  # one bit a block: room for 4096 frames
_TIME_BASE = Fraction(1, 90_000)
_BY_NUMBER = {".avi", ".dv", ".h264", ".hevc", ".m2v", ".m4v", ".obu", ".y4m"}


def paint_index(index: int, size: tuple[int, int]) -> Picture:
    """Return a picture of black and white blocks that spell the index, lowest bit top left."""
    width, height = size
    bits = (index >> np.arange(_COLUMNS * _ROWS)) & 1
    columns = np.arange(width) * _COLUMNS // width
    rows = np.arange(height) * _ROWS // height
    grey_HW = bits.reshape(_ROWS, _COLUMNS)[rows][:, columns] * 255
    return np.repeat(grey_HW[..., None], 3, axis=2).astype(np.uint8)


def read_painted_index(picture_HWC: Picture) -> int:
    """Return the index that paint_index spelt, after any lossy coding or scaling."""
    height, width, _ = picture_HWC.shape
    rows = [(2 * row + 1) * height // (2 * _ROWS) for row in range(_ROWS)]
    columns = [(2 * column + 1) * width // (2 * _COLUMNS) for column in range(_COLUMNS)]
    bits = picture_HWC[rows][:, columns].mean(axis=2).ravel() > 127
    return int((bits << np.arange(bits.size)).sum())


def paint_indices(frames: int, size: tuple[int, int] = (128, 96)) -> Iterator[Picture]:
    """Yield the pictures of the indices from 0 on."""
    return (paint_index(index, size) for index in range(frames))


@contextmanager
def _usual_priority() -> Iterator[None]:
    """Undo what SVT-AV1 does as root: it makes its caller, and all it starts, real-time processes.

    Two of them that wait for a third by spinning then hold both cores for good.
    """
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


def make_video_file(
    path: Path,
    *,
    frames: int = 30,
    rate_fps: float = 30,
    size: tuple[int, int] = (128, 96),
    paint: Painter = paint_index,
    times_s: Sequence[float] | None = None,
    rotation_deg: int = 0,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    colorspace: int = 2,
    options: dict[str, str] | None = None,
    sound_s: float = 0.0,
) -> Path:
    """Write a video straight with PyAV, in the container that the name's ending asks for.

    times_s gives each frame its own time. rotation_deg turns the stored pictures and says so in
    the file, so that a reader who turns them back, clockwise, sees what paint painted.
    colorspace is FFmpeg's number: 1 BT.709, 2 unspecified, 6 BT.601.
    """
    rate = Fraction(rate_fps).limit_denominator(1001)
    if times_s is None:
        times_s = [float(index / rate) for index in range(frames)]
    defaults = {"crf": "18", "preset": "veryfast"} if codec == "libx264" else {}
    container_options = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with (
        _usual_priority(),
        av.open(f"file:{path}", "w", container_options=container_options) as container,
    ):
        stream = container.add_stream(codec, rate, options=defaults | (options or {}))
        stream.width, stream.height = size if rotation_deg % 180 == 0 else size[::-1]
        stream.pix_fmt = pix_fmt
        stream.colorspace = colorspace
        stream.thread_count = 1
        # AVI, raw streams and MPEG know frame numbers only; elsewhere any time can be written.
        by_number = path.suffix in _BY_NUMBER or codec.startswith("mpeg")
        unit_s = 1 / rate if by_number else _TIME_BASE
        stream.codec_context.time_base = unit_s
        if rotation_deg:
            stream.set_display_rotation(-rotation_deg)
        if sound_s:
            _add_sound(container, sound_s)
        for index, time_s in enumerate(times_s):
            stored_HWC = np.rot90(paint(index, size), rotation_deg // 90)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored_HWC), format="rgb24")
            if colorspace == 1:
                picture = picture.reformat(format=pix_fmt, dst_colorspace="itu709")
            picture.time_base = unit_s
            picture.pts = index if by_number else round(time_s / unit_s)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def _add_sound(container: av.container.OutputContainer, sound_s: float) -> None:
    stream = container.add_stream("aac", 48_000)
    for start in range(0, round(sound_s * 48_000), 1024):
        silence = av.AudioFrame.from_ndarray(
            np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
        )
        silence.sample_rate, silence.pts = 48_000, start
        container.mux(stream.encode(silence))
    container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    """The function make_video_file: make_video(path, frames=..., rate_fps=..., size=...)."""
    return make_video_file


@pytest.fixture(scope="session")
def read_index() -> Callable[[Picture], int]:
    """The function read_painted_index: the index of an RGB picture from make_video."""
    return read_painted_index


@pytest.fixture(scope="session")
def index_pictures() -> Callable[..., Iterator[Picture]]:
    """The function paint_indices: index_pictures(frames, size) yields RGB pictures."""
    return paint_indices


@pytest.fixture(scope="session")
def mtcnn() -> "Detector":
    """The detector that finds faces of 40 pixels in pictures of 320."""
    from painted import DETECT  # imports torch: quick tests need not wait for it

    from unmask.faces.detector import Detector

    return Detector(DETECT)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A Git repository that has run all stages; those who change more than they undo copy it."""
    from small_project import build_project  # imports torch: quick tests need not wait for it

    made = made_once(tmp_path_factory, worker_id, "project", build_project)
    own = tmp_path_factory.mktemp("own") / "project"
    return Path(shutil.copytree(made, own, symlinks=True))


class MlflowServer:
    """`mlflow server` on loopback, with an SQLite store and an artifact folder in its folder."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        store += ["--artifacts-destination", str(self.folder / "artifacts")]
        # Without the second variable it starts a dozen processes for jobs that nobody gives it.
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command, *store, "--port", str(self.port)], cwd=self.folder,
                stdout=log, stderr=log, env=os.environ | quiet, start_new_session=True,
            )  # fmt: skip
        end_s = time.monotonic() + 120
        while time.monotonic() < end_s and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        said = (self.folder / "log").read_text()[-2000:]
        self.kill()
        pytest.fail(f"no MLflow server at {self.uri}:\n{said}")

    def kill(self) -> None:
        """Kill it with its workers, as a machine that loses its power does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # its own group: it starts a worker
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with MLflow's tables, to be copied: making them takes seconds."""
    from unmask.tracking.mlflow_client import mlflow

    file = tmp_path_factory.mktemp("tables") / "mlflow.db"
    mlflow().MlflowClient(f"sqlite:///{file}").get_experiment_by_name("unmask")
    return file


@pytest.fixture
def own_server(tmp_path: Path, mlflow_tables: Path) -> Iterator[MlflowServer]:
    """A server of the test's own, not started."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(mlflow_tables, folder)
    server = MlflowServer(folder)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> Iterator[str]:
    """The address of a server that runs."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(mlflow_tables, folder)
    server = MlflowServer(folder)
    server.start()
    yield server.uri
    server.kill()


@pytest.fixture(scope="session")
def sqlite_uri(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> str:
    """The address of a store in a folder whose name holds a space."""
    root = tmp_path_factory.mktemp("a root")
    shutil.copy(mlflow_tables, root)
    return f"sqlite:///{root}/mlflow.db"


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder with the files of a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(bytes(range(256)))
    (folder / "MODEL_CARD.md").write_text("# A model\n")
    return folder


@pytest.fixture(autouse=True)
def _logging_of_its_own() -> Iterator[None]:
    """Undo what a door sets up: the next test's logging is not its business."""
    ours, root = logging.getLogger("unmask"), logging.getLogger()
    level, handlers = ours.level, list(root.handlers)
    yield
    ours.setLevel(level)
    root.handlers[:] = handlers


# The files that take longest, from the longest on. Several pytest processes take them first: who
# is the last to begin a long one has the others wait for it.
LONGEST = (
    "project/test_interruptions.py", "project/test_experiments.py", "cli/test_predict.py",
    "serve/test_app.py", "sagemaker/test_containers.py", "project/test_dvc_remote.py",
    "project/test_reruns.py", "faces/test_kinds.py", "faces/test_crops.py",
    "federated/test_local.py", "project/test_machines.py", "sagemaker/test_submit.py",
    "project/test_pipeline.py", "project/test_tutorial.py", "cluster/test_ray_cluster.py",
    "cli/test_calibrate.py", "answers/test_calibration.py", "forgeries/test_sample.py",
    "tracking/test_mlflow_tracker.py", "models/test_resume.py", "faces/test_files.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first among several workers; else what is quick to fail fails first."""

    def place(item: pytest.Item) -> int:
        if "PYTEST_XDIST_WORKER" in os.environ:
            name = item.path.relative_to(Path(__file__).parent).as_posix()
            return LONGEST.index(name) if name in LONGEST else len(LONGEST)
        return int(item.get_closest_marker("slow") is not None)

    items.sort(key=place)


def find_workers(parent: int | None = None) -> "list[psutil.Process]":
    """Return the worker processes that a process, by default this one, has started."""
    children = psutil.Process(parent).children(recursive=True)
    found = []
    for child in children:
        with suppress(psutil.Error):  # it has just ended
            words = child.cmdline()
            # bubblewrap around it has the same words behind its own.
            if any("be_child" in word for word in words) and "bwrap" not in words[0]:
                found.append(child)
    return found


@pytest.fixture(autouse=True)
def own_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what a command that runs in this process sets for its children."""
    monkeypatch.setenv("PYTHONSAFEPATH", "")
