"""Which videos of a data set a benchmark takes: all of them test, whatever its own splits say."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from tests.data.test_splits import fake, raw, real, sources_with_both
from unmask.data import benchmarks
from unmask.data.archive import open_chunk
from unmask.data.layouts.entry import Entry
from unmask.errors import DatasetError
from unmask.params import Benchmark
from unmask.runtime.record_files import read_fingerprints, read_index
from unmask.video.encode import write_video

ALL = Benchmark(videos="test", max_real=None, fakes_per_real=None, shared="refuse")


def watch(items, *, total, label):  # noqa: ARG001  # the protocol's
    yield from items


def names(entries):
    return [Path(each.file).stem for each in entries]


def test_a_data_set_s_own_test_videos_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    entries = [real("a"), real("b", split="Test"), fake("c", "a", split="val"),
               fake("d", "b", split="test")]  # fmt: skip
    with caplog.at_level(logging.INFO):
        chosen = benchmarks.choose(entries, ALL, where="wild")
    assert names(chosen.entries) == ["b", "d"]
    assert chosen.facts == {"by": "its own test videos", "taken": 2, "of": 4}
    assert "wild: its own 2 test videos, of 4" in caplog.text
    everything = ALL.model_copy(update={"videos": "all"})
    found = benchmarks.choose(entries, everything, where="wild")
    assert names(found.entries) == ["a", "b", "c", "d"]


def test_a_word_that_may_mean_test_is_not_passed_over() -> None:
    entries = [real("a", split="testing"), real("b", split="test"), fake("c", "a", split="")]
    with pytest.raises(DatasetError, match=r"calls 1 test, and others 'testing'.*videos to all"):
        benchmarks.choose(entries, ALL, where="wild")
    everything = ALL.model_copy(update={"videos": "all"})
    assert len(benchmarks.choose(entries, everything, where="wild").entries) == 3


def test_one_that_names_no_test_videos_gives_all(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = benchmarks.choose([real("a"), fake("b", "a")], ALL, where="wild")
    assert names(found.entries) == ["a", "b"]
    assert "all 2 videos are taken (its own splits: train)" in caplog.text


CELEB = ["Celeb-real/id0_0000.mp4", "Celeb-real/id1_0000.mp4", "YouTube-real/00001.mp4",
         "Celeb-synthesis/id0_id1_0000.mp4", "Celeb-synthesis/id1_id0_0000.mp4"]  # fmt: skip


def test_an_official_protocol_is_honoured_and_its_list_is_needed(tmp_path: Path) -> None:
    for name in CELEB:
        (tmp_path / "celeb" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "celeb" / name).write_bytes(name.encode())
    with open_chunk(tmp_path / "celeb") as files, pytest.raises(DatasetError) as caught:
        benchmarks.read_chosen(files, ALL, where="celeb")
    assert "List_of_testing_videos.txt" in str(caught.value)
    assert str(caught.value).endswith("Or set benchmark.videos to all.")
    listed = ["1 Celeb-real/id0_0000.mp4", "0 Celeb-synthesis/id0_id1_0000.mp4",
              "1 YouTube-real/00099.mp4"]  # fmt: skip
    (tmp_path / "celeb/List_of_testing_videos.txt").write_text("\n".join(listed) + "\n")
    everything = ALL.model_copy(update={"videos": "all"})
    with open_chunk(tmp_path / "celeb") as files:
        chosen = benchmarks.read_chosen(files, ALL, where="celeb")
        whole = benchmarks.read_chosen(files, everything, where="celeb")
    # In the order of their names, in which real and synthesised videos lie apart.
    assert {entry.path for entry in chosen.entries} == {
        "Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4",
    }  # fmt: skip
    assert chosen.facts["by"] == "official protocol"
    assert chosen.facts["protocol"] == "celeb-df-v2"
    assert (chosen.facts["named"], chosen.facts["missing"]) == (3, 1)
    assert (chosen.facts["taken"], chosen.facts["of"]) == (2, 5)
    assert len(whole.entries) == 5


def test_nothing_is_balanced_unless_asked_for() -> None:
    entries = sources_with_both(4, fakes=3)
    records = benchmarks.draw(entries, raw(fakes_per_real=1.0, max_real=2), ALL)
    assert len(records) == 16
    assert {record.split for record in records} == {"test"}


@pytest.mark.parametrize(
    ("changes", "reals", "fakes"),
    [
        ({"max_real": 2}, 2, 12),
        ({"fakes_per_real": 1.0}, 4, 4),
        ({"max_real": 3, "fakes_per_real": 2.0}, 3, 6),
    ],
)
def test_a_part_is_drawn_where_params_ask(
    changes: dict[str, float], reals: int, fakes: int
) -> None:
    wanted = ALL.model_copy(update=changes)
    records = benchmarks.draw(sources_with_both(4, fakes=3), raw(), wanted)
    assert [sum(r.label == label for r in records) for label in (0, 1)] == [reals, fakes]
    assert {record.split for record in records} == {"test"}


def test_one_class_is_allowed_as_a_whole_and_can_not_be_balanced() -> None:
    entries: list[Entry] = [fake("a", "x"), fake("b", "y")]
    assert names(benchmarks.draw(entries, raw(), ALL)) == ["a", "b"]
    with pytest.raises(DatasetError, match=r"0 real and 2 fake.* benchmark.fakes_per_real to null"):
        benchmarks.draw(entries, raw(), ALL.model_copy(update={"fakes_per_real": 1.0}))
    alone = [real("a"), real("b")]
    with pytest.raises(DatasetError, match=r"2 real and 0 fake.* benchmark.fakes_per_real to null"):
        benchmarks.draw(alone, raw(), ALL.model_copy(update={"fakes_per_real": 1.0}))
    assert len(benchmarks.draw(alone, raw(), ALL.model_copy(update={"max_real": 1}))) == 1


def test_a_folder_is_filled_copies_go_and_a_second_run_keeps_what_is_there(tmp_path: Path) -> None:
    chunk, out = tmp_path / "wild", tmp_path / "held_out/wild"
    for number, name in enumerate(["real/a.mp4", "fake/swap/a.mp4", "fake/swap/b.mp4"]):
        (chunk / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 255, (6, 6, 3), np.uint8)
        picture = np.kron(coarse, np.ones((12, 12, 1), np.uint8))
        write_video(chunk / name, [picture] * 8, rate_fps=8, crf=20)
    (chunk / "fake/swap/copy.mp4").write_bytes((chunk / "fake/swap/b.mp4").read_bytes())
    benchmarks.fill(chunk, out, raw(), ALL, workers=1, watch=watch)
    records = read_index(out / "listed.csv")
    assert [(r.file, r.method, r.split) for r in records] == [
        ("fake_swap_a.mp4", "swap", "test"), ("fake_swap_b.mp4", "swap", "test"),
        ("real_a.mp4", "real", "test"),
    ]  # fmt: skip
    about = json.loads((out / "chosen.json").read_text())
    assert about == {"by": "all videos", "taken": 4, "of": 4}
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "videos").iterdir()}
    assert sorted(kept) == [record.file for record in records]
    assert read_fingerprints(out / "fingerprints.csv").keys() >= {r.video_id for r in records}
    (chunk / "fake/swap/b.mp4").unlink()
    benchmarks.fill(chunk, out, raw(copies="refuse"), ALL, workers=1, watch=watch)
    assert [r.file for r in read_index(out / "listed.csv")][1] == "fake_swap_copy.mp4"
    again = {path.name: path.stat().st_mtime_ns for path in (out / "videos").iterdir()}
    assert again["real_a.mp4"] == kept["real_a.mp4"]
