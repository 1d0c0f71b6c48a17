"""Signatures of reports, in the form that minisign writes and checks.

A signature is Ed25519 (RFC 8032) over the BLAKE2b-512 of the file, and once more over that
signature and the trusted comment. Source: https://jedisct1.github.io/minisign/, "Signature format"
and "Public key format". Signatures over the file itself (minisign's legacy form, `Ed`) are refused:
64 bytes that were signed so would also be a signature of the file that has them as its digest.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unmask import extras
from unmask.errors import UnmaskError
from unmask.runtime.disk import read_regular
from unmask.runtime.plain_text import shown_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

ENDING = ".minisig"  # a signature lies beside its file, under the file's name and this

_UNTRUSTED, _TRUSTED = b"untrusted comment: ", b"trusted comment: "
_KEY, _HASHED, _LEGACY = b"Ed", b"ED", b"Ed"
_ID_BYTES, _KEY_BYTES, _SIGNATURE_BYTES = 8, 32, 64
_MAX_BYTES = 2**16  # a key or a signature has some hundred; comments may be long
_MAX_SHOWN = 200  # letters of a comment


class KeyFileError(UnmaskError):
    """A file holds no key of the kind that was asked for, or the passphrase is wrong."""


class SignatureError(UnmaskError):
    """A file is no signature of minisign's current form."""


@dataclass(frozen=True)
class PublicKey:
    """What signatures are checked with."""

    ed25519: "Ed25519PublicKey"
    id: bytes  # 8 bytes by which minisign tells keys apart

    @property
    def name(self) -> str:
        """Return the id as minisign prints it, without zeros before it."""
        return f"{int.from_bytes(self.id, 'little'):X}"

    @property
    def minisign_text(self) -> str:
        """Return the key as `minisign -P` takes it."""
        return base64.b64encode(_KEY + self.id + self.ed25519.public_bytes_raw()).decode()


@dataclass(frozen=True)
class SigningKey:
    """What files are signed with."""

    ed25519: "Ed25519PrivateKey"

    @property
    def public(self) -> PublicKey:
        """Return the key that checks what this one signs. Its id is derived from the key."""
        return _with_derived_id(self.ed25519.public_key())

    def sign(self, content: bytes, *, name: str, time_s: int) -> bytes:
        """Return the content of a signature file. name and time_s (Unix time) are signed too."""
        signature = self.ed25519.sign(hashlib.blake2b(content).digest())
        comment = f"timestamp:{time_s}\tfile:{shown_name(name)}\thashed".encode()
        lines = (
            _UNTRUSTED + f"signature by unmask, key {self.public.name}".encode(),
            base64.b64encode(_HASHED + self.public.id + signature),
            _TRUSTED + comment,
            base64.b64encode(self.ed25519.sign(signature + comment)),
        )
        return b"".join(line + b"\n" for line in lines)


@dataclass(frozen=True)
class Signature:
    """What a signature file holds; nothing of it has been checked."""

    key_id: bytes
    signature: bytes  # of the file's digest
    comment: bytes
    comment_signature: bytes  # of signature and comment

    @property
    def shown_comment(self) -> str:
        """Return the trusted comment as one line of text, which may be shortened."""
        text = self.comment.decode("utf-8", "surrogateescape").replace("\t", " ")
        return shown_name(text[:_MAX_SHOWN])


def beside(path: Path) -> Path:
    """Return where the signature of a file lies."""
    return path.with_name(path.name + ENDING)


def fault(signature: Signature, content: bytes, key: PublicKey) -> str | None:
    """Return why this is no signature of the content by the key; None where it is one."""
    from cryptography.exceptions import InvalidSignature

    if signature.key_id != key.id:
        other = PublicKey(key.ed25519, signature.key_id).name
        return f"signed by key {other}, and not by this key, which is {key.name}"
    try:
        key.ed25519.verify(signature.signature, hashlib.blake2b(content).digest())
    except InvalidSignature:
        return f"key {key.name} did not sign this content: the file or its signature was changed"
    try:
        key.ed25519.verify(signature.comment_signature, signature.signature + signature.comment)
    except InvalidSignature:
        return f"key {key.name} signed this file, but not the comment beside the signature"
    return None


# ---------------------------------------------------------------- files


def read_signature(path: Path) -> Signature:
    """Return what a signature file holds.

    Raises:
        SignatureError: the file can't be read, or is no signature of this form.
    """
    try:
        return _parse_signature(read_regular(path, _MAX_BYTES))
    except OSError as error:
        found = f"that it can't be read ({error.strerror})"
    except _FormError as error:
        found = str(error)
    raise SignatureError(
        f"{path}: asked for a signature by `unmask predict --sign` or minisign, found {found}. "
        "Ask the report's author for it, and put it beside the report."
    )


def is_signature(path: Path) -> bool:
    """Return whether a file is a signature in this form."""
    try:
        read_signature(path)
    except SignatureError:
        return False
    return True


