"""Chunks made by hand: what is read from them, how they are drawn, split and linked."""

import doctest
import errno
import json
import logging
import os
import random
import runpy
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from unmask import datasets
from unmask.datasets import Entry
from unmask.errors import DatasetError
from unmask.params import Raw
from unmask.records import SPLITS, VideoRecord, read_index

ROOT = Path(__file__).parents[1]

REAL = {"label": "REAL", "split": "train"}
FAKE = {"label": "FAKE", "split": "train"}


def write_chunk(folder, metadata, *, without=()):
    """Write a DFDC-shaped folder whose videos hold their own names."""
    folder.mkdir(parents=True)
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    (folder / "metadata.json").write_text(text, encoding="utf-8")
    if isinstance(metadata, dict):
        for name in metadata.keys() - set(without):
            (folder / name).write_text(name)
    return folder


def raw(**changes):
    values = {
        "max_real": None, "fakes_per_real": 1.0, "honour_split": False,
        "validation_ratio": 0.15, "test_ratio": 0.15, "alike_ratio": 0.06, "seed": 1,
    }  # fmt: skip
    return Raw(**(values | changes))


def real(name, *, source=None, split="train"):
    return Entry(f"{name}.mp4", 0, source or name, "real", split)


def fake(name, source, *, method="blend", split="train"):
    return Entry(f"{name}.mp4", 1, source, method, split)


def sources_with_both(count, *, fakes=1):
    """Return one real video and some fakes for each of count sources."""
    return [
        entry
        for number in range(count)
        for entry in [
            real(f"r{number:03}"),
            *(fake(f"f{number:03}_{each}", f"r{number:03}") for each in range(fakes)),
        ]
    ]


def warnings_in(caplog):
    return [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]


def drawn_sides(records):
    """Return the splits of each source and the classes of each split."""
    sides, classes = defaultdict(set), defaultdict(set)
    for record in records:
        sides[record.source_id].add(record.split)
        classes[record.split].add(record.label)
    return sides, classes


def test_docstring_examples_hold():
    result = doctest.testmod(datasets)
    assert result.attempted > 0
    assert result.failed == 0


# Reading


