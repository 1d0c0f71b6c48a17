"""Leaks between what was trained on and a benchmark, planted one at a time."""

import csv
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.test_leakage import clean, flip, record
from unmask.data.copies import Listing
from unmask.data.seen_in_training import count_shared, find_shared, settle, write_shared
from unmask.errors import DatasetError
from unmask.params import Benchmark

REFUSE = Benchmark(videos="all", max_real=None, fakes_per_real=None, shared="refuse")
LEAVE_OUT = REFUSE.model_copy(update={"shared": "leave_out"})
STUDIO, CITY = clean("studio"), clean("city")


def benchmark() -> Listing:
    """Return a benchmark whose videos have nothing to do with the two chunks."""
    own = clean("wild")
    return replace(own, records=[replace(r, split="test") for r in own.records])


def with_print(listing: Listing, video_id: str, **changes: object) -> Listing:
    assert listing.fingerprints is not None
    prints = dict(listing.fingerprints)
    prints[video_id] = replace(prints[video_id], **changes)
    return replace(listing, fingerprints=prints)


def with_record(listing: Listing, video_id: str, **changes: object) -> Listing:
    return replace(
        listing,
        records=[replace(r, **changes) if r.video_id == video_id else r for r in listing.records],
    )


def said(benchmark: Listing) -> list[tuple[str, str, str]]:
    found = find_shared([STUDIO, CITY], benchmark, 0.08)
    return [(each.record.video_id, each.kind, each.other) for each in found]


def picture_of(listing: Listing, video_id: str) -> str:
    assert listing.fingerprints is not None
    return listing.fingerprints[video_id].pictures[0]


def test_what_shares_nothing_passes() -> None:
    assert said(benchmark()) == []


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_same_file_is_found(split: str) -> None:
    assert CITY.fingerprints is not None
    sha256 = CITY.fingerprints[f"city_{split}1"].sha256
    planted = with_print(benchmark(), "wild_test0", sha256=sha256)
    assert said(planted) == [("wild_test0", "file", f"city/city_{split}1.mp4 ({split})")]


def test_the_same_pictures_are_found_up_to_the_limit() -> None:
    shown = picture_of(STUDIO, "studio_train0")
    near = with_print(benchmark(), "wild_train1", pictures=(flip(shown, 20),))
    expected = "studio/studio_train0.mp4 (train), 20 bits differ"
    assert said(near) == [("wild_train1", "pictures", expected)]
    assert said(with_print(benchmark(), "wild_train1", pictures=(flip(shown, 21),))) == []


def test_somebody_who_was_trained_on_is_found_however_the_name_is_written() -> None:
    planted = with_record(benchmark(), "wild_test1", donors=("nobody", " Studio_Train "))
    assert said(planted) == [("wild_test1", "identity", "studio_train (studio: train)")]


def test_of_a_video_that_shares_several_things_the_file_is_named() -> None:
    assert STUDIO.fingerprints is not None
    found = STUDIO.fingerprints["studio_train0"]
    planted = with_print(benchmark(), "wild_test0", sha256=found.sha256, pictures=found.pictures)
    planted = with_record(planted, "wild_test0", source_id="studio_train")
    assert [kind for _, kind, _ in said(planted)] == ["file"]


def test_the_test_videos_of_a_chunk_were_not_trained_on() -> None:
    assert STUDIO.fingerprints is not None
    found = STUDIO.fingerprints["studio_test0"]
    planted = with_print(benchmark(), "wild_test0", sha256=found.sha256, pictures=found.pictures)
    assert said(with_record(planted, "wild_test0", source_id="studio_test")) == []


def planted_all() -> Listing:
    assert STUDIO.fingerprints is not None
    planted = with_print(
        benchmark(), "wild_test0", sha256=STUDIO.fingerprints["studio_train1"].sha256
    )
    shown = picture_of(CITY, "city_train0")
    planted = with_print(planted, "wild_test1", pictures=(flip(shown, 3),))
    return with_record(planted, "wild_train0", source_id="city_validation")


def test_each_is_refused_by_name(tmp_path: Path) -> None:
    planted = planted_all()
    shared = find_shared([STUDIO, CITY], planted, 0.08)
    with pytest.raises(DatasetError) as caught:
        settle(shared, planted, REFUSE, table=tmp_path / "shared.csv")
    lines = str(caught.value).splitlines()
    assert lines[1:4] == [
        "  1 video(s) are files that were trained on: wild_test0.mp4 = studio/studio_train1.mp4 "
        "(train)",
        "  1 video(s) look like one that was trained on: wild_test1.mp4 = city/city_train0.mp4 "
        "(train), 3 bits differ",
        "  1 video(s) show a person or recording that was trained on: wild_train0.mp4 = "
        "city_validation (city: validation)",
    ]
    assert "shared.csv lists all of them" in lines[4]


def test_or_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    planted = planted_all()
    shared = find_shared([STUDIO, CITY], planted, 0.08)
    table = tmp_path / "shared.csv"
    write_shared(table, shared)
    with caplog.at_level(logging.WARNING):
        kept = settle(shared, planted, LEAVE_OUT, table=table)
    assert "wild: 3 of 6 videos left out" in caplog.text
    assert [r.video_id for r in kept] == ["wild_train1", "wild_validation0", "wild_validation1"]
    assert count_shared(table) == {"file": 1, "pictures": 1, "identity": 1}
    with table.open(newline="") as lines:
        assert next(csv.DictReader(lines)) == {
            "video_id": "wild_train0", "file": "wild_train0.mp4", "shares": "identity",
            "with": "city_validation (city: validation)",
        }  # fmt: skip


def test_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    planted = benchmark()
    records = [record(r.video_id, r.label, "test", source="city_train") for r in planted.records]
    planted = replace(planted, records=records)
    shared = find_shared([CITY], planted, 0.08)
    with pytest.raises(DatasetError, match="of its 6 videos none is left"):
        settle(shared, planted, LEAVE_OUT, table=tmp_path / "shared.csv")


def test_a_table_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="dvc repro"):
        count_shared(tmp_path / "shared.csv")
