"""Words of strangers on a terminal: nothing draws, no line is forged."""

import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from unmask.cli.command_group import CommandGroup
from unmask.cli.main import main
from unmask.errors import UnmaskError
from unmask.runtime import terminal

EVIL = "\x1b[2Jx\nreport  matches\x9b\u202e\ud800.mp4"
SHOWN = r"\x1b[2Jx\nreport  matches\x9b\u202e\ud800.mp4"
SOURCE = Path(__file__).parents[2] / "src/unmask"


@click.group(cls=CommandGroup)
def group() -> None:
    """A command line."""


@group.command()
@click.argument("how")
def fail(how: str) -> None:
    """Fail."""
    terminal.echo(EVIL)
    if how == "error":
        raise UnmaskError(f"Asked for {EVIL}; it is gone.\n  a line of ours\nanother's")
    raise click.UsageError(f"Not {EVIL}")


@pytest.mark.parametrize("words", [["fail", "error"], ["fail", "usage"], ["fail", EVIL], [EVIL]])
def test_messages_and_errors_draw_nothing(words: list[str]) -> None:
    done = CliRunner().invoke(group, words)
    assert done.exit_code in (1, 2)
    assert SHOWN in done.output
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", done.output)
    assert not any(line.startswith("report  matches") for line in done.output.splitlines())
    if words[-1] == "error":
        assert done.output.endswith("it is gone.\n  a line of ours\\nanother's\n")


def test_an_unknown_option_of_a_strangers_name_draws_nothing() -> None:
    done = CliRunner().invoke(main, ["verify", f"--{EVIL}"])
    assert done.exit_code == 2
    assert "\x1b" not in done.output
    done = CliRunner().invoke(main, [f"--{EVIL}"])
    assert done.exit_code == 2
    assert "\x1b" not in done.output


def test_log_lines_stay_lines() -> None:
    formatter = terminal.Formatter("%(message)s")
    record = logging.LogRecord("unmask", logging.WARNING, "", 0, "%s: no video", (EVIL,), None)
    assert formatter.format(record) == f"{SHOWN}: no video"
    try:
        raise ValueError(EVIL)
    except ValueError:
        raised = sys.exc_info()
    record = logging.LogRecord("unmask", logging.ERROR, "", 0, "it failed", (), raised)
    lines = formatter.format(record).splitlines()
    assert lines[0] == "it failed"
    assert lines[1].startswith("Traceback")
    assert "\x1b" not in "".join(lines)


def test_a_crash_draws_nothing() -> None:
    code = (
        f"from unmask.runtime import terminal; terminal.show_crashes(); raise ValueError({EVIL!a})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ValueError: \\x1b[2Jx" in done.stderr
    assert "\x1b" not in done.stderr


def test_rows_for_programs_are_bytes_in_a_pipe_and_text_on_a_terminal() -> None:
    row = "a\x1b[2J\udcff.mp4,fake\n".encode(errors="surrogateescape")
    code = f"from unmask.runtime import terminal; terminal.echo_data({row!r})"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=True).stdout == row
    parent, child = pty.openpty()
    subprocess.run(command, stdout=child, check=True)
    os.close(child)
    assert os.read(parent, 999) == b"a\\x1b[2J\\xff.mp4,fake\r\n"
    os.close(parent)


def test_every_command_speaks_through_here() -> None:
    others = [
        path.name
        for path in SOURCE.glob("*.py")  # ruff keeps print out
        if path.name != "terminal.py" and re.search(r"click\.s?echo\(", path.read_text())
    ]
    assert others == []
