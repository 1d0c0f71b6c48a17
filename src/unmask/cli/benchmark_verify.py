"""`unmask benchmark verify`: whether your copy of a data set is whole by its official protocol."""

from pathlib import Path

import click

from unmask.errors import UnmaskError
from unmask.runtime import terminal


@click.command()
@click.argument("name")
@click.option(
    "--protocol", metavar="PROTOCOL",
    help="One of the official protocols by name; by default that of the data set's layout.",
)  # fmt: skip
@click.option(
    "--chunks", "chunks_dir", type=click.Path(path_type=Path), default=Path("data/chunks"),
    show_default=True, help="Where the data set lies, a folder or a zip called NAME.",
)  # fmt: skip
@click.option(
    "--quick", is_flag=True,
    help="Look at what is there and don't read the videos: a changed one is not found.",
)  # fmt: skip
@click.option(
    "--accept", is_flag=True,
    help="From now on, take the copy as it is for the verified one, if nothing else is wrong.",
)  # fmt: skip
def verify(name: str, protocol: str | None, chunks_dir: Path, quick: bool, accept: bool) -> None:
    """Say whether the data set NAME is whole by its official protocol.

    Its list of test videos is compared with the protocol, its videos with the list, and both with
    what the first verification found. The exit code is 0 if the copy is whole, else 1.
    """
    from unmask.cli.common import progress
    from unmask.data.protocols.verify import record_path
    from unmask.data.protocols.verify import verify as verify_copy

    if quick and accept:
        raise click.UsageError("--accept reads the videos, and --quick does not: take one.")
    if not name or name != Path(name).name or name == "..":
        raise UnmaskError(
            f"Asked for the data set {name[:120]!r}; NAME is that of a folder or zip in "
            f"{chunks_dir}, without a path. --chunks names another place."
        )
    chunk = chunks_dir / name
    found = verify_copy(chunk, protocol, contents=not quick, accept=accept, watch=progress)
    title = f"{found.protocol.name}, version {found.protocol.version}: {found.protocol.title}"
    terminal.echo(title)
    terminal.echo(f"{found.found:,} of {found.named:,} test videos are there.")
    for flaw in found.flaws:
        terminal.echo(f"- {flaw}")
    if found.flaws:
        raise click.ClickException(
            f"{chunk} is not whole by {found.protocol.name}: {len(found.flaws)} finding(s), above. "
            "Take what is missing or changed from the data set's own archive; --accept takes what "
            "only differs from the first verification."
        )
    if quick:
        terminal.echo("It is whole, as far as that shows without reading the videos.")
    elif found.is_recorded and not accept:
        terminal.echo("It is whole, and what it was when it was verified first.")
    else:
        terminal.echo(f"It is whole. {record_path(chunk)} keeps the digests to compare with.")
