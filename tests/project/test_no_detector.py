"""benchmarks/no_detector.py: which clips of a folder, whose, and what it prints of them."""

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.errors import DatasetError

SCRIPT = Path(__file__).parents[2] / "benchmarks/no_detector.py"


@pytest.fixture(scope="module")
def script():
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("no_detector", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["no_detector"] = module  # workers look for its functions there
    spec.loader.exec_module(module)
    return module


def fill(folder: Path, *names: str) -> Path:
    """Put empty files of these names into a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_clips_are_labelled_by_folder_and_grouped_by_subfolder_or_name(script, tmp_path):
    fill(
        tmp_path, "real/ann/1.mp4", "real/ann/2.MOV", "real/bob__3.mp4", "fake/ann/4.webm",
        "fake/bob__5.mp4", "fake/6.gif", "fake/notes.txt",
    )  # fmt: skip
    by_mark = {clip.path.name: clip for clip in script.find_clips(tmp_path, "__")}
    assert {name: clip.label for name, clip in by_mark.items()} == {
        "1.mp4": 0, "2.MOV": 0, "bob__3.mp4": 0, "4.webm": 1, "bob__5.mp4": 1, "6.gif": 1,
    }  # fmt: skip
    assert {name: clip.group for name, clip in by_mark.items()} == {
        "1.mp4": "ann", "2.MOV": "ann", "bob__3.mp4": "bob", "4.webm": "ann", "bob__5.mp4": "bob",
        "6.gif": "6.gif",
    }  # fmt: skip
    plain = {clip.path.name: clip.group for clip in script.find_clips(tmp_path, None)}
    assert plain["bob__3.mp4"] == "bob__3.mp4"  # by itself


def test_a_folder_without_one_of_the_classes_is_refused(script, tmp_path):
    fill(tmp_path, "real/1.mp4", "fake/notes.txt")
    with pytest.raises(DatasetError, match=r"Asked for the clips of .*fake; found none"):
        script.find_clips(tmp_path, None)


@pytest.mark.slow
def test_a_folder_of_clips_is_ranked_without_a_detector(
    script, tmp_path, make_video, monkeypatch, capsys
):
    stills = SCRIPT.parents[1] / "data/sources/stills"
    for number, name in enumerate(("001_smiling.jpg", "002_smiling.jpg", "004_smiling.jpg")):
        picture = cv2.cvtColor(cv2.imread(str(stills / name)), cv2.COLOR_BGR2RGB)
        for kind, side in (("real", 160), ("fake", 320)):
            small = np.ascontiguousarray(cv2.resize(picture, (side, side)))
            path = tmp_path / kind / f"p{number}__{kind}.mp4"
            path.parent.mkdir(exist_ok=True)
            make_video(path, frames=40, rate_fps=25, size=(side, side), paint=lambda *_, p=small: p)
    fill(tmp_path, "real/p9__broken.mp4")
    out = tmp_path / "found.json"
    asked = ["no_detector.py", str(tmp_path), "--group-by", "__", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", asked)
    script.main()
    found = json.loads(out.read_text())
    assert (found["videos"], found["sources"]) == (6, 3)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["face_px"]["roc_auc"]["value"] == 1.0  # the fakes are twice as large
    assert found["matched"]["pairs"] == 0
    printed = capsys.readouterr().out
    assert "face width (px)" in printed
    assert "1 of 7 clips left out: p9__broken.mp4: empty" in printed
