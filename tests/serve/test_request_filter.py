"""What a stranger sends, and a real server that has to refuse it."""

import gc
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from small_server import Answer, SmallServer, read_answer, request, small_server
from waiting import wait_until

from unmask.serve import page, queue
from unmask.serve.queue import JobQueue, Limits, QueuedJob
from unmask.serve.request_filter import Names, client_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Gradio's own, whose loops and sockets these are
]

MAX_BYTES = 100_000
JSON = {"Content_Type": "application/json"}
FORM = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\nx\r\n--B--\r\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "_UNCLAIMED_S", 0.05)
        with small_server(tmp_path_factory.mktemp("serve")) as started:
            yield started


def ask_page(server: SmallServer, **changes: Any) -> Answer:
    """Ask what the page asks first, with some fields changed."""
    asked = {"data": [], "fn_index": 1, "trigger_id": 2, "session_hash": "abc"} | changes
    return server.post("/gradio_api/queue/join", json.dumps(asked).encode(), **JSON)


# ---------------------------------------------------------------- addresses and methods


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/reset", "/gradio_api/cancel", "/gradio_api/info", "/gradio_api/startup-events",
        "/config", "/gradio_api/queue/status", "/gradio_api/heartbeat/", "/api/", "/api/predict/",
        "/gradio_api/heartbeat/A", "/gradio_api/heartbeat/" + 33 * "a", "/static/../config",
        "/static/" + 5_000 * "a", "/static/" + 200 * "a", "/static/%00", "/static//etc/passwd",
        "/static/.env", "/assets/", "/static/%2e%2e/x", "/%ff", "/login", "/monitoring/x",
        "/gradio_api/upload_progress", "//", "/api/predict;x", "http://127.0.0.1/",
    ],
)  # fmt: skip
def test_what_the_page_does_not_need_is_not_there(server: SmallServer, path: str) -> None:
    for method in ("GET", "POST"):
        answer = server.ask(request(method, path, b"{}" if method == "POST" else None))
        assert (answer.status, answer.kind) == (404, "not_found")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"])
def test_other_methods_are_refused(server: SmallServer, method: str) -> None:
    for path in ("/", "/api/health", "/api/predict", "/gradio_api/queue/join"):
        answer = server.ask(request(method, path))
        assert (answer.status, answer.kind) == (405, "method")
        assert answer.headers["allow"] in ("get, head", "post")


@pytest.mark.parametrize(
    "path",
    [
        "/", "/api/health", "/healthz", "/readyz", "/metrics", "/theme.css", "/manifest.json",
        "/favicon.ico", "/robots.txt", "/gradio_api/app_id", "/assets/none.js",
    ],
)  # fmt: skip
def test_head_is_answered_as_get_without_a_body(server: SmallServer, path: str) -> None:
    head, get = server.ask(request("HEAD", path)), server.get(path)
    assert (head.status, head.body) == (get.status, b"")
    assert get.body
    for name in ("content-type", "content-security-policy"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    "path", ["/gradio_api/queue/data?session_hash=a", "/gradio_api/heartbeat/a"]
)
def test_there_is_no_head_of_what_has_no_end(server: SmallServer, path: str) -> None:
    head = server.ask(request("HEAD", path))
    assert (head.status, head.headers["allow"]) == (405, "get")


def test_a_websocket_is_not_opened(server: SmallServer) -> None:
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    assert server.get("/gradio_api/queue/ws", **upgrade).status == 404