def test_labels_sources_methods_and_splits_are_read(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = write_chunk(
        tmp_path / "chunk_7",
        {
            "real.mp4": REAL,
            "fake.mp4": {**FAKE, "original": "real.mp4"},
            "fake_of_elsewhere.mp4": {**FAKE, "original": "elsewhere.mp4"},
            "its_twin.mp4": {**FAKE, "original": "elsewhere.mp4", "method": "blend"},
            "orphan.mp4": {**FAKE, "original": None},
            "loner.mp4": {"label": "FAKE"},
            "person.mp4": {"label": "REAL", "source": "p1", "split": "test", "method": "still"},
            "fake_of_person.mp4": {**FAKE, "original": "person.mp4", "split": "validation"},
            "stubborn.mp4": {**FAKE, "original": "person.mp4", "source": "p2"},
        },
        without=["orphan.mp4", "loner.mp4"],
    )
    (folder / "unlisted.MP4").write_text("not in the metadata")
    (folder / "notes.txt").write_text("no video")

    assert datasets.read_dfdc(folder) == [
        Entry("fake.mp4", 1, "real", "unknown", "train"),
        Entry("fake_of_elsewhere.mp4", 1, "elsewhere", "unknown", "train"),
        Entry("fake_of_person.mp4", 1, "p1", "unknown", "validation"),
        Entry("its_twin.mp4", 1, "elsewhere", "blend", "train"),
        Entry("loner.mp4", 1, "loner", "unknown", ""),
        Entry("orphan.mp4", 1, "orphan", "unknown", "train"),
        Entry("person.mp4", 0, "p1", "still", "test"),
        Entry("real.mp4", 0, "real", "real", "train"),
        Entry("stubborn.mp4", 1, "p2", "unknown", "train"),
    ]
    assert caplog.messages == [
        f"{folder}: 9 videos, 2 real and 7 fake; 2 without a file; 1 mp4 files not listed, ignored"
    ]


@pytest.mark.parametrize(
    ("originals", "given", "expected"),
    [
        # A fake of a fake of a real one.
        ({"a": "b", "b": "c", "c": None}, {}, {"a": "c", "b": "c", "c": "c"}),
        # The root is not in the chunk.
        ({"a": "b", "b": "z"}, {}, {"a": "z", "b": "z"}),
        # A source halfway ends the way.
        ({"a": "b", "b": "c", "c": None}, {"b": "p"}, {"a": "p", "b": "p", "c": "c"}),
        # Circles share a name, and so do those who lead into them.
        ({"b": "c", "c": "d", "d": "b", "a": "d"}, {}, dict.fromkeys("abcd", "b")),
        ({"a": "a"}, {}, {"a": "a"}),
        ({"a": "b", "b": "a"}, {"b": "p"}, {"a": "p", "b": "p"}),
    ],
)
def test_sources_are_followed_to_the_root(tmp_path, originals, given, expected):
    metadata = {
        f"{name}.mp4": {
            "label": "FAKE" if original else "REAL",
            "original": original and f"{original}.mp4",
            "source": given.get(name),
        }
        for name, original in originals.items()
    }
    entries = datasets.read_dfdc(write_chunk(tmp_path / "chunk", metadata))
    assert {entry.file[0]: entry.source_id for entry in entries} == expected


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ("{", "not JSON in UTF-8"),
        ("[" * 100_000, "not JSON in UTF-8"),
        ('{"a.mp4": {"label": "REAL"}, "a.mp4": {"label": "FAKE"}}', "listed twice: 'a.mp4'"),
        ('{"a.mp4": {"label": "REAL", "label": "FAKE"}}', "listed twice: 'label'"),
        ("[]", "object from file names to their labels"),
        ("{}", "object from file names to their labels"),
        ('{"a.mp4": "REAL"}', "'a.mp4': should be an object with a label, is 'REAL'"),
        ('{"a.mp4": {}}', "label should be REAL or FAKE, is None"),
        ('{"a.mp4": {"label": "fake"}}', "label should be REAL or FAKE, is 'fake'"),
        ('{"a.mp4": {"label": ["FAKE"]}}', r"label should be REAL or FAKE, is \['FAKE'\]"),
        ('{"a.mp4": {"label": "REAL", "split": 1}}', "split should be a word, is 1"),
        ('{"a.mp4": {"label": "FAKE", "original": {}}}', "original should be a word, is {}"),
        ('{"a.mp4": {"label": "FAKE", "original": "../b.mp4"}}', "plain file name"),
        ('{"a.mp4": {"label": "FAKE", "method": ""}}', "method should be a word, is ''"),
        ('{"a.mp4": {"label": "FAKE", "method": "real"}}', "method cannot be real"),
        ('{"a.mp4": {"label": "REAL", "source": ["p"]}}', r"source should be a word, is \['p'\]"),
        ('{"a.mp4": {"label": "REAL", "source": "p\\n1"}}', "source should be a word"),
        ('{"b/a.mp4": {"label": "REAL"}}', "plain file name"),
        ('{"b\\\\a.mp4": {"label": "REAL"}}', "plain file name"),
        ('{"/a.mp4": {"label": "REAL"}}', "plain file name"),
        ('{"..": {"label": "REAL"}}', "plain file name"),
        ('{".a.mp4": {"label": "REAL"}}', "plain file name"),
        ('{"": {"label": "REAL"}}', "plain file name"),
        ('{"a\\u0000.mp4": {"label": "REAL"}}', "do not print"),
        ('{"\\ud800.mp4": {"label": "REAL"}}', "do not print"),
        ('{"%s.mp4": {"label": "REAL"}}' % ("ä" * 100), "more than 200 bytes"),
        ('{"a.mp4": {"label": "REAL"}, "a.mov": {"label": "REAL"}}', "'a.mov': another file has"),
    ],
)
def test_bad_metadata_is_refused_by_name(tmp_path, metadata, complaint):
    folder = write_chunk(tmp_path / "chunk", metadata)
    with pytest.raises(DatasetError, match=complaint) as caught:
        datasets.read_dfdc(folder)
    assert "chunk/metadata.json" in str(caught.value)
    assert str(caught.value).isascii()


