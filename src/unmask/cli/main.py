"""The command line. Heavy imports stand inside the commands, so that `unmask --help` is quick."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import click

from unmask import params
from unmask.cli import adopt, benchmark, calibrate, crop, federated, gate, predict, serve
from unmask.cli.command_group import CommandGroup
from unmask.errors import UnmaskError
from unmask.runtime import terminal
from unmask.sagemaker import config

if TYPE_CHECKING:
    from unmask.sagemaker.checks import Account
    from unmask.sagemaker.jobs import Job

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="unmask")
def main() -> None:
    """Train, version and defend a deepfake video detector."""


for command in (
    predict.predict, predict.verify, calibrate.calibrate, serve.serve, gate.gate,
    federated.federated, adopt.adopt, benchmark.benchmark, crop.crop,
):  # fmt: skip
    main.add_command(command)


@main.command()
@click.option("--raw", default="raw", type=click.Path(path_type=Path), show_default=True)
def check(raw: Path) -> None:
    """Count what is in each split, and fail if the splits of all chunks together leak.

    A leak is a source, an identity, a file or nearly the same picture on two sides, or a class
    that a split lacks. It fails too where one video is labelled both REAL and FAKE. Run `dvc repro
    raw` first: this reads what it wrote.
    """
    from unmask.data import copies, leakage, same_pictures

    settings = params.load()
    listings = [leakage.read_listing(name, raw / name) for name in settings.chunks]
    same_pictures.check_across(listings, raw, settings.raw)
    listings = copies.check_copies(listings, settings.raw)
    for listing in listings:
        terminal.echo_table(f"{listing.chunk}\n{leakage.table(listing.records)}\n")
    together = [record for listing in listings for record in listing.records]
    if len(listings) > 1:
        terminal.echo_table(f"all chunks\n{leakage.table(together)}\n")
    leakage.check(listings, settings.raw)
    terminal.echo(f"no leaks found in {len(together)} videos of {len(listings)} chunk(s)")


@main.command()
@click.option("--sources", default="data/sources", type=click.Path(path_type=Path))
@click.option("--weights", default="weights/x3d_xs.safetensors", type=click.Path(path_type=Path))
def pretrain(sources: Path, weights: Path) -> None:
    """Make the starting checkpoint anew from open faces; an interrupted run goes on."""
    from unmask.cli.common import progress, set_up_logging, workers
    from unmask.models import pretrain as pretraining

    set_up_logging()
    settings = params.load()
    steps = pretraining.run(
        sources, weights, settings.pretrain, settings.sample.detect,
        margin_ratio=settings.faces.margin_ratio, workers=workers(),
    )  # fmt: skip
    for _ in progress(steps, total=pretraining.count_steps(settings.pretrain), label="pretrain"):
        pass


@main.command()
@click.argument("footage", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--chunk", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--consented", is_flag=True, help="I have the consent of everybody shown.")
@click.option(
    "--method",
    type=click.Choice(["self_blend", "face_swap", "both"]),
    default="both",
    show_default=True,
)
@click.option("--fakes-per-video", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--person-from-folder", is_flag=True, help="Files in one folder show one person.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--crf",
    nargs=2,
    type=click.IntRange(0, 40),
    default=(20, 26),
    show_default=True,
    help="H.264 quality of a video and its fakes is drawn from this range.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Use so much of each video.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one a core by default.")
def fake(
    footage: tuple[Path, ...],
    chunk: Path,
    consented: bool,
    method: Literal["both"],
    fakes_per_video: int,
    person_from_folder: bool,
    seed: int,
    crf: tuple[int, int],
    max_seconds: float,
    workers: int | None,
) -> None:
    """Make a chunk of real videos and fakes from FOOTAGE: videos of consenting people, or folders.

    Self-blends, and face swaps between two people. Files with no usable face are left out and
    listed. Sound is dropped. An interrupted run goes on. Each file is taken for another person;
    with --person-from-folder the folder's name says who is seen.
    """
    from unmask.cli import common
    from unmask.forgeries import fake as forging
    from unmask.forgeries.footage import find_footage, remarks, summarise

    common.set_up_logging()
    if not consented:
        raise UnmaskError(
            "Asked for fakes of the people in this footage; found no word of their consent. If "
            "everybody shown has agreed, add --consented."
        )
    if crf[0] > crf[1]:
        raise UnmaskError(f"--crf is a range, lower end first; found {crf[0]} {crf[1]}. Swap them.")
    files = find_footage(footage, chunk, person_from_folder=person_from_folder)
    settings = forging.Settings(
        method, fakes_per_video, crf, max_seconds, seed, params.load().faces
    )
    outcomes = forging.make_chunk(files, chunk, settings, workers=workers or common.workers())
    done = list(common.progress(outcomes, total=2 * len(files), label="fake"))
    for line in remarks(done):
        terminal.echo(line, err=True)
    terminal.echo(summarise(done))
    terminal.echo(f"{chunk}: add {chunk.name} to chunks in params.yaml", err=True)


@main.command()
@click.option("--register", "alias", metavar="ALIAS", help="Register the model under this alias.")
@click.option("--model", default="model", type=click.Path(path_type=Path), show_default=True)
def log(alias: str | None, model: Path) -> None:
    """Send the runs that MLflow did not take; what it does not take now stays."""
    from unmask.cli import common

    common.set_up_logging()
    root = Path.cwd()
    if alias:
        from unmask.models import checkpoint

        # Before the rest is sent: if it has to wait, the rest says so.
        common.register_model(root, model, alias, key=checkpoint.read_settings(model).run_key)
    for line in common.upload_runs(root):
        terminal.echo(line)


@main.command("split-study")
@click.option("--folds", type=click.IntRange(min=3), default=5, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--without",
    type=click.Choice(["train", "validation", "test"]),
    multiple=True,
    help="Leave out a split of the chunks' own: those whom the starting weights have seen.",
)
@click.option("--raw", default="raw", type=click.Path(path_type=Path), show_default=True)
@click.option("--faces", default="faces", type=click.Path(path_type=Path), show_default=True)
@click.option(
    "--out", default="split_study", type=click.Path(path_type=Path), show_default=True,
    help="A folder, for the summary, its picture and what an interrupted study goes on from.",
)  # fmt: skip
def split_study(
    folds: int, seed: int, without: tuple[str, ...], raw: Path, faces: Path, out: Path
) -> None:
    """Train with splits by clip and by source, all else equal: what does the leak make look good?

    The first is how the article splits, so that a fake's original may be trained on. Each of the
    two is cross-validated over the chunks' videos with the params as they are, so it takes twice
    as many trainings as there are folds; interrupted, it goes on. Run `dvc repro faces` first.
    """
    from unmask.cli import common
    from unmask.evaluation import split_study as study
    from unmask.models import train
    from unmask.models.settings import Settings

    common.set_up_logging()
    settings = params.load()
    sections = Settings.of(settings)
    chunks = study.leave_out(
        train.read_chunks(settings.chunks, raw, faces, settings.raw), set(without)
    )
    answers = study.run(
        chunks, sections, out / ".scratch", folds=folds, seed=seed,
        workers=common.workers(), weights_cache=common.weights_cache(),
    )  # fmt: skip
    found: dict[str, list[study.HeldOut]] = {way: [] for way in study.WAYS}
    for way, rows in common.progress(answers, total=2 * folds, label="trainings"):
        found[way] += rows
    summary = study.summarise(found, settings.evaluate)
    study.write(summary, out)
    terminal.echo_table(study.table(summary))


# ---------------------------------------------------------------- training on SageMaker


@main.group()
def sagemaker() -> None:
    """Train on AWS: the same params, data and code, on a machine of SageMaker.

    Each option is also a variable, such as UNMASK_SAGEMAKER_ROLE. With UNMASK_TRAIN_ON=sagemaker
    `dvc repro` trains there: it submits, waits and takes the model in.
    """


def _with_job_options(command: Command) -> Command:
    """Give a command an option for each field of JobConfig; one not given is None or empty."""
    for name, field in reversed(config.JobConfig.model_fields.items()):
        flag = name.replace("_", "-")
        hint = "" if field.default in (None, (), {}) else f" [default: {field.default}]"
        words = f"{field.description}{hint} [{config.variable(name)}]"
        if field.annotation is bool:
            option = click.option(f"--{flag}/--no-{flag}", default=None, help=words)
        elif isinstance(field.default, (tuple, dict)):
            singular = "--variable" if name == "environment" else f"--{flag.removesuffix('s')}"
            option = click.option(singular, name, multiple=True, help=f"{words} Can be repeated.")
        else:
            kinds = {field.annotation, *get_args(field.annotation)}
            kind = next((kind for kind in (int, float) if kind in kinds), str)
            option = click.option(f"--{flag}", name, type=kind, help=words)
        command = option(command)
    return command


def _job_config(given: dict[str, Any]) -> config.JobConfig:
    known = {name: value for name, value in given.items() if value not in (None, ())}
    return config.read_config(os.environ, known)


@sagemaker.command()
@click.option("--dry-run", is_flag=True, help="Print the request as JSON; send nothing.")
@click.option("--local", is_flag=True, help="Train in the image on this machine, with docker.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until the job has ended.")
@click.option(
    "--model",
    default="model",
    type=click.Path(path_type=Path),
    show_default=True,
    help="With --local: where the model is put.",
)
@_with_job_options
def submit(dry_run: bool, local: bool, wait: bool, model: Path, **given: Any) -> None:
    """Send the training that `dvc repro` would do, and print its job's name.

    A job of the same params, data and code that runs or has completed is taken for it. Crops are
    sent once, or read from the DVC remote where that is in the job's region and holds them.
    """
    from unmask.cli import common
    from unmask.sagemaker import submit as jobs
    from unmask.sagemaker.checks import sign_in

    common.set_up_logging()
    job_config = _job_config(given)
    settings = params.load()
    training = jobs.find_training(Path.cwd(), settings, weights_cache=common.weights_cache())
    if local:
        if dry_run or not wait or job_config.image is None:
            raise UnmaskError(
                "--local trains in an image of this machine, here and now: name it by --image, "
                "such as unmask:test of `make image-test`, without --dry-run and --no-wait."
            )
        _train_locally(training, job_config, job_config.image, model)
        return
    account = sign_in(job_config.region)
    if dry_run:
        prepared = jobs.prepare(account, training, job_config, variables=os.environ)
        terminal.echo_table(json.dumps(prepared.request, indent=2))
        return
    found = common.send_training(account, training, job_config)
    terminal.echo(found.name)
    if wait:
        common.await_job(account, found, job_config)
        terminal.echo(
            "Completed. `UNMASK_TRAIN_ON=sagemaker dvc repro` takes its model in and evaluates it; "
            "`unmask sagemaker fetch` only fetches it.",
            err=True,
        )


def _train_locally(training: Any, job_config: config.JobConfig, image: str, model: Path) -> None:
    from unmask.cli import common
    from unmask.sagemaker import inputs
    from unmask.sagemaker import local as sagemaker_local

    settings = training.settings
    sagemaker_local.train_locally(
        training,
        inputs.find_files(training.root, settings.chunks, settings.model.weights),
        model,
        image=image,
        variables={**job_config.environment, "UNMASK_TRACKER": "none"},
        on_gpu=common.has_gpu(),
    )
    terminal.echo(f"{model} is there", err=True)


def _find_job(name: str | None, region: str | None) -> "tuple[Account, Job]":
    """Return the named job, or the last one of the training that is next in this checkout."""
    from unmask.cli import common
    from unmask.sagemaker import jobs as sagemaker_jobs
    from unmask.sagemaker import submit as jobs
    from unmask.sagemaker.checks import sign_in

    common.set_up_logging()
    account = sign_in(_job_config({"region": region}).region)
    if name:
        return account, sagemaker_jobs.describe(account, name)
    settings = params.load()
    training = jobs.find_training(Path.cwd(), settings, weights_cache=common.weights_cache())
    found = sagemaker_jobs.latest(account, training.key)
    if found is None:
        raise UnmaskError(
            f"Asked for a job of the training {training.key[:12]}, the one of these params, data "
            f"and code; there is none in {account.region}. Name a job, or submit one."
        )
    return account, found


@sagemaker.command()
@click.argument("job", required=False)
@click.option("--region", help="AWS region; that of your AWS settings by default.")
def status(job: str | None, region: str | None) -> None:
    """Say how far JOB is; by default the last one of this checkout's params, data and code."""
    _, found = _find_job(job, region)
    terminal.echo(found.line)


@sagemaker.command()
@click.argument("job", required=False)
@click.option("--region", help="AWS region; that of your AWS settings by default.")
def stop(job: str | None, region: str | None) -> None:
    """Stop JOB; what it has done is kept, and the next job of the same key goes on from it."""
    from unmask.sagemaker import jobs as sagemaker_jobs

    account, found = _find_job(job, region)
    sagemaker_jobs.stop(account, found.name)
    terminal.echo(f"{found.name} was told to stop")


@sagemaker.command()
@click.argument("job", required=False)
@click.option("--model", default="model", type=click.Path(path_type=Path), show_default=True)
@click.option("--region", help="AWS region; that of your AWS settings by default.")
def fetch(job: str | None, model: Path, region: str | None) -> None:
    """Put the model that JOB made in the place of --model, after checking that it is its own."""
    from unmask.sagemaker import jobs as sagemaker_jobs

    account, found = _find_job(job, region)
    sagemaker_jobs.fetch(account, found, model)
    terminal.echo(f"{model} is of {found.name}")
