"""`unmask calibrate` as it is typed: promise, files, words, undo, and what it refuses."""

import shutil
import tempfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from painted import STILLS
from small_project import swaying

from tests.cli.test_predict import write_model
from unmask.answers.file_says import Credentials, FileSays, State
from unmask.cli.main import main
from unmask.models import checkpoint
from unmask.serve.draw import draw_verdict
from unmask.serve.inference import Settings, Task, _InferenceWorker
from unmask.video.encode import write_video


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Return a folder with three genuine clips and a file that is no video."""
    import cv2

    folder = tmp_path_factory.mktemp("footage") / "ours"
    folder.mkdir()
    for number, still in enumerate(sorted(STILLS.glob("*_neutral.jpg"))[:3]):
        picture = cv2.resize(cv2.imread(str(still), cv2.IMREAD_COLOR_RGB), (256, 256))
        write_video(folder / f"{number}.mp4", swaying([picture]), rate_fps=25.0, crf=20)
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_model(tmp_path / "model", fake_from=0.0)
    settings = checkpoint.read_settings(folder)
    checkpoint.write_settings(folder, replace(settings, promise=None))
    return folder


def run(*words):
    return CliRunner().invoke(main, list(map(str, words)))


def test_no_promise_no_verdict_until_calibrated_and_again_after_undo(footage, model, tmp_path):
    clip = footage / "0.mp4"
    before = run("predict", clip, "--workers", 1, "--report", tmp_path / "page.html")
    assert before.exit_code == 4
    assert before.stdout.startswith("inconclusive")
    assert "not calibrated" in before.stdout
    assert "unmask calibrate GENUINE" in before.stderr
    page = (tmp_path / "page.html").read_text()
    assert "This model has no promise" in page
    assert "unmask calibrate GENUINE" in page
    assert '"promise": null' in page
    assert "fake-from" not in page.split("</style>")[1]  # no threshold is drawn

    untouched = (model / "checkpoint.json").read_bytes()
    few = run("calibrate", footage, "--workers", 1)
    assert few.exit_code == 1
    assert "takes 19 different genuine videos" in few.stderr
    assert "at least 16 more, or ask for --max-false-alarms 0.25" in few.stderr
    assert "text.mp4" in few.stderr
    assert (model / "checkpoint.json").read_bytes() == untouched
    kept = (model.parent / ".model.calibration/.calibration.jsonl").read_text()
    assert len(kept.splitlines()) == 4

    # It goes on from what was scored and kept.
    done = run("calibrate", footage, "--max-false-alarms", 0.25, "--kind", "our cameras",
               "--workers", 1)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "like the 3 that it was calibrated on (our cameras), at most 1 in 4" in done.stdout
    assert "no fakes were given" in done.stdout
    assert "1 of 4 videos have no score" in done.stdout
    assert "text.mp4" in done.stderr
    assert not list(model.parent.glob(".model*"))  # what it had kept to go on from is gone
    after = run("predict", clip, "--workers", 1, "--json")
    assert '"kind": "our cameras"' in after.stdout
    assert "not_calibrated" not in after.stdout
    assert "calibrate GENUINE" not in after.stderr

    undone = run("calibrate", "--undo")
    assert undone.exit_code == 0
    assert run("predict", clip, "--workers", 1).stdout == before.stdout
    assert "it has none" in run("calibrate", "--undo").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--undo", "x.mp4"), "--undo takes --model alone"),
        ((), "Missing GENUINE"),
        (("x.mp4", "--model", "models:/unmask@champion"), "name a folder with --as"),
        (("x.mp4", "--rev", "v1"), "name a folder with --as"),
        (("x.mp4", "--max-false-alarms", "0"), "0.001"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_read(words, said, model):
    refused = run("calibrate", *words)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert model.is_dir()


def test_a_clip_that_is_genuine_and_fake_is_refused(footage, model):
    refused = run("calibrate", footage, "--fakes", footage / "1.mp4")
    assert refused.exit_code == 1
    assert "1.mp4 as genuine and as a fake" in refused.stderr
    assert "promise" not in (model / "checkpoint.json").read_text()


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")  # MLflow's, at its import
@pytest.mark.parametrize("door", ["serve", "pyfunc"])
def test_no_door_gives_a_verdict_without_a_promise(door, footage, model, tmp_path):
    clip = footage / "0.mp4"
    if door == "serve":
        folder = tmp_path / "job"
        folder.mkdir()
        shutil.copy(clip, folder / "video.mp4")
        worker = _InferenceWorker(Settings(model, tmp_path, None, ()))
        monkey = pytest.MonkeyPatch()
        monkey.setenv("TMPDIR", str(folder))  # which it sets
        says = FileSays(credentials=Credentials(state=State.ABSENT))
        told = worker.answer(Task(folder / "video.mp4", "v", False, 60.0, says), lambda _: None)
        monkey.undo()
        tempfile.tempdir = None
        assert (told.row["verdict"], told.row["doubts"]) == ("inconclusive", ["not_calibrated"])
        assert "unmask calibrate GENUINE" in " ".join(told.doubts)
        assert told.promise == ()
        assert "calibrated probability" not in draw_verdict(told)
        return
    from unmask.answers.pyfunc import VideoModel

    served = VideoModel()
    served.load_context(SimpleNamespace(artifacts={"model": str(model)}))
    [row] = served.predict(None, [str(clip)]).to_dict("records")
    assert (row["verdict"], row["doubts"]) == ("inconclusive", "not_calibrated")
    assert row["probability"] > 0
