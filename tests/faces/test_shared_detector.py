"""One detector for several workers: their pictures together, everybody's own faces back."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Client
from pathlib import Path

import numpy as np
import pytest
from painted import DETECT, SETTINGS, Picture, SquareDetector, at, load_squares, squares

from unmask.faces import crops, shared_detector
from unmask.faces.tracks import Detection
from unmask.records import VideoFaces

MakeVideo = Callable[..., Path]


class RecordingDetector(SquareDetector):
    """Notes how many pictures of which size it searches at once, and takes its time."""

    def __init__(self) -> None:
        self.searched: list[tuple[int, tuple[int, ...]]] = []

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        self.searched.append((len(pictures), pictures[0].shape))
        time.sleep(0.05)
        return super().detect(pictures)


def test_pictures_of_several_videos_are_searched_together_to_the_same_crops(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    (tmp_path / "videos").mkdir()
    for number in range(4):
        paint = squares(lambda t, number=number: at(20 + 9 * t, 20 + 5 * number, 40))
        size = (160, 90 if number % 2 else 96)
        make_video(
            tmp_path / f"videos/{number}.mp4", frames=60, rate_fps=20, size=size, paint=paint
        )
    detector = RecordingDetector()
    with shared_detector.shared(detector, load_squares) as load_detector:
        together = crop_all(tmp_path, "together", load_detector)
    apart = crop_all(tmp_path, "apart", load_squares)
    assert together == apart
    assert contents(tmp_path / "together") == contents(tmp_path / "apart")
    # A stretch is 0.3 s of 3 s: eleven searches a video.
    assert sum(count for count, _ in detector.searched) == 44
    assert {shape for _, shape in detector.searched} == {(90, 160, 3), (96, 160, 3)}


def crop_all(
    folder: Path, target: str, load_detector: shared_detector.LoadDetector
) -> list[VideoFaces]:
    videos = crops.find_videos(folder / "videos")
    rows = crops.crop_chunk(
        videos, folder / target, SETTINGS, workers=2, load_detector=load_detector
    )
    return sorted(rows, key=lambda row: row.video_id)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_waits_is_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_detector, "_AT_ONCE", 5)
    detector = RecordingDetector()
    picture = np.full((90, 160, 3), 90, np.uint8)
    picture[20:60, 20:60] = (230, 20, 20)
    found: list[list[list[Detection]]] = []
    together = threading.Barrier(4)

    def ask(load_detector: shared_detector.LoadDetector, pictures: int) -> None:
        # A connection of its own, as each worker process has.
        mine = load_detector.func.__wrapped__(*load_detector.args, DETECT)
        together.wait()
        found.append(mine.detect([picture] * pictures))

    with shared_detector.shared(detector, load_squares) as load_detector:
        threads = [threading.Thread(target=ask, args=(load_detector, n)) for n in (1, 2, 2, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(map(len, found)) == [1, 2, 2, 2]
    assert {tuple(map(len, crops)) for crops in found} == {(1,), (1, 1)}
    counts = [count for count, _ in detector.searched]
    assert sum(counts) == 7
    assert max(counts) > 2  # while the first was searched, the others gathered
    assert max(counts) <= 5


def fail_in_worker(load_detector: shared_detector.LoadDetector) -> str:
    try:
        load_detector(DETECT).detect([np.zeros((90, 160, 3), np.uint8)])
    except RuntimeError as error:
        return str(error)
    return "nothing was raised"


class FailingDetector(SquareDetector):
    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        raise ZeroDivisionError(f"no memory for {len(pictures)}, say")


def test_what_a_search_raises_is_the_workers() -> None:
    with (
        shared_detector.shared(FailingDetector(), load_squares) as load_detector,
        get_context("spawn").Pool(1) as pool,
    ):
        said = pool.apply(fail_in_worker, (load_detector,))
    assert said.rstrip().endswith("ZeroDivisionError: no memory for 1, say")


def die_in_worker(load_detector: shared_detector.LoadDetector) -> None:
    detector = load_detector(DETECT)
    detector._connection.send([np.zeros((90, 160, 3), np.uint8)])
    # and ends without waiting for the answer


def test_a_worker_that_dies_is_forgotten() -> None:
    detector = RecordingDetector()
    with shared_detector.shared(detector, load_squares) as load_detector:
        process = get_context("spawn").Process(target=partial(die_in_worker, load_detector))
        process.start()
        process.join()
        assert load_detector(DETECT).detect([np.zeros((90, 160, 3), np.uint8)]) == [[]]


def test_who_ends_while_it_connects_stops_nobody() -> None:
    with shared_detector.shared(RecordingDetector(), load_squares) as load_detector:
        address, key, *_ = load_detector.args
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(address)  # and never says who it is
        Client(address, authkey=key).close()  # and never says what it wants
        assert load_detector(DETECT).detect([np.zeros((90, 160, 3), np.uint8)]) == [[]]


def test_without_a_gpu_each_worker_has_its_own() -> None:
    with shared_detector.best_detector(DETECT, on_gpu=False) as load_detector:
        assert load_detector is shared_detector.detector_of_worker
