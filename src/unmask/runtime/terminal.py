"""How commands speak: what comes from files and strangers draws nothing on the terminal.

All that a command prints for people passes here, results and errors alike, and so do log lines and
the tracebacks of crashes: see plain_text for what is written out.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import click

from unmask.runtime.plain_text import shown_message, shown_text


def echo(text: str, *, err: bool = False) -> None:
    """Print a message for people to stdout or stderr; no name in it begins a line of its own."""
    click.echo(shown_message(text), err=err)


def echo_table(text: str) -> None:
    """Print lines to stdout. A table's maker writes out the ends of lines in its cells."""
    click.echo(shown_text(text))


def echo_data(content: bytes) -> None:
    """Print a row for programs, byte for byte; on a terminal, where people read it, as text."""
    if sys.stdout.isatty():
        content = shown_text(content.decode("utf-8", "surrogateescape")).encode()
    click.echo(content, nl=False)


class Formatter(logging.Formatter):
    """Log lines that stay lines: only a traceback below them has several."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        return shown_text(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without the traceback."""
        return shown_message(super().formatMessage(record))


@contextmanager
def plain_errors() -> Iterator[None]:
    """Let click print errors whose names can't draw: it shows a message as it is."""
    try:
        yield
    except click.ClickException as error:
        error.message = shown_message(error.message)  # type: ignore[misc]  # no other way in
        raise


def show_crashes() -> None:
    """Print the traceback of a crash as text: an error's message may hold a stranger's."""
    sys.excepthook = _print_traceback


def _print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    lines = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(shown_text(lines))
