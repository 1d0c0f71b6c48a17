"""What commands share: what becomes of a user's mistake, how a model is named, Ctrl-C's code."""

import os
from typing import Any

import click

from unmask.errors import UnmaskError
from unmask.runtime.terminal import plain_errors, show_crashes

INTERRUPTED = 130  # the exit code after Ctrl-C

with_model = click.option(
    "--model", default="model", show_default=True,
    help="A folder, or MLflow's models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN/model.",
)  # fmt: skip
with_rev = click.option(
    "--rev", metavar="REVISION",
    help="The model of this Git revision, from DVC's cache or remote.",
)  # fmt: skip


class CommandGroup(click.Group):
    """Turns an UnmaskError of any command into one line and exit code 1."""

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
