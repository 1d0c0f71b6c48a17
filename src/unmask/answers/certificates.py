"""A user's certificate and its key, with which files that are written here are signed."""

import datetime as dt
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from unmask import extras
from unmask.errors import UnmaskError
from unmask.runtime.disk import read_regular

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_MOST_BYTES = 2**18
_LEAST_RSA_BITS = 2048
# By curve: C2PA 2.2, section 13.2.1.
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


class CertificateError(UnmaskError):
    """Nothing can be signed with a certificate and a key."""


@dataclass(frozen=True)
class Certificate:
    """What content credentials are signed with."""

    chain_pem: bytes  # the signer's first
    key_pem: bytes = field(repr=False)  # not encrypted: never written
    algorithm: str  # as C2PA names it

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the certificates."""
        return hashlib.sha256(self.chain_pem).hexdigest()


def read_certificate(chain: Path, key: Path, passphrase: str | None, variable: str) -> Certificate:
    """Return the certificates of one PEM file and the private key of another.

    The passphrase is used where the key is encrypted; variable says where it is taken from, for
    messages. Neither the key nor the passphrase is in any message.

    Raises:
        CertificateError: a file can't be read or holds something else, the key is of another
            certificate, the certificate is not valid today, or the passphrase is wrong.
        MissingExtraError: cryptography or c2pa-python is not installed.
    """
    extras.check("a signature", "sign")
    extras.check("content credentials", "c2pa")
    from cryptography.hazmat.primitives import serialization as form

    own, *_ = certificates = _read_chain(chain)
    private = _read_key(key, passphrase, variable)
    public = form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*public) != own.public_key().public_bytes(*public):
        raise _fault(key, "the private key of the first certificate", f"another one than {chain}'s")
    _check_time(chain, own)
    return Certificate(
        b"".join(each.public_bytes(form.Encoding.PEM) for each in certificates),
        private.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
        ),
        _algorithm_of(key, private),
    )  # fmt: skip


def _read(path: Path, wanted: str) -> bytes:
    try:
        return read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise _fault(path, wanted, f"that it can't be read ({error.strerror})") from error


def _read_chain(path: Path) -> "list[x509.Certificate]":
    from cryptography import x509

    wanted = "certificates in PEM, the signer's first"
    try:
        return x509.load_pem_x509_certificates(_read(path, wanted))
    except ValueError:
        raise _fault(path, wanted, "none that can be read") from None


def _read_key(path: Path, passphrase: str | None, variable: str) -> "PrivateKeyTypes":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    wanted = "the certificate's private key in PEM"
    content = _read(path, wanted)
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:  # it is encrypted
        if not passphrase:
            found = f"that it is encrypted. Put its passphrase into the variable {variable}"
            raise _fault(path, wanted, found) from None
        try:
            return load_pem_private_key(content, password=passphrase.encode())
        except (ValueError, UnsupportedAlgorithm):
            found = f"that the passphrase in {variable} does not decrypt it, or that it is damaged"
            raise _fault(path, wanted, found) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _fault(path, wanted, "none that can be read") from None


def _check_time(path: Path, own: "x509.Certificate") -> None:
    now = dt.datetime.now(dt.UTC)
    begin, end = own.not_valid_before_utc, own.not_valid_after_utc
    if not begin <= now <= end:
        found = f"one that is valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
        raise _fault(path, "a certificate that is valid now", found)


def _algorithm_of(path: Path, key: "PrivateKeyTypes") -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        return "ps256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    wanted = (
        "a key that C2PA signs with (Ed25519, ECDSA on P-256, P-384 or P-521, RSA of 2048 bits)"
    )
    raise _fault(path, wanted, f"another kind ({type(key).__name__.lstrip('_')})")


def _fault(path: Path, wanted: str, found: str) -> CertificateError:
    return CertificateError(f"{path}: asked for {wanted}, found {found}.")
