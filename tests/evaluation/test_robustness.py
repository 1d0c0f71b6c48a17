"""What is made of answers, and how they are come by: squares for faces, redness for fakes."""

import json
import math
import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from painted import SETTINGS as FACES
from painted import SquareDetector, at, load_squares, squares

from tests.test_layout import ROOT, import_closure
from unmask import params
from unmask.errors import DatasetError
from unmask.evaluation import robustness
from unmask.evaluation.evaluate import ScoredVideo
from unmask.faces.crops import crop_chunk
from unmask.models import checkpoint
from unmask.models.checkpoint import Checkpoint
from unmask.models.frame_net import DEVIATION, MEAN
from unmask.models.predict import Predictor
from unmask.records import Fingerprint, Reason, VideoRecord, VideoScore
from unmask.runtime.disk import content_digest
from unmask.runtime.record_files import read_chunk, write_fingerprints, write_index
from unmask.scoring import metrics
from unmask.scoring.verdicts import NOTHING_LEARNED
from unmask.tracking.tracker import NullTracker

SHIPPED = params.load()
EVALUATE = SHIPPED.evaluate.model_copy(update={"bootstrap_resamples": 200})


# ---------------------------------------------------------------- what answers are worth


def answers(*probabilities):
    """Return six people's videos, real and fake in turn, with these answers."""
    return [
        ScoredVideo(
            "wild",
            VideoRecord(f"v{n}", f"v{n}.mp4", n % 2, f"person{n // 2}", "unknown", "test"),
            VideoScore(f"v{n}", p, Reason.NO_FACE if p is None else None, ()),
        )
        for n, p in enumerate(probabilities)
    ]


GOOD = answers(*[0.1, 0.9] * 6)


def test_a_drop_is_a_loss_of_auc_and_a_growth_of_log_loss():
    worse = answers(*[0.1, 0.9] * 3, *[0.9, 0.1] * 3)
    clean, row = robustness.summarise({"clean": GOOD, "dark": worse}, EVALUATE)
    assert clean["roc_auc"]["value"] == 1
    assert row["roc_auc"]["value"] == row["drop"]["roc_auc"]["value"] == 0.5
    assert row["drop"]["accuracy"]["value"] == 0.5
    grown = (-math.log(0.9) - math.log(0.1)) / 2 + math.log(0.9)
    assert row["drop"]["log_loss"]["value"] == pytest.approx(grown)
    assert row["drop"]["roc_auc"]["low"] < 0.5 < row["drop"]["roc_auc"]["high"]


def test_both_sides_of_a_drop_are_drawn_alike():
    # Both hang on who is drawn, so each has an interval; where nothing changed the drop has none.
    mixed = answers(*[0.1, 0.9] * 3, *[0.9, 0.1] * 3)
    row = robustness.summarise({"clean": mixed, "same": mixed}, EVALUATE)[1]
    assert row["log_loss"]["low"] < row["log_loss"]["high"]
    assert set(row["drop"]["log_loss"].values()) == {0.0}


def test_a_video_without_an_answer_counts_as_uncovered_and_in_no_drop():
    some = answers(None, 0.9, *[0.1, 0.9] * 4, None, None)
    row = robustness.summarise({"clean": GOOD, "dark": some}, EVALUATE)[1]
    assert row["coverage"]["value"] == 0.75
    assert row["coverage"]["low"] < 0.75 < row["coverage"]["high"]
    assert row["reasons"] == {"no_face": 3}
    assert row["drop"]["videos"] == 9
    assert row["drop"]["log_loss"]["value"] == 0


def test_an_interval_is_the_metrics_own():
    mixed = answers(*[0.1, 0.9] * 3, *[0.9, 0.1] * 3)
    [row] = robustness.summarise({"clean": mixed}, EVALUATE)
    expected = metrics.bootstrap_interval(
        metrics.log_loss, [v.record.label for v in mixed], [v.score.probability for v in mixed],
        [v.record.source_id for v in mixed], resamples=200, seed=EVALUATE.seed,
    )  # fmt: skip
    assert (row["log_loss"]["low"], row["log_loss"]["high"]) == (expected.low, expected.high)


