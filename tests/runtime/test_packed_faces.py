import random
import tracemalloc
from pathlib import Path

import pytest

from unmask.records import FaceTrack, Reason, VideoFaces, VideoRecord
from unmask.runtime import record_files


def a_face_of_100_frames(number: int) -> VideoFaces:
    """Return a video with a face whose numbers all differ, as the cropper rounds them."""
    rng = random.Random(number)

    def near(value: float) -> float:
        return round(value + rng.gauss(0, 2), 1)

    times_T = tuple(round(tick / 10, 4) for tick in range(100))
    boxes_T4 = tuple((near(300), near(100), near(600), near(400)) for _ in times_T)
    points_T52 = tuple(tuple((near(450), near(250)) for _ in range(5)) for _ in times_T)
    scores_T = tuple(round(1 - rng.random() / 100, 4) for _ in times_T)
    track = FaceTrack(0, f"{number}_0.mp4", times_T, boxes_T4, scores_T, points_T52)
    return VideoFaces(str(number), "k" * 64, (track,))


def test_a_face_index_takes_little_memory_and_gives_the_same_rows(tmp_path: Path) -> None:
    path, videos = tmp_path / "index.jsonl", [a_face_of_100_frames(n) for n in range(50)]
    path.write_text("".join(record_files.faces_line(v) + "\n" for v in videos))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    read = record_files.read_faces(path)
    taken, peak = (bytes_ - before for bytes_ in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    # 1,600 numbers; as Python's floats in tuples they take 80 KB or more.
    assert taken / 50 < 5500
    assert peak < 1_000_000
    assert list(read) == [str(n) for n in range(50)]
    assert list(read.values()) == videos
    assert "50" not in read
    with pytest.raises(KeyError):
        read["50"]


def test_a_chunk_looks_up_one_video_at_a_time(tmp_path: Path) -> None:
    records = [
        VideoRecord(str(n), f"{n}.mp4", 0, "p", "real", ("train", "test")[n % 2]) for n in range(7)
    ]
    videos = [a_face_of_100_frames(n) for n in range(6)]  # the seventh has no file
    record_files.write_index(tmp_path / "index.csv", records)
    (tmp_path / "index.jsonl").write_text(
        "".join(record_files.faces_line(v) + "\n" for v in videos)
    )
    chunk = record_files.read_chunk("c", tmp_path / "index.csv", tmp_path)
    train = chunk.of("train")
    assert (len(train), train.records) == (4, records[::2])
    assert list(train)[:3] == list(zip(records[0:6:2], videos[::2], strict=True))
    assert list(train.faces())[:3] == videos[::2]
    assert train[1] == (records[2], videos[2])
    assert list(train[1:3]) == [train[1], train[2]]
    assert train[-1][1].reason is Reason.MISSING
    assert list(chunk.of("validation")) == []
