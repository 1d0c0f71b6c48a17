"""Files are cropped by processes of their own: one that kills or stalls one costs itself alone."""

import hashlib
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import find_workers
from unmask import params
from unmask.faces.files import crop_files
from unmask.records import Reason
from unmask.video.encode import write_video

ROOT = Path(__file__).parents[2]
LARGE_BYTES = 2**30  # of zeros that take no disk: reading them takes a second


@pytest.fixture
def files(tmp_path):
    """Return a wall, and a file that keeps a worker busy for longer than it takes to stop it."""
    grey = [np.full((96, 96, 3), 90, np.uint8)] * 12
    write_video(tmp_path / "wall.mp4", grey, rate_fps=10.0, crf=20)
    with (tmp_path / "large").open("wb") as large:
        large.truncate(LARGE_BYTES)
    return tmp_path / "wall.mp4", tmp_path / "large"


def test_a_worker_that_ends_or_stalls_costs_one_file(files):
    wall, large = files
    settings = params.load().faces.model_copy(update={"stall_s": 1.0})
    paths = [wall, large, wall, large, wall, large]
    others = find_workers()

    def send(number):
        """Signal the worker, which already has the next file."""
        [worker] = [each for each in find_workers() if each not in others]
        os.kill(worker.pid, number)

    with closing(crop_files(paths, settings, workers=1)) as cropped:
        found = [next(cropped)]
        send(signal.SIGKILL)
        found += [next(cropped), next(cropped)]
        send(signal.SIGSTOP)
        found += [next(cropped), next(cropped)]
        folder = found[0].crops_dir
        assert folder.exists()
    # The last file was in hand when nobody asked for more.
    assert set(find_workers()) <= set(others)
    assert not folder.exists()

    assert [(each.place, each.path) for each in found] == [*enumerate(paths)][:5]
    assert [each.found.reason for each in found] == [
        Reason.NO_FACE, Reason.CRASHED, Reason.NO_FACE, Reason.TIMED_OUT, Reason.NO_FACE,
    ]  # fmt: skip
    assert f"{large}: asked for its faces, but the decoder crashed" in found[1].found.detail
    assert f"{large}: asked for its faces, found no new frame for 1 s" in found[3].found.detail
    assert [each.duration_s for each in found[:2]] == [pytest.approx(1.2), None]
    digests = [hashlib.sha256(wall.read_bytes()).hexdigest(), found[3].sha256]
    assert [each.sha256 for each in found] == [digests[place % 2] for place in range(5)]


def test_files_are_cropped_in_a_program_without_a_main_guard(files, tmp_path):
    """As a plain script, read from standard input, beside modules that a stranger planted."""
    strange = tmp_path / "strange"
    strange.mkdir()
    for name in ("av", "cv2", "unmask", "torch", "numpy"):
        (strange / f"{name}.py").write_text("raise SystemExit('a stranger says hello')\n")
    program = (
        "from pathlib import Path\n"
        "from unmask import params\n"
        "from unmask.faces.files import crop_files\n"
        f"settings = params.load(Path({str(ROOT / 'params.yaml')!r})).faces\n"
        f"for each in crop_files([Path({str(files[0])!r})], settings, workers=1):\n"
        "    print(each.found.reason, each.duration_s)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-"], cwd=strange, input=program, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("no_face 1.2\n", 0), done.stderr
