"""How many processor cores this process may use."""

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container on Linux: microseconds in a period


def usable_cores(quota: Path = _QUOTA) -> int:
    """Return the cores that the system lets this process run on, at least 1.

    That is what its affinity allows, and no more than its container's share of the time.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        most, period = quota.read_text(encoding="ascii").split()
        share = cores if most == "max" else -(-int(most) // int(period))
    except (OSError, ValueError):  # no such container, or no Linux
        share = cores
    return max(1, min(cores, share))
