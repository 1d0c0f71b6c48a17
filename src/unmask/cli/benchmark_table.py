"""`unmask benchmark import`, `table` and `card`: detectors beside each other."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from unmask.errors import UnmaskError
from unmask.runtime import terminal

if TYPE_CHECKING:
    from unmask.evaluation.benchmarks.imported import Imported
    from unmask.evaluation.benchmarks.scores_file import Scale
    from unmask.records import VideoRecord

_MOST_CARD_BYTES = 2**18
_LISTS = (Path("held_out/raw"), Path("raw"))
with_raw = click.option(
    "--raw", type=click.Path(path_type=Path),
    help="Where the benchmarks' lists lie, RAW/NAME/index.csv; by default held_out/raw or raw.",
)  # fmt: skip
with_metrics = click.option(
    "--metrics", "metrics_dir", default="metrics", type=click.Path(path_type=Path),
    show_default=True, help="Where scores are kept.",
)  # fmt: skip


@click.command("import")
@click.argument("benchmark")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "detector", required=True, metavar="NAME", help="The detector's name.")
@click.option("--score-column", required=True, metavar="COLUMN", help="Holds the scores.")
@click.option("--id-column", metavar="COLUMN", help="Holds the video ids of the benchmark's list.")
@click.option(
    "--path-column", metavar="COLUMN",
    help="Holds paths of the videos: as many of their last folders as tell one from the others.",
)  # fmt: skip
@click.option("--probabilities", is_flag=True, help="Scores are in [0, 1].")
@click.option("--logits", is_flag=True, help="Scores are logarithms of odds.")
@click.option(
    "--ranking", is_flag=True, help="Scores are any numbers: no log-loss is told of them."
)
@click.option(
    "--higher-means", "higher", required=True, type=click.Choice(["fake", "real"]),
    help="What a higher score speaks for.",
)  # fmt: skip
@click.option("--frame-column", metavar="COLUMN", help="A row is a frame's: its number or time.")
@click.option(
    "--pool", type=click.Choice(["mean", "max"]), default="mean", show_default=True,
    help="With --frame-column: a video's score is the mean of its frames', or the most suspicious.",
)  # fmt: skip
@click.option(
    "--threshold", type=float, help="The score from which on the detector calls a video fake."
)
@click.option("--label-column", metavar="COLUMN", help="Checked against the benchmark's labels.")
@click.option("--compression-column", metavar="COLUMN", help="Such as c23, for the table's groups.")
@click.option("--generator-column", metavar="COLUMN", help="What made a fake, for the groups.")
@click.option("--delimiter", default=",", show_default=True, help=r"Between cells; \t for a tab.")
@click.option("--allow-missing", is_flag=True, help="Let videos without a score pass, counted.")
@click.option("--version", default="", help="The detector's release, commit or digest.")
@click.option(
    "--trained-on", multiple=True, metavar="DATA",
    help="A data set that it saw in training. Can be repeated.",
)  # fmt: skip
@click.option("--licence", default="", help="The detector's licence.")
@click.option(
    "--chunks", default="data/chunks", type=click.Path(path_type=Path), show_default=True,
    help="With --path-column: where the benchmark's files lie, if they do, for their paths.",
)  # fmt: skip
@with_raw
@with_metrics
def import_scores(
    benchmark: str,
    file: Path,
    detector: str,
    score_column: str,
    id_column: str | None,
    path_column: str | None,
    probabilities: bool,
    logits: bool,
    ranking: bool,
    higher: Literal["fake", "real"],
    frame_column: str | None,
    pool: Literal["mean", "max"],
    threshold: float | None,
    label_column: str | None,
    compression_column: str | None,
    generator_column: str | None,
    delimiter: str,
    allow_missing: bool,
    version: str,
    trained_on: tuple[str, ...],
    licence: str,
    chunks: Path,
    raw: Path | None,
    metrics_dir: Path,
) -> None:
    """Take in the scores that any detector gave to the videos of BENCHMARK: a CSV, FILE.

    Columns are named, never guessed. Rows of other videos are counted and the first few listed.
    """
    from unmask.evaluation.benchmarks import imported, scores_file
    from unmask.evaluation.benchmarks.matching import Matcher
    from unmask.evaluation.benchmarks.score_table import Columns

    said: dict[Scale, bool] = {
        "probability": probabilities, "logit": logits, "ranking": ranking
    }  # fmt: skip
    scales = [scale for scale, is_said in said.items() if is_said]
    if len(scales) != 1:
        raise UnmaskError(
            "Say what the scores are, once: --probabilities (in [0, 1]), --logits, or --ranking "
            "for any other number."
        )
    (scale,) = scales
    if (id_column is None) == (path_column is None):
        raise UnmaskError(
            "Name the column that says which video a row is about: either --id-column or "
            "--path-column."
        )
    delimiter = delimiter.replace("\\t", "\t")
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UnmaskError(f"--delimiter is one letter, such as , or ;; found {delimiter!r}.")
    if threshold is not None and not math.isfinite(threshold):
        raise UnmaskError(f"--threshold is a finite number; found {threshold}.")
    if threshold is not None and scale == "probability" and not 0 <= threshold <= 1:
        raise UnmaskError(
            f"--threshold is one of the file's own scores, which --probabilities says are in "
            f"[0, 1]; found {threshold}."
        )
    place = scores_file.detector_place(metrics_dir, benchmark, detector)
    records = _read_list(raw, benchmark)
    columns = Columns(
        score_column, id_column, path_column, frame_column, label_column,
        compression_column, generator_column,
    )  # fmt: skip
    paths = _chunk_paths(chunks / benchmark, records) if path_column else {}
    try:
        found = imported.read(
            file, Matcher(records, paths), records, columns,
            imported.Meaning(scale, higher, pool, threshold),
            delimiter=delimiter, allow_missing=allow_missing,
        )  # fmt: skip
    except imported.IncompleteError as error:
        if hint := _other_benchmark(raw, benchmark, error.unmatched, by_path=bool(path_column)):
            raise UnmaskError(f"{error} {hint}") from error
        raise
    notes = {
        "file_sha256": found.sha256, "score_column": score_column, "video_column": columns.key,
        "higher_means": higher, "rows": str(found.row_count),
        **({"frame_column": frame_column, "pool": pool} if frame_column else {}),
        **({"threshold": repr(threshold)} if threshold is not None else {}),
    }  # fmt: skip
    about = scores_file.Detector(
        detector, scale, version, trained_on=trained_on or None, licence=licence,
        origin="imported", notes=notes,
    )  # fmt: skip
    was_there = place.detector.is_file()
    scores_file.write(place, scores_file.Scores(benchmark, about, found.rows, found.frames))
    _say_imported(found, benchmark, detector, was_there=was_there)


def _list_if_there(raw: Path | None, benchmark: str) -> "list[VideoRecord] | None":
    from unmask.evaluation.benchmarks.scores_file import checked_name
    from unmask.runtime.record_files import read_index

    checked_name("benchmark", benchmark)
    for folder in _LISTS if raw is None else (raw,):
        if (folder / benchmark / "index.csv").is_file():
            return read_index(folder / benchmark / "index.csv")
    return None


def _all_lists(raw: Path | None) -> list[Path]:
    folders = _LISTS if raw is None else (raw,)
    return sorted(index for folder in folders for index in folder.glob("*/index.csv"))


def _read_list(raw: Path | None, benchmark: str) -> "list[VideoRecord]":
    records = _list_if_there(raw, benchmark)
    if records is None:
        there = sorted(index.parent.name for index in _all_lists(raw))
        where = " or ".join(str(folder) for folder in (_LISTS if raw is None else (raw,)))
        raise UnmaskError(
            f"Asked for the benchmark {benchmark}; there is no list of its videos in {where}. "
            f"There are {', '.join(there) or 'none'}. Name one of them, or add the benchmark to "
            "params.yaml and run `dvc repro`."
        )
    return records


def _chunk_paths(chunk: Path, records: "list[VideoRecord]") -> Mapping[str, set[str]]:
    """Return where the benchmark's videos lie in its chunk, by id; empty where it is not here."""
    from unmask.data import archive, datasets

    if not chunk.exists():
        return {}
    ids = {record.file: record.video_id for record in records}
    with archive.open_chunk(chunk) as files:
        entries = datasets.read(files)
    return {ids[entry.file]: {entry.path} for entry in entries if entry.file in ids and entry.path}


