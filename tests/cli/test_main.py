"""What people type and what they read."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from unmask.cli.main import main


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_every_command_has_help(command):
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 4


def test_a_users_mistake_is_one_line_that_says_what_to_do(tmp_path):
    result = CliRunner().invoke(main, ["predict", "--model", str(tmp_path), "clip.mp4"])
    assert result.exit_code == 1
    [line] = result.output.splitlines()
    assert line.startswith("Error: Asked for the model in ")
    assert "make repro" in line


def test_log_without_anything_to_send_is_quiet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["log"])
    assert (result.exit_code, result.output) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_help_does_not_wait_for_torch():
    script = "import sys; from unmask.cli.main import main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_pretrain_refuses_portraits_that_are_not_those_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    (tmp_path / "A000014.jpg").write_bytes(b"somebody else")
    weights = tmp_path / "weights/x3d_xs.safetensors"
    words = ["pretrain", "--portraits", str(tmp_path), "--weights", str(weights)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert (
        f"Asked for the 734 portraits of weights/portraits.csv in {tmp_path}; found 733 missing "
        "(A000022.jpg, A000055.jpg, A000109.jpg, ...) and 1 with another SHA-256 (A000014.jpg)."
    ) in done.output
    assert not weights.parent.exists()
    # `make` hands the folder on, and no option without one.
    for given, option in ((["PORTRAITS=some folder"], ' --portraits "some folder"'), ([], "")):
        said = subprocess.run(
            ["make", "-n", "-o", "install", "pretrain", *given],
            cwd=root, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert said.splitlines()[-1].rstrip().endswith(f"unmask pretrain{option}")
