"""`unmask verify --key`: what it prints and ends with."""

import json

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from unmask.answers import verify as verification
from unmask.answers.signatures import SigningKey
from unmask.cli.main import main


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def case(tmp_path, monkeypatch):
    """Two reports, each signed by one key, and that key's public half."""
    monkeypatch.chdir(tmp_path)
    key = Ed25519PrivateKey.generate()
    (tmp_path / "public.pem").write_bytes(public_pem(key))
    for name in ("one.html", "two.html"):
        data = {
            "page_sha256": verification.BLANK, "format": verification.FORMAT,
            "video": {"name": name, "sha256": "1" * 64}, "model": {"sha256": "2" * 64},
            "answer": {"verdict": "fake", "probability": 0.9, "reason": None},
        }  # fmt: skip
        block = f'<script type="application/json" id="unmask-report">{json.dumps(data)}</script>'
        page = verification.seal(block).encode()
        (tmp_path / name).write_bytes(page)
        signed = SigningKey(key).sign(page, name=name, time_s=1_700_000_000)
        (tmp_path / f"{name}.minisig").write_bytes(signed)
    return tmp_path


def verify(*words):
    done = CliRunner().invoke(main, ["verify", *words])
    return done.exit_code, done.output.splitlines()


@pytest.mark.usefixtures("case")
def test_a_signature_is_checked_before_the_page():
    code, lines = verify("one.html", "--key", "public.pem")
    assert (code, lines[0][:25]) == (0, "signature   matches      ")
    assert lines[0].endswith("timestamp:1700000000 file:one.html hashed")
    assert lines[1].startswith("report      matches")
    code, lines = verify("one.html")
    assert (code, lines[0]) == (
        0, "signature   not compared  there is a signature, and no key was given",
    )  # fmt: skip


def test_a_forged_page_with_a_digest_of_its_own_has_no_signature(case):
    page = (case / "one.html").read_text()
    digest = page.partition('"page_sha256": "')[2][:64]
    forged = page.replace(digest, verification.BLANK).replace('"fake"', '"real"')
    (case / "one.html").write_text(verification.seal(forged))
    assert verify("one.html")[0] == 0  # as without a key nobody can tell
    code, lines = verify("one.html", "--key", "public.pem")
    assert code == verification.EXIT_CODES["signature"] == 7
    assert lines[0].startswith("signature   DIFFERS")
    assert lines[1].startswith("report      matches")


def test_another_key_or_the_signature_of_another_report_differs(case):
    (case / "other.pem").write_bytes(public_pem(Ed25519PrivateKey.generate()))
    code, lines = verify("one.html", "--key", "other.pem")
    assert code == 7
    assert "signed by key" in lines[0]
    (case / "two.html.minisig").replace(case / "one.html.minisig")
    code, lines = verify("one.html", "--key", "public.pem")
    assert code == 7
    assert "did not sign this content" in lines[0]


def test_a_missing_or_cut_signature_and_a_wrong_file_of_a_key_are_one_line(case):
    (case / "two.html.minisig").unlink()
    signed = (case / "one.html.minisig").read_bytes()
    (case / "one.html.minisig").write_bytes(signed[:150])
    for words in (
        ("two.html", "--key", "public.pem"), ("one.html", "--key", "public.pem"),
        ("one.html", "--key", "one.html"), ("one.html", "--key", "gone.pem"),
    ):  # fmt: skip
        code, lines = verify(*words)
        assert code == 1
        assert len(lines) == 1, lines
        assert lines[0].startswith("Error: ")
