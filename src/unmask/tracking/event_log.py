"""A run as a list of events: straight to its place, or to the disk until the place takes them.

As long as the place takes everything nothing is written here.
"""

import json
import logging
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from unmask.tracking.offline_queue import (
    DeliveryError,
    Event,
    OfflineQueue,
    RefusedError,
    Sender,
    read_events,
    waiting,
)
from unmask.tracking.tracker import TrackingError, flat

logger = logging.getLogger(__name__)

# How long a place that failed is left alone: each try may cost the work some seconds.
# After each failure twice as long.
PAUSE_S, LONGEST_PAUSE_S = 30.0, 300.0


class EventTracker:
    """A run whose events go to a sender; from its first failure on they wait in a queue on disk."""

    def __init__(self, sender: Sender, queues: Path, opening: Event) -> None:
        self.run_key: str | None = opening["key"]
        self._sender, self._queues, self._opening = sender, queues, opening
        self._queue: OfflineQueue | None = None
        self._refused: OfflineQueue | None = None  # what the place refused while it took the rest
        self._pause_s = PAUSE_S
        self._next_try_s = 0.0
        try:
            self._send_earlier()
        except TrackingError as error:
            self._hold(error)  # what comes now must not overtake it
            return
        try:
            opening["run"] = sender.begin(opening)
        except DeliveryError as error:
            self._hold(error)

    def log_params(self, values: Mapping[str, object]) -> None:
        """Note settings under dotted names."""
        self._take({"kind": "params", "values": flat(values)})

    def log_tags(self, values: Mapping[str, object]) -> None:
        """Note facts about the run."""
        self._take({"kind": "tags", "values": flat(values)})

    def log_metrics(self, values: Mapping[str, float | None], *, step: int | None = None) -> None:
        """Note numbers; those without a step stand at step 0."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        self._take({"kind": "metrics", "values": known, "step": step or 0})

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file."""
        assert path.is_file(), f"{path} is no file"
        self._take({"kind": "file", "folder": folder}, path)

    def log_model(self, model_dir: Path) -> str | None:
        """Keep a copy of a model's folder; return its address, None where it waits."""
        assert model_dir.is_dir(), f"{model_dir} is no folder"
        return self._take({"kind": "model"}, model_dir)

    def register_model(self, model_dir: Path, alias: str) -> None:
        """Let the alias point to the run's model."""
        assert model_dir.is_dir(), f"{model_dir} is no folder"
        self._take({"kind": "register", "alias": alias}, model_dir)

    def finish(self, *, failed: bool) -> None:
        """Mark the run's end, by one more try where the place failed before."""
        self._next_try_s = 0.0
        if self._opening["adds_only"]:
            if self._queue is not None:
                self._catch_up(self._queue)
        else:
            self._take({"kind": "end", "status": "FAILED" if failed else "FINISHED"})
        if self._queue is not None:
            self._queue.release()
        if self._refused is not None:
            self._refused.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.finish(failed=kind is not None)

    def _take(self, event: Event, path: Path | None = None) -> str | None:
        # As JSON from the start, so that it arrives the same by both ways.
        event = json.loads(json.dumps(event | {"time_ms": _now_ms()}, default=str))
        if self._queue is None:
            try:
                return self._sender.send(event, path)
            except DeliveryError as error:
                self._hold(error).append(event, path)
            except RefusedError as error:
                self._refused = self._refused or OfflineQueue.begin(self._queues, self._opening)
                self._refused.park(event, path, error)
        else:
            self._queue.append(event, path)
            self._catch_up(self._queue)
        return None

    def _hold(self, error: TrackingError) -> OfflineQueue:
        self._queue = OfflineQueue.begin(self._queues, self._opening)
        self._pause_s = PAUSE_S
        self._next_try_s = time.monotonic() + self._pause_s
        logger.warning(
            "Run %s: %s. The work goes on. What was not sent is kept in %s: it is sent when %s "
            "answers again, or by `unmask log`.",
            self.run_key, str(error).rstrip("."), self._queue.folder, self._sender.place,
        )  # fmt: skip
        return self._queue

    def _catch_up(self, queue: OfflineQueue) -> None:
        if time.monotonic() < self._next_try_s:
            return
        try:
            self._send_earlier()
            self._opening["run"] = queue.send(self._sender)
        except TrackingError as error:
            logger.debug("Run %s still waits: %s", self.run_key, error)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._next_try_s = time.monotonic() + self._pause_s
            return
        queue.remove()
        self._queue = None
        logger.info("Run %s: all that waited was sent to %s", self.run_key, self._sender.place)

    def _send_earlier(self) -> None:
        """Send what an earlier process left of this run."""
        for folder in waiting(self._queues):
            for opening in read_events(folder)[:1]:
                if any(opening[name] != self._opening[name] for name in ("key", "place")):
                    continue
                queue = OfflineQueue.claim(folder)  # None of our own
                if queue is None:
                    continue
                try:
                    queue.send(self._sender)
                except TrackingError:
                    queue.release()
                    raise
                queue.remove()


def begin(
    sender: Sender,
    queues: Path,
    *,
    key: str,
    resume: bool,
    experiment: str,
    run_name: str | None,
    adds_only: bool = False,
    parent: str | None = None,
) -> EventTracker:
    """Return a run that is begun with the sender; with resume the key's newest run goes on.

    With adds_only it keeps the status it has: it must be there, and is not begun again. parent is
    the key of the run that it is shown below.

    Raises:
        TrackingError: the place can't ever take this run.
    """
    opening = {
        "kind": "begin",
        "key": key,
        "resume": resume,
        "adds_only": adds_only,
        "parent": parent,
        "experiment": experiment,
        "run_name": run_name,
        "place": sender.place,
        "run": None,  # the place's name for it, once it is known
        "opened": uuid.uuid4().hex,  # marks the run that this opening made
        "time_ms": _now_ms(),
    }
    return EventTracker(sender, queues, opening)


def _now_ms() -> int:
    return int(time.time() * 1000)
