"""Runs the fuzz targets and prints a table; exit code 1 where one found something.

What it found, and the inputs that it goes on from next time, are in .fuzz/<target>/.
"""

import argparse
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
TARGETS = sorted(
    path.stem for path in HERE.glob("*.py") if "\nSEEDS = " in path.read_text(encoding="utf-8")
)
FOUND = Path(".fuzz")
MOST_S = 10.0  # for a seed


def main() -> int:
    """Return the exit code."""
    ask = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    ask.add_argument("targets", nargs="*", help=f"default: all, {', '.join(TARGETS)}")
    ask.add_argument("--seconds", type=int, default=60, help="for each target; default: 60")
    ask.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at once")
    ask.add_argument("--seeds", action="store_true", help="only read what the targets begin with")
    given = ask.parse_args()
    if strange := sorted(set(given.targets) - set(TARGETS)):
        ask.error(f"no target {strange[0]}; there are {', '.join(TARGETS)}")
    names = given.targets or TARGETS
    if given.seeds:
        for name in names:
            _read_seeds(name)
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("Nothing was fuzzed: atheris is only made for Linux on x86-64, and is not here.")
        return 0
    print(f"{'target':<20} {'inputs':>10} {'a second':>9} {'coverage':>9}  found", flush=True)
    with ThreadPoolExecutor(given.jobs) as several:
        codes = list(several.map(lambda name: _fuzz(name, given.seconds), names))
    return int(any(codes))


def _read_seeds(name: str) -> None:
    target = importlib.import_module(f"fuzz.{name}")
    for number, seed in enumerate(target.SEEDS):
        begun_s = time.monotonic()
        try:
            target.read(seed)
        except BaseException:
            print(f"{name}: seed {number}", file=sys.stderr)
            raise
        took_s = time.monotonic() - begun_s
        assert took_s < MOST_S, f"{name}: seed {number} takes {took_s:.1f} s"
    print(f"{name:<20} {len(target.SEEDS):>3} seeds")


def _fuzz(name: str, seconds: int) -> int:
    folder = FOUND / name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fuzz.fuzzer", name, str(folder / "corpus"), str(seconds)]
    log = folder / "log"
    # libFuzzer ends its process at once: what a target has written goes with this folder.
    with log.open("wb") as words, tempfile.TemporaryDirectory(prefix="unmask-fuzz-") as scratch:
        environment = os.environ | {"TMPDIR": scratch}
        code = subprocess.run(
            command, stdout=words, stderr=words, env=environment, check=False
        ).returncode
    said = log.read_text(encoding="utf-8", errors="replace")
    inputs = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    speed = re.search(r"stat::average_exec_per_sec:\s*(\d+)", said)
    coverage = re.findall(r"\bcov: (\d+)", said)
    found = re.findall(r"Test unit written to (\S+)", said)
    if code and not found:
        found = [f"exit code {code}, see {log}"]
    row = [each[1] if each else "?" for each in (inputs, speed)]
    row.append(coverage[-1] if coverage else "?")
    print(f"{name:<20} {row[0]:>10} {row[1]:>9} {row[2]:>9}  {', '.join(found) or '-'}", flush=True)
    for error in re.findall(r"=== Uncaught Python exception: ===\n(.*\n)", said)[:1]:
        print(f"  {error.strip()}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
