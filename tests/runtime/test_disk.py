"""The lock of a folder between real processes; a disk that takes no more, by a kernel's limit."""

import errno
import fcntl
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from unmask.errors import DiskError
from unmask.runtime.disk import give_name, sole_writer, write_atomically, writing
from unmask.video.encode import write_video

HOLDER = """
import sys, time
from multiprocessing import get_context
from pathlib import Path
from unmask.runtime.disk import sole_writer
if __name__ == "__main__":
    with sole_writer(Path(sys.argv[1])):
        worker = get_context("spawn").Process(target=time.sleep, args=(60,))
        worker.start()
        print(worker.pid, flush=True)
        time.sleep(60)
"""


@contextmanager
def limit(file_bytes: int) -> Iterator[None]:
    """Let the kernel refuse (EFBIG) what would make a file longer than that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_second_run_is_told_so_and_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    folder, script = tmp_path / "new" / "faces", tmp_path / "holder.py"
    script.write_text(HOLDER)
    command = [sys.executable, str(script), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        worker = int(holder.stdout.readline())
        asked = f"Asked to write into {folder}; another run is writing there. Wait until"
        with pytest.raises(DiskError, match=asked), sole_writer(folder):
            pytest.fail("two at once")
        holder.kill()
    os.kill(worker, 0)  # it outlives its parent, and holds nothing
    with sole_writer(folder):
        assert list(folder.iterdir()) == []
    os.kill(worker, signal.SIGKILL)


def test_one_process_may_take_it_once_at_a_time(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_writer(tmp_path):
            with pytest.raises(DiskError, match="another run"), sole_writer(tmp_path):
                pytest.fail("two at once")
            with sole_writer(tmp_path / "other"):
                pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_that_cannot_lock_is_written_with_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)  # no file system of that kind is at hand
    with caplog.at_level(logging.WARNING, "unmask"), sole_writer(tmp_path):
        pass
    assert f"{tmp_path} can't be locked ({os.strerror(number)})" in caplog.text


def test_a_text_that_finds_no_room_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    write_atomically(path, "old")
    with limit(1000), pytest.raises(DiskError, match=r"File too large.*ulimit"):
        write_atomically(path, "new" * 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["index.csv"]
    assert path.read_text() == "old"


def test_a_video_that_finds_no_room_is_whole_or_not_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames: list[NDArray[np.uint8]] = list(rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8))

    def write(name: str) -> Path:
        write_video(tmp_path / name, frames, rate_fps=10, crf=14)
        return tmp_path / name

    whole = write("whole.mp4").read_bytes()
    for most in (0, *range(1, len(whole), len(whole) // 40), len(whole) - 1):
        with limit(most), pytest.raises(DiskError, match="File too large"):
            write("a.mp4")
        assert [path.name for path in tmp_path.iterdir()] == ["whole.mp4"]
    with limit(len(whole)):
        assert write("a.mp4").read_bytes() == whole


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_what_only_a_write_can_meet_is_one_line(number: int, tmp_path: Path) -> None:
    with pytest.raises(DiskError) as caught, writing(tmp_path / "index.csv"):
        raise OSError(number, os.strerror(number))
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"Asked to write into {tmp_path}; the system said: ")
    assert os.strerror(number) in said


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.EACCES])
def test_what_reading_can_meet_too_keeps_its_own_error(number: int, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(number)), writing(tmp_path / "index.csv"):
        raise OSError(number, os.strerror(number))


def test_bytes_reach_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, path, order = tmp_path / ".a", tmp_path / "a", []

    def noting(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def noted(*arguments: object) -> None:
            order.append((name, path.exists()))
            call(*arguments)

        return noted

    monkeypatch.setattr(os, "fsync", noting("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", noting("replace", os.replace))
    part.write_text("whole")
    give_name(part, path)
    assert order == [("fsync", False), ("replace", False)]
    assert path.read_text() == "whole"
    write_atomically(path, "text")
    write_video(path, [np.zeros((16, 16, 3), np.uint8)], rate_fps=10, crf=14)
    assert [name for name, _ in order] == ["fsync", "replace"] * 3
