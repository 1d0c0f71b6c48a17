"""`unmask push`. Heavy imports stand inside it."""

from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from unmask.cli.command_group import needs
from unmask.runtime import terminal
from unmask.runtime.plain_text import shown_name

if TYPE_CHECKING:
    from unmask.answers.push import Parcel

_MOST_CHARACTERS = 500  # of a commit's message


@click.command()
@click.argument("repository", metavar="hf:OWNER/NAME")
@click.option(
    "--model", default="model", metavar="MODEL", show_default=True,
    help="A folder, or MLflow's models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN/model.",
)  # fmt: skip
@click.option("--private", is_flag=True, help="Make a private repository, where there is none yet.")
@click.option("--message", metavar="TEXT", help="What the commit says; by default the digest.")
@click.option(
    "--may-pass-on", is_flag=True,
    help="I may pass on these weights of others under their terms, which are not for everybody.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="List what would go; ask and send nothing.")
@needs("hub")
def push(
    repository: str,
    model: str,
    private: bool,
    message: str | None,
    may_pass_on: bool,
    dry_run: bool,
) -> None:
    """Put a model into a repository of the Hugging Face Hub, in one commit.

    Weights, portable net, settings, the card and what a calibration added go there; nothing else
    that lies in the folder does. The token is that of HF_TOKEN, or of `hf auth login`.

    What it prints is the address to use: `unmask predict clip.mp4 --model hf:OWNER/NAME@COMMIT`.
    """
    from unmask.answers import model_source
    from unmask.answers import push as pushing
    from unmask.cli import common
    from unmask.hub import address as hub_address

    common.set_up_logging()
    address = hub_address.parse(repository)
    if address.revision:
        raise click.UsageError("A model is pushed to the branch main: leave the @ out.")
    if message is not None and not (message.strip() and len(message) <= _MOST_CHARACTERS):
        raise click.UsageError(f"--message takes 1 to {_MOST_CHARACTERS} characters.")
    folder = model_source.named(model, None, cache=common.weights_cache())
    parcel = pushing.pack(folder, may_pass_on=may_pass_on)
    _list(parcel, err=not dry_run)
    if dry_run:
        terminal.echo(f"Nothing was sent to {address}: --dry-run.", err=True)
        return
    said = message or f"Model {parcel.digest[:12]}, by unmask {version('unmask')}"
    pushed = pushing.push(parcel, address, private=private, message=said)
    if not pushed.is_new:
        terminal.echo("It was there already: no commit was made.", err=True)
    terminal.echo(str(pushed.address))


def _list(parcel: "Parcel", *, err: bool) -> None:
    for name, size in parcel.sizes.items():
        terminal.echo(f"{size:>15,}  {name}", err=err)
    if parcel.left_out:
        names = [shown_name(name) for name in parcel.left_out]
        rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
        terminal.echo(f"Stays here: {', '.join(names[:5])}{rest}", err=True)
    if parcel.terms:
        terminal.echo(f"Terms of the weights: {shown_name(parcel.terms)}", err=True)
    if parcel.told:
        terminal.echo(
            f"Whoever sees it reads how it was calibrated: {shown_name(parcel.told)}", err=True
        )
