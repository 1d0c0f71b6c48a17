"""A promise is learned from what makes verdicts, stored with its model, and taken back again."""

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from painted import faces_over_noise

from tests.conftest import make_video_file
from tests.test_layout import ROOT, import_closure
from unmask import params
from unmask.answers import calibrated_folder, calibration
from unmask.answers.analysis import answer
from unmask.answers.calibration import Asked, CalibrationError, Clip, Measured, learn
from unmask.errors import WeightsError
from unmask.faces.files import crop_files
from unmask.models import backbones, checkpoint
from unmask.models.predict import Predictor
from unmask.records import Reason
from unmask.runtime.digests import dvc_digest, dvc_digest_before
from unmask.scoring.scores import sigmoid
from unmask.scoring.unlike import QUALITIES, Look
from unmask.scoring.verdicts import NOTHING_LEARNED, Doubt, FaceQuality, Limits, Verdict

STILLS = sorted((ROOT / "data/sources/stills").glob("*_neutral.jpg"))
ANYTHING = Limits(0.7, 0.3, 40.0, 1.2, 0.01, 0.6, 0.1, 0.9, 0.1, 16, 16, 32)
ASKED = Asked(0.05, "our cameras", "unmask calibrate x")
RNG = np.random.default_rng(1)


def base():
    settings = params.load(ROOT / "params.yaml")
    clips = settings.clips.model_copy(update={"side_px": 64, "max_per_track": 2})
    return checkpoint.Checkpoint(settings.faces, clips, settings.model, 1.0, ANYTHING, "key")


def face(logit, *, stretch=None, stretches=1):
    quality = FaceQuality(100.0, 3.0, 0.1, 0.5, grain=2.0)
    look = Look(RNG.normal(0, 0.2, len(QUALITIES)), None, "h264")
    stretch = logit if stretch is None else stretch
    return Measured(logit, stretch, stretch, stretches, quality, look)


def clip(name, *faces, fake=False, reason=None):
    return Clip(Path(name), fake, f"stream of {name}", faces, reason, "")


def genuine(count):
    return [clip(f"g{n}", face(0.01 * n)) for n in range(count)]


def settings_of(clips, asked=ASKED):
    return learn(base(), clips, asked, weights_sha256="ab" * 32).checkpoint


def test_a_video_counts_once_by_its_worst_face_and_stretch():
    clips = genuine(19)
    clips[3] = clip("two", face(-1.0), face(0.2, stretch=1.5, stretches=6), face(0.1))
    made = settings_of(clips)
    assert made.limits.fake_from == np.nextafter(float(sigmoid(1.5)), 1)
    assert made.limits.stretches == ((6, made.limits.fake_from),)
    assert made.promise.genuine == made.limits.reals == 19
    assert made.limits.tracks == 21
    assert (made.promise.power, made.limits.real_to) == (None, None)
    assert made.temperature == 1.0  # no fakes, nothing to fit it by


def test_of_many_videos_some_are_kept_to_compare_with_and_all_count(monkeypatch):
    monkeypatch.setattr(calibration.looks_file, "MOST", 20)
    learned = learn(base(), genuine(42), ASKED, weights_sha256="ab" * 32)
    assert len(learned.looks) == 14
    promise = learned.checkpoint.promise
    assert (promise.genuine, promise.left_out, promise.unlike_to) == (42, 42, 1 / 15)


def test_fakes_give_power_a_temperature_and_what_is_real():
    fakes = [clip(f"f{n}", face(-2.0 if n < 12 else 6.0), fake=True) for n in range(20)]
    lost = clip("no face", fake=True, reason=Reason.NO_FACE)
    unread = clip("text", fake=True, reason=Reason.NOT_A_VIDEO)
    made = settings_of([*genuine(34), *fakes, lost, unread])
    promise = made.promise
    assert (promise.fakes, promise.found) == (21, 8)  # one of them has no face that could be found
    assert promise.power == pytest.approx(8 / 21)
    assert promise.power_low < 8 / 21 < promise.power_high
    assert made.temperature > 1
    # Of 20 fakes one may be called real: the lowest is the bound, and it lies above it.
    assert made.limits.real_to == np.nextafter(float(sigmoid(-2.0 / made.temperature)), 0)
    assert (promise.left_out, promise.genuine) == (34, 34)
    assert settings_of([*genuine(34), *fakes[:18]]).limits.real_to is None


