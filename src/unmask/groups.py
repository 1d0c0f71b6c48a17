"""What every group of commands does with a user's mistake."""

import click

from unmask.errors import UnmaskError


class CommandGroup(click.Group):
    """Turns an UnmaskError of any command into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except UnmaskError as error:
            raise click.ClickException(str(error)) from error
