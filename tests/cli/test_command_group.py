"""A user's mistake is a line; ours keeps its traceback."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from unmask.cli.command_group import CommandGroup
from unmask.errors import UnmaskError


@click.group(cls=CommandGroup)
def outer():
    """Hold a group."""


@outer.group(cls=CommandGroup)
def inner():
    """Hold commands."""


@inner.command()
@click.argument("kind")
def fail(kind):
    """Fail."""
    raise {"users": UnmaskError, "ours": KeyError}[kind]("a clip; none. Name one")


def test_a_users_mistake_is_one_line_and_exit_code_1():
    result = CliRunner().invoke(outer, ["inner", "fail", "users"])
    assert (result.exit_code, result.output) == (1, "Error: a clip; none. Name one\n")


def test_our_mistake_keeps_its_traceback():
    result = CliRunner().invoke(outer, ["inner", "fail", "ours"])
    assert isinstance(result.exception, KeyError)


@pytest.mark.parametrize("module", ["command_group", "predict"])
def test_it_is_quick_to_import(module):
    heavy = ("torch", "numpy", "pydantic", "mlflow", "dvc")
    script = (
        f"import sys, unmask.cli.{module}; sys.exit(str([n for n in {heavy} if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == "[]\n"
