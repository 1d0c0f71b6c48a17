"""What a worker is refused: the network, files that are not its own, more memory than it may have.

Each is tried by the means that this machine has: bubblewrap, and the kernel alone.
"""

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from unmask.runtime import confinement
from unmask.runtime.confinement import Confinement, Enforced
from unmask.runtime.processes import run_jobs
from unmask.video.decode import read_frames
from unmask.video.encode import write_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can confine")


@cache  # workers import this file, too, and have no use for it
def try_out(means: str) -> Enforced:
    return confinement._try_all(shutil.which("bwrap") if means == "bubblewrap" else None)


@pytest.fixture(params=["bubblewrap", "kernel"])
def enforced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Enforced:
    """Confine by one of both means, wherever it works."""
    found = try_out(request.param)
    if request.param == "bubblewrap" and not found.bubblewrap:
        pytest.skip("bubblewrap is not installed, or makes no namespaces here")
    if not (found.files and found.network):
        pytest.skip("this kernel has no Landlock, or there is no filter for this architecture")
    monkeypatch.setattr(confinement, "enforced", lambda: found)
    return found


def do(jobs: list[object], work: Callable[[object], object], confined: Confinement) -> list[object]:
    def crashed(job: object) -> object:
        return f"{job} crashed"

    return list(
        run_jobs(jobs, work, dict, 1, crashed=crashed, exhausted=lambda _: "memory",
                 confined=confined)
    )  # fmt: skip


def write(path: str) -> str:
    try:
        Path(path).write_text("written")
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "written"


