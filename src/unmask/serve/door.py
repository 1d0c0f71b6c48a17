"""The outermost layer of a server: proxies before it, what lies below a path, what fails in it."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from unmask.serve.faults import Faults
from unmask.serve.request_filter import RequestFilter, client_of, refuse
from unmask.serve.request_log import RequestLog, request_id

_DRAIN_S, _DRAIN_BYTES = 2.0, 2**24  # many clients read an answer only once they have sent all
Requested = Callable[[str, str, int], None]
REQUEST_ID = "unmask.request_id"  # where a scope has it
_PREFIX = re.compile(r"(?:/(?!\.+(?:/|$))[\w.~-]{1,64}){1,8}", re.ASCII)


class Door:
    """Makes each request look as if it had come without a proxy, and answers all failures.

    A path before the server's own addresses is taken off, if the proxy leaves it there. From
    trusted proxies X-Forwarded-For, -Host and -Prefix are believed, from nobody else.
    """

    def __init__(
        self,
        gate: RequestFilter,
        faults: Faults,
        *,
        root_path: str = "",
        trusted: Sequence[str] = (),
        requested: Requested | None = None,
        request_log: RequestLog | None = None,
    ) -> None:
        """Tell `requested` of each answer: the request's address, its method, the status."""
        self._request_log = request_log
        self._gate, self._faults, self._root_path = gate, faults, root_path
        self._requested = requested
        self._proxies = ProxyHeadersMiddleware(self._answer, list(trusted))  # type: ignore[arg-type]

    def trusts(self, host: str | None) -> bool:
        """Say whether an address is that of a trusted proxy."""
        return host is not None and host in self._proxies.trusted_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what is no HTTP is refused."""
        if scope["type"] == "lifespan":
            await self._gate.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        scope = dict(scope)
        prefix, redirects, given = self._root_path, False, None
        if self.trusts((scope.get("client") or (None,))[0]):
            given = Headers(scope=scope).get("x-request-id")
            prefix, scope["headers"] = self._believe(scope["headers"])
        scope[REQUEST_ID] = request_id(given)
        if prefix and scope["path"] == prefix and not self._gate.find(prefix):
            redirects = True
        elif prefix and scope["path"].startswith(f"{prefix}/"):
            bare = scope["path"].removeprefix(prefix)
            # With --root-path /api, /api/health may be one of either kind.
            if self._gate.find(bare) or not self._gate.find(scope["path"]):
                scope["path"], scope["raw_path"] = bare, bare.encode()
        answer = _Answer()
        finish = _Finish(scope, receive, self._counting(scope, send, answer))
        try:
            if redirects:
                # What stands in the page is relative to its folder.
                response = refuse(307, "moved", "The page is one slash further.")
                response.headers["Location"] = f"{prefix.rpartition('/')[2]}/"
                await response(scope, finish.receive, finish.send)
            else:
                await self._proxies(scope, finish.receive, finish.send)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001  # whatever it is, it costs this request alone
            # A client that hung up makes all kinds of errors, none of which anybody can mend.
            if not finish.hung_up:
                self._faults.note(f"{scope['method']} {scope['path']}", error)
            if not finish.has_begun:
                await finish.send({"type": "http.response.start", "status": 500, "headers": []})
            # An answer that broke off stays so: uvicorn closes the connection.
        finally:
            if self._request_log:
                self._request_log.requested(
                    scope[REQUEST_ID], self._gate.name_of(scope["path"]), scope["method"],
                    answer.status, time.monotonic() - answer.since_s, client_of(scope),
                )  # fmt: skip

    def _counting(self, scope: Scope, send: Send, answer: "_Answer") -> Send:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = scope[REQUEST_ID]
                if self._requested:
                    path = self._gate.name_of(scope["path"])
                    self._requested(path, scope["method"], message["status"])
            await send(message)

        return counting

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._gate(scope, receive, send)

    def _believe(self, raw: list[tuple[bytes, bytes]]) -> tuple[str, list[tuple[bytes, bytes]]]:
        """Return the prefix that a trusted proxy names, and the headers with the host it names."""
        headers = Headers(raw=raw)
        prefix = headers.get("x-forwarded-prefix", "").partition(",")[0].strip().rstrip("/")
        if not _PREFIX.fullmatch(prefix):
            prefix = self._root_path
        if host := headers.get("x-forwarded-host", "").rpartition(",")[2].strip():
            raw = [pair for pair in raw if pair[0] != b"host"]
            raw.append((b"host", host.encode("latin-1")))
        return prefix, raw


@dataclass
class _Answer:
    """What is known of the answer to a request."""

    status: int | None = None  # None until it has begun
    since_s: float = field(default_factory=time.monotonic)


class _Finish:
    """Sees to it that a refusal arrives while its body is still on the way, and a 500 as JSON."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        headers = Headers(scope=scope)
        self._has_rest = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._waits = "expect" in headers  # for a word before it sends the body
        self._drains = self._is_replaced = self._is_done = False
        self.has_begun = self.hung_up = False

    async def receive(self) -> Message:
        """Return what arrives, and remember whether that was all."""
        self._waits = False
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.hung_up = not self._is_done
        if not message.get("more_body", False):
            self._has_rest = False
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; in place of the whole of a 500, one without details."""
        if self._is_replaced:
            return
        if message["type"] == "http.response.start" and message["status"] == 500:
            self._is_replaced = True
            broken = refuse(500, "broken", "Something went wrong here. The server's log has more.")
            await broken(self._scope, self._receive, self._send_on)
        else:
            await self._send_on(message)

    async def _send_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self._drains = self._has_rest and message["status"] >= 400
            if self._has_rest:
                MutableHeaders(scope=message)["Connection"] = "close"
        elif not message.get("more_body", False):
            if self._drains:
                # What is closed with something unread is reset, and the answer with it.
                await self._send({**message, "more_body": True})
                await self._drain()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            self._is_done = True
        await self._send(message)

    async def _drain(self) -> None:
        """Read on for a moment, and keep nothing."""
        if self._waits:
            return
        drained = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self._has_rest and drained <= _DRAIN_BYTES:
                    drained += len((await self.receive()).get("body", b""))
