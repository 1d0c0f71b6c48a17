"""A signature beside a report's page, and a public key, as `unmask verify --key` is handed them."""

import base64

from fuzz.folder import make, put
from unmask.answers import signatures
from unmask.errors import UnmaskError

_FOLDER = make()
_SIGNATURE = (
    b"untrusted comment: signature by unmask\n"
    + base64.b64encode(b"ED" + bytes(72))
    + b"\ntrusted comment: timestamp:1\tfile:a.html\thashed\n"
    + base64.b64encode(bytes(64))
    + b"\n"
)
_KEY = b"untrusted comment: minisign public key\n" + base64.b64encode(b"Ed" + bytes(40)) + b"\n"
_PEM = (
    b"-----BEGIN PUBLIC KEY-----\n"
    b"MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
    b"-----END PUBLIC KEY-----\n"
)
SEEDS = [
    _SIGNATURE,
    _SIGNATURE.replace(b"\n", b"\r\n"),
    _SIGNATURE[:90],
    _SIGNATURE.replace(b"file:", b"file:\x1b[2J\xff\n"),
    _KEY,
    _KEY[:50],
    _PEM,
    _PEM[:60],
    b"",
]
TOKENS = [
    "untrusted comment: ", "trusted comment: ", "-----BEGIN PUBLIC KEY-----",
    "-----END PUBLIC KEY-----", "-----BEGIN EC PRIVATE KEY-----", "RUQ", "RWQ", "==",
]  # fmt: skip


def read(data: bytes) -> None:
    """Read both; check that nothing is a signature that no key made, and that words stay words."""
    path = put(_FOLDER / "file", data)
    try:
        key = signatures.read_public_key(path)
        assert len(key.id) == 8
    except UnmaskError:
        pass
    try:
        found = signatures.read_signature(path)
    except UnmaskError:
        return
    assert found.shown_comment.isprintable(), f"the comment {found.shown_comment!r}"
    key = signatures.read_public_key(put(_FOLDER / "key", _PEM))
    assert signatures.fault(found, b"a page", key) is not None
