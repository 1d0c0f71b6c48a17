"""Ids and paths find the video they mean, none, or say that it is two."""

import pytest

from unmask.evaluation.benchmarks.matching import Matcher
from unmask.records import VideoRecord

RECORDS = [
    VideoRecord(name, f"{name}.mp4", 1, name, "m", "test")
    for name in (
        "Deepfakes_c23_000_003",
        "FaceSwap_c23_000_003",
        "youtube_c23_000",
        "000",
        "id3.v2",
    )
]
PATHS = {
    "Deepfakes_c23_000_003": ["manipulated_sequences/Deepfakes/c23/videos/000_003.mp4"],
    "FaceSwap_c23_000_003": ["manipulated_sequences/FaceSwap/c23/videos/000_003.mp4"],
    "youtube_c23_000": ["original_sequences/youtube/c23/videos/000.mp4"],
    "000": ["other/000.avi"],
}
MATCHER = Matcher(RECORDS, PATHS)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (
            "/data/ff/manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",
            {"Deepfakes_c23_000_003"},
        ),
        (
            r"D:\ff\manipulated_sequences\Deepfakes\c23\videos\000_003.mp4",
            {"Deepfakes_c23_000_003"},
        ),
        ("FaceSwap/c23/videos/000_003", {"FaceSwap_c23_000_003"}),
        ("000_003.mp4", {"Deepfakes_c23_000_003", "FaceSwap_c23_000_003"}),
        ("crops/Deepfakes_c23_000_003.MP4", {"Deepfakes_c23_000_003"}),
        ("/d/./original_sequences//youtube/c23/videos/000.webm", {"youtube_c23_000"}),
        ("c23/videos/000.mp4", {"000", "youtube_c23_000"}),  # the first by the benchmark's own name
        ("elsewhere/c23/videos/000.mp4", {"000"}),
        ("000", {"000"}),
        ("other/000", {"000"}),
        ("frames/id3.v2", {"id3.v2"}),  # a folder of frames: .v2 is no extension
        ("0_003.mp4", set()),  # only whole names
        ("youtube/c40/videos/001.mp4", set()),
        ("", set()),
        ("/", set()),
    ],
)
def test_a_path_means_the_video_whose_path_ends_so(path: str, found: set[str]) -> None:
    assert MATCHER.by_path(path) == found


def test_an_id_is_taken_as_it_is() -> None:
    assert MATCHER.by_id("000") == {"000"}
    assert MATCHER.by_id("000.mp4") == set()
    assert MATCHER.by_id(" 000") == set()
