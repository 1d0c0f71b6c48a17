"""The files of a chunk, a folder or a zip: listed, read, and taken out one by one.

A zip is never unpacked as a whole. What it says of its members is checked before any is read,
and its own names are never used as paths: the caller says where a video goes.
"""

import errno
import filecmp
import hashlib
import logging
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import DatasetError
from unmask.runtime.disk import content_digest, writing

# What lies at the top of a chunk of each layout. A single folder there that is none of these is
# only a wrapping, and taken off.
LAYOUTS = {
    "DFDC": ("metadata.json",),
    "DFDC test set": ("labels.csv",),
    "FaceForensics++": ("original_sequences/", "manipulated_sequences/"),
    "DeepFakeDetection": (
        "DFD_original_sequences/", "DFD_original sequences/", "DFD_manipulated_sequences/",
    ),
    "Celeb-DF": ("Celeb-real/", "YouTube-real/", "Celeb-synthesis/"),
    "DeeperForensics-1.0": ("manipulated_videos/", "source_videos/", "target_videos/"),
    "FakeAVCeleb": (
        "meta_data.csv", "RealVideo-RealAudio/", "RealVideo-FakeAudio/", "FakeVideo-RealAudio/",
        "FakeVideo-FakeAudio/",
    ),
    "WildDeepfake": ("real_train/", "real_test/", "fake_train/", "fake_test/"),
    "DF-TIMIT": (
        "lower_quality/", "higher_quality/", "DeepfakeTIMIT/", "VidTIMIT/", "vidtimit/",
    ),
    "Deepfake-Eval-2024": (
        "video-metadata-publish.csv", "video-metadata-publish-with-links.csv", "video-data/",
    ),
    "DeepfakeBench": (
        "FaceForensics++.json", "FF-DF.json", "FF-F2F.json", "FF-FS.json", "FF-NT.json",
        "FaceShifter.json", "DeepFakeDetection.json", "Celeb-DF-v1.json", "Celeb-DF-v2.json",
        "DFDCP.json", "DFDC.json", "DeeperForensics-1.0.json", "UADFV.json",
    ),
    "manifest": ("manifest.csv", "manifest.jsonl"),
    "folders": ("real/", "fake/"),
}  # fmt: skip
# A layout that is recognised although another one's marks lie there too: as its list is the more
# telling one, or the other's files are a part of it.
PREFERRED = {
    "DeepfakeBench": set(LAYOUTS) - {"manifest"},
    "DFDC test set": {"DFDC"},
    "DeeperForensics-1.0": {"FaceForensics++"},
}

# What a folder is searched for.
VIDEO_ENDINGS = {
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".mxf", ".ogv", ".ts", ".webm", ".wmv",
}  # fmt: skip

# What folders of frames hold.
PICTURE_ENDINGS = {".png", ".jpg", ".jpeg"}

MAX_FILES = 200_000  # all of DFDC has 124,000 videos
MAX_PICTURES = 2_000_000  # in a folder; WildDeepfake has 1,180,000
MAX_UNPACKED_BYTES = 2**40
MAX_RATIO = 200  # video hardly shrinks; deflate's limit, 1032, is where zip bombs live
RATIO_FREE_BYTES = 2**20  # a small file may shrink by any ratio: a metadata.json does
MAX_NAME_BYTES = 200  # file systems take 255; crops and partial files add to a name
MAX_PATH_BYTES = 2 * MAX_NAME_BYTES
LOCAL_HEADER_BYTES = 30
DIRECTORY_BYTES_PER_FILE = 256  # what a zip says of a member: 46 bytes, its name, some extras
MAX_NAMED = 5  # offenders that one message names

# What os.link says where a file system, or the owner of the file, allows no hard link.
NO_HARD_LINK = {
    errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP,
    errno.ENOSYS,
}  # fmt: skip

