"""A request to `unmask serve`: its path, headers, form and file's name."""

import asyncio
import itertools
import json
import re
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

from fuzz.folder import make
from unmask.answers.answers_file import RunInfo
from unmask.serve import app
from unmask.serve.faults import Faults
from unmask.serve.queue import JobQueue, Limits

_FOLDER = make()


class _Loud(Faults):
    """Raises what a server would log."""

    def note(self, what: str, error: BaseException | None = None) -> None:
        """Raise the error."""
        raise AssertionError(what) from error


# Not opened, so without settings: nobody answers, and a request gets what its parsers say of it.
_LIMITS = Limits(100_000, 60.0, 60.0, 8, 1)
_JOB_QUEUE = JobQueue(_FOLDER, _LIMITS, None, lambda: None)  # type: ignore[arg-type]
_JOB_QUEUE.run_info = RunInfo("0" * 64, "made")
_OPEN = app.build(_JOB_QUEUE, app.Rules("127.0.0.1", None, None), _Loud())
_LOCKED = app.build(_JOB_QUEUE, app.Rules("127.0.0.1", "word", None), _Loud())
_COUNT = itertools.count()
_LOOP = asyncio.new_event_loop()
# What h11 has refused before any of this is asked.
_TARGET = re.compile(rb"(GET|HEAD|POST|PUT|OPTIONS) (/[\x21-\x7e]*)")
_HEADER = re.compile(
    rb"([-!#$%&'*+.^_`|~0-9a-zA-Z]+):[ \t]*((?:[^\0\s]+(?:[ \t]+[^\0\s]+)*)?)[ \t]*"
)
_HOST = "Host: 127.0.0.1:7860\n"
_FORM = f"{_HOST}Content-Type: multipart/form-data; boundary=B"
_PART = '--B\r\nContent-Disposition: form-data; name="file"'


def _form(disposition: str, more: str = "", *, path: str = "/api/predict") -> str:
    return f"POST {path}\n{_FORM}{more}\n\n{_PART}{disposition}\r\n\r\nvideo\r\n--B--\r\n"


_REQUESTS = [
    _form('; filename="a.mp4"'),
    _form('; filename="a.mp4"', path="/gradio_api/upload"),
    _form('; filename="a\x1b[2J\x01.mp4"', path="/gradio_api/upload"),
    _form('; filename="a.mp4"', "; charset=undefined"),
    _form('; filename="a\\\\ud800.mp4"', "; charset=unicode_escape"),
    _form('; filename="a.mp4"', "; charset=idna"),
    _form("; filename*=utf-16''%ff%fe%00%d8"),
    _form("; filename=\"../../\x1b[2J=cmd|''!A0.mp4\""),
    _form("", "; charset=punycode").replace("video", "abc-" + "b" * 60_000),
    _form('; name="' + "a" * 5000),
    f"POST /api/predict?name=%ff%00%0a\n{_HOST}\nvideo",
    f"POST /api/report\n{_HOST}Content-Length: 99999999999999999999\n\nvideo",
    f"POST /api/report\n{_HOST}Content-Length: \u0663\n\nvideo",
    f"POST /gradio_api/reset\n{_HOST}Content-Type: application/json\n\n" + "{}" * 100,
    f"POST /gradio_api/queue/join\n{_HOST}Content-Type: application/json\n\n" + "[" * 9000,
    f"POST /gradio_api/queue/join\n{_HOST}Content-Type: application/json\n\n"
    '{"session_hash": "a", "fn_index": 99, "data": []}',
    f"POST /gradio_api/cancel\n{_HOST}Content-Type: application/json\n\n"
    '{"session_hash": "a", "fn_index": 0, "event_id": "b"}',
    f"GET /static/{'a' * 5000}\n{_HOST}\n",
    f"GET /assets/..%2f..%2fetc/passwd\n{_HOST}\n",
    "GET /api/health\nHost: [\n\n",
    "GET /\nHost: 127.0.0.1\nAuthorization: Basic \u00ff\n\n",
    f"GET /\n{_HOST}Authorization: Basic bWU6d29yZA==\nCookie: unmask-known=a.b\n\n",
    f'GET /robots.txt\n{_HOST}If-None-Match: ""\nAccept-Encoding: gzip;q=nan\n\n',
    f"GET /assets/index.js\n{_HOST}Range: bytes=9-1\n\n",
    f"GET /gradio_api/queue/data?session_hash=a\n{_HOST}\n",
    f"POST /gradio_api/queue/join\n{_HOST}Content-Type: application/json\n\n"
    '{"data": ["token"], "event_data": null, "fn_index": 2, "trigger_id": 1, "session_hash": "a"}',
    f"GET /config\n{_HOST}Cookie: a=\x01\nOrigin: null\nRange: bytes=9-1\n\n",
]
SEEDS = [request.encode("latin-1", "replace") for request in _REQUESTS]
TOKENS = ["POST /api/predict", "POST /api/report", "POST /gradio_api/upload", "Content-Type: ",
          "multipart/form-data", "boundary=", "charset=", "punycode", "unicode_escape", "idna",
          "filename=", "filename*=", "--B", "--B--", "Content-Disposition: form-data; name=",
          "Host: ", "Origin: ", "Authorization: Basic ", "/gradio_api/queue/join"]  # fmt: skip


