"""Benchmarks of data sets that have an official test list, from the chunk to its list of videos."""

import logging

import pytest
from miniatures import MINIATURES, write

from tests.data.test_benchmarks import ALL, watch
from tests.data.test_frame_videos import folder
from tests.data.test_splits import raw
from unmask.data import archive, benchmarks
from unmask.errors import DatasetError
from unmask.runtime.record_files import read_index
from unmask.video import pictures

EVERYTHING = ALL.model_copy(update={"videos": "all"})


def chosen(chunk, wanted=ALL):
    """Return the names of the test videos."""
    with archive.open_chunk(chunk) as files:
        found = benchmarks.read_chosen(files, wanted, where="wild")
        return {entry.file for entry in found.entries}


def test_the_official_list_says_which_videos_are_test(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    chunk = write(tmp_path / "celeb", MINIATURES["Celeb-DF"])
    listed = {"YouTube-real_00000.mp4", "Celeb-synthesis_id0_id1_0000.mp4"}
    assert chosen(chunk) == listed
    assert "wild: 2 test videos by celeb-df-v2, version 1, of 3" in caplog.text
    assert chosen(chunk, EVERYTHING) == listed | {"Celeb-real_id0_0000.mp4"}


def test_without_its_list_a_data_set_is_no_benchmark_of_that_name(tmp_path):
    files = MINIATURES["Celeb-DF"].copy()
    del files["List_of_testing_videos.txt"]
    chunk = write(tmp_path / "celeb", files)
    with pytest.raises(DatasetError, match=r"archive\. Or set benchmark\.videos to all\."):
        chosen(chunk)
    assert len(chosen(chunk, EVERYTHING)) == 3


def test_what_has_no_official_list_is_chosen_by_its_own_words(tmp_path):
    assert len(chosen(write(tmp_path / "mine", MINIATURES["folders"]))) == 2


def test_face_tracks_become_a_benchmark(tmp_path):
    files = folder("real_test/1/real/0", 1) | folder("fake_test/2/fake/0", 2)
    files |= folder("fake_train/3/fake/0", 3)
    out = tmp_path / "out"
    chunk = write(tmp_path / "wild", files)
    benchmarks.fill(chunk, out, raw(), ALL, workers=1, watch=watch)
    rows = read_index(out / "listed.csv")
    assert [(row.file, row.label, row.split) for row in rows] == [
        ("fake_test_2_0.mov", 1, "test"), ("real_test_1_0.mov", 0, "test"),
    ]  # fmt: skip
    assert pictures.read_tracks(out / "videos") == {row.file for row in rows}
