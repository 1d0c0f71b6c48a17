"""Thumbnails: which frame they show, how large they are, and what has none."""

import os
import signal
import time
import tracemalloc

import numpy as np

from unmask.answers import thumbnails
from unmask.answers.thumbnails import _is_picture


def take(videos, *, workers):
    return list(thumbnails.take(videos, np.asarray, workers=workers))


def test_a_thumbnail_is_the_keyframe_at_a_time_or_before_it(tmp_path, make_video, read_index):
    options = {"g": "20", "sc_threshold": "0"}  # keyframes at 0, 0.667 and 1.333 s
    video = make_video(tmp_path / "a.mp4", frames=50, options=options)
    times_s = (0.0, 0.6, 0.7, 1.2, 9.0)
    found = take([(video, time_s) for time_s in times_s], workers=2)
    assert [read_index(picture) for picture in found] == [0, 0, 20, 20, 40]


def test_a_thumbnail_is_small_upright_and_never_enlarged(tmp_path, make_video):
    wide = make_video(tmp_path / "wide.mp4", frames=3, size=(640, 320))
    turned = make_video(tmp_path / "turned.mp4", frames=3, size=(320, 640), rotation_deg=90)
    small = make_video(tmp_path / "small.mp4", frames=3, size=(64, 48))
    found = take([(each, 0.0) for each in (wide, turned, small)], workers=1)
    assert [picture.shape for picture in found] == [(120, 240, 3), (240, 120, 3), (48, 64, 3)]


def test_what_gives_no_picture_has_none_and_costs_no_other(tmp_path, make_video):
    text = tmp_path / "note.mp4"
    text.write_text("no video")
    os.mkfifo(tmp_path / "pipe.mp4")
    video = make_video(tmp_path / "a.mp4", frames=3)
    names = (text, tmp_path / "gone.mp4", tmp_path / "pipe.mp4", tmp_path, video)
    found = take([(each, 0.0) for each in names], workers=1)
    assert [picture is None for picture in found] == [True, True, True, True, False]


def kill_yourself(job):
    """Stand in for a decoder that a video crashes."""
    if job.place == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return thumbnails._Taken(job.place, np.zeros((2, 3, 3), np.uint8))


def test_a_video_that_crashes_its_decoder_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "_take", kill_yourself)
    found = take([(tmp_path / "a.mp4", 0.0), (tmp_path / "b.mp4", 0.0)], workers=1)
    assert found[0] is None
    assert found[1].shape == (2, 3, 3)


def a_large_one(job):
    """Stand in for a decoder: each thumbnail is as large as may be, and the first comes late."""
    if job.place == 0:
        time.sleep(0.2)
    return thumbnails._Taken(job.place, np.full((240, 240, 3), job.place, np.uint8))


def test_many_are_never_held_together(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "_take", a_large_one)
    videos = [(tmp_path / f"{number}.mp4", 0.0) for number in range(250)]
    found = thumbnails.take(videos, lambda picture_HWC: int(picture_HWC[0, 0, 0]), workers=2)
    tracemalloc.start()
    try:
        assert list(found) == list(range(250))
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 250 * 240 * 240 * 3 / 4


def test_what_a_taken_over_worker_sends_is_a_small_picture_or_nothing():
    assert _is_picture(np.zeros((240, 1, 3), np.uint8))
    for odd in (
        None, b"<svg>", [[1]], np.zeros((241, 5, 3), np.uint8), np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 3), np.float32), np.zeros((5, 0, 3), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
    ):  # fmt: skip
        assert not _is_picture(odd)
