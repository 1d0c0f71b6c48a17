"""`unmask benchmark verify`: what it finds in whole copies of data sets, and in others."""

import json
import zipfile

import pytest
from click.testing import CliRunner
from miniatures import MINIATURES, frames, write

from unmask.cli import command_group
from unmask.cli.benchmark_verify import verify
from unmask.data.protocols import protocol as protocols
from unmask.data.protocols.protocol import Expected

LIST = "List_of_testing_videos.txt"
TESTED = ["YouTube-real/00000.mp4", "Celeb-synthesis/id0_id1_0000.mp4"]


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the command on the chunk in this folder."""
    group = command_group.CommandGroup(commands={"verify": verify})

    def run(*options, name="celeb"):
        found = CliRunner().invoke(group, ["verify", name, "--chunks", str(tmp_path), *options])
        assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
        return found.exit_code, found.output

    return run


@pytest.fixture
def small(monkeypatch):
    """Let the protocols expect what the miniatures have; return the function that does."""
    known = dict(protocols.all_protocols())

    def expect(name, list_sha256=None, version=1, **counts):
        update = {"expected": Expected(**counts), "list_sha256": list_sha256, "version": version}
        known[name] = known[name].model_copy(update=update)

    monkeypatch.setattr(protocols, "all_protocols", lambda: known)
    return expect


@pytest.fixture
def celeb(tmp_path, small):
    """A copy of Celeb-DF that is whole, of two test videos and one for training."""
    small("celeb-df-v2", videos=2, real=1, fake=1)
    files = MINIATURES["Celeb-DF"]
    return write(tmp_path / "celeb", {path: text or f"in {path}" for path, text in files.items()})


@pytest.mark.usefixtures("celeb")
def test_a_whole_copy_is_said_to_be_whole_and_recorded(run, tmp_path):
    code, said = run()
    assert code == 0
    assert "celeb-df-v2, version 1: Celeb-DF (v2), its 518 test videos" in said
    assert "2 of 2 test videos are there." in said
    assert "It is whole. " in said
    record = json.loads((tmp_path / ".celeb.protocol.json").read_text())
    assert record["videos"].keys() == set(TESTED)
    code, said = run()
    assert code == 0
    assert "It is whole, and what it was when it was verified first." in said


def test_half_of_the_videos_missing(run, celeb, tmp_path):
    (celeb / TESTED[0]).unlink()
    code, said = run()
    assert code == 1
    assert "1 of 2 test videos are there." in said
    assert "- 1 of 2 test videos (50%) are missing: 'YouTube-real/00000'" in said
    assert "is not whole by celeb-df-v2: 1 finding(s)" in said
    assert not (tmp_path / ".celeb.protocol.json").exists()


def test_a_training_video_that_is_missing_is_no_matter(run, celeb):
    (celeb / "Celeb-real/id0_0000.mp4").unlink()
    assert run()[0] == 0


def test_a_changed_video_is_found_and_may_be_accepted(run, celeb):
    assert run()[0] == 0
    content = (celeb / TESTED[1]).read_text()
    (celeb / TESTED[1]).unlink()
    (celeb / TESTED[1]).write_text(content.upper())  # as many bytes as before
    code, said = run()
    assert code == 1
    assert (
        "- 1 test videos are not what they were when they were verified first: 'Celeb-syn" in said
    )
    code, said = run("--quick")
    assert code == 0
    assert "as far as that shows without reading the videos" in said
    assert run("--accept")[0] == 0
    assert run()[0] == 0


def test_a_video_that_went_after_the_first_verification(run, celeb):
    assert run()[0] == 0
    (celeb / TESTED[1]).unlink()
    code, said = run()
    assert code == 1
    assert "- 1 test videos are gone that were verified first" in said
    # What is missing is not accepted.
    assert run("--accept")[0] == 1


@pytest.mark.usefixtures("celeb")
def test_a_list_of_another_length(run, small):
    small("celeb-df-v2", videos=4)
    code, said = run()
    assert code == 1
    assert "- it names 2 test videos, and the data set has 4: 2 fewer, 50%" in said
    small("celeb-df-v2", videos=1)
    assert "- it names 2 test videos, and the data set has 1: 1 more" in run()[1]


@pytest.mark.usefixtures("celeb")
def test_a_list_of_other_classes(run, small):
    small("celeb-df-v2", videos=2, real=2)
    assert "- 1 of its test videos are real, and the data set has 2" in run()[1]


def test_a_list_that_changed_after_the_first_verification(run, celeb):
    assert run()[0] == 0
    text = (celeb / LIST).read_text()
    (celeb / LIST).write_text(text.replace("\n", "\r\n\r\n"))  # the same, as Windows writes it
    assert run()[0] == 0
    (celeb / LIST).write_text(text.replace("YouTube-real/00000", "Celeb-real/id0_0000"))
    code, said = run()
    assert code == 1
    assert "- its list is not the one that was verified first: digest" in said
    assert "- 1 test videos were not there when it was verified first: 'Celeb-real/id0_" in said


@pytest.mark.usefixtures("celeb")
def test_a_list_that_is_not_the_official_one(run, small):
    small("celeb-df-v2", list_sha256="0" * 64)
    code, said = run()
    assert code == 1
    assert "its list is another one than celeb-df-v2, version 1, is about" in said
    assert "not 000000000000" in said


@pytest.mark.usefixtures("celeb")
def test_a_protocol_of_another_version(run, small):
    assert run()[0] == 0
    small("celeb-df-v2", version=2)
    code, said = run()
    assert code == 1
    assert "- it was verified by celeb-df-v2, version 1, and this is celeb-df-v2, version 2" in said
    assert run("--accept")[0] == 0
    assert run()[0] == 0


def test_an_empty_video_is_found(run, celeb):
    (celeb / TESTED[0]).write_bytes(b"")
    assert "- 1 test videos are empty files: 'YouTube-real/00000.mp4'" in run()[1]


def test_a_video_that_no_list_has(run, tmp_path, small):
    small("dfdc-test", videos=2)
    files = {"labels.csv": "filename,label\na.mp4,1\nb.mp4,0\n"}
    files |= {"a.mp4": "a", "b.mp4": "b", "c.mp4": "c", "notes.txt": "n"}
    write(tmp_path / "dfdc", files)
    code, said = run(name="dfdc")
    assert code == 1
    assert "- 1 videos are there that no list has: 'c.mp4'" in said


def test_the_official_digest_of_faceforensics_is_asked_for(run, tmp_path):
    write(tmp_path / "ff", MINIATURES["FaceForensics++"])
    code, said = run(name="ff")
    assert code == 1
    assert "another one than faceforensics, version 1, is about: digest" in said
    assert "not a762584dc3d7" in said
    assert "it names 10 test videos, and the data set has 700: 690 fewer, 1%" in said


def test_a_zip_is_verified_as_a_folder_is(run, celeb, tmp_path):
    with zipfile.ZipFile(tmp_path / "celeb.zip", "w") as packed:
        for path in sorted(celeb.rglob("*.*")):
            packed.write(path, path.relative_to(tmp_path))
    assert run(name="celeb")[0] == run(name="celeb.zip")[0] == 0
    one, other = (tmp_path / f".{name}.protocol.json" for name in ("celeb", "celeb.zip"))
    assert one.read_text() == other.read_text()


def test_frames_are_compared_one_by_one(run, tmp_path, small):
    small("wilddeepfake", videos=2)
    files = {path: path for path in (*frames("real_test/1/real/0"), *frames("fake_test/1/fake/0"))}
    chunk = write(tmp_path / "wild", files)
    assert run(name="wild")[0] == 0
    (chunk / "real_test/1/real/0/001.png").write_text("changed")
    code, said = run(name="wild")
    assert code == 1
    assert "- 1 test videos are not what they were" in said
    assert "'real_test/1/real/0'" in said


@pytest.mark.parametrize(
    ("options", "name", "complaint"),
    [
        ((), "gone", "there is no such folder or zip"),
        (("--protocol", "celeb-df"), "celeb", "did you mean celeb-df-v2"),
        (("--protocol", "uadfv"), "celeb", "that protocol is of UADFV"),
        (("--quick", "--accept"), "celeb", "--accept reads the videos"),
    ],
)
@pytest.mark.usefixtures("celeb")
def test_what_can_t_be_verified_is_a_line(run, options, name, complaint):
    code, said = run(*options, name=name)
    assert code in (1, 2)
    assert complaint in said


def test_a_layout_without_a_protocol_is_a_line(run, tmp_path):
    write(tmp_path / "mine", MINIATURES["folders"])
    code, said = run(name="mine")
    assert code == 1
    assert "its layout, folders, has none" in said


@pytest.mark.parametrize(
    "bad", ["{", "[]", '{"protocol": 1, "version": 1, "list_sha256": "a", "videos": {}}',
            '{"protocol": "a", "version": 1, "list_sha256": "a", "videos": {"a": 1}}', "{}"],
)  # fmt: skip
@pytest.mark.usefixtures("celeb")
def test_a_damaged_record_is_a_line(run, tmp_path, bad):
    (tmp_path / ".celeb.protocol.json").write_text(bad)
    code, said = run()
    assert code == 1
    assert "which the first verification wrote; it can't be read" in said


def test_hostile_names_print_as_ascii(run, celeb):
    (celeb / "Celeb-synthesis" / "id0_id1_0000.mp4").unlink()
    (celeb / LIST).write_text("1 YouTube-real/00000.mp4\n0 Celeb-synthesis/\x1b[2J\u202e.mp4\n")
    code, said = run()
    assert code == 1
    assert "\x1b" not in said
    assert "\u202e" not in said


@pytest.mark.usefixtures("celeb")
@pytest.mark.parametrize("name", ["", ".", "..", "celeb/", "../celeb"])
def test_a_name_that_is_a_path_is_refused(run, tmp_path, name):
    code, said = run(name=name)
    assert code == 1
    assert "NAME is that of a folder or zip in" in said
    assert not list(tmp_path.glob(".*.protocol.json"))