def read(data: bytes) -> None:
    """Send the request; no answer is an error of the server's own."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    target = _TARGET.fullmatch(first)
    pairs = [found.groups() for line in lines if (found := _HEADER.fullmatch(line))]
    headers = [(name.lower(), value) for name, value in pairs]
    hosts = [name for name, _ in headers].count(b"host")
    if not target or hosts > 1:
        return
    if not hosts:
        headers.append((b"host", b"localhost"))
    sizes = [value for name, value in headers if name == b"content-length"]
    headers = [pair for pair in headers if pair[0] not in (b"content-length", b"transfer-encoding")]
    is_cut_off = False
    if len(sizes) == 1 and re.fullmatch(rb"[0-9]{1,20}", sizes[0]) and int(sizes[0]) > len(body):
        headers.append((b"content-length", sizes[0]))
        is_cut_off = True
    elif sizes:
        headers.append((b"content-length", str(len(body)).encode()))
    elif body:
        headers.append((b"transfer-encoding", b"chunked"))
    status, said = _LOOP.run_until_complete(
        _ask(target[1].decode(), target[2], headers, body, is_cut_off=is_cut_off)
    )
    assert status in (200, *range(300, 500), 503, 507), f"the answer {status}"
    is_upload = status == 200 and target[2].partition(b"?")[0] == b"/gradio_api/upload"
    if is_upload and (job := _JOB_QUEUE.find(json.loads(said)[0])):
        assert job.name.isprintable(), f"a name that does not print: {job.name!a}"
        _JOB_QUEUE.drop(job)  # else it keeps its place until somebody asks for it
    left = [path.name for path in _FOLDER.iterdir()]
    assert not left, f"left behind: {left}"


async def _ask(
    method: str, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes, *, is_cut_off: bool
) -> tuple[int | None, bytes]:
    raw_path, _, query = target.partition(b"?")
    n = next(_COUNT)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": unquote(raw_path.decode()), "raw_path": raw_path,
        "root_path": "", "query_string": query, "headers": headers,
        # From ever other addresses: one that tries passwords has to wait.
        "client": (f"127.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", 50_000),
        "server": ("127.0.0.1", 7860),
    }  # fmt: skip
    waiting = [body[start : start + 7000] for start in range(0, len(body), 7000)] or [b""]
    statuses: list[int] = []
    said = bytearray()

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting) or is_cut_off}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        said.extend(message.get("body", b""))

    door = _LOCKED if any(name == b"authorization" for name, _ in headers) else _OPEN
    await door(scope, receive, send)
    return (statuses[0] if statuses else None), bytes(said)


async def _begin(door: Any) -> asyncio.Task[None]:
    """Start what the application starts with a server; return what keeps it."""
    has_begun = asyncio.Event()
    messages = [{"type": "lifespan.startup"}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else await asyncio.Future()

    async def send(message: MutableMapping[str, Any]) -> None:
        assert message["type"] == "lifespan.startup.complete", message
        has_begun.set()

    task = asyncio.create_task(door({"type": "lifespan"}, receive, send))
    await has_begun.wait()
    return task


_TASKS = [_LOOP.run_until_complete(_begin(door)) for door in (_OPEN, _LOCKED)]
