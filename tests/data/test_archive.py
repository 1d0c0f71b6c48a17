"""Folders and zips made by hand: what is listed, read and taken out, and what is refused."""

import errno
import logging
import os
import random
import socket
import stat
import struct
import zipfile

import pytest

from unmask.data import archive
from unmask.errors import DatasetError

GOOD = {"a.mp4": "a", "b.mp4": "bb", "metadata.json": "{}"}


def write_folder(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    return folder


def write_zip(path, files, *, spoil=lambda _: None, method=zipfile.ZIP_DEFLATED):
    """Write a zip; spoil changes what its directory, written last, says of the members."""
    with zipfile.ZipFile(path, "w", method) as members:
        for name, content in files.items():
            members.writestr(name, content)
        spoil(members)
    return path


def spoil_member(name="b.mp4", **changes):
    """Return a function that writes other values for one member into the directory."""

    def spoil(members):
        for key, value in changes.items():
            setattr(members.getinfo(name), key, value)

    return spoil


def take_out(chunk, folder):
    """Return the content of every file of a chunk, each read and placed."""
    found = {}
    folder.mkdir(parents=True, exist_ok=True)
    with archive.open_chunk(chunk) as files:
        for number, (path, size) in enumerate(files.sizes.items()):
            target = folder / f"{number}.mp4"
            files.place(path, target)
            found[path] = files.read_bytes(path, 2**30).decode()
            assert target.read_bytes().decode() == found[path]
            assert target.stat().st_size == size
    assert len(list(folder.iterdir())) == len(found)
    return found


def open_and_place(chunk, path, target):
    with archive.open_chunk(chunk) as files:
        files.place(path, target)


def refused(chunk, complaint, *, placed=None):
    """Assert that a chunk, or the placing of a file of it, is refused and leaves nothing behind."""
    folder = chunk.parent / "taken"
    folder.mkdir(exist_ok=True)
    before = sorted(chunk.parent.rglob("*"))
    with pytest.raises(DatasetError, match=complaint) as caught:
        open_and_place(chunk, placed, folder / "x.mp4")
    assert str(chunk) in str(caught.value)
    assert str(caught.value).isascii()
    assert sorted(chunk.parent.rglob("*")) == before


@pytest.fixture(params=["folder", "zip"])
def make(request, tmp_path):
    """Return a function that makes a chunk of either kind."""

    def make(files):
        if request.param == "folder":
            return write_folder(tmp_path / "in" / "chunk", files)
        (tmp_path / "in").mkdir(exist_ok=True)
        return write_zip(tmp_path / "in" / "chunk.zip", files)

    return make


# Both


@pytest.mark.parametrize("top", ["", "dfdc_train_part_0/", "wrapping folder/"])
def test_files_are_listed_read_and_taken_out(make, tmp_path, top):
    files = {f"{top}{name}": content for name, content in GOOD.items()}
    files |= {f"{top}deep/er/c.mp4": "c", f"{top}.hidden/c.mp4": "h", f"{top}._a.mp4": "of a Mac"}
    chunk = make(files | {"__MACOSX/._a.mp4": "of a Mac", ".DS_Store": "of a Mac"})
    assert take_out(chunk, tmp_path / "out") == {**GOOD, "deep/er/c.mp4": "c"}
    with archive.open_chunk(chunk) as found:
        assert found.where == str(chunk)
        assert list(found.sizes) == ["a.mp4", "b.mp4", "deep/er/c.mp4", "metadata.json"]
        assert found.sizes["b.mp4"] == 2


@pytest.mark.parametrize(
    ("files", "listed"),
    [
        (["real/a.mp4"], ["real/a.mp4"]),  # part of a layout, no wrapping
        (["x/real/a.mp4"], ["real/a.mp4"]),
        (["x/y/a.mp4"], ["y/a.mp4"]),  # one wrapping is taken off, no second
        (["x/a.mp4", "y/a.mp4"], ["x/a.mp4", "y/a.mp4"]),
        (["x/a.mp4", "note"], ["note", "x/a.mp4"]),
        (["note"], ["note"]),
        ([".hidden"], []),
    ],
)
def test_only_a_wrapping_is_taken_off(make, files, listed):
    with archive.open_chunk(make(dict.fromkeys(files, ""))) as found:
        assert list(found.sizes) == listed


def test_a_file_that_is_too_large_is_not_read(make):
    with archive.open_chunk(make(GOOD)) as files:
        assert files.read_bytes("b.mp4", 2) == b"bb"
        with pytest.raises(DatasetError, match=r"b\.mp4 of .*chunk.*has 2 bytes, more than 1"):
            files.read_bytes("b.mp4", 1)


def test_a_file_that_is_placed_already_is_kept_and_another_replaced(make, tmp_path):
    target = tmp_path / "x.mp4"
    with archive.open_chunk(make(GOOD)) as files:
        files.place("b.mp4", target)
        changed = target.stat().st_ctime_ns
        files.place("b.mp4", target)
        assert target.stat().st_ctime_ns == changed

        for spoil in (
            lambda: target.write_text("xx"),  # as large
            lambda: target.symlink_to(tmp_path / "elsewhere"),
            lambda: (tmp_path / ".x.mp4.partial").write_text("an interrupted run's"),
        ):
            target.unlink(missing_ok=True)
            (tmp_path / "elsewhere").write_text("bb")
            spoil()
            files.place("b.mp4", target)
            assert target.read_text() == "bb"
            assert not target.is_symlink()
        files.place("a.mp4", target)
        assert target.read_text() == "a"
        files.place("b.mp4", tmp_path / "y.mp4")
    assert (tmp_path / "y.mp4").read_text() == "bb"  # the first one's file is another
    assert (tmp_path / "elsewhere").read_text() == "bb"
    assert not list(tmp_path.glob(".*"))


def test_nothing_but_what_is_listed_is_placed(make, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "secret").write_text("")
    with archive.open_chunk(make(GOOD)) as files, pytest.raises(AssertionError):
        files.place("../secret", tmp_path / "x.mp4")
    assert not (tmp_path / "x.mp4").exists()


def test_a_crowd_of_files_is_refused(make, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    refused(make(GOOD), "more than (the )?2 files")


def test_a_chunk_that_is_not_there_says_what_is(tmp_path):
    refused(tmp_path / "part_0", "no such folder or zip. Put it there, or drop it from `chunks`")
    (tmp_path / "part_0.zip").write_text("")
    refused(tmp_path / "part_0", "but there is part_0.zip: `chunks` names a chunk in full")
    (tmp_path / "part_1").mkdir()
    refused(tmp_path / "part_1.zip", "but there is part_1: ")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "no such folder or zip")


# Folders


def test_a_placed_file_is_a_hard_link_that_outlives_the_chunk(tmp_path):
    chunk, target = write_folder(tmp_path / "chunk", GOOD), tmp_path / "x.mp4"
    with archive.open_chunk(chunk) as files:
        files.place("a.mp4", target)
    assert target.samefile(chunk / "a.mp4")
    (chunk / "a.mp4").unlink()
    assert target.read_text() == "a"


def test_a_file_that_dvc_took_into_its_cache_is_known_by_its_content(tmp_path):
    chunk, target = write_folder(tmp_path / "chunk", GOOD), tmp_path / "x.mp4"
    with archive.open_chunk(chunk) as files:
        files.place("b.mp4", target)
        (chunk / "b.mp4").unlink()
        (chunk / "b.mp4").write_text("bb")
        inode = target.stat().st_ino
        files.place("b.mp4", target)
        assert target.stat().st_ino == inode
        (chunk / "b.mp4").write_text("cc")  # as large
        files.place("b.mp4", target)
        assert target.samefile(chunk / "b.mp4")


def test_links_to_files_are_followed_and_other_things_never_opened(tmp_path, caplog):
    chunk = write_folder(tmp_path / "chunk", GOOD)
    cached = tmp_path / "cache" / "ab" / ("cd" * 15)  # as DVC names files
    cached.parent.mkdir(parents=True)
    cached.write_text("cached")
    (chunk / "c.mp4").symlink_to(cached)
    (tmp_path / "secret").write_text("of this machine, not of the chunk")
    (chunk / "stolen.mp4").symlink_to(tmp_path / "secret")
    (chunk / "folder.mp4").symlink_to(tmp_path / "cache")
    (chunk / "loop").symlink_to(chunk)
    (chunk / "self.mp4").symlink_to("self.mp4")
    (chunk / "broken.mp4").symlink_to("gone")
    (chunk / "null.mp4").symlink_to("/dev/null")
    os.mkfifo(chunk / "pipe.mp4")  # who opens it waits for ever
    (chunk / "to_pipe.mp4").symlink_to("pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        home = os.getcwd()
        os.chdir(chunk)  # a socket's path must be short
        listener.bind("socket.mp4")
        os.chdir(home)
        assert take_out(chunk, tmp_path / "out") == {**GOOD, "c.mp4": "cached"}
    assert not (tmp_path / "out" / "2.mp4").is_symlink()
    assert (tmp_path / "out" / "2.mp4").samefile(cached)
    [line] = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert f"{chunk}: 9 passed over" in line
    assert "'broken.mp4', 'folder.mp4', 'loop', 'null.mp4', 'pipe.mp4' and 4 more" in line


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_files_are_copied_where_links_are_not_allowed(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    chunk = write_folder(tmp_path / "chunk", GOOD)
    assert take_out(chunk, tmp_path / "out") == GOOD
    assert not (tmp_path / "out" / "0.mp4").samefile(chunk / "a.mp4")


def test_other_failures_to_link_are_not_hidden(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="broken disk"):
        take_out(write_folder(tmp_path / "chunk", GOOD), tmp_path / "out")


@pytest.mark.parametrize("name", [b"x\ny.mp4", b"\xff.mp4", b"deep/\xe4/a.mp4"])
def test_names_in_a_folder_that_no_index_could_hold_are_refused(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path / "chunk"), name)
    os.makedirs(os.path.dirname(path))
    with open(path, "wb"):
        pass
    refused(tmp_path / "chunk", r"1 name\(s\) hold characters that do not print or are not UTF-8")


# Zips


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\5\6" + bytes(18), b"\x1f\x8b tar.gz"])
def test_a_file_that_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    if content.startswith(b"PK\5\6"):
        with archive.open_chunk(tmp_path / "x.zip") as files:
            assert not files.sizes  # the smallest zip there is
    else:
        refused(tmp_path / "x.zip", "neither a folder nor a whole zip")


@pytest.mark.parametrize("top", ["./", "./chunk//"])
def test_names_are_tidied(tmp_path, top):
    files = {top: "", **{f"{top}{name}": content for name, content in GOOD.items()}}
    assert take_out(write_zip(tmp_path / "x.zip", files), tmp_path / "out") == GOOD


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("/etc/passwd", "'/etc/passwd' is an absolute path"),
        ("../b.mp4", "'../b.mp4' leaves the folder"),
        ("x/../../b.mp4", "leaves the folder"),
        ("..\\b.mp4", "has backslashes"),
        ("C:b.mp4", "is an absolute path"),
        ("./a.mp4", "'a.mp4' is there twice"),
        ("x\ny.mp4", "do not print"),
        ("x" * 201, "too long"),
        ("x/" * 300 + "y", "too long"),
    ],
)
def test_members_with_hostile_names_are_refused(tmp_path, name, complaint):
    refused(write_zip(tmp_path / "x.zip", GOOD | {name: "x"}), complaint)


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
        ({"header_offset": 2**31}, "'b.mp4' lies outside the file"),
    ],
)
def test_hostile_members_are_refused(tmp_path, changes, complaint):
    refused(write_zip(tmp_path / "x.zip", GOOD, spoil=spoil_member(**changes)), complaint)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"file_size": 3}, "b.mp4 of .* should have 3 bytes and has 2"),
        ({"file_size": 1}, "b.mp4 of .* is damaged"),
        ({"CRC": 0}, "b.mp4 of .* is damaged"),
        ({"header_offset": 3}, "b.mp4 of .* is damaged"),
        ({"compress_type": zipfile.ZIP_STORED}, "b.mp4 of .* is damaged"),
    ],
)
def test_a_damaged_member_is_neither_placed_nor_read(tmp_path, changes, complaint):
    chunk = write_zip(tmp_path / "x.zip", GOOD, spoil=spoil_member(**changes))
    refused(chunk, complaint, placed="b.mp4")
    with archive.open_chunk(chunk) as files:
        with pytest.raises(DatasetError, match=complaint):
            files.read_bytes("b.mp4", 10)
        if (
            "header_offset" not in changes
        ):  # newer Pythons find that the two overlap, and refuse both
            assert files.read_bytes("a.mp4", 10) == b"a"


