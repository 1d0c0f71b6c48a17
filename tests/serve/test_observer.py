"""How long the parts of an answer are: each is told once, at its end."""

import time

import pytest

from unmask.serve.inference import Part, Refusal, Refused
from unmask.serve.observer import Observer, Parts


class Told(Observer):
    def __init__(self) -> None:
        self.spent_s: list[tuple[Part, float]] = []

    def spent(self, part: Part, seconds: float) -> None:
        self.spent_s.append((part, seconds))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_each_part_is_told_at_its_end(clock: list[float]) -> None:
    told = Told()
    with Parts(told) as parts:
        for part, until_s in (
            (Part.READING, 1.0), (Part.FACES, 2.0), (Part.FACES, 5.0), (None, 6.0),
            (Part.SCORING, 8.0),
        ):  # fmt: skip
            parts.enter(part)
            clock[0] = until_s
        assert told.spent_s == [(Part.READING, 1.0), (Part.FACES, 5.0)]
    assert told.spent_s[2:] == [(Part.SCORING, 2.0)]


def test_an_answer_that_breaks_off_has_the_time_until_then(clock: list[float]) -> None:
    told = Told()
    with pytest.raises(EOFError), Parts(told) as parts:  # noqa: PT012  # the parts end by it
        parts.enter(Part.FACES)
        clock[0] = 3.0
        raise EOFError
    assert told.spent_s == [(Part.FACES, 3.0)]


def test_what_is_no_part_is_not_told(clock: list[float]) -> None:
    told = Told()
    with Parts(told) as parts:
        parts.enter("clip.mp4")  # type: ignore[arg-type]  # of a worker that was taken over
        clock[0] = 3.0
    assert told.spent_s == []


def test_who_keeps_no_metrics_hears_nothing() -> None:
    observer = Observer()
    observer.spent(Part.FACES, 1.0)
    observer.answered(Refusal(Refused.BROKEN, "words"))
