"""The faces stage in trouble: killed at any moment, started twice, on a disk that is full."""

import contextlib
import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_project import ROOT

from tests.conftest import Picture, make_video_file
from tests.faces.test_crops import at, squares
from unmask.runtime.record_files import read_faces
from unmask.video.decode import read_frames

VIDEOS = 25
COMMAND = [sys.executable, str(ROOT / "tests/parts/crop_squares.py"), "videos", "faces"]
BUSY = "error: Asked to write into faces; another run is writing there. Wait until"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos, params, faces that nothing disturbed, and old, those of other params.

    One crop is large, yet smaller than the index.
    """
    root = tmp_path_factory.mktemp("undisturbed")
    (root / "videos").mkdir()
    for number in range(VIDEOS):
        face, other = lambda t, n=number: at(10 + n * t, 20, 60), lambda _: at(90, 20, 50)
        paint = squares(face, other) if number % 5 == 1 else squares(face)
        paint = noisy(paint) if number == 3 else paint
        make_video_file(
            root / f"videos/v{number:02}.mp4", frames=40, rate_fps=20, size=(160, 90), paint=paint
        )
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    write_params(root, settings, crf=30)
    assert crop(root) == (0, "")
    (root / "faces").rename(root / "old")
    write_params(root, settings, crf=14)
    assert crop(root) == (0, "")
    rows = read_faces(root / "faces/index.jsonl")
    assert len(rows) == VIDEOS
    for track in (track for row in rows.values() for track in row.tracks):
        assert len(list(read_frames(root / "faces" / track.file))) == len(track.times_T) == 20
    assert [len(row.tracks) for row in rows.values()] == [1, 2, 1, 1, 1] * (VIDEOS // 5)
    return root


@pytest.fixture
def root(undisturbed: Path, tmp_path: Path) -> Path:
    """A folder with the same videos and params."""
    shutil.copytree(undisturbed / "videos", tmp_path / "videos")
    shutil.copy(undisturbed / "params.yaml", tmp_path)
    return tmp_path


def noisy(paint: Callable[..., Picture]) -> Callable[..., Picture]:
    """Return a painter of the same with noise, which makes a large crop."""

    def paint_with_noise(index: int, size: tuple[int, int]) -> Picture:
        noise_HWC = np.random.default_rng(index).integers(-20, 21, (size[1], size[0], 3))
        return np.clip(paint(index, size) + noise_HWC, 0, 255).astype(np.uint8)

    return paint_with_noise


def write_params(root: Path, settings: dict[str, dict[str, object]], *, crf: int) -> None:
    settings["faces"]["crf"] = crf
    (root / "params.yaml").write_text(yaml.safe_dump(settings))


def start(root: Path, command: Sequence[str] = COMMAND) -> subprocess.Popen[str]:
    """Start the stage, as the leader of a process group."""
    paths = [
        ROOT / "src",
        ROOT / "tests/parts",
    ]  # named: a test before may have hidden the script's
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.Popen(
        command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def crop(root: Path) -> tuple[int, str]:
    """Return the stage's exit code, and what it said beside progress and its last line."""
    return end(start(root))


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    said = process.communicate(timeout=120)[1]
    expected = ("faces of", "chunk ")
    lines = [line for line in said.splitlines() if line and not line.startswith(expected)]
    return process.returncode, "\n".join(lines)