def test_the_page_and_what_is_in_it_are_there(server: SmallServer) -> None:
    page = server.get("/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    script = page.body.decode().partition('src="./assets/')[2].partition('"')[0]
    assert server.get(f"/assets/{script}").status == 200
    assert server.get("/theme.css").status == 200
    assert server.get("/static/js/iframeResizer.contentWindow.min.js").status == 200
    assert server.get("/api/health").status == 503  # this one has no model
    assert (
        b"localhost"
        not in page.body.replace(b"http://localhost:9876", b"")
        .partition(b"gradio_api_info")[2]
        .partition(b"const WORDS")[0]
        .partition(b"</script>")[2]
    )


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    "path", ["/gradio_api/queue/join", "/gradio_api/reset", "/", "/api/health"]
)
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_large_body_is_refused_before_it_is_read(
    server: SmallServer, path: str, is_chunked: bool
) -> None:
    method = "POST" if "gradio" in path else "GET"
    if is_chunked:
        head = request(method, path, Transfer_Encoding="chunked", **JSON)
        sent = head + 20 * (b"1000\r\n" + bytes(0x1000) + b"\r\n")
    else:
        sent = request(method, path, Content_Length=str(5 * 10**8), **JSON) + bytes(100_000)
    answer = server.ask(sent)
    assert (answer.status, answer.kind) in {(413, "too_large"), (404, "not_found")}
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/api/predict", "/api/report"])
def test_an_upload_is_refused_where_it_becomes_too_large(server: SmallServer, path: str) -> None:
    assert server.post(path, bytes(MAX_BYTES + 1)).kind == "too_large"
    chunk = b"2710\r\n" + bytes(10_000) + b"\r\n"
    head = request("POST", path, Transfer_Encoding="chunked")
    assert server.ask(head + 11 * chunk).kind == "too_large"
    form = FORM.replace(b"\r\nx\r\n", b"\r\n" + bytes(MAX_BYTES + 1) + b"\r\n")
    kind = "multipart/form-data; boundary=B"
    assert server.post(path, form, Content_Type=kind).kind == "too_large"
    many = b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\n" + bytes(70_000) + b"\r\n"
    assert server.post(path, many + FORM, Content_Type=kind).kind == "no_file"
    assert not server.job_queue._jobs


def test_headers_and_addresses_have_an_end(server: SmallServer) -> None:
    assert server.get("/?a=" + 3_000 * "a").kind == "too_long_address"
    assert server.get("/", **{f"X{number}": "" for number in range(70)}).kind == "too_many_headers"
    assert server.get("/", Cookie=20_000 * "a").kind == "too_many_headers"
    assert server.ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").kind == "bad_request"


# ---------------------------------------------------------------- what a page may say


def test_only_what_the_page_says_reaches_gradio(server: SmallServer) -> None:
    assert ask_page(server).status == 200
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    for changes in (
        {"fn_index": 99}, {"fn_index": -1}, {"fn_index": None}, {"fn_index": True},
        {"fn_index": 0}, {"fn_index": 1e400}, {"fn_index": "1"}, {"data": [file]}, {"data": file},
        {"fn_index": 2, "data": [file]}, {"fn_index": 2, "data": [401 * "a"]}, {"data": None},
        {"fn_index": 2, "data": []}, {"fn_index": 2, "data": ["a", "b"]}, {"data": [[[]]]},
        {"session_hash": None}, {"session_hash": "../x"}, {"session_hash": ["a"]},
        {"session_hash": 1}, {"trigger_id": "a"}, {"trigger_id": -1}, {"trigger_id": 10**20},
    ):  # fmt: skip
        answer = ask_page(server, **changes)
        assert (answer.status, answer.kind) == (400, "bad_request"), changes
    for body in (
        b"", b"[" * 4_000, b'{"a":' * 800, b"null", b"[]", b"\xff\xfe", b"9" * 4_000, b"NaN",
        b'{"fn_index": ' + b"9" * 3_900 + b"}", b'{"session_hash": "\\ud800"}',
    ):  # fmt: skip
        answer = server.post("/gradio_api/queue/join", body, **JSON)
        assert (answer.status, answer.kind) == (400, "bad_request"), body[:20]


def test_a_session_that_fetches_no_answers_may_not_go_on_asking(server: SmallServer) -> None:
    answers = [ask_page(server, session_hash="hoarder") for _ in range(12)]
    assert [answer.status for answer in answers] == 8 * [200] + 4 * [429]
    assert answers[-1].kind == "full"
    assert ask_page(server, session_hash="another").status == 200


def test_what_sessions_that_left_were_told_is_forgotten(tmp_path: Path) -> None:
    queue = gr.Blocks()._queue
    jobs = JobQueue(tmp_path, Limits(1, 1, 1, waiting=1, jobs=1), None, gc.collect)  # type: ignore[arg-type]
    jobs._jobs["token"] = QueuedJob("token", tmp_path / "here", owner="session 0")
    for number in range(1000):
        queue.pending_event_ids_session[f"session {number}"] = {f"event {number}"}
        queue.event_ids_to_events[f"event {number}"] = None  # type: ignore[assignment]
        assert not page._is_full(queue, jobs, f"session {number}")
    assert len(queue.pending_event_ids_session) <= 257
    assert len(queue.event_ids_to_events) <= 257
    assert {"session 0", "session 999"} <= queue.pending_event_ids_session.keys()


