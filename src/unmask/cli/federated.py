"""`unmask federated`: the benchmark's commands. Heavy imports stand inside them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from unmask import params
from unmask.cli.command_group import CommandGroup, needs
from unmask.errors import UnmaskError
from unmask.runtime import terminal

if TYPE_CHECKING:
    from unmask.federated.archives import Assets
    from unmask.federated.leaderboard import Submission
    from unmask.federated.local import Participant
    from unmask.federated.remote.client import Node
    from unmask.federated.remote.config import Network
    from unmask.federated.remote.keys import SentPlan
    from unmask.federated.remote.submit import Secrets

FOLDER = ".federated"  # in Git's list of what it ignores

_folder = click.option(
    "--folder", default=FOLDER, type=click.Path(path_type=Path), show_default=True,
    help="Where samples, archives and submissions are kept.",
)  # fmt: skip
_raw = click.option(
    "--raw", default="raw", type=click.Path(path_type=Path), show_default=True,
    help="Where the stage raw put the videos and their lists.",
)  # fmt: skip
_faces = click.option(
    "--faces", default="faces", type=click.Path(path_type=Path), show_default=True,
    help="Where the stage faces put the crops.",
)  # fmt: skip
_rounds = click.option(
    "--rounds", type=click.IntRange(min=1), default=2, show_default=True,
    help="Rounds of federated averaging.",
)  # fmt: skip
_config = click.option(
    "--config", required=True, type=click.Path(path_type=Path),
    help="Who takes part and where: organisations.yaml; secrets come from the environment.",
)  # fmt: skip
_whole = click.option(
    "--whole-videos", is_flag=True, help="Samples hold raw/<chunk>/videos; tasks crop the faces."
)


_model = click.option(
    "--model", metavar="MODEL",
    help="Score this model as it is, adopted or trained, alone or beside those of --plan: a "
    "folder, or one of MLflow's or the Hub's, as in predict.",
)  # fmt: skip


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
def federated() -> None:
    """Run a benchmark in which videos stay with their owners (Substra)."""


@federated.command()
@click.argument("chunks", nargs=-1)
@click.option("--organisations", type=click.IntRange(min=1), help="Deal to org1, org2, ...")
@click.option("--organisation", help="Give all to the organisation of this name.")
@_folder
@_raw
@_faces
@_whole
@needs("federated", "train")
def samples(
    chunks: tuple[str, ...],
    organisations: int | None,
    organisation: str | None,
    folder: Path,
    raw: Path,
    faces: Path,
    whole_videos: bool,
) -> None:
    """Turn CHUNKS into data samples, one a source: by default all chunks of params.yaml.

    Run `dvc repro faces` first, or `dvc repro raw` for --whole-videos. Train and test samples
    stand in folders of their own; files are links.
    """
    if (organisations is None) == (organisation is None):
        raise UnmaskError(
            "Asked for samples; say whose: --organisation NAME, or --organisations 2 to deal them."
        )
    from unmask.federated import runs

    names = [organisation] if organisation else runs.names_of(organisations or 1)
    for member in _deal(names, chunks, folder, raw, faces, whole_videos=whole_videos):
        for side in ("train", "test"):
            found = [sample for sample in member.samples if sample.side == side]
            reals, fakes = sum(s.reals for s in found), sum(s.fakes for s in found)
            terminal.echo(
                f"{member.name} {side}: {len(found)} samples, {reals} real and {fakes} fake videos"
            )


def _deal(
    names: Sequence[str], chunks: Sequence[str], folder: Path, raw: Path, faces: Path, *,
    whole_videos: bool,
) -> "list[Participant]":  # fmt: skip
    from unmask.data import copies
    from unmask.federated import runs
    from unmask.federated import samples as federated_samples
    from unmask.runtime import record_files

    settings = params.load()
    wanted = chunks or settings.chunks
    if whole_videos:
        materials = [federated_samples.uncropped(name, raw / name) for name in wanted]
    else:
        section = settings.faces.model_dump(mode="json")
        materials = [
            federated_samples.cropped(chunk, section)
            for chunk in copies.settle(record_files.read_chunks(wanted, raw, faces), raw)
        ]
    return runs.deal(materials, names, folder)


@federated.command()
@click.option(
    "--organisations", type=click.IntRange(min=1), default=2, show_default=True,
    help="How many the chunks are dealt to: org1, org2, ...",
)  # fmt: skip
@_rounds
@click.option(
    "--plan", "kinds", multiple=True, type=click.Choice(["single", "sequence", "fedavg", "pooled"]),
    help="Run these kinds of plan alone; can be given several times.",
)  # fmt: skip
@_model
@click.option(
    "--docker", "backend", flag_value="docker", default=None, help="Run each task in a container."
)
@_folder
@_raw
@_faces
@_whole
@needs("federated", "train")
def run_local(
    organisations: int,
    rounds: int,
    kinds: tuple[str, ...],
    model: str | None,
    backend: Literal["docker"] | None,
    folder: Path,
    raw: Path,
    faces: Path,
    whole_videos: bool,
) -> None:
    """Run the whole benchmark on this machine and print the leaderboard.

    The chunks of params.yaml are dealt to so many organisations; federated averaging goes on for
    so many rounds. A plan that was run before by the same code is not run again: so an interrupted
    benchmark goes on with the plan that it was at.

    A model that is scored as it is wants crops of its own: give --whole-videos, and tasks make
    them, or set the section faces of params.yaml to what its checkpoint.json has.
    """
    from unmask.cli.common import progress, set_up_logging
    from unmask.federated import archives, local, runs
    from unmask.models import checkpoint

    set_up_logging()
    model_dir = _named(model)
    if backend is None:
        archives.check_installed(Path())
    names = runs.names_of(organisations)
    if model_dir is not None and not whole_videos:
        checkpoint.check_crops(checkpoint.read_settings(model_dir), params.load().faces)
    members = _deal(names, (), folder, raw, faces, whole_videos=whole_videos)
    assets = _pack(folder, model_dir)
    plans = runs.plans_of(_kinds(kinds, runs.KINDS, model_dir), names, rounds=rounds)
    steps = runs.run(
        plans, members, assets, folder,
        environment=local.task_environment(os.environ, folder),
        backend=backend or "subprocess",
    )  # fmt: skip
    submissions, count = [], sum(len(plan.tasks) + 1 for plan in plans)
    for step in progress(steps, total=count, label="tasks"):
        if step.submission:
            submissions.append(step.submission)
        if step.submission and step.is_new:
            _track(step.submission)
    _show(submissions, folder)


def _kinds(kinds: Sequence[str], known: Sequence[str], model: Path | None) -> Sequence[str]:
    """Return the kinds of plan to run: those asked for, or all that train; a model's as it is."""
    from unmask.federated.plans import AS_IT_IS

    return kinds or known if model is None else (*kinds, AS_IT_IS)


