"""Folders that targets write files into, where a parser wants a path."""

import atexit
import shutil
import tempfile
from pathlib import Path


def make() -> Path:
    """Return a new empty folder, which is gone when the process ends."""
    folder = tempfile.mkdtemp(prefix="unmask-fuzz-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def put(path: Path, content: bytes) -> Path:
    """Give the file this content; return its path."""
    path.write_bytes(content)
    return path
