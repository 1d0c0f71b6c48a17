"""Chunks made by hand: what is read from them, and how their files are linked."""

import errno
import json
import logging
import os

import pytest

from unmask import datasets
from unmask.datasets import Entry
from unmask.errors import DatasetError
from unmask.records import VideoRecord

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


def warnings_in(caplog):
    return [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]


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


# Linking


@pytest.fixture
def chunk(tmp_path):
    names = ["a.mp4", "b.mp4", "c.mp4"]
    return write_chunk(tmp_path / "chunk", dict.fromkeys(names, REAL), without=["c.mp4"])


RECORDS = [VideoRecord(name, f"{name}.mp4", 0, name, "real", "train") for name in "abc"]


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
