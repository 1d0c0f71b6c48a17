"""`unmask serve`. Heavy imports stand inside it."""

import logging
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unmask.cli.command_group import INTERRUPTED, with_model, with_rev
from unmask.errors import UnmaskError
from unmask.runtime import json_log, terminal
from unmask.runtime.json_log import FIELDS
from unmask.runtime.scratch import all_in, private_folder

if TYPE_CHECKING:
    from unmask.serve.allowed_folder import AllowedFolder
    from unmask.serve.queue import Limits

_log = logging.getLogger(__name__)


@click.command()
@with_model
@with_rev
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=7860, show_default=True,
    help="Where to listen; 0 takes a free one.",
)  # fmt: skip
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Videos answered at once; each takes a model's memory.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Videos that may wait besides.",
)
@click.option(
    "--max-mb",
    type=click.FloatRange(min=0, min_open=True),
    default=200,
    show_default=True,
    help="Size of a file, in millions of bytes.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    help="Seconds that a video may last, as its file declares.",
)
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    help="Seconds for an answer, from when its turn comes.",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file with the password to ask for; without it there is none.",
)
@click.option(
    "--upload-s",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    help="Seconds for an upload.",
)
@click.option(
    "--each",
    type=click.IntRange(min=1),
    help="Videos that one address may have here at once; by default half of all places, or all of "
    "them where only this machine is served.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME[:PORT]",
    help="A name by which browsers reach this server, besides --host; more than once for several.",
)
@click.option(
    "--root-path",
    default="",
    metavar="PATH",
    help="A path before all addresses, where a proxy leaves it there: /unmask.",
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="ADDRESS",
    help="A proxy's address or network, whose X-Forwarded-For, -Host and -Prefix are believed.",
)
@click.option(
    "--files",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Whoever asks may name files in it, instead of sending them.",
)
@click.option(
    "--log",
    "log_form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How stderr is written; json: an object a line, with one for each request and answer.",
)
@click.option(
    "--log-names",
    is_flag=True,
    help="Have names of files and addresses of clients in these lines.",
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    metavar="PEM",
    help="Certificates that signers of content credentials (C2PA) are trusted by.",
)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Keep each video and its answer there; else nothing is kept.")  # fmt: skip
def serve(
    model: str | None,
    rev: str | None,
    host: str,
    port: int,
    jobs: int,
    queue: int,
    max_mb: float,
    max_seconds: float,
    timeout_s: float,
    password_file: Path | None,
    upload_s: float,
    each: int | None,
    allowed_hosts: tuple[str, ...],
    root_path: str,
    trusted_proxies: tuple[str, ...],
    files: Path | None,
    log_form: str,
    log_names: bool,
    trust: Path | None,
    keep: Path | None,
) -> None:
    """Answer videos on a web page, and for programs: POST /api/predict, POST /api/report.

    It asks nothing of the internet. Ctrl-C ends it.
    """
    from unmask.serve.queue import Limits
    from unmask.serve.request_filter import LOOPBACK

    if log_names and log_form != "json":
        raise click.UsageError("--log-names is for what --log json writes: add that.")
    set_up_logging = _log_as_json if log_form == "json" else _log_as_text
    set_up_logging()
    with _telling_errors(as_json=log_form == "json"):
        asked = _Asked(
            host, port, _read_password(password_file), keep, _check_root_path(root_path),
            _check_names(allowed_hosts), _check_proxies(trusted_proxies), upload_s,
            _read_trusted(trust), _allow(files), set_up_logging, log_form == "json", log_names,
        )  # fmt: skip
        is_local = host in LOOPBACK
        if not is_local and asked.password is None:
            asked.warn(
                f"Warning: whoever reaches {host} may use this server, and there is no password. "
                "Set one by --password-file, and put a proxy with TLS before it."
            )
        if each is None and not (is_local and not trusted_proxies):
            each = -(-(queue + jobs) // 2)
        limits = Limits(round(max_mb * 1e6), max_seconds, timeout_s, queue, jobs, each)
        # Then what is under way is stopped and deleted on the way out.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            with private_folder("serve") as folder, all_in(folder):
                _serve(folder, model, rev, limits, asked)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        finally:
            signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class _Asked:
    """The options that were given, checked."""

    host: str
    port: int
    password: str | None
    keep: Path | None
    root_path: str
    allowed_hosts: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    upload_s: float
    trusted_pem: str | None
    files: "AllowedFolder | None"
    set_up_logging: Callable[[], None]
    logs_json: bool
    logs_names: bool

    def warn(self, words: str) -> None:
        """Tell whoever runs the server something, on stderr."""
        if self.logs_json:
            _log.warning("%s", words)
        else:
            terminal.echo(words, err=True)

    def say_address(self, address: str) -> None:
        """Tell where the server listens: on stdout, or in the log where that is JSON."""
        if self.logs_json:
            _log.info("listening", extra={FIELDS: {"event": "listening", "url": address}})
        else:
            terminal.echo(address)


def _log_as_text() -> None:
    from unmask.cli import common

    common.set_up_logging()


def _log_as_json() -> None:
    _log_as_text()
    json_log.install()


@contextmanager
def _telling_errors(*, as_json: bool) -> Iterator[None]:
    """Log what ends the server, where the log is JSON; else the command's group prints it."""
    try:
        yield
    except UnmaskError as error:
        if not as_json:
            raise
        _log.error("%s", error)
        sys.exit(1)


@contextmanager
def _without_internet(folder: Path) -> Iterator[None]:
    """Have Gradio ask nothing elsewhere, and put its files into the folder."""
    from unmask.hub.refusals import stay_offline
    from unmask.tracking.tracker import environment

    # Gradio reads these where it is imported, and its folder for files whenever it needs one.
    variables = {
        "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1",
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "HF_TOKEN": "",  # the model is here; what decodes strangers' videos inherits no token
    }  # fmt: skip
    stay_offline()  # where the model came from the Hub, its client is imported already
    with environment(variables):
        yield


def _serve(
    folder: Path, model: str | None, rev: str | None, limits: "Limits", asked: _Asked
) -> None:
    from unmask.answers import model_source
    from unmask.cli import common
    from unmask.serve.inference import Settings
    from unmask.serve.intake import Pace
    from unmask.serve.queue import JobQueue

    with _listen(asked.host, asked.port) as listening:
        cache = common.weights_cache()
        model_dir = model_source.named(model, rev, cache=cache)
        beside, root, mlflow_db = model_source.origin(model_dir)
        threads = max(1, common.workers() // limits.jobs)  # each process has its share of the cores
        settings = Settings(
            model_dir, beside, mlflow_db, ("unmask", "serve"), root, threads,
            model_source.source_of(model_dir, cache),
        )  # fmt: skip
        queue = JobQueue(
            folder, limits, settings, asked.set_up_logging, trusted_pem=asked.trusted_pem
        )
        with _without_internet(folder), closing(queue) as job_queue:
            job_queue.open()
            with _signals_wait():
                from unmask.serve import app, bare

                app.load_page()  # seconds, in which the model is loaded
            job_queue.await_model()
            shown = f"[{asked.host}]" if ":" in asked.host else asked.host
            asked.say_address(f"http://{shown}:{listening.getsockname()[1]}")
            if not app.has_page():
                asked.warn(f"The API alone is served. {bare.HOW}")
            rules = app.Rules(
                asked.host, asked.password, asked.keep, asked.allowed_hosts, asked.root_path,
                asked.trusted_proxies, Pace(whole_s=asked.upload_s),
                files=asked.files, logs_requests=asked.logs_json, logs_names=asked.logs_names,
            )  # fmt: skip
            app.run(listening, job_queue, rules)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back: what raises amid Gradio's imports may be lost there."""
    held: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: held.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    for number in held:
        signal.raise_signal(number)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        raise UnmaskError(
            f"Asked to listen on {host}, port {port}; the system said: "
            f"{str(error.strerror).partition(' (')[0]}. Choose another --port or --host, or end "
            "what listens there."
        ) from error


def _check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d{1,5})?", name, re.ASCII):
            raise UnmaskError(
                f"Asked to be reached as {name!r} (--allowed-host); that is no name of a host. "
                "Write it as browsers do between // and the next slash: unmask.example.org."
            )
    return names


def _check_root_path(path: str) -> str:
    path = path.rstrip("/")
    if path and not re.fullmatch(r"(/(?!\.+(/|$))[\w.~-]{1,64}){1,8}", path, re.ASCII):
        raise UnmaskError(
            f"Asked to serve below {path!r} (--root-path); that is no path. Write it as /unmask; "
            "the name of the host goes into --allowed-host."
        )
    return path


def _check_proxies(addresses: tuple[str, ...]) -> tuple[str, ...]:
    for address in addresses:
        try:
            ip_network(address)
        except ValueError as error:
            raise UnmaskError(
                f"Asked to trust the proxy {address!r}; that is no address or network. Write "
                "10.0.0.7 or 10.0.0.0/24."
            ) from error
    return addresses


def _read_trusted(path: Path | None) -> str | None:
    from unmask.answers.ask_files import read_trusted

    return None if path is None else read_trusted(path)


def _allow(folder: Path | None) -> "AllowedFolder | None":
    from unmask.serve.allowed_folder import AllowedFolder

    return None if folder is None else AllowedFolder(folder)


def _read_password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UnmaskError(
            f"Asked for the password in {path}; it holds no text ({error.reason}). Write a line in "
            "UTF-8."
        ) from error
    if not lines or not lines[0]:
        raise UnmaskError(f"Asked for the password in {path}; its first line is empty. Write one.")
    return lines[0]
