"""Waiting for what another thread or process does, for as long as a busy machine may take."""

import time
from collections.abc import Callable


def wait_until(is_so: Callable[[], object], most_s: float = 60) -> None:
    """Wait for a condition, or fail."""
    end_s = time.monotonic() + most_s
    while not is_so():
        assert time.monotonic() < end_s, "it never came to be"
        time.sleep(0.02)
