"""Whether a report, a video and a model belong together, by the digests in the report's page.

Digests show what was mixed up, cut short or altered in transit. Whoever forges a page can put a new
digest into it; only a signature beside the page, checked with its author's key, shows that.
"""

import errno
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from unmask.answers import credentials_again, pdf_report, signatures
from unmask.answers.analysis import Answer, analyse
from unmask.answers.file_says import FileSays
from unmask.errors import UnmaskError, WeightsError
from unmask.models.net_file import net_file_of, read_net
from unmask.models.predict import Predictor
from unmask.records import Reason
from unmask.runtime.digests import NET, model_digest
from unmask.runtime.disk import content_digest, read_regular
from unmask.scoring.verdicts import Verdict

if TYPE_CHECKING:
    from unmask.answers.signatures import PublicKey

FORMAT = 1
TOLERANCE = 0.01  # between machines: decoders, boxes and sums differ in their last digits
BLANK = "0" * 64
_BLANK_PLACE = f'"page_sha256": "{BLANK}"'  # a name may be of zeros; no name holds bare quotes
_DATA = b'<script type="application/json" id="unmask-report">'
_DATA_END = b"</script>"
_DIGEST = b'"page_sha256": "'
_MAX_BYTES = 64 * 2**20  # a report has a few millions

# The exit code of the first part that does not match, in this order. 1 is for what can't be read.
EXIT_CODES = {"signature": 7, "report": 3, "file": 4, "credentials": 8, "model": 5, "score": 6}


class ReportError(UnmaskError):
    """A file is no report of this version."""


_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Video(BaseModel):
    sha256: _Digest | None


class _Model(BaseModel):
    sha256: _Digest
    # Where a page says that its model came from; shown, never fetched without a word.
    source: Annotated[
        str | None, Field(pattern=r"^hf:[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+@[0-9a-f]{40}$")
    ] = None


class _Said(BaseModel):
    verdict: Verdict
    probability: Annotated[float, Field(strict=True, ge=0, le=1)] | None
    reason: Reason | None


def _bounded(said: object) -> FileSays | None:
    return None if said is None else FileSays.model_validate_json(json.dumps(said))


class Claims(BaseModel):
    """What a report's page says that can be compared. A page comes from a stranger."""

    page_sha256: str  # compared, never shown
    video: _Video
    model: _Model
    answer: _Said
    file_says: Annotated[FileSays | None, BeforeValidator(_bounded)] = None


@dataclass(frozen=True)
class Check:
    """One part of a verification; matches is None where there was nothing to compare with."""

    part: str  # one of EXIT_CODES
    matches: bool | None
    detail: str


@dataclass(frozen=True)
class Verification:
    """What was compared, and what the report says."""

    checks: tuple[Check, ...]
    claims: Claims

    @property
    def exit_code(self) -> int:
        """Return 0 if all that was compared matches, else the code of the first that does not."""
        return next((EXIT_CODES[c.part] for c in self.checks if c.matches is False), 0)


def check(
    report: Path,
    video: Path | None,
    model: Path | None,
    *,
    key: "PublicKey | None" = None,
    trusted_pem: str | None = None,
) -> Verification:
    """Return whether the page is as it was written, and whether file and model are its own.

    With a key, also whether the signature beside the page is of this page by that key. Where the
    page tells of the video's content credentials, they are read again; trusted_pem is whose
    signatures in it are trusted.

    Raises:
        ReportError: the file is no report of this version, or can't be read.
        SignatureError: there is a key, and no signature that can be read.
        UnmaskError: the video or the model can't be read.
    """
    page, claims = _read(report)
    checks = [*_check_signature(report, page, key), _check_page(page, claims)]
    wanted = claims.video.sha256
    if video is None:
        checks.append(Check("file", None, "no video was given"))
    elif wanted is None:
        checks.append(Check("file", None, "the report is of a file that could not be read"))
    else:
        checks.append(_compare("file", _digest_of(video, content_digest), wanted))
        if claims.file_says is not None:
            told = claims.file_says.credentials
            again = credentials_again.compare(told, video, trusted_pem)
            checks.append(Check("credentials", *again))
    if model is None:
        source = claims.model.source
        named = f"; the report names {source}: give it as --model" if source else ""
        checks.append(Check("model", None, f"no model was given{named}"))
    else:
        checks.append(_check_model(model, claims.model.sha256))
    return Verification(tuple(checks), claims)


def check_again(
    report: Path,
    video: Path,
    model: Path | None,
    predictor: Predictor,
    *,
    key: "PublicKey | None" = None,
    trusted_pem: str | None = None,
) -> Verification:
    """Return what check does, and whether the predictor gives the video the report's answer.

    Scores match that differ by TOLERANCE at most; the verdict must be the same.

    Raises:
        ReportError, SignatureError, UnmaskError: as check does.
    """
    found = check(report, video, model, key=key, trusted_pem=trusted_pem)
    (answer,) = analyse(predictor, [video])
    return replace(found, checks=(*found.checks, _check_score(found.claims.answer, answer)))


