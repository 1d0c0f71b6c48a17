"""--certificate: what `predict --annotate` and `fake` sign, and what ends them at once."""

import datetime as dt
import json
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from painted import STILLS
from signed_files import Authority
from small_project import swaying

from tests.cli.test_predict import write_model
from unmask.answers.ask_files import read_here
from unmask.cli.main import main
from unmask.video.encode import write_video

ROOT = Path(__file__).parents[2]
SIGNED = ("--certificate", "chain.pem", "--certificate-key", "key.pem")


def unmask(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """Stand in a folder with a clip of a face, a photo, a certificate and its key."""
    monkeypatch.chdir(tmp_path)
    face = cv2.resize(cv2.imread(str(min(STILLS.glob("*_neutral.jpg")))), (256, 256))
    cv2.imwrite("photo.jpg", face)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    write_video(Path("clip.mp4"), swaying([face[..., ::-1]]), rate_fps=25.0, crf=20)
    made = Authority()
    put(made)
    Path("trust.pem").write_bytes(made.pem)
    return made


def put(authority, **options):
    chain, key = authority.issue(**options)
    Path("chain.pem").write_bytes(chain)
    Path("key.pem").write_bytes(key)


@pytest.mark.usefixtures("authority")
def test_annotated_files_are_signed_and_name_the_original(model):
    made = unmask(
        "predict", "clip.mp4", "photo.jpg", "--model", model, "--annotate", "seen", *SIGNED
    )
    assert made.exit_code == 4, made.output
    asked = unmask("predict", "seen/clip.mp4", "seen/photo.png", "--model", model, "--json",
                   "--trust", "trust.pem")  # fmt: skip
    rows = [json.loads(line) for line in asked.stdout.splitlines() if line.startswith("{")]
    for row, original in zip(rows, ("clip.mp4", "photo.jpg"), strict=True):
        says = row["file_says"]["credentials"]
        assert says["state"] == "trusted"
        assert says["ingredients"] == [{"title": original, "relation": "parentOf"}]
        assert says["actions"][1]["action"] == "c2pa.drawing"
    assert "unmask predict --annotate" in rows[0]["file_says"]["container"]["comment"]
    again = unmask("predict", "clip.mp4", "--model", model, "--annotate", "seen", *SIGNED)
    assert again.exit_code == 4  # what it wrote and signed itself it may write anew
    assert list(Path("seen").glob(".*")) == []


@pytest.mark.usefixtures("authority")
def test_without_a_certificate_a_tag_says_it_in_plain_words(model):
    assert unmask("predict", "clip.mp4", "photo.jpg", "--model", model, "--annotate",
                  "seen").exit_code == 4  # fmt: skip
    for name in ("seen/clip.mp4", "seen/photo.png"):
        says = read_here(Path(name))
        assert says.credentials.state == "absent"
        assert "boxes and scores by unmask predict --annotate" in says.container["comment"]


def test_fakes_are_signed_as_manipulated_and_a_run_goes_on(authority):
    fake = ("fake", "clip.mp4", "--chunk", "chunk", "--consented", "--fakes-per-video", 1)
    made = unmask(*fake, *SIGNED)
    assert made.exit_code == 0, made.output
    videos = sorted(Path("chunk").glob("*.mp4"))
    says = {path.name: read_here(path, authority.pem.decode()).credentials for path in videos}
    assert [each.state for each in says.values()] == ["trusted", "trusted"]
    told = [(each.actions[1].action, each.actions[1].source) for each in says.values()]
    assert sorted(told) == [("c2pa.edited", "compositeCapture"), ("c2pa.transcoded", "")]
    before = {path: path.read_bytes() for path in videos}
    assert unmask(*fake, *SIGNED).exit_code == 0
    assert {path: path.read_bytes() for path in videos} == before  # kept, not signed anew
    assert unmask(*fake).exit_code == 0  # without: made anew, as they would be by themselves
    assert all(read_here(path).credentials.state == "absent" for path in videos)
    assert "MANIPULATED" in read_here(videos[1]).container["comment"]


@pytest.mark.usefixtures("authority")
def test_what_can_not_sign_ends_the_command_before_anything_is_written(model, monkeypatch):
    asked = ("predict", "clip.mp4", "--model", model, "--annotate", "seen", *SIGNED)
    other = Authority()
    for options, words in (
        ({"lasts": dt.timedelta(days=-1)}, "a certificate that is valid now"),
        (
            {"encryption": BestAvailableEncryption(b"correct horse")},
            "UNMASK_CERTIFICATE_PASSPHRASE",
        ),
    ):
        put(other, **options)
        refused = unmask(*asked)
        assert (refused.exit_code, refused.output.count("\n")) == (1, 1), refused.output
        assert words in refused.output
        assert not Path("seen").exists()
    monkeypatch.setenv("UNMASK_CERTIFICATE_PASSPHRASE", "correct horse")
    assert unmask(*asked).exit_code == 4
    Path("chain.pem").write_bytes(other.issue()[0])
    Path("key.pem").write_bytes(other.issue()[1])
    assert "another one than" in unmask(*asked).output
    assert unmask("fake", "clip.mp4", "--chunk", "made", "--consented", *SIGNED).exit_code == 1
    assert not Path("made").exists()
    assert unmask("predict", "clip.mp4", *SIGNED).exit_code == 2
    assert unmask(*asked[:-2]).exit_code == 2
