"""What the log says of failures that a stranger causes again and again."""

import pytest

from unmask.serve.faults import Faults


def fail(words: str) -> ValueError:
    try:
        raise ValueError(words)
    except ValueError as error:
        return error


def test_one_kind_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    faults = Faults(clock=lambda: now[0])
    for number in range(1000):
        faults.note(f"GET /{number}", fail(str(number)))
    faults.note("GET /", KeyError("another kind"))
    now[0] = 61.0
    faults.note("GET /last", fail("last"))
    first, other, last = [record.getMessage() for record in caplog.records]
    assert first.startswith("GET /0: ValueError: 0, in serve/test_faults.py:")
    assert first.endswith(" fail")
    assert other == "GET /: KeyError: 'another kind', in no code of ours"
    assert last.endswith(" fail (999 more like it since the last such line)")


def test_a_line_stays_a_line(caplog: pytest.LogCaptureFixture) -> None:
    Faults().note("GET /\x1b[31m\nforged", fail("a\r\nb" + 1000 * "c"))
    [line] = [record.getMessage() for record in caplog.records]
    assert line.isprintable()
    assert line.startswith("GET /?[31m?forged: ValueError: a??bccc")
    assert len(line) < 500


def test_memory_for_kinds_has_an_end() -> None:
    faults = Faults()
    for number in range(3000):
        faults.note(f"kind {number}")
    assert len(faults._seen) <= 1000
