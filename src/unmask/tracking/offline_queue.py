"""What a run's place has not taken yet: a folder of events, to be sent in order."""

import json
import logging
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol, Self

from unmask.runtime import system
from unmask.tracking.tracker import TrackingError

logger = logging.getLogger(__name__)

Event = dict[str, Any]  # plain JSON; its kind says what the other keys are

EVENTS, SENT, LOCK, FILES = "events.jsonl", "sent", "lock", "files"
REFUSED = "refused.jsonl"  # an opening and the events that the place refused for good
DAMAGED = "damaged.jsonl"  # events that can't be read to their end, after the rest was sent


# What the first line of a queue says at least, and each that follows.
NEEDED = {"kind", "key", "place", "time_ms"}, {"kind", "time_ms"}
QUEUE_NAME = re.compile(r"^[^.].*-\d{20}$")  # a name that begin gives


class DeliveryError(TrackingError):
    """A place did not take something; it may do so later. The message holds no credentials."""


class RefusedError(TrackingError):
    """A place refuses one event for good, and may take the next. No credentials in it either."""


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
            DeliveryError: the place did not take it; it may do so later.
            RefusedError: it never takes it, as things are.
            TrackingError: it was asked for what makes no sense.
        """


class OfflineQueue:
    """A folder of one run's events, locked while a process writes or sends it."""

    def __init__(self, folder: Path, lock: IO[bytes]) -> None:
        self.folder, self._lock = folder, lock
        self.refused = 0  # events, since this process has it

    @classmethod
    def begin(cls, root: Path, opening: Event) -> Self:
        """Return a new queue in root; names of one key sort by age."""
        key = re.sub(r"[^\w-]", "_", opening["key"])
        folder = root / f"{key}-{time.time_ns():020}"
        # It gets its name when it is locked: another process can't take it for an orphan.
        hidden = folder.with_name(f".{folder.name}")
        hidden.mkdir(parents=True)
        lock = (hidden / LOCK).open("wb")
        system.lock(lock.fileno(), wait=True)
        queue = cls(hidden, lock)
        queue.append(opening, None)
        queue.folder = hidden.rename(folder)
        return queue

    @classmethod
    def claim(cls, folder: Path, *, refused_too: bool = False) -> Self | None:
        """Return the queue in the folder; None where another process holds it or has sent it.

        Where only refused events are left it is one with refused_too, to ask for them again.
        """
        if any(path.is_symlink() for path in folder.glob("*")):  # queues have none
            logger.warning(
                "%s was read for events that wait; it holds links, which unmask puts nowhere. "
                "Nothing of it is sent: delete that folder.",
                folder,
            )
            return None
        try:
            lock = (folder / LOCK).open("ab")
        except FileNotFoundError:
            return None
        try:
            system.lock(lock.fileno())
        except BlockingIOError:
            lock.close()
            return None
        queue = cls(folder, lock)
        if refused_too and (folder / REFUSED).exists() and not (folder / EVENTS).exists():
            (folder / SENT).unlink(missing_ok=True)
            (folder / REFUSED).rename(folder / EVENTS)
        if not read_events(folder):  # its process died while it removed it, or it is damaged
            queue.remove()
            return None
        return queue

    def append(self, event: Event, path: Path | None) -> None:
        """Write an event down, with a copy of the file or folder that belongs to it."""
        self._write(EVENTS, self._with_copy(event, path))

    def park(self, event: Event, path: Path | None, error: TrackingError) -> None:
        """Put an event aside that the place refuses, so that it holds back no other."""
        opening = read_events(self.folder)[0]
        if not (self.folder / REFUSED).exists():
            # It may be taken when the run has ended: its status stays.
            self._write(REFUSED, opening | {"adds_only": True})
        self._write(REFUSED, event if "path" in event else self._with_copy(event, path))
        self.refused += 1
        logger.warning(
            "Run %s: asked to keep its %s; found: %s. The rest goes on. It is kept in %s: mend "
            "what it says and type `unmask log`, or delete that folder.",
            opening["key"], event["kind"] if path is None else f"{event['kind']} {path.name}",
            str(error).rstrip("."), self.folder,
        )  # fmt: skip

    def _with_copy(self, event: Event, path: Path | None) -> Event:
        if path is not None:
            kept = Path(FILES, uuid.uuid4().hex, path.name)
            (self.folder / kept).parent.mkdir(parents=True)
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, self.folder / kept)
            event = event | {"path": kept.as_posix()}
        return event

    def _write(self, name: str, event: Event) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(event) + "\n")

    def send(self, sender: Sender) -> str:
        """Send what was not sent yet, in order; return the place's name for the run.

        What the place refuses for good is put aside.

        Raises:
            TrackingError: the rest has to wait.
        """
        opening, *events = read_events(self.folder)
        run = sender.begin(opening)
        progress = self.folder / SENT  # a byte an event: it can't be torn
        sent = progress.stat().st_size if progress.is_file() else 0
        for event in events[sent:]:
            path = self.folder / event["path"] if "path" in event else None
            try:
                sender.send(event, path)
            except DeliveryError:
                raise
            except TrackingError as error:
                self.park(event, path, error)
            with progress.open("ab") as marks:
                marks.write(b".")
        return run

    def remove(self) -> None:
        """Delete the folder, but for what was refused or can't be read."""
        if (self.folder / EVENTS).exists() and damage(self.folder) is not None:
            (self.folder / EVENTS).rename(self.folder / DAMAGED)
        # First what makes it a queue: a process killed in here leaves nothing to be sent twice.
        (self.folder / EVENTS).unlink(missing_ok=True)
        if not any((self.folder / name).exists() for name in (REFUSED, DAMAGED)):
            # Another process may be removing it too; what stays the next claim takes away.
            shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Let another process have it."""
        # Not only closed: a data loader's process may have inherited the file.
        system.unlock(self._lock.fileno())
        self._lock.close()


def read_events(folder: Path) -> list[Event]:
    """Return the opening event of a queue and those after it, without a torn last line.

    Stop with a warning at a line that can't be read.
    """
    events, damaged = _read(folder)
    if damaged is not None:
        _warn_of(folder, damaged)
    return events


def damage(folder: Path) -> int | None:
    """Return the number of the first line of a queue that can't be read; None if all can."""
    return _read(folder)[1]