def change(kind: str) -> str:
    """Change a file of somebody else in one of many ways."""
    folder = Path(kind).parent
    try:
        match Path(kind).name:
            case "remove":
                (folder / "file").unlink()
            case "truncate":
                os.truncate(folder / "file", 0)
            case "rename":
                (folder / "file").rename(folder / "other")
            case "link":
                (folder / "link").symlink_to("file")
            case "folder":
                (folder / "new").mkdir()
            case "append":
                os.close(os.open(folder / "file", os.O_WRONLY | os.O_APPEND))
            case "mount":
                subprocess.run(["mount", "-o", "remount,rw", "/"], check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        return "refused"
    return "done"


@pytest.mark.usefixtures("enforced")
def test_files_are_written_in_the_folder_alone(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    theirs.mkdir()
    (theirs / "file").write_text("as it was")
    link = tmp_path / "link"
    link.symlink_to(mine)
    (mine / "out").symlink_to(theirs / "new")
    paths = [mine / "a", link / "b", theirs / "c", tmp_path / "d", mine / "out", Path.home() / "e"]
    found = do([str(path) for path in paths], write, Confinement((link,)))
    assert found[:2] == ["written", "written"]
    assert set(found[2:]) <= {"EROFS", "EACCES"}
    ways = ["remove", "truncate", "rename", "link", "folder", "append", "mount"]
    assert do([f"{theirs}/{way}" for way in ways], change, Confinement((mine,))) == ["refused"] * 7
    assert [path.name for path in theirs.iterdir()] == ["file"]
    assert (theirs / "file").read_text() == "as it was"
    assert (mine / "a").read_text() == (mine / "b").read_text() == "written"
    assert not (Path.home() / "e").exists()


@pytest.mark.usefixtures("enforced")
def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "read").write_text("this is read")
    assert do([str(tmp_path / "a")], write, Confinement())[0] in ("EROFS", "EACCES")
    assert do([str(tmp_path / "read")], read, Confinement()) == ["this is read"]


def read(path: str) -> str:
    return Path(path).read_text()


@pytest.fixture
def listener() -> Iterator[int]:
    """Listen on this machine; a connection that arrives is a failure."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        arrived: list[object] = []
        server.settimeout(5)

        def accept() -> None:
            try:
                arrived.append(server.accept())
            except OSError:
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.close()
        thread.join()
        assert not arrived


def connect(to: tuple[str, object]) -> str:
    kind, where = to
    families = {
        "tcp": (socket.AF_INET, socket.SOCK_STREAM), "udp": (socket.AF_INET, socket.SOCK_DGRAM),
        "tcp6": (socket.AF_INET6, socket.SOCK_STREAM), "unix": (socket.AF_UNIX, socket.SOCK_STREAM),
        "netlink": (socket.AF_NETLINK, socket.SOCK_RAW),
    }  # fmt: skip
    try:
        with socket.socket(*families[kind]) as own:
            if kind == "udp":
                own.sendto(b"x", where)  # type: ignore[arg-type]
            else:
                own.connect(where)  # type: ignore[arg-type]
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "connected"


@pytest.mark.usefixtures("enforced")
def test_there_is_no_network(listener: int, tmp_path: Path) -> None:
    unix = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(unix)
        server.listen()
        jobs = [
            ("tcp", ("127.0.0.1", listener)), ("udp", ("127.0.0.1", listener)),
            ("tcp6", ("::1", listener)), ("unix", unix), ("netlink", (0, 0)),
        ]  # fmt: skip
        assert do([*jobs], connect, Confinement()) == ["EACCES"] * 5
        assert do([jobs[3]], connect, Confinement(has_sockets=True)) == ["connected"]
        assert do([jobs[0]], connect, Confinement(has_sockets=True)) == ["EACCES"]


def resolve(name: str) -> str:
    try:
        return str(socket.getaddrinfo(name, 80))
    except OSError:
        return "refused"


@pytest.mark.usefixtures("enforced")
def test_no_name_is_looked_up() -> None:
    assert do(["example.org"], resolve, Confinement()) == ["refused"]


def allocate(size: int) -> int:
    return len(bytearray(size))


def allocate_by_numpy(size: int) -> int:
    import numpy as np

    return int(np.ones(size, np.uint8).size)


def allocate_by_torch(size: int) -> int:
    import torch

    return torch.ones(size, dtype=torch.uint8).numel()


def allocate_by_opencv(size: int) -> int:
    import cv2
    import numpy as np

    side = int(size**0.5)
    return int(cv2.resize(np.zeros((8, 8), np.uint8), (side, side)).size)


@pytest.mark.usefixtures("enforced")
@pytest.mark.parametrize(
    "work", [allocate, allocate_by_numpy, allocate_by_torch, allocate_by_opencv]
)
def test_more_memory_is_refused_and_the_next_job_is_done(
    work: Callable[[int], int],
) -> None:
    found = do([2**20, 10 * 2**30, 2**20], work, Confinement())
    assert found == [2**20, "memory", 2**20]


def hoard(size: int) -> str:
    """Do as a codec does that is refused memory: say nothing, and leave something out."""
    held = []
    for _ in range(size // 2**20):
        try:
            held.append(b"x" * 2**20)
        except MemoryError:
            break
    return f"{len(held)} MiB"


@pytest.mark.usefixtures("enforced")
def test_who_hides_that_memory_ran_out_is_found_out() -> None:
    confined = Confinement(memory_bytes=200 * 2**20)
    found = do([20 * 2**20, 2**30, 100 * 2**20], hoard, confined)
    assert found == ["20 MiB", "memory", "100 MiB"]


def read_video(path: Path) -> int:
    return sum(frame.rgb_HWC().any() for frame in read_frames(path))


@pytest.mark.usefixtures("enforced")
@pytest.mark.parametrize("mebibytes", [30, 60, 90])
def test_a_video_too_large_for_its_memory_is_not_called_damaged(
    mebibytes: int, tmp_path: Path
) -> None:
    grey = np.full((2160, 3840, 3), 90, np.uint8)
    write_video(tmp_path / "large.mp4", [grey] * 4, rate_fps=10, crf=40, preset="ultrafast")
    videos: list[object] = [tmp_path / "large.mp4"]
    limits = Confinement(memory_bytes=mebibytes * 2**20), Confinement()
    assert [do(videos, read_video, limit) for limit in limits] == [["memory"], [4]]


def score_of_oom(_: object) -> str:
    return Path("/proc/self/oom_score_adj").read_text().strip()


@pytest.mark.usefixtures("enforced")
def test_when_memory_runs_out_the_kernel_ends_a_worker_first() -> None:
    assert do(["a"], score_of_oom, Confinement()) == ["1000"]


@pytest.mark.usefixtures("enforced")
def test_every_thread_is_confined(tmp_path: Path) -> None:
    assert do([str(tmp_path / "a")], write_in_thread, Confinement())[0] in ("EROFS", "EACCES")


def write_in_thread(path: str) -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(write(path)))
    thread.start()
    thread.join()
    return found[0]


def test_a_machine_that_can_confine_nothing_still_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(confinement, "enforced", lambda: Enforced(None))
    assert do([str(tmp_path / "a"), 3], str, Confinement((tmp_path,))) == [str(tmp_path / "a"), "3"]


@pytest.mark.parametrize("program", ["exit 1", "echo nonsense", "exec sleep 60", "kill -9 $$"])
def test_a_bubblewrap_that_does_not_work_is_not_used(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container without namespaces, where it is installed and fails."""
    broken = tmp_path / "bwrap"
    broken.write_text(f"#!/bin/sh\n{program}\n")
    broken.chmod(0o755)
    monkeypatch.setattr(confinement, "_TRIAL_S", 2.0)
    assert confinement._try_all(str(broken)) == try_out("kernel")


def test_a_bubblewrap_that_confines_nothing_is_found_out(tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text('#!/bin/sh\nwhile [ "$1" != "$PYTHON" ]; do shift; done\nexec "$@"\n')
    fake.write_text(fake.read_text().replace("$PYTHON", sys.executable))
    fake.chmod(0o755)
    assert confinement._try_all(str(fake)).bubblewrap is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Enforced("/usr/bin/bwrap", True, True, True),
         "memory, network, files limited by bubblewrap"),
        (Enforced(None, False, True, True),
         "memory, network limited by the kernel; files not limited on this machine"),
        (Enforced(None), "memory, network, files not limited on this machine"),
    ],
)  # fmt: skip
def test_what_holds_is_said(found: Enforced, words: str) -> None:
    assert str(found) == words


def test_an_error_that_comes_of_memory_is_known() -> None:
    cause = ValueError("no frame")
    cause.__cause__ = MemoryError()
    said = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
    for error in (MemoryError(), cause, said, OSError(errno.ENOMEM, "none")):
        assert confinement.is_out_of_memory(error)
    for error in (ValueError("can't allocate memory"), OSError(errno.ENOENT, "none")):
        assert not confinement.is_out_of_memory(error)
