"""What `unmask predict` says of still pictures: a score, and never a verdict."""

import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from adopted import tiny_adopted
from click.testing import CliRunner
from painted import STILLS
from PIL import Image

from tests.cli.test_predict import write_model
from tests.faces.test_still_files import lossless
from unmask.answers.calibration import facts_of
from unmask.answers.verify import BLANK, seal
from unmask.cli.main import main
from unmask.faces.files import crop_file
from unmask.models.predict import Predictor, probability


def unmask(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Write a model with a promise that calls every face in a video fake."""
    return write_model(tmp_path_factory.mktemp("model"), fake_from=0.0)


@pytest.fixture(scope="module")
def pixels():
    photo = cv2.imread(str(sorted(STILLS.glob("*_neutral.jpg"))[0]), cv2.IMREAD_COLOR_RGB)
    return cv2.resize(photo, (400, 400))


@pytest.fixture
def photo(tmp_path, pixels, monkeypatch):
    """A photo in a folder to stand in."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels).save("photo.png")
    return tmp_path / "photo.png"


@pytest.mark.usefixtures("photo")
def test_a_still_has_the_score_of_a_video_of_it_and_never_a_verdict(pixels, model, tmp_path):
    ran = unmask("predict", "photo.png", "--model", model, "--json")
    assert ran.exit_code == 4, ran.output
    row = json.loads(ran.stdout)
    assert row["verdict"] == "inconclusive"
    assert row["doubts"][0] == "still_picture"
    assert "not_calibrated" not in row["doubts"]
    assert "too_short" not in row["doubts"]
    assert row["duration_s"] is None
    assert row["reason"] is None
    assert "given this one 4 times" in row["detail"]
    [face] = row["faces"]
    assert (face["start_s"], face["end_s"], face["track_s"]) == (0.0, 0.0, 0.0)
    # A video's face that stands still gets no score, so its clip is asked for by hand.
    predictor = Predictor.load(model)
    video = lossless(tmp_path / "v.mkv", pixels, frames=20)
    cropped = crop_file(video, predictor.checkpoint.faces, crops_dir=tmp_path)
    [track] = cropped.found.tracks
    assert not predictor.moves(track)
    [score] = predictor.score_tracks(tmp_path, [track])
    wanted = probability(score.logit, predictor.checkpoint.temperature)
    assert row["probability"] == pytest.approx(wanted, abs=0.01)


@pytest.mark.usefixtures("photo")
def test_the_page_the_annotated_picture_and_verify_are_of_the_still(model, pixels):
    made = unmask(
        "predict", "photo.png", "--model", model, "--report", "page.html", "--annotate", "seen.png",
        "--index", "index.html",
    )  # fmt: skip
    assert made.exit_code == 4, made.output
    assert "still picture" in made.stdout
    page = (Path.cwd() / "page.html").read_text()
    assert "unmask report on the still picture" in page
    assert "weak evidence" in page
    assert "Time in the video" not in page  # a timeline says nothing of a moment
    assert "was learned from videos" in page
    assert "is called fake" not in page  # neither the promise nor a threshold
    assert "data:image/jpeg" in (Path.cwd() / "index.html").read_text()
    seen = np.asarray(Image.open("seen.png"))
    assert seen.shape == pixels.shape
    assert 0 < (seen != pixels).any(axis=2).mean() < 0.2
    again = unmask("predict", "photo.png", "--model", model, "--annotate", "seen.png")
    assert again.exit_code == 4
    checked = unmask("verify", "page.html", "photo.png", "--model", model, "--score")
    assert checked.exit_code == 0, checked.output
    assert checked.output.count("matches") == 5
    # A verdict that somebody put in, with a digest that fits it, is not what comes out.
    blank = re.sub(r'"page_sha256": "[0-9a-f]{64}"', f'"page_sha256": "{BLANK}"', page)
    forged = blank.replace('"verdict": "inconclusive"', '"verdict": "fake"')
    assert forged != blank
    (Path.cwd() / "page.html").write_text(seal(forged))
    checked = unmask("verify", "page.html", "photo.png", "--model", model, "--score")
    assert checked.exit_code == 6, checked.output
    assert "verdict now: inconclusive; in the report: fake" in checked.output


@pytest.mark.usefixtures("photo")
def test_a_report_is_printed_and_nothing_of_others_is_replaced(model):
    asked = ("predict", "photo.png", "--model", model, "--report", "page.html", "--pdf")
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("NO BROWSER: found no Chromium; `apt-get install chromium` tests printing")
    for _ in range(2):  # what it printed itself it may print anew
        made = unmask(*asked)
        assert made.exit_code == 4, made.output
    assert Path("page.pdf").read_bytes().startswith(b"%PDF-")
    checked = unmask("verify", "page.pdf", "photo.png")
    assert (checked.exit_code, checked.output.count("\n")) == (1, 1)
    Path("page.pdf").write_bytes(b"%PDF-1.4 of somebody else")
    refused = unmask(*asked)
    assert refused.exit_code == 1
    assert "a file that unmask did not write is there" in refused.output


@pytest.mark.usefixtures("photo")
def test_what_is_not_made_anew_does_not_stay_with_an_earlier_verdict(model, monkeypatch):
    asked = ("predict", "photo.png", "--model", model, "--annotate", "seen.png",
             "--report", "page.html", "--pdf")  # fmt: skip
    browser = Path("browser")
    browser.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    browser.chmod(0o755)
    monkeypatch.setenv("CHROME_PATH", str(browser.absolute()))
    unmask(*asked[:6])
    Path("page.pdf").write_bytes(b"%PDF-1.4\n% unmask report of sha256 " + b"0" * 64 + b"\n")
    assert Path("seen.png").exists()
    Image.new("RGB", (400, 400)).save("photo.png")  # without a face
    made = unmask(*asked)
    assert made.exit_code == 4, made.output
    assert "page.pdf was not made" in made.stderr
    assert "seen.png was not made" in made.stderr
    assert "No face was found in it" in Path("page.html").read_text()
    assert not Path("page.pdf").exists()
    assert not Path("seen.png").exists()


@pytest.mark.usefixtures("photo")
def test_stills_in_folders_are_asked_for(model):
    (Path.cwd() / "album").mkdir()
    (Path.cwd() / "photo.png").rename("album/photo.png")
    (Path.cwd() / "album/cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    refused = unmask("predict", "album", "--model", model)
    assert refused.exit_code == 1
    assert "2 still pictures are answered with --stills" in refused.output
    taken = unmask("predict", "album", "--stills", "--model", model, "--csv")
    assert [line.split(",")[0] for line in taken.stdout.splitlines()[1:]] == [
        "album/cut.jpg", "album/photo.png",
    ]  # fmt: skip
    assert "unreadable" in taken.stdout
    by_ending = unmask("predict", "album/*.png", "--model", model, "--csv")
    assert by_ending.stdout.splitlines()[1].startswith("album/photo.png,inconclusive")
    wrong = unmask("predict", "album/photo.png", "--model", model, "--annotate", "a.mp4")
    assert wrong.exit_code == 2
    assert "what is written ends in .png" in wrong.output


@pytest.mark.usefixtures("photo")
def test_without_pillow_stderr_says_once_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)  # here; a worker is another process
    ran = unmask("predict", "photo.png", "gone.png", "--model", model)
    assert ran.stderr.count("pip install 'unmask[stills]'") == 1
    assert "(1 here)" in ran.stderr


@pytest.mark.usefixtures("photo")
def test_with_pillow_alone_nothing_says_that_pictures_get_no_score(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    ran = unmask("predict", "photo.png", "--model", model, "--json")
    assert json.loads(ran.stdout)["probability"] is not None
    assert "get no score" not in ran.stderr


def test_a_net_of_single_pictures_is_given_one(photo, tmp_path):
    tiny_adopted(tmp_path / "adopted")
    ran = unmask("predict", photo, "--model", tmp_path / "adopted" / "model", "--json")
    row = json.loads(ran.stdout)
    assert row["doubts"][:2] == ["still_picture", "not_calibrated"]
    assert "unmask calibrate" not in ran.stderr  # which makes no verdict of a picture
    assert row["detail"] == ""
    assert 0 < row["probability"] < 1
    # Not even such a net may learn its promise from pictures.
    predictor = Predictor.load(tmp_path / "adopted" / "model")
    cropped = crop_file(photo, predictor.checkpoint.faces, crops_dir=tmp_path)
    facts = facts_of(predictor, cropped)
    assert (facts["reason"], facts["faces"]) == ("too_few_frames", [])
