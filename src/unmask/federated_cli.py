"""`unmask federated`: the benchmark's commands. Heavy imports stand inside them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from unmask import params
from unmask.errors import UnmaskError

if TYPE_CHECKING:
    from unmask.federated_board import Submission
    from unmask.federated_runs import Step
    from unmask.federated_samples import Sample

FOLDER = ".federated"  # in Git's list of what it ignores
# What a task sees of this machine. Not HOME: it leads to keys.
KEPT = (
    "CUDA_VISIBLE_DEVICES", "DOCKER_HOST", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "OMP_NUM_THREADS",
    "PATH", "PYTHONDONTWRITEBYTECODE", "TMPDIR",
)  # fmt: skip

_folder = click.option(
    "--folder", default=FOLDER, type=click.Path(path_type=Path), show_default=True,
    help="Where samples, archives and submissions are kept.",
)  # fmt: skip
_raw = click.option("--raw", default="raw", type=click.Path(path_type=Path), show_default=True)
_faces = click.option(
    "--faces", default="faces", type=click.Path(path_type=Path), show_default=True
)
_whole = click.option(
    "--whole-videos", is_flag=True, help="Samples hold raw/<chunk>/videos; tasks crop the faces."
)


class _Group(click.Group):
    """Turns an UnmaskError of any command into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UnmaskError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
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
    names = [organisation] if organisation else _names(organisations or 1)
    made = _make_samples(names, chunks, folder, raw, faces, whole_videos=whole_videos)
    for name, own in made.items():
        for side in ("train", "test"):
            found = [sample for sample in own if sample.side == side]
            reals, fakes = sum(s.reals for s in found), sum(s.fakes for s in found)
            click.echo(f"{name} {side}: {len(found)} samples, {reals} real and {fakes} fake videos")


def _names(count: int) -> list[str]:
    return [f"org{number}" for number in range(1, count + 1)]


def _make_samples(
    names: Sequence[str], chunks: Sequence[str], folder: Path, raw: Path, faces: Path, *,
    whole_videos: bool,
) -> "dict[str, list[Sample]]":  # fmt: skip
    from unmask import federated_samples, records

    settings = params.load()
    wanted = chunks or settings.chunks
    if whole_videos:
        materials = [federated_samples.uncropped(name, raw / name) for name in wanted]
    else:
        section = settings.faces.model_dump(mode="json")
        materials = [
            federated_samples.cropped(chunk, section)
            for chunk in records.read_chunks(wanted, raw, faces)
        ]
    return {
        name: federated_samples.make_samples(name, dealt, folder / "samples")
        for name, dealt in federated_samples.deal(materials, names).items()
    }


@federated.command()
@click.option("--organisations", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True)
@click.option(
    "--plan", "kinds", multiple=True, type=click.Choice(["single", "sequence", "fedavg", "pooled"]),
    help="Run these kinds of plan alone; can be given several times.",
)  # fmt: skip
@click.option("--docker", "backend", flag_value="docker", default=None, help="Tasks in containers.")
@_folder
@_raw
@_faces
@_whole
def run_local(
    organisations: int,
    rounds: int,
    kinds: tuple[str, ...],
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
    """
    from unmask import federated_archives, federated_runs
    from unmask.doors import progress, set_up_logging, weights_cache
    from unmask.train import Settings

    set_up_logging()
    if backend is None:
        federated_archives.check_installed(Path())
    settings, names = params.load(), _names(organisations)
    training = Settings(
        faces=settings.faces, clips=settings.clips, augment=settings.augment,
        model=settings.model, train=settings.train,
    )  # fmt: skip
    _make_samples(names, (), folder, raw, faces, whole_videos=whole_videos)
    recipe = federated_runs.recipe(training, weights_cache=weights_cache())
    assets = federated_archives.pack(Path(), recipe, folder / "archives")
    plans = federated_runs.plans_of(kinds or federated_runs.KINDS, names, rounds=rounds)
    members = federated_runs.participants(names, folder / "samples")
    steps = federated_runs.run(
        plans, members, assets, folder, environment=task_environment(os.environ, folder),
        backend=backend or "subprocess",
    )  # fmt: skip
    submissions, count = [], sum(len(plan.tasks) + 1 for plan in plans)
    for step in progress(steps, total=count, label="tasks"):
        if step.submission:
            submissions.append(step.submission)
        if step.submission and step.is_new:
            _track(step)
    _show(submissions, folder)


def task_environment(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return all that tasks see of this machine's environment; their home is the folder."""
    kept = {name: environment[name] for name in KEPT if name in environment}
    if paths := environment.get("PYTHONPATH"):  # relative ones: tasks run elsewhere
        kept["PYTHONPATH"] = os.pathsep.join(
            str(Path(path).resolve()) for path in paths.split(os.pathsep) if path
        )
    return kept | {"HOME": str(folder.resolve())}


def _track(step: "Step") -> None:
    """Write a plan's run down where the tracker is."""
    from unmask.doors import open_tracker
    from unmask.federated_plans import METRICS

    submission = step.submission
    assert submission is not None
    with open_tracker(Path.cwd(), key=f"federated-{submission.key[:16]}") as tracker:
        tracker.log_params({"plan": submission.plan, "train_on": ",".join(submission.train_on)})
        tracker.log_tags({"code": submission.code, "backend": submission.backend})
        tracker.log_metrics({metric: submission.mean(metric) for metric in METRICS})
        tracker.log_metrics({
            f"{metric}_{organisation}": value
            for organisation, scores in submission.scores.items()
            for metric, value in scores.items()
        })  # fmt: skip


@federated.command()
@_folder
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write the page there.")
def leaderboard(folder: Path, page: Path | None) -> None:
    """Print all submissions, the lowest log-loss first, and write them as a page."""
    from unmask import federated_board

    _show(federated_board.read_all(folder / "submissions"), folder, page)


def _show(submissions: "Sequence[Submission]", folder: Path, page: Path | None = None) -> None:
    from unmask import federated_board
    from unmask.records import write_atomically

    ranked = federated_board.ranked(submissions)
    path = page or folder / "leaderboard.html"
    everything = federated_board.read_all(folder / "submissions")
    write_atomically(path, federated_board.page(everything))
    click.echo(federated_board.table(ranked))
    click.echo(f"{federated_board.NOTE}\n{path}: all submissions, with their digests", err=True)
