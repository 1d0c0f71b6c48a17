"""Content credentials of files that were really signed, changed, cut, or never were."""

import datetime as dt
import io
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from signed_files import MANIFEST, Authority

from unmask.answers.credentials import Reader
from unmask.answers.file_says import MOST, State

KINDS = {"mp4": "video/mp4", "jpg": "image/jpeg"}


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def plain(tmp_path_factory, make_video):
    """Return files without credentials, by ending."""
    video = make_video(tmp_path_factory.mktemp("plain") / "a.mp4", frames=20)
    picture = io.BytesIO()
    Image.linear_gradient("L").save(picture, "JPEG")
    return {"mp4": video.read_bytes(), "jpg": picture.getvalue()}


def read(tmp_path, content, trusted=None):
    path = tmp_path / "file"
    path.write_bytes(content)
    return Reader(trusted.pem.decode() if trusted else None).read(path)


@pytest.mark.parametrize("ending", KINDS)
def test_a_signed_file_says_who_signed_it_and_how_it_was_made(tmp_path, plain, authority, ending):
    found = read(tmp_path, authority.sign(plain[ending], KINDS[ending]))
    assert (found.state, found.faults) == (State.VALID, [])
    assert (found.signer, found.organisation) == ("Ann<b> Signer", "Newsroom<script>")
    assert found.generators == ["Studio<b> 7"]
    [action] = found.actions
    assert (action.action, action.source, action.agent) == (
        "c2pa.created", "trainedAlgorithmicMedia", "Painter<i> 2",
    )  # fmt: skip
    assert (found.ingredients, found.left_out, found.signed_at) == ([], 0, "")


@pytest.mark.parametrize("ending", KINDS)
def test_who_is_trusted_is_the_users_choice(tmp_path, plain, authority, ending):
    signed = authority.sign(plain[ending], KINDS[ending])
    assert read(tmp_path, signed, authority).state is State.TRUSTED
    other = read(tmp_path, signed, Authority())
    assert (other.state, other.faults) == (State.VALID, ["signingCredential.untrusted"])


@pytest.mark.parametrize(("ending", "fault"), [
    ("mp4", "assertion.bmffHash.mismatch"), ("jpg", "assertion.dataHash.mismatch"),
])  # fmt: skip
def test_a_changed_byte_is_found(tmp_path, plain, authority, ending, fault):
    signed = bytearray(authority.sign(plain[ending], KINDS[ending]))
    at = signed.index(b"mdat") + 40 if ending == "mp4" else len(signed) - 50
    signed[at] ^= 1
    found = read(tmp_path, bytes(signed), authority)
    assert (found.state, found.faults) == (State.INVALID, [fault])


def test_a_certificate_that_ran_out_is_found(tmp_path, plain, authority):
    signed = authority.sign(plain["mp4"], "video/mp4", lasts=dt.timedelta(seconds=6))
    assert read(tmp_path, signed, authority).state is State.TRUSTED
    time.sleep(7)
    found = read(tmp_path, signed, authority)
    assert found.state is State.INVALID
    assert any("outsideValidity" in fault or "expired" in fault for fault in found.faults)


def test_what_a_file_was_made_of_is_told(tmp_path, plain, authority):
    parent = authority.sign(plain["mp4"], "video/mp4")
    edited = {**MANIFEST, "assertions": []}
    found = read(
        tmp_path, authority.sign(plain["mp4"], "video/mp4", manifest=edited, made_of=parent)
    )
    assert [(each.title, each.relation) for each in found.ingredients] == [
        ("parent<b>.mp4", "parentOf")
    ]


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 4096, b"\xff\xd8\xff\xe0", b"PK\3\4"])
def test_what_carries_no_credentials_has_none(tmp_path, content):
    assert read(tmp_path, content).state in (State.ABSENT, State.UNREADABLE)


def test_files_without_credentials_have_none(tmp_path, plain):
    for content in plain.values():
        found = read(tmp_path, content)
        assert (found.state, found.detail, found.signer) == (State.ABSENT, "", "")


def test_long_lists_and_texts_have_an_end(tmp_path, plain, authority):
    first = MANIFEST["assertions"][0]["data"]["actions"][0]
    edits = [{"action": "c2pa.edited", "softwareAgent": {"name": "x" * 500}}] * 60
    actions = [{"label": "c2pa.actions", "data": {"actions": [first, *edits]}}]
    signed = authority.sign(plain["mp4"], "video/mp4", manifest={**MANIFEST, "assertions": actions})
    found = read(tmp_path, signed)
    assert (len(found.actions), found.left_out) == (MOST, 61 - MOST)
    assert max(len(action.agent) for action in found.actions) == 200


def test_damaged_credentials_are_no_crash(tmp_path, plain, authority):
    signed = authority.sign(plain["mp4"], "video/mp4")
    start = signed.index(b"jumb")
    states = set()
    for at in range(start, start + 3_000, 61):
        damaged = signed[:at] + bytes([signed[at] ^ 0xFF]) + signed[at + 1 :]
        states.add(read(tmp_path, damaged).state)
        states.add(read(tmp_path, signed[:at]).state)
    assert State.TRUSTED not in states
    assert State.INVALID in states


def test_credentials_elsewhere_are_not_asked_for(tmp_path, plain):
    """The address is one of this machine that would note a visit: see the socket below."""
    import socket

    import c2pa

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        port = listening.getsockname()[1]
        link = f"http://127.0.0.1:{port}/manifest.c2pa"
        xmp = (
            '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
            'xmlns:dcterms="http://purl.org/dc/terms/" rdf:about="" '
            f'dcterms:provenance="{link}"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
        ).encode()
        head = b"http://ns.adobe.com/xap/1.0/\0" + xmp
        segment = b"\xff\xe1" + (len(head) + 2).to_bytes(2, "big") + head
        picture = plain["jpg"][:2] + segment + plain["jpg"][2:]
        found = read(tmp_path, picture)
        assert found.state is State.ELSEWHERE
        assert link in found.detail
        with pytest.raises(BlockingIOError):  # nobody knocked
            listening.accept()
    assert c2pa.sdk_version()


def test_without_the_extra_nothing_is_claimed(tmp_path, plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    found = read(tmp_path, plain["mp4"])
    assert (found.state, found.detail) == (State.NOT_READ, "The extra c2pa is not installed.")


def test_a_file_that_is_not_there_is_an_error_of_the_system():
    with pytest.raises(OSError, match="No such file"):
        Reader(None).read(Path("gone.mp4"))