def test_metadata_in_another_encoding_is_refused(tmp_path):
    folder = write_chunk(tmp_path / "chunk", {"ä.mp4": REAL})
    text = '{"ä.mp4": {"label": "REAL"}}'
    (folder / "metadata.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match="not JSON in UTF-8"):
        datasets.read_dfdc(folder)
    (folder / "metadata.json").write_bytes(text.encode("utf-8-sig"))
    assert datasets.read_dfdc(folder) == [Entry("ä.mp4", 0, "ä", "real", "")]


def test_metadata_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MAX_METADATA_BYTES", 10)
    with pytest.raises(DatasetError, match="more than 10"):
        datasets.read_dfdc(write_chunk(tmp_path / "chunk", {"a.mp4": REAL}))


def test_one_message_lists_five_problems_and_counts_the_rest(tmp_path):
    folder = write_chunk(tmp_path / "chunk", {f"{n}.mp4": {"label": n} for n in range(7)})
    with pytest.raises(DatasetError, match=r"7 problem\(s\)") as caught:
        datasets.read_dfdc(folder)
    message = str(caught.value)
    assert [f"'{number}.mp4'" in message for number in range(7)] == [True] * 5 + [False] * 2
    assert "and 2 more" in message


def test_a_chunk_that_is_not_there_says_what_is(tmp_path):
    with pytest.raises(DatasetError, match="there is no such folder"):
        datasets.read_dfdc(tmp_path / "chunk")
    (tmp_path / "chunk.zip").write_text("")
    hint = f"`unmask unpack {tmp_path / 'chunk.zip'}`"
    for asked in (tmp_path / "chunk", tmp_path / "chunk.zip"):
        with pytest.raises(DatasetError, match="found a zip") as caught:
            datasets.read_dfdc(asked)
        assert hint in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="it is no folder"):
        datasets.read_dfdc(tmp_path / "file")


def test_a_folder_without_metadata_points_at_the_one_inside(tmp_path):
    (tmp_path / "chunk").mkdir()
    with pytest.raises(DatasetError, match="there is none"):
        datasets.read_dfdc(tmp_path / "chunk")
    write_chunk(tmp_path / "chunk" / "dfdc_train_part_0", {"a.mp4": REAL})
    with pytest.raises(DatasetError, match="its subfolder dfdc_train_part_0 holds one"):
        datasets.read_dfdc(tmp_path / "chunk")
    write_chunk(tmp_path / "chunk" / "dfdc_train_part_1", {"a.mp4": REAL})
    with pytest.raises(DatasetError, match="there is none"):
        datasets.read_dfdc(tmp_path / "chunk")


# Drawing


def test_a_draw_is_balanced_one_fake_a_source():
    entries = sources_with_both(20, fakes=5)
    drawn = datasets.draw(entries, max_real=None, fakes_per_real=1.0, seed=1)
    assert [entry for entry in drawn if entry.label == 0] == [e for e in entries if e.label == 0]
    fakes = Counter(entry.source_id for entry in drawn if entry.label == 1)
    assert fakes == Counter({entry.source_id: 1 for entry in entries})

    drawn = datasets.draw(entries, max_real=8, fakes_per_real=2.5, seed=1)
    chosen = {entry.source_id for entry in drawn if entry.label == 0}
    fakes = Counter(entry.source_id for entry in drawn if entry.label == 1)
    assert len(chosen) == 8
    assert fakes.keys() == chosen
    assert fakes.total() == 20
    assert set(fakes.values()) == {2, 3}