def seal(page: str) -> str:
    """Return a page with the SHA-256 of its bytes in the place of BLANK in its data.

    The digest is that of the page with BLANK there, so it covers every other byte.
    """
    assert page.count(_BLANK_PLACE) == 1, "a page has one place for its digest"
    digest = hashlib.sha256(page.encode()).hexdigest()
    return page.replace(_BLANK_PLACE, _BLANK_PLACE.replace(BLANK, digest))


def _read(report: Path) -> tuple[bytes, Claims]:
    try:
        page = read_regular(report, _MAX_BYTES)
    except OSError as error:
        raise _no_report(report, f"that it can't be read ({error.strerror})") from error
    if (printed := pdf_report.printed_digest(page)) is not None:
        raise ReportError(
            f"{report}: asked for a page of `unmask predict --report`, found its print, which "
            f"holds nothing to verify. Ask for the page whose file has the SHA-256 {printed}, and "
            "verify that."
        )
    block = page[slice(*_find_data(report, page))]
    try:
        data: dict[str, Any] = json.loads(block)
        if data["format"] != FORMAT:
            found = f"format {data['format']!r:.80}, where this version reads {FORMAT}"
            raise _no_report(report, found)
        return page, Claims.model_validate(data)
    except ValidationError as error:
        places = sorted({".".join(map(str, each["loc"])) for each in error.errors()})
        raise _no_report(report, f"that its data is damaged ({', '.join(places)})") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _no_report(report, f"that its data is damaged ({error!r:.200})") from error


def _find_data(report: Path, page: bytes) -> tuple[int, int]:
    """Return where the page's data begins and ends. It takes time in proportion to the page."""
    count = page.count(_DATA)
    start = page.find(_DATA) + len(_DATA)
    end = page.find(_DATA_END, start)
    if count != 1 or end < 0:
        found = "no end of its data" if count == 1 else f"{count or 'no'} blocks of data in it"
        raise _no_report(report, found)
    return start, end


def _no_report(path: Path, found: str) -> ReportError:
    return ReportError(
        f"{path}: asked for a page of `unmask predict --report`, found {found}. Ask for the file "
        "as it was sent, as an attachment and not as text."
    )


def _check_signature(report: Path, page: bytes, key: "PublicKey | None") -> list[Check]:
    place = signatures.beside(report)
    if key is None:
        unused = "there is a signature, and no key was given"
        return [Check("signature", None, unused)] if place.is_file() else []
    signature = signatures.read_signature(place)
    if fault := signatures.fault(signature, page, key):
        return [Check("signature", False, fault)]
    detail = f"by key {key.name}; signed with it: {signature.shown_comment}"
    return [Check("signature", True, detail)]


def _check_page(page: bytes, claims: Claims) -> Check:
    """Return whether the page has the digest in it, which is taken with BLANK in its place."""
    start = page.find(_DIGEST, page.find(_DATA)) + len(_DIGEST)
    blank = page[:start] + BLANK.encode() + page[start + len(BLANK) :]
    actual = hashlib.sha256(blank).hexdigest()
    if actual == claims.page_sha256:
        return Check("report", True, "the page is as it was written")
    return Check("report", False, f"the page was changed after it was written: sha256 {actual}")


def _digest_of(path: Path, digest: Callable[[Path], str]) -> str:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            # Nobody may ever write into a pipe, and some devices have no end.
            raise OSError(errno.EINVAL, "It is no regular file", str(path))
        return digest(path)
    except OSError as error:
        raise UnmaskError(
            f"Asked for the digest of {path}; found: {error.strerror} ({error.filename}). Check "
            "the path, or leave it out to compare the rest."
        ) from error


def _compare(part: str, actual: str, wanted: object) -> Check:
    if actual == wanted:
        return Check(part, True, f"sha256 {actual}")
    return Check(part, False, f"sha256 {actual}; the report is of {wanted}")


def _check_model(model: Path, wanted: object) -> Check:
    """Compare the digest of weights and settings, and the net with what the settings say of it."""
    found = _compare("model", _digest_of(model, model_digest), wanted)
    try:
        if found.matches and (model / NET).exists():
            read_net(model, net_file_of(model))
    except WeightsError as error:
        return Check("model", False, str(error))
    return found


def _check_score(claimed: _Said, answer: Answer) -> Check:
    was, now = claimed.probability, answer.probability
    if was is None or now is None:
        before, after = (
            f"none ({reason})" if score is None else f"{score:.4f}"
            for score, reason in ((was, claimed.reason), (now, answer.reason))
        )
        same = was is now and claimed.reason == answer.reason
        detail = f"scored again: {after}; in the report: {before}"
    else:
        same = abs(was - now) <= TOLERANCE
        detail = f"scored again: {now:.4f}; in the report: {was:.4f}; may differ by {TOLERANCE:g}"
    if claimed.verdict is not answer.verdict:
        # Whoever edits a page may leave its score as it is.
        same = False
        detail += f"; verdict now: {answer.verdict}; in the report: {claimed.verdict}"
    return Check("score", same, detail)
