"""`unmask adopt`: a published detector becomes a model's folder. Heavy imports stand inside."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unmask.cli.command_group import needs
from unmask.errors import UnmaskError
from unmask.runtime import terminal
from unmask.runtime.plain_text import shown_text

if TYPE_CHECKING:
    from unmask.models.adopt.adapter import Adapter
    from unmask.models.adopt.record import Adopted, Start


@click.command()
@click.argument("source", required=False)
@click.option(
    "--as", "folder", type=click.Path(path_type=Path), metavar="DIR",
    help="The model's folder; adopted/ADAPTER by default.",
)  # fmt: skip
@click.option("--adapter", "name", metavar="NAME", help="Whose file it is; --list names them.")
@click.option(
    "--spec", type=click.Path(path_type=Path), metavar="FILE.yaml",
    help="A description of the net instead of an adapter: docs/adopt.md.",
)  # fmt: skip
@click.option("--sha256", metavar="DIGEST", help="What the published file must have.")
@click.option(
    "--accept-licence", is_flag=True,
    help="I may use these weights under their terms, which are not for everybody.",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Compare scores with those that its repository prints.")
@click.option("--list", "listed", is_flag=True, help="Print the adapters; adopt nothing.")
@needs("train")
def adopt(
    source: str | None,
    folder: Path | None,
    name: str | None,
    spec: Path | None,
    sha256: str | None,
    accept_licence: bool,
    check: bool,
    listed: bool,
) -> None:
    """Make a model's folder out of a detector that others published.

    SOURCE is hf:OWNER/NAME[@COMMIT], an https address with its --sha256, or a file of weights.
    Nothing that is in it is run. The model's folder holds all that is needed: no network is used
    afterwards.

    With --check, SOURCE may also be the folder of a model that was adopted before.
    """
    from unmask.cli import common
    from unmask.models.adopt import registry
    from unmask.models.adopt.record import Start

    common.set_up_logging()
    # huggingface_hub would tell its server what program asks, and where it runs.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if listed:
        for each in registry.OURS:
            terminal.echo(f"{each.name:<32}{each.title}; weights: {each.licence.weights}")
        return
    if source is None:
        raise click.UsageError("Missing SOURCE: hf:OWNER/NAME, an https address or a file.")
    if name and spec:
        raise click.UsageError("--adapter and --spec each say what the net is: give one.")
    if sha256 is not None:
        sha256 = _digest(sha256)
    if check and folder is None and Path(source).is_dir():
        _compare(Path(source), None)
        return
    adapter = _adapter(source, name, spec)
    folder = folder or Path("adopted", adapter.name)
    from unmask.models.adopt import adoption

    adopted = adoption.adopt(
        source, adapter, folder, sha256=sha256, accept_licence=accept_licence,
        cache=common.weights_cache(),
    )  # fmt: skip
    _tell(folder, adopted)
    if isinstance(adopted, Start):
        return
    if check:
        _compare(folder, adapter)
    else:
        terminal.echo("Its scores were compared with nothing: --check does that.", err=True)


def _digest(text: str) -> str:
    digest = text.lower().removeprefix("sha256:")
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise click.UsageError(f"--sha256 takes 64 hexadecimal digits; found {text!r:.80}.")
    return digest


def _adapter(source: str, name: str | None, spec: Path | None) -> "Adapter":
    from unmask.models.adopt import registry
    from unmask.models.adopt import spec as specs

    if name:
        return registry.by_name(name)
    if spec:
        return specs.read(spec)
    beside = Path(source).parent / specs.BESIDE
    if Path(source).is_file() and beside.is_file():
        return specs.read(beside)
    return registry.for_source(source)


def _tell(folder: Path, adopted: "Adopted | Start") -> None:
    from unmask.models.adopt.record import Start
    from unmask.models.adopt.start import backbone_of
    from unmask.models.checkpoint import WEIGHTS
    from unmask.runtime.disk import content_digest

    commit = f"@{adopted.commit[:12]}" if adopted.commit else ""
    terminal.echo(f"{folder}: {shown_text(adopted.title)}")
    terminal.echo(f"  from     {adopted.source}{commit}, {adopted.file}")
    terminal.echo(f"  sha256   {adopted.sha256}")
    terminal.echo(f"  licence  {shown_text(adopted.licence.weights)}")
    if backbone := backbone_of(adopted):
        digest = content_digest(folder / WEIGHTS)
        terminal.echo(f"  to train on from it, in params.yaml: model.backbone {backbone},")
        terminal.echo(f"    model.weights {folder}, model.weights_sha256 {digest}")
    if isinstance(adopted, Start):
        return
    terminal.echo(
        f"`unmask predict clip.mp4 --model {folder}` gives scores, and no verdicts: nothing is "
        "known of its errors on footage like yours.",
        err=True,
    )


def _compare(folder: Path, adapter: "Adapter | None") -> None:
    """Compare a model with what its original's repository prints.

    Raises:
        UnmaskError: it differs.
    """
    from unmask.cli import common
    from unmask.models import checkpoint
    from unmask.models.adopt import check, registry

    settings = checkpoint.read_settings(folder)
    if settings.adopted is None:
        raise UnmaskError(
            f"Asked to compare {folder} with its published answers; it was trained here, not "
            "adopted. `dvc repro evaluate` tells what it is worth."
        )
    published = settings.adopted
    if adapter is None:
        known = {each.name: each for each in registry.OURS}
        adapter = known.get(published.adapter)
    if adapter is None or adapter.check is None:
        terminal.echo(
            f"Nobody has checked: no published answers are known for {published.adapter}. "
            "Its scores may differ from the original's.",
            err=True,
        )
        return
    net = checkpoint.load_net(folder, settings)
    differ = 0
    for found in check.compare(net, adapter.check, common.weights_cache()):
        said = found.reference.probability
        shown = "none published" if said is None else f"published {said:.4f}"
        picture = found.reference.url.rpartition("/")[2]
        mark = {True: "agrees", False: "DIFFERS", None: ""}[found.agrees]
        terminal.echo(f"{picture}  {found.probability:.4f}  {shown}  {mark}".rstrip())
        differ += found.agrees is False
    count = len(adapter.check.references)
    if differ:
        raise UnmaskError(
            f"{folder} differs from {differ} of {count} published answers by more than "
            f"{adapter.check.tolerance:g} ({adapter.check.source}). Don't use it: the file is "
            "another one, or the adapter is wrong for it."
        )
    terminal.echo(f"Agrees with {count} published answers ({adapter.check.source}).")
