"""Whether a report, a video and a model belong together, by the digests in the report's page.

Digests show what was mixed up, cut short or edited by the way. They are no signature: whoever
forges a page can put a new digest into it.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.custody import model_digest
from unmask.errors import UnmaskError
from unmask.records import content_digest

FORMAT = 1
TOLERANCE = 0.01  # between machines: decoders, boxes and sums differ in their last digits
BLANK = "0" * 64
_DATA = re.compile(rb'<script type="application/json" id="unmask-report">(.*?)</script>', re.DOTALL)
_DIGEST = re.compile(rb'"page_sha256": "([0-9a-f]{64})"')

# The exit code of the first part that does not match, in this order. 1 is for what can't be read.
EXIT_CODES = {"report": 3, "file": 4, "model": 5, "score": 6}


class ReportError(UnmaskError):
    """A file is no report of this version."""


@dataclass(frozen=True)
class Check:
    """One part of a verification; matches is None where there was nothing to compare with."""

    part: str  # one of EXIT_CODES
    matches: bool | None
    detail: str


@dataclass(frozen=True)
class Verification:
    """What was compared, and the report's data."""

    checks: tuple[Check, ...]
    data: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """Return 0 if all that was compared matches, else the code of the first that does not."""
        return next((EXIT_CODES[c.part] for c in self.checks if c.matches is False), 0)


def check(report: Path, video: Path | None, model: Path | None) -> Verification:
    """Return whether the page is as it was written, and whether file and model are its own.

    Raises:
        ReportError: the file is no report of this version, or can't be read.
        UnmaskError: the video or the model can't be read.
    """
    page, data = _read(report)
    checks = [_check_page(page, data)]
    wanted = data["video"]["sha256"]
    if video is None:
        checks.append(Check("file", None, "no video was given"))
    elif wanted is None:
        checks.append(Check("file", None, "the report is of a file that could not be read"))
    else:
        checks.append(_compare("file", _digest_of(video, content_digest), wanted))
    if model is None:
        checks.append(Check("model", None, "no model was given"))
    else:
        checks.append(_compare("model", _digest_of(model, model_digest), data["model"]["sha256"]))
    return Verification(tuple(checks), data)
