"""What uploads say of themselves, each read in a process of its own, whatever becomes of that."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from signed_files import Authority
from strange_reader import play_one
from waiting import wait_until

from tests.cli.test_predict import write_model
from tests.serve.test_app import post, serving
from unmask.answers.file_says import State
from unmask.serve.file_reader import FileReader


@pytest.fixture
def reader() -> Iterator[FileReader]:
    made = FileReader(None, stall_s=1.0)
    yield made
    made.close()


def never() -> bool:
    return False


@pytest.fixture
def playing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmask.serve.file_reader._read_one", play_one)


@pytest.mark.usefixtures("playing")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("crash", "crashed"), ("hang", "Nothing was read for 1 s."), ("memory", "more memory"),
        ("lie", "crashed"),
    ],
)  # fmt: skip
def test_what_fails_costs_that_file_alone(
    reader: FileReader, tmp_path: Path, name: str, words: str
) -> None:
    found = reader.read(tmp_path / name, never).credentials
    assert found.state is State.UNREADABLE
    assert words in found.detail
    assert reader.read(tmp_path / "next", never).credentials.state is State.ABSENT


@pytest.mark.usefixtures("playing")
def test_each_file_has_a_process_of_its_own_which_is_there_before(
    reader: FileReader, tmp_path: Path
) -> None:
    reader.prepare()
    assert reader._child is not None
    prepared = reader._child.pid
    reader.prepare()
    assert reader._child.pid == prepared
    first = reader.read(tmp_path / "a", never).credentials.detail
    assert reader._child is None
    second = reader.read(tmp_path / "b", never).credentials.detail
    assert reader._child is None
    wait_until(lambda: not Path(f"/proc/{prepared}").exists())
    assert first
    assert second


@pytest.mark.usefixtures("playing")
def test_it_is_confined(reader: FileReader, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        assert reader.read(tmp_path / port, never).credentials.detail == "refused"
    reader.read(tmp_path / "write", never)
    assert not (tmp_path / "write").exists()


@pytest.mark.usefixtures("playing")
def test_who_no_longer_waits_is_not_held_up(tmp_path: Path) -> None:
    reader = FileReader(None, stall_s=600)
    begun_s = time.monotonic()
    reader.read(tmp_path / "hang", lambda: time.monotonic() > begun_s + 0.3)
    assert time.monotonic() - begun_s < 60
    assert reader._child is None


@pytest.mark.slow
def test_whom_a_server_trusts_is_its_owners_choice(tmp_path: Path, make_video: Any) -> None:
    authority = Authority()
    model = write_model(tmp_path / "model", fake_from=0.0)
    plain = make_video(tmp_path / "plain.mp4", frames=5).read_bytes()
    signed = authority.sign(plain, "video/mp4")
    changed = bytearray(signed)
    changed[signed.rindex(b"mdat") + 40] ^= 1
    (tmp_path / "trusted.pem").write_bytes(authority.pem)
    options = ("--model", str(model), "--trust", str(tmp_path / "trusted.pem"))
    with serving(tmp_path, *options) as server:
        states = []
        for content in (plain, signed, bytes(changed), Authority().sign(plain, "video/mp4")):
            status, _, body = post(server, "/api/predict", content)
            assert status == 200, body
            states.append(json.loads(body)["file_says"]["credentials"]["state"])
        assert states == ["absent", "trusted", "invalid", "valid"]
        _, _, page = post(server, "/api/report", signed)
        assert b"trusted" in page


def test_a_list_that_holds_no_certificate_is_refused(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from unmask.cli.main import main

    (tmp_path / "none.pem").write_text("nothing")
    refused = CliRunner().invoke(main, ["serve", "--trust", str(tmp_path / "none.pem")])
    assert refused.exit_code == 1
    assert "found none. Write them into it in PEM" in refused.output
