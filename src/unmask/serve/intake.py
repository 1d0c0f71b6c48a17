"""Bodies of requests as they arrive: none larger, slower or longer under way than it may be."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from starlette.types import Message, Receive

from unmask.errors import UnmaskError

PROBLEM = "!"  # in the place of the page's token: what went wrong with an upload, in words


class UploadError(UnmaskError):
    """A body can't be taken. A program reads status and kind, a person the message."""

    def __init__(self, message: str, *, status: HTTPStatus, kind: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind

    @property
    def is_slow(self) -> bool:
        """Say whether the body came too slowly."""
        return self.status is HTTPStatus.REQUEST_TIMEOUT


@dataclass(frozen=True)
class Pace:
    """How slowly a body may arrive.

    After grace_s, floor_bytes_s is asked for on average since the beginning, so that a byte now and
    then buys no time.
    """

    stall_s: float = 30.0  # without a byte
    grace_s: float = 20.0
    floor_bytes_s: float = 32_000.0  # a telephone with one bar manages more
    whole_s: float = 600.0


SMALL = Pace(stall_s=10.0, grace_s=10.0, whole_s=10.0)  # for bodies of a few kilobytes


def limited(
    receive: Receive,
    most_bytes: int,
    pace: Pace,
    too_large: Callable[[], UploadError],
    clock: Callable[[], float] = time.monotonic,
) -> Receive:
    """Return a receive that raises once a body is too large or too slow.

    Raises, when it is called:
        UploadError: the body is larger than most_bytes or slower than the pace.
    """
    begun_s, arrived, is_whole = clock(), 0, False

    async def receive_limited() -> Message:
        nonlocal arrived, is_whole
        if is_whole:  # what follows says that the client has gone
            return await receive()
        # The moments in which it is too late, if no further byte comes.
        stalled_s = clock() + pace.stall_s
        slow_s = begun_s + pace.grace_s + arrived / pace.floor_bytes_s
        ended_s = begun_s + pace.whole_s
        end_s = min(stalled_s, slow_s, ended_s)
        message = None
        with suppress(TimeoutError):
            async with asyncio.timeout(max(end_s - clock(), 0.0)):
                message = await receive()
        if message is None or clock() > end_s:
            if end_s == stalled_s:
                raise _late(f"stood still for {pace.stall_s:g} s", "stalled")
            if end_s == ended_s:
                raise _late(f"took longer than {pace.whole_s:g} s", "too_slow")
            raise _late(
                f"came at {arrived / max(clock() - begun_s, 0.001) / 1000:.1f} kB/s on average; "
                f"at least {pace.floor_bytes_s / 1000:g} kB/s are asked for",
                "too_slow",
            )
        if message["type"] == "http.request":
            arrived += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if arrived > most_bytes:
                raise too_large()
        else:
            is_whole = True
        return message

    return receive_limited


def too_large(max_bytes: int) -> UploadError:
    """Return the error for a video that is larger than may be."""
    return UploadError(
        f"The file is larger than the {max_bytes / 1e6:g} MB that are taken here. Cut out the part "
        "that matters, or compress it less finely.",
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, kind="too_large",
    )  # fmt: skip


def _late(how: str, kind: str) -> UploadError:
    return UploadError(
        f"The upload {how}. Send it once more, over a faster line or as a smaller file.",
        status=HTTPStatus.REQUEST_TIMEOUT, kind=kind,
    )  # fmt: skip


async def read(receive: Receive) -> bytes:
    """Return a whole body; receive says how large it may become.

    Raises:
        UploadError: receive raises it, or the client hung up.
    """
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise UploadError(
                "The upload was cancelled.", status=HTTPStatus.BAD_REQUEST, kind="cancelled"
            )
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