def test_a_draw_knows_neither_the_order_nor_the_other_videos():
    entries = sources_with_both(30, fakes=3)
    first = datasets.draw(entries, max_real=10, fakes_per_real=1.0, seed=1)
    for shuffle in range(5):
        shuffled = random.Random(shuffle).sample(entries, len(entries))
        assert datasets.draw(shuffled, max_real=10, fakes_per_real=1.0, seed=1) == first
    assert datasets.draw(entries, max_real=10, fakes_per_real=1.0, seed=2) != first
    # More of the same chunk: what was drawn, and thus cropped, stays.
    more = datasets.draw(entries, max_real=15, fakes_per_real=1.0, seed=1)
    assert {e.file for e in first if e.label == 0} < {e.file for e in more if e.label == 0}


def test_methods_are_drawn_alike():
    entries = sources_with_both(30, fakes=0) + [
        fake(f"{method}{number}", f"r{number:03}", method=method)
        for number in range(30)
        for method in ("blend", "swap", "voice")
        if method == "blend" or number % 2  # the others are rarer
    ]
    drawn = datasets.draw(entries, max_real=None, fakes_per_real=1.0, seed=3)
    methods = Counter(entry.method for entry in drawn if entry.label == 1)
    assert methods["blend"] >= 15  # the even sources have nothing else
    assert methods.total() == 30
    assert abs(methods["swap"] - methods["voice"]) <= 1

    drawn = datasets.draw(entries, max_real=None, fakes_per_real=2.0, seed=3)
    methods = Counter(entry.method for entry in drawn if entry.label == 1)
    assert methods == {"blend": 30, "swap": 15, "voice": 15}


def test_other_fakes_follow_when_those_of_the_drawn_run_out(caplog):
    entries = [real("r0"), real("r1"), fake("f0", "r0"), fake("x0", "x"), fake("x1", "x")]
    drawn = datasets.draw(entries, max_real=None, fakes_per_real=1.0, seed=1)
    assert fake("f0", "r0") in drawn
    assert len(drawn) == 4
    assert not warnings_in(caplog)
    assert len(datasets.draw(entries, max_real=None, fakes_per_real=3.0, seed=1)) == 5
    assert warnings_in(caplog) == ["asked for 6 fakes, the chunk lists 3: all are used"]


def test_a_draw_takes_at_least_one_fake():
    entries = sources_with_both(3, fakes=2)
    assert len(datasets.draw(entries, max_real=1, fakes_per_real=0.1, seed=1)) == 2


@pytest.mark.parametrize("entries", [[], [real("a")], [fake("a", "b")]])
def test_a_chunk_of_one_class_cannot_be_drawn(entries):
    with pytest.raises(DatasetError, match="one class only"):
        datasets.draw(entries, max_real=None, fakes_per_real=1.0, seed=1)


# Splitting


@pytest.mark.parametrize("seed", range(150))
def test_a_source_stands_on_one_side_and_each_side_has_both_classes(seed):
    rng = random.Random(seed)
    entries = [
        (real if label == 0 else fake)(f"v{source}_{number}", source=f"s{source}")
        for source in range(rng.randint(6, 60))
        for number, label in enumerate(rng.choice([[0], [1], [0, 1], [0, 0, 1], [1, 1]]))
    ]
    entries += [real(f"r{n}") for n in range(3)] + [fake(f"f{n}", f"x{n}") for n in range(3)]
    settings = raw(
        seed=seed, validation_ratio=rng.uniform(0.05, 0.4), test_ratio=rng.uniform(0.05, 0.4)
    )

    records = datasets.split_by_source(entries, settings)

    sides, classes = drawn_sides(records)
    assert all(len(found) == 1 for found in sides.values())
    assert classes == {split: {0, 1} for split in SPLITS}
    assert {record.file: record.label for record in records} == {
        entry.file: entry.label for entry in entries
    }
    shuffled = rng.sample(entries, len(entries))
    assert datasets.split_by_source(shuffled, settings) == records