# What zipfile raises where a zip or a member is damaged.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, struct.error)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChunkFiles(ABC):
    """The regular files of a chunk that show, by their paths with "/" below its top.

    In a folder a link to such a file is one too. Devices, pipes and sockets are none, and never
    opened.
    """

    where: str  # what messages call the chunk
    sizes: Mapping[str, int]  # bytes of each file, in the order of the paths

    def read_bytes(self, path: str, most_bytes: int) -> bytes:
        """Return the content of one file.

        Raises:
            DatasetError: it has more than most_bytes, or is damaged.
        """
        if self.sizes[path] > most_bytes:
            raise DatasetError(
                f"Asked for {path} of {self.where}; it has {self.sizes[path]:,} bytes, more than "
                f"{most_bytes:,}. Split the chunk."
            )
        return self._read(path, most_bytes)

    def digest(self, path: str) -> str:
        """Return the SHA-256 of one file's content.

        Raises:
            DatasetError: it is damaged, or can't be read.
        """
        assert path in self.sizes
        try:
            return self._digest(path)
        except OSError as error:
            raise DatasetError(
                f"Asked for {path} of {self.where}; it can't be read: {error.strerror}. Mend it or "
                "take a fresh copy."
            ) from error

    def place(self, path: str, target: Path) -> None:
        """Put a file of the chunk at target, unless it is there already; the folder must exist.

        It is hard-linked if possible, else copied, and appears only once it is complete.

        Raises:
            DatasetError: the file is damaged, or there is no room for it.
            DiskError: what looked like room was none.
        """
        assert path in self.sizes
        if target.is_file() and not target.is_symlink() and self._is(path, target):
            return
        partial = target.with_name(f".{target.name}.partial")
        partial.unlink(missing_ok=True)  # an interrupted run's
        try:
            with writing(target):
                self._put(path, partial)
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _check_room(self, path: str, folder: Path) -> None:
        size, free = self.sizes[path], shutil.disk_usage(folder).free
        if size > free:
            raise DatasetError(
                f"Asked for {path} of {self.where}; it needs {size:,} bytes and {folder} has "
                f"{free:,} free. Make room."
            )

    @abstractmethod
    def _read(self, path: str, most_bytes: int) -> bytes: ...

    @abstractmethod
    def _digest(self, path: str) -> str: ...

    @abstractmethod
    def _is(self, path: str, target: Path) -> bool: ...

    @abstractmethod
    def _put(self, path: str, partial: Path) -> None: ...


def fill(
    files: ChunkFiles, wanted: Mapping[str, str], folder: Path, *, keep: Collection[str] = ()
) -> Iterator[str]:
    """Yield each name as it is in place, until folder holds the wanted files and nothing else.

    wanted maps plain names to paths in the chunk. One that is not there is left out and logged;
    one that is in place already is kept, as are the files that keep names.

    Raises:
        DatasetError: a file is damaged, there is no room, or the folder lies in the chunk.
    """
    ours, theirs = folder.resolve(), Path(files.where).resolve()
    if ours in (theirs, *theirs.parents) or theirs in ours.parents:
        raise DatasetError(
            f"Asked to fill {folder} from {files.where}; one lies in the other, and what is not "
            "asked for is removed. Give it a folder of its own."
        )
    there = {name: path for name, path in wanted.items() if path in files.sizes}
    if missing := sorted(wanted.keys() - there.keys()):
        log.warning(
            "%s: %d videos without a file: %s", files.where, len(missing), first_few(missing)
        )
    folder.mkdir(parents=True, exist_ok=True)
    for old in list(folder.iterdir()):
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        elif old.name not in there and old.name not in keep:
            old.unlink()
    for name, path in sorted(there.items()):
        files.place(path, folder / name)
        yield name


@contextmanager
def open_chunk(path: Path) -> Iterator[ChunkFiles]:
    """Yield the files of a folder or a zip.

    Raises:
        DatasetError: it is neither, or holds what no chunk has.
    """
    if path.is_dir():
        yield _open_folder(path)
    elif path.is_file():
        with _open_zip(path) as archive:
            members = _checked_members(archive, path)
            top = _wrapping(members)
            by_path = {name.removeprefix(top): members[name] for name in sorted(members)}
            sizes = {name: member.file_size for name, member in by_path.items()}
            yield _Zip(str(path), sizes, archive, by_path)
    else:
        raise DatasetError(
            f"Asked for the chunk {path}; there is no such folder or zip{_what_instead(path)}. Put "
            "it there, or drop it from `chunks` in params.yaml."
        )


def _what_instead(path: Path) -> str:
    others = [path.with_name(f"{path.name}.zip"), path.with_suffix("")]
    there = [other.name for other in others if other != path and other.exists()]
    return f", but there is {there[0]}: `chunks` names a chunk in full" if there else ""