def test_no_answer_at_all_is_no_number():
    none = answers(*[None] * 12)
    row = robustness.summarise({"clean": GOOD, "black": none}, EVALUATE)[1]
    assert row["coverage"]["value"] == 0
    assert row["roc_auc"]["value"] is row["drop"]["roc_auc"]["value"] is None
    with pytest.raises(DatasetError, match="none of 12 test videos"):
        robustness.summarise({"clean": none, "black": none}, EVALUATE)


# ---------------------------------------------------------------- how they are come by


class Redness(torch.nn.Module):
    """Says fake in proportion to the red of the last frame, 0 to 10."""

    def forward(self, clips_BCTHW):
        red_B = (clips_BCTHW[:, 0, -1] * DEVIATION + MEAN).mean(dim=(1, 2))
        return torch.stack([torch.zeros_like(red_B), 10 * red_B], dim=1)


SETTINGS = params.Robustness(
    max_videos=None,
    degradations={
        "dim": ({"brightness": 0.8, "noise_levels": 2.0, "crf": 20},),
        "half_twice": ({"scale": 0.5, "crf": 20}, {"scale": 0.5, "crf": 20}),
    },
    seed=1,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory, make_video):
    """A folder with raw videos, their faces and a model: four squares, a wall, no video, none."""
    root = tmp_path_factory.mktemp("world")
    raw, faces, model = root / "raw/wild", root / "faces/wild", root / "model"
    (raw / "videos").mkdir(parents=True)
    model.mkdir()
    for name in (checkpoint.WEIGHTS, checkpoint.SETTINGS):
        (model / name).write_text("stands for the model")
    for n in range(4):
        paint = squares(lambda t, n=n: at(40 + 5 * n + 8 * t, 30, 64))
        make_video(
            raw / f"videos/square{n}.mp4", frames=40, rate_fps=20, size=(192, 128), paint=paint
        )
    make_video(raw / "videos/wall.mp4", frames=40, rate_fps=20, paint=squares())
    (raw / "videos/text.mp4").write_text("no video")
    files = sorted((raw / "videos").iterdir())
    rows = [
        VideoRecord(path.stem, path.name, n % 2, f"person{n // 2}", "unknown", "test")
        for n, path in enumerate(files)
    ]
    write_index(raw / "index.csv", [*rows, VideoRecord("gone", "gone.mp4", 1, "g", "x", "test")])
    prints = [Fingerprint(path.stem, content_digest(path), "", ()) for path in files]
    write_fingerprints(raw / "fingerprints.csv", prints)
    videos = [(path.stem, path) for path in files]
    list(crop_chunk(videos, faces, FACES, workers=1, load_detector=load_squares))
    return root


def predictor():
    given = {"side_px": 64, "max_per_track": 1, "brightness": None}
    clips = SHIPPED.clips.model_copy(update=given)
    made = Checkpoint(
        FACES, clips, SHIPPED.model, temperature=2.0, limits=NOTHING_LEARNED, run_key=""
    )
    return Predictor(Redness(), made, device="cpu")


