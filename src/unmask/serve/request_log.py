"""What a server logs of requests and answers, one line each, where it is asked to.

Names of files and addresses of clients, which are people's, are left out unless they are asked for.
"""

import logging
import math
import re
import secrets
from typing import Any

from unmask.answers.answers_file import RunInfo
from unmask.runtime.json_log import FIELDS
from unmask.scoring.verdicts import Doubt, Verdict
from unmask.serve.inference import Refusal, Refused, Result
from unmask.serve.queue import QueuedJob

_log = logging.getLogger(__name__)

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)


def request_id(given: str | None = None) -> str:
    """Return a request's id: the one that a trusted proxy gave if it is one, else a new one."""
    return given if given and _ID.fullmatch(given) else secrets.token_hex(8)


class RequestLog:
    """Writes the lines, from threads of the queue and from the event loop alike."""

    def __init__(self, run_info: RunInfo, *, has_names: bool) -> None:
        """With has_names, names and digests of files and addresses of clients are logged too."""
        self._model, self._has_names = run_info.model, has_names

    def requested(
        self, given: str, address: str, method: str, status: int | None, seconds: float, client: str
    ) -> None:
        """Log a request that has ended; its status is None if its client had gone before."""
        method = method if method in _METHODS else "other"
        row: dict[str, Any] = {
            "event": "request", "request_id": given, "method": method, "address": address,
            "status": status, "seconds": round(seconds, 4),
        }  # fmt: skip
        if self._has_names:
            row["client"] = client
        shown = "no answer" if status is None else status
        _log.info("%s %s: %s", method, address, shown, extra={FIELDS: row})

    def answered(self, job: QueuedJob, outcome: Result | Refusal) -> None:
        """Log what a video came to. It is a worker's word, who may have been taken over."""
        row: dict[str, Any] = {
            "event": "answer",
            "request_id": job.request_id,
            "report": job.wants_report,
            **_said(outcome),
            "model": self._model,
            "seconds": {str(part): round(spent, 4) for part, spent in job.seconds.items()},
        }
        if self._has_names:
            row |= {"client": job.client, "name": job.name}
            if isinstance(outcome, Result) and isinstance(outcome.row, dict):
                row["sha256"] = _word(outcome.row.get("sha256"), re.compile("[0-9a-f]{64}"))
        _log.info("answer: %s", row["verdict"] or row["refused"], extra={FIELDS: row})


def _said(outcome: Result | Refusal) -> dict[str, Any]:
    found: dict[str, Any] = {"verdict": None, "probability": None, "doubts": [], "refused": None}
    if isinstance(outcome, Refusal):
        known = isinstance(outcome.kind, str) and outcome.kind in list(Refused)
        return found | {"refused": str(outcome.kind) if known else "other"}
    said = outcome.row if isinstance(outcome.row, dict) else {}
    verdict, score, doubts = (said.get(key) for key in ("verdict", "probability", "doubts"))
    known = isinstance(verdict, str) and verdict in list(Verdict)
    is_score = isinstance(score, float) and math.isfinite(score)
    listed = doubts if isinstance(doubts, list) else []
    return found | {
        "verdict": verdict if known else "other",
        "probability": score if is_score else None,
        "doubts": [each for each in Doubt if str(each) in listed],
    }


def _word(value: object, form: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and form.fullmatch(value) else None
