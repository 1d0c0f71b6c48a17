"""What is kept after a kill, and what is made anew."""

import json
import os

import pytest

from unmask.errors import DiskError
from unmask.runtime.resume_manifest import ResumeManifest, key_of

NAME = ".made.jsonl"


def make(folder, name, *, key="k", text="whole", file=None):
    """Do a piece of work that leaves one file."""
    file = file or f"{name}.mp4"
    with ResumeManifest(folder, NAME) as manifest:
        (manifest.scratch / file).write_text(text)
        return manifest.add(name, key, [file], seconds=3)


def lookup(folder, name, key="k"):
    with ResumeManifest(folder, NAME) as manifest:
        return manifest.lookup(name, key)


def test_what_is_whole_is_recalled_with_its_facts(tmp_path):
    made = make(tmp_path, "a")
    assert made.facts == {"seconds": 3}
    assert lookup(tmp_path, "a") == made
    assert (tmp_path / "a.mp4").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", NAME}


def test_another_key_name_or_content_is_not_recalled(tmp_path):
    make(tmp_path, "a")
    assert lookup(tmp_path, "a", key="other") is None
    assert lookup(tmp_path, "b") is None
    (tmp_path / "a.mp4").write_text("cut")
    assert lookup(tmp_path, "a") is None
    (tmp_path / "a.mp4").unlink()
    assert lookup(tmp_path, "a") is None


def test_a_line_whose_file_had_not_arrived_is_not_recalled(tmp_path):
    make(tmp_path, "a", text="old")
    old = (tmp_path / NAME).read_text()
    make(tmp_path, "a", text="new")
    (tmp_path / "a.mp4").write_text("old")  # a kill between the line and the file
    assert lookup(tmp_path, "a") is None
    (tmp_path / NAME).write_text(old)
    assert lookup(tmp_path, "a") is not None


@pytest.mark.parametrize("tail", ['{"name": "b", "key": "k", "fil', "[1]\n", '{"name": 1', "\x00"])
def test_a_line_that_was_cut_costs_only_itself(tmp_path, tail):
    make(tmp_path, "a")
    with (tmp_path / NAME).open("a") as lines:
        lines.write(tail)
    make(tmp_path, "c")
    assert lookup(tmp_path, "a")
    assert lookup(tmp_path, "c")


def test_the_journal_of_an_earlier_run_is_replaced_not_written_in_place(tmp_path):
    make(tmp_path, "a")
    cached = tmp_path / "cache"
    os.link(tmp_path / NAME, cached)
    before = cached.read_text()
    make(tmp_path, "b")
    assert cached.read_text() == before
    assert lookup(tmp_path, "a")


def test_a_run_clears_the_scratch_of_a_killed_one(tmp_path):
    old = tmp_path / ".partial-old"
    old.mkdir()
    (old / "a.mp4").write_text("half")
    with ResumeManifest(tmp_path, NAME) as new:
        assert [path.name for path in tmp_path.iterdir()] == [new.scratch.name]
    assert not list(tmp_path.iterdir())


def test_a_second_run_is_refused_and_takes_nothing_from_the_first(tmp_path):
    with ResumeManifest(tmp_path, NAME) as first:
        (first.scratch / "a.mp4").write_text("whole")
        with pytest.raises(DiskError, match="another run is writing there"):
            ResumeManifest(tmp_path, NAME)
        first.add("a", "k", ["a.mp4"])
    assert lookup(tmp_path, "a")


def test_work_that_is_done_anew_leaves_no_file_of_the_old(tmp_path):
    make(tmp_path, "a", file="blend.mp4")
    make(tmp_path, "a", key="k2", file="swap.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"swap.mp4", NAME}


def test_settling_keeps_what_is_named_and_never_a_strangers_file(tmp_path):
    for name in "cab":
        make(tmp_path, name)
    (tmp_path / "mine.mp4").write_text("a stranger's")
    with ResumeManifest(tmp_path, NAME) as manifest:
        manifest.finalize(["c", "a"])
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "c.mp4", "mine.mp4", NAME}
    lines = (tmp_path / NAME).read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["a", "c"]


def test_keys_tell_values_apart():
    assert key_of("a", 1) == key_of("a", 1)
    assert len({key_of("a", 1), key_of("a", "1"), key_of("a1"), key_of(1, "a")}) == 4
