"""What is slow to make, made once for all worker processes of pytest-xdist."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(
    factory: pytest.TempPathFactory, worker_id: str, name: str, make: Callable[[Path], None]
) -> Path:
    """Return a folder that the first worker to ask has filled; the others wait for it.

    worker_id is pytest-xdist's: `master` without workers. All workers see the same folder: who
    changes it copies it first. What a worker leaves that fails is thrown away by the next one.
    """
    base = factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / f"{name}-made-once"
    finished = folder.with_suffix(".finished")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system takes it from a process that ends
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder
