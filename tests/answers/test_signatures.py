"""Signatures of reports: their form, by minisign itself and by openssl, and what is refused."""

import base64
import hashlib
import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from unmask.answers import signatures
from unmask.answers.signatures import KeyFileError, SignatureError
from unmask.errors import UnmaskError

# RFC 8032, section 7.1, test 1.
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
PASSPHRASE = "correct horse"

needs_minisign = pytest.mark.skipif(
    shutil.which("minisign") is None,
    reason="minisign is not installed: nothing shows here that it accepts our signatures",
)
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None,
    reason="openssl is not installed: nothing shows here that it reads the same keys",
)


def private_pem(key, passphrase=None):
    how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_signing_key(path, passphrase=None):
    return signatures.read_signing_key(path, passphrase, "THE_VARIABLE")


@pytest.fixture
def case(tmp_path):
    """RFC 8032's key as two PEM files, and a page with a signature by it."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(SECRET)
    (tmp_path / "key.pem").write_bytes(private_pem(key))
    (tmp_path / "public.pem").write_bytes(public_pem(key))
    page = tmp_path / "page.html"
    page.write_bytes(b"<h1>a page</h1>\n")
    signed = read_signing_key(tmp_path / "key.pem").sign(
        page.read_bytes(), name=page.name, time_s=1_700_000_000
    )
    (tmp_path / "page.html.minisig").write_bytes(signed)
    return tmp_path


def fault(case, key="public.pem"):
    page = case / "page.html"
    signature = signatures.read_signature(signatures.beside(page))
    return signatures.fault(signature, page.read_bytes(), signatures.read_public_key(case / key))


def test_a_signature_has_the_bytes_of_minisigns_form(case):
    lines = (case / "page.html.minisig").read_bytes().split(b"\n")
    assert lines[0].startswith(b"untrusted comment: ")
    assert lines[2] == b"trusted comment: timestamp:1700000000\tfile:page.html\thashed"
    assert lines[4:] == [b""]
    whole = base64.b64decode(lines[1])
    assert whole[:2] == b"ED"
    assert whole[2:10] == hashlib.sha256(PUBLIC).digest()[:8]
    public = ed25519.Ed25519PublicKey.from_public_bytes(PUBLIC)
    # verify raises where a signature is wrong
    public.verify(whole[10:], hashlib.blake2b(b"<h1>a page</h1>\n", digest_size=64).digest())
    public.verify(base64.b64decode(lines[3]), whole[10:] + lines[2][len("trusted comment: ") :])
    assert fault(case) is None


def test_a_key_has_the_name_that_minisign_prints(case):
    key = signatures.read_public_key(case / "public.pem").ed25519
    name = signatures.PublicKey(key, bytes.fromhex("696dd76d41201502")).name
    assert name == "21520416DD76D69"  # by minisign 0.11


def test_a_changed_byte_of_page_signature_or_comment_is_found(case):
    page, place = case / "page.html", case / "page.html.minisig"
    signed = place.read_bytes()
    page.write_bytes(b"<h1>A page</h1>\n")
    assert "did not sign this content" in fault(case)
    page.write_bytes(b"<h1>a page</h1>\n")
    lines = signed.split(b"\n")
    whole = bytearray(base64.b64decode(lines[1]))
    for at, said in ((9, "signed by key"), (10, "did not sign"), (73, "did not sign")):
        whole[at] ^= 1
        place.write_bytes(b"\n".join([lines[0], base64.b64encode(whole), *lines[2:]]))
        assert said in fault(case)
        whole[at] ^= 1
    place.write_bytes(signed.replace(b"timestamp:17", b"timestamp:18"))
    assert "but not the comment" in fault(case)
    place.write_bytes(signed.replace(b"signature by unmask", b"anything"))  # it is called untrusted
    assert fault(case) is None
    place.write_bytes(signed.replace(b"\n", b"\r\n"))  # mail may do so, and minisign reads it
    assert fault(case) is None


def test_another_key_and_another_reports_signature_are_found(case):
    other = ed25519.Ed25519PrivateKey.generate()
    (case / "other.pem").write_bytes(public_pem(other))
    assert fault(case, "other.pem").startswith("signed by key ")
    (case / "two.html").write_bytes(b"another page")
    signed = read_signing_key(case / "key.pem").sign(b"another page", name="two.html", time_s=1)
    (case / "page.html.minisig").write_bytes(signed)
    assert "did not sign this content" in fault(case)


def test_every_shorter_signature_is_refused_or_wrong(case):
    place = case / "page.html.minisig"
    signed = place.read_bytes()
    for count in range(len(signed) - 1):  # its last byte is the end of a line
        place.write_bytes(signed[:count])
        with pytest.raises(SignatureError, match=r"page\.html\.minisig: asked for a signature"):
            signatures.read_signature(place)
    place.write_bytes(signed[:-1])
    assert fault(case) is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"\n", b"\n\n", "four"),
        (b"untrusted comment", b"comment", "four"),
        (b"RUQ", b"RWQ", "legacy"),  # "ED" and "Ed" in base64, with the next bits
        (b"RUQ", b"QUQ", "unknown kind"),
        (b"RUQ", b"RU!", "damaged"),
        (b"", b"\0" * 2**16, "more than 65,536 bytes"),
    ],
)
def test_what_is_no_signature_is_one_line(case, old, new, said):
    place = case / "page.html.minisig"
    place.write_bytes(place.read_bytes().replace(old, new, 1))
    with pytest.raises(SignatureError, match=said) as raised:
        signatures.read_signature(place)
    assert "\n" not in str(raised.value)
    assert not signatures.is_signature(place)
    with pytest.raises(SignatureError, match="No such file"):
        signatures.read_signature(case / "none.minisig")


def test_a_key_with_a_passphrase_signs_and_says_nothing_of_it(case):
    key = ed25519.Ed25519PrivateKey.from_private_bytes(SECRET)
    locked = case / "locked.pem"
    locked.write_bytes(private_pem(key, PASSPHRASE))
    signed = read_signing_key(locked, PASSPHRASE).sign(
        (case / "page.html").read_bytes(), name="page.html", time_s=1_700_000_000
    )
    assert signed == (case / "page.html.minisig").read_bytes()  # Ed25519 draws nothing
    assert read_signing_key(case / "key.pem", PASSPHRASE).public.id  # which it does not need
    for wrong, said in ((None, "encrypted"), ("", "encrypted"), ("wrong one", "does not decrypt")):
        with pytest.raises(KeyFileError, match=said) as raised:
            read_signing_key(locked, wrong)
        assert "THE_VARIABLE" in str(raised.value)
        assert "wrong one" not in str(raised.value)
        assert raised.value.__cause__ is None


def test_keys_of_another_kind_are_named(case):
    others = {
        "RSA": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "E": ec.generate_private_key(ec.SECP256R1()),
        "X25519": x25519.X25519PrivateKey.generate(),
    }
    for name, key in others.items():
        (case / "other.pem").write_bytes(private_pem(key))
        with pytest.raises(KeyFileError, match=f"another kind .{name}"):
            read_signing_key(case / "other.pem")
        (case / "other.pem").write_bytes(public_pem(key))
        with pytest.raises(KeyFileError, match=f"another kind .{name}"):
            signatures.read_public_key(case / "other.pem")


def test_a_key_in_the_others_place_or_no_key_is_one_line(case):
    (case / "minisign.key").write_text("untrusted comment: minisign encrypted secret key\nRWRTY0\n")
    (case / "minisign.pub").write_text("untrusted comment: minisign public key\nRWRTY0\n")
    (case / "none.pem").write_text("no key")
    (case / "cut.pem").write_bytes((case / "public.pem").read_bytes()[:60])
    for read, name, said in (
        (read_signing_key, "public.pem", "a public key, which can't sign"),
        (read_signing_key, "minisign.key", "minisign -S -m"),
        (read_signing_key, "none.pem", "no key that can be read"),
        (read_signing_key, "gone.pem", "No such file"),
        (signatures.read_public_key, "key.pem", "-pubout"),
        (signatures.read_public_key, "minisign.pub", "cut short or damaged"),
        (signatures.read_public_key, "none.pem", "no key that can be read"),
        (signatures.read_public_key, "cut.pem", "no key that can be read"),
        (signatures.read_public_key, "gone.pem", "No such file"),
        (signatures.read_public_key, ".", "a directory"),
    ):
        with pytest.raises(KeyFileError, match=said) as raised:
            read(case / name)
        assert "\n" not in str(raised.value)


def test_without_cryptography_the_extra_is_named(case, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for read, name in (
        (read_signing_key, "key.pem"), (signatures.read_public_key, "public.pem"),
    ):  # fmt: skip
        with pytest.raises(UnmaskError, match=r"needs cryptography.*\[sign\]"):
            read(case / name)


# ---------------------------------------------------------------- by the programs themselves


def run(*words, folder, **options):
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, **options)


@needs_minisign
def test_minisign_accepts_our_signature_and_refuses_a_changed_page(case):
    public = signatures.read_public_key(case / "public.pem").minisign_text
    words = ("minisign", "-V", "-H", "-P", public, "-m", "page.html")
    done = run(*words, folder=case)
    assert done.returncode == 0, done.stderr
    assert "timestamp:1700000000\tfile:page.html\thashed" in done.stdout
    (case / "page.html").write_bytes(b"<h1>A page</h1>\n")
    assert run(*words, folder=case).returncode != 0


@needs_minisign
def test_minisign_shows_a_comment_with_a_hostile_name(case):
    page = (case / "page.html").read_bytes()
    key = read_signing_key(case / "key.pem")
    signed = key.sign(page, name="é\n\x1b[2J\udce9\u202e.html", time_s=1)
    (case / "page.html.minisig").write_bytes(signed)
    done = run("minisign", "-V", "-P", key.public.minisign_text, "-m", "page.html", folder=case)
    assert done.returncode == 0, done.stderr
    assert "file:é\\n\\x1b[2J\\xe9\\u202e.html" in done.stdout


@needs_minisign
def test_what_minisign_signed_is_accepted(case):
    made = run("minisign", "-G", "-W", "-p", "mini.pub", "-s", "mini.key", folder=case)
    assert made.returncode == 0, made.stderr
    sign = ("minisign", "-S", "-s", "mini.key", "-m", "page.html", "-t", "by hand")
    assert run(*sign, folder=case).returncode == 0
    assert fault(case, "mini.pub") is None
    place = case / "page.html.minisig"
    assert signatures.read_signature(place).shown_comment == "by hand"
    name = signatures.read_public_key(case / "mini.pub").name
    assert name in (case / "mini.pub").read_text()  # as minisign prints it
    assert "signed by key" in fault(case)  # not by RFC 8032's
    with pytest.raises(KeyFileError, match="secret key of minisign's"):
        signatures.read_public_key(case / "mini.key")
    with pytest.raises(KeyFileError, match="minisign -S -m"):
        read_signing_key(case / "mini.key")
    assert run(*sign, "-l", folder=case).returncode == 0
    with pytest.raises(SignatureError, match="legacy"):
        signatures.read_signature(place)


@needs_openssl
def test_keys_that_openssl_makes_sign_and_openssl_checks_the_signature(case):
    """The commands of docs/reports.md."""
    for words in (
        ("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", f"pass:{PASSPHRASE}", "-out", "k"),
        ("pkey", "-in", "k", "-passin", f"pass:{PASSPHRASE}", "-pubout", "-out", "p"),
    ):
        done = run("openssl", *words, folder=case)
        assert done.returncode == 0, done.stderr
    signed = read_signing_key(case / "k", PASSPHRASE).sign(
        (case / "page.html").read_bytes(), name="page.html", time_s=1
    )
    (case / "page.html.minisig").write_bytes(signed)
    assert fault(case, "p") is None
    (case / "signature").write_bytes(base64.b64decode(signed.split(b"\n")[1])[10:])
    digest = ("dgst", "-blake2b512", "-binary", "-out", "digest", "page.html")
    assert run("openssl", *digest, folder=case).returncode == 0
    check = (
        "openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "p", "-in", "digest",
        "-sigfile", "signature",
    )  # fmt: skip
    done = run(*check, folder=case)
    assert (done.returncode, done.stdout.strip()) == (0, "Signature Verified Successfully")
    (case / "digest").write_bytes(b"\0" * 64)
    assert run(*check, folder=case).returncode != 0
