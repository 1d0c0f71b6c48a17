"""Words on what goes wrong in a server: one line for each, however often a stranger causes it."""

import logging
import time
import traceback
from collections.abc import Callable

_log = logging.getLogger(__name__)
_MOST_KEPT = 1_000  # kinds of faults that are remembered


class Faults:
    """Logs each kind of fault once in a while, with the number of those it left out.

    Two faults are of one kind where the same line of code raised the same type.
    """

    def __init__(
        self, *, pause_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pause_s, self._clock = pause_s, clock
        self._seen: dict[str, tuple[float, int]] = {}  # when it was logged last; left out since

    def note(self, what: str, error: BaseException | None = None) -> None:
        """Log one line: what was done, and which error came of it, raised where."""
        where = _where(error)
        key = f"{type(error).__name__} {where}" if error else what
        now_s = self._clock()
        logged_s, left_out = self._seen.get(key, (-self._pause_s, 0))
        if now_s - logged_s < self._pause_s:
            self._seen[key] = logged_s, left_out + 1
            return
        if len(self._seen) >= _MOST_KEPT:
            self._seen.clear()
        self._seen[key] = now_s, 0
        more = f" ({left_out} more like it since the last such line)" if left_out else ""
        words = f": {type(error).__name__}: {_shown(str(error))}, in {where}" if error else ""
        _log.error("%s%s%s", _shown(what), words, more)


def _where(error: BaseException | None) -> str:
    """Return file, line and function in which an error was raised."""
    frames = traceback.extract_tb(error.__traceback__) if error else []
    if not frames:
        return "no code of ours"
    last = frames[-1]
    return f"{'/'.join(last.filename.split('/')[-2:])}:{last.lineno} {last.name}"


def _shown(words: str) -> str:
    """Return words as one printable line of at most 300 characters: a client may have sent them."""
    line = "".join(char if char.isprintable() else "?" for char in words)
    return line if len(line) <= 300 else line[:299] + "…"
