"""A small run of benchmarks/fuzz.py; a long one, with other seeds, finds more."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_damaged_videos_cost_no_row_and_hang_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/fuzz.py", "--files", "80", "--seed", "7"]
    done = subprocess.run(
        [*command, "--folder", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    counts = {line.split()[0]: int(line.split()[-1]) for line in done.stdout.splitlines()[1:-2]}
    assert sum(counts.values()) == 80
    assert counts["timed_out"] == 0
    assert min(counts["cropped"], counts["unreadable"]) > 10  # the damage is neither mild nor total
    peak_mb = re.search(r"at most (\d+) MB in a worker", done.stdout)
    assert peak_mb
    assert 0 < int(peak_mb[1]) < 1500
