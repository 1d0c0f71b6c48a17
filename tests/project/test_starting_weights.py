"""The comparison of two files of starting weights, on a few validation people."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "weights/x3d_xs.safetensors"

pytestmark = pytest.mark.slow


def compare(old: Path, new: Path, *, pairs: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/starting_weights.py", str(old), str(new)]
    return subprocess.run(
        [*command, "--pairs", str(pairs)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_weights_that_say_the_opposite_have_the_mirrored_auc(tmp_path: Path) -> None:
    """The head's two rows are exchanged: each ranking is turned round, pair by pair."""
    turned = load_file(COMMITTED)
    for name in ("blocks.5.proj.weight", "blocks.5.proj.bias"):
        turned[name] = turned[name].flip(0).contiguous()
    assert not torch.equal(turned["blocks.5.proj.bias"], load_file(COMMITTED)[name])
    save_file(turned, tmp_path / "turned.safetensors")
    done = compare(COMMITTED, tmp_path / "turned.safetensors", pairs=20)
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in done.stdout.splitlines()[2:]
    ]
    by_name = {(name, metric): cells for name, metric, *cells in rows}
    assert len(by_name) == 10
    for name in ("as they come", "dark", "heavily encoded", "masks by mesh", "as in pretraining"):
        old, new, change = (float(cell.split()[0]) for cell in by_name[name, "AUC"])
        assert old + new == pytest.approx(1, abs=0.0011)
        assert change == pytest.approx(new - old, abs=0.0011)
    assert float(by_name["as they come", "AUC"][0].split()[0]) > 0.8  # committed: .977 on these


def test_a_file_that_is_no_such_weights_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    done = compare(COMMITTED, tmp_path / "other.safetensors", pairs=2)
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line.strip()][-1:]
    assert "other.safetensors" in line
    assert "Traceback" not in done.stderr