def test_sources_are_shared_out_by_the_ratios_kind_by_kind():
    entries = sources_with_both(100)
    entries += [real(f"only{n}") for n in range(40)] + [fake(f"x{n}", f"x{n}") for n in range(60)]
    records = datasets.split_by_source(entries, raw(validation_ratio=0.2, test_ratio=0.1))
    sides, _ = drawn_sides(records)
    for start, count in (("r", 100), ("o", 40), ("x", 60)):
        kind = Counter(min(side) for source, side in sides.items() if source.startswith(start))
        for split, share in (("train", 0.7), ("validation", 0.2), ("test", 0.1)):
            assert abs(kind[split] - share * count) <= 2
    assert records != datasets.split_by_source(entries, raw(seed=2))


def test_small_chunks_serve_train_then_test_then_validation(caplog):
    # Two sources: no validation, and a word about it.
    _, classes = drawn_sides(datasets.split_by_source(sources_with_both(2), raw()))
    assert classes == {"train": {0, 1}, "test": {0, 1}}
    assert (
        "validation has 0 real and 0 fake videos: its metrics need both" in warnings_in(caplog)[-1]
    )

    # Three: one each, although 15 % of three is not half a source.
    sides, classes = drawn_sides(datasets.split_by_source(sources_with_both(3), raw()))
    assert sorted(min(side) for side in sides.values()) == sorted(SPLITS)
    assert classes == {split: {0, 1} for split in SPLITS}

    # No source has both classes, but pairs of sources do.
    apart = [real("a"), real("b"), fake("c", "c"), fake("d", "d")]
    _, classes = drawn_sides(datasets.split_by_source(apart, raw()))
    assert classes == {"train": {0, 1}, "test": {0, 1}}

    # The third source has one class: validation takes it rather than nothing.
    _, classes = drawn_sides(datasets.split_by_source([*sources_with_both(2), real("z")], raw()))
    assert classes == {"train": {0, 1}, "test": {0, 1}, "validation": {0}}

    with pytest.raises(DatasetError, match="test has 0 real and 0 fake videos"):
        datasets.split_by_source(sources_with_both(1), raw())


def test_a_ratio_of_zero_asks_for_no_such_split():
    records = datasets.split_by_source(sources_with_both(9), raw(validation_ratio=0.0))
    assert {record.split for record in records} == {"train", "test"}
    with pytest.raises(DatasetError, match=r"one class only: .* mend .*raw\.test_ratio"):
        datasets.split_by_source(sources_with_both(9), raw(test_ratio=0.0))


def own_split_chunk(validation="validation"):
    return [
        entry
        for number, split in enumerate(["train", "train", validation, "test"])
        for entry in (
            real(f"r{number}", split=split),
            fake(f"f{number}", f"r{number}", split=split),
        )
    ]


@pytest.mark.parametrize("word", ["validation", "val", "valid", "Validation"])
def test_the_chunk_s_own_split_is_kept(word):
    for seed in range(5):
        settings = raw(honour_split=True, seed=seed)
        records = datasets.split_by_source(own_split_chunk(word), settings)
        assert {record.video_id: record.split for record in records} == {
            "r0": "train", "f0": "train", "r1": "train", "f1": "train",
            "r2": "validation", "f2": "validation", "r3": "test", "f3": "test",
        }  # fmt: skip


def test_the_chunk_s_own_split_is_passed_over_when_asked():
    found = {
        tuple(
            record.split
            for record in datasets.split_by_source(own_split_chunk(), raw(seed=seed))
            if record.label == 0
        )
        for seed in range(20)
    }
    assert len(found) > 5


