"""Temporary folders of processes that live, that ended and that were killed."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from unmask.runtime.scratch import all_in, delete_abandoned, private_folder

HOLD = """
import sys, time
from unmask.runtime.scratch import private_folder
with private_folder("serve") as folder:
    (folder / "token").mkdir()
    (folder / "token/video").write_bytes(b"somebody's face")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of /tmp."""
    made = tmp_path / "tmp"
    made.mkdir()
    monkeypatch.setenv("TMPDIR", str(made))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return made


def hold(place: Path) -> tuple[subprocess.Popen[str], Path]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(place)},
    )  # fmt: skip
    assert child.stdout
    return child, Path(child.stdout.readline().strip())


def end(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.stdout
    child.stdout.close()


def test_what_a_killed_process_left_goes_with_the_next_start(place: Path) -> None:
    killed, left = hold(place)
    living, kept = hold(place)
    end(killed)
    assert (left / "token/video").exists()
    with private_folder("predict") as folder:
        assert not left.exists()
        assert (kept / "token/video").read_bytes() == b"somebody's face"
        assert folder.stat().st_mode & 0o777 == 0o700
        with private_folder("crops") as inner:  # its own process's are living ones, too
            assert folder.exists()
        assert not inner.exists()
    end(living)
    assert list(place.iterdir()) == [kept]
    delete_abandoned(place)
    assert list(place.iterdir()) == []


def test_links_and_other_folders_are_left_alone(place: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    (secret / "unmask-serve-abcdefgh").mkdir(parents=True)
    (secret / "unmask-serve-abcdefgh/.unmask.lock").touch()
    (secret / "letter").write_text("dear")
    (place / "unmask-serve-aaaaaaaa").symlink_to(secret / "unmask-serve-abcdefgh")
    (place / "unmask-serve-bbbbbbbb").mkdir()  # without a lock: somebody's own, or being made
    (place / "unmask-notes").mkdir()
    (place / "unmask-notes/.unmask.lock").touch()
    linked = place / "unmask-serve-cccccccc"
    linked.mkdir()
    (linked / ".unmask.lock").symlink_to(secret / "letter")
    abandoned = place / "unmask-serve-dddddddd"
    (abandoned / "token").mkdir(parents=True)
    (abandoned / ".unmask.lock").touch()
    (abandoned / "out").symlink_to(secret)
    (abandoned / "token/out").symlink_to(secret)
    before = {path.name for path in place.iterdir()}
    delete_abandoned(place)
    assert before - {path.name for path in place.iterdir()} == {"unmask-serve-dddddddd"}
    assert (secret / "letter").read_text() == "dear"
    assert (secret / "unmask-serve-abcdefgh/.unmask.lock").exists()


def test_another_users_folder_is_left_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place / "unmask-serve-aaaaaaaa"
    folder.mkdir()
    (folder / ".unmask.lock").touch()
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    delete_abandoned(place)
    assert folder.exists()


def test_temporary_files_come_into_the_folder_meanwhile(place: Path) -> None:
    with private_folder("predict") as folder:
        with all_in(folder):
            made = tempfile.mkdtemp()
            said = subprocess.run(
                [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"],
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
        assert Path(made).parent == Path(said.strip()) == folder
    assert (tempfile.gettempdir(), os.environ["TMPDIR"]) == (str(place), str(place))
    assert list(place.iterdir()) == []