def _named(model: str | None) -> Path | None:
    """Return the folder of the model that is asked for, fetched where it is elsewhere."""
    from unmask.answers import model_source
    from unmask.cli.common import weights_cache

    if model is None or not model.startswith(model_source.SCHEMES):
        return None if model is None else Path(model)
    return model_source.named(model, None, cache=weights_cache())


def _pack(folder: Path, model: Path | None) -> "Assets":
    """Return all that is registered but the samples, by params.yaml."""
    from unmask.cli.common import weights_cache
    from unmask.federated import runs
    from unmask.models.settings import Settings

    settings = params.load()
    training = Settings.of(settings)
    return runs.pack(training, folder, weights_cache=weights_cache(), model=model)


def _track(submission: "Submission") -> None:
    """Write a plan's run down where the tracker is."""
    from unmask.cli.common import open_tracker
    from unmask.federated import leaderboard as federated_board

    with open_tracker(Path.cwd(), key=federated_board.run_key(submission)) as tracker:
        federated_board.log(submission, tracker)


@federated.command()
@_config
@click.option(
    "--plan", "kinds", multiple=True, type=click.Choice(["single", "sequence", "fedavg"]),
    help="Send these kinds of plan alone; can be given several times.",
)  # fmt: skip
@_rounds
@_model
@click.option("--dry-run", is_flag=True, help="Say what would be sent; ask no node anything.")
@_folder
@needs("federated", "train")
def submit(
    config: Path,
    kinds: tuple[str, ...],
    rounds: int,
    model: str | None,
    dry_run: bool,
    folder: Path,
) -> None:
    """Register on a real network what the plans need, and the plans.

    What is registered is not sent again, so an interrupted submission goes on by the same command.
    """
    from unmask.cli.common import progress, set_up_logging
    from unmask.federated.remote import assets as federated_remote_wanted
    from unmask.federated.remote import config as federated_remote_config
    from unmask.federated.remote import submit as federated_remote
    from unmask.federated.remote.keys import NAME, AssetKeys
    from unmask.runtime.disk import sole_writer

    set_up_logging()
    network, secrets = _network(config)
    members = federated_remote_config.read_members(network)
    model_dir = _named(model)
    plans = federated_remote_wanted.plans_of(
        _kinds(kinds, federated_remote_wanted.KINDS, model_dir), members, rounds,
        submitter=network.submitter,
    )  # fmt: skip
    federated_remote_wanted.check(plans, network, members)
    assets = _pack(folder, model_dir)
    wanted = federated_remote_wanted.wanted_by(network, plans, members, assets)
    with sole_writer(folder):
        keys = AssetKeys(folder / NAME)
        federated_remote.read_others_keys(network, keys)
        if dry_run:
            for each in federated_remote.preview(network, plans, members, assets, keys):
                where = network.organisations[each.owner].url
                terminal.echo(f"{'send' if each.is_new else 'there'}  {where}  {each.name}")
            return
        steps = federated_remote.submit(network, plans, members, assets, keys, secrets)
        sent = list(progress(steps, total=len(wanted) + len(plans), label="assets"))
    for each in sent:
        if each.name.startswith("plan "):
            terminal.echo(f"{each.name}: {'sent' if each.is_new else 'was there'}")
    new = sum(each.is_new for each in sent)
    terminal.echo(f"{new} registered, {len(sent) - new} were there", err=True)


