"""The source of this package, as what its results depend on."""

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def code_digest(*modules: str) -> str:
    """Return one SHA-256 of the source of some modules, named like `faces/tracks`.

    Results that are kept from run to run carry it: after a change of that code they are made anew.
    """
    digest = hashlib.sha256()
    for module in modules:
        digest.update((PACKAGE / f"{module}.py").read_bytes() + b"\0")
    return digest.hexdigest()