def ask(world: Path, folder: Path, *, settings=SETTINGS, load_detector=load_squares):
    """Return the test videos, and the iterator over their answers."""
    chunk = read_chunk("wild", world / "raw/wild/index.csv", world / "faces/wild")
    videos = robustness.find_originals([chunk], world / "raw")
    return videos, robustness.score(
        videos, predictor(), world / "model", settings, folder,
        workers=1, load_detector=load_detector,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """The folder of a run that was not disturbed, and its answers."""
    folder = tmp_path_factory.mktemp("whole")
    videos, scored = ask(world, folder)
    return folder, robustness.sort_answers(scored, videos, SETTINGS)


def test_a_degraded_video_is_answered_as_predict_answers_its_copy(whole):
    _, found = whole
    by_id = {v.record.video_id: v.score for v in found["dim"]}
    for n in range(4):
        clean = next(v for v in found["clean"] if v.record.video_id == f"square{n}")
        # Red of 230 is 9.02 of 10, over the temperature 2; at 0.8 of it 7.2.
        logit = math.log(clean.score.probability / (1 - clean.score.probability))
        assert logit == pytest.approx(230 / 255 * 5, rel=0.08)
        after = by_id[f"square{n}"].probability
        assert math.log(after / (1 - after)) == pytest.approx(0.8 * logit, rel=0.05)


def test_what_has_no_answer_has_its_reason(whole):
    _, found = whole
    for degradation in ("clean", *SETTINGS.degradations):
        reasons = {v.record.video_id: v.score.reason for v in found[degradation]}
        assert reasons["wall"] == Reason.NO_FACE
        assert reasons["text"] == Reason.NOT_A_VIDEO
        assert reasons["gone"] == Reason.MISSING


def test_nothing_is_left_but_the_answers(whole):
    assert os.listdir(whole[0]) == [robustness.SCORES]


def test_an_interrupted_run_goes_on_to_the_same_bytes(world, whole, tmp_path):
    _, scored = ask(world, tmp_path)
    for _ in range(9):
        next(scored)
    scored.close()
    lines = (tmp_path / robustness.SCORES).read_text().splitlines()
    assert len(lines) == 9
    # What is known is not asked for again: a mark in it stays.
    marked = json.loads(lines[-1])
    before, marked["facts"]["faces"] = dict(marked["facts"]), 77
    (tmp_path / robustness.SCORES).write_text("\n".join([*lines[:-1], json.dumps(marked)]) + "\n")
    list(ask(world, tmp_path)[1])
    text = (tmp_path / robustness.SCORES).read_text()
    assert text.count('"faces": 77') == 1
    unmarked = text.replace('"faces": 77', f'"faces": {before["faces"]}')
    assert unmarked == (whole[0] / robustness.SCORES).read_text()


def test_one_degradation_more_asks_for_that_alone(world, whole, tmp_path):
    old = (whole[0] / robustness.SCORES).read_text()
    (tmp_path / robustness.SCORES).write_text(old.replace('"faces": 1', '"faces": 7'))
    more = SETTINGS.model_copy(
        update={"degradations": SETTINGS.degradations | {"worse": ({"crf": 45},)}}
    )
    videos, scored = ask(world, tmp_path, settings=more)
    found = robustness.sort_answers(scored, videos, more)
    assert list(found) == ["clean", "dim", "half_twice", "worse"]
    rows = [json.loads(line) for line in (tmp_path / robustness.SCORES).read_text().splitlines()]
    fresh = {row["name"].split("/")[0] for row in rows if row["facts"]["faces"] == 1}
    assert fresh == {"worse"}


class Crasher(SquareDetector):
    """Ends its process at the sight of the wall, as a codec that crashes does."""

    def detect(self, pictures):
        found = super().detect(pictures)
        if any(not faces for faces in found):
            os._exit(3)
        return found


def load_crasher(_):
    return Crasher()


def test_a_crash_costs_one_video_and_is_tried_again(world, whole, tmp_path):
    lines = (whole[0] / robustness.SCORES).read_text().splitlines(keepends=True)
    known = "".join(line for line in lines if "dim/wild/wall" not in line)
    (tmp_path / robustness.SCORES).write_text(known)
    videos, scored = ask(world, tmp_path, load_detector=load_crasher)
    found = robustness.sort_answers(scored, videos, SETTINGS)
    crashed = [v.record.video_id for v in found["dim"] if v.score.reason == Reason.CRASHED]
    assert crashed == ["wall"]
    assert robustness.sort_answers(ask(world, tmp_path)[1], videos, SETTINGS) == whole[1]


# ---------------------------------------------------------------- what is written


class Notes(NullTracker):
    """Keeps the metrics it is told."""

    def __init__(self):
        super().__init__()
        self.metrics = {}

    def log_metrics(self, values, *, step=None):  # noqa: ARG002 - the protocol's
        self.metrics |= values


def test_the_record_and_what_the_tracker_hears(world, whole, tmp_path):
    chunk = read_chunk("wild", world / "raw/wild/index.csv", world / "faces/wild")
    videos = robustness.find_originals([chunk], world / "raw")
    rows = robustness.summarise(whole[1], EVALUATE)
    found, notes = robustness.record(rows, videos, SETTINGS), Notes()
    robustness.write(found, SETTINGS, tmp_path / "r.json", tmp_path / "plots", notes)
    assert json.loads((tmp_path / "r.json").read_text()) == found
    drops = [row["drop"]["roc_auc"]["value"] for row in rows[1:]]
    assert found["worst"]["roc_auc_drop"] == max(drops)
    assert found["worst"]["coverage"] == pytest.approx(4 / 7)
    assert notes.metrics["robustness/dim/log_loss"] == rows[1]["log_loss"]["value"]
    assert notes.metrics["robustness/worst/roc_auc_drop"] == max(drops)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "robustness.csv", "robustness.png",
    }  # fmt: skip
    # DVC leaves lists out of its tables: what is left is a handful of numbers.
    assert isinstance(found["rows"], list)
    assert isinstance(found["measured_on"], list)
    other = SETTINGS.model_copy(update={"seed": 2})
    assert robustness.record(rows, videos, other)["measured_on"][1] != found["measured_on"][1]
    fewer = robustness.record(rows, videos[1:], SETTINGS)["measured_on"]
    assert fewer[0] != found["measured_on"][0]
    assert fewer[1] == found["measured_on"][1]


