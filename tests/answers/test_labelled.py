"""What is said of a video that was cropped before is what predict says of its file."""

from dataclasses import replace
from pathlib import Path

import pytest
from painted import faces_over_noise
from promised import promised

from tests.answers.test_analysis import EASY, STILL
from tests.conftest import make_video_file
from tests.models.test_predict import Brightness
from unmask import params
from unmask.answers.analysis import analyse
from unmask.answers.labelled import asker
from unmask.faces.crops import crop_chunk
from unmask.models.checkpoint import Checkpoint
from unmask.models.predict import Predictor
from unmask.records import VideoFaces, VideoRecord
from unmask.scoring.verdicts import NOTHING_LEARNED

RECORD = VideoRecord("face", "face.mp4", 0, "p", "real", "test")
TEXT = VideoRecord("text", "text.mp4", 0, "p", "real", "test")


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, VideoFaces]]:
    """A folder of videos, one of their crops, and what was found in each."""
    videos, faces = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("faces")
    paint = faces_over_noise((STILL.name, 40, 20))
    make_video_file(videos / "face.mp4", frames=30, rate_fps=10, size=(320, 240), paint=paint)
    (videos / "text.mp4").write_text("no video")
    named = [(name, videos / f"{name}.mp4") for name in ("face", "text")]
    rows = crop_chunk(named, faces, params.load().faces, workers=1)
    return videos, faces, {row.video_id: row for row in rows}


def checkpoint() -> Checkpoint:
    settings = params.load()
    clips = settings.clips.model_copy(update={"max_per_track": 3, "brightness": None})
    return Checkpoint(
        settings.faces, clips, settings.model, temperature=2.0, limits=NOTHING_LEARNED, run_key=""
    )


def test_a_model_with_a_promise_says_what_predict_says(cropped) -> None:
    videos, faces_dir, found = cropped
    predictor = Predictor(
        Brightness(), promised(replace(checkpoint(), limits=EASY)), device="cpu"
    )  # fmt: skip
    [expected] = analyse(predictor, [videos / "face.mp4"])
    ask = asker(predictor, [RECORD, TEXT], videos, faces_dir, workers=1)
    score, verdict, doubts = ask(RECORD, found["face"])
    assert (score.probability, verdict, doubts) == (expected.probability, "real", ())
    assert score.tracks == tuple(face.score for face in expected.faces)
    nothing, verdict, doubts = ask(TEXT, found["text"])
    assert (nothing.probability, str(nothing.reason)) == (None, "not_a_video")
    assert (verdict, doubts) == ("inconclusive", ("no_score",))


def test_a_model_without_one_gives_a_score_and_no_verdict(cropped) -> None:
    videos, faces_dir, found = cropped
    predictor = Predictor(Brightness(), checkpoint(), device="cpu")
    ask = asker(predictor, [RECORD], videos, faces_dir, workers=1)
    score, verdict, doubts = ask(RECORD, found["face"])
    [expected] = predictor.score_videos(faces_dir, [found["face"]])
    assert (score, verdict, doubts) == (expected, "", ())
