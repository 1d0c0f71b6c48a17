"""A user's own footage: which files, whose faces, and what became of each."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.data.archive import VIDEO_ENDINGS
from unmask.data.words import join_spellings, say_joined
from unmask.errors import DatasetError
from unmask.faces.landmarks import Face
from unmask.forgeries.blend import Method
from unmask.records import Reason
from unmask.runtime.disk import content_digest

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Footage:
    """A file of genuine footage."""

    path: Path
    digest: str  # SHA-256 of its content; empty where it could not be read
    folder_source: str | None  # who is seen, by the folder's name

    @property
    def video_id(self) -> str:
        """Return a plain name of its own, whatever other folders hold."""
        stem = re.sub(r"[^\w.-]+", "_", self.path.stem)[:40].strip("._-")
        return f"{stem or 'video'}_{self.digest[:8]}"

    @property
    def source_id(self) -> str:
        """Return who is seen: without a folder's word, each file is taken for another person."""
        return self.folder_source or self.video_id


@dataclass(frozen=True)
class Donor:
    """Usable footage, and the face in it."""

    footage: Footage
    face: Face


@dataclass(frozen=True)
class Fake:
    """A fake to make of a video."""

    file: str
    method: Method
    donor: Donor | None


@dataclass(frozen=True)
class Outcome:
    """What became of a file in the first pass, and then, if it was usable, in the second."""

    footage: Footage
    reason: str | None = None  # why it was left out
    detail: str = ""
    fakes: tuple["Fake", ...] = ()


def find_footage(paths: Iterable[Path], chunk: Path, *, person_from_folder: bool) -> list[Footage]:
    """Return the files named and the video files in the folders named, each once, in order.

    Folders whose names are spellings of one name, by words.key_of, show one person.

    Raises:
        DatasetError: a path does not exist, or chunk and footage lie in each other.
    """
    found: dict[Path, Path] = {}
    for path in sorted(paths):
        if not path.exists():
            raise DatasetError(f"Asked for footage in {path}; nothing is there. Check the path.")
        own, theirs = chunk.resolve(), path.resolve()
        if own in (theirs, *theirs.parents) or theirs in own.parents:
            raise DatasetError(
                f"Asked to make {chunk} from {path}; one lies in the other, and fakes would become "
                "footage. Give the chunk a folder of its own."
            )
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            # One that is named itself may have any ending.
            video = file == path or file.suffix.lower() in VIDEO_ENDINGS
            if file.is_file() and video and not hidden:
                found.setdefault(file.resolve(), file)
    people = join_spellings(whole.parent.name for whole in found)
    if person_from_folder and (joined := say_joined(people, "person")):
        _log.warning("folders %s", "; ".join(joined))
    return [
        Footage(
            file, _digest(file), people[whole.parent.name] or None if person_from_folder else None
        )
        for whole, file in found.items()
    ]  # fmt: skip


def _digest(path: Path) -> str:
    try:
        return content_digest(path)
    except OSError:
        return ""


def drop_duplicates(footage: Sequence[Footage]) -> tuple[list[Footage], list[Outcome]]:
    """Return the footage without unreadable and repeated files, and what became of those."""
    first: dict[str, Footage] = {}
    left_out = []
    for one in footage:
        if not one.digest:
            left_out.append(Outcome(one, Reason.FORBIDDEN, "the file may not be read"))
        elif one.digest in first:
            # It would be in the chunk twice, and as a second person perhaps in two splits.
            left_out.append(Outcome(one, "duplicate", f"the same as {first[one.digest].path}"))
        else:
            first[one.digest] = one
    return list(first.values()), left_out


def remarks(outcomes: Iterable[Outcome]) -> list[str]:
    """Return a line for each file that was left out, or used in part, that says why."""
    last = {outcome.footage.path: outcome for outcome in outcomes}
    return [
        f"{'left out' if outcome.reason else 'used in part'}: {path}"
        f"{f' ({outcome.reason})' if outcome.reason else ''}: {outcome.detail}"
        for path, outcome in last.items()
        if outcome.reason or outcome.detail
    ]


def summarise(outcomes: Iterable[Outcome]) -> str:
    """Return a table of counts: files used and left out, why, and the videos made of them."""
    last = {outcome.footage.path: outcome for outcome in outcomes}
    used = [outcome for outcome in last.values() if outcome.reason is None]
    reasons = Counter(outcome.reason for outcome in last.values() if outcome.reason)
    methods = Counter(fake.method for outcome in used for fake in outcome.fakes)
    rows = [
        ("files of footage", len(last)),
        *((f"left out: {reason}", count) for reason, count in sorted(reasons.items())),
        ("people", len({outcome.footage.source_id for outcome in used})),
        ("real videos", len(used)),
        *((f"fakes: {method}", count) for method, count in sorted(methods.items())),
    ]
    return "\n".join(f"{name:<24}{count:>6}" for name, count in rows)
