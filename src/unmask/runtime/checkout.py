"""What Git knows of a checkout, asked so that nothing which its configuration names is run.

A folder from a stranger may come with a .git of its own, whose configuration, hooks and attributes
name programs: `git status` there runs what core.fsmonitor and filters say. So the files of the
working tree are compared here, by dulwich, which is given no configuration; and the program git is
only asked for objects and refs, by commands that start nothing, with every way to start something
switched off.
"""

import hashlib
import logging
import os
import re
import stat
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.runtime import system
from unmask.runtime.disk import read_regular

_log = logging.getLogger(__name__)

_MAX_REF_BYTES, _MAX_REFS_BYTES, _MAX_CONFIG_BYTES = 2**12, 2**26, 2**20
_MAX_OBJECT_BYTES = 2**26  # a commit or a folder's listing, unpacked
_SKIP_WORKTREE = 1 << 14  # of an index entry's second flags: left out by a sparse checkout
_GITLINK = 0o160000
# What git is asked with. A missing object is never fetched: that may start ssh, or a helper.
_OFF = (
    "--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false",
    "-c", "core.hooksPath=/dev/null", "-c", "core.sshCommand=false",
    "-c", "log.showSignature=false",
)  # fmt: skip
_OFF_VARIABLES = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
}


class GitError(Exception):
    """Git has no answer; the message is its own."""


