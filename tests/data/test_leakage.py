"""Leaks of every kind, planted one at a time, and the commands that must find them."""

import doctest
import hashlib
import json
import logging
import random
import runpy
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from unmask.cli import main
from unmask.data import leakage
from unmask.data.copies import Listing
from unmask.errors import DatasetError
from unmask.params import Raw
from unmask.records import SPLITS, Fingerprint, VideoRecord
from unmask.runtime.record_files import (
    read_fingerprints,
    read_index,
    write_fingerprints,
    write_index,
)

ROOT = Path(__file__).parents[2]
SETTINGS = Raw(
    max_real=None, fakes_per_real=1.0, honour_split=True, validation_ratio=0.15, test_ratio=0.15,
    alike_ratio=0.08, contradictions="refuse", copies="drop", seed=1,
)  # fmt: skip


def record(name, label, split, *, source=None, method=None, donors=()):
    method = method or ["real", "blend"][label]
    return VideoRecord(name, f"{name}.mp4", label, source or name, method, split, donors)


def clean(chunk="chunk"):
    """Return a chunk of a real video and its fake on each side, with random fingerprints."""
    records = [
        record(f"{chunk}_{split}{label}", label, split, source=f"{chunk}_{split}")
        for split in SPLITS
        for label in (0, 1)
    ]
    rng = random.Random(chunk)
    prints = {}
    for each in records:
        sha256, *pictures = (rng.randbytes(32).hex() for _ in range(4))
        prints[each.video_id] = Fingerprint(each.video_id, sha256, "", tuple(pictures))
    return Listing(chunk, records, prints)


def flip(picture, bits):
    """Return a hash that differs in some bits."""
    places = random.Random(bits).sample(range(256), bits)
    return f"{int(picture, 16) ^ sum(1 << place for place in places):064x}"


def with_print(listing, video_id, **changes):
    changed = replace(listing.fingerprints[video_id], **changes)
    return replace(listing, fingerprints={**listing.fingerprints, video_id: changed})


def with_records(listing, change):
    return replace(listing, records=[change(each) for each in listing.records])


def test_docstring_examples_hold():
    result = doctest.testmod(leakage)
    assert result.attempted > 0
    assert result.failed == 0


def test_clean_chunks_pass():
    leakage.check([clean("a"), clean("b")], SETTINGS)
    assert leakage.find_leaks([clean("a"), clean("b")], SETTINGS) == leakage.Leaks()


# Identities


def test_a_source_on_two_sides_is_named():
    listing = clean()
    listing.records.append(record("odd", 1, "train", source="chunk_test"))
    with pytest.raises(DatasetError, match=r"on two sides: chunk_test \(train, test\)\n") as caught:
        leakage.check([listing], SETTINGS)
    assert "raw.honour_split" in str(caught.value)


def test_a_donor_on_two_sides_is_named():
    listing = clean()
    listing.records.append(
        record("odd", 1, "validation", source="new", donors=("other", "chunk_train"))
    )
    with pytest.raises(DatasetError, match=r"on two sides: chunk_train \(train, validation\)\n"):
        leakage.check([listing], SETTINGS)


def test_an_identity_is_followed_across_chunks():
    first, second = clean("a"), clean("b")
    second.records.append(record("odd", 0, "test", source="a_train"))
    leakage.check([second], SETTINGS)
    with pytest.raises(
        DatasetError, match=r"splits of a, b .*\n.*: a_train \(a: train, b: test\)\n"
    ):
        leakage.check([first, second], SETTINGS)


def test_five_leaks_of_a_kind_are_named_and_the_rest_counted():
    listing = clean()
    listing.records.extend(
        record(f"v{number}{split}", 0, split, source=f"s{number}")
        for number in range(7)
        for split in ("validation", "train")
    )
    with pytest.raises(DatasetError, match=r"7 source\(s\).* s4 .* and 2 more") as caught:
        leakage.check([listing], SETTINGS)
    assert "s0 (train, validation)" in str(caught.value)
    assert "s5" not in str(caught.value)


@pytest.mark.parametrize("spelling", ["A_TRAIN", " a_train", "a_train\u200b"])
def test_an_identity_in_another_spelling_is_the_same(spelling):
    first, second = clean("a"), clean("b")
    second.records.append(record("odd", 0, "test", source=spelling))
    with pytest.raises(DatasetError, match=r"a_train \(a: train, b: test\)\n"):
        leakage.check([first, second], SETTINGS)


# Classes


