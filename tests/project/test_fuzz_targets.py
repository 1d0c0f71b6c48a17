"""Every fuzz target reads what it begins with; the fuzzer itself is `make fuzz`."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = sorted(
    path.stem for path in (ROOT / "fuzz").glob("*.py") if "\nSEEDS = " in path.read_text("utf-8")
)


def fuzz(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuzz", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def counted() -> str:
    """Return what is said of all targets' seeds, which one process reads."""
    done = fuzz("--seeds")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(TARGETS)
    return done.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_reads_its_seeds(target: str, counted: str) -> None:
    found = re.search(rf"^{target} +(\d+) seeds$", counted, re.MULTILINE)
    assert found
    assert int(found[1]) > 4


def test_the_threat_model_names_the_targets_and_no_others() -> None:
    lines = (ROOT / "docs" / "threat-model.md").read_text("utf-8").splitlines()
    start = lines.index("| entry | read by | what is enforced | fuzzed |") + 2
    rows = lines[start : lines.index("", start)]
    named = {name for row in rows for name in re.findall(r"`([\w./]+)`", row.split("|")[-2])}
    assert named - {"benchmarks/fuzz.py"} == set(TARGETS)


def test_a_target_that_is_none_is_a_mistake() -> None:
    done = fuzz("manifest")
    assert done.returncode == 2
    assert "no target manifest; there are" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not here")
@pytest.mark.parametrize(
    ("read", "kind", "said"),
    [
        ("assert b'needle' not in data, 'found'", "crash", "AssertionError: found"),
        ("[bytearray(10**9) for _ in range(99) if b'needle' in data]", "oom", "oom-"),
    ],
)
def test_a_find_ends_with_exit_code_1_and_is_kept(
    tmp_path: Path, read: str, kind: str, said: str
) -> None:
    """A parser breaks, or fills memory, at one word of its format, which no seed holds."""
    lines = ["", "SEEDS = [b'aaaa']", "TOKENS = ['needle']", f"def read(data):\n    {read}"]
    (tmp_path / "fuzz").mkdir()
    for name in ("__init__.py", "__main__.py", "fuzzer.py"):
        (tmp_path / "fuzz" / name).write_bytes((ROOT / "fuzz" / name).read_bytes())
    (tmp_path / "fuzz" / "planted.py").write_text("\n".join(lines))
    done = fuzz("planted", "--seconds", "60", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout
    [kept] = (tmp_path / ".fuzz" / "planted").glob(f"{kind}-*")
    assert b"needle" in kept.read_bytes()
    assert str(kept.relative_to(tmp_path)) in done.stdout
