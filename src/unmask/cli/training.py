"""`unmask pretrain`, `split-study` and `frames`: commands of training, besides the stages."""

from pathlib import Path

import click

from unmask import params
from unmask.cli.command_group import needs
from unmask.runtime import terminal


@click.command()
@click.option(
    "--sources", default="data/sources", type=click.Path(path_type=Path), show_default=True,
    help="Open faces, with their sources.csv.",
)  # fmt: skip
@click.option(
    "--weights", default="weights/x3d_xs.safetensors", type=click.Path(path_type=Path),
    show_default=True, help="The file to write; its card is put beside it.",
)  # fmt: skip
@click.option(
    "--portraits",
    type=click.Path(path_type=Path),
    help="A folder with the portraits of weights/portraits.csv, as further training people.",
)
@needs("train")
def pretrain(sources: Path, weights: Path, portraits: Path | None) -> None:
    """Make the starting checkpoint anew from open faces; an interrupted run goes on.

    The forged pictures that it learns from lie beside the weights, in a folder that is deleted when
    they are written.
    """
    from unmask.cli.common import progress, set_up_logging, workers
    from unmask.models import pretrain as pretraining
    from unmask.models.pretrain_faces import Material

    set_up_logging()
    settings = params.load()
    material = Material(
        sources, Path("weights/mesh_points.npz"), Path("weights/portraits.csv"), portraits
    )
    steps = pretraining.run(
        material, weights, settings.pretrain, settings.sample.detect,
        margin_ratio=settings.faces.margin_ratio, workers=workers(),
    )  # fmt: skip
    for _ in progress(steps, total=pretraining.count_steps(settings.pretrain), label="pretrain"):
        pass


@click.command("split-study")
@click.option(
    "--folds", type=click.IntRange(min=3), default=5, show_default=True,
    help="Parts that the videos are cut into; each is the test once.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True,
    help="What the draw of the folds begins with.",
)  # fmt: skip
@click.option(
    "--without",
    type=click.Choice(["train", "validation", "test"]),
    multiple=True,
    help="Leave out a split of the chunks' own: those whom the starting weights have seen.",
)
@click.option(
    "--raw", default="raw", type=click.Path(path_type=Path), show_default=True,
    help="Where the stage raw wrote its lists.",
)  # fmt: skip
@click.option(
    "--faces", default="faces", type=click.Path(path_type=Path), show_default=True,
    help="Where the stage faces put the crops.",
)  # fmt: skip
@click.option(
    "--out", default="split_study", type=click.Path(path_type=Path), show_default=True,
    help="A folder, for the summary, its picture and what an interrupted study goes on from.",
)  # fmt: skip
@needs("train")
def split_study(
    folds: int, seed: int, without: tuple[str, ...], raw: Path, faces: Path, out: Path
) -> None:
    """Train with splits by clip and by source, all else equal: how much does a leak inflate scores?

    By clip is how the article splits, so that a fake's original may be trained on. Each of the
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


@click.command()
@click.option("--delete", "is_to_delete", is_flag=True, help="Delete them.")
def frames(*, is_to_delete: bool) -> None:
    """Say how many decoded frames training keeps here, and how much room they take.

    UNMASK_FRAME_CACHE=40GB lets `dvc repro train` keep so much of them, in .frames or where
    UNMASK_FRAME_CACHE_DIR says: it then reads them in place of crops, whose decoding takes longer.
    The model is the same. What no longer fits the crops is deleted when the next training begins.
    """
    from unmask.cli import common
    from unmask.models import frame_cache
    from unmask.runtime import disk

    folder = common.frame_cache_folder(Path.cwd())
    if not is_to_delete:
        count, size = frame_cache.measure(folder)
        terminal.echo(f"{folder}: frames of {count} crop files, {size / 1e9:.2f} GB")
    elif folder.is_dir():
        with disk.sole_writer(folder):
            count, size = frame_cache.delete(folder)
        terminal.echo(f"{folder}: deleted frames of {count} crop files, {size / 1e9:.2f} GB")
    else:
        terminal.echo(f"{folder}: there is nothing to delete")
