"""The options by which what is written here is signed with a user's certificate."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from unmask.answers.certificates import Certificate

PASSPHRASE = "UNMASK_CERTIFICATE_PASSPHRASE"  # noqa: S105  # the variable's name

Command = TypeVar("Command", bound=Callable[..., Any])


def with_certificate(what: str) -> Callable[[Command], Command]:
    """Return a decorator that adds --certificate and --certificate-key to a command."""

    def add(command: Command) -> Command:
        command = click.option(
            "--certificate-key", type=click.Path(path_type=Path), metavar="KEY",
            help=f"The certificate's private key. The passphrase of an encrypted one is in "
            f"{PASSPHRASE}.",
        )(command)  # fmt: skip
        return click.option(
            "--certificate", type=click.Path(path_type=Path), metavar="CHAIN",
            help=f"Sign {what} by C2PA with this certificate, in PEM, and those that it leads to.",
        )(command)  # fmt: skip

    return add


def read_certificate(certificate: Path | None, key: Path | None) -> "Certificate | None":
    """Return what to sign with, after it has signed on trial; None where no option was given.

    Raises:
        UsageError: one option without the other.
        CertificateError: nothing can be signed with them.
        MissingExtraError: a library is not installed.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise click.UsageError("--certificate and --certificate-key belong together.")
    from unmask.answers import certificates, content_marks

    passphrase = click.get_current_context().find_root().obj[PASSPHRASE]
    found = certificates.read_certificate(certificate, key, passphrase, PASSPHRASE)
    content_marks.check_certificate(found)
    return found