def ask(root: Path, *arguments: str) -> str:
    """Return what a command of Git's says that reads objects and refs alone, such as rev-list.

    Raises:
        GitError: it fails, or there is no program of that name.
    """
    command = ["git", "-C", str(root), *_OFF, *arguments]
    try:
        done = subprocess.run(
            command, env=os.environ | _OFF_VARIABLES, capture_output=True, text=True,
            errors="replace", stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise GitError("the program git is not there") from error
    if done.returncode:
        raise GitError(done.stderr.strip())
    return done.stdout


@dataclass(frozen=True)
class Checkout:
    """A working tree and the folders of its repository."""

    top: Path
    git_dir: Path  # with the tree's own HEAD and index
    common_dir: Path  # with refs and objects: another one where it is a second working tree

    def head(self) -> str | None:
        """Return the commit that is checked out; None where there is none, or refs are elsewhere.

        So it is for Git's reftable format.
        """
        try:
            found = read_regular(self.git_dir / "HEAD", _MAX_REF_BYTES).decode("ascii", "replace")
            if found.startswith("ref: "):
                found = self._ref(found.removeprefix("ref: ").strip())
        except OSError:
            return None
        commit = found.strip()
        return commit if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", commit) else None

    def _ref(self, name: str) -> str:
        if not name.startswith("refs/") or ".." in name.split("/"):
            return ""
        for folder in (self.git_dir, self.common_dir):
            try:
                return read_regular(folder / name, _MAX_REF_BYTES).decode("ascii", "replace")
            except OSError:
                continue
        packed = read_regular(self.common_dir / "packed-refs", _MAX_REFS_BYTES)
        wanted = f" {name}".encode()
        lines = (line for line in packed.splitlines() if line.endswith(wanted))
        return next(lines, b"").partition(b" ")[0].decode("ascii", "replace")

    def changes(self, folder: Path, written: Collection[str] = ()) -> list[str] | None:
        """Return the tracked files below a folder that differ from the commit, by their paths.

        written are paths from the folder that don't count. A file is compared as it stands: what
        Git's filters would make of it is not known. None where the repository can't be read, which
        is logged.
        """
        try:
            return list(self._changes(folder, written))
        except Exception as error:  # noqa: BLE001 -- a stranger's files may break dulwich anywhere: it is logged
            _log.warning(
                "%s: Git's files can't be read (%s): whether the checkout has changes is not known",
                self.git_dir, str(error) or type(error).__name__,
            )  # fmt: skip
            return None

    def _changes(self, folder: Path, written: Collection[str]) -> Iterator[str]:
        from dulwich.index import ConflictedIndexEntry, Index

        inside = _inside(self.top, folder)
        left_out = [inside + os.fsencode(path) for path in written]

        def counts(path: bytes) -> bool:
            return path.startswith(inside) and not any(
                path == out or path.startswith(out + b"/") for out in left_out
            )

        index_file = self.git_dir / "index"
        if index_file.exists() and not index_file.is_file():
            raise ValueError("its index is no file")
        entries = dict(Index(str(index_file)).iteritems())
        committed = dict(self._committed())
        index_ns = index_file.stat().st_mtime_ns if index_file.is_file() else 0
        modes_count = self._modes_count()
        for path in sorted(committed.keys() | entries.keys()):
            entry = entries.get(path)
            if not counts(path):
                continue
            if (
                entry is None
                or isinstance(entry, ConflictedIndexEntry)
                or committed.get(path) != (entry.mode, entry.sha)
            ):
                yield os.fsdecode(path)
            elif entry.mode == _GITLINK or entry.extended_flags & _SKIP_WORKTREE:
                continue
            elif not _is_unchanged(
                self.top / os.fsdecode(path), entry, index_ns, modes_count=modes_count
            ):
                yield os.fsdecode(path)

    def _committed(self) -> "Iterator[tuple[bytes, tuple[int, bytes]]]":
        from dulwich.object_store import DiskObjectStore, iter_tree_contents
        from dulwich.objects import Commit

        head = self.head()
        if head is None:
            raise ValueError("it has no commit")
        store = DiskObjectStore(
            str(self.common_dir / "objects"), loose_object_size_limit=_MAX_OBJECT_BYTES
        )
        try:
            commit = store[head.encode()]  # type: ignore[index]  # an id is bytes
            if not isinstance(commit, Commit):
                raise ValueError("its HEAD is no commit")
            for entry in iter_tree_contents(store, commit.tree):
                assert entry.path is not None
                assert entry.mode is not None
                assert entry.sha is not None
                yield entry.path, (entry.mode, entry.sha)
        finally:
            store.close()

    def _modes_count(self) -> bool:
        """Return whether the right to execute is tracked: a file system may have no such right."""
        try:
            config = read_regular(self.common_dir / "config", _MAX_CONFIG_BYTES)
        except OSError:
            return True
        return not re.search(rb"^[ \t]*filemode[ \t]*=[ \t]*false", config, re.M | re.I)

    def untracked(self, paths: Sequence[str]) -> list[str]:
        """Return the files below paths from the top that are neither tracked nor ignored."""
        from dulwich.ignore import IgnoreFilter, IgnoreFilterManager
        from dulwich.index import Index

        tracked = set(Index(str(self.git_dir / "index")))
        excluded = self.common_dir / "info/exclude"
        everywhere = [IgnoreFilter.from_path(str(excluded))] if excluded.is_file() else []
        ignored = IgnoreFilterManager(str(self.top), everywhere, False)
        found = []
        for path in paths:
            start = self.top / path
            for parent, folders, files in os.walk(start) if start.is_dir() else ():
                inside = Path(parent).relative_to(self.top).as_posix()
                folders[:] = [
                    name for name in folders if not ignored.is_ignored(f"{inside}/{name}/")
                ]
                found += [f"{inside}/{name}" for name in files]
            if start.is_file():
                found.append(path)
        return sorted(
            path for path in found
            if os.fsencode(path) not in tracked and not ignored.is_ignored(path)
        )  # fmt: skip


def find(folder: Path) -> Checkout | None:
    """Return the checkout that a folder lies in; None where there is none of this user's own.

    Git itself asks no repository that is another user's, either (its safe.directory).
    """
    folder = folder.resolve()
    for top in (folder, *folder.parents):
        if (git_dir := _git_dir(top)) is None:
            continue
        try:
            if not system.is_mine(os.stat(git_dir)):
                return None
            return Checkout(top, git_dir, _common_dir(git_dir))
        except OSError:
            return None
    return None


def _git_dir(top: Path) -> Path | None:
    place = top / ".git"
    if place.is_dir():
        return place if (place / "HEAD").is_file() else None
    try:
        text = os.fsdecode(read_regular(place, _MAX_REF_BYTES))
    except OSError:
        return None
    if not text.startswith("gitdir: "):
        return None
    found = top / text.removeprefix("gitdir: ").rstrip("\n")
    return found if (found / "HEAD").is_file() else None


def _common_dir(git_dir: Path) -> Path:
    try:
        text = os.fsdecode(read_regular(git_dir / "commondir", _MAX_REF_BYTES))
    except FileNotFoundError:
        return git_dir
    return git_dir / text.rstrip("\n")


def _inside(top: Path, folder: Path) -> bytes:
    relative = folder.resolve().relative_to(top).as_posix()
    return b"" if relative == "." else os.fsencode(relative) + b"/"


def _is_unchanged(path: Path, entry: "object", index_ns: int, *, modes_count: bool) -> bool:
    """Say whether a file is as the index has it: by its stat, else by its content."""
    from dulwich.index import IndexEntry

    assert isinstance(entry, IndexEntry)
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_IFMT(found.st_mode) != stat.S_IFMT(entry.mode):
        return False
    is_link = stat.S_ISLNK(found.st_mode)
    if modes_count and not is_link and (found.st_mode ^ entry.mode) & stat.S_IXUSR:
        return False
    # One that was changed in the moment in which the index was written may look unchanged.
    same = (
        found.st_size == entry.size
        and _is_time(found.st_mtime_ns, entry.mtime)
        and _is_time(found.st_ctime_ns, entry.ctime)
    )
    if same and found.st_mtime_ns < index_ns:
        return True
    return _blob_digest(path, found.st_size, is_link=is_link) == entry.sha


def _is_time(ns: int, noted: "int | float | tuple[int, int]") -> bool:
    if isinstance(noted, tuple):
        seconds, rest = noted
        return ns == seconds * 10**9 + rest or (rest == 0 and ns // 10**9 == seconds)
    return ns // 10**9 == int(noted)


def _blob_digest(path: Path, size: int, *, is_link: bool) -> bytes:
    """Return Git's name of a file's content, in hex."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    if is_link:
        digest.update(os.fsencode(path.readlink()))
    else:
        with open(path, "rb", opener=_no_wait) as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest().encode()


def _no_wait(path: str, flags: int) -> int:
    return os.open(path, flags | system.NO_LINK | system.NO_WAIT)
