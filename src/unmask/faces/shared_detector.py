"""One detector for many worker processes: a GPU is quick in large batches only."""

import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import AuthenticationError, Pipe
from multiprocessing.connection import Client, Connection, Listener, wait
from pickle import UnpicklingError
from queue import SimpleQueue
from threading import Thread

from unmask import params
from unmask.faces.detector import Detector, FaceDetector, LoadDetector, Picture, detector_of_worker
from unmask.faces.tracks import Detection
from unmask.records import Box
from unmask.runtime import wire
from unmask.video.frame import Frame

_WORKER, _STOP = "worker", "stop"  # what a connection says first
_AT_ONCE = 32  # pictures in a batch: enough for a GPU, and a small part of its memory


@contextmanager
def best_detector(settings: params.Detect, *, on_gpu: bool) -> Iterator[LoadDetector]:
    """Give workers the way to their detector: one for all on the GPU, or each its own."""
    if on_gpu:
        with shared(Detector(settings, "cuda")) as load_detector:
            yield load_detector
    else:
        yield detector_of_worker


@contextmanager
def shared(
    detector: FaceDetector, load_follower: LoadDetector = detector_of_worker
) -> Iterator[LoadDetector]:
    """Give workers a detector whose searches are this one's, made in a thread of this process.

    The pictures that wait when it is free, of whatever videos, are searched together. Following,
    a millisecond a face, stays with the workers, by what they load for it. What a search raises is
    raised in the workers, as a RuntimeError.
    """
    key = os.urandom(16)  # the workers' alone
    newcomers: SimpleQueue[Connection | None] = SimpleQueue()
    wake_receiver, wake_sender = Pipe(duplex=False)
    with Listener(authkey=key) as listener:
        threads = [
            Thread(target=_accept, args=(listener, newcomers, wake_sender), daemon=True),
            Thread(target=_serve, args=(detector, newcomers, wake_receiver), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield partial(_connect, listener.address, key, detector.batch, load_follower)
        finally:
            with Client(listener.address, authkey=key) as last:
                last.send(_STOP)
            for thread in threads:
                thread.join()


def _accept(
    listener: Listener, newcomers: "SimpleQueue[Connection | None]", wake_sender: Connection
) -> None:
    """Hand on each worker that connects, until somebody says stop."""
    while True:
        try:
            newcomer = listener.accept()
            is_over = wire.loads(newcomer.recv_bytes()) == _STOP
        except (AuthenticationError, EOFError, OSError, UnpicklingError):
            continue  # a worker that ended as it came
        newcomers.put(None if is_over else newcomer)
        wake_sender.send(_WORKER)  # wakes the other thread, which waits for connections alone
        if is_over:
            return


def _serve(
    detector: FaceDetector, newcomers: "SimpleQueue[Connection | None]", wake_receiver: Connection
) -> None:
    workers: list[Connection] = []
    try:
        _serve_until_stopped(detector, newcomers, wake_receiver, workers)
    finally:
        for worker in workers:  # so that none of them waits for ever
            worker.close()


def _serve_until_stopped(
    detector: FaceDetector,
    newcomers: "SimpleQueue[Connection | None]",
    wake_receiver: Connection,
    workers: list[Connection],
) -> None:
    while True:
        asked: dict[Connection, list[Picture]] = {}
        for ready in wait([wake_receiver, *workers]):
            assert isinstance(ready, Connection)
            if ready is wake_receiver:
                wake_receiver.recv()
                newcomer = newcomers.get()
                if newcomer is None:
                    return
                workers.append(newcomer)
                continue
            try:
                asked[ready] = wire.loads(ready.recv_bytes())
            except (EOFError, OSError, UnpicklingError):
                # That worker has ended, maybe in the middle of a word.
                workers.remove(ready)
        for worker, answer in zip(asked, _answers(detector, list(asked.values())), strict=True):
            try:
                worker.send(answer)
            except OSError:
                workers.remove(worker)


def _answers(
    detector: FaceDetector, asked: Sequence[Sequence[Picture]]
) -> list[list[list[Detection]]] | list[RuntimeError]:
    """Return what is found in everybody's pictures, those of one size searched together."""
    places = {(n, k): each for n, pictures in enumerate(asked) for k, each in enumerate(pictures)}
    found: dict[tuple[int, int], list[Detection]] = {}
    try:
        for shape in dict.fromkeys(picture.shape for picture in places.values()):
            alike = [place for place, picture in places.items() if picture.shape == shape]
            for start in range(0, len(alike), _AT_ONCE):
                batch = alike[start : start + _AT_ONCE]
                faces = detector.detect([places[place] for place in batch])
                found.update(zip(batch, faces, strict=True))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the workers' to raise
        # Its text: not every exception pickles.
        failure = RuntimeError("".join(traceback.format_exception(error)))
        return [failure for _ in asked]
    return [[found[n, k] for k in range(len(pictures))] for n, pictures in enumerate(asked)]


@cache
def _connect(
    address: str, key: bytes, batch: int, load_follower: LoadDetector, settings: params.Detect
) -> "_Remote":
    connection = Client(address, authkey=key)
    connection.send(_WORKER)
    return _Remote(connection, load_follower(settings), batch)


class _Remote:
    """In a worker: searches elsewhere, follows here."""

    def __init__(self, connection: Connection, here: FaceDetector, batch: int) -> None:
        self.batch = batch
        self._connection = connection
        self._here = here

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        """Return the faces of each upright RGB picture, the largest first."""
        self._connection.send(list(pictures))
        answer: list[list[Detection]] | RuntimeError = self._connection.recv()
        if isinstance(answer, RuntimeError):
            raise answer
        return answer

    def follow(self, frame: Frame, boxes: Sequence[Box]) -> list[Detection | None]:
        """Return the face near each box; None where none is."""
        return self._here.follow(frame, boxes)
