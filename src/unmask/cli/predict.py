"""`unmask predict`. Heavy imports stand inside it."""

import signal
import sys
import time
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unmask.cli import marking, places
from unmask.cli.command_group import INTERRUPTED, with_model, with_rev
from unmask.errors import UnmaskError
from unmask.runtime import terminal
from unmask.runtime.plain_text import shown_name
from unmask.runtime.scratch import all_in, private_folder
from unmask.scoring.verdicts import Doubt

if TYPE_CHECKING:
    from unmask.answers.analysis import Answer
    from unmask.answers.answers_file import AnswersFile, Form, Row, RunInfo
    from unmask.answers.ask_files import FilesSay
    from unmask.answers.certificates import Certificate
    from unmask.answers.file_says import FileSays
    from unmask.answers.html_report import Source
    from unmask.answers.index_page import Entry
    from unmask.answers.signatures import SigningKey
    from unmask.models.predict import Predictor

FAKE, UNANSWERED, TERMINATED = 3, 4, 143
_ENDINGS: "Mapping[str, Form]" = {".jsonl": "json", ".ndjson": "json", ".csv": "csv"}
PASSPHRASE = "UNMASK_SIGN_PASSPHRASE"  # noqa: S105  # the variable's name
_WIDEST_NAME = 60  # beyond it columns are not kept

_NOT_CALIBRATED = (
    "No verdict, as the model is not calibrated: `unmask calibrate GENUINE...`, with genuine "
    "videos of the kind that you ask about, changes that."
)
_EXIT_CODES = f"""
\b
Exit codes:
    0  every video was answered: all are real
    1  an error: no such model, nothing to answer, a full disk ...
    2  a mistyped command
    {FAKE}  at least one video is fake
    {UNANSWERED}  none is fake, but at least one is inconclusive or without an answer
  {INTERRUPTED}, {TERMINATED}  interrupted, terminated; with --out the same command goes on
"""


@dataclass(frozen=True)
class _Request:
    """What is to be answered, by what, and what is made besides."""

    videos: tuple[Path, ...]
    model_dir: Path
    model_source: str | None  # of a model of the Hub
    pages: Mapping[Path, Path]  # video -> report
    clips: Mapping[Path, Path]  # video -> annotated video
    signing_key: "SigningKey | None"  # what reports are signed with
    browser: Path | None  # that prints reports
    certificate: "Certificate | None"  # what annotated videos are signed with
    asks_files: bool  # what they say of themselves
    trusted_pem: str | None  # whose signatures in files are trusted
    workers: int


@click.command(epilog=_EXIT_CODES)
@click.argument("paths", nargs=-1)
@click.option(
    "--stills", is_flag=True, help="Take still pictures in folders, too (.jpg, .png ...)."
)
@click.option("--from-stdin", is_flag=True, help="Read a list of paths from stdin, as for `-`.")
@with_model
@with_rev
@click.option("--json", "form", flag_value="json", help="One JSON object a line, with every face.")
@click.option("--csv", "form", flag_value="csv", help="One row a video.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE",
    help="Write JSON or CSV to FILE (.jsonl, .csv) and lines for people to stdout. What FILE "
    "holds already is not scored again.",
)  # fmt: skip
@click.option("--again", is_flag=True, help="Begin --out's FILE anew.")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE|FOLDER",
    help="Write a page on the video to FILE.html, or on each into FOLDER.",
)  # fmt: skip
@click.option(
    "--pdf", is_flag=True,
    help="Print each report to a PDF beside it, by Chromium or Chrome, if one is installed.",
)  # fmt: skip
@click.option(
    "--sign", type=click.Path(path_type=Path), metavar="KEY",
    help="Sign each report, in REPORT.minisig, with an Ed25519 key in PEM. The passphrase of an "
    f"encrypted key is in {PASSPHRASE}.",
)  # fmt: skip
@click.option(
    "--trust", type=click.Path(path_type=Path), metavar="PEM",
    help="Certificates that signers of content credentials (C2PA) are trusted by: for --json and "
    "--report.",
)  # fmt: skip
@click.option(
    "--annotate", type=click.Path(path_type=Path), metavar="FILE|FOLDER",
    help="Write the video with boxes and scores to FILE.mp4, or each into FOLDER; of a still "
    "picture, FILE.png.",
)  # fmt: skip
@marking.with_certificate("what --annotate writes")
@click.option(
    "--index", type=click.Path(path_type=Path), metavar="FILE",
    help="List all videos with thumbnails on a page, FILE.html, with links to --report's pages.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one a core by default.")
