"""Log lines as JSON objects, one a line, for programs that collect logs."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

FIELDS = "json_fields"  # the attribute of a record that holds its further fields


class Formatter(logging.Formatter):
    """Writes a record as one JSON object; whatever its texts hold, it stays one line of ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        row: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row | getattr(record, FIELDS, {}), allow_nan=False)


def install() -> None:
    """Write all that is logged from now on to stderr so, and a crash of this process too."""
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(Formatter())
    logging.getLogger().handlers[:] = [shown]
    sys.excepthook = _log_crash


def _log_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    words = "".join(traceback.format_exception_only(kind, error)).strip()
    logging.getLogger(__name__).critical(words, exc_info=(kind, error, trace))