@pytest.mark.parametrize("lacking", SPLITS)
@pytest.mark.parametrize("label", [0, 1])
def test_a_split_of_one_class_is_refused(lacking, label):
    rest = [r for r in clean().records if (r.split, r.label) != (lacking, label)]
    missing = f"{lacking}: {int(label != 0)} real and {int(label != 1)} fake"
    with pytest.raises(DatasetError, match=rf"1 split\(s\) that lack a class: chunk, {missing}"):
        leakage.check([Listing("chunk", rest)], SETTINGS)


def test_every_chunk_needs_both_classes_on_every_side():
    with pytest.raises(DatasetError, match=r"3 split\(s\).* b, train: 0 real and 0 fake;"):
        leakage.check([clean("a"), Listing("b", [])], SETTINGS)


def test_where_no_fakes_are_asked_for_real_videos_will_do():
    real = [r for r in clean().records if not r.label]
    settings = SETTINGS.model_copy(update={"fakes_per_real": 0.0})
    leakage.check([Listing("chunk", real)], settings)
    with pytest.raises(DatasetError, match="chunk, test: 0 real and 0 fake"):
        leakage.check([Listing("chunk", [r for r in real if r.split != "test"])], settings)


def test_a_video_without_a_file_makes_no_class():
    listing = clean()
    prints = {name: row for name, row in listing.fingerprints.items() if name != "chunk_test0"}
    complaint = "chunk, test: 0 real and 1 fake whose file is there\n.*videos of more sources[.]"
    with pytest.raises(DatasetError, match=complaint):
        leakage.check([replace(listing, fingerprints=prints)], SETTINGS)
    with pytest.raises(DatasetError, match="chunk, train: 0 real and 0 fake whose"):
        leakage.check([replace(listing, fingerprints={})], SETTINGS)
    leakage.check([replace(listing, fingerprints=None)], SETTINGS)


# Files and pictures


def test_the_same_file_on_two_sides_is_named():
    listing = clean()
    sha256 = listing.fingerprints["chunk_train0"].sha256
    listing = with_print(listing, "chunk_test0", sha256=sha256, pictures=())
    with pytest.raises(DatasetError) as caught:
        leakage.check([listing], SETTINGS)
    assert (
        "1 file(s) on two sides: chunk/chunk_test0.mp4 (test) and chunk/chunk_train0.mp4 (train)\n"
        in str(caught.value)
    )
    assert "look like" not in str(caught.value)


def test_empty_files_are_not_the_same_file():
    listing = clean()
    empty = hashlib.sha256(b"").hexdigest()
    for name in ("chunk_train0", "chunk_test0"):
        listing = with_print(listing, name, sha256=empty, pictures=())
    leakage.check([listing], SETTINGS)


@pytest.mark.parametrize(
    ("first", "second"), [("train", "test"), ("train", "validation"), ("test", "validation")]
)
def test_one_picture_on_two_sides_is_named_with_its_bits(first, second):
    listing = clean()
    picture = listing.fingerprints[f"chunk_{first}0"].pictures[1]
    own = listing.fingerprints[f"chunk_{second}0"].pictures
    listing = with_print(listing, f"chunk_{second}0", pictures=(own[0], flip(picture, 20), own[1]))
    with pytest.raises(DatasetError) as caught:
        leakage.check([listing], SETTINGS)
    assert (
        f"1 video(s) that look like one on another side: chunk/chunk_{second}0.mp4 ({second}) and "
        f"chunk/chunk_{first}0.mp4 ({first}), 20 bits differ\n" in str(caught.value)
    )


def test_the_ratio_draws_the_line():
    for bits, ratio, is_found in [(20, 0.08, True), (21, 0.08, False), (0, 0.0, True),
                                  (1, 0.0, False), (51, 0.2, True), (52, 0.2, False)]:  # fmt: skip
        listing = clean()
        picture = flip(listing.fingerprints["chunk_train0"].pictures[2], bits)
        listing = with_print(listing, "chunk_validation1", pictures=(picture,))
        assert bool(list(leakage.find_twins([listing], ratio))) == is_found


def test_a_hash_and_its_negative_are_no_twins():
    """All 256 bits differ: in a byte that would count as none."""
    listing = clean()
    picture = flip(listing.fingerprints["chunk_train0"].pictures[0], 256)
    assert not list(
        leakage.find_twins([with_print(listing, "chunk_test0", pictures=(picture,))], 0.08)
    )


def test_videos_without_pictures_are_like_no_other():
    listing = clean()
    for name in list(listing.fingerprints):
        listing = with_print(listing, name, pictures=())
    leakage.check([listing], SETTINGS)