def test_an_own_split_without_all_three_is_drawn_anew(caplog):
    entries = own_split_chunk(validation="train")
    records = datasets.split_by_source(entries, raw(honour_split=True))
    assert {record.split for record in records} == set(SPLITS)
    assert records == datasets.split_by_source(entries, raw())
    assert warnings_in(caplog) == ["splits: drawn by source (the videos' own: test, train)"]


def test_an_own_split_with_other_words_is_refused():
    entries = [*own_split_chunk(), real("odd", split="public"), real("none", split="")]
    with pytest.raises(DatasetError, match=r"2 video.* odd.mp4 \(public\), none.mp4 \(none\)"):
        datasets.split_by_source(entries, raw(honour_split=True))
    datasets.split_by_source(entries, raw())


def test_an_own_split_that_leaks_is_refused():
    entries = [*own_split_chunk(), fake("leak", "r3", split="train")]
    with pytest.raises(DatasetError, match=r"1 source.* r3 \(train, test\)"):
        datasets.split_by_source(entries, raw(honour_split=True))
    datasets.split_by_source(entries, raw())


def record(name, label, split, *, source=None, method=None):
    return VideoRecord(
        name, f"{name}.mp4", label, source or name, method or ["real", "blend"][label], split
    )


def test_leaks_are_named_up_to_five():
    leaks = [
        record(f"v{number}{split}", 0, split, source=f"s{number}")
        for number in range(7)
        for split in ("validation", "train")
    ]
    with pytest.raises(DatasetError, match=r"7 source\(s\).* s4 .* and 2 more") as caught:
        datasets.check_splits(leaks)
    assert "s0 (train, validation)" in str(caught.value)
    assert "s5" not in str(caught.value)