def _read(folder: Path) -> tuple[list[Event], int | None]:
    try:
        lines = (folder / EVENTS).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:  # another process has sent it
        return [], None
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except ValueError:  # what a machine without power leaves: zeros
            return events, number
        if not isinstance(event, dict) or not NEEDED[number > 1] <= event.keys():
            return events, number
        if "path" in event and not _is_kept(folder, event["path"]):
            return events, number
        events.append(event)
    return events, None


def _is_kept(folder: Path, path: object) -> bool:
    """Say whether an event's file is a copy in the queue: a stranger's may name any file here."""
    if not isinstance(path, str):
        return False
    return (folder / path).resolve().is_relative_to((folder / FILES).resolve())


@cache
def _warn_of(folder: Path, number: int) -> None:
    """Warn once in a process: the folder is looked at again and again."""
    logger.warning(
        "%s was read for events that wait; its line %d is damaged. What stands before it is sent, "
        "the rest is not. Keep what you can use of it and delete that folder.",
        folder, number,
    )  # fmt: skip


def waiting(queues: Path) -> list[Path]:
    """Return the folders of what was not sent, the older of a run's first."""
    return sorted(
        path for path in queues.glob("*-*") if QUEUE_NAME.search(path.name) and path.is_dir()
    )


def upload(queues: Path, sender_at: Callable[[str], Sender]) -> Iterator[str]:
    """Send what waits, through a sender for the place it was meant for; yield a line for each.

    A run whose process died ends as KILLED.

    Raises:
        TrackingError: some of it still waits, or was refused; raised at the end.
    """
    failed: dict[str, str] = {}
    refused: list[Path] = []
    for folder in waiting(queues):
        queue = OfflineQueue.claim(folder, refused_too=True)
        if queue is None:
            if (folder / EVENTS).exists():
                yield f"{folder.name}: a process that still runs writes it, and will send it"
            continue
        opening, *events = read_events(folder)
        sender = sender_at(opening["place"])
        try:
            if opening["key"] in failed:
                raise DeliveryError("what was written before it still waits")
            run = queue.send(sender)
            ends = any(event["kind"] == "end" for event in events)
            if not ends and not opening.get("adds_only"):
                last_ms = max(event["time_ms"] for event in (opening, *events))
                sender.send({"kind": "end", "status": "KILLED", "time_ms": last_ms}, None)
        except TrackingError as error:
            queue.release()
            failed[opening["key"]] = str(error)
            yield f"{folder.name}: not sent: {error}"
        else:
            queue.remove()
            sent = len(events) - queue.refused
            yield f"{folder.name}: {sent} events sent to {sender.place}, run {run}"
            if queue.refused:
                refused.append(folder)
    if failed:
        raise TrackingError(
            f"Asked to send what waits in {queues}; of {len(failed)} runs it was not taken: "
            f"{next(iter(failed.values())).rstrip('.')}. Nothing is lost: type `unmask log` again, "
            "with the MLFLOW_TRACKING_URI they were meant for, when the place answers."
        )
    if refused:
        raise TrackingError(
            f"Asked to send what waits in {queues}; some of it was refused, as the warnings say. "
            f"It is kept in {', '.join(map(str, refused))}: mend what they say and type "
            "`unmask log` again, or delete that."
        )
