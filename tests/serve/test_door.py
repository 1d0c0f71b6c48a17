"""A server behind proxies, real ones over the same bytes, and what fails in it."""

import asyncio
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from small_server import SmallServer, read_answer, request, small_server
from waiting import wait_until

from unmask.serve import door
from unmask.serve.door import Door
from unmask.serve.faults import Faults
from unmask.serve.queue import Limits
from unmask.serve.request_filter import RequestFilter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Gradio's own, whose loops and sockets these are
]
PREFIX = "/tools/unmask"


@contextmanager
def stripping_proxy(port: int, prefix: str, *, strips: bool = True) -> Iterator[int]:
    """A proxy that takes a prefix off each path, and speaks to a server on a port."""

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65_536) or b"\r\n\r\n"
            first, rest = head.split(b"\r\n", 1)
            method, path, version = first.split(b" ")
            if not path.startswith(prefix.encode()):
                client.sendall(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n")
                return
            path = path.removeprefix(prefix.encode()) if strips else path
            # Host is the server's, as with nginx's proxy_pass.
            rest = re.sub(rb"(?mi)^host: .*\r$", b"Host: 127.0.0.1\r", rest)
            rest = re.sub(rb"(?mi)^connection: .*\r\n", b"", rest)
            head = b" ".join([method, path or b"/", version]) + b"\r\nConnection: close\r\n" + rest
            server.sendall(head)
            back = threading.Thread(target=pump, args=(client, server), daemon=True)
            back.start()
            pump(server, client)

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while part := source.recv(65_536):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def get(port: int, path: str, **headers: str) -> Any:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request("GET", path, **headers))
        return read_answer(connection)


def check_page_below(port: int, prefix: str) -> None:
    """All that the page asks for first is there, relative to where the page is."""
    page = get(port, f"{prefix}/")
    assert page.status == 200
    text = page.body.decode()
    assert not re.findall(r'(?:src|href)="/[^/]', text)  # nothing from the proxy's root
    for found in re.findall(r'(?:src|href)="\./((?:assets|theme)[^"]*)"', text)[:2]:
        assert get(port, f"{prefix}/{found}").status == 200
    assert 'new URL(".", location.href)' in text.partition("</head>")[0]
    assert get(port, f"{prefix}/api/health").status == 503


@pytest.mark.parametrize("strips", [True, False])
def test_the_page_works_below_a_path(tmp_path: Path, strips: bool) -> None:
    root_path = "" if strips else PREFIX
    with (
        small_server(tmp_path, root_path=root_path) as server,
        stripping_proxy(server.port, PREFIX, strips=strips) as port,
    ):
        check_page_below(port, PREFIX)
        if not strips:  # the page's addresses are relative to its folder
            moved = get(server.port, PREFIX)
            assert (moved.status, moved.headers["location"]) == (307, "unmask/")
            check_page_below(server.port, "")  # and without a proxy, from the machine itself


def test_nginx_with_and_without_the_prefix(tmp_path: Path) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("NO NGINX: `apt-get install nginx-light` tests the page behind it")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with small_server(tmp_path / "serve", root_path="/kept", trusted_proxies=("127.0.0.1",)) as (
        server
    ):
        folders = "".join(
            f"{name}_temp_path {tmp_path}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/log;"
            f"events {{}} http {{ access_log off; {folders} server {{ listen 127.0.0.1:{port};"
            f"location /stripped/ {{ proxy_pass http://127.0.0.1:{server.port}/; }}"
            f"location /kept/ {{ proxy_pass http://127.0.0.1:{server.port}; }}"
            f"location /named/ {{ proxy_pass http://127.0.0.1:{server.port};"
            "proxy_set_header X-Forwarded-Prefix /named; } } }"
        )
        process = subprocess.Popen([nginx, "-c", str(tmp_path / "nginx.conf")])
        try:
            wait_until(lambda: answers(port))
            for prefix in ("/stripped", "/kept", "/named"):
                check_page_below(port, prefix)
        finally:
            process.terminate()
            process.wait(timeout=30)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


# ---------------------------------------------------------------- whom to believe