def test_a_name_that_the_member_itself_spells_otherwise_is_damage(tmp_path):
    chunk = write_zip(tmp_path / "x.zip", {"ä.mp4": "a", **GOOD})
    spelling = "ä.mp4".encode()
    # The first is the member's own header, the last the zip's directory.
    chunk.write_bytes(chunk.read_bytes().replace(spelling, b"\x80\x80.mp4", 1))
    with pytest.raises(DatasetError, match="is damaged"):
        take_out(chunk, tmp_path / "out")
    chunk.write_bytes(chunk.read_bytes().replace(spelling, b"\x80\x80.mp4"))
    refused(chunk, "neither a folder nor a whole zip")


def test_a_bomb_is_refused_and_a_small_file_may_shrink(tmp_path):
    bomb = write_zip(tmp_path / "x.zip", GOOD | {"a.mp4": bytes(2**21)})
    refused(bomb, "'a.mp4' grows more than 200 times")
    small = write_zip(tmp_path / "y.zip", GOOD | {"a.mp4": "\0" * 2**20})
    assert len(take_out(small, tmp_path / "out")["a.mp4"]) == 2**20


def test_a_full_disk_is_noticed_before(tmp_path, monkeypatch):
    chunk = write_zip(tmp_path / "x.zip", GOOD)
    usage = type("Usage", (), {"free": 1})
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: usage)
    refused(chunk, "b.mp4 .* needs 2 bytes and .* has 1 free. Make room", placed="b.mp4")


