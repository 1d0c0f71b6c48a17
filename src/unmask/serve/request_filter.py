"""Who may ask this server for what: all that arrives passes here before anything else reads it."""

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# What Gradio's page needs of Gradio's server. Behind the rest of its addresses are files of this
# machine, other sites that it fetches for whoever asks, and editors of its code.
_OPEN = ("/", "/config", "/theme.css", "/manifest.json", "/favicon.ico", "/robots.txt")
_OPEN_BELOW = ("/assets/", "/static/", "/svelte/", "/api/", "/gradio_api/heartbeat/")
_OPEN_GRADIO = tuple(
    f"/gradio_api/{name}"
    for name in ("upload", "queue/data", "reset", "startup-events", "info", "app_id")
)
# What a page sends there: few words. Gradio follows a path or an address in them, whatever field it
# stands in, and copies what is there.
_CHECKED = ("/gradio_api/queue/join", "/gradio_api/cancel")
_MOST_BYTES, _MOST_LETTERS = 16_384, 400

# Were a page to ask for anything elsewhere, the browser would refuse.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Gate:
    """Lets through what the page and the endpoints need, from whom it may come."""

    def __init__(self, app: ASGIApp, *, host: str, password: str | None) -> None:
        self._app, self._host, self._password = app, host, password

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refuse(scope)
        if refusal is None and scope["path"] in _CHECKED:
            body = await _read(receive)
            if _is_plain(body):
                receive = _again(body, receive)
            else:
                refusal = _error(400, "bad_request", "This is nothing that the page sends.")
        await (refusal or self._app)(scope, receive, _with_headers(send))

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        headers, path = Headers(scope=scope), scope["path"]
        if not (path in (*_OPEN, *_OPEN_GRADIO, *_CHECKED) or path.startswith(_OPEN_BELOW)):
            return _error(404, "not_found", "There is nothing here. The page is at /.")
        # A name that somebody else's site points at this machine is no way around its browser.
        if (
            self._host in LOOPBACK
            and urlsplit(f"//{headers.get('host', '')}").hostname not in LOOPBACK
        ):
            return _error(421, "wrong_host", "This server only answers as 127.0.0.1 or localhost.")
        if headers.get("sec-fetch-site") == "cross-site" and scope["method"] != "GET":
            return _error(403, "cross_site", "Another site's page may not send anything here.")
        if self._password and not _is_password(headers, self._password) and path != "/api/health":
            refusal = _error(
                401, "no_password", "Sign in with any name and this server's password."
            )
            refusal.headers["WWW-Authenticate"] = 'Basic realm="unmask", charset="UTF-8"'
            return refusal
        return None


def _error(status: int, kind: str, words: str) -> JSONResponse:
    return JSONResponse({"error": kind, "detail": words}, status)


def _is_password(headers: Mapping[str, str], password: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    try:
        _, _, word = base64.b64decode(given, validate=True).partition(b":")
    except ValueError:
        return False
    return scheme.lower() == "basic" and secrets.compare_digest(word, password.encode())


async def _read(receive: Receive) -> bytes:
    """Return the body, as far as it is not too long."""
    body, more = b"", True
    while more and len(body) <= _MOST_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _is_plain(body: bytes) -> bool:
    """Say whether the page can have sent it: among its inputs are only short words."""
    if len(body) > _MOST_BYTES:
        return False
    try:
        asked: Any = json.loads(body)
        inputs = asked.get("data") or []
    except (ValueError, AttributeError):
        return False
    return isinstance(inputs, list) and all(
        value is None or (isinstance(value, str) and len(value) <= _MOST_LETTERS)
        for value in inputs
    )


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives the body that was read, then what follows."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return wrapped