def test_pictures_are_compared_across_chunks():
    first, second = clean("a"), clean("b")
    picture = first.fingerprints["a_train1"].pictures[0]
    second = with_print(second, "b_test1", pictures=(picture,))
    leakage.check([second], SETTINGS)
    with pytest.raises(DatasetError, match=r"b/b_test1.mp4 \(test\) and a/a_train1.mp4 \(train\)"):
        leakage.check([first, second], SETTINGS)


def test_a_fake_is_not_compared_with_the_video_it_was_made_from():
    """That it stands on another side is said once, as a source on two sides."""
    listing = clean()
    picture = listing.fingerprints["chunk_train0"].pictures[0]
    listing = with_print(listing, "chunk_test1", pictures=(picture,))
    listing = with_records(
        listing,
        lambda r: replace(r, source_id="chunk_train") if r.video_id == "chunk_test1" else r,
    )
    found = leakage.find_leaks([listing], SETTINGS)
    assert found == leakage.Leaks(identities=("chunk_train (train, test)",))


def test_twins_are_those_that_a_plain_loop_finds():
    """More hashes than fit into a tile, against a loop over all pairs."""
    rng = random.Random(3)
    base = [rng.randbytes(32).hex() for _ in range(200)]
    records, prints = [], {}
    for number in range(1200):
        name = f"v{number:04}"
        records.append(record(name, number % 2, SPLITS[number % 3]))
        pictures = tuple(flip(rng.choice(base), rng.randrange(0, 60, 2)) for _ in range(3))
        prints[name] = Fingerprint(name, rng.randbytes(32).hex(), "", pictures)
    found = {
        twins.first.record.video_id: twins.differing_bits
        for twins in leakage.find_twins([Listing("chunk", records, prints)], 0.02)
    }

    earlier = {"train": [], "test": ["train"], "validation": ["train", "test"]}
    numbers = {name: [int(p, 16) for p in each.pictures] for name, each in prints.items()}
    expected = {}
    for each in records:
        others = [p for r in records if r.split in earlier[each.split] for p in numbers[r.video_id]]
        bits = min(
            ((mine ^ other).bit_count() for mine in numbers[each.video_id] for other in others),
            default=256,
        )
        if bits <= 5:
            expected[each.video_id] = bits
    assert found == expected
    assert 50 < len(found) < 1000


# The table


def test_the_table_counts_videos_sources_and_methods():
    records = [
        record("a", 0, "train", source="p"),
        record("b", 0, "train", source="p"),
        record("c", 1, "train", source="p"),
        record("d", 1, "validation", method="a very long method"),
        record("e", 0, "test", method="still"),
    ]
    rows = [line.rsplit(maxsplit=4) for line in leakage.table(records).splitlines()]
    assert rows == [
        ["train", "validation", "test", "all"],
        ["videos", "3", "1", "1", "5"],
        ["sources", "1", "1", "1", "3"],
        ["real", "2", "0", "0", "2"],
        ["real: still", "0", "0", "1", "1"],
        ["fake: a very long method", "0", "1", "0", "1"],
        ["fake: blend", "1", "0", "0", "1"],
    ]
    assert len({len(line) for line in leakage.table(records).splitlines()}) == 1
    assert len(leakage.table([]).splitlines()) == 3


