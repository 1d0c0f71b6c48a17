"""Two servers behind a real nginx, by our example of it: pages stay, programs are spread."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import open_chromium
from small_server import Answer, SmallServer, read_answer, request, small_server
from waiting import wait_until

from unmask.answers.answers_file import RunInfo
from unmask.serve.queue import Limits, State

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Gradio's own, whose loops and sockets these are
]
EXAMPLE = Path(__file__).parents[2] / "containers" / "replicas.nginx.conf"
NAME = "unmask.example.org"


@dataclass(frozen=True)
class Replicas:
    """Servers, and the port of the proxy before them."""

    servers: tuple[SmallServer, ...]
    port: int

    def ask(self, sent: bytes) -> Answer:
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(sent)
            return read_answer(connection)

    def who(self, **headers: str) -> str:
        """Return which server answers a program."""
        asked = request("GET", "/unmask/api/health", Host=NAME, **headers)
        return str(json.loads(self.ask(asked).body)["model"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def proxied(factory: pytest.TempPathFactory, text: str) -> Iterator[Replicas]:
    """Two servers behind nginx, by a text like the example's."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("NO NGINX: `apt-get install nginx-light` tests two servers behind it")
    folder, port = factory.mktemp("nginx"), free_port()
    limits = Limits(100_000, 60, 60, waiting=50, jobs=1)
    rules = {"trusted_proxies": ("127.0.0.1",), "allowed_hosts": (NAME, f"127.0.0.1:{port}")}
    with ExitStack() as stack:
        servers = []
        for name in ("first", "second"):
            place = factory.mktemp(name)
            made = stack.enter_context(small_server(place, limits=limits, **rules))
            made.job_queue.run_info = RunInfo(name, "1")
            servers.append(made)
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        for number, made in enumerate(servers, 7861):
            text = text.replace(f"127.0.0.1:{number}", f"127.0.0.1:{made.port}")
        folders = "".join(
            f"{name}_temp_path {folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;"
            f"events {{}} http {{ access_log off; {folders}\n{text}}}"
        )
        process = subprocess.Popen([nginx, "-c", str(folder / "nginx.conf")])
        try:
            wait_until(lambda: process.poll() is not None or answers(port))
            assert process.poll() is None, (folder / "log").read_text()
            yield Replicas(tuple(servers), port)
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with proxied(tmp_path_factory, EXAMPLE.read_text()) as found:
        yield found


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_programs_are_spread_and_a_cookie_stays_with_its_server(replicas: Replicas) -> None:
    assert {replicas.who() for _ in range(40)} == {"first", "second"}
    seen = set()
    for number in range(16):
        cookie = f"unmask_replica={number:032x}"
        [stays] = {replicas.who(Cookie=cookie) for _ in range(4)}
        seen.add(stays)
    assert seen == {"first", "second"}
    odd = {replicas.who(Cookie="unmask_replica=of-somebody-else") for _ in range(40)}
    assert odd == {"first", "second"}


def test_a_browser_is_given_its_cookie_once(replicas: Replicas) -> None:
    page = replicas.ask(request("GET", "/unmask/", Host=NAME))
    given = page.headers["set-cookie"]
    assert re.fullmatch(
        "unmask_replica=[0-9a-f]{32}; path=/unmask/; httponly; samesite=strict", given
    )
    again = replicas.ask(
        request("GET", "/unmask/", Host=NAME, Cookie=given.partition(";")[0])
    )  # fmt: skip
    assert "set-cookie" not in again.headers


def test_ids_and_addresses_come_from_the_proxy_and_metrics_stay_behind_it(
    replicas: Replicas,
) -> None:
    answer = replicas.ask(request("GET", "/unmask/healthz", Host=NAME, X_Request_ID="forged"))
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert replicas.ask(request("GET", "/unmask/metrics", Host=NAME)).status == 403
    assert replicas.ask(request("GET", "/unmask", Host=NAME)).status == 301
    evil = request("POST", "/unmask/api/predict", b"x", Host=NAME, Origin="https://evil.example")
    assert replicas.ask(evil).kind == "cross_site"


def test_pages_work_whichever_server_they_stay_with(replicas: Replicas) -> None:
    clip: Any = {"name": "clip.mp4", "mimeType": "video/mp4", "buffer": b"not much of a video"}
    with open_chromium() as browser:
        stayed = set()
        for _ in range(20):
            context = browser.new_context()
            page = context.new_page()
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(f"http://127.0.0.1:{replicas.port}/unmask/")
            page.get_by_text("Evidence, not proof").wait_for()
            page.locator("#clip input[type=file]").set_input_files(clip)
            page.get_by_text("You are next").wait_for(timeout=60_000)
            assert page.locator(".problem").count() == 0
            assert all("/unmask/" in url for url in asked if not url.startswith(("data:", "blob:")))
            [holder] = {
                made.job_queue.run_info.model
                for made in replicas.servers
                if made.job_queue.run_info and made.job_queue.count(State.WAITING)
            }
            stayed.add(holder)
            context.close()
            for made in replicas.servers:  # a browser that leaves takes its video along
                wait_until(lambda made=made: not made.job_queue._jobs)
            if len(stayed) == 2:
                break
    assert stayed == {"first", "second"}


def test_a_page_that_stays_with_no_server_says_that_it_failed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    text = EXAMPLE.read_text().replace("hash $unmask_replica consistent;", "")
    clip: Any = {"name": "clip.mp4", "mimeType": "video/mp4", "buffer": b"not much of a video"}
    with proxied(tmp_path_factory, text) as found, open_chromium() as browser:
        ids = {made.get("/gradio_api/app_id").body for made in found.servers}
        assert len(ids) == 1  # else Gradio draws the page anew, and no word is left on it
        failed = 0
        for _ in range(8):
            context = browser.new_context()
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{found.port}/unmask/")
            page.get_by_text("Evidence, not proof").wait_for()
            page.locator("#clip input[type=file]").set_input_files(clip)
            page.locator(".problem").or_(page.get_by_text("You are next")).first.wait_for()
            failed += page.locator(".problem").count() > 0
            context.close()
    assert failed


def test_one_server_that_has_gone_is_passed_over(replicas: Replicas) -> None:
    first, second = replicas.servers
    first.server.should_exit = True
    wait_until(lambda: not answers(first.port))
    assert {replicas.who() for _ in range(10)} == {"second"}
    assert second.get("/healthz").status == 200
