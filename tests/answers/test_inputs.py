"""What is named, and the videos that it comes to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unmask.answers.inputs import InputError, find_videos


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """A folder to stand in, with clips below it."""
    monkeypatch.chdir(tmp_path)
    for name in ("clip10.mp4", "clip2.mp4", "Clip1.MOV", "b/clip3.mkv", "notes.txt"):
        file = Path("clips", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for hidden in ("clips/.trash/old.mp4", "clips/._clip2.mp4"):
        Path(hidden).parent.mkdir(exist_ok=True)
        Path(hidden).touch()


def found(*names, listed=b""):
    return [str(path) for path in find_videos(names, listed).videos]


@pytest.mark.usefixtures("clips")
def test_a_folder_is_searched_for_what_ends_like_a_video_in_natural_order():
    wanted = ["b/clip3.mkv", "Clip1.MOV", "clip2.mp4", "clip10.mp4"]
    assert found("clips") == [f"clips/{name}" for name in wanted]


@pytest.mark.usefixtures("clips")
def test_what_is_named_is_tried_whatever_it_is():
    assert found("clips/notes.txt", "gone.mp4", "-x.mp4") == [
        "clips/notes.txt", "gone.mp4", "-x.mp4",
    ]  # fmt: skip


@pytest.mark.usefixtures("clips")
def test_globs_are_expanded_but_a_file_of_that_name_comes_first():
    assert found("clips/*2.mp4", "**/*.mkv") == ["clips/clip2.mp4", "clips/b/clip3.mkv"]
    Path("clips/a[1].mp4").touch()
    assert found("clips/a[1].mp4") == ["clips/a[1].mp4"]
    Path("clips/a1.mp4").touch()
    assert found("clips/a[12].mp4") == ["clips/a1.mp4"]


@pytest.mark.usefixtures("clips")
def test_a_glob_leaves_out_what_is_no_video_and_folders_without_any():
    Path("clips/empty").mkdir()
    Path("clips/b/notes.txt").touch()
    assert found("clips/*") == found("clips")
    assert found("clips/**") == found("clips")


@pytest.mark.usefixtures("clips")
def test_the_same_file_is_answered_once_where_it_was_first_named():
    Path("link.mp4").symlink_to("clips/clip2.mp4")
    same = ("clips/clip2.mp4", "clips/b/../clip2.mp4", os.path.abspath("clips/clip2.mp4"))
    assert found("gone.mp4", "link.mp4", *same, "gone.mp4") == ["gone.mp4", "link.mp4"]


@pytest.mark.usefixtures("clips")
@pytest.mark.parametrize(
    "listed",
    [b"x.mp4\n\na*.mp4\r\nclips/b\n", b"x.mp4\0a*.mp4\0clips/b\0", b"x.mp4\na*.mp4\nclips/b"],
)
def test_a_list_has_a_name_a_line_or_between_nuls(listed):
    assert found("y.mp4", "-", listed=listed) == ["y.mp4", "x.mp4", "a*.mp4", "clips/b/clip3.mkv"]


def test_a_listed_name_is_taken_byte_by_byte():
    [name] = found("-", listed=b"a\nb\xff.mp4\0")
    assert os.fsencode(name) == b"a\nb\xff.mp4"


@pytest.mark.usefixtures("clips")
@pytest.mark.parametrize(
    ("names", "listed", "said"),
    [
        (("clips/*.webm",), b"", "matches it"),
        (("clips/.trash/.none", "empty"), b"", "no file in it ends like one"),
        (("-",), b"\n\n", "the list is empty"),
        (("",), b"", "its name is empty"),
    ],
)
def test_nothing_to_answer_is_an_error(names, listed, said):
    Path("empty/.hidden").mkdir(parents=True)
    with pytest.raises(InputError, match=said):
        find_videos(names, listed)


@pytest.mark.usefixtures("clips")
def test_links_that_lead_in_circles_end():
    Path("clips/b/round").symlink_to("..")
    Path("clips/round.mp4").symlink_to("round.mp4")
    assert len(found("clips")) == 5


# Root may look anywhere: become nobody.
AS_NOBODY = """
import os
import subprocess
import sys
from unmask.answers.inputs import find_videos
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
found = find_videos(["clips", "clips/closed"], b"")
assert [str(path) for path in found.videos] == ["clips/clip2.mp4"], found
assert [str(path) for path in found.unread] == ["clips/closed", "clips/closed"], found
"""


def test_folders_that_may_not_be_listed_are_told_and_the_rest_is_found(tmp_path):
    closed = tmp_path / "clips/closed"
    closed.mkdir(parents=True)
    (closed / "clip1.mp4").touch()
    (tmp_path / "clips/clip2.mp4").touch()
    tmp_path.chmod(0o755)
    closed.chmod(0)
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(source)}, check=False,
    )  # fmt: skip
    closed.chmod(0o755)  # or pytest could not remove it
    assert done.returncode == 0, done.stderr
