"""`unmask sagemaker`: the training as a job on AWS. Heavy imports stand inside the commands."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unmask import params
from unmask.cli.command_group import CommandGroup, needs
from unmask.cli.job_options import given_ones, with_job_options
from unmask.errors import UnmaskError
from unmask.runtime import terminal
from unmask.sagemaker import config

if TYPE_CHECKING:
    from unmask.sagemaker.checks import Account
    from unmask.sagemaker.crop_jobs import CropJob
    from unmask.sagemaker.jobs import Job


@click.group(cls=CommandGroup)
def sagemaker() -> None:
    """Train on AWS: the same params, data and code, on a machine of SageMaker.

    Each option of submit is also a variable, such as UNMASK_SAGEMAKER_ROLE. With
    UNMASK_TRAIN_ON=sagemaker `dvc repro` trains there: it submits, waits and takes the model in.
    `unmask crop --on sagemaker` crops there; status and stop take the names of its jobs, too.
    """


def _job_config(given: dict[str, Any]) -> config.JobConfig:
    return config.read_config(os.environ, given_ones(given))


@sagemaker.command()
@click.option("--dry-run", is_flag=True, help="Print the request as JSON; send nothing.")
@click.option("--local", is_flag=True, help="Train in the image on this machine, with docker.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until the job ends.")
@click.option(
    "--model",
    default="model",
    type=click.Path(path_type=Path),
    show_default=True,
    help="With --local: where the model is put.",
)
@with_job_options(config.JobConfig)
@needs("aws", "train", "dvc")
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


def _find_cropping(name: str | None, region: str | None) -> "tuple[Account, CropJob] | None":
    """Return the job of that name if it is one of `unmask crop`."""
    from unmask.cli import common
    from unmask.sagemaker import crop_jobs
    from unmask.sagemaker.checks import sign_in

    if name is None or not crop_jobs.is_one(name):
        return None
    common.set_up_logging()
    account = sign_in(_job_config({"region": region}).region)
    return account, crop_jobs.describe(account, name)


@sagemaker.command()
@click.argument("job", required=False)
@click.option("--region", help="AWS region; that of your AWS settings by default.")
@needs("aws", "train", "dvc")
def status(job: str | None, region: str | None) -> None:
    """Say how far JOB is; by default the last one of this checkout's params, data and code."""
    if cropping := _find_cropping(job, region):
        terminal.echo(cropping[1].line)
        return
    _, found = _find_job(job, region)
    terminal.echo(found.line)


@sagemaker.command()
@click.argument("job", required=False)
@click.option("--region", help="AWS region; that of your AWS settings by default.")
@needs("aws", "train", "dvc")
def stop(job: str | None, region: str | None) -> None:
    """Stop JOB; what it has done is kept, and the next job of the same key goes on from it."""
    from unmask.sagemaker import crop_jobs
    from unmask.sagemaker import jobs as sagemaker_jobs

    if cropping := _find_cropping(job, region):
        crop_jobs.stop(cropping[0], cropping[1].name)
        terminal.echo(f"{cropping[1].name} was told to stop")
        return
    account, found = _find_job(job, region)
    sagemaker_jobs.stop(account, found.name)
    terminal.echo(f"{found.name} was told to stop")


@sagemaker.command()
@click.argument("job", required=False)
@click.option(
    "--model", default="model", type=click.Path(path_type=Path), show_default=True,
    help="The folder that the model replaces.",
)  # fmt: skip
@click.option("--region", help="AWS region; that of your AWS settings by default.")
@needs("aws", "train", "dvc")
def fetch(job: str | None, model: Path, region: str | None) -> None:
    """Put the model that JOB made in the place of --model, after checking that it is its own."""
    from unmask.sagemaker import crop_jobs
    from unmask.sagemaker import jobs as sagemaker_jobs

    if job and crop_jobs.is_one(job):
        raise UnmaskError(
            f"Asked for the model that {job} made; it is a job that crops, and makes none. `unmask "
            "crop --on sagemaker` takes its crops in."
        )
    account, found = _find_job(job, region)
    sagemaker_jobs.fetch(account, found, model)
    terminal.echo(f"{model} is of {found.name}")