def predict(
    paths: tuple[str, ...],
    stills: bool,
    from_stdin: bool,
    model: str | None,
    rev: str | None,
    form: "Form | None",
    out: Path | None,
    again: bool,
    report: Path | None,
    pdf: bool,
    sign: Path | None,
    trust: Path | None,
    annotate: Path | None,
    certificate: Path | None,
    certificate_key: Path | None,
    index: Path | None,
    workers: int | None,
) -> None:
    """Say of each video whether it shows a fake face, how likely, when it is worst, or why not.

    PATHS are files, folders (searched for videos), globs in quotes, or `-` for a list on stdin: a
    path a line, or between NULs (find -print0). Write -- before paths that begin with a dash. A
    still picture gets a score, and never a verdict.
    """
    if not paths and not from_stdin:
        raise click.UsageError("Missing PATHS: name files, folders or globs, or - for stdin.")
    if again and not out:
        raise click.UsageError("--again is for --out: name the file to begin anew.")
    if pdf and not report:
        raise click.UsageError("--pdf prints reports: add --report.")
    if sign and not report:
        raise click.UsageError("--sign signs reports: add --report.")
    if (certificate or certificate_key) and not annotate:
        raise click.UsageError("--certificate signs what --annotate writes: add that.")
    asks_files = report is not None or (_form_of(out, form) if out else form) == "json"
    if trust and not asks_files:
        raise click.UsageError("--trust is for what --json and --report say: add one of them.")
    # The main command took it out of the environment.
    passphrase = click.get_current_context().find_root().obj[PASSPHRASE]
    if out:
        form = _form_of(out, form)
    counts: Counter[str] = Counter()
    # Then the faces that were cut out are deleted on the way out, as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        from unmask.answers import answers_file, inputs, model_source, provenance, signatures
        from unmask.cli import common

        common.set_up_logging()
        trusted = _trusted(trust) if trust else None
        key = signatures.read_signing_key(sign, passphrase, PASSPHRASE) if sign else None
        signed_with = marking.read_certificate(certificate, certificate_key)
        names = (*paths, *[inputs.STDIN] * from_stdin)
        listed = sys.stdin.buffer.read() if inputs.STDIN in names else b""
        found = inputs.find_videos(names, listed, stills=stills)
        for folder in found.unread:
            shown = shown_name(str(folder))
            terminal.echo(f"{shown}: this user may not look into this folder", err=True)
        _note_stills(found.videos)
        pages, clips = (
            places.targets(found.videos, report, lambda _: ".html", provenance.is_page),
            places.targets(found.videos, annotate, _annotated_ending, provenance.is_annotated),
        )
        if index:
            places.check_index(index, found.videos, pages)
        browser = _browser(pages.values()) if pdf else None
        if key:
            places.refuse_others(map(signatures.beside, pages.values()), signatures.is_signature)
        cache = common.weights_cache()
        model_dir = model_source.named(model, rev, cache=cache)
        request = _Request(
            found.videos, model_dir, model_source.source_of(model_dir, cache), pages, clips, key,
            browser, signed_with, asks_files, trusted, workers or common.workers(),
        )  # fmt: skip
        is_calibrated, entries = True, []
        for row in _answered(request, out, form, again=again):
            counts[answers_file.outcome(row)] += 1
            # Of a still picture no calibration makes a verdict.
            if Doubt.STILL_PICTURE not in row["doubts"]:
                is_calibrated = is_calibrated and Doubt.NOT_CALIBRATED not in row["doubts"]
            if index:
                entries.append(_entry(row, pages))
        terminal.echo(answers_file.summary(counts), err=True)
        if index:
            _write_index(index, entries, request)
        if key:
            public = key.public
            said = f"Signed by key {public.name}. For minisign -P: {public.minisign_text}"
            terminal.echo(said, err=True)
        if not is_calibrated:
            terminal.echo(_NOT_CALIBRATED, err=True)
    except KeyboardInterrupt:
        kept = f"; what was answered is in {out}, and the same command goes on" if out else ""
        terminal.echo("", err=True)
        terminal.echo(f"Interrupted{kept}.", err=True)
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(
        FAKE if counts["fake"] else UNANSWERED if found.unread or counts.keys() - {"real"} else 0
    )


def _annotated_ending(path: Path) -> str:
    from unmask.video import still

    return ".png" if still.is_still(path) else ".mp4"


