"""Files that a request names instead of sending them: those of one folder, and no others."""

import asyncio
import io
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from small_server import Answer, SmallServer, small_server
from waiting import wait_until

from tests.cli.test_predict import write_model
from tests.serve.test_app import post, serving
from unmask.answers.answers_file import RunInfo
from unmask.errors import UnmaskError
from unmask.serve import openapi
from unmask.serve.allowed_folder import AllowedFolder, read_path
from unmask.serve.intake import UploadError
from unmask.serve.queue import Limits, State

MAX_BYTES = 1_000
SECRET = b"of no concern to strangers"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files that may be answered, and around it what may not."""
    (tmp_path / "secret.mp4").write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.mp4").write_bytes(SECRET)
    made = tmp_path / "allowed"
    (made / "2026").mkdir(parents=True)
    (made / "2026" / "clip ü.mp4").write_bytes(b"a video")
    (made / "..clip").write_bytes(b"dots")
    (made / "empty.mp4").write_bytes(b"")
    (made / "large.mp4").write_bytes(bytes(MAX_BYTES + 1))
    (made / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (made / "inner.mp4").symlink_to(made / "2026" / "clip ü.mp4")
    (made / "up").symlink_to(tmp_path / "outside")
    (made / "absolute").symlink_to("/")
    os.mkfifo(made / "pipe.mp4")
    return made


def copy(folder: Path, path: str) -> bytes:
    file = io.BytesIO()
    allowed = AllowedFolder(folder)
    asyncio.run(allowed.copy(path, file, MAX_BYTES, lambda: None))
    return file.getvalue()


def test_a_disk_that_fails_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, _: Any = -1) -> bytes:
            raise OSError(5, "Input/output error")

        def fileno(self) -> int:
            return 0

    monkeypatch.setattr(AllowedFolder, "_open", lambda *_: Broken())
    with pytest.raises(UploadError, match="Input/output error") as raised:
        copy(folder, "..clip")
    assert (raised.value.status, raised.value.kind) == (507, "failed")


def test_files_below_the_folder_are_read(folder: Path, tmp_path: Path) -> None:
    assert copy(folder, "2026/clip ü.mp4") == b"a video"
    assert copy(folder, "..clip") == b"dots"
    (tmp_path / "by-name").symlink_to(folder)  # its owner may name it so
    assert copy(tmp_path / "by-name", "..clip") == b"dots"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("../secret.mp4", 400), ("2026/../../secret.mp4", 400), ("/etc/passwd", 400), ("", 400),
        (".", 400), ("2026//clip ü.mp4", 400), ("2026/./clip ü.mp4", 400), ("2026/", 400),
        ("a\0b", 400), ("//etc/passwd", 400),
        ("link.mp4", 404), ("inner.mp4", 404), ("up/secret.mp4", 404), ("absolute/etc/passwd", 404),
        ("pipe.mp4", 404), ("2026", 404), ("gone.mp4", 404), ("..clip/x", 404), ("\udce9", 404),
        ("x" * 300, 404), ("a/" * 1000 + "b", 404), ("..\\secret.mp4", 404),
        ("large.mp4", 413),
    ],
)  # fmt: skip
def test_nothing_else_is(folder: Path, path: str, status: int) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with pytest.raises(UploadError) as raised:
        copy(folder, path)
    assert raised.value.status == status
    assert str(folder) not in str(raised.value)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_sockets_and_devices_are_not_opened(folder: Path, monkeypatch: Any) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(folder)
        listening.bind("socket.mp4")
        with pytest.raises(UploadError, match="no such file"):
            copy(folder, "socket.mp4")
    opened, real = [], os.open

    def noting(path: Any, *rest: Any, **named: Any) -> int:
        opened.append(path)
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", noting)
    with pytest.raises(UploadError, match="no such file"):
        copy(Path("/dev"), "null")
    assert "null" not in opened


def test_a_file_that_is_replaced_by_a_link_meanwhile_is_not_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, real = folder / "..clip", os.stat

    def swapping(path: Any, **named: Any) -> os.stat_result:
        found = real(path, **named)
        if path == victim.name:
            victim.unlink()
            victim.symlink_to(tmp_path / "secret.mp4")
        return found

    monkeypatch.setattr(os, "stat", swapping)
    with pytest.raises(UploadError, match="no such file"):
        copy(folder, victim.name)
    assert victim.is_symlink()


def test_a_file_that_grows_meanwhile_stays_bounded(folder: Path) -> None:
    class Growing(io.BytesIO):
        def write(self, chunk: Any) -> int:
            with (folder / "..clip").open("ab") as grown:
                grown.write(bytes(MAX_BYTES))
            return super().write(chunk)

    file = Growing()
    asyncio.run(AllowedFolder(folder).copy("..clip", file, MAX_BYTES, lambda: None))
    assert len(file.getvalue()) == MAX_BYTES + 1  # so that the caller sees it is too large


async def chunks_of(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"[]", 400), (b'"a"', 400), (b'{"path": 1}', 400), (b'{"path": null}', 400),
        (b'{"path": "a", "as": "b"}', 400), (b"{", 400), (b"\xff", 400), (b"[" * 4000, 400),
        (b" " * 5000 + b'{"path": "a"}', 413),
    ],
)  # fmt: skip
def test_a_body_that_names_no_path_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(UploadError) as raised:
        asyncio.run(read_path(chunks_of(body)))
    assert raised.value.status == status


def test_a_path_is_read_from_a_body() -> None:
    assert asyncio.run(read_path(chunks_of(b'{"path": "a/\\u00fc.mp4"}'))) == "a/ü.mp4"


# ---------------------------------------------------------------- servers


def name(server: SmallServer, path: str, address: str = "/api/predict", **headers: str) -> Answer:
    body = json.dumps({"path": path}).encode()
    return server.post(address, body, Content_Type="application/json", **headers)


def test_a_server_takes_paths_only_where_it_was_given_a_folder(
    folder: Path, tmp_path: Path
) -> None:
    limits = Limits(MAX_BYTES, 60, 60, waiting=3, jobs=1)
    (tmp_path / "b").mkdir()
    with small_server(tmp_path / "b", files=AllowedFolder(folder), limits=limits) as server:
        described = json.loads(server.get("/openapi.json").body)
        validate(described)
        kinds = described["paths"]["/api/predict"]["post"]["requestBody"]["content"]
        assert "application/json" in kinds
        schema = kinds["application/json"]["schema"]
        assert Draft202012Validator(schema).is_valid({"path": "a"})
        assert name(server, "../secret.mp4").kind == "bad_request"
        assert name(server, "link.mp4", "/api/report").kind == "not_found"
        assert name(server, "large.mp4").kind == "too_large"
        assert name(server, "empty.mp4").kind == "not_a_video"
        evil = {"Origin": "https://evil.example"}
        assert name(server, "2026/clip ü.mp4", **evil).kind == "cross_site"
        # The page sends files.
        said = json.loads(name(server, "2026/clip ü.mp4", "/gradio_api/upload").body)
        job = server.job_queue.find(said[0])
        assert job is not None
        assert b'"path"' in job.video.read_bytes()
        server.job_queue.drop(job)
        with server.connect() as connection:
            body = json.dumps({"path": "2026/clip ü.mp4"}).encode()
            head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(
                b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head.encode() + body
            )
            jobs = server.job_queue._jobs
            wait_until(lambda: [job.state for job in jobs.values()] == [State.WAITING])
            [waiting] = jobs.values()
            assert (waiting.name, waiting.video.read_bytes()) == ("2026/clip ü.mp4", b"a video")
        wait_until(lambda: not jobs)
    described = openapi.describe(limits, RunInfo("a1" * 32, "1"), has_password=False)
    kinds = described["paths"]["/api/predict"]["post"]["requestBody"]["content"]
    assert "application/json" not in kinds


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from unmask.cli.main import main

    with pytest.raises(UnmaskError, match="no such folder"):
        AllowedFolder(tmp_path / "gone")
    refused = CliRunner().invoke(main, ["serve", "--files", str(tmp_path / "gone")])
    assert (refused.exit_code, len(refused.output.splitlines())) == (1, 1)


@pytest.mark.slow
def test_a_named_file_is_answered_as_if_it_had_been_sent(tmp_path: Path, make_video: Any) -> None:
    (tmp_path / "files" / "a").mkdir(parents=True)
    video = make_video(tmp_path / "files" / "a" / "clip.mp4", frames=5)
    model = write_model(tmp_path / "model", fake_from=0.0)
    options = ("--model", str(model), "--files", str(tmp_path / "files"))
    with serving(tmp_path, *options) as server:
        sent = post(server, "/api/predict?name=a/clip.mp4", video.read_bytes())
        body = json.dumps({"path": "a/clip.mp4"}).encode()
        named = post(server, "/api/predict", body, Content_Type="application/json")
    assert sent[0] == named[0] == 200
    assert json.loads(sent[2]) == json.loads(named[2])
    assert json.loads(named[2])["path"] == "a/clip.mp4"
    assert video.is_file()
