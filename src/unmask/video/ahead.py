"""Take frames ahead of whoever asks for them, in a thread."""

import math
from collections.abc import Generator, Iterator
from queue import Queue
from threading import Event, Semaphore, Thread

from unmask.video.frame import Frame

_AHEAD_FRAMES, _AHEAD_BYTES = 16, 48 * 2**20  # decoded before they are asked for


def read_ahead(frames: Iterator[Frame]) -> Generator[Frame]:
    """Yield the frames while a thread already takes the next ones; an error comes in its place.

    Decoding leaves Python's lock, so whoever takes these frames works at the same time.
    """
    waiting: Queue[Frame | Exception | None] = Queue()
    room = Semaphore(_AHEAD_FRAMES)
    is_over = Event()

    def take() -> None:
        try:
            for frame in frames:
                # A large frame takes the room of several.
                for _ in range(_share_of_room(frame)):
                    room.acquire()
                if is_over.is_set():
                    return
                waiting.put(frame)
            waiting.put(None)
        except Exception as error:  # noqa: BLE001 - raised again below, whatever it is
            waiting.put(error)

    thread = Thread(target=take, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, Exception):
                raise item
            room.release(_share_of_room(item))
            yield item
    finally:
        is_over.set()
        room.release(_AHEAD_FRAMES)
        thread.join()


def _share_of_room(frame: Frame) -> int:
    share = math.ceil(_AHEAD_FRAMES * frame.stored_bytes / _AHEAD_BYTES)
    return min(_AHEAD_FRAMES, share)
