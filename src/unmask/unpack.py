"""A zipped chunk becomes a folder: every member is checked before the first byte is written."""

import logging
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path

from unmask.datasets import MAX_NAME_BYTES, METADATA, first_few, read_metadata, shorten
from unmask.errors import DatasetError

MAX_MEMBERS = 100_000
MAX_UNPACKED_BYTES = 2**40
MAX_RATIO = 200  # video hardly shrinks; deflate's limit, 1032, is where zip bombs live
RATIO_FREE_BYTES = 2**20  # a small file may shrink by any ratio: a metadata.json does

log = logging.getLogger(__name__)


def unpack_chunk(zip_path: Path, folder: Path) -> None:
    """Unpack a zipped chunk into a new folder: all of it, or nothing.

    The chunk lies at the top of the zip or in the one folder there. Only regular files are
    written, and nothing outside the folder.

    Raises:
        DatasetError: the folder exists, the file is no zip, a member is one that a chunk never
            has, there is no room, or the metadata is not what the layout promises.
    """
    if folder.exists() or folder.is_symlink():
        raise DatasetError(f"Asked to unpack {zip_path} into {folder}; it exists. Remove it first.")
    if not zip_path.is_file():
        raise DatasetError(f"Asked to unpack {zip_path}; there is no such file. Mend the path.")
    try:
        archive = zipfile.ZipFile(zip_path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeError) as error:
        raise DatasetError(
            f"Asked to unpack {zip_path}; it is not a whole zip: {error}. Take a fresh copy."
        ) from error
    with archive:
        members = _checked_members(archive, zip_path)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _check_room(sum(member.file_size for member in members.values()), zip_path, folder.parent)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            # A folder of its own inside, because the temporary one is for its owner's eyes only.
            chunk = Path(scratch, "chunk")
            _unpack(archive, members[METADATA], chunk / METADATA, zip_path)
            read_metadata(chunk / METADATA, f"{METADATA} of {zip_path}")
            for name in sorted(members.keys() - {METADATA}):
                _unpack(archive, members[name], chunk / name, zip_path)
            chunk.rename(folder)
    log.info("%s: %d files unpacked into %s", zip_path, len(members), folder)


def _checked_members(archive: zipfile.ZipFile, zip_path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files of a zip by their paths below the chunk, once none gives offence."""
    members, size = archive.infolist(), zip_path.stat().st_size
    offences = [
        f"{shorten(member.orig_filename)} {offence}"
        for member in members if (offence := _offence(member, size))
    ]  # fmt: skip
    files = [member for member in members if not _is_folder(member)]
    names = [_parts(member) for member in files]
    # A folder of the same name as a file is as bad as a second file of that name.
    folders = {name[:depth] for name in names for depth in range(1, len(name))}
    counts = Counter(names)
    offences += [
        f"{shorten('/'.join(name))} is there twice"
        for name, count in counts.items() if count > 1 or name in folders
    ]  # fmt: skip
    unpacked = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS:
        offences.insert(0, f"{len(members):,} members are more than {MAX_MEMBERS:,}")
    if unpacked > MAX_UNPACKED_BYTES:
        offences.insert(0, f"{unpacked:,} bytes unpacked are more than {MAX_UNPACKED_BYTES:,}")
    # Members that share their bytes: Fifield, A better zip bomb, WOOT 2019.
    if sum(member.compress_size for member in members) > size:
        offences.insert(0, "members overlap: together they claim more bytes than the file has")
    if offences:
        raise DatasetError(
            f"Asked to unpack {zip_path}; found what no chunk has: {first_few(offences, '; ')}. "
            "Nothing was written. Ask whoever made it for a plain zip of the folder."
        )
    tops = {name[0] for name in names} - {"__MACOSX"}
    top = (*tops,) if len(tops) == 1 and (METADATA,) not in names else ()
    chunk = {
        "/".join(name[len(top) :]): member
        for name, member in zip(names, files, strict=True) if name[0] != "__MACOSX"
    }  # fmt: skip
    if METADATA not in chunk:
        raise DatasetError(
            f"Asked to unpack {zip_path}; there is no {METADATA} at its top or in the one folder "
            "there. A chunk is a folder of mp4 files with DFDC's metadata.json."
        )
    return chunk


def _parts(member: zipfile.ZipInfo) -> tuple[str, ...]:
    return tuple(part for part in member.filename.split("/") if part not in ("", "."))


def _is_folder(member: zipfile.ZipInfo) -> bool:
    return member.filename.endswith("/")  # is_dir() stumbles over an empty name


def _offence(member: zipfile.ZipInfo, zip_size: int) -> str | None:
    name = member.orig_filename  # filename ends at a NUL
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where no Unix made the zip
    if name.startswith("/") or "\\" in name or name[1:2] == ":":
        return "is an absolute path or has backslashes"
    if ".." in name.split("/"):
        return "leaves the folder"
    if not _parts(member) and not _is_folder(member):
        return "has no name"
    if not name.isprintable():
        return "holds characters that do not print"
    if len(name.encode()) > 2 * MAX_NAME_BYTES or any(
        len(part.encode()) > MAX_NAME_BYTES for part in _parts(member)
    ):
        return "is too long a name"
    if kind not in (0, stat.S_IFDIR if _is_folder(member) else stat.S_IFREG):
        return "is a link, a device or another special file"
    if _is_folder(member) and member.file_size:
        return "is a folder with content"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if not 0 <= member.header_offset < zip_size:
        return "lies outside the file"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed by another method than deflate"
    if member.file_size > max(RATIO_FREE_BYTES, MAX_RATIO * member.compress_size):
        return f"grows more than {MAX_RATIO} times"
    return None


def _check_room(needed: int, zip_path: Path, where: Path) -> None:
    free = shutil.disk_usage(where).free
    if needed > free:
        raise DatasetError(
            f"Asked to unpack {zip_path}; it needs {needed:,} bytes and {where} has {free:,} "
            "free. Make room."
        )


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, zip_path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(member) as packed, path.open("xb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 2**20)
            size = unpacked.tell()
    except FileExistsError as error:
        # Here only where a file system takes A.mp4 and a.mp4 for one.
        raise DatasetError(
            f"Asked to unpack {zip_path}; {shorten(member.filename)} is there twice to this file "
            "system. Unpack it on another."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError) as error:
        raise DatasetError(
            f"Asked to unpack {zip_path}; {shorten(member.filename)} is damaged: {error}. "
            "Take a fresh copy."
        ) from error
    if size != member.file_size:
        raise DatasetError(
            f"Asked to unpack {zip_path}; {shorten(member.filename)} should have "
            f"{member.file_size:,} bytes and has {size:,}. Take a fresh copy."
        )
