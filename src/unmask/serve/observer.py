"""Who is told what videos spend time on and come to: nobody, unless metrics are kept."""

import time
from types import TracebackType

from unmask.serve.inference import Part, Refusal, Result


class Observer:
    """Is told, and forgets. Threads of the queue call it."""

    def spent(self, part: Part, seconds: float) -> None:
        """Hear for how long a video was in a part of its way."""

    def answered(self, outcome: Result | Refusal) -> None:
        """Hear what a video came to."""


class OfVideo(Observer):
    """Tells another observer, and keeps the seconds of one video."""

    def __init__(self, other: Observer, seconds: dict[Part, float]) -> None:
        self._other, self._seconds = other, seconds

    def spent(self, part: Part, seconds: float) -> None:
        """Hear for how long the video was in a part of its way; a part may come twice."""
        self._seconds[part] = self._seconds.get(part, 0.0) + seconds
        self._other.spent(part, seconds)


class Parts:
    """Tells an observer how long each part of one answer took, at the part's end."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._part: Part | None = None
        self._since_s = 0.0

    def enter(self, part: Part | None) -> None:
        """Go on to a part; to the same one, or to None, ends nothing."""
        # A worker that was taken over may say anything: only what is a part counts.
        if isinstance(part, Part) and part is not self._part:
            self._end()
            self._part, self._since_s = part, time.monotonic()

    def __enter__(self) -> "Parts":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the last part."""
        self._end()

    def _end(self) -> None:
        if self._part is not None:
            self._observer.spent(self._part, time.monotonic() - self._since_s)
            self._part = None
