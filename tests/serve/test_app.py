"""A real server on loopback, asked by real browsers and by programs."""

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import cv2
import jsonschema
import pytest
from browser import open_chromium
from click.testing import CliRunner
from painted import STILLS
from small_project import swaying
from starlette.requests import Request
from starlette.testclient import TestClient
from waiting import wait_until

from tests.cli.test_predict import write_model
from tests.conftest import find_workers
from unmask.answers.file_says import Credentials, FileSays
from unmask.answers.file_says import State as CredentialState
from unmask.cli.common import set_up_logging
from unmask.cli.main import main
from unmask.errors import DiskError
from unmask.runtime.confinement import Confinement
from unmask.runtime.digests import model_digest
from unmask.serve import app, queue
from unmask.serve.draw import draw_verdict
from unmask.serve.inference import Refusal, Refused, Result, Settings, Step, Task
from unmask.serve.queue import FullError, JobQueue, Limits, QueuedJob, State
from unmask.serve.request_filter import RequestFilter
from unmask.serve.worker import Worker
from unmask.video.encode import write_video

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MAX_BYTES = 2_000_000


@pytest.fixture(scope="module")
def still() -> Any:
    picture = cv2.imread(str(min(STILLS.glob("*_neutral.jpg"))), cv2.IMREAD_COLOR_RGB)
    return cv2.resize(picture, (256, 256))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, still: Any) -> Path:
    """A clip of 2.4 s of a face that sways."""
    path = tmp_path_factory.mktemp("video") / "face.mp4"
    write_video(path, swaying([still]), rate_fps=25.0, crf=24)
    return path


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory, still: Any) -> Path:
    """One that takes long enough to be stopped, of 58 s."""
    path = tmp_path_factory.mktemp("video") / "long.mp4"
    frames = (frame for _ in range(24) for frame in swaying([still]))
    write_video(path, frames, rate_fps=25.0, crf=34)
    assert path.stat().st_size < MAX_BYTES
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model that calls every face fake."""
    return write_model(tmp_path_factory.mktemp("model"), fake_from=0.0)


@pytest.fixture(scope="module")
def outside() -> Iterator[socket.socket]:
    """What the server takes for the way out: all that it asks of the internet knocks here."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@contextmanager
def serving(folder: Path, *options: str, **variables: str) -> Iterator[Any]:
    """`unmask serve`, which has to end well and leave nothing."""
    (folder / "tmp").mkdir()
    environment = {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder / "tmp")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "unmask", "serve", "--port", "0", *options], cwd=folder,
            stderr=log, stdout=subprocess.PIPE, text=True,
            env=os.environ | environment | variables,
        )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), (folder / "log").read_text()
        yield SimpleNamespace(url=url, port=urlsplit(url).port, tmp=folder / "tmp", pid=process.pid)
        process.terminate()
        assert process.wait(timeout=60) == 0, (folder / "log").read_text()
    assert list((folder / "tmp").iterdir()) == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model: Path, outside: Any) -> Iterator[Any]:
    """A server of the tests' model with narrow limits."""
    way_out = f"http://127.0.0.1:{outside.getsockname()[1]}"
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), way_out)
    options = ("--model", str(model), "--queue", "2", "--max-mb", str(MAX_BYTES / 1e6))
    folder = tmp_path_factory.mktemp("serve")
    with serving(
        folder, *options, "--max-seconds", "60", NO_PROXY="127.0.0.1", **proxies
    ) as started:
        yield started


def held(server: Any) -> list[str]:
    """Return the names of all videos that the server holds."""
    return [path.name for path in server.tmp.rglob("video")]


def wait_until_empty(server: Any) -> None:
    wait_until(lambda: not held(server))


