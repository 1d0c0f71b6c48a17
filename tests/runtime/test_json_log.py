"""Log lines as JSON: one object a line, whatever is in it."""

import json
import logging
import subprocess
import sys

from unmask.runtime import json_log


def test_a_line_stays_a_line_whatever_is_in_it() -> None:
    try:
        raise ValueError("two\nlines\u2028\x1b[31m")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "%s", ("b\n\r",), sys.exc_info())
    line = json_log.Formatter().format(record)
    assert line.isascii()
    assert len(line.splitlines()) == 1
    row = json.loads(line)
    assert (row["message"], row["level"]) == ("b\n\r", "error")
    assert "ValueError: two\nlines\u2028" in row["traceback"]


def test_what_a_process_logs_and_what_ends_it_are_lines() -> None:
    code = (
        "import logging; from unmask.runtime import json_log; json_log.install(); "
        "logging.getLogger('a.b').warning('of %s', 'three', extra={json_log.FIELDS: {'n': 3}}); "
        "raise KeyError('gone')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    warned, crashed = map(json.loads, done.stderr.splitlines())
    assert (warned["logger"], warned["message"], warned["n"]) == ("a.b", "of three", 3)
    assert crashed["level"] == "critical"
    assert crashed["message"] == "KeyError: 'gone'"
    assert crashed["traceback"].startswith("Traceback")
