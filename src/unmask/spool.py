"""What a run's place has not taken yet: a folder of events, to be sent in order."""

import fcntl
import json
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol, Self

from unmask.tracking import TrackingError

Event = dict[str, Any]  # plain JSON; its kind says what the other keys are

EVENTS, SENT, LOCK, FILES = "events.jsonl", "sent", "lock", "files"


class DeliveryError(TrackingError):
    """A place did not take something; it may do so later. The message holds no credentials."""


class Sender(Protocol):
    """The way to a place where runs are kept. What it is sent twice, it keeps once."""

    place: str  # its address without credentials

    def begin(self, opening: Event) -> str:
        """Find or make the run that the opening describes; return the place's name for it.

        Raises:
            DeliveryError: the place does not answer now.
            TrackingError: it can't ever take this run.
        """

    def send(self, event: Event, path: Path | None) -> str | None:
        """Deliver one event of the run that was begun; return the address of what it made.

        Raises:
            DeliveryError: the place did not take it.
        """


class Spool:
    """A folder of one run's events, locked while a process writes or sends it."""

    def __init__(self, folder: Path, lock: IO[bytes]) -> None:
        self.folder, self._lock = folder, lock

    @classmethod
    def begin(cls, root: Path, opening: Event) -> Self:
        """Return a new spool in root; names of one key sort by age."""
        key = re.sub(r"[^\w-]", "_", opening["key"])
        folder = root / f"{key}-{time.time_ns():020}"
        # It gets its name when it is locked: another process can't take it for an orphan.
        hidden = folder.with_name(f".{folder.name}")
        hidden.mkdir(parents=True)
        lock = (hidden / LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        spool = cls(hidden, lock)
        spool.append(opening, None)
        spool.folder = hidden.rename(folder)
        return spool

    @classmethod
    def claim(cls, folder: Path) -> Self | None:
        """Return the spool in the folder; None where another process holds it or has sent it."""
        try:
            lock = (folder / LOCK).open("ab")
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        spool = cls(folder, lock)
        if not read_events(folder):  # its process died while it removed it
            spool.remove()
            return None
        return spool

    def append(self, event: Event, path: Path | None) -> None:
        """Write an event down, with a copy of the file or folder that belongs to it."""
        if path is not None:
            kept = Path(FILES, uuid.uuid4().hex, path.name)
            (self.folder / kept).parent.mkdir(parents=True)
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, self.folder / kept)
            event = event | {"path": kept.as_posix()}
        with (self.folder / EVENTS).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(event) + "\n")

    def send(self, sender: Sender) -> str:
        """Send what was not sent yet, in order; return the place's name for the run.

        Raises:
            TrackingError: the rest has to wait.
        """
        opening, *events = read_events(self.folder)
        run = sender.begin(opening)
        progress = self.folder / SENT  # a byte an event: it can't be torn
        sent = progress.stat().st_size if progress.is_file() else 0
        for event in events[sent:]:
            path = event.get("path")
            sender.send(event, None if path is None else self.folder / path)
            with progress.open("ab") as marks:
                marks.write(b".")
        return run

    def remove(self) -> None:
        """Delete the folder."""
        # First what makes it a spool: a process killed in here leaves nothing to be sent twice.
        (self.folder / EVENTS).unlink(missing_ok=True)
        # Another process may be removing it too; what stays the next claim takes away.
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Let another process have it."""
        # Not only closed: a data loader's process may have inherited the file.
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        self._lock.close()


def read_events(folder: Path) -> list[Event]:
    """Return a spool's opening and what followed it; a line that was torn is none."""
    try:
        text = (folder / EVENTS).read_text(encoding="utf-8")
    except FileNotFoundError:  # another process has sent it
        return []
    return [json.loads(line) for line in text.split("\n")[:-1]]


def waiting(spools: Path) -> list[Path]:
    """Return the folders of what was not sent, the older of a run's first."""
    return sorted(path for path in spools.glob("*") if not path.name.startswith("."))


def upload(spools: Path, sender_at: Callable[[str], Sender]) -> Iterator[str]:
    """Send what waits, through a sender for the place it was meant for; yield a line for each.

    A run whose process died ends as KILLED.

    Raises:
        TrackingError: some of it still waits; raised at the end.
    """
    failed: dict[str, str] = {}
    for folder in waiting(spools):
        spool = Spool.claim(folder)
        if spool is None:
            if folder.exists():
                yield f"{folder.name}: a process that still runs writes it, and will send it"
            continue
        opening, *events = read_events(folder)
        sender = sender_at(opening["place"])
        try:
            if opening["key"] in failed:
                raise DeliveryError("what was written before it still waits")
            run = spool.send(sender)
            if not any(event["kind"] == "end" for event in events):
                last_ms = max(event["time_ms"] for event in (opening, *events))
                sender.send({"kind": "end", "status": "KILLED", "time_ms": last_ms}, None)
        except TrackingError as error:
            spool.release()
            failed[opening["key"]] = str(error)
            yield f"{folder.name}: not sent: {error}"
        else:
            spool.remove()
            yield f"{folder.name}: {len(events)} events sent to {sender.place}, run {run}"
    if failed:
        raise TrackingError(
            f"Asked to send what waits in {spools}; of {len(failed)} runs it was not taken: "
            f"{next(iter(failed.values())).rstrip('.')}. Nothing is lost: type `unmask log` again "
            "when the place answers."
        )
