"""What commands share: what becomes of a user's mistake, how a model is named, Ctrl-C's code."""

import click

from unmask.errors import UnmaskError

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

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except UnmaskError as error:
            raise click.ClickException(str(error)) from error
