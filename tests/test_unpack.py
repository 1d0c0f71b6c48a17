"""Zips made by hand: whole ones are unpacked, hostile and damaged ones leave nothing behind."""

import json
import random
import stat
import zipfile

import pytest

from unmask import datasets, unpack
from unmask.errors import DatasetError

REAL = {"label": "REAL", "split": "train"}
FAKE = {"label": "FAKE", "split": "train"}

GOOD = {"metadata.json": json.dumps({"a.mp4": REAL, "b.mp4": FAKE}), "a.mp4": "a", "b.mp4": "b"}


def write_zip(path, files, *, spoil=lambda _: None, method=zipfile.ZIP_DEFLATED):
    """Write a zip; spoil changes what its directory, written last, says of the members."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        spoil(archive)
    return path


def spoil_member(name="b.mp4", **changes):
    """Return a function that writes other values for one member into the directory."""

    def spoil(archive):
        for key, value in changes.items():
            setattr(archive.getinfo(name), key, value)

    return spoil


def refused(zip_path, folder, complaint):
    """Assert that a zip is refused and leaves nothing behind."""
    before = sorted(folder.parent.iterdir())
    with pytest.raises(DatasetError, match=complaint) as caught:
        unpack.unpack_chunk(zip_path, folder)
    assert str(zip_path) in str(caught.value)
    assert sorted(folder.parent.iterdir()) == before


@pytest.mark.parametrize("top", ["", "dfdc_train_part_0/", "./", "./chunk//"])
@pytest.mark.parametrize("junk", [{}, {"__MACOSX/._a.mp4": "of a Mac"}])
def test_a_chunk_is_unpacked_whole(tmp_path, top, junk):
    files = {f"{top}{name}": content for name, content in GOOD.items()} | junk
    if top:
        files = {top: "", **files}
    folder = tmp_path / "new" / "chunk"
    unpack.unpack_chunk(write_zip(tmp_path / "chunk.zip", files), folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == GOOD
    assert [path.name for path in folder.parent.iterdir()] == ["chunk"]
    assert len(datasets.read_dfdc(folder)) == 2
    # As readable as any folder, although the temporary one was not.
    assert folder.stat().st_mode == folder.parent.stat().st_mode


def test_a_zip_that_appends_to_a_folder_is_refused(tmp_path):
    (tmp_path / "chunk").mkdir()
    refused(write_zip(tmp_path / "x.zip", GOOD), tmp_path / "chunk", "it exists")


@pytest.mark.parametrize(
    ("content", "complaint"), [(None, "no such file"), (b"", "whole zip"), (b"PK", "whole zip")]
)
def test_a_zip_that_is_none_is_refused(tmp_path, content, complaint):
    if content is not None:
        (tmp_path / "x.zip").write_bytes(content)
    refused(tmp_path / "x.zip", tmp_path / "chunk", complaint)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("/etc/passwd", "'/etc/passwd' is an absolute path"),
        ("../b.mp4", "'../b.mp4' leaves the folder"),
        ("x/../../b.mp4", "leaves the folder"),
        ("..\\b.mp4", "has backslashes"),
        ("C:b.mp4", "is an absolute path"),
        ("a.mp4/b.mp4", "'a.mp4' is there twice"),
        ("./a.mp4", "'a.mp4' is there twice"),
        ("x\ny.mp4", "do not print"),
        ("x" * 201, "too long"),
        ("x/" * 300 + "y", "too long"),
    ],
)
def test_members_with_hostile_names_are_refused(tmp_path, name, complaint):
    refused(write_zip(tmp_path / "x.zip", GOOD | {name: "x"}), tmp_path / "chunk", complaint)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"external_attr": (stat.S_IFLNK | 0o777) << 16}, "'b.mp4' is a link, a device"),
        ({"external_attr": (stat.S_IFCHR | 0o666) << 16}, "is a link, a device"),
        ({"external_attr": (stat.S_IFIFO | 0o666) << 16}, "is a link, a device"),
        ({"external_attr": (stat.S_IFDIR | 0o777) << 16}, "another special file"),
        ({"filename": "a.mp4"}, "'a.mp4' is there twice"),
        ({"filename": ""}, "'' has no name"),
        ({"filename": "b.mp4\0.txt"}, "do not print"),
        ({"filename": "b/"}, "is a folder with content"),
        ({"flag_bits": 0x1}, "is encrypted"),
        ({"compress_type": zipfile.ZIP_BZIP2}, "another method than deflate"),
        ({"compress_type": 97}, "another method than deflate"),
        ({"file_size": 2**20 + 1}, "'b.mp4' grows more than 200 times"),
        ({"file_size": 2**40, "compress_size": 2**36}, "1,099,511,627,.* bytes unpacked are more"),
        ({"compress_size": 10_000}, "members overlap"),
        ({"file_size": 2}, "'b.mp4' should have 2 bytes and has 1"),
        ({"CRC": 0}, "'b.mp4' is damaged"),
        ({"header_offset": 2**31}, "'b.mp4' lies outside the file"),
        ({"header_offset": 3}, "damaged|whole zip"),
        ({"compress_type": zipfile.ZIP_STORED}, "'b.mp4' is damaged"),
    ],
)
def test_hostile_members_are_refused(tmp_path, changes, complaint):
    zip_path = write_zip(tmp_path / "x.zip", GOOD, spoil=spoil_member(**changes))
    refused(zip_path, tmp_path / "chunk", complaint)


def test_a_bomb_is_refused_and_a_small_file_may_shrink(tmp_path):
    bomb = write_zip(tmp_path / "x.zip", GOOD | {"a.mp4": bytes(2**21)})
    refused(bomb, tmp_path / "chunk", "'a.mp4' grows more than 200 times")
    small = write_zip(tmp_path / "y.zip", GOOD | {"a.mp4": bytes(2**20)})
    unpack.unpack_chunk(small, tmp_path / "chunk")
    assert (tmp_path / "chunk" / "a.mp4").stat().st_size == 2**20


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    assert unpack.MAX_MEMBERS == 100_000
    monkeypatch.setattr(unpack, "MAX_MEMBERS", 2)
    refused(write_zip(tmp_path / "x.zip", GOOD), tmp_path / "chunk", "3 members are more than 2")


def test_a_full_disk_is_noticed_before(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: usage)
    refused(write_zip(tmp_path / "x.zip", GOOD), tmp_path / "chunk", "has 10 free. Make room")


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"a.mp4": "a"}, "there is no metadata.json"),
        ({"x/metadata.json": "{}", "y/a.mp4": "a"}, "there is no metadata.json"),
        ({"x/y/metadata.json": "{}"}, "there is no metadata.json"),
        ({"metadata.json": "{}"}, "metadata.json of .*x.zip; found {}"),
        ({"metadata.json": '{"a.mp4": {"label": "real"}}'}, "label should be REAL or FAKE"),
    ],
)
def test_a_zip_that_is_no_chunk_is_refused(tmp_path, files, complaint):
    refused(write_zip(tmp_path / "x.zip", files), tmp_path / "chunk", complaint)


def test_metadata_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MAX_METADATA_BYTES", 10)
    zip_path = write_zip(tmp_path / "x.zip", GOOD)
    refused(zip_path, tmp_path / "chunk", "metadata.json of .*x.zip; it has .* more than 10")


def test_five_offences_are_named(tmp_path):
    files = GOOD | {f"../{number}": "x" for number in range(7)}
    zip_path = write_zip(tmp_path / "x.zip", files)
    refused(zip_path, tmp_path / "chunk", r"'\.\./4' leaves the folder and 2 more\. Nothing")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_zip_leaves_nothing_or_the_chunk(tmp_path, method):
    whole = write_zip(tmp_path / "x.zip", GOOD, method=method).read_bytes()
    rng = random.Random(1)
    refusals = 0
    for attempt in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        zip_path, folder = tmp_path / "x.zip", tmp_path / "made" / str(attempt)
        zip_path.write_bytes(damaged[: rng.choice([len(whole), rng.randrange(len(whole))])])
        try:
            unpack.unpack_chunk(zip_path, folder)
        except DatasetError:
            refusals += 1
            assert not folder.exists()
        else:
            assert (folder / "metadata.json").is_file()
    assert refusals > 75
    assert not list(tmp_path.glob("made/.*"))
    assert {path.name for path in tmp_path.iterdir()} <= {"x.zip", "made"}


def test_a_name_that_the_member_itself_spells_otherwise_is_damage(tmp_path):
    zip_path = write_zip(tmp_path / "x.zip", {"ä.mp4": "a", **GOOD})
    spelling = "ä.mp4".encode()
    # The first is the member's own header, the last the zip's directory.
    zip_path.write_bytes(zip_path.read_bytes().replace(spelling, b"\x80\x80.mp4", 1))
    refused(zip_path, tmp_path / "chunk", "mp4' is damaged")