def test_fewer_videos_are_whole_sources_and_the_same_each_time(world):
    chunk = read_chunk("wild", world / "raw/wild/index.csv", world / "faces/wild")
    videos = robustness.find_originals([chunk], world / "raw")
    per_source = Counter(video.record.source_id for video in videos)

    def draw(most):
        found = robustness.draw(videos, SETTINGS.model_copy(update={"max_videos": most}))
        assert found == [video for video in videos if video in found]  # in order
        counts = Counter(video.record.source_id for video in found)
        assert counts.items() <= per_source.items()
        return set(counts), len(found)

    assert draw(None) == draw(len(videos)) == (set(per_source), len(videos))
    before: set[str] = set()
    for most in range(1, len(videos) + 1):
        sources, count = draw(most)
        assert len(sources) == 1 or count <= most
        assert before <= sources
        before = sources
    other = SETTINGS.model_copy(update={"max_videos": 3})
    assert robustness._settings_digest(other) == robustness._settings_digest(SETTINGS)


def test_the_table_names_every_degradation(whole):
    text = robustness.table(robustness.summarise(whole[1], EVALUATE))
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["clean", "dim", "half_twice"]


def test_the_code_that_counts_is_what_the_stage_imports_but_what_cannot_change_an_answer():
    harmless = {
        # Which videos are asked about: each answer stands by its video's digest.
        "data.copies", "data.words",
        # What is made of answers, and what they are not made of.
        "evaluation.evaluate", "evaluation.plots", "scoring.metrics", "scoring.promises",
        "scoring.unlike", "scoring.verdicts", "models.features", "models.looks",
        "tracking.tracker",
        # How a model's folder says where it came from.
        "models.adopt.record", "models.adopt.start",
        # How many cores, what engines share, and which files are refused.
        "engine.cores", "engine.net", "engine.onnx_file",
        # What refuses, how work is shared out, how files are written; not what is computed.
        "errors", "faces.shared_detector", "runtime.child", "runtime.code", "runtime.confinement",
        "runtime.digests", "runtime.disk", "runtime.processes", "runtime.record_files",
        "runtime.packed_faces",
        "runtime.resume_manifest", "runtime.scratch", "runtime.system", "runtime.wire",
        "runtime.without_compiler",
        "video.ahead",
        "records",  # rows
    }  # fmt: skip
    counted = {name.replace("/", ".") for name in robustness._CODE}
    assert counted.isdisjoint(harmless)
    assert counted | harmless == import_closure(ROOT, ROOT / "stages/robustness.py")
