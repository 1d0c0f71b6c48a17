"""Videos that are there twice, within a chunk and in two of them, under one label and under two."""

import logging
from pathlib import Path

import pytest

from unmask import params
from unmask.data import copies
from unmask.data.copies import Copies, Listing, Video, find_copies
from unmask.errors import DatasetError
from unmask.params import Raw
from unmask.records import Chunk, Fingerprint, Split, VideoRecord
from unmask.runtime.record_files import write_fingerprints

REFUSE = params.load().raw.model_copy(update={"contradictions": "refuse", "copies": "refuse"})
DROP = REFUSE.model_copy(update={"contradictions": "drop", "copies": "drop"})


def record(name: str, label: int, *, split: Split = "train", source: str = "") -> VideoRecord:
    return VideoRecord(name, f"{name}.mp4", label, source or name, ["real", "x"][label], split)


def listing(chunk: str, rows: dict[str, tuple[int, str, str]]) -> Listing:
    """Return a chunk of videos in train: a label, a file's content and its coded pictures."""
    records = [record(name, label) for name, (label, _, _) in rows.items()]
    prints = {
        name: Fingerprint(name, digest(file), "", (), digest(stream))
        for name, (_, file, stream) in rows.items()
    }
    return Listing(chunk, records, prints)


def digest(content: str) -> str:
    return {"": "", "empty": copies.EMPTY}.get(content, f"{content:0>64}")


def named(found: list[Copies]) -> list[str]:
    return [str(group) for group in found]


def test_one_file_is_found_whatever_it_is_called() -> None:
    found = find_copies(
        [listing("c", {"b": (0, "1", "a"), "a": (1, "1", "a"), "d": (0, "2", "b")})]
    )
    assert named(found) == ["c/a.mp4 FAKE = c/b.mp4 REAL (one file)"]
    assert found[0].contradict


def test_one_stream_in_two_files_is_found() -> None:
    found = find_copies([listing("c", {"a": (0, "1", "a"), "b": (0, "2", "a")})])
    assert named(found) == ["c/a.mp4 REAL = c/b.mp4 REAL (the same pictures in two files)"]
    assert not found[0].contradict


def test_files_in_which_nothing_decodes_are_copies_only_as_files() -> None:
    rows = {"a": (0, "1", ""), "b": (1, "2", ""), "c": (1, "1", "")}
    assert named(find_copies([listing("c", rows)])) == ["c/a.mp4 REAL = c/c.mp4 FAKE (one file)"]


def test_empty_files_are_no_copies() -> None:
    assert not find_copies([listing("c", {"a": (0, "empty", ""), "b": (1, "empty", "")})])


def test_videos_without_fingerprints_are_no_copies() -> None:
    assert not find_copies([Listing("c", [record("a", 0), record("b", 1)])])


def test_copies_are_found_across_chunks() -> None:
    chunks = [listing(name, {"a": (label, "1", "a")}) for name, label in (("c", 0), ("d", 1))]
    assert named(find_copies(chunks)) == ["c/a.mp4 REAL = d/a.mp4 FAKE (one file)"]


def test_contradictions_are_refused_by_name_or_dropped_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = listing("c", {"a": (0, "1", "a"), "b": (1, "1", "a"), "e": (0, "1", "a")})
    second = listing("d", {"a": (0, "2", "b"), "f": (1, "3", "a"), "g": (1, "4", "c")})
    asked = r"one data set of c, d; 1 video\(s\) are labelled both REAL and FAKE: c/a.mp4 REAL = "
    with pytest.raises(DatasetError, match=asked) as caught:
        copies.check_copies([first, second], REFUSE)
    assert "= d/f.mp4 FAKE (the same pictures in two files)" in str(caught.value)
    assert "raw.contradictions to drop" in str(caught.value)
    left = copies.check_copies([first, second], DROP)
    assert [[each.video_id for each in chunk.records] for chunk in left] == [[], ["a", "g"]]
    assert "4 video(s) left out, as the same pictures are labelled both" in caplog.text


def test_repeats_are_refused_by_name_or_dropped_but_the_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = listing("c", {"b": (1, "1", "a"), "a": (1, "1", "a")})
    second = listing("d", {"f": (1, "3", "a"), "g": (1, "4", "c")})
    with pytest.raises(DatasetError, match=r"1 video\(s\) would count more than once: c/a.mp4 FAK"):
        copies.check_copies([first, second], REFUSE)
    left = copies.check_copies([first, second], DROP)
    assert [[each.video_id for each in chunk.records] for chunk in left] == [["a"], ["g"]]
    assert "2 video(s) left out, as a copy of each is there under the same label" in caplog.text


def test_a_copy_on_another_side_is_a_leak_and_no_repeat() -> None:
    videos = [Video("c", record(name, 0, split=split)) for name, split in
              (("a", "train"), ("b", "test"), ("d", "test"))]  # fmt: skip
    group = Copies(tuple(videos), copies.ONE_FILE)
    assert copies.repeats([group]) == [Copies(tuple(videos[1:]), copies.ONE_FILE)]
    assert not copies.contradictions([group])


def test_five_groups_are_named_and_the_rest_counted() -> None:
    rows = {f"{kind}{n}": (int(kind == "f"), str(n), "") for n in range(1, 8) for kind in "rf"}
    with pytest.raises(
        DatasetError, match=r"7 video\(s\).*f5.mp4 FAKE = c/r5.mp4 .* and 2 more[.]"
    ):
        copies.check_copies([listing("c", rows)], REFUSE)


def chunk_of(chunk: Listing, folder: Path) -> Chunk:
    assert chunk.fingerprints is not None
    write_fingerprints(folder / chunk.chunk / "fingerprints.csv", chunk.fingerprints.values())
    return Chunk(chunk.chunk, list(chunk.records), {}, folder)


@pytest.mark.parametrize("settings", [DROP])
def test_stages_read_what_the_check_leaves(settings: Raw, tmp_path: Path) -> None:
    listings = [
        listing("c", {"a": (0, "1", "a"), "b": (0, "2", "b"), "e": (0, "9", "")}),
        listing("d", {"a": (1, "7", "a"), "b": (0, "8", "b"), "e": (0, "5", "")}),
    ]
    chunks = [chunk_of(each, tmp_path) for each in listings]
    settled = [chunk.records for chunk in copies.settle(chunks, tmp_path)]
    assert [[r.video_id for r in records] for records in settled] == [["b", "e"], ["e"]]
    assert settled == [list(each.records) for each in copies.check_copies(listings, settings)]


def test_a_chunk_without_fingerprints_is_taken_as_it_is(tmp_path: Path) -> None:
    chunk = Chunk("c", [record("a", 0), record("b", 1)], {}, tmp_path)
    assert copies.settle([chunk], tmp_path) == [chunk]


def test_one_person_of_two_chunks_has_one_spelling(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = Chunk("c", [record("a", 0, source="Ann "), record("b", 1, source="ann")], {}, tmp_path)
    second = Chunk("d", [record("a", 0, source="ann"), record("b", 1, source="bob")], {}, tmp_path)
    settled = copies.settle([first, second], tmp_path)
    assert [[r.source_id for r in chunk.records] for chunk in settled] == [
        ["ann", "ann"], ["ann", "bob"]
    ]  # fmt: skip
    assert caplog.messages == ["'Ann ' and 'ann' are taken for one person or recording, 'ann'"]