def _note_stills(paths: Sequence[Path]) -> None:
    """Say once what to install where there are still pictures, and nothing to decode them."""
    from unmask import extras
    from unmask.video import still

    # With Pillow alone, as the extra train brings it, HEIC is what can't be read: its row says so.
    no_pillow = extras.missing(["stills"]).get("stills") == "PIL"
    if no_pillow and (count := sum(map(still.is_still, paths))):
        terminal.echo(
            f"Still pictures get no score, as Pillow is not installed ({count} here): run "
            "`pip install 'unmask[stills]'`",
            err=True,
        )


def _form_of(out: Path, asked: "Form | None") -> "Form":
    form = _ENDINGS.get(out.suffix.lower(), asked)
    if form is None:
        raise click.UsageError(f"{out} ends in neither .jsonl nor .csv. Add --json or --csv.")
    if asked not in (None, form):
        raise click.UsageError(f"--{asked} clashes with the ending of {out}. Leave one out.")
    return form


# ---------------------------------------------------------------- answers, as they come


def _answered(
    request: _Request, out: Path | None, form: "Form | None", *, again: bool
) -> "Iterator[Row]":
    """Yield the row of each video in order, after it was written and printed."""
    from unmask.answers import answers_file
    from unmask.cli import common

    run_info = _run_info(request)
    names = [shown_name(str(video)) for video in request.videos]
    width = min(max(map(len, names), default=0), _WIDEST_NAME)
    with ExitStack() as stack:
        kept, known = None, {}
        if out and form:
            kept = stack.enter_context(answers_file.open_answers(out, form, run_info, again=again))
            if request.pages or request.clips:  # they show more than a row holds
                kept.forget(request.videos)
            else:
                known = kept.reuse(request.videos)
        elif form == "csv":
            _say(answers_file.csv_header())
        fresh = stack.enter_context(closing(_fresh(request, known.keys(), run_info, kept)))
        rows = _in_order(request.videos, known, fresh)
        if sys.stderr.isatty():
            rows = common.progress(rows, total=len(request.videos), label="predict")
        for row in rows:
            with common.above_bar():
                _show(row, None if out else form, width)
            yield row


def _run_info(request: _Request) -> "RunInfo":
    from unmask.answers.answers_file import RunInfo
    from unmask.models import checkpoint
    from unmask.runtime import digests

    settings = checkpoint.read_settings(request.model_dir)
    return RunInfo(
        digests.model_digest(request.model_dir), version("unmask"), settings.licence,
        request.model_source,
    )  # fmt: skip


def _in_order(
    videos: Sequence[Path], known: "Mapping[Path, Row]", fresh: "Iterator[tuple[Path, Row]]"
) -> "Iterator[Row]":
    ready = dict(known)
    for video in videos:
        while video not in ready:
            path, row = next(fresh)  # several workers answer a short video before a long one
            ready[path] = row
        yield ready.pop(video)


def _show(row: "Row", form: "Form | None", width: int) -> None:
    from unmask.answers import answers_file

    if form == "json":
        _say(answers_file.json_line(row))
    elif form == "csv":
        _say(answers_file.csv_line(row))
    else:
        text = answers_file.human_line(row, width=width) + "\n"
        _say(text.encode(sys.stdout.encoding or "utf-8", "backslashreplace"))


def _say(line: bytes) -> None:
    try:
        terminal.echo_data(line)
    except BrokenPipeError:  # `| head` has seen enough: click ends quietly
        raise
    except OSError as error:
        raise UnmaskError(
            f"Asked to write an answer to stdout; the system said: {error.strerror}. Free space "
            "there, then type the same again."
        ) from error


