"""The command line. Heavy imports stand inside the commands, so that `unmask --help` is quick."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from unmask import federated_cli, params
from unmask.errors import UnmaskError


class _Group(click.Group):
    """Turns an UnmaskError of any command into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UnmaskError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="unmask")
def main() -> None:
    """Train, version and defend a deepfake video detector."""


main.add_command(federated_cli.federated)


@main.command()
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", default="model", type=click.Path(path_type=Path), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every clip.")
def predict(videos: tuple[Path, ...], model: Path, as_json: bool) -> None:
    """Say how likely each of VIDEOS shows a fake face."""
    from unmask.doors import progress, set_up_logging
    from unmask.predict import Predictor

    set_up_logging()
    predictor = Predictor.load(model)
    scores = progress(predictor.predict_files(videos), total=len(videos), label="predict")
    for path, score in zip(videos, scores, strict=True):
        if as_json:
            click.echo(json.dumps({"path": str(path), **asdict(score)}))
        else:
            answer = "-" if score.probability is None else f"{score.probability:.3f}"
            click.echo(f"{answer:>6}  {path}" + (f"  ({score.reason})" if score.reason else ""))


@main.command()
@click.option("--raw", default="raw", type=click.Path(path_type=Path), show_default=True)
def check(raw: Path) -> None:
    """Count what is in each split, and fail if the splits of all chunks together leak.

    A leak is a source, an identity, a file or nearly the same picture on two sides, or a class
    that a split lacks. Run `dvc repro raw` first: this reads what it wrote.
    """
    from unmask import leakage

    settings = params.load()
    listings = [leakage.read_listing(name, raw / name) for name in settings.chunks]
    for listing in listings:
        click.echo(f"{listing.chunk}\n{leakage.table(listing.records)}\n")
    together = [record for listing in listings for record in listing.records]
    if len(listings) > 1:
        click.echo(f"all chunks\n{leakage.table(together)}\n")
    leakage.check(listings, settings.raw)
    click.echo(f"no leaks found in {len(together)} videos of {len(listings)} chunk(s)")


@main.command()
@click.option("--sources", default="data/sources", type=click.Path(path_type=Path))
@click.option("--weights", default="weights/x3d_xs.safetensors", type=click.Path(path_type=Path))
def pretrain(sources: Path, weights: Path) -> None:
    """Make the starting checkpoint anew from open faces; an interrupted run goes on."""
    from unmask import pretrain as pretraining
    from unmask.doors import progress, set_up_logging, workers

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
    from unmask import doors
    from unmask import fake as forging

    doors.set_up_logging()
    if not consented:
        raise UnmaskError(
            "Asked for fakes of the people in this footage; found no word of their consent. If "
            "everybody shown has agreed, add --consented."
        )
    if crf[0] > crf[1]:
        raise UnmaskError(f"--crf is a range, lower end first; found {crf[0]} {crf[1]}. Swap them.")
    files = forging.find_footage(footage, chunk, person_from_folder=person_from_folder)
    settings = forging.Settings(
        method, fakes_per_video, crf, max_seconds, seed, params.load().faces
    )
    outcomes = forging.make_chunk(files, chunk, settings, workers=workers or doors.workers())
    done = list(doors.progress(outcomes, total=2 * len(files), label="fake"))
    for line in forging.remarks(done):
        click.echo(line, err=True)
    click.echo(forging.summarise(done))
    click.echo(f"{chunk}: add {chunk.name} to chunks in params.yaml", err=True)


@main.command()
@click.option("--register", "alias", metavar="ALIAS", help="Register the model under this alias.")
@click.option("--model", default="model", type=click.Path(path_type=Path), show_default=True)
def log(alias: str | None, model: Path) -> None:
    """Send the runs that MLflow did not take; what it does not take now stays."""
    from unmask import doors

    doors.set_up_logging()
    root = Path.cwd()
    if alias:
        from unmask import checkpoint

        # Before the rest is sent: if it has to wait, the rest says so.
        doors.register_model(root, model, alias, key=checkpoint.read_settings(model).run_key)
    for line in doors.upload_runs(root):
        click.echo(line)