def _other_benchmark(
    raw: Path | None, benchmark: str, names: Sequence[str], *, by_path: bool
) -> str:
    """Return in words which other benchmark's videos most of these names are, if there is one."""
    from unmask.evaluation.benchmarks.matching import Matcher
    from unmask.runtime.record_files import read_index

    best = (0, "")
    for index in _all_lists(raw):
        if index.parent.name != benchmark:
            matcher = Matcher(read_index(index))
            match = matcher.by_path if by_path else matcher.by_id
            best = max(best, (sum(len(match(name)) == 1 for name in names), index.parent.name))
    if 2 * best[0] <= len(names) or not names:
        return ""
    return f"They look like those of {best[1]}: is the file about that benchmark?"


def _say_imported(found: "Imported", benchmark: str, detector: str, *, was_there: bool) -> None:
    from unmask.evaluation.benchmarks.imported import said_unmatched
    from unmask.scoring.scores import roc_auc

    scored = [row for row in found.rows if row.rank is not None]
    fakes = sum(row.label for row in scored)
    terminal.echo(
        f"{benchmark}: {len(scored):,} of {len(found.rows):,} videos have a score by {detector}"
        f"{' (its earlier scores are replaced)' if was_there else ''}: {len(scored) - fakes:,} real"
        f", {fakes:,} fake; {found.row_count:,} rows read"
    )
    if found.unmatched_count:
        terminal.echo(said_unmatched(found), err=True)
    if found.missing:
        from unmask.data.archive import first_few, shorten

        names = first_few([shorten(name) for name in found.missing])
        terminal.echo(f"{len(found.missing):,} videos have no score: {names}", err=True)
    if 0 < fakes < len(scored):
        auc = roc_auc([row.label for row in scored], [row.rank or 0.0 for row in scored])
        if auc < 0.5:
            terminal.echo(
                f"AUC {auc:.3f}, below chance: does a higher score mean what --higher-means says?",
                err=True,
            )


