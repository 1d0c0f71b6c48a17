"""What the benchmarks measure with: a command's seconds and the peak memory of its processes."""

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil


def peak_memory(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    """Note the largest sum of the process tree's proportional set sizes, in bytes."""
    try:
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            total = 0
            for member in [tree, *tree.children(recursive=True)]:
                try:
                    total += member.memory_full_info().pss
                except psutil.Error:  # it ended meanwhile
                    continue
            peak[0] = max(peak[0], total)
            time.sleep(0.2)
    except psutil.NoSuchProcess:
        return


def run(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[float, int, bytes]:
    """Return a command's seconds, its processes' peak memory in bytes, and its words on stdout.

    Raises:
        SystemExit: it failed.
    """
    started, peak = time.monotonic(), [0]
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE)
    watch = threading.Thread(target=peak_memory, args=(process, peak))
    watch.start()
    words, _ = process.communicate()
    watch.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - started, peak[0], words
