"""What a cropping job is asked for: written, read again, and refused where it is damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from painted import SETTINGS

from unmask.sagemaker.contract import JobError
from unmask.sagemaker.crop_contract import Video, Work, read_work, read_work_file
from unmask.storage.blobs import StoredFile

HELLO = "5d41402abc4b2a76b9719d911017c592"


def video(name: str, **changes: Any) -> Video:
    file = StoredFile(f"raw/wild/videos/{name}.mp4", HELLO, 5)
    row = {
        "file": file, "video_id": name, "chunk": "faces/wild", "is_track": False,
        "result": f"wild/{name}",
    }  # fmt: skip
    return Video(**row | changes)


WORK = Work({"av": "18.1.0", "Python": "3.11"}, SETTINGS, (video("a"), video("b\udcff")))


def test_work_is_read_as_it_was_written() -> None:
    found = read_work(WORK.text, "here")
    assert found == WORK
    assert WORK.text.isascii()


def test_the_key_says_what_not_in_which_order() -> None:
    other = Work({"Python": "3.11", "av": "18.1.0"}, SETTINGS, WORK.videos[::-1])
    assert other.key == WORK.key
    assert Work({"Python": "3.12", "av": "18.1.0"}, SETTINGS, WORK.videos).key != WORK.key


def test_two_videos_of_one_content_are_fetched_once() -> None:
    assert WORK.size_bytes == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found["videos"][0]["file"].update(path="../a.mp4"), "no path in a checkout"),
        (lambda found: found["videos"][0].update(chunk="/faces"), "no path in a checkout"),
        (lambda found: found["videos"][0].update(result="../../a"), "no path in a checkout"),
        (lambda found: found["videos"][0].update(video_id="../../a"), "no name of a video"),
        (lambda found: found["videos"][0].update(is_track="no"), "found none of this version"),
        (lambda found: found["videos"][0].update(more=1), "found none of this version"),
        (lambda found: found["settings"].update(more=1), "found none of this version"),
        (lambda found: found.update(videos=3), "found none of this version"),
    ],
)
def test_what_is_not_as_it_was_written_is_refused(
    change: Callable[[Any], None], words: str
) -> None:
    found = json.loads(WORK.text)
    change(found)
    with pytest.raises(JobError, match=words):
        read_work(json.dumps(found), "here")


def test_a_file_that_is_missing_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="found no file"):
        read_work_file(tmp_path / "asked.json")
    (tmp_path / "asked.json").write_bytes(b"\xff[")
    with pytest.raises(JobError, match="found none of this version"):
        read_work_file(tmp_path / "asked.json")
