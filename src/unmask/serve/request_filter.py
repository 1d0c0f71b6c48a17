"""Who may ask this server for what: all that arrives passes here before anything else reads it."""

import ipaddress
import json
import math
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmask.serve import forms, intake, passwords
from unmask.serve.intake import SMALL, Pace, UploadError
from unmask.serve.passwords import Throttle

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE = ("0.0.0.0", "::", "")

_MOST_PATH, _MOST_QUERY = 512, 2_048
_MOST_HEADERS, _HEADER_BYTES = 64, 16_384  # h11 only limits those that come in pieces
_MOST_LETTERS = 400  # in a word that the page sends
_WORDS_BYTES = 4_096  # in all that the page sends at once
_MARK = "unmask-known"  # the cookie of a browser that signed in

# A file of the page: no name that a disk could stumble over, and nothing outside the folder.
_FILE = re.compile(r"(?:[\w@-][\w@.-]{0,150}/){0,6}[\w@-][\w@.-]{0,150}", re.ASCII)
_SESSION = re.compile(r"[0-9a-z]{1,32}")

# The only headers that the application gets to see. Gradio builds addresses from others that any
# client can send, and reads cookies and ranges.
_PASSED_ON = frozenset(
    (
        b"host", b"content-type", b"content-length", b"transfer-encoding", b"expect", b"accept",
        b"accept-encoding", b"if-none-match", b"if-modified-since",
    )
)  # fmt: skip

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

_READ = frozenset(("GET", "HEAD"))
_STREAM = frozenset(("GET",))  # it has no end, so there is no HEAD of it
OTHER = "other"  # what any address counts as that is none of this server's


@dataclass(frozen=True)
class Route:
    """What one address takes."""

    methods: frozenset[str] = _READ
    most_bytes: int = 0  # of a body
    is_upload: bool = False  # its body may take as long as an upload
    is_own: bool = False  # only for this server's own page and for programs, whatever the method
    needs_password: bool = True


@dataclass(frozen=True)
class Page:
    """What the page's own requests may hold."""

    inputs: Mapping[int, int] = field(default_factory=dict)  # how many words each function takes
    knows: Callable[[str], bool] = lambda _: False  # whether a browser's session has asked anything
    is_full: Callable[[str], bool] = lambda _: False  # whether it has asked too much, unfetched


@dataclass(frozen=True)
class Names:
    """By which names this server is reached."""

    host: str  # where it listens
    allowed: tuple[str, ...] = ()  # further ones, `name` or `name:port`, as a proxy has them

    def knows(self, host: str) -> bool:
        """Say whether a Host header names this server.

        A page of another site whose name its owner points at this machine has that name in it, and
        is no way around the browser's rules. An address can't be pointed anywhere.
        """
        name = _name_of(host)
        if name is None:
            return False
        if name in {_name_of(each) for each in self.allowed}:
            return True
        if self.host in LOOPBACK:
            return name in LOOPBACK
        if self.host in _EVERYWHERE:
            own = {"localhost", socket.gethostname().lower()}
            return name in own or _is_address(name)
        return name == _name_of(f"[{self.host}]" if ":" in self.host else self.host)

    def is_own_page(self, origin: str, host: str) -> bool:
        """Say whether an Origin header names a page of this server, asked as `host`."""
        try:
            parts = urlsplit(origin)
            _ = parts.port
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):  # "null" among them
            return False
        own = {_with_port(each, parts.scheme) for each in (host, *self.allowed)}
        return _with_port(parts.netloc, parts.scheme) in own


def routes(max_bytes: int) -> dict[str, Route]:
    """Return all addresses that stand alone; videos may have max_bytes."""
    write = frozenset(("POST",))
    video = Route(write, max_bytes + forms.FORM_BYTES, is_upload=True, is_own=True)
    return {
        "/": Route(),
        "/theme.css": Route(),
        "/manifest.json": Route(),
        "/favicon.ico": Route(),
        "/robots.txt": Route(),
        "/api/health": Route(needs_password=False),
        "/healthz": Route(needs_password=False),
        "/readyz": Route(needs_password=False),
        "/metrics": Route(is_own=True),
        "/openapi.json": Route(),
        "/api/predict": video,
        "/api/report": video,
        "/gradio_api/upload": video,
        "/gradio_api/app_id": Route(is_own=True),
        _JOIN: Route(write, _WORDS_BYTES, is_own=True),
        _DATA: Route(_STREAM, is_own=True),
    }


_JOIN, _DATA = "/gradio_api/queue/join", "/gradio_api/queue/data"
_HEARTBEAT = "/gradio_api/heartbeat/"
_FOLDERS = ("/assets/", "/static/")