# ---------------------------------------------------------------- the table


@click.command()
@click.argument("benchmarks", nargs=-1)
@click.option(
    "--format", "form", type=click.Choice(["terminal", "markdown", "csv", "html"]),
    default="terminal", show_default=True, help="html: a page that can be mailed.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="A file, in place of the terminal.")
@click.option(
    "--first", metavar="DETECTOR", help="What others are set beside; by default the pipeline's."
)
@with_raw
@with_metrics
def table(
    benchmarks: tuple[str, ...],
    form: Literal["terminal", "markdown", "csv", "html"],
    out: Path | None,
    first: str | None,
    raw: Path | None,
    metrics_dir: Path,
) -> None:
    """Set all detectors beside each other that have scores on BENCHMARKS; by default on any.

    Next to them stands what needs no detector, and of each detector what it saw in training.
    Intervals and the seed are those of `evaluate` in params.yaml.
    """
    from unmask import params
    from unmask.evaluation.benchmarks import compare, gather
    from unmask.evaluation.benchmarks import table as tables
    from unmask.runtime.disk import write_atomically

    if form == "html" and out is None:
        raise UnmaskError("A page is a file: name it by --out, such as --out benchmarks.html.")
    names = list(dict.fromkeys(benchmarks)) or gather.names(metrics_dir)
    if not names:
        raise UnmaskError(
            f"Asked for a table of detectors; {metrics_dir} has no scores. Score a model with "
            "`unmask benchmark NAME`, or import a detector's scores with `unmask benchmark import`."
        )
    settings = params.load().evaluate
    found = [gather.read(metrics_dir, name, _list_if_there(raw, name)) for name in names]
    compare.check_first(first, found)
    compared = [compare.compare(each, settings, first=first) for each in found]
    if form == "html":
        from unmask.evaluation.benchmarks import page

        text = page.render(compared)
    elif form == "terminal":
        text = tables.for_terminal(compared) + "\n"
    else:
        text = tables.as_markdown(compared) if form == "markdown" else tables.as_csv(compared)
    if out is not None:
        write_atomically(out, text)
        terminal.echo(f"{out} is written", err=True)
    elif form == "csv":
        terminal.echo_data(text.encode())
    else:
        terminal.echo_table(text.rstrip("\n"))


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--model", default="model", type=click.Path(path_type=Path), show_default=True,
    help="The model's folder.",
)  # fmt: skip
@click.option(
    "--card", "card_file", type=click.Path(path_type=Path),
    help="The card to begin with, such as metrics/MODEL_CARD.md; by default the folder's own.",
)  # fmt: skip
@with_raw
@with_metrics
def card(
    out: Path, model: Path, card_file: Path | None, raw: Path | None, metrics_dir: Path
) -> None:
    """Write into OUT the model's card with its results on benchmarks first, and benchmarks.json.

    Put both into the folder that you publish: a report of a video by that model then shows them.
    """
    from unmask import params
    from unmask.evaluation.benchmarks import card as cards
    from unmask.evaluation.benchmarks import gather
    from unmask.runtime.digests import CARD, model_digest
    from unmask.runtime.disk import read_regular, write_atomically

    begun_with = card_file or model / CARD
    try:
        digest = model_digest(model)
        text = read_regular(begun_with, _MOST_CARD_BYTES).decode()
        names = gather.names(metrics_dir)
        found = [gather.read(metrics_dir, name, _list_if_there(raw, name)) for name in names]
        results = cards.results_of(digest, found, params.load().evaluate)
        text = cards.with_results(text, results)
    except (OSError, ValueError) as error:
        raise UnmaskError(
            f"Asked for the card of the model {model}, beginning with {begun_with}; it can't be "
            f"read ({error}). Name the model's folder by --model and a card by --card."
        ) from error
    write_atomically(out / CARD, text)
    write_atomically(out / "benchmarks.json", cards.as_json(results))
    terminal.echo(f"{out}: {CARD} and benchmarks.json, of {len(results['benchmarks'])} benchmarks")