# The command


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with params of two chunks and what the raw stage wrote of them."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values | {"chunks": ["a", "b"]}))
    for name in ("a", "b"):
        write_listing(tmp_path, clean(name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_listing(project, listing):
    folder = project / "raw" / listing.chunk
    write_index(folder / "index.csv", listing.records)
    write_fingerprints(folder / "fingerprints.csv", listing.fingerprints.values())


@pytest.mark.usefixtures("project")
def test_check_prints_a_table_of_each_chunk_and_of_all():
    result = CliRunner().invoke(main.main, ["check"])
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == "no leaks found in 12 videos of 2 chunk(s)"
    assert [line.split() for line in result.output.splitlines() if line.startswith("videos")] == [
        ["videos", "2", "2", "2", "6"],
        ["videos", "2", "2", "2", "6"],
        ["videos", "4", "4", "4", "12"],
    ]


def test_check_fails_by_name(project):
    listing = clean("b")
    sha256 = clean("a").fingerprints["a_train0"].sha256
    write_listing(project, with_print(listing, "b_test0", sha256=sha256))
    result = CliRunner().invoke(main.main, ["check"])
    assert result.exit_code == 1
    assert (
        "1 file(s) on two sides: b/b_test0.mp4 (test) and a/a_train0.mp4 (train)" in result.output
    )
    assert "no leaks found" not in result.output


@pytest.mark.parametrize("label", [0, 1])
def test_check_and_training_know_copies_of_two_chunks(project, monkeypatch, label, caplog):
    """One label: it counts once. Two: refused by name, or both go."""
    listing = clean("b")
    one = clean("a").fingerprints["a_train0"]
    changed = with_print(listing, f"b_train{label}", sha256=one.sha256, pictures=())
    write_listing(project, changed)
    result = CliRunner().invoke(main.main, ["check"])
    if label:
        assert result.exit_code == 1
        assert "both REAL and FAKE: a/a_train0.mp4 REAL = b/b_train1.mp4 FAKE (one" in result.output
        monkeypatch.setattr(sys, "argv", ["train.py", "raw", "faces", "model"])
        with pytest.raises(DatasetError, match="both REAL and FAKE: a/a_train0"):
            runpy.run_path(str(ROOT / "stages/train.py"))["main"]()
    else:
        assert "b, train: 0 real and 1 fake" in result.output  # what is left of that chunk's side
        assert "a/a_train0.mp4 REAL = b/b_train0.mp4 REAL (one file)" in caplog.text


def test_check_says_what_to_run_first(project):
    (project / "raw/b/fingerprints.csv").unlink()
    result = CliRunner().invoke(main.main, ["check"])
    assert result.exit_code == 1
    assert "b/fingerprints.csv" in result.output
    assert "dvc repro" in result.output


def test_training_does_not_start_on_chunks_that_share_a_person(project, monkeypatch):
    listing = clean("b")
    listing.records.append(record("odd", 0, "test", source="a_train"))
    write_listing(project, listing)
    arguments = ["train.py", "raw", "faces", "model"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(DatasetError, match=r"a_train \(a: train, b: test\)"):
        runpy.run_path(str(ROOT / "stages/train.py"))["main"]()


# The stage


def run_stage(project, monkeypatch, chunk):
    monkeypatch.setattr(sys, "argv", ["raw.py", str(chunk), "raw/new"])
    monkeypatch.setattr("unmask.cli.common.workers", lambda: 1)
    runpy.run_path(str(ROOT / "stages/raw.py"))["main"]()
    return read_index(project / "raw/new/index.csv")


def write_chunk(folder, *, own_splits):
    """Write a chunk of 20 sources, a real video and two fakes each; files hold their names."""
    rows = {}
    for number in range(20):
        split = SPLITS[number % 3] if own_splits else "train"
        rows[f"r{number}.mp4"] = {"label": "REAL", "split": split}
        for kind in "fg":
            fake = {"label": "FAKE", "split": split, "original": f"r{number}.mp4"}
            rows[f"{kind}{number}.mp4"] = fake
    folder.mkdir()
    for name in rows:
        (folder / name).write_text(name)
    (folder / "metadata.json").write_text(json.dumps(rows))
    return folder


def test_the_stage_writes_videos_fingerprints_and_index(project, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    chunk = write_chunk(project / "chunk", own_splits=False)
    records = run_stage(project, monkeypatch, chunk)
    assert Counter(each.label for each in records) == {0: 20, 1: 20}
    videos = sorted(path.name for path in (project / "raw/new/videos").iterdir())
    assert videos == sorted(each.file for each in records)
    found = read_fingerprints(project / "raw/new/fingerprints.csv")
    assert found.keys() == {each.video_id for each in records}
    assert leakage.table(records) in caplog.messages[-1]


def test_the_stage_brings_the_same_file_to_one_side(project, monkeypatch):
    chunk = write_chunk(project / "chunk", own_splits=False)
    before = {r.source_id: r.split for r in run_stage(project, monkeypatch, chunk)}
    trained, tested = (
        min(n for n, split in before.items() if split == s) for s in ("train", "test")
    )
    (chunk / f"{tested}.mp4").write_text(f"{trained}.mp4")
    after = {r.source_id: r.split for r in run_stage(project, monkeypatch, chunk)}
    assert after == before | {tested: "train"}


def test_the_stage_refuses_own_splits_that_share_a_file(project, monkeypatch):
    chunk = write_chunk(project / "chunk", own_splits=True)
    run_stage(project, monkeypatch, chunk)
    (chunk / "r1.mp4").write_text("r0.mp4")
    with pytest.raises(DatasetError, match=r"new/r1.mp4 \(validation\) and new/r0.mp4 \(train\)"):
        run_stage(project, monkeypatch, chunk)
