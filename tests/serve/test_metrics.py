"""/metrics, read by Prometheus's own parsers: from a real server, and of what a worker says."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse
from small_server import SmallServer, request, small_server

from unmask.answers.answers_file import RunInfo
from unmask.serve.inference import Part, Refusal, Refused, Result, Settings
from unmask.serve.metrics import Metrics
from unmask.serve.queue import JobQueue, Limits

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SmallServer]:
    with small_server(tmp_path) as started:
        yield started


@pytest.fixture
def metrics(tmp_path: Path) -> Metrics:
    limits = Limits(100_000, 60, 60, waiting=3, jobs=2)
    job_queue = JobQueue(tmp_path, limits, Settings(tmp_path, tmp_path, None, ()), lambda: None)
    job_queue.run_info = RunInfo("5eed" * 16, "1.2")
    return Metrics(job_queue)


def samples_of(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def scrape(server: SmallServer, **headers: str) -> Samples:
    answer = server.get("/metrics", **headers)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return samples_of(answer.body.decode())


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_a_scrape_tells_of_the_queue_and_the_model(server: SmallServer) -> None:
    samples = scrape(server)
    assert value(samples, "unmask_model_info", sha256="no model", version="0") == 1
    assert value(samples, "unmask_workers") == 1
    assert value(samples, "unmask_workers_ready") == 0
    assert value(samples, "unmask_queue_places") == 4
    assert value(samples, "unmask_queue_videos", state="here") == 0
    assert value(samples, "unmask_verdicts_total", verdict="fake") == 0
    assert value(samples, "unmask_doubts_total", doubt="unlike_calibration") == 0
    server.post("/gradio_api/upload", b"a video", Content_Type="video/mp4")
    server.job_queue.submit(server.job_queue.admit())
    samples = scrape(server)
    assert value(samples, "unmask_queue_videos", state="here") == 1
    assert value(samples, "unmask_queue_videos", state="waiting") == 1
    assert value(samples, "unmask_part_seconds_count", part="upload") == 1


def test_requests_are_counted_by_addresses_of_the_server_alone(server: SmallServer) -> None:
    server.get("/api/health")
    server.get("/secret-clip.mp4")
    server.get("/assets/secret-clip.mp4")
    server.get("/assets/../secret-clip.mp4")
    server.get("/gradio_api/heartbeat/secret-clip.mp4")
    server.post("/api/predict?name=secret-clip.mp4", b"")
    server.post("/api/predict", b"x", Host="secret-clip.mp4")
    server.ask(request("SECRET", "/"))
    answer = server.get("/metrics")
    assert b"secret" not in answer.body.lower()
    found = {
        tuple(dict(labels)[each] for each in ("path", "method", "status")): number
        for (name, labels), number in samples_of(answer.body.decode()).items()
        if name == "unmask_requests_total"
    }
    assert found == {
        ("/api/health", "GET", "503"): 1, ("other", "GET", "404"): 3,
        ("/assets/", "GET", "404"): 1, ("/api/predict", "POST", "415"): 1,
        ("/api/predict", "POST", "421"): 1, ("/", "other", "405"): 1,
    }  # fmt: skip


def test_openmetrics_is_given_to_who_asks_for_it(server: SmallServer) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    answer = server.get("/metrics", Accept=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(answer.body.decode())}
    assert {"unmask_requests", "unmask_part_seconds", "unmask_model"} <= names


def test_a_strange_accept_header_is_no_failure(metrics: Metrics) -> None:
    draw = random.Random(1)
    parts = ["application/openmetrics-text", "text/plain", "version=", "1.0.0", "9", "escaping=",
             "allow-utf-8", ";", ",", "q=", "x", "\xff", " ", "*/*"]  # fmt: skip
    for _ in range(2_000):
        accept = "".join(draw.choices(parts, k=draw.randrange(12)))
        content, media_type = metrics.render(accept)
        assert b"unmask_workers" in content
        assert media_type.partition(";")[0] in ("text/plain", "application/openmetrics-text")


def test_who_needs_the_password_needs_it_for_metrics_but_not_for_probes(tmp_path: Path) -> None:
    with small_server(tmp_path, password="word") as server:
        assert server.get("/metrics").status == 401
        basic = "Basic cHJvbTp3b3Jk"  # prom:word
        assert value(scrape(server, Authorization=basic), "unmask_workers") == 1
        assert [server.get(path).status for path in ("/healthz", "/readyz", "/api/health")] == [
            200, 503, 503,
        ]  # fmt: skip


def test_a_server_that_ends_is_alive_and_no_longer_ready(server: SmallServer) -> None:
    def asked() -> list[tuple[int, object]]:
        answers = [server.get(path) for path in ("/healthz", "/readyz", "/api/health")]
        return [(each.status, json.loads(each.body).get("ready")) for each in answers]

    server.job_queue._slots = [SimpleNamespace(is_ready=True)]  # type: ignore[list-item]
    assert asked() == [(200, None), (200, True), (200, True)]
    assert server.get("/api/health").headers["cache-control"] == "no-store"
    server.job_queue.end()
    assert asked() == [(200, None), (503, False), (503, False)]


def test_another_sites_page_does_not_read_metrics(server: SmallServer) -> None:
    assert server.get("/metrics", Sec_Fetch_Site="cross-site").status == 403
    assert server.get("/metrics", Host="evil.example").status == 421
    assert server.get("/metrics", Sec_Fetch_Site="none").status == 200  # typed by somebody


def result(row: Any) -> Result:
    return Result(row, "", "", (), None)


def test_answers_are_counted_by_verdict_doubt_and_score(metrics: Metrics) -> None:
    metrics.answered(result({"verdict": "fake", "doubts": [], "probability": 0.97}))
    doubts = ["face_too_small", "too_blurred"]
    for probability in (0.5, 0.6, None):
        row = {"verdict": "inconclusive", "doubts": doubts, "probability": probability}
        metrics.answered(result(row))
    metrics.answered(Refusal(Refused.TIMED_OUT, "secret"))
    metrics.spent(Part.FACES, 2.0)
    samples = samples_of(metrics.render("")[0].decode())
    assert value(samples, "unmask_verdicts_total", verdict="fake") == 1
    assert value(samples, "unmask_verdicts_total", verdict="inconclusive") == 3
    assert value(samples, "unmask_doubts_total", doubt="too_blurred") == 3
    assert value(samples, "unmask_refusals_total", kind="timed_out") == 1
    assert value(samples, "unmask_score_count") == 3
    assert value(samples, "unmask_score_sum") == pytest.approx(2.07)
    assert value(samples, "unmask_score_bucket", le="0.5") == 1
    assert value(samples, "unmask_score_bucket", le="0.9") == 2
    assert value(samples, "unmask_part_seconds_sum", part="faces") == 2


@pytest.mark.parametrize(
    "row",
    [
        "secret.mp4",
        {},
        {"verdict": "secret.mp4", "doubts": ["secret.mp4"] * 3, "probability": "secret.mp4"},
        {"verdict": ["secret.mp4"], "doubts": "secret.mp4", "probability": float("nan")},
        {"verdict": None, "doubts": [["secret.mp4"], {}], "probability": 10**400},
        {"verdict": 1, "doubts": 5, "probability": float("inf")},
    ],
)
def test_a_worker_that_was_taken_over_adds_no_labels(metrics: Metrics, row: Any) -> None:
    before = samples_of(metrics.render("")[0].decode())
    metrics.answered(result(row))
    metrics.answered(Refusal("secret.mp4", "secret.mp4"))  # type: ignore[arg-type]
    content = metrics.render("")[0]
    assert b"secret" not in content
    after = samples_of(content.decode())
    new = {
        dict(labels).get("verdict") or dict(labels).get("doubt") or dict(labels).get("kind")
        for name, labels in after.keys() - before.keys()
    }
    assert new == {"other"}
    assert value(after, "unmask_verdicts_total", verdict="other") == 1
    assert value(after, "unmask_score_count") == 0


def test_two_servers_in_one_process_count_for_themselves(tmp_path: Path) -> None:
    with small_server(tmp_path / "a") as one, small_server(tmp_path / "b") as two:
        one.get("/healthz")
        counted = [key for key in scrape(two) if key[0] == "unmask_requests_total"]
        assert counted == []