def post(server: Any, address: str, content: bytes, **headers: str) -> tuple[int, Any, bytes]:
    """Return the status, the headers and the body of what a server answers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", address, content, named)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def form(content: bytes, name: str) -> tuple[bytes, dict[str, str]]:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--b--\r\n", {
        "Content_Type": "multipart/form-data; boundary=b"
    }


# ---------------------------------------------------------------- for programs


def test_an_answer_is_what_predict_prints(server: Any, video: Path, model: Path) -> None:
    content, headers = form(video.read_bytes(), "../../etc/<b>.mp4")
    status, _, body = post(server, "/api/predict", content, **headers)
    assert status == 200, body
    answered = json.loads(body)
    printed = CliRunner().invoke(main, ["predict", "--json", "--model", str(model), str(video)])
    expected = json.loads(printed.stdout.splitlines()[0])
    assert answered.pop("path") == "../../etc/<b>.mp4"  # words, for whoever sent them
    del expected["path"], answered["mtime_ns"], expected["mtime_ns"]
    assert answered["verdict"] == expected["verdict"] == "fake"
    assert answered == expected
    with urllib.request.urlopen(f"{server.url}/openapi.json") as answer:
        described = json.load(answer)
    schema = {"$ref": "#/components/schemas/Answer", "components": described["components"]}
    jsonschema.Draft202012Validator(schema).validate(json.loads(body))
    fields = described["components"]["schemas"]["Answer"]["properties"]
    assert set(json.loads(body)) == set(fields) - {"licence", "model_source"}
    inside = described["components"]["schemas"]["Face"]["properties"]
    assert set(answered["faces"][0]) == set(inside)
    assert held(server) == []
    with urllib.request.urlopen(f"{server.url}/api/health", timeout=30) as health:
        assert json.load(health) | {"version": ""} == {
            "ready": True, "model": expected["model"], "version": "",
        }  # fmt: skip


def test_a_still_picture_has_a_score_and_no_verdict(server: Any, still: Any) -> None:
    is_coded, coded = cv2.imencode(".png", still[..., ::-1])
    assert is_coded
    status, _, body = post(server, "/api/predict", coded.tobytes())
    assert status == 200, body
    answered = json.loads(body)
    assert (answered["verdict"], answered["duration_s"]) == ("inconclusive", None)
    assert answered["doubts"][0] == "still_picture"
    assert 0 <= answered["probability"] <= 1
    status, _, body = post(server, "/api/predict", coded.tobytes()[:900])
    assert (status, json.loads(body)["error"]) == (422, "unreadable")
    assert "one that is damaged" in json.loads(body)["detail"]
    assert held(server) == []


def test_prometheus_reads_how_long_answers_took_and_what_they_said(
    server: Any, video: Path
) -> None:
    from prometheus_client.parser import text_string_to_metric_families as parse

    def scrape() -> dict[str, float]:
        with urllib.request.urlopen(f"{server.url}/metrics") as answer:
            text = answer.read().decode()
        return {
            f"{sample.name} {' '.join(sample.labels.values())}".strip(): sample.value
            for family in parse(text)
            for sample in family.samples
        }

    before = scrape()
    assert before["unmask_workers_ready"] == 1
    assert post(server, "/api/report?name=secret.mp4", video.read_bytes())[0] == 200
    assert post(server, "/api/predict?name=secret.mp4", b"no video")[0] == 415
    after = scrape()
    added = {name: after[name] - before.get(name, 0.0) for name in after}
    parts = ("upload", "queue", "reading", "faces", "scoring", "report")
    counts = [added[f"unmask_part_seconds_count {part}"] for part in parts]
    assert counts == [2, 2, 2, 1, 1, 1]
    assert all(added[f"unmask_part_seconds_sum {part}"] > 0 for part in parts)
    assert added["unmask_verdicts_total fake"] == 1
    assert added["unmask_refusals_total not_a_video"] == 1
    assert added["unmask_score_count"] == 1
    assert not any("secret" in name for name in after)
    with urllib.request.urlopen(f"{server.url}/readyz") as answer:
        assert json.load(answer) == {"ready": True}
    asked = urllib.request.Request(f"{server.url}/api/health", method="HEAD")
    with urllib.request.urlopen(asked) as answer:
        assert (answer.status, answer.read()) == (200, b"")


def test_a_report_names_the_video_as_its_sender_does(server: Any, video: Path) -> None:
    status, headers, body = post(server, "/api/report?name=holiday.mp4", video.read_bytes())
    assert (status, headers.get_content_type()) == (200, "text/html")
    assert headers["Cache-Control"] == "no-store"  # as with the answer's JSON
    page = body.decode()
    assert "holiday.mp4" in page
    assert str(server.tmp) not in page
    assert "Likely manipulated" in page


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b"root:x:0:0\n" * 99, 415, "not_a_video"),
        (b"", 415, "not_a_video"),
        (bytes(MAX_BYTES + 1), 413, "too_large"),
    ],
)
def test_what_is_no_video_or_too_large_is_refused(
    server: Any, content: bytes, status: int, kind: str
) -> None:
    for body, headers in ((content, {}), form(content, "a.mp4")):
        got, _, said = post(server, "/api/predict", body, **headers)
        assert (got, json.loads(said)["error"]) == (status, kind)
    assert held(server) == []


def test_a_video_that_is_too_long_is_refused_before_it_is_decoded(
    server: Any, tmp_path: Path, still: Any
) -> None:
    path = tmp_path / "slides.mp4"
    write_video(path, [still] * 70, rate_fps=1.0, crf=40)
    status, _, body = post(server, "/api/predict", path.read_bytes())
    assert (status, json.loads(body)["error"]) == (422, "too_long")
    assert "70 s long; at most 60 s" in json.loads(body)["detail"]


def test_two_gigabytes_are_cut_off_early(server: Any) -> None:
    status, _, _ = post(server, "/api/predict", b"", Content_Length=str(2 * 10**9))
    assert status == 413
    head = "POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode())
        try:
            while sent < 2 * 10**9:
                connection.sendall(chunk)
                sent += len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 10**8
    wait_until_empty(server)


def test_when_all_places_are_taken_it_says_when_to_come_again(server: Any, video: Path) -> None:
    head = "POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"
    uploads = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    for upload in uploads:
        upload.sendall(head.encode() + bytes(900_000))  # not slow, and not all
    wait_until(lambda: len(held(server)) >= 3)
    status, headers, body = post(server, "/api/predict", video.read_bytes())
    assert (status, json.loads(body)["error"]) == (429, "full")
    assert int(headers["Retry-After"]) >= 1
    for upload in uploads:  # cancelled: they leave nothing, and make place
        upload.close()
    wait_until_empty(server)
    status, _, _ = post(server, "/api/predict", b"text")
    assert status == 415


def test_a_late_answer_is_told_so(tmp_path: Path, model: Path, long_video: Path) -> None:
    with serving(tmp_path, "--model", str(model), "--timeout-s", "1") as server:
        status, _, body = post(server, "/api/predict", long_video.read_bytes())
        assert (status, json.loads(body)["error"]) == (504, "timed_out")
        assert held(server) == []


def test_a_crash_costs_that_video_its_answer_and_no_other(
    server: Any, video: Path, long_video: Path
) -> None:
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(post, server, "/api/predict", long_video.read_bytes())
        while not list(server.tmp.rglob("crops/*")):  # it is at work
            assert not asked.done(), asked.result()
            time.sleep(0.05)
        [worker] = find_workers(server.pid)
        worker.kill()  # as the kernel does where memory is short
        status, _, body = asked.result()
    assert (status, json.loads(body)["error"]) == (422, "crashed")
    status, _, body = post(server, "/api/predict", video.read_bytes())
    assert status == 200, body
    assert held(server) == []


def test_who_waits_when_the_server_is_stopped_is_told_so(
    tmp_path: Path, model: Path, long_video: Path
) -> None:
    with (
        serving(tmp_path, "--model", str(model)) as server,
        ThreadPoolExecutor(2) as beside,
    ):
        asked = [
            beside.submit(post, server, "/api/predict", long_video.read_bytes()) for _ in range(2)
        ]
        while len(held(server)) < 2 or not list(server.tmp.rglob("crops/*")):
            assert not any(each.done() for each in asked)
            time.sleep(0.05)
        os.kill(server.pid, signal.SIGTERM)
        for each in asked:  # one is at work, one waits
            status, _, body = each.result()
            assert (status, json.loads(body)["error"]) == (503, "cancelled")
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_gradios_own_doors_are_shut(server: Any) -> None:
    for address in (
        "/gradio_api/file=/etc/passwd", "/gradio_api/file/etc/passwd", "/gradio_api/vibe-code",
        "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/run-history/records", "/monitoring",
    ):  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}{address}", timeout=30)
        with refused.value as error:
            assert error.code == 404
    asked = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    for fn_index in range(8):
        body = {"data": [asked], "fn_index": fn_index, "session_hash": "x"}
        status, _, _ = post(server, "/gradio_api/queue/join", json.dumps(body).encode())
        assert status == 400
    assert not [path for path in server.tmp.rglob("*") if path.name == "passwd"]
    assert post(server, "/api/predict", b"x", Host="evil.example")[0] == 421
    assert post(server, "/api/predict", b"x", Sec_Fetch_Site="cross-site")[0] == 403


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as chromium:
        yield chromium


class User:
    """Somebody with a browser of their own, all of whose requests are written down."""

    def __init__(self, browser: Any, server: Any) -> None:
        self._context = browser.new_context()
        self.page = self._context.new_page()
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(server.url)
        self.page.get_by_text("Evidence, not proof").wait_for()

    def choose(self, file: Path) -> None:
        self.page.locator("#clip input[type=file]").set_input_files(file)

    def answer(self) -> str:
        """Wait for what the page says in the end."""
        said = self.page.locator("#verdict, .problem")
        said.wait_for(timeout=120_000)
        return str(said.inner_text())

    def close(self) -> None:
        self._context.close()


@pytest.fixture
def users(browser: Any, server: Any) -> Iterator[tuple[User, User]]:
    both = User(browser, server), User(browser, server)
    yield both
    for user in both:
        user.close()


def test_two_users_see_their_verdicts_and_nothing_asks_elsewhere(
    users: tuple[User, User], server: Any, video: Path, outside: socket.socket, tmp_path: Path
) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(video.read_bytes() + b"another file")
    for user, file in zip(users, (video, other), strict=True):
        user.choose(file)
    for user, file in zip(users, (video, other), strict=True):
        assert user.answer() == "FAKE"
        page = user.page
        picture = page.locator("figure.face svg")
        assert picture.bounding_box()["height"] > 80
        words = picture.get_attribute("aria-label")
        assert re.match(r"Face 1, seen from 0\.0 to 2\.\d s: fake, \d+%", words)
        report = page.frame_locator("#report iframe")
        report.get_by_text("Likely manipulated").first.wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the answer (JSON)").click()
        saved = json.loads(Path(download.value.path()).read_text())
        assert saved["path"] == file.name
        assert picture.locator(".clip").count() == len(saved["faces"][0]["timeline"])
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the report (HTML)").click()
        assert file.name in Path(download.value.path()).read_text()
        hosts = {
            urlsplit(url).netloc for url in user.asked if not url.startswith(("data:", "blob:"))
        }
        assert hosts == {f"127.0.0.1:{server.port}"}
    assert held(server) == []
    with pytest.raises(BlockingIOError):  # the server asked nothing of the internet either
        outside.accept()


def test_cancel_stops_the_work(users: tuple[User, User], server: Any, long_video: Path) -> None:
    user, next_user = users
    user.choose(long_video)
    user.page.get_by_text("Looking for faces").wait_for(timeout=60_000)
    next_user.choose(long_video)
    next_user.page.get_by_text("1 video is before yours").wait_for(timeout=60_000)
    next_user.page.get_by_role("button", name="Cancel").click()
    assert next_user.answer() == "Cancelled."
    begun_s = time.monotonic()
    user.page.get_by_role("button", name="Cancel").click()
    assert user.answer() == "Cancelled."
    wait_until_empty(server)
    assert time.monotonic() - begun_s < 30


def test_a_browser_that_leaves_stops_its_work(
    users: tuple[User, User], server: Any, long_video: Path
) -> None:
    user, _ = users
    user.choose(long_video)
    user.page.get_by_role("button", name="Cancel").wait_for(timeout=60_000)
    user.page.close()
    wait_until_empty(server)


def test_the_page_says_in_words_what_is_wrong(
    users: tuple[User, User], server: Any, tmp_path: Path
) -> None:
    user, _ = users
    text = tmp_path / "clip.mp4"
    text.write_text("no video")
    user.choose(text)
    assert "is not a video" in user.answer()
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(MAX_BYTES + 1))
    user.page.reload()
    user.choose(large)
    assert "larger than the 2 MB" in user.answer()
    assert held(server) == []


# ---------------------------------------------------------------- the command


def test_a_taken_port_is_one_line_before_the_model_is_loaded(server: Any, tmp_path: Path) -> None:
    taken = ["serve", "--model", str(tmp_path), "--port", str(server.port)]
    done = CliRunner().invoke(main, taken)
    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert "Address already in use. Choose another --port" in line
    done = CliRunner().invoke(main, [*taken, "--host", "0.0.0.0"])
    assert "there is no password" in done.stderr.splitlines()[0]


@pytest.mark.parametrize("after_s", [0.3, 0.6, 1.0, 2.0])  # amid imports, which may lose it
def test_ctrl_c_while_it_starts_leaves_nothing(tmp_path: Path, model: Path, after_s: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "unmask", "serve", "--model", str(model), "--port", "0"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    wait_until(lambda: list(tmp_path.iterdir()))
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--allowed-host", "https://site.example", "that is no name of a host"),
        ("--allowed-host", "site.example/unmask", "that is no name of a host"),
        ("--root-path", "unmask", "that is no path"),
        ("--root-path", "/a/../b", "that is no path"),
        ("--root-path", "https://site.example/unmask", "that is no path"),
        ("--trusted-proxy", "nginx", "that is no address or network"),
        ("--trusted-proxy", "10.0.0.7/8", "that is no address or network"),
    ],
)
def test_an_option_that_means_nothing_is_one_line(option: str, value: str, words: str) -> None:
    done = CliRunner().invoke(main, ["serve", option, value])
    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert words in line
    assert repr(value) in line


def test_help_does_not_wait_for_gradio() -> None:
    script = "import sys; from unmask.cli.main import main; sys.exit('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_password_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfe")
    done = CliRunner().invoke(main, ["serve", "--password-file", str(tmp_path / "password")])
    assert done.exit_code == 1
    assert "holds no text" in done.stderr


def test_a_password_is_asked_for_where_there_is_one() -> None:
    from starlette.responses import PlainTextResponse

    gate = RequestFilter(PlainTextResponse("in"), host="0.0.0.0", password="héllo")
    client = TestClient(gate, base_url="http://127.0.0.1")
    assert client.get("/").status_code == 401
    assert client.get("/", auth=("x", "wrong")).status_code == 401
    assert client.get("/", auth=("x", "héllo".encode())).text == "in"
    assert client.get("/", headers={"Authorization": "Basic *"}).status_code == 401


def test_what_shall_be_kept_is_kept(tmp_path: Path) -> None:
    job = QueuedJob("token", tmp_path / "ticket")
    job.folder.mkdir()
    job.video.write_bytes(b"a video")
    result = Result({"sha256": "0123456789abcdef"}, "", "", (), page="<p>page")
    app.keep(app.Rules("127.0.0.1", None, keep=None), job, result)
    assert [path.name for path in tmp_path.iterdir()] == ["ticket"]
    app.keep(app.Rules("127.0.0.1", None, keep=tmp_path / "kept"), job, result)
    [folder] = (tmp_path / "kept").iterdir()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "video": b"a video", "report.html": b"<p>page",
        "answer.json": b'{"sha256": "0123456789abcdef"}\n',
    }  # fmt: skip


@pytest.fixture
def job_queue(tmp_path: Path) -> JobQueue:
    """A job queue with one place, whose worker never comes."""
    folder = tmp_path / "desk"
    folder.mkdir()
    settings = Settings(tmp_path, tmp_path, None, ())
    return JobQueue(folder, Limits(10**6, 60, 60, waiting=0, jobs=1), settings, lambda: None)


def test_who_cancels_while_waiting_is_told_so_and_makes_place(job_queue: JobQueue) -> None:
    job = job_queue.admit()
    job_queue.submit(job)
    assert job_queue.count_before(job) == 0
    job_queue.drop(job)
    assert job.outcome is not None  # else the page would wait for ever
    assert job.outcome.kind is Refused.CANCELLED
    assert not job.folder.exists()
    late = job_queue.admit()
    job_queue.drop(late)
    job_queue.submit(late)  # its browser left in that moment: nobody works on what is gone
    assert not job_queue._waiting


def test_only_its_own_thread_closes_the_pipe_of_a_worker(
    tmp_path: Path, model: Path, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed_by: list[threading.Thread] = []
    close = Connection.close

    def note(connection: Connection) -> None:
        if connection is pipe:  # closed twice at once, it may be a stranger's file by then
            closed_by.append(threading.current_thread())
        close(connection)

    settings = Settings(model, tmp_path, None, ())
    job_queue = JobQueue(tmp_path, Limits(10**8, 60, 60, 0, jobs=1), settings, set_up_logging)
    job_queue.open()
    job_queue.await_model()
    child = job_queue._slots[0]._child
    assert child is not None
    pipe = child.connection
    monkeypatch.setattr(Connection, "close", note)
    job = job_queue.admit()
    shutil.copyfile(long_video, job.video)
    job_queue.submit(job)
    while not list(job.folder.rglob("crops/*")):  # it is at work
        assert job.outcome is None
        time.sleep(0.05)
    job_queue.close()
    assert isinstance(job.outcome, Refusal)
    assert job.outcome.kind is Refused.CANCELLED
    assert closed_by == job_queue._threads
    assert not job_queue.is_ready


def test_a_mistake_in_one_task_is_its_refusal_and_the_process_lives_on(
    tmp_path: Path, model: Path, long_video: Path
) -> None:
    slot = Worker(Settings(model, tmp_path, None, ()), set_up_logging, Confinement((tmp_path,)))
    slot.spawn()
    slot.await_model(lambda: False)
    child = slot._child

    def ask(task: object, number: int) -> object:
        if isinstance(task, Task):
            (tmp_path / str(number)).mkdir()
            shutil.copyfile(long_video, task.video)
        slot.send(task)
        while isinstance(said := slot.receive(), Step):
            pass
        return said

    said = ask("no task at all", 0)
    assert isinstance(said, Refusal)
    assert said.kind is Refused.BROKEN
    # A name as no upload brings it any more.
    says = FileSays(credentials=Credentials(state=CredentialState.ABSENT))
    said = ask(Task(tmp_path / "1/video", "a\ud800.mp4", True, 600.0, says), 1)
    assert isinstance(said, Result)
    assert said.page is not None
    assert "a\\ud800.mp4" in said.page
    assert slot._child is child
    slot.kill()


def test_a_model_replaced_under_a_running_server_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_model(tmp_path / "model", fake_from=0.0)
    slot = Worker(Settings(folder, tmp_path, None, ()), set_up_logging, Confinement((tmp_path,)))
    slot.spawn()
    before = slot.await_model(lambda: False)
    slot.kill()
    slot.revive(lambda: False)
    assert not caplog.messages  # the same model
    slot.kill()
    shutil.rmtree(folder)
    write_model(folder, fake_from=0.5)
    slot.revive(lambda: False)
    slot.kill()
    [told] = caplog.messages
    after = model_digest(folder)
    assert after != before.model
    assert f"{folder} was replaced" in told
    assert after in told


def alone(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a thread of its own: Playwright's loop runs in this one."""
    with ThreadPoolExecutor(1) as beside:
        beside.submit(asyncio.run, work).result()


