"""Waits of those who guess, by a clock of the tests' own."""

import base64

import pytest

from unmask.serve import passwords
from unmask.serve.passwords import FREE, Throttle, given


class Clock:
    """A time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_wait_doubles_with_each_wrong_password(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    for _ in range(FREE - 1):
        throttle.fail("a")
        assert throttle.wait_s("a") == 0
    waits = []
    for _ in range(12):
        throttle.fail("a")
        waits.append(throttle.wait_s("a"))
        clock.now_s += waits[-1]
        assert throttle.wait_s("a") == 0
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert throttle.wait_s("b") == 0
    clock.now_s += 3601
    throttle.fail("a")
    assert throttle.wait_s("a") == 0  # an hour later it begins anew


def test_the_right_password_ends_the_wait_of_its_client_alone(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    for client in ("a", "b"):
        for _ in range(FREE):
            throttle.fail(client)
    throttle.succeed("a")
    assert throttle.wait_s("a") == 0
    assert throttle.wait_s("b") == 1


def test_many_who_guess_together_get_fewer_guesses_each(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    for number in range(100):
        throttle.fail(f"address {number}")
    throttle.fail("one more")
    assert throttle.wait_s("one more") == 1
    assert throttle.wait_s("who comes first now") == 0
    clock.now_s += 61
    assert throttle.wait_s("one more") == 0


def test_no_more_clients_are_remembered_than_there_is_memory(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_MOST_KEPT", 3)
    throttle = Throttle(clock=clock)
    for number in range(10):
        throttle.fail(f"address {number}")
    assert list(throttle._records) == ["address 7", "address 8", "address 9"]


def test_a_mark_is_only_one_of_this_server() -> None:
    throttle, other = Throttle(), Throttle()
    mark = throttle.mark()
    assert throttle.client("a", mark) == throttle.client("b", mark) != "a"
    for forged in (other.mark(), mark[:-1], f"x{mark}", "", ".", "é.é", mark.partition(".")[0]):
        assert throttle.client("a", forged) == "a"


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ("Basic " + base64.b64encode(b"a:b:c").decode(), b"b:c"),
        ("basic " + base64.b64encode(b":b").decode(), b"b"),
        ("Basic " + base64.b64encode(b"ab").decode(), None),
        ("Bearer abc", None),
        ("Basic *", None),
        ("Basic é", None),
        ("", None),
    ],
)
def test_a_header_holds_a_password_or_none(header: str, word: bytes | None) -> None:
    assert given(header) == word
