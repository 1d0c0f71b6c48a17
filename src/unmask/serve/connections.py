"""Connections of a server: each has a time for its request and its answer, and they are counted."""

import asyncio
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from unmask.serve.faults import Faults
from unmask.serve.request_filter import client_of

_SHUTDOWN_S = 3  # for requests that are under way when the server is told to stop
_WANTED_FILES = 4_096  # descriptors, where the system lets a process have so many
_OWN_FILES = 40  # 20 are open when the model is loaded
_MOST = 1_000  # connections: each may take 64 kB of each direction


def _answer(status: str, body: bytes, more: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\n%s"
        b"Content-Length: %d\r\n\r\n%s"
    ) % (status.encode(), more, len(body), body)


_REFUSAL = _answer(
    "503 Service Unavailable",
    b'{"error": "busy", "detail": "Too many connections. Come again in some time."}',
    b"Retry-After: 5\r\n",
)
_NO_HTTP = _answer(
    "400 Bad Request",
    b'{"error": "bad_request", "detail": "This is no HTTP, or its headers are over 16 kB."}',
)


@dataclass(frozen=True)
class Patience:
    """How long a connection may take."""

    request_s: float = 10.0  # from its beginning to the end of a request's headers
    idle_s: float = 10.0  # between two requests
    answer_s: float = 30.0  # in which it reads at least answer_bytes of what waits for it
    answer_bytes: int = 32_768


@dataclass
class Crowd:
    """All connections of a server."""

    most: int
    most_each: int  # of one client's address
    patience: Patience
    is_proxy: Callable[[str | None], bool]  # behind it are many clients
    counts: Counter[str] = field(default_factory=Counter)


def make_room(places: int) -> tuple[int, int]:
    """Return how many connections there may be, and how many are taken in at once.

    Descriptors are left over for `places` uploads, for files and pipes. As many are asked for as
    the system lets a process have.
    """
    if sys.platform == "win32":  # which has no such limit
        soft = _WANTED_FILES
    else:
        soft = _raise_limit()
    room = min(_MOST, soft - _OWN_FILES - 2 * places)
    # The event loop takes in so many more before we see the first of them.
    backlog = max(8, min(room // 2, 128))
    return max(8, room - backlog), backlog


if sys.platform != "win32":

    def _raise_limit() -> int:
        """Return how many descriptors this process may have, after asking for more."""
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < _WANTED_FILES and (hard == resource.RLIM_INFINITY or hard > soft):
            soft = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return soft


class Server(uvicorn.Server):
    """A server that counts its connections, ends late ones, and gives up all work at once."""

    def __init__(
        self,
        app: ASGIApp,
        crowd: Crowd,
        faults: Faults,
        *,
        backlog: int,
        end: Callable[[], None],
    ) -> None:
        config = uvicorn.Config(
            app, log_level="critical", server_header=False, proxy_headers=False, ws="none",
            http=_protocol(crowd), backlog=backlog, timeout_graceful_shutdown=_SHUTDOWN_S,
            # Ours comes first: uvicorn's time begins anew with each byte.
            timeout_keep_alive=round(crowd.patience.idle_s) + 5,
        )  # fmt: skip
        super().__init__(config)
        self._faults, self._end = faults, end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, on a signal: else uvicorn cuts off what is under way without an answer."""
        self._end()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; what the event loop can't do is told in one line from now on."""
        asyncio.get_running_loop().set_exception_handler(self._say)
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """End connections that are late."""
        if counter % 5 == 0:
            now_s = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.end_if_late(now_s)
        return await super().on_tick(counter)

    def _say(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # At the limit of open files the loop says so thousands of times a second.
        self._faults.note(context["message"], error)


def _protocol(crowd: Crowd) -> type["Connection"]:
    return type("CountedConnection", (Connection,), {"crowd": crowd})


_HEARTBEAT = "/gradio_api/heartbeat/"


class Connection(H11Protocol):
    """A connection that is closed when its client takes too long to ask, or to read."""

    crowd: Crowd

    _address = ""
    _since_s = 0.0  # from when on it owes a request
    _has_asked = False  # a first request was whole
    _unread: int | None = None  # bytes that waited for the client, and when that was
    _read_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection; if there are too many, close one that has sent no request yet."""
        super().connection_made(transport)
        self._since_s = time.monotonic()
        peer = self.client[0] if self.client else None
        self._address = client_of({"client": self.client})
        crowd = self.crowd
        crowd.counts[self._address] += 1
        if crowd.counts[self._address] > crowd.most_each and not crowd.is_proxy(peer):
            self._displace(self._address)
        elif len(self.connections) > crowd.most:
            self._displace(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no longer."""
        super().connection_lost(exc)
        self.crowd.counts[self._address] -= 1
        if self.crowd.counts[self._address] <= 0:
            del self.crowd.counts[self._address]

    def _displace(self, address: str | None) -> None:
        """Close the connection that owes a request for longest; else refuse this one.

        Where none owes one, a page's sign of life gives way, of the address that has most
        connections: it costs nothing to keep open, and as many as there may be would keep all
        others out. A page that lost its own asks again.
        """
        others = [
            each for each in self.connections
            if isinstance(each, Connection) and each is not self
            and (address is None or each._address == address) and not each.transport.is_closing()
        ]  # fmt: skip
        owing = [each for each in others if not each.is_busy]
        beating = [each for each in others if each.is_heartbeat]
        if owing:
            min(owing, key=lambda each: each._since_s).transport.abort()
        elif beating:
            counts = self.crowd.counts
            max(beating, key=lambda each: counts[each._address]).transport.abort()
        else:
            self.transport.write(_REFUSAL)
            self.transport.close()

    @property
    def is_busy(self) -> bool:
        """Say whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_heartbeat(self) -> bool:
        """Say whether what is being answered is only a page's sign that it is still open."""
        return self.is_busy and _HEARTBEAT in self.cycle.scope["path"]

    def handle_events(self) -> None:
        """Read on; what comes too late to be answered ends the connection."""
        try:
            super().handle_events()
        except h11.LocalProtocolError:  # garbage amid a body, after its answer began
            self.transport.abort()
        self._has_asked = self._has_asked or self.is_busy

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._since_s = time.monotonic()
        super().on_response_complete()

    def resume_writing(self) -> None:
        """Note that the client has read what was in its way."""
        self._unread = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's signature
        """Answer what is no HTTP as all else is refused."""
        if self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
            self.transport.write(_NO_HTTP)
        self.transport.close()

    def end_if_late(self, now_s: float) -> None:
        """Close the connection if its client takes too long; called now and then."""
        unread, patience = self.transport.get_write_buffer_size(), self.crowd.patience
        if unread:
            if self._unread is None or self._unread - unread >= patience.answer_bytes:
                self._unread, self._read_s = unread, now_s
            elif unread > self._unread:  # more was written since
                self._unread = unread
            elif now_s - self._read_s > patience.answer_s:
                self.transport.abort()
            return
        self._unread = None
        if not self.is_busy:
            most_s = patience.idle_s if self._has_asked else patience.request_s
            if now_s - self._since_s > most_s:
                self.transport.abort()
