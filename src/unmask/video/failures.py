"""What a file that gives no frames, or too few, is refused with."""

from pathlib import Path

from unmask.errors import UnmaskError
from unmask.records import Reason


class DecodeError(UnmaskError):
    """A file gave no frame, or stopped giving them; reason is what a row says of it."""

    # Both are optional here, as unpickling passes the message alone, then sets what else there is.
    def __init__(self, message: str, *, reason: Reason = Reason.UNREADABLE) -> None:
        super().__init__(message)
        self.reason = reason


class TruncatedError(DecodeError):
    """Frames came, then stopped before the file's declared end; last_s is where they stopped."""

    def __init__(self, message: str, *, last_s: float = 0.0) -> None:
        super().__init__(message, reason=Reason.TRUNCATED)
        self.last_s = last_s


def refuse(
    path: Path,
    found: str,
    do: str = "Download it again or leave it out",
    *,
    reason: Reason = Reason.UNREADABLE,
) -> DecodeError:
    """Return the error that names a file, what was found in it, and what to do."""
    message = f"{path}: asked for the frames of a video, found {found}. {do}."
    return DecodeError(message, reason=reason)
