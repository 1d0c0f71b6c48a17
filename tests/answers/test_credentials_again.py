"""A video's credentials beside what a report says: changed, expired, trusted by another list."""

import datetime as dt
import time

import pytest
from signed_files import MANIFEST, Authority
from waiting import wait_until

from unmask.answers.ask_files import read_here
from unmask.answers.credentials_again import compare
from unmask.answers.file_says import Credentials, State


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def plain(make_video, tmp_path):
    return make_video(tmp_path / "plain.mp4", frames=3).read_bytes()


def put(tmp_path, content):
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    return path


def test_what_is_as_it_was_matches_with_and_without_a_list(tmp_path, plain, authority):
    path = put(tmp_path, authority.sign(plain, "video/mp4"))
    pem = authority.pem.decode()
    trusted, valid = (read_here(path, each).credentials for each in (pem, None))
    assert (trusted.state, valid.state) == (State.TRUSTED, State.VALID)
    assert compare(valid, path, None) == (True, "valid, as in the report")
    assert compare(trusted, path, pem) == (True, "trusted, as in the report")
    assert compare(valid, path, pem)[0] is True
    assert compare(trusted, path, None)[0] is None  # nobody knows whom the report trusted


def test_a_signer_that_another_list_does_not_hold_differs(tmp_path, plain, authority):
    path = put(tmp_path, authority.sign(plain, "video/mp4"))
    trusted = read_here(path, authority.pem.decode()).credentials
    matches, words = compare(trusted, path, Authority().pem.decode())
    assert matches is False
    assert words.startswith("valid now, trusted in the report: the signer is not of the list")


def test_a_changed_byte_differs(tmp_path, plain, authority):
    signed = authority.sign(plain, "video/mp4")
    claimed = read_here(put(tmp_path, signed)).credentials
    at = signed.index(b"mdat") + 40
    path = put(tmp_path, signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :])
    assert compare(claimed, path, None) == (
        False, "invalid now, valid in the report; what does not hold: assertion.bmffHash.mismatch",
    )  # fmt: skip


def test_another_signature_of_the_same_video_differs(tmp_path, plain, authority):
    claimed = read_here(put(tmp_path, authority.sign(plain, "video/mp4"))).credentials
    other = {**MANIFEST, "claim_generator_info": [{"name": "Other", "version": "1"}]}
    path = put(tmp_path, authority.sign(plain, "video/mp4", manifest=other))
    assert compare(claimed, path, None) == (False, "other programs")
    assert compare(claimed, put(tmp_path, plain), None)[1].startswith(
        "absent now, valid in the report"
    )


def test_a_certificate_that_expired_since_differs(tmp_path, plain, authority):
    path = put(tmp_path, authority.sign(plain, "video/mp4", lasts=dt.timedelta(seconds=8)))
    ends_s = time.monotonic() + 8
    claimed = read_here(path, authority.pem.decode()).credentials
    assert claimed.state is State.TRUSTED
    wait_until(lambda: time.monotonic() > ends_s + 1)
    matches, words = compare(claimed, path, authority.pem.decode())
    assert matches is False
    assert "signingCredential.expired" in words


def test_none_is_none_and_what_was_not_read_is_not_compared(tmp_path, plain):
    path = put(tmp_path, plain)
    assert compare(read_here(path).credentials, path, None) == (True, "absent, as in the report")
    unread = Credentials(state=State.NOT_READ)
    assert compare(unread, path, None)[0] is None
