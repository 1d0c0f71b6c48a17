"""What commands share: mistakes, missing extras, how a model is named, Ctrl-C's code."""

import functools
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from unmask import extras
from unmask.errors import UnmaskError
from unmask.runtime.terminal import plain_errors, show_crashes

INTERRUPTED = 130  # the exit code after Ctrl-C

P = ParamSpec("P")
R = TypeVar("R")

with_model = click.option(
    "--model", metavar="MODEL", show_default="model; where there is none, the demonstration "
    "that comes with the package",
    help="A folder; MLflow's models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN/model; or the "
    "Hugging Face Hub's hf:OWNER/NAME[@REVISION].",
)  # fmt: skip
with_rev = click.option(
    "--rev", metavar="REVISION",
    help="The model of this Git revision, from DVC's cache or remote.",
)  # fmt: skip


def needs(*names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a command's function the extras of pyproject.toml that it can't work without.

    Where one is not installed, the command says so before it does anything.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            extras.check(_typed(click.get_current_context()), *names)
            return function(*args, **kwargs)

        return checked

    return decorate


def _typed(context: click.Context) -> str:
    """Return a command as it is typed, however the program was started: `unmask adopt`."""
    names: list[str] = []
    at: click.Context | None = context
    while at is not None and at.parent is not None:
        names.append(at.info_name or "")
        at = at.parent
    return " ".join(["unmask", *reversed(names)])


class CommandGroup(click.Group):
    """Turns an UnmaskError of any command, or a missing extra, into one line and exit code 1."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read what was typed."""
        # Child processes begin with `python -c`, which looks for modules in the current folder
        # first: a stranger's folder with a multiprocessing.py in it would be run.
        os.environ["PYTHONSAFEPATH"] = "1"
        show_crashes()
        with plain_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was typed."""
        with plain_errors():
            try:
                return super().invoke(ctx)
            except UnmaskError as error:
                raise click.ClickException(str(error)) from error
            except ModuleNotFoundError as error:
                # What only some uses of a command need: `predict --rev` asks DVC.
                command = " ".join(filter(None, (_typed(ctx), ctx.invoked_subcommand)))
                if (missing := extras.explain(command, error)) is None:
                    raise
                raise click.ClickException(str(missing)) from error
