"""A real browser's page, behind a proxy that lets some of its requests fail."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browser import open_chromium
from small_server import SmallServer, small_server

from tests.serve.test_door import PREFIX, stripping_proxy
from unmask.serve.queue import Limits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Gradio's own, whose loops and sockets these are
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallServer]:
    limits = Limits(100_000, 60, 60, waiting=50, jobs=1)
    with small_server(tmp_path_factory.mktemp("serve"), limits=limits) as started:
        yield started


@pytest.fixture(scope="module")
def address(server: SmallServer) -> Iterator[str]:
    """The page's address behind a proxy that takes a path off."""
    with stripping_proxy(server.port, PREFIX) as port:
        yield f"http://127.0.0.1:{port}{PREFIX}/"


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.get_by_text("Evidence, not proof").wait_for()
    yield page
    context.close()


def choose(page: Any) -> None:
    clip = {"name": "clip.mp4", "mimeType": "video/mp4", "buffer": b"not much of a video"}
    page.locator("#clip input[type=file]").set_input_files(clip)


def said(page: Any) -> str:
    problem = page.locator(".problem")
    problem.wait_for(timeout=60_000)
    return str(problem.inner_text())


def answer(status: int, body: str, kind: str = "text/html") -> Callable[[Any], None]:
    return lambda route: route.fulfill(status=status, body=body, content_type=kind)


REFUSED = json.dumps({"error": "full", "detail": "All places are taken here."})


@pytest.mark.parametrize(
    ("request_of", "fails", "words"),
    [
        ("upload", answer(404, "<h1>nginx"), "does not know this address"),
        ("upload", answer(413, "<h1>nginx"), "larger than the server, or a proxy before it, takes"),
        ("upload", answer(429, REFUSED, "application/json"), "All places are taken here."),
        ("upload", answer(502, ""), "The proxy can't reach the server"),
        ("upload", answer(500, "oops"), "the error 500"),
        ("upload", lambda route: route.abort("connectionreset"), "can't be reached"),
        ("queue/join", answer(401, "{}"), "The password is asked for anew"),
        ("queue/join", lambda route: route.abort("internetdisconnected"), "can't be reached"),
        ("queue/data", answer(504, ""), "did not answer the proxy in time"),
        ("queue/data", answer(200, "data: {}\n\n", "text/event-stream"), "was lost before"),
    ],
)
def test_each_request_that_fails_is_told_in_the_page(
    page: Any, request_of: str, fails: Callable[[Any], None], words: str
) -> None:
    page.route(f"**/gradio_api/{request_of}*", fails)
    choose(page)
    told = said(page)
    assert words in told
    assert "Load the page anew and choose the file once more." in told
    page.unroute_all(behavior="ignoreErrors")
    page.get_by_role("link", name="Load the page anew").click()
    page.get_by_text("Evidence, not proof").wait_for()
    assert page.locator(".problem").count() == 0


def test_a_video_is_taken_below_a_path(page: Any, server: SmallServer, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    choose(page)
    page.get_by_text("You are next").wait_for(timeout=60_000)  # nobody answers here
    assert page.locator(".problem").count() == 0
    assert [job.name for job in server.job_queue._waiting] == ["clip.mp4"]
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_a_part_of_the_page_that_is_missing_is_told(browser: Any, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.route("**/assets/index*.js", answer(404, ""))
    page.goto(address)
    assert "A part of this page could not be loaded" in said(page)
    context.close()


def test_a_connection_that_breaks_amid_an_answer_is_told(browser: Any, server: SmallServer) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.port}")
    page.get_by_text("Evidence, not proof").wait_for()
    choose(page)
    page.get_by_text("You are next").wait_for(timeout=60_000)
    server.break_all()
    assert "The connection to the server was lost" in said(page)
    context.close()
