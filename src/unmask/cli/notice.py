"""`unmask notice`: under whose terms the package and what it carries stand."""

from importlib.metadata import distribution

import click

from unmask.runtime import terminal


@click.command()
@click.option("--licence", is_flag=True, help="Print the licence of unmask itself.")
def notice(licence: bool) -> None:
    """Print whose work comes with this package, and under which terms."""
    name = "LICENSE" if licence else "NOTICE"
    text = distribution("unmask").read_text(f"licenses/{name}")
    assert text is not None, f"pyproject.toml lists {name} in license-files"
    terminal.echo_table(text.rstrip("\n"))