def test_only_a_trusted_proxy_is_believed(tmp_path: Path) -> None:
    said = {
        "X_Forwarded_For": "203.0.113.9", "X_Forwarded_Host": "site.example",
        "X_Forwarded_Prefix": "/below",
    }  # fmt: skip
    limits = Limits(100_000, 60, 60, waiting=3, jobs=1, each=1)
    with small_server(
        tmp_path, limits=limits, host="0.0.0.0", trusted_proxies=("127.0.0.2",),
        allowed_hosts=("site.example",),
    ) as server:  # fmt: skip
        assert server.get("/below/robots.txt", source="127.0.0.2", **said).status == 200
        assert server.get("/below/robots.txt", source="127.0.0.3", **said).status == 404
        origin = {"Origin": "https://site.example"}
        asked = server.post("/api/predict", b"", source="127.0.0.2", **said, **origin)
        assert asked.kind == "not_a_video"
        evil = said | {"X_Forwarded_Host": "evil.example"}
        assert server.get("/", source="127.0.0.2", **evil).kind == "wrong_host"
        assert server.get("/robots.txt", source="127.0.0.3", **evil).status == 200  # not read
        # Places are the client's, not the proxy's.
        begun = request("POST", "/api/predict", Content_Length="9", **said) + b"begun"
        with server.connect("127.0.0.2") as held:
            held.sendall(begun)
            wait_until(
                lambda: [t.client for t in server.job_queue._jobs.values()] == ["203.0.113.9"]
            )
            assert server.post("/api/predict", b"x", source="127.0.0.2", **said).kind == "full"
            other = said | {"X_Forwarded_For": "203.0.113.9, 203.0.113.10"}
            assert server.post("/api/predict", b"", source="127.0.0.2", **other).status == 415


@pytest.mark.parametrize("prefix", ["//evil.example", "/a/../b", "javascript:x", "/a\x00", "a", ""])
def test_a_prefix_that_is_no_path_is_left_alone(prefix: str) -> None:
    made = Door(
        RequestFilter(refuse_all, host="127.0.0.1", password=None), Faults(), root_path="/own"
    )
    raw = [(b"x-forwarded-prefix", prefix.encode("latin-1"))]
    assert made._believe(raw)[0] == "/own"


async def refuse_all(*_: Any) -> None:
    raise AssertionError


# ---------------------------------------------------------------- failures


def ask_app(app: Any, path: str = "/", *, body: bytes = b"", method: str = "GET") -> list[Any]:
    """Return the messages with which an application behind the door answers."""
    sent: list[Any] = []
    arriving = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return arriving.pop() if arriving else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    made = Door(RequestFilter(app, host="127.0.0.1", password=None), Faults())
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1),
        "scheme": "http", "root_path": "",
    }  # fmt: skip
    asyncio.run(made(scope, receive, send))
    return sent


async def raises(*_: Any) -> None:
    raise ZeroDivisionError("of no concern to strangers")


async def answers_500_and_raises(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 500, "headers": []})
    await send({"type": "http.response.body", "body": b"/home/ann/secret.py"})
    raise ZeroDivisionError


async def breaks_off(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    raise ZeroDivisionError


@pytest.mark.parametrize("app", [raises, answers_500_and_raises])
def test_what_nobody_expects_is_one_line_and_a_500_without_details(
    app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    start, body = ask_app(app)
    assert start["status"] == 500
    assert b'"error":"broken"' in body["body"]
    assert b"ann" not in body["body"]
    [record] = caplog.records
    assert record.getMessage().startswith("GET /: ZeroDivisionError: ")
    assert record.exc_info is None


def test_an_answer_that_breaks_off_is_not_ended(caplog: pytest.LogCaptureFixture) -> None:
    messages = ask_app(breaks_off)
    assert messages[-1]["more_body"]  # so that the client sees that something is missing
    assert len(caplog.records) == 1


def test_a_refusal_arrives_while_the_body_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_server(tmp_path) as server, server.connect() as connection:
        connection.sendall(request("POST", "/api/predict", Content_Length="500000"))
        begun_s = time.monotonic()
        answer = read_answer(connection)
        assert (answer.status, answer.kind) == (413, "too_large")
        assert time.monotonic() - begun_s < 30
        monkeypatch.setattr(door, "_DRAIN_S", 60.0)  # whoever waits for it is seen on any machine
        waiting = request("POST", "/api/predict", Content_Length="500000", Expect="100-continue")
        begun_s = time.monotonic()
        assert ask_once(server, waiting).startswith(b"HTTP/1.1 413")
        assert time.monotonic() - begun_s < 30  # who asks first is not listened to


def ask_once(server: SmallServer, sent: bytes) -> bytes:
    with server.connect() as connection:
        connection.sendall(sent)
        parts = b""
        while part := connection.recv(65_536):
            parts += part
        return parts
