"""A job's model.tar.gz becomes the model's folder: unpacked with suspicion, checked, swapped in."""

import gzip
import json
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from unmask.errors import MALFORMED, WeightsError
from unmask.models import checkpoint
from unmask.runtime.disk import content_digest, writing
from unmask.sagemaker.contract import DIGESTS, JobError

# All of it, unpacked: a model of X3D-L has 50 MB, a ViT-L 2.4 GB, half of each its portable net.
MAX_BYTES = 3 * 2**30
MAX_FILES = 100
_MAX_HEADERS, _MAX_EXTRA_BYTES = 10 * MAX_FILES, 2**16
_EXTRAS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_BLOCK_BYTES = 2**20


def fetch(s3: Any, address: str, model_dir: Path, *, key: str, most_bytes: int = MAX_BYTES) -> None:
    """Put the model of the archive at an address in S3 in the place of model_dir.

    Raises:
        JobError: it is too large, damaged, hostile, or of another training; then model_dir is as
            it was.
    """
    bucket, _, name = address.removeprefix("s3://").partition("/")
    size_bytes = s3.head_object(Bucket=bucket, Key=name)["ContentLength"]
    if size_bytes > most_bytes:
        raise _refused(address, f"it has {size_bytes:,} bytes, a model at most {most_bytes:,}")
    with _scratch(model_dir) as scratch:
        packed = scratch / "model.tar.gz"
        with writing(packed):
            s3.download_file(bucket, name, str(packed))
        _take_in(packed, model_dir, scratch, address, key=key, most_bytes=most_bytes)


def take_in(packed: Path, model_dir: Path, *, key: str) -> None:
    """Put the model of an archive on this machine in the place of model_dir.

    Raises:
        JobError: as fetch does.
    """
    with _scratch(model_dir) as scratch:
        _take_in(packed, model_dir, scratch, str(packed), key=key, most_bytes=MAX_BYTES)


def _take_in(
    packed: Path, model_dir: Path, scratch: Path, address: str, *, key: str, most_bytes: int
) -> None:
    whole = scratch / "model"
    unpack(packed, whole, address, most_bytes=most_bytes)
    check(whole, address, key=key)
    with writing(model_dir):
        checkpoint.swap(whole, model_dir)


@contextmanager
def _scratch(model_dir: Path) -> Iterator[Path]:
    """Yield a new folder beside the model, on its disk, which is gone afterwards."""
    with writing(model_dir):
        model_dir.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=f".{model_dir.name}.fetched-", dir=model_dir.parent)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made)


def _refused(address: str, found: str) -> JobError:
    return JobError(
        f"Asked for the model in {address}; {found}. Nothing of it is kept. Look who may write to "
        "the bucket, delete the object and submit again: the training goes on from its checkpoint."
    )


def unpack(packed: Path, folder: Path, address: str, *, most_bytes: int = MAX_BYTES) -> None:
    """Fill a new folder with the archive's files, which lie in no folder of their own.

    Raises:
        JobError: it is damaged, too large, or holds anything else, such as links or other paths.
    """
    folder.mkdir()
    flat = folder.with_name("model.tar")  # first, as a header alone can unpack to gigabytes
    try:
        with gzip.open(packed) as source, writing(flat), flat.open("wb") as target:
            if not _copy(source, target, most_bytes):
                raise _refused(address, f"it unpacks to more than {most_bytes:,} bytes")
        _check_headers(flat, address)
        with tarfile.open(flat, "r:") as archive:
            members = _checked(archive, address, most_bytes)
            for member in members:
                with writing(folder):
                    archive.extract(member, folder, filter="data")
    except (OSError, EOFError, zlib.error, tarfile.TarError, *MALFORMED) as error:
        raise _refused(address, f"it is damaged ({error})") from error
    finally:
        flat.unlink(missing_ok=True)


def _copy(source: gzip.GzipFile, target: IO[bytes], most_bytes: int) -> bool:
    left = most_bytes
    while block := source.read(_BLOCK_BYTES):
        left -= len(block)
        if left < 0:
            return False
        target.write(block)
    return True


def _check_headers(flat: Path, address: str) -> None:
    """Pass if tarfile can read the headers of an archive without much memory.

    It keeps an object of every header, and reads as a whole what a header says of the next one: a
    list of a sparse file's holes, which has no end, a long name, a record of pax.

    Raises:
        JobError: they are too many or too large.
        TarError: they are damaged.
    """
    with flat.open("rb") as file:
        for _ in range(_MAX_HEADERS):
            header = file.read(tarfile.BLOCKSIZE)
            if not header.strip(b"\0"):
                return
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            is_extra = info.type in _EXTRAS
            if info.type == tarfile.GNUTYPE_SPARSE or (is_extra and info.size > _MAX_EXTRA_BYTES):
                raise _refused(
                    address, "it holds a sparse file, or a header of a kind no model has"
                )
            if info.isreg() or is_extra or info.type not in tarfile.SUPPORTED_TYPES:
                blocks = -(-max(info.size, 0) // tarfile.BLOCKSIZE)
                file.seek(blocks * tarfile.BLOCKSIZE, os.SEEK_CUR)
    raise _refused(address, f"it holds more than {_MAX_HEADERS} headers")


def _checked(archive: tarfile.TarFile, address: str, most_bytes: int) -> list[tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    left = most_bytes
    for member in archive:
        path = PurePosixPath(member.name)
        if member.isdir() and not path.parts:
            continue  # "./", the folder itself
        if "size" in member.pax_headers:  # the next header is elsewhere than _check_headers thought
            raise _refused(address, f"a record of pax gives {member.name!r} another size")
        if len(path.parts) != 1 or path.name == ".." or path.is_absolute() or not member.isreg():
            raise _refused(address, f"it holds {member.name!r}, which is no plain file at its top")
        left -= member.size
        if left < 0 or len(found) == MAX_FILES or path.name in found:
            raise _refused(address, f"it holds too much: {member.name!r} is large, or one too many")
        found[path.name] = member
    return list(found.values())


def check(folder: Path, address: str, *, key: str) -> None:
    """Take the digests out of a model's folder, after checking that each file has its own.

    Raises:
        JobError: a file is missing, added or changed, or the model is of another training.
    """
    try:
        wanted = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        (folder / DIGESTS).unlink()
    except (OSError, *MALFORMED) as error:
        raise _refused(address, f"its {DIGESTS} can't be read ({error})") from error
    found = {path.name: content_digest(path) for path in folder.iterdir()}
    if not isinstance(wanted, dict) or set(wanted) != set(found):
        raise _refused(address, f"it holds {', '.join(sorted(found))}, its {DIGESTS} names others")
    if odd := sorted(name for name in found if found[name] != wanted[name]):
        raise _refused(address, f"{', '.join(odd)} is not what the job wrote")
    try:
        made = checkpoint.read_settings(folder).run_key
    except WeightsError as error:
        raise _refused(address, f"its settings can't be read ({error})") from error
    if made != key:
        raise _refused(address, f"it is of the training {made[:12]}, not of {key[:12]}")
