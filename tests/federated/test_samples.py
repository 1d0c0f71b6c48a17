"""From chunks to an organisation's samples and back to videos: nothing is lost, split or mixed."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from federated_small import paint_chunk

from unmask.errors import DatasetError
from unmask.federated.samples import (
    ABOUT,
    FILES,
    MANIFEST,
    PAINTED,
    Material,
    cropped,
    deal,
    make_samples,
    read_manifest,
    read_videos,
    uncropped,
)
from unmask.records import VideoRecord
from unmask.runtime.record_files import write_index

ORGS = ["north", "south"]


@pytest.fixture(scope="module")
def chunk(tmp_path_factory):
    return paint_chunk(tmp_path_factory.mktemp("painted"), 12)


def records_of(*rows):
    """Return records of (video, label, source, split, donors)."""
    return [
        VideoRecord(video, f"{video}.mp4", label, source, "m" if label else "real", split, donors)
        for video, label, source, split, donors in rows
    ]


def whole(records, tmp_path):
    return Material("c", records, tmp_path, None, None)


def pairs(*sources, split):
    return [
        row
        for source in sources
        for row in ((f"{source}r", 0, source, split, ()), (f"{source}f", 1, source, split, ()))
    ]


def folders_of(home, samples):
    return [home / sample.side / sample.name for sample in samples]


def test_everybody_gets_as_much_and_nothing_twice(chunk):
    dealt = deal([cropped(chunk, PAINTED)], ORGS)
    got = {name: [r for _, own in groups for r in own] for name, groups in dealt.items()}
    assert sorted(r.video_id for own in got.values() for r in own) == sorted(
        record.video_id for record in chunk.records
    )
    for own in got.values():
        for split in ("train", "validation", "test"):
            assert [r.label for r in own if r.split == split].count(1) == 2
    assert not {r.source_id for r in got["north"]} & {r.source_id for r in got["south"]}


def test_who_appears_together_stays_together(tmp_path):
    swaps = [("swap1", 1, "a", "train", ("b",)), ("swap2", 1, "c", "train", ("b",))]
    rows = [*pairs("a", "b", "c", "d", split="train"), *swaps]
    rows += [*pairs("e", "f", split="validation"), *pairs("g", "h", split="test")]
    dealt = deal([whole(records_of(*rows), tmp_path)], ORGS)
    homes = {r.source_id: name for name, groups in dealt.items() for _, own in groups for r in own}
    assert homes["a"] == homes["b"] == homes["c"] != homes["d"]


def test_a_person_in_two_spellings_stays_with_one_organisation(tmp_path):
    rows = [*pairs("a", "b", "d", split="train"), ("again", 0, "A ", "train", ())]
    rows += [*pairs("e", "f", split="validation"), *pairs("g", "h", split="test")]
    dealt = deal([whole(records_of(*rows), tmp_path)], ORGS)
    homes = {r.video_id: name for name, groups in dealt.items() for _, own in groups for r in own}
    assert homes["again"] == homes["ar"] == homes["af"]


def test_two_owners_spellings_of_a_person_have_one_digest(tmp_path):
    samples = []
    for owner, source in (("north", "ann"), ("south", "\ufeffAnn ")):
        (tmp_path / owner).mkdir()
        material = whole(records_of((owner, 0, source, "train", ())), tmp_path)
        samples += make_samples(owner, [(material, material.records)], tmp_path / "out")
    assert samples[0].identities == samples[1].identities


def test_a_person_on_two_sides_is_refused(tmp_path):
    rows = [*pairs("a", split="train"), ("swap", 1, "b", "test", ("a",))]
    with pytest.raises(DatasetError, match="a and who appears with it are in test, train"):
        deal([whole(records_of(*rows), tmp_path)], ORGS)


def test_an_organisation_without_a_class_is_refused(tmp_path):
    rows = [*pairs("a", "b", split="train"), *pairs("c", "d", split="validation")]
    rows += pairs("e", split="test")
    with pytest.raises(DatasetError, match="split of south; test has 0 real and 0 fake"):
        deal([whole(records_of(*rows), tmp_path)], ORGS)


def test_samples_are_links_and_are_kept(chunk, tmp_path):
    dealt = deal([cropped(chunk, PAINTED)], ORGS)
    samples = make_samples("north", dealt["north"], tmp_path)
    assert {sample.side for sample in samples} == {"train", "test"}
    assert len({sample.name for sample in samples}) == len(samples) == 6
    videos = read_videos(folders_of(tmp_path / "north", samples))
    for row in videos.rows:
        [path] = row.paths
        assert path.samefile(chunk.faces_dir / path.name)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("files/*")}
    text = (tmp_path / "north" / MANIFEST).read_text()
    assert make_samples("north", dealt["north"], tmp_path) == samples
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("files/*")} == before
    assert (tmp_path / "north" / MANIFEST).read_text() == text
    assert read_manifest(tmp_path / "north") == samples


def test_another_label_makes_another_sample(chunk, tmp_path):
    dealt = deal([cropped(chunk, PAINTED)], ORGS)["north"]
    changed = [(m, [replace(r, method="other") for r in own]) for m, own in dealt]
    names = {sample.name for sample in make_samples("north", dealt, tmp_path)}
    assert not names & {sample.name for sample in make_samples("north", changed, tmp_path)}


def test_one_chunk_named_twice_is_refused(chunk, tmp_path):
    dealt = deal([cropped(chunk, PAINTED)], ["north"])["north"]
    with pytest.raises(DatasetError, match="would be there twice"):
        make_samples("north", [*dealt, *dealt], tmp_path)


def test_a_crop_that_is_missing_is_an_error(chunk, tmp_path):
    lost = shutil.copytree(chunk.faces_dir, tmp_path / "faces")
    (lost / "real3_0.mp4").unlink()
    dealt = deal([cropped(replace(chunk, faces_dir=lost), PAINTED)], ["north"])["north"]
    with pytest.raises(DatasetError, match=r"real3_0\.mp4 is listed and not there"):
        make_samples("north", dealt, tmp_path)


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a b"])
def test_a_name_that_is_no_folders_is_refused(tmp_path, name):
    with pytest.raises(DatasetError, match="Give it another one"):
        make_samples(name, [], tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_a_copy_is_made_where_links_are_not_possible(chunk, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    dealt = deal([cropped(chunk, PAINTED)], ["north"])["north"]
    samples = make_samples("north", dealt, tmp_path)
    for row in read_videos(folders_of(tmp_path / "north", samples)).rows:
        [path] = row.paths
        assert path.read_bytes() == (chunk.faces_dir / path.name).read_bytes()


def test_the_manifest_names_nobody(chunk, tmp_path):
    dealt = deal([cropped(chunk, PAINTED)], ORGS)
    make_samples("north", dealt["north"], tmp_path)
    text = (tmp_path / "north" / MANIFEST).read_text()
    assert not [r for r in chunk.records if r.source_id in text or r.video_id in text]


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2, "samples": []}', "[1]", "[" * 2000])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(DatasetError, match="Make them: `unmask federated samples`"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "odd",
    [{"name": 3}, {"side": "both"}, {"side": ["train"]}, {"reals": "1"}, {"fakes": -1},
     {"fakes": 10**400}, {"identities": [3]}, {"contents": [["a"]]}],
)  # fmt: skip
def test_a_manifest_of_other_kinds_of_values_is_refused(tmp_path, odd):
    row = {"name": "x", "side": "train", "reals": 1, "fakes": 1, "identities": [], "contents": []}
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 1, "samples": [row]}))
    assert [sample.name for sample in read_manifest(tmp_path)] == ["x"]
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 1, "samples": [row | odd]}))
    with pytest.raises(DatasetError, match="Make them: `unmask federated samples`"):
        read_manifest(tmp_path)


def test_a_manifest_that_points_elsewhere_is_refused(tmp_path):
    row = {"name": "../../x", "side": "train", "reals": 1, "fakes": 1}
    text = json.dumps({"format": 1, "samples": [row | {"identities": [], "contents": []}]})
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(DatasetError, match="no sample's name"):
        read_manifest(tmp_path)


# ---------------------------------------------------------------- reading them


@pytest.fixture
def folders(chunk, tmp_path):
    dealt = deal([cropped(chunk, PAINTED)], ["north"])["north"]
    return folders_of(tmp_path / "north", make_samples("north", dealt, tmp_path))


def test_labels_paths_and_sources_are_in_one_order_whatever_the_folders_are(folders, tmp_path):
    first = read_videos(folders)
    # Substra renames the folders and gives them in any order.
    moved = [
        shutil.copytree(folder, tmp_path / f"{900 - number}")
        for number, folder in enumerate(reversed(folders))
    ]
    second = read_videos(moved)
    assert first.names == second.names == sorted(first.names)
    assert first.labels == second.labels
    assert first.source_ids == second.source_ids
    for videos in (first, second):
        for name, paths, label, source in zip(
            videos.names, videos.paths, videos.labels, videos.source_ids, strict=True
        ):
            [path] = paths
            assert path.name == f"{name.removeprefix('painted/')}_0.mp4"
            assert path.name.startswith("fake" if label else "real")
            assert path.name[4:-6] == source.removeprefix("nobody")


def test_one_video_in_two_samples_is_refused(folders, tmp_path):
    copy = shutil.copytree(folders[0], tmp_path / "copy")
    with pytest.raises(DatasetError, match="stand in two of them"):
        read_videos([*folders, copy])


def test_a_folder_that_is_no_sample_is_refused(folders):
    (folders[0] / ABOUT).write_text("{")
    with pytest.raises(DatasetError, match="says nothing of it"):
        read_videos(folders)


def test_whole_videos_are_samples_too(tmp_path, folders):
    rows = [*pairs("a", split="train"), *pairs("b", split="validation"), *pairs("c", split="test")]
    records = records_of(*rows)
    raw = tmp_path / "raw"
    (raw / "videos").mkdir(parents=True)
    write_index(raw / "index.csv", records)
    for record in records[:-1]:  # the last one's file is missing
        (raw / "videos" / record.file).write_bytes(record.video_id.encode())
    dealt = deal([uncropped("wild", raw)], ["south"])["south"]
    own = folders_of(tmp_path / "south", make_samples("south", dealt, tmp_path))
    videos = read_videos(own)
    assert [len(paths) for paths in videos.paths] == [
        int(name != "wild/cf") for name in videos.names
    ]
    assert all(row.crops is None and row.faces is None for row in videos.rows)
    assert (own[0] / FILES).is_dir()
    with pytest.raises(DatasetError, match="some hold crops, others whole"):
        read_videos([*own, folders[0]])
