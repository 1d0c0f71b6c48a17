"""The command line. Heavy imports stand inside the commands, so that `unmask --help` is quick."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from unmask import params
from unmask.cli import (
    adopt,
    benchmark,
    calibrate,
    crop,
    federated,
    gate,
    marking,
    notice,
    predict,
    push,
    sagemaker,
    serve,
    training,
    verify,
)
from unmask.cli.command_group import CommandGroup, needs
from unmask.errors import UnmaskError
from unmask.runtime import terminal

if TYPE_CHECKING:
    from unmask.answers.certificates import Certificate
    from unmask.forgeries.fake import Signing


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="unmask")
@click.pass_context
def main(context: click.Context) -> None:
    """Train, version and defend a deepfake video detector."""
    # Out of the environment, which processes that decode strangers' videos inherit. It is exported
    # for predict, and other commands are typed in the same shell.
    names = (predict.PASSPHRASE, marking.PASSPHRASE)
    context.obj = {name: os.environ.pop(name, None) for name in names}


for command in (
    predict.predict, verify.verify, calibrate.calibrate, serve.serve, gate.gate,
    federated.federated, adopt.adopt, benchmark.benchmark, sagemaker.sagemaker, notice.notice,
    training.pretrain, training.split_study, training.frames, crop.crop, push.push,
):  # fmt: skip
    main.add_command(command)


@main.command()
@click.option(
    "--raw", default="raw", type=click.Path(path_type=Path), show_default=True,
    help="Where the stage raw wrote its lists.",
)  # fmt: skip
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
@click.argument("footage", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--chunk", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--consented", is_flag=True, help="I have the consent of everybody shown.")
@click.option(
    "--method",
    type=click.Choice(["self_blend", "face_swap", "both"]),
    default="both",
    show_default=True,
    help="Kinds of fakes to make; both: by turns.",
)
@click.option(
    "--fakes-per-video", type=click.IntRange(min=1), default=2, show_default=True,
    help="Fakes of each video.",
)  # fmt: skip
@click.option("--person-from-folder", is_flag=True, help="Files in one folder show one person.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True,
    help="What chance begins with: the same footage, options and seed give the same bytes.",
)  # fmt: skip
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
    help="Seconds of each video that are used.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one a core by default.")
@marking.with_certificate("each video")
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
    certificate: Path | None,
    certificate_key: Path | None,
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
    signed_with = marking.read_certificate(certificate, certificate_key)
    files = find_footage(footage, chunk, person_from_folder=person_from_folder)
    settings = forging.Settings(method, fakes_per_video, crf, max_seconds, seed, _face_params())
    outcomes = forging.make_chunk(
        files, chunk, settings, workers=workers or common.workers(),
        sign=None if signed_with is None else _signing(signed_with),
    )  # fmt: skip
    done = list(common.progress(outcomes, total=2 * len(files), label="fake"))
    for line in remarks(done):
        terminal.echo(line, err=True)
    terminal.echo(summarise(done))
    terminal.echo(f"{chunk}: add {chunk.name} to chunks in params.yaml", err=True)


def _signing(certificate: "Certificate") -> "Signing":
    """Return what gives videos of `unmask fake` their content credentials."""
    from unmask.answers import content_marks
    from unmask.forgeries.fake import Signing

    def sign(video: Path, original: Path, words: str, is_fake: bool) -> None:
        kind = content_marks.FORGED if is_fake else content_marks.ENCODED
        content_marks.sign(video, video, original, replace(kind, words=words), certificate)

    return Signing(certificate.digest, sign)


def _face_params() -> params.Faces:
    """Return how faces are found: as params.yaml says, or, where there is none, as the package.

    That is what the model that comes with the package was trained with.
    """
    from unmask.answers import model_source
    from unmask.models import checkpoint

    if model_source.SHIPPED.is_dir() and not Path("params.yaml").exists():
        return checkpoint.read_settings(model_source.SHIPPED).faces
    return params.load().faces


@main.command()
@click.option("--register", "alias", metavar="ALIAS", help="Register the model under this alias.")
@click.option(
    "--model", default="model", type=click.Path(path_type=Path), show_default=True,
    help="With --register: the model's folder.",
)  # fmt: skip
@needs("mlflow")
def log(alias: str | None, model: Path) -> None:
    """Send MLflow the runs that it has not taken yet; what it does not take now is kept."""
    from unmask.cli import common

    common.set_up_logging()
    root = Path.cwd()
    if alias:
        from unmask.models import checkpoint

        # Before the rest is sent: if it has to wait, the rest says so.
        common.register_model(root, model, alias, key=checkpoint.read_settings(model).run_key)
    for line in common.upload_runs(root):
        terminal.echo(line)
