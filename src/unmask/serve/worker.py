"""A process of the server that answers videos, as its parent sees it."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pickle import UnpicklingError

from unmask.answers.answers_file import RunInfo
from unmask.errors import UnmaskError
from unmask.runtime import wire
from unmask.runtime.child import Child
from unmask.runtime.confinement import Confinement
from unmask.serve.inference import Settings, Task, work

_log = logging.getLogger(__name__)

LOOK_S = 0.1  # how often workers, cancellations and deadlines are checked
_START_S = 600.0  # time to load the model: torch from a cold network drive takes minutes


class Worker:
    """A process that holds the model. When it is killed, revive() starts another in its place.

    Not safe for several threads, except for is_ready: one thread at a time uses a worker.
    """

    def __init__(
        self, settings: Settings, start: Callable[[], None], confined: Confinement
    ) -> None:
        self._settings, self._start, self._confined = settings, start, confined
        self._child: Child | None = None
        self._has_model = False
        self._run_info: RunInfo | None = None  # of the process before

    @property
    def is_ready(self) -> bool:
        """Say whether it can be given a task."""
        child = self._child
        return self._has_model and child is not None and child.is_alive()

    def spawn(self) -> None:
        """Start the process, which begins to load the model."""
        self._child = Child(
            work, self._settings, self._start, confined=self._confined, leads_group=True
        )

    def send(self, task: Task) -> None:
        """Give it a task.

        Raises:
            OSError: it has ended.
        """
        assert self._child is not None
        self._child.connection.send(task)

    def has_said(self, wait_s: float) -> bool:
        """Wait up to wait_s, and say whether there is a message, or the process has ended."""
        assert self._child is not None
        return self._child.connection.poll(wait_s)

    def receive(self) -> object:
        """Return its next message.

        Raises:
            EOFError, OSError: the process has ended.
            UnpicklingError: the message holds something else than plain data.
        """
        assert self._child is not None
        return wire.loads(self._child.connection.recv_bytes())

    def await_model(self, is_ending: Callable[[], bool]) -> RunInfo:
        """Wait until the process has loaded the model, and return its RunInfo.

        Raises:
            UnmaskError: there is no model; the process died or is not ready after ten minutes; or
                the server is ending.
        """
        said = None
        end_s = time.monotonic() + _START_S
        with suppress(EOFError, OSError, UnpicklingError):
            while time.monotonic() < end_s and not is_ending():
                if self.has_said(LOOK_S):
                    said = self.receive()
                    break
        if isinstance(said, RunInfo):
            if self._run_info not in (None, said):
                _log.warning(
                    "The model in %s was replaced while this server runs: answers are now the new "
                    "one's, %s. Other processes of the server, its health, metrics and log may "
                    "still name the old one. Restart the server.",
                    self._settings.model_dir, said.model,
                )  # fmt: skip
            self._has_model, self._run_info = True, said
            return said
        self.kill()
        if isinstance(said, UnmaskError):
            raise said
        raise UnmaskError(
            "Asked a process to load the model; it ended, or is not ready after ten minutes. See "
            "its words above; a machine short of memory kills such processes."
        )

    def revive(self, is_ending: Callable[[], bool]) -> None:
        """Replace the process that was killed."""
        self.spawn()
        try:
            self.await_model(is_ending)
        except UnmaskError as error:  # not fatal: it could be loaded when the server started
            if not is_ending():
                _log.warning("%s Trying again.", error)
                time.sleep(1)

    def kill(self) -> None:
        """Kill the process and all processes that it started."""
        self._has_model = False
        child, self._child = self._child, None
        if child is not None:
            child.kill()
