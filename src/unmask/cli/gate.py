"""`unmask gate`: exit code 1 where a release would be worse than the last one."""

from pathlib import Path

import click

from unmask import params
from unmask.errors import UnmaskError
from unmask.evaluation import gate as gates
from unmask.runtime import terminal


@click.command()
@click.option(
    "--against",
    metavar="REV",
    help="A Git revision; by default the newest tag v* that has metrics.",
)
def gate(against: str | None) -> None:
    """Compare metrics/robustness.json with the last release's; exit 1 if it got worse."""
    root = Path.cwd()
    try:
        settings, now = params.load().gate, gates.read_record(root)
        found = (against, gates.record_of(root, against)) if against else gates.last_release(root)
        if found is None:
            terminal.echo(
                f"No release to compare with: no tag {gates.RELEASES} before this commit has "
                f"{gates.RECORD}. This passes; the next release is compared with this one."
            )
            return
        checks = gates.compare(found[1], now, settings)
    except UnmaskError as error:
        raise click.ClickException(str(error)) from error
    terminal.echo_table(gates.table(found[0], checks))
    if worse := [check.what for check in checks if not check.holds]:
        raise click.ClickException(
            f"Worse than {found[0]} by more than gate.max_growth allows: {', '.join(worse)}. Find "
            "out why (docs/robustness.md), or raise the limit in params.yaml and say so."
        )
    terminal.echo(f"No worse than {found[0]}, within gate.max_growth of params.yaml.")