@pytest.mark.parametrize("lacking", ["train", "test"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_split_of_one_class_is_refused(lacking, label):
    records = [record(f"{split}{n}", n, split) for split in SPLITS for n in (0, 1)]
    datasets.check_splits(records)
    missing = f"{lacking} has {int(label != 0)} real and {int(label != 1)} fake"
    with pytest.raises(DatasetError, match=f"one class only: {missing}"):
        datasets.check_splits(r for r in records if (r.split, r.label) != (lacking, label))


def test_no_videos_at_all_are_refused():
    with pytest.raises(DatasetError, match="one class only"):
        datasets.check_splits([])


def test_the_table_counts_videos_sources_and_methods():
    records = [
        record("a", 0, "train", source="p"),
        record("b", 0, "train", source="p"),
        record("c", 1, "train", source="p"),
        record("d", 1, "validation", method="a very long method"),
        record("e", 0, "test", method="still"),
    ]
    rows = [line.rsplit(maxsplit=4) for line in datasets.table(records).splitlines()]
    assert rows == [
        ["train", "validation", "test", "all"],
        ["videos", "3", "1", "1", "5"],
        ["sources", "1", "1", "1", "3"],
        ["real", "2", "0", "0", "2"],
        ["real: still", "0", "0", "1", "1"],
        ["fake: a very long method", "0", "1", "0", "1"],
        ["fake: blend", "1", "0", "0", "1"],
    ]
    assert len({len(line) for line in datasets.table(records).splitlines()}) == 1
    assert len(datasets.table([]).splitlines()) == 3


# Linking


@pytest.fixture
def chunk(tmp_path):
    names = ["a.mp4", "b.mp4", "c.mp4"]
    return write_chunk(tmp_path / "chunk", dict.fromkeys(names, REAL), without=["c.mp4"])


RECORDS = [record("a", 0, "train"), record("b", 0, "train"), record("c", 0, "train")]


def test_videos_are_hard_links_that_outlive_the_chunk(chunk, tmp_path, caplog):
    videos = tmp_path / "raw" / "videos"
    datasets.link_videos(RECORDS, chunk, videos)
    assert sorted(path.name for path in videos.iterdir()) == ["a.mp4", "b.mp4"]
    assert (videos / "a.mp4").stat().st_ino == (chunk / "a.mp4").stat().st_ino
    assert not (videos / "a.mp4").is_symlink()
    assert warnings_in(caplog) == [f"{chunk}: 1 videos without a file: c.mp4"]
    (chunk / "a.mp4").unlink()
    assert (videos / "a.mp4").read_text() == "a.mp4"


def test_linking_again_leaves_exactly_the_videos(chunk, tmp_path):
    videos = tmp_path / "videos"
    datasets.link_videos(RECORDS, chunk, videos)
    changed = (videos / "a.mp4").stat().st_ctime_ns
    datasets.link_videos(RECORDS, chunk, videos)
    assert (videos / "a.mp4").stat().st_ctime_ns == changed

    (videos / "b.mp4").unlink()
    (videos / "b.mp4").write_text("stale")
    (videos / "old.mp4").write_text("not asked for")
    (videos / "folder").mkdir()
    (videos / "folder" / "inside").write_text("")
    (videos / "c.mp4").symlink_to(tmp_path)
    datasets.link_videos(RECORDS, chunk, videos)
    assert {path.name: path.read_text() for path in videos.iterdir()} == {
        "a.mp4": "a.mp4", "b.mp4": "b.mp4",
    }  # fmt: skip
    datasets.link_videos(RECORDS[:1], chunk, videos)
    assert [path.name for path in videos.iterdir()] == ["a.mp4"]
    assert (chunk / "b.mp4").is_file()


def test_a_symbolic_link_in_the_chunk_is_followed(chunk, tmp_path):
    (tmp_path / "cache").write_text("cached")
    (chunk / "c.mp4").symlink_to(tmp_path / "cache")
    datasets.link_videos(RECORDS, chunk, tmp_path / "videos")
    assert not (tmp_path / "videos" / "c.mp4").is_symlink()
    assert (tmp_path / "videos" / "c.mp4").samefile(tmp_path / "cache")
    (chunk / "c.mp4").unlink()
    (chunk / "c.mp4").symlink_to("c.mp4")  # a link to itself is no file
    datasets.link_videos(RECORDS, chunk, tmp_path / "videos")
    assert len(list((tmp_path / "videos").iterdir())) == 2


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_videos_are_copied_where_links_are_not_allowed(chunk, tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    for _ in range(2):
        datasets.link_videos(RECORDS, chunk, tmp_path / "videos")
        assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == ["a.mp4", "b.mp4"]
    assert (tmp_path / "videos" / "a.mp4").read_text() == "a.mp4"
    assert not (tmp_path / "videos" / "a.mp4").samefile(chunk / "a.mp4")


def test_other_failures_to_link_are_not_hidden(chunk, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="broken disk"):
        datasets.link_videos(RECORDS, chunk, tmp_path / "videos")


@pytest.mark.parametrize("where", [".", "videos", ".."])
def test_a_chunk_is_never_emptied_into_itself(chunk, where):
    with pytest.raises(DatasetError, match="one lies in the other"):
        datasets.link_videos(RECORDS[:1], chunk, chunk / where)
    assert (chunk / "b.mp4").is_file()


# The stage


def test_the_stage_fills_videos_and_index(tmp_path, monkeypatch, caplog):
    metadata = {}
    for number in range(10):
        metadata[f"r{number}.mp4"] = REAL
        metadata[f"f{number}.mp4"] = {**FAKE, "original": f"r{number}.mp4"}
        metadata[f"g{number}.mp4"] = {**FAKE, "original": f"r{number}.mp4"}
    chunk = write_chunk(tmp_path / "chunk", metadata)
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["raw.py", str(chunk), str(tmp_path / "raw")])
    runpy.run_path("stages/raw.py")["main"]()

    records = read_index(tmp_path / "raw" / "index.csv")
    assert Counter(record.label for record in records) == {0: 10, 1: 10}
    assert sorted(record.file for record in records) == sorted(
        path.name for path in (tmp_path / "raw" / "videos").iterdir()
    )
    assert datasets.table(records) in caplog.messages[-1]
