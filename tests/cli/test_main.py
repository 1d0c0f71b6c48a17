"""What people type and what they read."""

import subprocess
import sys

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
