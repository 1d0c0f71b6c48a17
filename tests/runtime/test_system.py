"""Locks of the system: one process has one, and loses it however it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unmask.runtime import system

HOLD = """
import os, sys
from unmask.runtime import system
handle = {opened}
system.lock(handle)
print("held", flush=True)
sys.stdin.read()
"""


def holder(opened):
    """Return a process that holds a lock until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(opened=opened)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    process.kill()
    process.communicate()


def test_one_process_has_a_file_until_it_is_killed(tmp_path):
    path = tmp_path / "file"
    path.write_text("content")
    handle = os.open(path, os.O_RDWR)
    other = holder(f"os.open({str(path)!r}, os.O_RDWR)")
    with pytest.raises(BlockingIOError):
        system.lock(handle)
    end(other)
    system.lock(handle)
    assert os.read(handle, 7) == b"content"
    os.close(handle)


def test_whoever_waits_gets_it(tmp_path):
    other = holder(f"system.open_folder(__import__('pathlib').Path({str(tmp_path)!r}))")
    handle = system.open_folder(tmp_path)
    waiter = subprocess.Popen(
        [sys.executable, "-c", f"import time, os; time.sleep(0.5); os.kill({other.pid}, 9)"]
    )
    system.lock(handle, wait=True)
    assert waiter.wait() == 0
    os.close(handle)
    end(other)
    assert list(tmp_path.iterdir()) == []


def test_what_was_unlocked_another_process_takes(tmp_path):
    path = tmp_path / "file"
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    system.lock(handle)
    system.unlock(handle)
    end(holder(f"os.open({str(path)!r}, os.O_RDWR)"))
    os.close(handle)


def test_a_locked_file_is_deleted_and_its_handle_closed(tmp_path):
    path = tmp_path / "file"
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    system.lock(handle)
    system.delete_locked(path, handle)
    assert not path.exists()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


def test_files_of_others_are_not_ours(tmp_path, monkeypatch):
    found = tmp_path.stat()
    assert system.is_mine(found)
    monkeypatch.setattr(os, "geteuid", lambda: found.st_uid + 1)
    assert not system.is_mine(found)


def test_no_folder_no_handle(tmp_path):
    with pytest.raises(FileNotFoundError):
        system.open_folder(Path(tmp_path, "gone"))
