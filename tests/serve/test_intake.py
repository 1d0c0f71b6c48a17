"""Bodies that arrive too slowly, by a clock of the tests' own."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from unmask.serve.intake import SMALL, Pace, UploadError, limited, read, too_large

PACE = Pace(stall_s=30, grace_s=20, floor_bytes_s=1000, whole_s=100)


class Client:
    """Sends pieces of a body, each after some seconds of its own clock."""

    def __init__(self, *pieces: tuple[float, bytes]) -> None:
        self.now_s, self._pieces = 0.0, list(pieces)

    def clock(self) -> float:
        return self.now_s

    async def receive(self) -> Any:
        if not self._pieces:
            await asyncio.sleep(60)
        after_s, piece = self._pieces.pop(0)
        self.now_s += after_s
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}


def body_of(client: Client, pace: Pace = PACE, most: int = 10**6) -> bytes:
    receive = limited(client.receive, most, pace, lambda: too_large(most), client.clock)
    return alone(read(receive))


def alone(work: Coroutine[Any, Any, bytes]) -> bytes:
    return asyncio.run(work)


def test_what_arrives_in_time_is_the_body() -> None:
    pieces = [(1.0, b"a" * 5000), (19.0, b"b"), (4.0, b"c")]
    assert body_of(Client(*pieces)) == b"a" * 5000 + b"bc"


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        # After 20 s, 1000 bytes a second on average: after 25 s at least 5000.
        ([(10.0, b"x"), (10.1, b"x"), (1.0, b"x")], "too_slow"),
        ([(1.0, b"a" * 4000), (23.5, b"x"), (1.0, b"x")], "too_slow"),
        # Fast enough, but without an end.
        ([*(20 * [(5.1, b"a" * 10_000)])], "too_slow"),
    ],
)
def test_a_byte_now_and_then_buys_no_time(pieces: list[tuple[float, bytes]], kind: str) -> None:
    with pytest.raises(UploadError) as refused:
        body_of(Client(*pieces))
    assert (refused.value.status, refused.value.kind) == (408, kind)


def test_silence_is_a_stall() -> None:
    begun = [{"type": "http.request", "body": b"begun", "more_body": True}]

    async def silent() -> Any:
        return begun.pop() if begun else await asyncio.sleep(60)

    with pytest.raises(UploadError, match="stood still") as refused:
        alone(read(limited(silent, 99, Pace(stall_s=0.05), lambda: too_large(99))))
    assert refused.value.kind == "stalled"


def test_a_body_ends_where_it_becomes_too_large() -> None:
    with pytest.raises(UploadError) as refused:
        body_of(Client((0.0, b"a" * 60), (0.0, b"a" * 60), (0.0, b"")), most=100)
    assert (refused.value.status, refused.value.kind) == (413, "too_large")
    assert body_of(Client((0.0, b"a" * 60), (0.0, b"a" * 40)), most=100) == b"a" * 100


def test_words_of_the_page_have_ten_seconds() -> None:
    with pytest.raises(UploadError):
        body_of(Client((5.0, b"a"), (5.1, b"a"), (0.0, b"a")), pace=SMALL)


def test_who_hangs_up_is_told_so() -> None:
    async def gone() -> Any:
        return {"type": "http.disconnect"}

    with pytest.raises(UploadError) as refused:
        alone(read(limited(gone, 99, PACE, lambda: too_large(99))))
    assert refused.value.kind == "cancelled"
