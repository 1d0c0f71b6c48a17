"""`unmask benchmark NAME` as it is typed: scores of a model on a benchmark that was cropped."""

import doctest
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from click.testing import CliRunner, Result
from painted import STILLS
from small_project import ROOT, swaying

from tests.cli.test_predict import write_model
from unmask import params
from unmask.cli import benchmark
from unmask.cli.main import main
from unmask.data import benchmarks
from unmask.evaluation.benchmarks import scores_file
from unmask.faces.crops import crop_chunk, find_videos
from unmask.models import checkpoint
from unmask.models.predict import Predictor
from unmask.runtime.digests import model_digest
from unmask.runtime.record_files import read_faces, read_index, write_index
from unmask.video.encode import write_video


def watch(items, *, total, label):  # noqa: ARG001  # the protocol's
    yield from items


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params.yaml and the benchmark `wild`, as the stages leave it."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "params.yaml", root)
    settings = params.load(root / "params.yaml")
    for kind, still in zip(
        ("real", "fake/swap"), sorted(STILLS.glob("*_neutral.jpg")), strict=False
    ):
        picture = cv2.resize(cv2.imread(str(still), cv2.IMREAD_COLOR_RGB), (256, 256))
        path = root / "data/chunks/wild" / kind / "face.mp4"
        path.parent.mkdir(parents=True)
        write_video(path, list(swaying([picture]))[:40], rate_fps=25.0, crf=20)
    (root / "data/chunks/wild/fake/swap/text.mp4").write_text("no video")
    own = root / "held_out/raw/wild"
    benchmarks.fill(
        root / "data/chunks/wild", own, settings.raw, settings.benchmark, workers=1, watch=watch
    )
    write_index(own / "index.csv", read_index(own / "listed.csv"))
    faces = root / "held_out/faces/wild"
    list(crop_chunk(find_videos(own / "videos"), faces, settings.faces, workers=1))
    return root


@pytest.fixture
def here(cropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = Path(shutil.copytree(cropped, tmp_path / "here"))
    monkeypatch.chdir(root)
    monkeypatch.setenv("UNMASK_TRACKER", "none")
    return root


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["benchmark", *map(str, words)])


def read(root: Path, detector: str) -> scores_file.Scores:
    return scores_file.read(scores_file.detector_place(root / "metrics", "wild", detector))


def test_the_examples_hold() -> None:
    assert doctest.testmod(benchmark).failed == 0


