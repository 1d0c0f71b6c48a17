"""An adopted model through the doors that a model of our own goes through.

The server, MLflow's store, SageMaker and Substra hand on a model's folder: their own tests do it
with any. What they make of the folder is asked here.
"""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from adopted import adopt_made_up, described
from click.testing import CliRunner
from painted import faces_over_noise
from small_project import STILLS

from tests.conftest import make_video_file
from unmask.cli.main import main
from unmask.models import checkpoint

pytestmark = pytest.mark.slow

VIT = described(fake=(0,), pooling="probabilities")
CONVOLUTIONS = described("mobilenetv3_small_050", channels="bgr", outputs=3, fake=(0, 2))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three videos, each of a face of its own."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        paint = faces_over_noise((STILLS[number].name, 40, 20), speed_px=number)
        make_video_file(
            folder / f"{number}.mp4", frames=20, rate_fps=10, size=(320, 240), paint=paint
        )
    return folder


@pytest.fixture(scope="module", params=[VIT, CONVOLUTIONS], ids=["vit", "convolutions"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adopt_made_up(tmp_path_factory.mktemp("adopted") / "there", request.param)


def call(*words: str | Path):
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code in (0, 4), done.output
    return done


def rows_of(*words: str | Path) -> list[dict]:
    return [json.loads(row) for row in call("predict", "--json", *words).stdout.splitlines()]


def test_it_answers_shows_and_vouches_for_its_report(
    model: Path, videos: Path, tmp_path: Path
) -> None:
    page, drawn = tmp_path / "page.html", tmp_path / "drawn.mp4"
    asked = (videos / "0.mp4", "--model", model, "--workers", "1")
    [row] = rows_of(*asked, "--report", page, "--annotate", drawn)
    assert (row["verdict"], row["doubts"]) == ("inconclusive", ["not_calibrated"])
    assert row["licence"] == "CC BY-NC 4.0"
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert "Others trained this model: A detector of ours" in text
    assert "Licence of its weights: CC BY-NC 4.0. Not for commerce." in text
    is_vit = "vit" in json.loads((model / "checkpoint.json").read_text())["adopted"][
        "architecture"
    ]["net"]  # fmt: skip
    assert ("tokens, as they enter its last block" in text) is is_vit
    assert drawn.stat().st_size > 1000
    said = call("verify", page, videos / "0.mp4", "--model", model).output
    assert said.count("matches") == 4
    # Another description of the same file is another model.
    other = tmp_path / "other"
    shutil.copytree(model, other)
    settings = checkpoint.read_settings(other)
    assert settings.adopted is not None
    turned = settings.adopted.architecture.model_copy(update={"fake": (1,)})
    adopted = settings.adopted.model_copy(update={"architecture": turned})
    checkpoint.write_settings(other, replace(settings, adopted=adopted))
    done = CliRunner().invoke(main, ["verify", str(page), "--model", str(other)])
    assert done.exit_code == 5, done.output

    # MLflow's pyfunc answers from the folder that it unpacked.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, of its own types and of an input example
        from unmask.answers.pyfunc import VideoModel

    served = VideoModel()
    served.load_context(SimpleNamespace(artifacts={"model": str(model)}))
    [answer] = served.predict(None, [str(videos / "0.mp4")]).to_dict("records")
    assert (answer["probability"], answer["doubts"]) == (row["probability"], "not_calibrated")


def test_it_is_calibrated_and_keeps_its_origin(model: Path, videos: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    said = call(
        "calibrate", videos, "--max-false-alarms", "0.25", "--kind", "painted faces",
        "--model", model, "--as", ours, "--workers", "1",
    ).output  # fmt: skip
    assert "at most 1 in 4 is called fake" in said
    before, after = (checkpoint.read_settings(folder) for folder in (model, ours))
    assert after.adopted == before.adopted
    assert after.promise is not None
    assert after.promise.genuine == 3
    page = tmp_path / "page.html"
    [row] = rows_of(videos / "1.mp4", "--model", ours, "--report", page, "--workers", "1")
    assert "not_calibrated" not in row["doubts"]
    assert (row["promise"]["kind"], row["licence"]) == ("painted faces", "CC BY-NC 4.0")
    text = page.read_text(encoding="utf-8")
    assert "painted faces" in text
    assert "Others trained this model: A detector of ours" in text
    card = (ours / checkpoint.CARD).read_text()
    assert "- Weights: CC BY-NC 4.0" in card
    assert "at most 1 in 4 is called fake" in " ".join(card.split())