@pytest.mark.parametrize(("rate", "needed"), [(0.05, "19"), (0.1, "9"), (0.01, "99")])
def test_too_few_say_how_many_it_takes(rate, needed):
    clips = [*genuine(5), clip("empty", reason=Reason.NO_FACE)]
    with pytest.raises(CalibrationError) as refused:
        settings_of(clips, replace(ASKED, max_false_alarms=rate))
    assert f"that takes {needed} different" in str(refused.value)
    assert "Of the 6 different ones that were given, 5 have a score" in str(refused.value)
    assert f"at least {int(needed) - 5} more" in str(refused.value)
    assert "--max-false-alarms 0.167" in str(refused.value)  # rounded up: 5 are enough for 1 in 6
    made = settings_of(clips, replace(ASKED, max_false_alarms=0.167))
    assert made.limits.fake_from == np.nextafter(float(sigmoid(0.04)), 1)


# ---------------------------------------------------------------- a model's folder


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(1)
    folder = tmp_path / "model"
    checkpoint.save(folder, backbones.build("x3d_xs", dropout=0.0), base())
    (folder / "MODEL_CARD.md").write_text(
        "# card\n\n## When it says fake, real or neither\n\nold words\n\n## Licence\n\nfree\n"
    )
    return folder


def content_of(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def store(model, target, clips=None, source=None):
    learned = learn(calibrated_folder.base_settings(model), clips or genuine(19), ASKED,
                    weights_sha256=calibrated_folder.weights_digest(model))  # fmt: skip
    calibrated_folder.store(
        model, target, learned, calibrated_folder.work_folder(target), source=source
    )
    return learned.checkpoint


def test_a_model_is_calibrated_in_its_place_and_undone_to_the_byte(model):
    before, digest = content_of(model), dvc_digest(model)
    made = store(model, model)
    assert dvc_digest(model) != dvc_digest_before(model) == digest  # by which its metrics are found
    assert checkpoint.read_settings(model) == made
    assert made.net is not None
    assert len(Predictor.load(model).looks) == 19
    card = (model / "MODEL_CARD.md").read_text()
    assert "old words" not in card
    assert "our cameras" in card
    assert card.endswith("## Licence\n\nfree\n")
    again = store(model, model, genuine(25))  # from what it was before the first time
    assert checkpoint.read_settings(model).promise.genuine == again.promise.genuine == 25
    assert replace(calibrated_folder.base_settings(model), net=None) == base()
    calibrated_folder.undo(model, calibrated_folder.work_folder(model))
    assert content_of(model) == before
    with pytest.raises(CalibrationError, match="it has none"):
        calibrated_folder.undo(model, calibrated_folder.work_folder(model))


def test_a_promise_is_not_about_other_weights(model):
    store(model, model)
    other = backbones.build("x3d_xs", dropout=0.0)
    settings = checkpoint.read_settings(model)
    checkpoint.save(model, other, settings)
    with pytest.raises(WeightsError, match=r"learned with other weights.*calibrate"):
        Predictor.load(model)
    calibrated_folder.undo(model, calibrated_folder.work_folder(model))
    assert Predictor.load(model).checkpoint.promise is None


def test_a_copy_leaves_the_model_as_it_is(model, tmp_path):
    before = content_of(model)
    target = tmp_path / "ours"
    calibrated_folder.check_target(target)
    store(model, target)
    assert content_of(model) == before
    calibrated_folder.check_target(target)  # one that was calibrated before may be replaced
    with pytest.raises(CalibrationError, match="something else is there"):
        calibrated_folder.check_target(model)


def test_a_copy_of_a_model_of_the_hub_says_where_it_is_from(model, tmp_path):
    source, ours = f"hf:ada/detector@{'0' * 40}", tmp_path / "ours"
    section = f"## Where the model was fetched\n\nIt was fetched from `{source}`.\n"
    card = ours / "MODEL_CARD.md"
    before = (model / "MODEL_CARD.md").read_text()
    store(model, ours, source=source)
    assert card.read_text().count(section) == 1
    store(ours, ours, genuine(25))  # once more, as the folder that it is by now
    assert card.read_text().count(section) == 1
    calibrated_folder.undo(ours, calibrated_folder.work_folder(ours))
    assert card.read_text() == f"{before}\n{section}"
    store(ours, ours, source=source.replace("ada", "bob"))  # the newer in the older's place
    assert card.read_text().count("It was fetched from") == 1
    assert "hf:bob/detector" in card.read_text()


def test_a_run_killed_between_two_names_loses_no_model(model):
    before = content_of(model)
    work = calibrated_folder.work_folder(model)
    work.mkdir()
    model.rename(work / "old")
    calibrated_folder.recover(model, work)
    assert content_of(model) == before


# ---------------------------------------------------------------- videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Return a folder with three faces, the second as a Matroska file too, and a text."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        paint = faces_over_noise((STILLS[number].name, 40, 20), speed_px=number)
        make_video_file(
            folder / f"{number}.mp4", frames=20, rate_fps=10, size=(320, 240), paint=paint
        )
    shutil.copy(folder / "1.mp4", folder / "copy.mp4")
    (folder / "text.mp4").write_text("no video")
    return folder


def measure(model, videos, names, work, fakes=()):
    real = [videos / name for name in names]
    return calibration.measure(model, real, [videos / name for name in fakes], work, workers=1)


@pytest.fixture(scope="module")
def cropped(videos, tmp_path_factory):
    """Return the last of the three faces, cropped."""
    folder = tmp_path_factory.mktemp("crops") / "of it"
    jobs = crop_files([videos / "2.mp4"], base().faces, crops_dir=folder, workers=1)
    with closing(jobs) as files:
        [found] = files
    return found


def test_a_calibration_goes_on_and_a_verdict_follows(model, videos, cropped, tmp_path):
    names, work = ("0.mp4", "text.mp4", "1.mp4", "copy.mp4", "2.mp4"), tmp_path / ".work"
    first = measure(model, videos, names, work)
    scored = next(first)
    first.close()  # as Ctrl-C does
    [line] = (work / ".calibration.jsonl").read_text().splitlines()
    kept = json.loads(line)
    kept["facts"]["faces"][0]["logit"] = 0.125  # so that it shows who reads it
    (work / ".calibration.jsonl").write_text(json.dumps(kept) + "\n")
    clips = list(measure(model, videos, names, work))
    assert [each.path.name for each in clips] == ["0.mp4", "text.mp4", "1.mp4", "2.mp4"]
    assert clips[0].faces[0].logit == 0.125 != scored.faces[0].logit
    assert [each.reason for each in clips] == [None, Reason.NOT_A_VIDEO, None, None]

    # The very numbers that make a verdict.
    before = answer(Predictor.load(model), cropped, None)
    assert (before.verdict, before.doubts) == (Verdict.INCONCLUSIVE, (Doubt.NOT_CALIBRATED,))
    assert before.promise is None
    [own] = clips[3].faces
    assert before.faces[0].score.logit == own.logit
    clips[0] = replace(clips[0], faces=scored.faces)
    asked = replace(ASKED, max_false_alarms=0.25)
    made = learn(base(), clips, asked, weights_sha256=calibrated_folder.weights_digest(model))
    calibrated_folder.store(model, model, made, calibrated_folder.work_folder(model))
    after = answer(Predictor.load(model), cropped, None)
    assert after.promise == made.checkpoint.promise
    assert after.probability == before.probability
    assert Doubt.NOT_CALIBRATED not in after.doubts
    assert after.faces[0].likeness is not None
    assert after.verdict is not Verdict.FAKE  # as genuine as it gets: a threshold lies above it


def test_one_video_on_both_sides_is_refused(model, videos, tmp_path):
    with pytest.raises(CalibrationError, match=r"copy\.mp4 as a fake; they show the same pictures"):
        list(measure(model, videos, ["1.mp4"], tmp_path / ".work", ["copy.mp4"]))


def test_nothing_learned_never_speaks_even_with_thresholds(model, cropped):
    limits = replace(NOTHING_LEARNED, fake_from=0.0, max_sharpness=9.0)
    predictor = Predictor(checkpoint.load(model)[0], replace(base(), limits=limits), device="cpu")
    found = answer(predictor, cropped, None)
    assert (found.verdict, found.doubts) == (Verdict.INCONCLUSIVE, (Doubt.NOT_CALIBRATED,))
    assert found.limits.fake_from is None


def test_the_code_that_counts_is_what_calibrating_imports_but_what_cannot_change_a_score():
    harmless = {
        # What is made of scores: it is made anew each time.
        "answers.messages", "scoring.promises", "scoring.unlike", "scoring.verdicts",
        "models.looks",
        "answers.answers_file", "answers.file_says",  # rows that answers are written as
        # Which videos are one: each score stands by its file's digest.
        "data.fingerprints", "video.coded",
        # How a model's folder says where it came from.
        "models.adopt.record", "models.adopt.start",
        # How many cores, what engines share, and which files are refused.
        "engine.cores", "engine.net", "engine.onnx_file",
        # What refuses, how work is shared out, how files are written; not what is computed.
        "errors", "runtime.child", "runtime.code", "runtime.confinement", "runtime.digests",
        "runtime.disk", "runtime.plain_text", "runtime.processes", "runtime.record_files",
        "runtime.packed_faces",
        "runtime.resume_manifest", "runtime.scratch", "runtime.system", "runtime.wire",
        "runtime.without_compiler",
        "video.ahead",
        # Still pictures, which no calibration takes.
        "video.still", "video.pictures",
        "records",  # rows
    }  # fmt: skip
    counted = {name.replace("/", ".") for name in calibration._CODE}
    assert counted.isdisjoint(harmless)
    closure = import_closure(ROOT, ROOT / "src/unmask/answers/calibration.py")
    assert counted | harmless == closure | {"answers.calibration"}
