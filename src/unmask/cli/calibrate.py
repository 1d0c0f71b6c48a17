"""`unmask calibrate`. Heavy imports stand inside it."""

import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from unmask.cli.command_group import INTERRUPTED, with_model, with_rev
from unmask.runtime import terminal
from unmask.runtime.plain_text import shown_name

if TYPE_CHECKING:
    from unmask.answers.calibration import Clip
    from unmask.scoring.promises import Promise

_SCHEMES = ("models:/", "runs:/", "hf:")


@click.command()
@click.argument("genuine", nargs=-1)
@click.option(
    "--fakes", multiple=True, metavar="KNOWN",
    help="Known fakes of the same kind: a file, folder or glob; may be given several times. They "
    "say how many the model finds, and from 1 / rate - 1 of them on what it may call real.",
)  # fmt: skip
@click.option(
    "--max-false-alarms", "rate", default=0.05, show_default=True,
    type=click.FloatRange(0.001, 0.5),
    help="Share of genuine videos like these that may be called fake.",
)  # fmt: skip
@with_model
@with_rev
@click.option(
    "--as", "target", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Write the calibrated model there; without it, the model itself is calibrated.",
)  # fmt: skip
@click.option(
    "--kind", default="", metavar="WORDS",
    help="What kind of video it is, as the card and each report shall say: our cameras, 2026.",
)  # fmt: skip
@click.option(
    "--unlike-by", type=click.Choice(["all", "quality"]), default="all", show_default=True,
    help="Tell videos of another kind by quality and the net's features, or by quality alone.",
)  # fmt: skip
@click.option("--undo", is_flag=True, help="Give the model back its settings and card of before.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one a core by default.")
def calibrate(
    genuine: tuple[str, ...],
    fakes: tuple[str, ...],
    rate: float,
    model: str | None,
    rev: str | None,
    target: Path | None,
    kind: str,
    unlike_by: Literal["all", "quality"],
    undo: bool,
    workers: int | None,
) -> None:
    """Learn from genuine videos of your own what the model may promise about videos like them.

    GENUINE are files, folders (searched for videos) or globs in quotes: at least 1 / rate - 1
    different videos, as long and of as many people as those that you will ask about, filmed and
    encoded like them. Afterwards at most that share of such videos is called fake.
    """
    if undo and (genuine or fakes or target or rev):
        raise click.UsageError("--undo takes --model alone: it needs no videos.")
    if not undo and not genuine:
        raise click.UsageError("Missing GENUINE: name files, folders or globs of genuine videos.")
    if (rev or (model or "").startswith(_SCHEMES)) and not target:
        raise click.UsageError("What is fetched stays as it is: name a folder with --as.")
    from unmask.answers import calibrated_folder, calibration, inputs, model_source
    from unmask.cli import common

    model = model_source.chosen(model, rev)
    if model_source.is_shipped(model) and not target:
        raise click.UsageError(
            "The demonstration model that comes with unmask stays as it is: name a folder with "
            "--as, or another --model."
        )
    common.set_up_logging()
    if undo:
        place = Path(model).resolve()
        work = calibrated_folder.work_folder(place)
        calibrated_folder.recover(place, work)
        folder = model_source.named(model, rev, cache=common.weights_cache()).resolve()
        calibrated_folder.undo(folder, work)
        shutil.rmtree(work, ignore_errors=True)
        terminal.echo(f"{model} is as it was before it was calibrated, and gives no verdict")
        return
    place = (target or Path(model)).resolve()
    work = calibrated_folder.work_folder(place)
    calibrated_folder.recover(place, work)
    fetched = model_source.named(model, rev, cache=common.weights_cache())
    source, folder = model_source.source_of(fetched, common.weights_cache()), fetched.resolve()
    if target:
        calibrated_folder.check_target(place)
    real = inputs.find_videos(genuine, b"")
    fake = inputs.find_videos(fakes, b"") if fakes else inputs.Inputs((), ())
    for unread in (*real.unread, *fake.unread):
        shown = shown_name(str(unread))
        terminal.echo(f"{shown}: this user may not look into this folder", err=True)
    if both := set(real.videos) & set(fake.videos):
        raise calibration.CalibrationError(
            f"Asked to calibrate on {sorted(both)[0]} as genuine and as a fake. Take it out of "
            "one of the two."
        )
    clips: list[Clip] = []
    try:
        found = calibration.measure(
            folder, real.videos, fake.videos, work, workers=workers or common.workers()
        )
        total = len(real.videos) + len(fake.videos)
        with closing(found):
            for clip in common.progress(found, total=total, label="calibrate"):
                clips.append(clip)
                if not clip.faces:
                    with common.above_bar():
                        terminal.echo(_left_out(clip), err=True)
    except KeyboardInterrupt:
        terminal.echo("", err=True)
        terminal.echo(
            f"Interrupted; {len(clips)} videos are scored, and the same command goes on.", err=True
        )
        sys.exit(INTERRUPTED)
    asked = calibration.Asked(
        rate, kind or _named(genuine), "unmask " + " ".join(sys.argv[1:]), unlike_by
    )
    learned = calibration.learn(
        calibrated_folder.base_settings(folder), clips, asked,
        weights_sha256=calibrated_folder.weights_digest(folder),
    )  # fmt: skip
    calibrated_folder.store(folder, place, learned, work, source=source)
    shutil.rmtree(work, ignore_errors=True)
    assert learned.checkpoint.promise is not None
    _tell(learned.checkpoint.promise, clips, target or Path(model))


def _tell(promise: "Promise", clips: "Sequence[Clip]", folder: Path) -> None:
    from unmask.answers import messages

    for line in messages.promised(promise):
        terminal.echo(line)
    for line in messages.strata_lines(promise.strata):
        terminal.echo(f"  {line}")
    silent = sum(not clip.faces for clip in clips)
    if silent:
        terminal.echo(f"{silent} of {len(clips)} videos have no score; they are listed above")
    terminal.echo(f"{folder} promises this from now on; take it back: "
                  f"unmask calibrate --undo --model {folder}")  # fmt: skip


def _left_out(clip: "Clip") -> str:
    why = clip.detail or f"{clip.path}: {str(clip.reason or 'no_face').replace('_', ' ')}"
    return f"left out: {shown_name(why)}"


def _named(genuine: Sequence[str]) -> str:
    """Return what to call the videos where nobody says: the last part of each name."""
    names = [Path(name).name or name for name in genuine]
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