class RequestFilter:
    """Lets through what the page and the endpoints need, from whom it may come."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        password: str | None,
        allowed: tuple[str, ...] = (),
        max_bytes: int = 0,
        page: Page | None = None,
        pace: Pace | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self.app, self._password = app, password
        self._names = Names(host, allowed)
        self._max_bytes = max_bytes
        self._routes = routes(max_bytes)
        self._page, self._pace = page or Page(), pace or Pace()
        self._throttle = throttle or Throttle()

    def find(self, path: str) -> Route | None:
        """Return what stands at an address."""
        if route := self._routes.get(path):
            return route
        for folder in _FOLDERS:
            if path.startswith(folder) and _FILE.fullmatch(path.removeprefix(folder)):
                return Route()
        if _SESSION.fullmatch(path.removeprefix(_HEARTBEAT)) and path.startswith(_HEARTBEAT):
            return Route(_STREAM, is_own=True)
        return None

    def name_of(self, path: str) -> str:
        """Return the name of an address for statistics: one of a few, whatever is asked."""
        if path in self._routes:
            return path
        folders = (folder for folder in (*_FOLDERS, _HEARTBEAT) if path.startswith(folder))
        folder = next(folders, OTHER)
        return folder if len(path) <= _MOST_PATH and self.find(path) else OTHER

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        headers, path = Headers(scope=scope), scope["path"]
        route = self.find(path) if len(path) <= _MOST_PATH else None
        send = _with_headers(send)
        if refusal := self._refuse(scope, headers, route):
            await refusal(scope, receive, send)
            return
        assert route is not None
        if self._password is not None and path == "/":
            send = self._marking(headers, send)
        try:
            receive = self._limited(headers, receive, route)
            passed = [pair for pair in scope["headers"] if pair[0] in _PASSED_ON]
            if path == _JOIN:
                body = self._plain(await intake.read(receive))
                receive = _again(body, receive)
                passed = [pair for pair in passed if not pair[0].startswith(b"content-")]
                passed += [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                ]
            elif path == _DATA:
                self._check_session(scope)
        except UploadError as error:
            await refuse(error.status, error.kind, str(error))(scope, receive, send)
            return
        # Whoever answers GET answers HEAD so; the server sends no body to one.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        await self.app({**scope, "method": method, "headers": passed}, receive, send)

    def _refuse(self, scope: Scope, headers: Headers, route: Route | None) -> Response | None:
        """Return the answer to who may not ask this; None to who may."""
        if len(scope["query_string"]) > _MOST_QUERY:
            return refuse(414, "too_long_address", "This address is longer than any here.")
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if len(headers) > _MOST_HEADERS or size > _HEADER_BYTES:
            return refuse(
                431, "too_many_headers",
                f"More than {_MOST_HEADERS} headers, or {_HEADER_BYTES} bytes of them; send fewer.",
            )  # fmt: skip
        if route is None:
            return refuse(404, "not_found", "There is nothing here. The page is at /.")
        if scope["method"] not in route.methods:
            allowed = ", ".join(sorted(route.methods))
            refusal = refuse(405, "method", f"This address answers {allowed}.")
            refusal.headers["Allow"] = allowed
            return refusal
        host = headers.get("host", "")
        if not self._names.knows(host):
            return refuse(
                421, "wrong_host",
                "This server does not answer by the name in this address. Whoever runs it can add "
                "the name with --allowed-host.",
            )  # fmt: skip
        if (route.is_own or scope["method"] not in _READ) and not self._is_own(headers, host):
            return refuse(
                403, "cross_site",
                "Another site's page may not send anything here. If this is this server's own "
                "page, behind a proxy: start the server with --allowed-host and the page's host "
                "and port.",
            )  # fmt: skip
        return self._check_password(scope, headers) if route.needs_password else None

    def _is_own(self, headers: Headers, host: str) -> bool:
        """Say whether a request comes from this server's page, or from a program.

        Browsers send Sec-Fetch-Site over TLS and to loopback; no page can change it, and it holds
        behind a proxy that changes Host. Elsewhere they send Origin with what changes something.
        Programs send neither. Go's net/http.CrossOriginProtection asks the same.
        """
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = headers.get("origin") or headers.get("referer")
        return origin is None or self._names.is_own_page(origin, host)

    # ------------------------------------------------------------ passwords

    def _check_password(self, scope: Scope, headers: Headers) -> Response | None:
        authorization = headers.get("authorization")
        if self._password is None:
            return None
        if authorization is None:  # a browser's first request: nothing was tried
            return _ask_password()
        client = self._client(scope, headers)
        if wait_s := self._throttle.wait_s(client):
            shown = math.ceil(wait_s)
            refusal = refuse(
                429, "too_many_passwords", f"Too many wrong passwords. Try again in {shown} s."
            )
            refusal.headers["Retry-After"] = str(shown)
            return refusal
        if self._is_password(authorization):
            self._throttle.succeed(client)
            return None
        self._throttle.fail(client)
        return _ask_password()

    def _is_password(self, authorization: str) -> bool:
        word = passwords.given(authorization)
        return (
            self._password is not None
            and word is not None
            and secrets.compare_digest(word, self._password.encode())
        )

    def _client(self, scope: Scope, headers: Headers) -> str:
        return self._throttle.client(client_of(scope), _mark_in(headers))

    def _marking(self, headers: Headers, send: Send) -> Send:
        """Return a send that gives a browser that has signed in its mark."""
        if self._throttle.client("", _mark_in(headers)):
            return send
        cookie = f"{_MARK}={self._throttle.mark()}; Path=/; HttpOnly; SameSite=Strict"

        async def marking(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("Set-Cookie", cookie)
            await send(message)

        return marking

    # ------------------------------------------------------------ bodies

    def _limited(self, headers: Headers, receive: Receive, route: Route) -> Receive:
        declared = headers.get("content-length", "0")
        most = route.most_bytes
        if route.is_upload and not forms.is_form(headers.get("content-type", "")):
            most = self._max_bytes
        if not declared.isdecimal() or int(declared[:20]) > most:
            raise self._too_large(route)
        if not most and "transfer-encoding" in headers:
            raise self._too_large(route)
        if route.is_upload:
            return intake.limited(receive, most, self._pace, lambda: self._too_large(route))
        if most:
            return intake.limited(receive, most, SMALL, lambda: self._too_large(route))
        return receive

    def _too_large(self, route: Route) -> UploadError:
        if route.is_upload:
            return intake.too_large(self._max_bytes)
        return UploadError(
            f"This address takes at most {route.most_bytes} bytes.",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, kind="too_large",
        )  # fmt: skip

    def _plain(self, body: bytes) -> bytes:
        """Return what the page asks, written anew: nothing but a few short words.

        Gradio follows a path or an address among them, whatever field it stands in.

        Raises:
            UploadError: the page sends nothing of the kind, or not so much of it.
        """
        try:
            asked: Any = json.loads(body)
        except (ValueError, RecursionError):
            asked = None
        if isinstance(asked, dict):
            function, inputs = asked.get("fn_index"), asked.get("data")
            session, trigger = asked.get("session_hash"), asked.get("trigger_id")
            if (
                type(function) is int
                and function in self._page.inputs
                and isinstance(inputs, list)
                and len(inputs) == self._page.inputs[function]
                and all(value is None or _is_word(value) for value in inputs)
                and isinstance(session, str)
                and _SESSION.fullmatch(session)
                and (trigger is None or (type(trigger) is int and 0 <= trigger < 10_000))
            ):
                if self._page.is_full(session):
                    raise UploadError(
                        "This session has answers that nobody fetched. Load the page again.",
                        status=HTTPStatus.TOO_MANY_REQUESTS, kind="full",
                    )  # fmt: skip
                plain = {
                    "fn_index": function, "data": inputs, "session_hash": session,
                    "trigger_id": trigger, "event_data": None,
                }  # fmt: skip
                return json.dumps(plain).encode()
        raise UploadError(
            "This is nothing that the page sends.",
            status=HTTPStatus.BAD_REQUEST, kind="bad_request",
        )  # fmt: skip

    def _check_session(self, scope: Scope) -> None:
        try:
            asked = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=8)
        except ValueError:
            asked = {}
        session = asked.get("session_hash", [""])[-1]
        if not _SESSION.fullmatch(session) or not self._page.knows(session):
            raise UploadError(
                "Nobody has asked anything in this session, or its answer was fetched.",
                status=HTTPStatus.NOT_FOUND, kind="not_found",
            )  # fmt: skip


def client_of(scope: Scope) -> str:
    """Return who asks, as limits for each client count them: of IPv6 the network of 64 bits."""
    host = (scope.get("client") or ("", 0))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return str(host)[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def refuse(status: int, kind: str, words: str) -> JSONResponse:
    """Return the answer to a request that is not answered."""
    return JSONResponse({"error": kind, "detail": words}, status)


def _ask_password() -> JSONResponse:
    refusal = refuse(401, "no_password", "Sign in with any name and this server's password.")
    refusal.headers["WWW-Authenticate"] = 'Basic realm="unmask", charset="UTF-8"'
    return refusal


def _mark_in(headers: Headers) -> str:
    return cookie_parser(headers.get("cookie", "")).get(_MARK, "")


def _is_word(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MOST_LETTERS


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name_of(host: str) -> str | None:
    """Return the name in a Host header, without port; None where it holds no such thing.

    >>> _name_of("Example.org.:80"), _name_of("[::1]:80"), _name_of("["), _name_of("ann@host")
    ('example.org', '::1', None, None)
    """
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    if parts.netloc != host or "@" in host:
        return None
    return (parts.hostname or "").rstrip(".") or None


def _with_port(host: str, scheme: str) -> str | None:
    """Return `name:port`, with the scheme's port where none is said."""
    name = _name_of(host)
    if name is None:
        return None
    port = urlsplit(f"//{host}").port or (443 if scheme == "https" else 80)
    return f"{name}:{port}"


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
