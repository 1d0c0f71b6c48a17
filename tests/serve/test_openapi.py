"""/openapi.json: a valid description, whose words are those of the docs and of real answers."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from small_server import SmallServer, request, small_server

from tests.cli.test_predict import write_model
from tests.serve.test_app import serving
from unmask.answers.answers_file import RunInfo
from unmask.serve import openapi
from unmask.serve.queue import Limits
from unmask.serve.request_filter import routes

ROOT = Path(__file__).parents[2]
LIMITS = Limits(2_000_000, 61.5, 60, waiting=3, jobs=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SmallServer]:
    with small_server(tmp_path) as started:
        yield started


def describe(*, has_password: bool = False) -> dict[str, Any]:
    run_info = RunInfo("a1" * 32, "1.2")
    return openapi.describe(LIMITS, run_info, has_password=has_password)


def is_valid(instance: Any, schema: Any, described: dict[str, Any]) -> bool:
    whole = {"allOf": [schema], "components": described["components"]}
    return bool(Draft202012Validator(whole).is_valid(instance))


def responses(described: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                yield path, method, status, response


def test_the_description_is_openapi_and_the_servers_own(server: SmallServer) -> None:
    answer = server.get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    described = json.loads(answer.body)
    validate(described)
    limits, run_info = server.job_queue.limits, server.job_queue.run_info
    assert run_info is not None
    assert described == openapi.describe(limits, run_info, has_password=False)
    text = describe()["paths"]["/api/predict"]["post"]["description"]
    assert "2000000 bytes and 61.5 s" in text


def test_who_needs_a_password_is_told_so(tmp_path: Path) -> None:
    with small_server(tmp_path, password="word") as server:
        assert server.get("/openapi.json").status == 401
    described = describe(has_password=True)
    validate(described)
    asked = {
        path: operation.get("security", described["security"])
        for path, methods in described["paths"].items()
        for operation in methods.values()
    }
    for path, security in asked.items():
        assert (security == [{"password": []}]) == routes(0)[path].needs_password, path
    assert describe()["security"] == []


def test_each_address_for_programs_is_described_with_its_methods() -> None:
    described = describe()["paths"]
    known = {
        path: route
        for path, route in routes(0).items()
        if path.startswith("/api/") or path in ("/healthz", "/readyz", "/metrics")
    }
    assert set(described) == set(known)
    for path, methods in described.items():
        assert {method.upper() for method in methods} == known[path].methods - {"HEAD"}


def test_each_example_is_of_its_own_schema() -> None:
    described, count = describe(), 0
    for path, _, status, response in responses(described):
        content = response["content"].get("application/json", {})
        if "example" in content:
            assert is_valid(content["example"], content["schema"], described), (path, status)
            count += 1
    assert count > 40


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("verdict", "maybe"), ("probability", 1.5), ("doubts", ["tired"]), ("reason", "bored"),
        ("faces", None), ("sha256", "0f"), ("mtime_ns", 3), ("worst", [{"face": 0}]),
        ("file_says", {}), ("promise", {"kind": "x"}),
    ],
)  # fmt: skip
def test_the_schema_of_an_answer_refuses_another(name: str, odd: Any) -> None:
    described = describe()
    schema = {"$ref": "#/components/schemas/Answer"}
    assert is_valid(openapi.EXAMPLE, schema, described)
    assert is_valid({**openapi.EXAMPLE, "licence": "MIT"}, schema, described)
    assert is_valid({**openapi.EXAMPLE, "model_source": "hf:a/b@c"}, schema, described)
    assert not is_valid({**openapi.EXAMPLE, name: odd}, schema, described)
    without = {key: value for key, value in openapi.EXAMPLE.items() if key != name}
    assert not is_valid(without, schema, described)


def test_the_docs_name_the_same_errors() -> None:
    text = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    told: dict[int, set[str]] = {}
    for statuses, kinds in re.findall(r"^\| ([\d, ]+) \| (`[^|]+`) \|", text, re.MULTILINE):
        numbers = [int(each) for each in statuses.split(", ")]
        names = re.findall(r"`(\w+)`", kinds)
        pairs = (
            [(numbers[0], name) for name in names]
            if len(numbers) == 1
            else list(zip(numbers, names, strict=True))
        )
        for number, name in pairs:
            told.setdefault(number, set()).add(name)
    assert told == {status: set(kinds) for status, (kinds, _) in openapi.ERRORS.items()}


def test_what_a_server_says_is_described(server: SmallServer) -> None:
    described = json.loads(server.get("/openapi.json").body)
    long = "x" * 3_000
    asked = [
        ("get", "/api/health", {}, None), ("get", "/readyz", {}, None),
        ("get", "/healthz", {}, None),
        ("put", "/api/health", {}, None), ("get", "/api/predict", {}, None),
        ("post", "/api/predict", {}, b""), ("post", "/api/report", {"Host": "evil.example"}, b"x"),
        ("post", "/api/predict", {"Content_Length": "9999999"}, b"x"),
        ("post", "/api/predict", {"Content_Type": "multipart/form-data; boundary=B"}, b"--B--"),
        ("post", "/api/predict", {"Origin": "http://evil.example"}, b"x"),
        ("get", f"/metrics?{long}", {}, None), ("get", "/metrics", {"X_Long": long * 6}, None),
        ("get", "/metrics", {"Origin": "http://evil.example"}, None),
    ]  # fmt: skip
    seen = set()
    for method, path, headers, body in asked:
        answer = server.ask(request(method.upper(), path, body, **headers))
        bare = path.partition("?")[0]
        operations = described["paths"][bare]
        responses = operations.get(method, next(iter(operations.values())))["responses"]
        content = responses[str(answer.status)]["content"]["application/json"]
        assert is_valid(json.loads(answer.body), content["schema"], described), (path, answer)
        seen.add(answer.status)
    assert seen == {200, 503, 405, 415, 421, 413, 400, 403, 414, 431}


# ---------------------------------------------------------------- schemathesis


def ask_all(folder: Path, port: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Have schemathesis ask a server what its own description says, the same each time."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("schemathesis")), "run",
         f"http://127.0.0.1:{port}/openapi.json", "--generation-deterministic", "--workers", "1",
         "--no-color", "--request-timeout", "60", "--continue-on-failure", *options],
        cwd=folder, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip


@pytest.mark.slow
def test_schemathesis_finds_nothing_that_the_description_does_not_say(
    tmp_path: Path, make_video: Any
) -> None:
    model = write_model(tmp_path / "model", fake_from=0.0)
    (tmp_path / "files" / "2026").mkdir(parents=True)
    make_video(tmp_path / "files" / "2026" / "clip.mp4", frames=5)  # the description's example
    (tmp_path / "password").write_text("a-word")
    options = ("--model", str(model), "--files", str(tmp_path / "files"), "--max-mb", "0.2",
               "--password-file", str(tmp_path / "password"))  # fmt: skip
    with serving(tmp_path, *options) as running:
        done = ask_all(
            tmp_path, running.port, "--max-examples", "8", "--auth", "x:a-word",
            # Bytes are a video or a picture or not, which a description can't say; what a form or
            # an address has besides is ignored, so that a picture with it is answered.
            "--exclude-checks", "positive_data_acceptance,negative_data_rejection",
            "--report", "ndjson", "--report-ndjson-path", "all.ndjson",
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Tested: +6", done.stdout)
    statuses = set(re.findall(r'"status_code": ?(\d+)', (tmp_path / "all.ndjson").read_text()))
    assert {"200", "400", "401", "404", "405", "415"} <= statuses  # so it came that far


@pytest.mark.slow
def test_schemathesis_would_find_what_the_description_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = openapi._probe("alive", "Whether it answers requests", {"alive": True})
    del said["get"]["responses"]["405"]
    said["get"]["responses"]["200"]["content"]["application/json"]["schema"]["required"] = ["dead"]
    whole = openapi.describe

    def describing(*words: Any, **named: Any) -> dict[str, Any]:
        described = whole(*words, **named)
        described["paths"]["/healthz"] = said
        return described

    monkeypatch.setattr(openapi, "describe", describing)
    with small_server(tmp_path) as started:
        done = ask_all(tmp_path, started.port, "--include-path", "/healthz")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "dead" in done.stdout
