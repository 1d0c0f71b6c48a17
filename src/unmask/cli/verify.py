"""`unmask verify`. Heavy imports stand inside it."""

import sys
from pathlib import Path

import click

from unmask.cli.command_group import with_rev
from unmask.runtime import terminal

_VERIFY_CODES = """
\b
Exit codes:
    0  all that was compared matches
    1  an error: no report of this version, an unreadable file ...
    2  a mistyped command
    3  the report was changed after it was written
    4  the video is another one
    5  the model is another one
    6  the video's score or verdict is another one
    7  the signature is not of this report by that key
    8  the video's content credentials are not those that the report tells of
"""


@click.command(epilog=_VERIFY_CODES)
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("video", required=False, type=click.Path(path_type=Path))
@click.option(
    "--model", help="The model to compare: a folder, one of MLflow's or the Hub's, as in predict."
)
@with_rev
@click.option("--score", is_flag=True, help="Score the video again, by that model, too.")
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="PUBLIC",
    help="Check the signature in REPORT.minisig with its author's public key: PEM, or minisign's.",
)  # fmt: skip
@click.option(
    "--trust", type=click.Path(path_type=Path), metavar="PEM",
    help="Certificates that signers of the video's content credentials (C2PA) are trusted by.",
)  # fmt: skip
def verify(
    report: Path,
    video: Path | None,
    model: str | None,
    rev: str | None,
    score: bool,
    key: Path | None,
    trust: Path | None,
) -> None:
    """Say whether REPORT, VIDEO and a model belong together, by the digests in the report.

    They show what was mixed up or changed in transit. Whoever forges a report can write new ones
    into it: who made it is shown by a signature alone, with --key.
    """
    if trust and not video:
        raise click.UsageError("--trust is for the credentials of a video: add VIDEO.")
    if score and not (video and (model or rev)):
        raise click.UsageError("--score is of a video by a model: add VIDEO and --model.")
    from unmask.answers import ask_files, model_source
    from unmask.answers.signatures import read_public_key
    from unmask.cli import common

    common.set_up_logging()
    public_key = read_public_key(key) if key else None
    trusted = ask_files.read_trusted(trust) if trust else None
    folder = None
    if model or rev:
        folder = model_source.named(model, rev, cache=common.weights_cache())
    from unmask.answers import verify as verification
    from unmask.models.predict import Predictor

    if score and video and folder:
        predictor = Predictor.load(folder)
        found = verification.check_again(
            report, video, folder, predictor, key=public_key, trusted_pem=trusted
        )
    else:
        found = verification.check(report, video, folder, key=public_key, trusted_pem=trusted)
    words = {True: "matches", False: "DIFFERS", None: "not compared"}
    for check in found.checks:
        terminal.echo(f"{check.part:<11} {words[check.matches]:<13} {check.detail}")
    sys.exit(found.exit_code)