def test_a_model_is_scored_on_the_crops_of_the_stage_and_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(here / "model", fake_from=0.0)
    before = (here / "held_out/faces/wild/index.jsonl").read_bytes()
    done = run("wild", "--trained-on", "studio", "--workers", 1)
    assert done.exit_code == 0, done.output
    called = f"model-{model_digest(here / 'model')[:8]}"
    assert f"wild: {called}, 1 real and 2 fake videos of 2 sources, 67% scored" in done.stdout
    scores = read(here, called)
    assert [(row.video_id, row.label, row.method) for row in scores.rows] == [
        ("fake_swap_face", 1, "swap"), ("fake_swap_text", 1, "swap"), ("real_face", 0, "real"),
    ]  # fmt: skip
    assert scores.detector.trained_on == ("studio",)
    assert [row.reason for row in scores.rows] == ["", "not_a_video", ""]
    assert [row.verdict for row in scores.rows] == ["fake", "inconclusive", "fake"]
    found = read_faces(here / "held_out/faces/wild/index.jsonl")["real_face"]
    [expected] = Predictor.load(here / "model").score_videos(here / "held_out/faces/wild", [found])
    assert scores.rows[2].probability == expected.probability
    assert (here / "held_out/faces/wild/index.jsonl").read_bytes() == before
    assert not list((here / ".benchmarks/wild").glob("faces-*"))

    def fail(*_: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(Predictor, "study_tracks", fail)
    again = run("score", "wild", "--as", "same", "--workers", 1)
    assert again.exit_code == 0, again.output
    assert read(here, "same").rows == scores.rows
    # Beside the pipeline's own scores of that folder.
    pipeline = replace(scores, detector=replace(scores.detector, name="model"))
    scores_file.write(scores_file.pipeline_place(here / "metrics", "wild"), pipeline)
    table = run("table")
    assert table.exit_code == 0, table.output
    assert f"\n{called} " in table.stdout


def test_the_scores_of_a_model_of_the_hub_say_from_which_commit_it_is(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    commit = "0123456789" * 4
    # As it was fetched before, with the record of its digests: nobody is asked.
    fetched = here / "cache/unmask/models/hub/ada--gend" / commit
    fetched.parent.mkdir(parents=True)
    write_model(fetched)
    digests = {
        path.relative_to(fetched).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in fetched.rglob("*") if path.is_file()
    }  # fmt: skip
    fetched.with_name(f"{commit}.json").write_text(json.dumps(digests))
    done = run("wild", "--model", f"hf:ada/gend@{commit}", "--as", "gend", "--workers", 1)
    assert done.exit_code == 0, done.output
    assert read(here, "gend").detector.notes == {"model_source": f"hf:ada/gend@{commit}"}


def test_a_model_of_other_crops_gets_its_own(here: Path) -> None:
    folder = write_model(here / "tight")
    settings = checkpoint.read_settings(folder)
    faces = settings.faces.model_copy(update={"margin_ratio": 0.4, "side_px": 128})
    checkpoint.write_settings(folder, replace(settings, faces=faces))
    (folder / "MODEL_CARD.md").write_text("---\ndatasets: [dfdc, city]\n---\n\n# A model\n")
    before = (here / "held_out/faces/wild/index.jsonl").read_bytes()
    done = run("wild", "--model", "tight", "--workers", 1)
    assert done.exit_code == 0, done.output
    assert (
        "was not cropped as this model and version ask for (128 px, a margin of 0.4" in done.stderr
    )
    [own] = (here / ".benchmarks/wild").glob("faces-*")
    [track] = read_faces(own / "index.jsonl")["real_face"].tracks
    [wide] = read_faces(here / "held_out/faces/wild/index.jsonl")["real_face"].tracks
    left, _, right, _ = track.boxes_T4[0]
    wide_left, _, wide_right, _ = wide.boxes_T4[0]
    # One face, with a margin of 0.4 and of 0.1 on each side; boxes are whole pixels.
    assert (right - left) / 1.8 == pytest.approx((wide_right - wide_left) / 1.2, abs=1)
    assert (here / "held_out/faces/wild/index.jsonl").read_bytes() == before
    assert read(here, "tight").detector.trained_on == ("dfdc", "city")
    times = {path: path.stat().st_mtime_ns for path in own.glob("*.mp4")}
    assert "replaced" not in done.stderr
    again = run("wild", "--model", "tight", "--workers", 1)
    assert again.exit_code == 0, again.output
    assert "the scores of 3 videos (its earlier ones are replaced)" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in own.glob("*.mp4")} == times


def test_what_was_not_cropped_or_misspelt_is_one_line(here: Path) -> None:
    write_model(here / "model")
    settings = (here / "params.yaml").read_text()
    (here / "params.yaml").write_text(settings.replace("benchmarks: []", "benchmarks: [celeb]"))
    for name, said in [
        ("celeb", "Run `dvc repro faces_benchmark@celeb` first."),
        ("cleeb", "Did you mean celeb?"),
        ("scoer", "Did you mean score?"),
        ("other", "Add it to benchmarks in params.yaml, which names celeb."),
        ("../raw", "begins with a letter or digit"),
    ]:
        done = run(name, "--workers", 1)
        assert done.exit_code == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    done = run("wild", "--as", "a/b", "--workers", 1)
    assert done.exit_code == 1
    assert "a detector named 'a/b'" in done.stderr
    done = run("wild", "--as", "model", "--workers", 1)
    assert done.exit_code == 1
    assert "that is the name of the pipeline's own model" in done.stderr
    assert not (here / "metrics").exists()


def test_an_interrupted_run_says_that_it_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(here / "model")

    def interrupt(*_: object) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "study_tracks", interrupt)
    done = run("wild", "--workers", 1)
    assert done.exit_code == 130
    assert "the same command goes on" in done.stderr
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setenv("UNMASK_TRACKER", "none")
    assert run("wild", "--workers", 1).exit_code == 0
    [file] = (here / "metrics/detectors/wild").glob("model-*.json")
    assert json.loads(file.read_text())["videos"] == 3