@federated.command()
@_config
@click.option("--organisation", required=True, help="Whose samples to register.")
@_folder
@needs("federated", "train")
def register(config: Path, organisation: str, folder: Path) -> None:
    """Register an owner's samples on its node; then hand the submitter FOLDER/assets_keys.json."""
    from unmask.cli.common import progress, set_up_logging
    from unmask.federated import archives
    from unmask.federated.remote import assets as federated_remote_wanted
    from unmask.federated.remote import config as federated_remote_config
    from unmask.federated.remote import submit as federated_remote
    from unmask.federated.remote.keys import NAME, AssetKeys
    from unmask.runtime.disk import sole_writer

    set_up_logging()
    network, secrets = _network(config)
    federated_remote_config.check_name(network, organisation)
    member = federated_remote_config.read_members(network)[organisation]
    opener = archives.opener_of(Path())
    wanted = federated_remote_wanted.wanted_data(network, member, opener)
    with sole_writer(folder):
        steps = federated_remote.register(network, wanted, AssetKeys(folder / NAME), secrets)
        sent = list(progress(steps, total=len(wanted), label="samples"))
    new = sum(each.is_new for each in sent)
    terminal.echo(f"{new} registered, {len(sent) - new} were there: {folder / NAME}")


@federated.command()
@_config
@_folder
@needs("federated", "train")
def status(config: Path, folder: Path) -> None:
    """Print the tasks of all plans that were sent, by organisation, and what failed ones said."""
    from unmask.federated.remote import watch

    with _sent_plans(config, folder) as (node, plans):
        states = [watch.status(node, sent) for sent in plans.values()]
    for state in states:
        terminal.echo_table(watch.table(state))
    if failed := watch.failures(states):
        raise UnmaskError(f"{failed} task(s) failed; their logs are above.")


@federated.command()
@_config
@_folder
@needs("federated", "train")
def fetch(config: Path, folder: Path) -> None:
    """Fetch what plans scored, and models that the submitter may have; print the leaderboard."""
    from unmask.federated import leaderboard as federated_board
    from unmask.federated import runs
    from unmask.federated.remote import watch

    fetched, problems = [], []
    with _sent_plans(config, folder) as (node, plans):
        for key, sent in plans.items():
            home = runs.home_of(folder, sent.plan["name"], key)
            try:
                submission = watch.fetch(node, sent, key, home)
            except UnmaskError as error:  # the others' results are wanted still
                problems.append(str(error))
                continue
            is_new = not federated_board.path_of(folder / "submissions", key).is_file()
            federated_board.write(folder / "submissions", submission)
            fetched.append(submission)
            if is_new:
                _track(submission)
    if fetched:
        _show(fetched, folder)
    if problems:
        raise UnmaskError("\n  ".join(problems))


def _network(config: Path) -> "tuple[Network, Secrets]":
    """Return who takes part, and what the environment has to open their nodes."""
    from unmask.federated.remote import config as federated_remote_config

    network = federated_remote_config.read_network(config)
    return network, {
        name: federated_remote_config.read_secret(member, os.environ)
        for name, member in network.organisations.items()
    }


@contextmanager
def _sent_plans(config: Path, folder: Path) -> "Iterator[tuple[Node, dict[str, SentPlan]]]":
    """Open the submitter's node; give it with the plans that were sent from it."""
    from unmask.cli.common import set_up_logging
    from unmask.federated.remote import submit as federated_remote
    from unmask.federated.remote.keys import NAME, AssetKeys

    set_up_logging()
    network, secrets = _network(config)
    plans = federated_remote.sent_from(network, AssetKeys(folder / NAME))
    with federated_remote.submitter_node(network, secrets) as node:
        yield node, plans


@federated.command()
@_folder
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path),
    help="Write the page there; by default into FOLDER.",
)
def leaderboard(folder: Path, page: Path | None) -> None:
    """Print all submissions, the lowest log-loss first, and write them as a page."""
    from unmask.federated import leaderboard as federated_board

    _show(federated_board.read_all(folder / "submissions"), folder, page)


def _show(submissions: "Sequence[Submission]", folder: Path, page: Path | None = None) -> None:
    from unmask.federated import leaderboard as federated_board
    from unmask.runtime.disk import write_atomically

    ranked = federated_board.ranked(submissions)
    path = page or folder / "leaderboard.html"
    everything = federated_board.read_all(folder / "submissions")
    write_atomically(path, federated_board.page(everything))
    terminal.echo_table(federated_board.table(ranked))
    terminal.echo(federated_board.NOTE, err=True)
    terminal.echo(f"{path}: all submissions, with their digests", err=True)
