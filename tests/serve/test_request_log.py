"""What `unmask serve --log json` writes: objects, one a line, and nobody's names."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from small_server import small_server
from waiting import wait_until

from tests.cli.test_predict import write_model
from tests.serve.test_app import ROOT, post
from unmask.answers.answers_file import RunInfo
from unmask.runtime import json_log
from unmask.serve.inference import Part, Refusal, Refused, Result
from unmask.serve.queue import QueuedJob
from unmask.serve.request_log import RequestLog, request_id

SECRET = "ann-at-home.mp4"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), fake_from=0.0)


def read_log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@contextmanager
def logging_server(folder: Path, *options: str) -> Iterator[Any]:
    """A server that logs as JSON; afterwards all that it wrote is in folder / "log"."""
    (folder / "tmp").mkdir(parents=True)
    environment = {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder / "tmp")}
    with (folder / "log").open("w") as log, (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "unmask", "serve", "--port", "0", "--log", "json", *options],
            cwd=folder, stderr=log, stdout=out, env=os.environ | environment,
        )  # fmt: skip
    try:
        wait_until(lambda: "listening" in (folder / "log").read_text() or process.poll(), 120)
        [listening] = [
            row for row in read_log(folder / "log") if row.get("event") == "listening"
        ]  # fmt: skip
        yield SimpleNamespace(port=urlsplit(listening["url"]).port)
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
    assert (folder / "out").read_text() == ""


@pytest.mark.slow
@pytest.mark.parametrize("names", [False, True])
def test_each_request_and_each_answer_is_a_line(
    tmp_path: Path, model: Path, make_video: Any, names: bool
) -> None:
    video = make_video(tmp_path / "video.mp4", frames=5).read_bytes()
    options = ["--model", str(model), *(["--log-names"] if names else [])]
    with logging_server(tmp_path / "run", *options) as server:
        status, headers, body = post(server, f"/api/predict?name={SECRET}", video)
        assert status == 200, body
        assert post(server, f"/api/report?name={SECRET}", b"no video")[0] == 415
        assert post(server, f"/{SECRET}", b"")[0] == 404
    rows = read_log(tmp_path / "run" / "log")
    assert {"time", "level", "message", "logger"} <= set.intersection(*map(set, rows))
    answered, refused = [row for row in rows if row.get("event") == "answer"]
    asked = [row for row in rows if row.get("event") == "request"]
    given = headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{16}", given)
    assert [row["request_id"] for row in (answered, asked[0])] == [given, given]
    told = json.loads(body)
    assert (answered["verdict"], answered["probability"]) == (told["verdict"], told["probability"])
    assert (answered["doubts"], answered["model"]) == (told["doubts"], told["model"])
    assert (answered["report"], refused["report"]) == (False, True)
    assert {"upload", "queue", "reading", "faces"} <= set(answered["seconds"])
    assert all(spent >= 0 for spent in answered["seconds"].values())
    assert asked[0]["seconds"] >= answered["seconds"]["faces"]
    assert (refused["verdict"], refused["refused"]) == (None, "not_a_video")
    assert [(row["method"], row["address"], row["status"]) for row in asked] == [
        ("POST", "/api/predict", 200), ("POST", "/api/report", 415), ("POST", "other", 404),
    ]  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", asked[0]["time"])
    shown = json.dumps([row for row in rows if row.get("event") != "listening"])
    assert (SECRET in shown) == names
    assert ("127.0.0.1" in shown) == names
    assert (told["sha256"] in shown) == names
    if names:
        assert (answered["name"], answered["client"]) == (SECRET, "127.0.0.1")


@pytest.mark.slow
def test_what_ends_the_server_is_a_line_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "unmask", "serve", "--log", "json", "--model", "gone"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    rows = [json.loads(line) for line in done.stderr.splitlines()]
    assert rows[-1]["level"] == "error"
    assert "gone" in rows[-1]["message"]


def test_names_alone_are_a_mistake() -> None:
    from click.testing import CliRunner

    from unmask.cli.main import main

    refused = CliRunner().invoke(main, ["serve", "--log-names"])
    assert (refused.exit_code, "add that" in refused.output) == (2, True)


# ---------------------------------------------------------------- ids


def test_every_answer_has_an_id_and_only_a_trusted_proxy_gives_one(tmp_path: Path) -> None:
    given = {"X_Request_ID": "edge-7.a_b"}
    with small_server(tmp_path, host="0.0.0.0", trusted_proxies=("127.0.0.2",)) as server:
        ids = [
            server.get(path, source=source, **headers).headers["x-request-id"]
            for path, source, headers in (
                ("/healthz", "127.0.0.2", given), ("/none", "127.0.0.2", given),
                ("/healthz", "127.0.0.3", given),
                ("/healthz", "127.0.0.2", {"X_Request_ID": 'a"b'}),
                ("/healthz", "127.0.0.2", {"X_Request_ID": "x" * 65}),
            )
        ]  # fmt: skip
    assert ids[:2] == ["edge-7.a_b"] * 2
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids[2:])
    assert len(set(ids[2:])) == 3


@pytest.mark.parametrize("given", ["a\nb", "", None, "\u0660", "a b"])
def test_what_is_no_id_is_replaced(given: str | None) -> None:
    assert re.fullmatch("[0-9a-f]{16}", request_id(given))


# ---------------------------------------------------------------- lines


def job() -> QueuedJob:
    made = QueuedJob("token", Path("nowhere"), "203.0.113.9", request_id="id", name=SECRET)
    made.seconds[Part.FACES] = 1.23456
    return made


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(json_log.Formatter().format(record)) for record in caplog.records]


@pytest.mark.parametrize(
    "row",
    [
        {"verdict": SECRET, "doubts": [SECRET], "probability": SECRET, "sha256": SECRET},
        {"verdict": ["fake"], "doubts": {SECRET: 1}, "probability": float("nan")},
        SECRET,
        None,
    ],
)
def test_a_worker_that_was_taken_over_writes_no_words_into_the_log(
    caplog: pytest.LogCaptureFixture, row: Any
) -> None:
    caplog.set_level(logging.INFO)
    log = RequestLog(RunInfo("a1" * 32, "1"), has_names=False)
    log.answered(job(), Result(row, "", "", (), None))
    log.answered(job(), Refusal(SECRET, SECRET))  # type: ignore[arg-type]
    answered, refused = lines(caplog)
    assert (answered["verdict"], answered["probability"], answered["doubts"]) == ("other", None, [])
    assert (refused["verdict"], refused["refused"]) == (None, "other")
    assert answered["seconds"] == {"faces": 1.2346}
    assert SECRET not in json.dumps([answered, refused])


def test_an_answer_says_what_it_came_to(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = RequestLog(RunInfo("a1" * 32, "1"), has_names=True)
    row = {"verdict": "fake", "doubts": ["face_too_small"], "probability": 0.5, "sha256": "0f" * 32}
    log.answered(job(), Result(row, "", "", (), None))
    log.answered(job(), Refusal(Refused.TIMED_OUT, "words"))
    answered, refused = lines(caplog)
    assert (answered["verdict"], answered["doubts"]) == ("fake", row["doubts"])
    assert (answered["sha256"], answered["client"]) == ("0f" * 32, "203.0.113.9")
    assert (refused["refused"], refused["name"]) == ("timed_out", SECRET)
    assert answered["model"] == "a1" * 32
    log.requested("id", "/", "X" * 99, None, 0.5, "203.0.113.9")
    assert lines(caplog)[2]["method"] == "other"
    assert lines(caplog)[2]["status"] is None
