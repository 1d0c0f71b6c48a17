"""The command line. Heavy imports stand inside the commands, so that `unmask --help` is quick."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from unmask import params
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
@click.argument("archive", type=click.Path(path_type=Path))
def unpack(archive: Path) -> None:
    """Unpack a chunk's zip ARCHIVE to the folder of its name, with path and size checks."""
    from unmask.unpack import unpack_chunk

    folder = archive.with_suffix("")
    unpack_chunk(archive, folder)
    click.echo(f"{folder}: add {folder.name} to chunks in params.yaml", file=sys.stderr)


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
        doors.register_model(root, model, alias, key=checkpoint.read_settings(model).run_id)
    for line in doors.upload_runs(root):
        click.echo(line)
