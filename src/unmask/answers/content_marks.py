"""Content credentials (C2PA) of what is written here, signed with the user's certificate.

They say which program made the file, what it did, and of which file. c2pa reads that file, which
is a stranger's: all of it is done in a confined process.
"""

import json
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from unmask.answers import credentials
from unmask.answers.certificates import Certificate, CertificateError
from unmask.answers.file_says import State
from unmask.errors import UnmaskError
from unmask.runtime.confinement import GIB, Confinement
from unmask.runtime.disk import give_name, new_name
from unmask.runtime.plain_text import shown_name
from unmask.runtime.processes import run_jobs
from unmask.runtime.scratch import private_folder

_MEMORY_BYTES = 2 * GIB
_STALL_S = 60.0  # without a byte read
_KINDS = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".avi": "video/avi",
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
    ".avif": "image/avif", ".heic": "image/heic",
}  # fmt: skip
# https://cv.iptc.org/newscodes/digitalsourcetype/
_SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@dataclass(frozen=True)
class Mark:
    """What was done to a file."""

    action: str  # of the C2PA specification's list
    source: str  # of IPTC's list of digital source types; empty where none is told
    words: str
    command: str  # that did it


ANNOTATED = Mark(
    "c2pa.drawing", "composite", "boxes and scores of faces were drawn into it, and it was encoded "
    "anew", "unmask predict --annotate",
)  # fmt: skip
# No generator made them: parts of real footage were warped and blended into each other.
FORGED = Mark("c2pa.edited", "compositeCapture", "", "unmask fake")
ENCODED = Mark("c2pa.transcoded", "", "", "unmask fake")


@dataclass(frozen=True)
class _Job:
    part: Path
    kind: str  # media type
    signed: Path
    manifest: str
    original: Path
    certificate: Certificate


def check_certificate(certificate: Certificate) -> None:
    """Sign a small picture, so that what C2PA refuses is found before anything is written.

    Raises:
        CertificateError: a file that it signs is not valid.
    """
    is_coded, coded = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))
    assert is_coded
    with private_folder("certificate") as folder:
        path = folder / "tried.png"
        path.write_bytes(coded.tobytes())
        sign(path, path, path, ANNOTATED, certificate)
        found = credentials.Reader(None).read(path)
    if found.state is not State.VALID:
        faults = ", ".join(found.faults) or found.detail
        raise CertificateError(
            "Asked for a certificate that C2PA takes (--certificate), found one whose signature it "
            f"does not: {faults}. It needs the key usage digitalSignature, and an extended one "
            "such as emailProtection."
        )


def sign(part: Path, out: Path, original: Path, mark: Mark, certificate: Certificate) -> None:
    """Write part with credentials to out, which may be part itself; original is its parent.

    Raises:
        CertificateError: c2pa could not sign it.
        DiskError: the disk takes no more.
    """
    signed = new_name(out, "signed")
    job = _Job(part, _kind(out), signed, _manifest(out, mark), original, certificate)
    try:
        [fault] = run_jobs(
            [job], _sign, _start, 1,
            crashed=partial(_say, "the process that signed it crashed"),
            exhausted=partial(_say, "signing it takes more memory than it may"),
            stalled=partial(_say, f"nothing of it was read for {_STALL_S:g} s"),
            stall_s=_STALL_S,
            confined=Confinement((signed.parent,), memory_bytes=_MEMORY_BYTES),
        )  # fmt: skip
        if fault:
            raise CertificateError(f"{out}: asked for content credentials, found: {fault}.")
        give_name(signed, out)
    finally:
        signed.unlink(missing_ok=True)


def _manifest(out: Path, mark: Mark) -> str:
    program = version("unmask")
    action = {
        "action": mark.action,
        "softwareAgent": {"name": mark.command, "version": program},
        **({"digitalSourceType": f"{_SOURCES}{mark.source}"} if mark.source else {}),
        **({"description": mark.words} if mark.words else {}),
    }
    return json.dumps(
        {
            "claim_generator_info": [{"name": "unmask", "version": program}],
            "title": shown_name(out.name),
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
    )


def _say(words: str, _: _Job) -> str:
    return words


def _start() -> None:
    """Begin a worker: what it needs is imported with this module."""


def _sign(job: _Job) -> str:
    """Return why a file could not be signed; nothing where it was."""
    parent = job.original, _kind(job.original), shown_name(job.original.name)
    try:
        credentials.sign(
            job.part, job.kind, job.signed, job.manifest, parent,
            chain_pem=job.certificate.chain_pem, key_pem=job.certificate.key_pem,
            algorithm=job.certificate.algorithm,
        )  # fmt: skip
    except (UnmaskError, OSError) as error:
        return str(error)
    return ""


def _kind(path: Path) -> str:
    return _KINDS.get(path.suffix.lower(), "application/octet-stream")