def read_public_key(path: Path) -> PublicKey:
    """Return the public key of a PEM file, as openssl writes it, or of minisign's `.pub` file.

    Raises:
        KeyFileError: the file can't be read, or holds another kind of key.
        MissingExtraError: cryptography is not installed.
    """
    extras.check("a signature", "sign")
    content = _read_key(path, "a public key")
    if content.startswith(_UNTRUSTED):
        try:
            return _parse_minisign_key(content)
        except _FormError as error:
            raise _no_key(path, "a public key", str(error)) from error
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY-----" in content:
        found = (
            "a private key, which belongs to whoever signs. Write its public half by `openssl pkey "
            "-in PRIVATE -pubout`"
        )
        raise _no_key(path, "a public key", found)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "a public key", _NO_PEM) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "a public key", _other_kind(key))
    return _with_derived_id(key)


def read_signing_key(path: Path, passphrase: str | None, variable: str) -> SigningKey:
    """Return the private key of a PEM file, as `openssl genpkey -algorithm ed25519` writes it.

    The passphrase is used where the file is encrypted; variable says where it is taken from, for
    messages. Neither the key nor the passphrase is in any message.

    Raises:
        KeyFileError: the file can't be read, holds another kind of key, or the passphrase is wrong.
        MissingExtraError: cryptography is not installed.
    """
    extras.check("a signature", "sign")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read_key(path, "a private key")
    if content.startswith(_UNTRUSTED):
        found = (
            "a file of minisign's. Sign the report by `minisign -S -m REPORT`, which `unmask "
            "verify` checks as well"
        )
        raise _no_key(path, "a private key", found)
    if b"PUBLIC KEY-----" in content:
        raise _no_key(path, "a private key", "a public key, which can't sign")
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:  # it is encrypted
        if not passphrase:
            found = f"that it is encrypted. Put its passphrase into the variable {variable}"
            raise _no_key(path, "a private key", found) from None
        try:
            key = load_pem_private_key(content, password=passphrase.encode())
        except (ValueError, UnsupportedAlgorithm):
            found = f"that the passphrase in {variable} does not decrypt it, or that it is damaged"
            raise _no_key(path, "a private key", found) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _no_key(path, "a private key", _NO_PEM) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "a private key", _other_kind(key))
    return SigningKey(key)


# ---------------------------------------------------------------- their form


class _FormError(ValueError):
    """Bytes don't have minisign's form; the message says what they are instead."""


def _parse_signature(content: bytes) -> Signature:
    lines = [line.rstrip(b"\r") for line in content.rstrip(b"\r\n").split(b"\n")]
    if len(lines) != 4 or not lines[0].startswith(_UNTRUSTED) or not lines[2].startswith(_TRUSTED):
        raise _FormError("other lines than the four of a signature")
    whole = _decode(lines[1], len(_HASHED) + _ID_BYTES + _SIGNATURE_BYTES)
    kind, key_id = whole[:2], whole[2 : 2 + _ID_BYTES]
    if kind == _LEGACY:
        raise _FormError("minisign's legacy form, which signs no digest (`minisign -S -l`)")
    if kind != _HASHED:
        raise _FormError("a signature of an unknown kind")
    return Signature(
        key_id, whole[2 + _ID_BYTES :], lines[2].removeprefix(_TRUSTED),
        _decode(lines[3], _SIGNATURE_BYTES),
    )  # fmt: skip


def _parse_minisign_key(content: bytes) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    lines = [line.rstrip(b"\r") for line in content.rstrip(b"\r\n").split(b"\n")]
    if len(lines) != 2:
        raise _FormError("other lines than the two of a public key of minisign's")
    if len(lines[1]) > 100:
        raise _FormError("a secret key of minisign's, or none: hand in its `.pub` file")
    whole = _decode(lines[1], len(_KEY) + _ID_BYTES + _KEY_BYTES)
    if whole[:2] != _KEY:
        raise _FormError("a key of an unknown kind")
    key = Ed25519PublicKey.from_public_bytes(whole[2 + _ID_BYTES :])
    return PublicKey(key, whole[2 : 2 + _ID_BYTES])


def _decode(line: bytes, count: int) -> bytes:
    try:
        found = base64.b64decode(line, validate=True)
    except binascii.Error:
        found = b""
    if len(found) != count:
        raise _FormError("a line that is cut short or damaged")
    return found


def _with_derived_id(key: "Ed25519PublicKey") -> PublicKey:
    """Return the key with the first bytes of its SHA-256 as id: PEM files hold none."""
    return PublicKey(key, hashlib.sha256(key.public_bytes_raw()).digest()[:_ID_BYTES])


# ---------------------------------------------------------------- what goes wrong

_NO_PEM = "no key that can be read: a PEM file as openssl writes it is needed"


def _read_key(path: Path, wanted: str) -> bytes:
    try:
        return read_regular(path, _MAX_BYTES)
    except OSError as error:
        raise _no_key(path, wanted, f"that it can't be read ({error.strerror})") from error


def _other_kind(key: object) -> str:
    return f"a key of another kind ({type(key).__name__.lstrip('_')})"


def _no_key(path: Path, wanted: str, found: str) -> KeyFileError:
    return KeyFileError(f"{path}: asked for {wanted} of the kind Ed25519, found {found}.")