def digests(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Return what every file of a folder holds."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.glob(pattern)}


def rows_of(faces_dir: Path) -> list[dict[str, object]]:
    """Return the whole rows that the next run may count on."""
    for name in ("index.jsonl", ".index.jsonl.partial"):
        with contextlib.suppress(FileNotFoundError):  # a run takes them away meanwhile
            lines = (faces_dir / name).read_text().split("\n")[:-1]
            return [json.loads(line) for line in lines]
    return []


def test_killed_at_any_moment_no_half_crop_has_a_name(undisturbed: Path, root: Path) -> None:
    rng, faces = random.Random(0), root / "faces"
    wanted, old = digests(undisturbed / "faces"), digests(undisturbed / "old")
    shutil.copytree(undisturbed / "old", faces)
    keys = {row["video_id"]: row["key"] for row in rows_of(undisturbed / "faces")}
    counted = []
    for number in range(12):
        done, process = len(rows_of(faces)) if number else 0, start(root)
        # A third at any moment from the start on, the others when a video more is done.
        while number % 3 and process.poll() is None and len(rows_of(faces)) in (done, VIDEOS):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15 if number % 3 else 1.0))
        if process.poll() is not None:  # nothing is left to be killed
            end(process)
            break
        # Each second time without its workers, which then end by themselves.
        (os.kill if number % 2 else os.killpg)(process.pid, signal.SIGKILL)
        with process:  # closes its pipe
            process.wait()
        rows = [row for row in rows_of(faces) if row["key"] == keys[row["video_id"]]]
        crops = digests(faces, "v*.mp4")
        for name, digest in crops.items():
            assert digest in (wanted[name], old[name]), f"{name} is neither old nor new"
        for track in (track for row in rows for track in row["tracks"]):
            assert crops[track["file"]] == wanted[track["file"]]
        counted.append(len(rows))
    assert counted == sorted(counted)  # no row is lost
    assert len(counted) > 6
    assert len(set(counted)) > 3
    assert crop(root) == (0, "")
    assert digests(faces) == wanted


def test_of_two_at_once_one_is_refused_and_the_other_ends_as_if_alone(
    undisturbed: Path, root: Path
) -> None:
    ended = sorted(end(process) for process in [start(root), start(root)])
    assert ended[0] == (0, "")
    assert ended[1][0] == 1
    assert ended[1][1].startswith(BUSY)
    assert "\n" not in ended[1][1]
    assert digests(root / "faces") == digests(undisturbed / "faces")


def files_by_size(folder: Path) -> list[int]:
    return sorted(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize("what", ["a crop", "the index"])
def test_what_finds_no_room_ends_the_stage_in_one_line_and_loses_nothing(
    what: str, undisturbed: Path, root: Path
) -> None:
    *_, other_crop, largest_crop, index = files_by_size(undisturbed / "faces")
    most = {"a crop": (other_crop + largest_crop) // 2, "the index": (largest_crop + index) // 2}
    assert other_crop < most["a crop"] < largest_crop < most["the index"] < index
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most[what], before[1]))  # processes inherit it
    try:
        code, said = crop(root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    check_refusal(code, said, "File too large")
    check_the_next_run_goes_on(undisturbed, root)


def test_a_full_disk_ends_the_stage_in_one_line_and_loses_nothing(
    undisturbed: Path, root: Path
) -> None:
    faces, own_mounts = root / "faces", ["unshare", "--map-root-user", "--mount"]
    faces.mkdir()
    mount = f"mount -t tmpfs -o size={sum(files_by_size(undisturbed / 'faces')) // 2} none faces"
    tried = shutil.which("unshare") and subprocess.run([*own_mounts, "sh", "-c", mount], cwd=root)
    if not tried or tried.returncode:
        pytest.skip("this machine lets no process mount a small disk of its own")
    # What the small disk held when it was full is copied to a larger one.
    script = f"{mount} && {shlex.join(COMMAND)}; code=$?; cp -a faces full; exit $code"
    code, said = end(start(root, [*own_mounts, "sh", "-c", script]))
    check_refusal(code, said, "No space left on device")
    faces.rmdir()
    (root / "full").rename(faces)
    check_the_next_run_goes_on(undisturbed, root)


def check_refusal(code: int, said: str, why: str) -> None:
    assert code == 1
    assert said.startswith(f"error: Asked to write into faces; the system said: {why}. ")
    assert said.endswith("then type the same again: what is done is kept.")
    assert "\n" not in said


def check_the_next_run_goes_on(undisturbed: Path, root: Path) -> None:
    faces, wanted = root / "faces", digests(undisturbed / "faces")
    assert not (faces / "index.jsonl").exists()
    assert digests(faces, "v*.mp4").items() <= wanted.items()
    files = [faces / track["file"] for row in rows_of(faces) for track in row["tracks"]]
    assert files
    made = {path: path.stat().st_mtime_ns for path in files}
    assert crop(root) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert digests(faces) == wanted
