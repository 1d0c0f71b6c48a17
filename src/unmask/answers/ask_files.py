"""Asks files what they say of themselves, in a confined process, whose words are checked."""

from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from unmask.answers.credentials import Reader
from unmask.answers.file_says import MOST, Credentials, FileSays, State, short
from unmask.errors import UnmaskError
from unmask.runtime.confinement import GIB, Confinement
from unmask.runtime.disk import read_regular
from unmask.runtime.processes import run_jobs
from unmask.video import still
from unmask.video.failures import DecodeError
from unmask.video.tags import read_tags

_MOST_TRUSTED_BYTES = 2**22  # all anchors that are published have some hundred kB
_MEMORY_BYTES = 2 * GIB
_STALL_S = 30.0  # without a byte read
_UNREADABLE = Credentials(state=State.UNREADABLE)


def read_trusted(path: Path) -> str:
    """Return certificates in PEM that a user trusts.

    Raises:
        UnmaskError: the file can't be read, or holds no certificate.
    """
    try:
        content = read_regular(path, _MOST_TRUSTED_BYTES)
    except OSError as error:
        found = f"that it can't be read ({error.strerror})"
    else:
        if b"-----BEGIN CERTIFICATE-----" in content and content.isascii():
            return content.decode("ascii")
        found = "none"
    raise UnmaskError(
        f"{path}: asked for certificates to trust (--trust), found {found}. Write them into it in "
        "PEM, one after another."
    )


def read_here(path: Path, trusted_pem: str | None = None) -> FileSays:
    """Return what a file says of itself, read in this process, which should be a confined one."""
    try:
        credentials = Reader(trusted_pem).read(path) if path.is_file() else _UNREADABLE
        tags = _tags_of_still(path) if still.is_still(path) else read_tags(path)
    except OSError as error:
        return FileSays(credentials=Credentials(state=State.UNREADABLE, detail=short(error)))
    except DecodeError:  # the answer says why
        tags = {}
    return FileSays(
        credentials=credentials,
        container={name: short(value) for name, value in list(tags.items())[:MOST]},
    )


def _tags_of_still(path: Path) -> dict[str, str]:
    """Return a picture's tags; none of one with more pixels than Pillow opens.

    Raises:
        DecodeError: as still.read_tags.
    """
    try:
        return still.read_tags(path)
    except Exception as error:
        # Told by its name, as video.still alone imports Pillow; it is a child of no other class.
        if type(error).__name__ != "DecompressionBombError":
            raise
        return {}  # a header of some bytes is enough for it; the answer says why


# ---------------------------------------------------------------- in a confined process


@dataclass(frozen=True)
class _Job:
    path: Path
    trusted_pem: str | None


class FilesSay:
    """Asks a worker process of each of some files, in the order of the answers to them."""

    def __init__(self, found: Generator[tuple[Path, str]]) -> None:
        self._found = found
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> FileSays:
        """Return what a file says; each is asked for once."""
        while path not in self._known:
            other, said = next(self._found)
            self._known[other] = said
        return checked(self._known.pop(path))


@contextmanager
def reading(paths: Sequence[Path], trusted_pem: str | None) -> Generator[FilesSay]:
    """Have one worker process read files as they are asked for, until the block ends."""
    with closing(_read_all(paths, trusted_pem)) as found:
        yield FilesSay(found)


def _read_all(paths: Sequence[Path], trusted_pem: str | None) -> Generator[tuple[Path, str]]:
    jobs = [_Job(path, trusted_pem) for path in paths]
    results = run_jobs(
        jobs, _read, _start, 1,
        crashed=partial(_failed, why="The process that read them crashed."),
        exhausted=partial(_failed, why="They take more memory than they may."),
        stalled=partial(_failed, why=f"Nothing was read for {_STALL_S:g} s."),
        stall_s=_STALL_S, confined=Confinement(memory_bytes=_MEMORY_BYTES),
    )  # fmt: skip
    assert isinstance(results, Generator)
    with closing(results):
        yield from zip(paths, results, strict=False)  # one worker: in order


def _read(job: _Job) -> str:
    return read_here(job.path, job.trusted_pem).model_dump_json()


def _start() -> None:
    """Begin a worker: what it needs is imported with this module."""


def _failed(_: _Job, *, why: str) -> str:
    return unreadable(why).model_dump_json()


def unreadable(why: str) -> FileSays:
    """Return what is known of a file that could not be read."""
    return FileSays(credentials=Credentials(state=State.UNREADABLE, detail=why))


def checked(said: object) -> FileSays:
    """Return what a worker sent, if it is of the form that it should have."""
    try:
        return FileSays.model_validate_json(said if isinstance(said, str) else "")
    except ValidationError:
        return unreadable("What was read of them is malformed.")