def test_a_full_disk_is_a_plain_error(job_queue: JobQueue) -> None:
    content, headers = form(b"video", "a.mp4")
    named = [(b"content-type", headers["Content_Type"].encode())]
    for body, sent in ((b"video", []), (content, named)):
        job = job_queue.admit()
        job.video.symlink_to("/dev/full")

        async def receive(body: bytes = body) -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        request = Request({"type": "http", "headers": sent, "query_string": b""}, receive)
        with pytest.raises(DiskError, match="No space left on device"):
            alone(app._receive(request, job, job_queue, None))
        job_queue.drop(job)


def test_an_upload_that_lost_its_place_is_told_so(job_queue: JobQueue) -> None:
    job = job_queue.admit()

    async def receive() -> Any:
        job_queue.drop(job)  # to somebody faster, just before the last byte
        return {"type": "http.request", "body": b"", "more_body": False}

    request = Request({"type": "http", "headers": [], "query_string": b""}, receive)
    with pytest.raises(app.UploadError, match="lost its own") as slow:
        alone(app._receive(request, job, job_queue, None))
    assert (slow.value.status, slow.value.kind) == (408, "too_slow")


def test_an_upload_that_nobody_claims_gives_its_place_back(
    job_queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_queue.admit()
    job.enter(State.HERE)
    with pytest.raises(FullError):
        job_queue.admit()
    monkeypatch.setattr(queue, "_UNCLAIMED_S", 0.0)
    time.sleep(0.01)
    job_queue.drop(job_queue.admit())  # although no worker is there to look
    assert not job.folder.exists()


# ---------------------------------------------------------------- beside MLflow's server


def test_mlflows_own_server_answers_the_same(
    mlflow_tables: Path, tmp_path: Path, model: Path, video: Path
) -> None:
    from tests.tracking.test_mlflow_tracker import begin, copy_store, download

    uri = copy_store(mlflow_tables, tmp_path)
    with begin(uri, tmp_path / ".tracking", "k") as tracker:
        logged = download(uri, tracker.log_model(model), tmp_path / "logged")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(  # one worker, as is its default
            [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(logged),
             "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)],
            cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
    there = SimpleNamespace(port=port)
    try:
        end_s = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < end_s, (tmp_path / "log").read_text()
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.3)
        asked = json.dumps({"dataframe_records": [{"path": str(video)}]}).encode()
        status, _, body = post(there, "/invocations", asked, Content_Type="application/json")
    finally:
        with suppress(ProcessLookupError):  # it died: the log says why
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert status == 200, body
    [served] = json.loads(body)["predictions"]
    printed = CliRunner().invoke(main, ["predict", "--json", "--model", str(model), str(video)])
    expected = json.loads(printed.stdout.splitlines()[0])
    assert {name: served[name] for name in ("path", "probability", "verdict")} == {
        name: expected[name] for name in ("path", "probability", "verdict")
    }


def test_a_verdict_shows_the_promise_and_the_licence_of_others_weights() -> None:
    row = {"verdict": "inconclusive", "probability": 0.25}
    told = Result(
        row, "No answer", "Why", ("Not so. `unmask calibrate <A>` changes that.",), page=None,
        promise=("At most 1 in 10",), origin="Others trained this model: A. Licence: CC <BY>.",
    )  # fmt: skip
    said = draw_verdict(told)
    assert "<p>At most 1 in 10</p>" in said
    assert "<p>Others trained this model: A. Licence: CC &lt;BY&gt;.</p>" in said
    assert "<li>Not so. <code>unmask calibrate &lt;A&gt;</code> changes that.</li>" in said
    # A promise is about who is called fake: it makes no probability of a score.
    assert "<b>25%</b><br>score of the most suspicious face" in said
    assert "probability" not in said
    assert "Others" not in draw_verdict(replace(told, origin=None))