def _fresh(
    request: _Request, known: Collection[Path], run_info: "RunInfo", kept: "AnswersFile | None"
) -> "Generator[tuple[Path, Row], None, None]":
    """Yield what must be scored with its row, after its page and clip were made and it was kept."""
    videos = [video for video in request.videos if video not in known]
    if not videos:
        return  # no net is loaded
    from unmask.answers import answers_file
    from unmask.answers.analysis import PAGE_MOMENTS, analyse
    from unmask.models.predict import Predictor

    predictor = Predictor.load(request.model_dir)
    source = _source(request, predictor) if request.pages else None
    stamps = {video: answers_file.stamp_of(video) for video in videos}
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder("predict"))
        stack.enter_context(all_in(folder))
        files = _asked(videos, request, stack)
        crops_dir = folder / "crops" if source else None
        answers = analyse(
            predictor, videos, crops_dir=crops_dir, workers=request.workers,
            moments=PAGE_MOMENTS if request.pages or request.clips else None,
        )  # fmt: skip
        with closing(answers):  # type: ignore[type-var]  # it is a generator
            for answer in answers:
                said = files.of(answer.path) if files else None
                if source and crops_dir:
                    out = request.pages[answer.path]
                    page = _write_page(out, answer, predictor, crops_dir, source, said)
                    if request.signing_key:
                        _sign(out, page, request.signing_key)
                    if request.browser:
                        _print(out, request.browser)
                if request.clips:
                    _write_clip(request.clips[answer.path], answer, request.certificate)
                if crops_dir and answer.shown:
                    answer.shown.unlink()
                row = answers_file.to_row(answer, stamps[answer.path], run_info, said)
                if kept:
                    kept.add(row)
                yield answer.path, row


def _trusted(path: Path) -> str:
    from unmask.answers import ask_files

    return ask_files.read_trusted(path)


def _asked(videos: "Sequence[Path]", request: _Request, stack: ExitStack) -> "FilesSay | None":
    """Return whom to ask what videos say of themselves; None where nobody is shown it."""
    if not request.asks_files:
        return None
    from unmask.answers import ask_files

    return stack.enter_context(ask_files.reading(videos, request.trusted_pem))


def _source(request: _Request, predictor: "Predictor") -> "Source":
    from unmask.answers import model_source, provenance
    from unmask.answers.html_report import Source

    beside, root, mlflow_db = model_source.origin(request.model_dir)
    found = provenance.collect(
        # Where the program lies is nobody's business who gets the page.
        root, run_key=predictor.checkpoint.run_key, command=("unmask", *sys.argv[1:]),
        mlflow_db=mlflow_db, beside=beside,
    )  # fmt: skip
    return Source(request.model_dir, beside, found, model_source=request.model_source)


def _write_page(
    out: Path,
    answer: "Answer",
    predictor: "Predictor",
    crops_dir: Path,
    source: "Source",
    said: "FileSays | None",
) -> bytes:
    from unmask.answers import html_report

    page = html_report.write(out, answer, predictor, crops_dir, source, said)
    for face in answer.faces:
        (crops_dir / face.track.file).unlink()
    return page


def _sign(out: Path, page: bytes, key: "SigningKey") -> None:
    from unmask.answers import signatures
    from unmask.runtime.disk import write_atomically

    signature = key.sign(page, name=out.name, time_s=int(time.time()))
    write_atomically(signatures.beside(out), signature)


def _browser(pages: Collection[Path]) -> Path:
    """Return what prints reports, after the places of their prints were checked."""
    from unmask.answers import pdf_report

    browser = pdf_report.find_browser()
    places.refuse_others([page.with_suffix(".pdf") for page in pages], pdf_report.is_print)
    if pdf_report.needs_no_sandbox():
        terminal.echo(f"{browser.name} prints without its sandbox, as you are root", err=True)
    return browser


def _print(page: Path, browser: Path) -> None:
    from unmask.answers import pdf_report

    out = page.with_suffix(".pdf")
    try:
        pdf_report.print_page(page, out, browser)
    except pdf_report.PrintError as error:  # the page is there
        out.unlink(missing_ok=True)  # an earlier run's, which shows another answer
        terminal.echo(f"{out} was not made: {error}", err=True)


def _write_clip(out: Path, answer: "Answer", certificate: "Certificate | None") -> None:
    from unmask.answers import annotate
    from unmask.answers.certificates import CertificateError
    from unmask.video.failures import DecodeError

    if not answer.faces:
        out.unlink(missing_ok=True)  # an earlier run's, which may show a verdict
        terminal.echo(f"{out} was not made: it would show no face", err=True)
        return
    try:
        if certificate:
            annotate.write_signed(out, answer, certificate)
        else:
            for _ in annotate.write(out, answer):
                pass
    except (DecodeError, CertificateError) as error:
        out.unlink(missing_ok=True)
        terminal.echo(f"{out} was not made: {error}", err=True)


def _entry(row: "Row", pages: Mapping[Path, Path]) -> "Entry":
    from unmask.answers.index_page import Entry

    return Entry.of(row, pages.get(Path(row["path"])))


def _write_index(out: Path, entries: "Sequence[Entry]", request: _Request) -> None:
    from unmask.answers import index_page

    index_page.write(
        out, entries, _run_info(request), workers=request.workers,
        made_utc=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