def _shows(path: str) -> bool:
    """Return whether no part of the path is hidden or of the notes that a Mac adds to a zip."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def is_picture(path: str) -> bool:
    """Say whether a name has the ending of a picture."""
    return path[path.rfind(".") :].lower() in PICTURE_ENDINGS


def tops_of(paths: Iterable[str]) -> set[str]:
    """Return what lies at the top, a folder with its slash."""
    return {"".join(path.partition("/")[:2]) for path in paths}


def _wrapping(paths: Iterable[str]) -> str:
    """Return the one folder that all lies in, with its slash; empty if it is part of a layout."""
    tops = tops_of(paths)
    top = tops.pop() if len(tops) == 1 else ""
    return top if top.endswith("/") and not any(top in marks for marks in LAYOUTS.values()) else ""


def shorten(value: object) -> str:
    """Return how a message shows a value that a stranger wrote: ASCII, 80 characters at most."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def first_few(names: Collection[str], separator: str = ", ") -> str:
    """Return the first MAX_NAMED names, and how many more there are."""
    more = len(names) - MAX_NAMED
    return separator.join(list(names)[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------- folders


@dataclass(frozen=True)
class _Folder(ChunkFiles):
    folder: Path

    def _read(self, path: str, most_bytes: int) -> bytes:
        with (self.folder / path).open("rb") as file:
            return file.read(most_bytes)

    def _digest(self, path: str) -> str:
        return content_digest(self.folder / path)

    def _is(self, path: str, target: Path) -> bool:
        # After DVC took the chunk into its cache, what was linked to it is another file.
        original = self.folder / path
        return target.samefile(original) or filecmp.cmp(target, original, shallow=False)

    def _put(self, path: str, partial: Path) -> None:
        # Resolved, because DVC may itself have put a symbolic link there.
        original = (self.folder / path).resolve()
        try:
            os.link(original, partial)
        except OSError as error:
            if error.errno not in NO_HARD_LINK:
                raise
            self._check_room(path, partial.parent)
            with original.open("rb") as source, partial.open("xb") as copy:  # never into a link
                shutil.copyfileobj(source, copy, 2**20)


# How DVC names what is in its cache, to which it may have made a file of a chunk a link.
_CACHED = re.compile(r"/[0-9a-f]{2}/[0-9a-f]{30}$")


def _leads_out(root: Path, path: str) -> bool:
    """Say whether a link goes to a file of somebody's that is neither in the chunk nor in a cache.

    Whoever packed a chunk must not choose which other files of this machine become videos, which
    are then pushed or sent.
    """
    target = os.path.realpath(path)
    return not (target.startswith(f"{root}{os.sep}") or _CACHED.search(target))


def _open_folder(folder: Path) -> _Folder:
    sizes: dict[str, int] = {}
    others = []
    pictures = 0
    root = folder.resolve()
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                path = inside + entry.name
                if not _shows(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/")
                elif entry.is_symlink() and _leads_out(root, entry.path):
                    others.append(path)
                elif os.path.isfile(entry.path):  # through links; it opens nothing
                    sizes[path] = entry.stat().st_size
                    pictures += is_picture(path)
                else:
                    others.append(path)
                if len(sizes) - pictures + len(others) > MAX_FILES or pictures > MAX_PICTURES:
                    raise DatasetError(
                        f"Asked for the chunk {folder}; it has more than {MAX_FILES:,} files, or "
                        f"{MAX_PICTURES:,} pictures. Move out what is not needed, or split it."
                    )
    if others:
        # A link to a folder is not followed, because DVC does not: it would miss a change.
        log.warning(
            "%s: %d passed over (links to folders, to nothing or out of the chunk, special files). "
            "Copy such files into the chunk: %s",
            folder, len(others), first_few([shorten(path) for path in sorted(others)]),
        )  # fmt: skip
    strange = [shorten(path) for path in sorted(sizes) if not path.isprintable()]
    if strange:
        raise DatasetError(
            f"Asked for the chunk {folder}; {len(strange)} name(s) hold characters that do not "
            f"print or are not UTF-8: {first_few(strange)}. Rename them."
        )
    top = _wrapping(sizes)
    return _Folder(
        str(folder), {path.removeprefix(top): sizes[path] for path in sorted(sizes)}, folder / top
    )


# ---------------------------------------------------------------- zips


@dataclass(frozen=True)
class _Zip(ChunkFiles):
    archive: zipfile.ZipFile
    members: Mapping[str, zipfile.ZipInfo]

    def _read(self, path: str, most_bytes: int) -> bytes:
        with self._naming_damage(path), self.archive.open(self.members[path]) as file:
            content = file.read(most_bytes)
        self._check_size(path, len(content))
        return content

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._naming_damage(path), self.archive.open(self.members[path]) as file:
            while block := file.read(2**20):
                digest.update(block)
        return digest.hexdigest()

    def _is(self, path: str, target: Path) -> bool:
        if target.stat().st_size != self.sizes[path]:
            return False
        digest = 0
        with target.open("rb") as file:
            while block := file.read(2**20):
                digest = zlib.crc32(block, digest)
        return digest == self.members[path].CRC

    def _put(self, path: str, partial: Path) -> None:
        self._check_room(path, partial.parent)
        with (
            self._naming_damage(path),
            self.archive.open(self.members[path]) as packed,
            partial.open("xb") as unpacked,
        ):
            shutil.copyfileobj(packed, unpacked, 2**20)  # zipfile checks the CRC at the end
        self._check_size(path, partial.stat().st_size)

    @contextmanager
    def _naming_damage(self, path: str) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            raise DatasetError(
                f"Asked for {path} of {self.where}; it is damaged: {error}. Take a fresh copy."
            ) from error

    def _check_size(self, path: str, size: int) -> None:
        if size != self.sizes[path]:
            raise DatasetError(
                f"Asked for {path} of {self.where}; it should have {self.sizes[path]:,} bytes and "
                f"has {size:,}. Take a fresh copy."
            )


def _open_zip(path: Path) -> zipfile.ZipFile:
    count, directory_bytes = _end_record(path)
    # zipfile makes an object of every member at once: a million take 15 s and 0.7 GB.
    if count > MAX_FILES or directory_bytes > MAX_FILES * DIRECTORY_BYTES_PER_FILE:
        raise DatasetError(
            f"Asked for the chunk {path}; it lists {count:,} members in {directory_bytes:,} bytes, "
            f"more than the {MAX_FILES:,} files a zip may have. Leave out what is no video, or "
            "split it; folders of frames are read unpacked."
        )
    try:
        return zipfile.ZipFile(path)
    except DAMAGE as error:
        raise DatasetError(
            f"Asked for the chunk {path}; it is neither a folder nor a whole zip: {error}. Take a "
            "fresh copy; another kind of archive must be unpacked first."
        ) from error


def _end_record(path: Path) -> tuple[int, int]:
    """Return how many members a zip says it has, and the bytes of its directory.

    Zeros where it has no end record: zipfile will say so. The formats are those of PKWARE's
    APPNOTE 6.3.10, sections 4.3.14 to 4.3.16.
    """
    plain, large, large_to_plain = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), 56 + 20
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2**16 - plain.size - large_to_plain))  # a comment may follow
        tail = file.read()
    start = tail.rfind(b"PK\5\6", 0, max(0, len(tail) - plain.size + 4))
    if start < 0:
        return 0, 0
    count, directory_bytes = plain.unpack_from(tail, start)[4:6]
    start -= large_to_plain
    if start >= 0 and tail.startswith(b"PK\6\6", start):
        count, directory_bytes = large.unpack_from(tail, start)[7:9]
    return count, directory_bytes


