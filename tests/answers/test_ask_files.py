"""What files say of themselves, asked in a confined process, whatever happens to it."""

import os
import signal
import socket
import struct
import time
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from signed_files import Authority

from unmask.answers import ask_files
from unmask.answers.file_says import MOST, Credentials, FileSays, State
from unmask.errors import UnmaskError
from unmask.runtime import confinement


def test_each_file_is_asked_whatever_the_others_are(tmp_path, make_video):
    authority = Authority()
    plain = make_video(tmp_path / "plain.mp4", frames=5)
    signed = tmp_path / "signed.mp4"
    signed.write_bytes(authority.sign(plain.read_bytes(), "video/mp4"))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    os.mkfifo(tmp_path / "pipe.mp4")
    paths = [plain, signed, text, tmp_path / "pipe.mp4", tmp_path / "gone.mp4", tmp_path]
    with ask_files.reading(paths, authority.pem.decode()) as files:
        states = {path.name: files.of(path).credentials.state for path in reversed(paths)}
    assert (states["plain.mp4"], states["signed.mp4"]) == (State.ABSENT, State.TRUSTED)
    assert {states[name] for name in ("pipe.mp4", "gone.mp4", tmp_path.name)} == {State.UNREADABLE}
    assert states["text.mp4"] in (State.ABSENT, State.UNREADABLE)


def test_a_picture_of_too_many_pixels_does_not_stop_the_others(tmp_path):
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)  # Pillow opens 179 million
    huge, small = tmp_path / "huge.png", tmp_path / "small.png"
    huge.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    ))  # fmt: skip
    text = PngInfo()
    text.add_text("Software", "painter")
    Image.new("RGB", (4, 4)).save(small, pnginfo=text)
    with ask_files.reading([huge, small], None) as files:
        assert files.of(huge).container == {}
        assert files.of(small).container == {"software": "painter"}


def kill_yourself(job):
    """Stand in for credentials that crash their reader."""
    if job.path.name == "bad":
        os.kill(os.getpid(), signal.SIGKILL)
    return FileSays(credentials=Credentials(state=State.ABSENT)).model_dump_json()


def lie(job):
    """Stand in for a reader that was taken over."""
    return {"state": "trusted"} if job.path.name == "bad" else '{"credentials": {"state": "sure"}}'


def connect(job):
    """Ask the network for something."""
    try:
        with socket.create_connection(("127.0.0.1", int(job.path.name)), timeout=5):
            said = "connected"
    except OSError:
        said = "refused"
    failed = Credentials(state=State.UNREADABLE, detail=said)
    return FileSays(credentials=failed).model_dump_json()


def test_a_reader_that_crashes_costs_that_file_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(ask_files, "_read", kill_yourself)
    paths = [tmp_path / name for name in ("a", "bad", "b")]
    with ask_files.reading(paths, None) as files:
        found = [files.of(path).credentials for path in paths]
    assert [each.state for each in found] == [State.ABSENT, State.UNREADABLE, State.ABSENT]
    assert found[1].detail == "The process that read them crashed."


def take_time_or_memory(job):
    """Stand in for credentials that are a bomb."""
    if job.path.name == "time":
        time.sleep(60)
    if job.path.name == "memory":
        bytearray(4 * 2**30)
    return FileSays(credentials=Credentials(state=State.ABSENT)).model_dump_json()


def test_a_reader_has_its_share_of_time_and_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(ask_files, "_read", take_time_or_memory)
    monkeypatch.setattr(ask_files, "_STALL_S", 2.0)
    names = ("time", "memory", "a") if confinement.enforced().memory else ("time", "a")
    paths = [tmp_path / name for name in names]
    with ask_files.reading(paths, None) as files:
        found = {path.name: files.of(path).credentials for path in paths}
    assert found["time"].detail == "Nothing was read for 2 s."
    assert found["a"].state is State.ABSENT
    if "memory" in found:
        assert found["memory"].detail == "They take more memory than they may."


def test_what_a_reader_that_was_taken_over_says_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(ask_files, "_read", lie)
    paths = [tmp_path / name for name in ("a", "bad")]
    with ask_files.reading(paths, None) as files:
        for path in paths:
            found = files.of(path).credentials
            assert (found.state, "malformed" in found.detail) == (State.UNREADABLE, True)


def test_a_reader_has_no_network(tmp_path, monkeypatch):
    if not confinement.enforced().network:
        pytest.skip("NOT CONFINED: this machine can't keep a process from the network")
    monkeypatch.setattr(ask_files, "_read", connect)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        path = tmp_path / str(listening.getsockname()[1])
        with ask_files.reading([path], None) as files:
            assert files.of(path).credentials.detail == "refused"


@pytest.mark.parametrize(
    "said",
    [
        "", "[]", "{}", None, b"{}", '{"credentials": {"state": "valid", "signer": 1}}',
        '{"credentials": {"state": "valid", "more": ""}}',
        '{"credentials": {"state": "valid", "signer": "' + "x" * 201 + '"}}',
        '{"credentials": {"state": "valid", "faults": [' + ",".join(['"x"'] * (MOST + 1)) + "]}}",
        '{"credentials": {"state": "valid"}, "container": {"encoder": ["x"]}}',
    ],
)  # fmt: skip
def test_only_what_has_the_form_is_taken(said):
    found = ask_files.checked(said)
    assert (found.credentials.state, found.container) == (State.UNREADABLE, {})
    whole = FileSays(credentials=Credentials(state=State.VALID), container={"encoder": "x"})
    assert ask_files.checked(whole.model_dump_json()) == whole


def test_certificates_to_trust_are_pem(tmp_path):
    authority, path = Authority(), tmp_path / "trust.pem"
    path.write_bytes(authority.pem * 2)
    assert ask_files.read_trusted(path) == (authority.pem * 2).decode()
    for content, said in ((b"", "none"), (b"no pem", "none"), (authority.pem + b"\xff", "none")):
        path.write_bytes(content)
        with pytest.raises(UnmaskError, match=f"--trust.*found {said}"):
            ask_files.read_trusted(path)
    with pytest.raises(UnmaskError, match="can't be read"):
        ask_files.read_trusted(tmp_path / "gone.pem")