def write_crowd(path, count, *, said=None):
    """Write a zip whose directory lists one empty member many times, and says how often."""
    with zipfile.ZipFile(path, "w") as members:
        members.writestr("a.mp4", "")
    whole = path.read_bytes()
    start, end = whole.index(b"PK\1\2"), whole.index(b"PK\5\6")
    directory = whole[start:end] * count
    said = count if said is None else said
    with path.open("wb") as file:
        file.write(whole[:start] + directory)
        large = (44, 45, 45, 0, 0, said, said, len(directory), start)
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", *large))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, start + len(directory), 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[2**16 - 1] * 2, *[2**32 - 1] * 2, 0))
    return path


def test_a_million_members_are_refused_before_any_work(tmp_path, monkeypatch):
    chunk = write_crowd(tmp_path / "x.zip", 10**6)
    liar = write_crowd(tmp_path / "y.zip", 1_100_000, said=1)
    monkeypatch.setattr(zipfile, "ZipFile", None)  # it makes an object of every member
    refused(chunk, r"lists 1,000,000 members in 51,000,000 bytes, more than the 200,000 files")
    refused(liar, "lists 1 members in 56,100,000")


def test_a_crowd_behind_a_lie_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILES", 4)
    refused(write_crowd(tmp_path / "x.zip", 5, said=1), "5 members are more than 4")
    refused(write_crowd(tmp_path / "y.zip", 4), "'a.mp4' is there twice")


def test_five_offences_are_named(tmp_path):
    files = GOOD | {f"../{number}": "x" for number in range(7)}
    chunk = write_zip(tmp_path / "x.zip", files)
    refused(chunk, r"7 thing\(s\) .*'\.\./4' leaves the folder and 2 more\. Nothing")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_zip_gives_whole_files_or_none(tmp_path, method):
    chunk = write_zip(tmp_path / "x.zip", GOOD, method=method)
    whole = chunk.read_bytes()
    rng = random.Random(1)
    refusals = 0
    for attempt in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        chunk.write_bytes(damaged[: rng.choice([len(whole), rng.randrange(len(whole))])])
        try:
            found = take_out(chunk, tmp_path / "out" / str(attempt))
        except DatasetError:
            refusals += 1
        else:
            assert set(found.values()) <= set(GOOD.values())
    assert 150 < refusals < 300
    assert {path.name for path in tmp_path.iterdir()} == {"x.zip", "out"}
    assert not list(tmp_path.glob("out/*/.*"))