def _checked_members(archive: zipfile.ZipFile, zip_path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files of a zip that show, by their paths in it, once no member gives offence."""
    members, size = archive.infolist(), zip_path.stat().st_size
    offences = [
        f"{shorten(member.orig_filename)} {offence}"
        for member in members if (offence := _offence(member, size))
    ]  # fmt: skip
    files = [("/".join(_parts(member)), member) for member in members if not _is_folder(member)]
    counts = Counter(name for name, _ in files)
    offences += [f"{shorten(name)} is there twice" for name, count in counts.items() if count > 1]
    unpacked = sum(member.file_size for member in members)
    if len(members) > MAX_FILES:  # the end record may have lied
        offences.insert(0, f"{len(members):,} members are more than {MAX_FILES:,}")
    if unpacked > MAX_UNPACKED_BYTES:
        offences.insert(0, f"{unpacked:,} bytes unpacked are more than {MAX_UNPACKED_BYTES:,}")
    # Members that share their bytes: Fifield, A better zip bomb, WOOT 2019.
    if sum(member.compress_size for member in members) > size:
        offences.insert(0, "members overlap: together they claim more bytes than the file has")
    if offences:
        raise DatasetError(
            f"Asked for the chunk {zip_path}; found {len(offences)} thing(s) that no chunk has: "
            f"{first_few(offences, '; ')}. Nothing was read. Ask whoever made it for a plain zip "
            "of the folder."
        )
    return {name: member for name, member in files if _shows(name)}


def _parts(member: zipfile.ZipInfo) -> list[str]:
    return [part for part in member.filename.split("/") if part not in ("", ".")]


def _is_folder(member: zipfile.ZipInfo) -> bool:
    return member.filename.endswith("/")  # is_dir() stumbles over an empty name


def _offence(member: zipfile.ZipInfo, zip_bytes: int) -> str | None:
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
    if len(name.encode()) > MAX_PATH_BYTES or any(
        len(part.encode()) > MAX_NAME_BYTES for part in _parts(member)
    ):
        return "is too long a name"
    if kind not in (0, stat.S_IFDIR if _is_folder(member) else stat.S_IFREG):
        return "is a link, a device or another special file"
    if _is_folder(member) and member.file_size:
        return "is a folder with content"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if not 0 <= member.header_offset <= zip_bytes - LOCAL_HEADER_BYTES:
        return "lies outside the file"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed by another method than deflate"
    if member.file_size > max(RATIO_FREE_BYTES, MAX_RATIO * member.compress_size):
        return f"grows more than {MAX_RATIO} times"
    return None
