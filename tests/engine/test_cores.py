"""The cores that this process may use, by its affinity and its container's share."""

import os
import subprocess
import sys

import pytest

from unmask.engine.cores import usable_cores

OWN = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("content", "most"),
    [("max 100000\n", OWN), ("50000 100000\n", 1), ("150000 100000\n", 2), ("", OWN)],
)
def test_a_containers_share_is_rounded_up_and_never_above_the_cores(tmp_path, content, most):
    quota = tmp_path / "cpu.max"
    quota.write_text(content)
    assert usable_cores(quota) == min(most, OWN)


def test_without_a_container_affinity_counts(tmp_path):
    assert usable_cores(tmp_path / "none") == OWN


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux ties a process down")
def test_a_process_that_is_tied_to_one_core_has_one():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from unmask.engine.cores import usable_cores; print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
