"""`unmask benchmark`: detectors on data sets that nobody trained on. Heavy imports stand inside."""

import difflib
import hashlib
import re
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unmask import params
from unmask.cli.benchmark_table import card, import_scores, table
from unmask.cli.benchmark_verify import verify
from unmask.cli.command_group import INTERRUPTED, CommandGroup, with_model, with_rev
from unmask.errors import DatasetError
from unmask.runtime import terminal

if TYPE_CHECKING:
    from unmask.evaluation.benchmarks.score import Answered
    from unmask.params import Faces
    from unmask.records import Chunk


class BenchmarkGroup(CommandGroup):
    """Takes the name of a benchmark for the command `score`: `unmask benchmark NAME`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed, or `score` where it is the name of a benchmark."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["score", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=BenchmarkGroup)
def benchmark() -> None:
    """Compare detectors on data sets that they were not trained on.

    `unmask benchmark NAME` is short for `unmask benchmark score NAME`.
    """


for command in (verify, import_scores, table, card):
    benchmark.add_command(command)


@benchmark.command()
@click.argument("name")
@with_model
@with_rev
@click.option(
    "--as", "detector", metavar="DETECTOR",
    help="What the model is called in tables; by default as its folder, alias or revision. The "
    "name model is the pipeline's: a folder of that name adds the beginning of its digest.",
)  # fmt: skip
@click.option(
    "--trained-on", multiple=True, metavar="DATA",
    help="A data set that it saw in training; may be given several times. By default what its "
    "card says.",
)  # fmt: skip
@click.option(
    "--held-out", default="held_out", type=click.Path(path_type=Path), show_default=True,
    help="Where the stages put the benchmarks' videos and crops.",
)  # fmt: skip
@click.option(
    "--metrics", default="metrics", type=click.Path(path_type=Path), show_default=True,
    help="The scores are put into detectors/NAME there.",
)  # fmt: skip
@click.option(
    "--kept", default=".benchmarks", type=click.Path(path_type=Path), show_default=True,
    help="Answers are kept there, and crops where the model asks for its own.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one a core by default.")
def score(
    name: str,
    model: str | None,
    rev: str | None,
    detector: str | None,
    trained_on: tuple[str, ...],
    held_out: Path,
    metrics: Path,
    kept: Path,
    workers: int | None,
) -> None:
    """Score a model on the benchmark NAME, which `dvc repro faces_benchmark@NAME` has cropped.

    A model that was made for other crops gets its own. An interrupted run goes on. The scores are
    put beside those of all other detectors, and into a run of the tracker.
    """
    from unmask.answers import model_source
    from unmask.answers.labelled import asker
    from unmask.cli import common
    from unmask.evaluation.benchmarks import measures, scores_file
    from unmask.evaluation.benchmarks import score as scoring
    from unmask.models.predict import Predictor
    from unmask.runtime.digests import model_digest

    common.set_up_logging()
    common.check_tracker("unmask benchmark score")  # now, and not after hours of scoring
    settings = params.load()
    scores_file.checked_name("benchmark", name)
    if detector is not None:
        scores_file.detector_place(metrics, name, detector)  # a bad name is said at once
    index = _index(name, held_out, settings.benchmarks)
    model = model_source.chosen(model, rev)
    folder = model_source.named(model, rev, cache=common.weights_cache())
    digest = model_digest(folder)
    called = detector or _name_of(model, rev, digest)
    place = scores_file.detector_place(metrics, name, called)
    predictor = Predictor.load(folder)
    checkpoint, processes = predictor.checkpoint, workers or common.workers()
    answers: list[Answered] = []
    try:
        chunk = _crops(name, index, held_out / "faces" / name, kept, checkpoint.faces, processes)
        videos_dir = index.parent / "videos"
        ask = asker(predictor, chunk.records, videos_dir, chunk.faces_dir, workers=processes)
        found = scoring.answer_all(chunk, folder, ask, kept / name / digest[:16])
        with closing(found):
            total = len(chunk.records)
            answers += common.progress(found, total=total, label=f"{called} on {name}")
    except KeyboardInterrupt:
        terminal.echo("", err=True)
        terminal.echo("Interrupted; what is done is kept, and the same command goes on.", err=True)
        sys.exit(INTERRUPTED)
    what = scoring.describe(called, folder, checkpoint, trained_on or None)
    if (source := model_source.source_of(folder, common.weights_cache())) is not None:
        what = replace(what, notes={**what.notes, "model_source": source})
    scores = scoring.to_scores(name, answers, what, checkpoint.temperature)
    summary = measures.summarise(scores, settings.evaluate)  # refuses what has no score at all
    replaced = " (its earlier ones are replaced)" if place.detector.is_file() else ""
    scores_file.write(place, scores)
    key = checkpoint.run_key
    with common.open_tracker(
        Path.cwd(), key=f"{key}-{name}-{called}", resume=True, parent=key,
        run_name=f"benchmark {name}: {called}",
    ) as tracker:  # fmt: skip
        measures.log(summary, tracker)
        tracker.log_file(place.scores, "metrics")
        tracker.log_file(place.detector, "metrics")
    terminal.echo_table(measures.table(summary))
    terminal.echo(f"{place.scores}: the scores of {len(answers)} videos{replaced}", err=True)


def _name_of(model: str, rev: str | None, digest: str) -> str:
    """Return what a model is called where nobody says: its folder and revision, or the name that
    MLflow or the Hub has for it.

    A folder called as the pipeline's model gets the beginning of its digest, too: tables have one
    row of each name.

    >>> _name_of("published/gend/", None, "0"), _name_of("model", "v1", "0")
    ('gend', 'model-v1')
    >>> _name_of("models:/a@b", None, "0"), _name_of("model", None, "0123456789ab")
    ('a-b', 'model-01234567')
    >>> _name_of("hf:ada/gend@v1", None, "0")
    'ada-gend-v1'
    """
    from unmask.evaluation.benchmarks.scores_file import PIPELINE

    scheme, _, rest = model.partition(":/")
    if model.startswith("hf:"):
        name = model.removeprefix("hf:")
    else:
        name = rest if scheme in ("models", "runs") else Path(model).resolve().name
    name = re.sub(r"[^\w.-]+", "-", f"{name}-{rev}" if rev else name).strip("-.") or PIPELINE
    return f"{name}-{digest[:8]}" if name == PIPELINE else name


def _index(name: str, held_out: Path, known: tuple[str, ...]) -> Path:
    """Return the list of a benchmark's videos.

    Raises:
        DatasetError: the benchmark has no list yet.
    """
    index = held_out / "raw" / name / "index.csv"
    if index.is_file():
        return index
    close = difflib.get_close_matches(name, [*known, *benchmark.commands], n=1)
    if name in known:
        do = f"Run `dvc repro faces_benchmark@{name}` first."
    elif close:
        do = f"Did you mean {close[0]}?"
    else:
        do = f"Add it to benchmarks in params.yaml, which names {', '.join(known) or 'none'}."
    raise DatasetError(f"Asked for the benchmark {name[:120]!r}; there is no {index}. {do}")


def _crops(
    name: str, index: Path, faces_dir: Path, kept: Path, settings: "Faces", workers: int
) -> "Chunk":
    """Return a benchmark's crops as a model asks for them: the stage's, or others made anew."""
    from unmask.cli import common
    from unmask.faces import crops
    from unmask.faces.shared_detector import best_detector
    from unmask.runtime.record_files import read_chunk, read_faces, read_fingerprints, read_index
    from unmask.video.pictures import read_tracks

    there = faces_dir / "index.jsonl"
    prints = read_fingerprints(index.with_name("fingerprints.csv"))
    contents = {r.video_id: prints[r.video_id].sha256 for r in read_index(index)
                if r.video_id in prints}  # fmt: skip
    is_there = there.is_file() and crops.are_current(read_faces(there), contents, settings)
    if not is_there:
        digest = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:16]
        own = kept / name / f"faces-{digest}"
        terminal.echo(
            f"{faces_dir} was not cropped as this model and version ask for "
            f"({settings.side_px} px, a margin of {settings.margin_ratio:g} ...): other crops are "
            f"made in {own}", err=True,
        )  # fmt: skip
        names = {record.video_id: record.file for record in read_index(index)}
        videos_dir = index.parent / "videos"
        paths = {video_id: videos_dir / file for video_id, file in names.items()}
        videos = sorted((video_id, path) for video_id, path in paths.items() if path.is_file())
        with best_detector(settings.detect, on_gpu=common.has_gpu()) as load_detector:
            rows = crops.crop_chunk(
                videos, own, settings, workers=workers, load_detector=load_detector,
                tracks=read_tracks(videos_dir),
            )  # fmt: skip
            for _ in common.progress(rows, total=len(videos), label=f"faces of {name}"):
                pass
        faces_dir = own
    return read_chunk(name, index, faces_dir)
