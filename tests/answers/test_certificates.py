"""Certificates and keys: which pairs sign, and the one line on each that does not."""

import datetime as dt
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.x509.oid import ExtendedKeyUsageOID
from signed_files import Authority

from unmask.answers.certificates import CertificateError, read_certificate
from unmask.answers.content_marks import check_certificate

KINDS = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def put(tmp_path):
    def put(chain, key):
        paths = tmp_path / "chain.pem", tmp_path / "key.pem"
        for path, content in zip(paths, (chain, key), strict=True):
            path.write_bytes(content)
        return paths

    return put


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_certificate_of_each_kind_signs(authority, put, algorithm):
    chain, key = authority.issue(KINDS[algorithm]())
    found = read_certificate(*put(chain, key), None, "WORDS")
    assert found.algorithm == algorithm
    assert len(x509.load_pem_x509_certificates(found.chain_pem)) == 2
    assert "PRIVATE" not in repr(found)
    check_certificate(found)


def test_an_encrypted_key_takes_its_passphrase(authority, put):
    paths = put(*authority.issue(encryption=BestAvailableEncryption(b"correct horse")))
    assert read_certificate(*paths, "correct horse", "WORDS").algorithm == "es256"
    with pytest.raises(
        CertificateError, match=r"encrypted\. Put its passphrase into the variable W"
    ):
        read_certificate(*paths, None, "WORDS")
    with pytest.raises(CertificateError, match="does not decrypt it") as raised:
        read_certificate(*paths, "battery", "WORDS")
    assert "battery" not in str(raised.value)


def test_another_certificate_s_key_is_refused(authority, put):
    chain, _ = authority.issue()
    _, key = authority.issue()
    with pytest.raises(CertificateError, match="another one than"):
        read_certificate(*put(chain, key), None, "WORDS")


def test_one_that_ran_out_is_refused(authority, put):
    paths = put(*authority.issue(lasts=dt.timedelta(days=-1)))
    with pytest.raises(CertificateError, match="valid now, found one that is valid from 20"):
        read_certificate(*paths, None, "WORDS")


def test_what_is_no_certificate_or_no_key_is_refused(authority, put, tmp_path):
    chain, key = authority.issue()
    for pair, words in (
        ((key, key), r"chain\.pem: asked for certificates in PEM"),
        ((bytes(9), key), r"chain\.pem: asked for certificates in PEM"),
        ((chain, chain), r"key\.pem: asked for the certificate's private key"),
    ):
        with pytest.raises(CertificateError, match=words):
            read_certificate(*put(*pair), None, "WORDS")
    good, _ = put(chain, key)
    os.mkfifo(tmp_path / "pipe.pem")
    for name in ("gone.pem", "pipe.pem", "."):
        with pytest.raises(CertificateError, match="can't be read"):
            read_certificate(good, tmp_path / name, None, "WORDS")
        with pytest.raises(CertificateError, match="can't be read"):
            read_certificate(tmp_path / name, good, None, "WORDS")


def test_keys_that_c2pa_does_not_know_are_refused(authority, put):
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505  # that is what is refused
    for key in (weak, dsa.generate_private_key(2048)):
        with pytest.raises(CertificateError, match="a key that C2PA signs with"):
            read_certificate(*put(*authority.issue(key)), None, "WORDS")


def test_a_certificate_for_something_else_is_refused_on_trial(authority, put):
    made_for_servers = authority.issue(usages=(ExtendedKeyUsageOID.SERVER_AUTH,))
    found = read_certificate(*put(*made_for_servers), None, "WORDS")
    with pytest.raises(CertificateError, match=r"C2PA takes|content credentials"):
        check_certificate(found)