def test_nobody_listens_to_a_session_that_asked_nothing(server: SmallServer) -> None:
    for query in (
        "", "?session_hash=nobody", "?session_hash=", "?session_hash=..%2f", "?" + 20 * "&a=b",
        "?session_hash=%ff",
    ):  # fmt: skip
        answer = server.get(f"/gradio_api/queue/data{query}")
        assert (answer.status, answer.kind) == (404, "not_found")


# ---------------------------------------------------------------- who asks


@pytest.mark.parametrize(
    "host",
    ["evil.example", "[", "", "127.0.0.1:port", "a@127.0.0.1", "127.0.0.1/x", "127.0.0.1.evil.test",
     "localhost.evil.test", "0.0.0.0", "127.0.0.2", "::1", "[::1", "127.0.0.1:99999", "2130706433"],
)  # fmt: skip
def test_another_name_is_none_of_this_server(server: SmallServer, host: str) -> None:
    for path in ("/", "/api/health"):
        answer = server.get(path, Host=host)
        assert (answer.status, answer.kind) == (421, "wrong_host")


@pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost", "LOCALHOST.:7860", "[::1]:7860"])
def test_its_own_names_are(server: SmallServer, host: str) -> None:
    assert server.get("/robots.txt", Host=host).status == 200


OTHERS = [
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},  # another port of localhost
    {"Sec_Fetch_Site": "cross-site", "Origin": "http://127.0.0.1"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://127.0.0.1:9"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Origin": "file://"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Origin": "http://evil.example", "Referer": "http://127.0.0.1/"},
    {"Referer": "http://evil.example/page"},
]


@pytest.mark.parametrize("headers", OTHERS)
def test_another_sites_page_changes_nothing(server: SmallServer, headers: dict[str, str]) -> None:
    for path in ("/api/predict", "/api/report", "/gradio_api/upload", "/gradio_api/queue/join"):
        answer = server.post(path, b"x", **headers)
        assert (answer.status, answer.kind) == (403, "cross_site")
    for path in ("/gradio_api/heartbeat/abc", "/gradio_api/queue/data?session_hash=abc"):
        assert server.get(path, **headers).kind == "cross_site"
    assert server.get("/robots.txt", **headers).status == 200  # a link to it is fine


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://localhost:7860", "Host": "localhost:7860"},
        {"Origin": "http://127.0.0.1:80"},
        {"Origin": "https://127.0.0.1", "Host": "127.0.0.1:443"},
        {
            "Origin": "http://127.0.0.1:9",
            "Sec_Fetch_Site": "same-origin",
        },  # a proxy changed Host
        {"Sec_Fetch_Site": "none"},
        {"Referer": "http://127.0.0.1/page"},
    ],
)
def test_its_own_page_and_programs_ask(server: SmallServer, headers: dict[str, str]) -> None:
    assert server.post("/api/predict", b"", **headers).kind == "not_a_video"


@pytest.mark.parametrize(
    ("names", "known", "unknown"),
    [
        (Names("192.168.1.5"), ["192.168.1.5:7860"], ["127.0.0.1", "192.168.1.6", "evil.test"]),
        (Names("0.0.0.0"), ["192.168.1.5", "[fe80::1]:80", "localhost"], ["evil.test", "", "a.b"]),
        (Names("::"), ["10.0.0.1"], ["evil.test"]),
        (Names("Lab.example"), ["lab.EXAMPLE:7860"], ["evil.test", "127.0.0.1"]),
        (Names("127.0.0.1", ("unmask.example.org",)), ["unmask.example.org", "localhost"],
         ["example.org", "x.unmask.example.org"]),
        (Names("fe80::1"), ["[fe80::1]:7860"], ["fe80::1", "[fe80::2]"]),
    ],
)  # fmt: skip
def test_a_server_knows_its_names(names: Names, known: list[str], unknown: list[str]) -> None:
    assert [host for host in known if not names.knows(host)] == []
    assert [host for host in unknown if names.knows(host)] == []


def test_a_page_is_its_own_by_a_name_that_was_allowed() -> None:
    names = Names("127.0.0.1", ("unmask.example.org", "lab:8443"))
    for origin in ("https://unmask.example.org", "http://lab:8443"):
        assert names.is_own_page(origin, "127.0.0.1:7860")
    for origin in ("https://unmask.example.org:99", "http://lab", "https://example.org", "null"):
        assert not names.is_own_page(origin, "127.0.0.1:7860")


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_a_client_is_an_address_or_a_network(host: str, client: str) -> None:
    assert client_of({"client": (host, 1)}) == client
    assert client_of({"client": None}) == ""


# ---------------------------------------------------------------- passwords


def basic(word: str) -> dict[str, str]:
    import base64

    return {"Authorization": "Basic " + base64.b64encode(f"ann:{word}".encode()).decode()}


def test_a_password_is_guessed_slowly_and_locks_out_nobody_else(tmp_path: Path) -> None:
    with small_server(tmp_path, host="0.0.0.0", password="right") as server:
        assert server.get("/").status == 401  # a browser asks so first: nothing was guessed
        signed_in = server.get("/", **basic("right"))
        assert signed_in.status == 200
        cookie = signed_in.headers["set-cookie"].partition(";")[0]
        guesses = [server.get("/", **basic(f"wrong {number}")) for number in range(12)]
        assert [guess.status for guess in guesses[:5]] == 5 * [401]
        assert 429 in {guess.status for guess in guesses[5:]}
        refused = next(guess for guess in guesses if guess.status == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.kind == "too_many_passwords"
        for _ in range(4):  # each wrong password doubles the wait, whoever waits it out
            server.get("/", **basic("wrong"))
        assert server.get("/", **basic("right")).status == 429
        assert server.get("/", source="127.0.0.2", **basic("right")).status == 200
        assert server.get("/", Cookie=cookie, **basic("right")).status == 200
        assert server.get("/", Cookie=cookie + "0", **basic("right")).status == 429
        assert server.get("/api/health").status == 503  # answers without a password


# ---------------------------------------------------------------- places


def test_one_address_does_not_take_all_places(tmp_path: Path) -> None:
    limits = Limits(100_000, 60, 60, waiting=3, jobs=1, each=2)
    with small_server(tmp_path, limits=limits, host="0.0.0.0") as server:
        begun = request("POST", "/api/predict", Content_Length="9") + b"begun"
        held = [server.connect("127.0.0.2") for _ in range(2)]
        for connection in held:
            connection.sendall(begun)
        while len(server.job_queue._jobs) < 2:
            time.sleep(0.01)
        full = server.post("/api/predict", b"x", source="127.0.0.2")
        assert (full.status, full.kind) == (429, "full")
        assert b"from your address" in full.body
        assert server.post("/api/predict", b"").kind == "not_a_video"  # another address
        for connection in held:
            connection.close()


def test_a_slow_upload_loses_its_place_to_whoever_is_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_SLOW_S", 0.2)
    limits = Limits(100_000, 60, 60, waiting=1, jobs=1, each=1)
    begun = request("POST", "/api/predict", Content_Length="99999")
    with small_server(tmp_path, limits=limits, host="0.0.0.0") as server:
        with server.connect("127.0.0.2") as slow, server.connect("127.0.0.3") as fast:
            slow.sendall(begun + b"x")
            fast.sendall(begun + bytes(90_000))
            wait_until(lambda: len(server.job_queue._jobs) == 2)
            time.sleep(0.3)
            assert server.post("/api/predict", b"", source="127.0.0.4").kind == "not_a_video"
            assert [t.client for t in server.job_queue._jobs.values()] == ["127.0.0.3"]
            slow.sendall(b"x")
            assert read_answer(slow).kind == "too_slow"
        again = server.post("/api/predict", b"x", source="127.0.0.2")
        assert (again.status, again.kind) == (429, "full")
        assert 1 <= int(again.headers["retry-after"]) <= 60


# ---------------------------------------------------------------- what nobody thought of


def ask_at_random(server: SmallServer, draw: random.Random) -> tuple[int, float]:
    """Send something that looks a little like a request; return the status, and what it took."""
    headers = {draw.choice(NAMES): draw.choice(VALUES) for _ in range(draw.randrange(4))}
    path = draw.choice(PATHS) + draw.choice(["", "", "?", "?name=%ff", "?a=" + "&" * 900, "?%"])
    method, body = draw.choice(["GET", "POST", "HEAD"]), draw.choice([None, *BODIES])
    begun_s = time.monotonic()
    with server.connect() as connection:
        connection.settimeout(3)  # what waits for more of a body is not answered
        with suppress(TimeoutError):
            connection.sendall(request(method, path, body, **headers))
            first = connection.recv(65_536).partition(b"\r\n")[0]
            return int(first.split(b" ")[1]), time.monotonic() - begun_s
    return 0, 0.0


PATHS = [
    "/", "/api/predict", "/api/report", "/api/health", "/gradio_api/upload", "/theme.css",
    "/gradio_api/queue/join", "/gradio_api/queue/data", "/static/x", "/assets/index.js",
    "/gradio_api/heartbeat/a/b", "/manifest.json", "/favicon.ico", "/static/", "/metrics",
    "/healthz", "/readyz",
]  # fmt: skip
NAMES = [
    "Range", "If-Range", "Accept", "Accept-Encoding", "Cookie", "If-None-Match", "Origin",
    "If-Modified-Since", "Content-Type", "X-Forwarded-Host", "X-Forwarded-Proto", "Expect",
    "X-Gradio-Server", "Authorization", "Content-Encoding", "Accept-Language", "Referer",
    "X-HTTP-Method-Override", "Transfer-Encoding", "Content-Length",
]  # fmt: skip
VALUES = [
    "", "[", "bytes=0-0,1-1,-1", "bytes=" + 900 * "0-,", "gzip;q=x", 900 * ",", "a=" * 500,
    "multipart/form-data", "multipart/form-data; boundary=", "http://[", 999 * "\xff",
    "multipart/form-data; boundary=B; charset=utf-16", "application/json; charset=utf-7",
    "multipart/form-data; boundary=" + 300 * "b", "multipart/form-data; boundary=B", "-1",
    "99999999999999999999999999", "Basic !", "chunked, chunked", "100-continue", '"' * 900,
]  # fmt: skip
BODIES = [
    b"", FORM, b"[" * 3_000, b"--B\r\n" * 300, b"\xff" * 500, b"--B" + b"\r\n" * 900,
    b"--B\r\n" + b"a: b\r\n" * 99 + b"\r\n", b"0\r\n\r\n", b"zz\r\n",
]  # fmt: skip


def test_random_requests_are_answered_in_words_and_without_a_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    limits = Limits(100_000, 60, 60, waiting=10_000, jobs=1)  # what the page uploads stays a while
    with small_server(tmp_path, limits=limits) as server:
        server.job_queue.end()  # so that videos are answered: 503
        draw = random.Random(int(os.environ.get("UNMASK_FUZZ_SEED", "2")))
        rounds = int(os.environ.get("UNMASK_FUZZ_ROUNDS", "400"))
        asked = [ask_at_random(server, draw) for _ in range(rounds)]
    counts = Counter(status for status, _ in asked)
    assert {200, 400, 403, 404, 405, 413, 415, 503} <= set(counts), counts
    assert not [status for status in counts if status >= 500 and status != 503], counts
    assert counts[0] < len(asked) / 20, counts
    assert max(took_s for _, took_s in asked) < 5
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_slow_codec_stops_nobody(server: SmallServer) -> None:
    kind = "multipart/form-data; boundary=B; charset=punycode"
    body = b'--B\r\nContent-Disposition: form-data; name="a-"\r\n\r\nabc-' + 60_000 * b"b"
    answers: list[Answer] = []
    send = threading.Thread(
        target=lambda: answers.append(server.post("/api/predict", body, Content_Type=kind))
    )
    begun_s = time.monotonic()
    send.start()
    assert server.get("/robots.txt").status == 200
    send.join()
    assert time.monotonic() - begun_s < 30
    assert (answers[0].status, answers[0].kind) == (400, "no_file")
