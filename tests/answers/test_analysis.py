"""A clip goes in, and what comes out is what the stages make of it, with a verdict."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from painted import faces_over_noise
from promised import promised

from tests.conftest import make_video_file
from tests.models.test_predict import Brightness, write_track
from unmask import params
from unmask.answers.analysis import analyse, answer
from unmask.answers.answers_file import RunInfo, human_line, to_row
from unmask.faces.crops import crop_chunk
from unmask.faces.files import Cropped, crop_file
from unmask.models.checkpoint import Checkpoint
from unmask.models.predict import Predictor, probability
from unmask.records import FileDoubt, Reason, VideoFaces
from unmask.scoring.verdicts import NOTHING_LEARNED, Doubt, Verdict

STILL = sorted((Path(__file__).parents[2] / "data/sources/stills").glob("*_neutral.jpg"))[0]
EASY = replace(NOTHING_LEARNED, fake_from=0.999, real_to=0.998)  # all faces are real ones


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Return a folder with a face for 6 s, one for 8 s that breaks off, and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    paint = faces_over_noise((STILL.name, 40, 20))
    make_video_file(folder / "face.mp4", frames=60, rate_fps=10, size=(320, 240), paint=paint)
    whole = make_video_file(
        folder / "whole.mp4", frames=80, rate_fps=10, size=(320, 240), paint=paint,
        options={"g": "10"},  # else most bytes are the first picture's
    ).read_bytes()  # fmt: skip
    (folder / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("no video")
    return folder


def predictor(limits):
    settings = params.load()
    clips = settings.clips.model_copy(update={"max_per_track": 3, "brightness": None})
    checkpoint = Checkpoint(
        settings.faces, clips, settings.model, temperature=2.0, limits=limits, run_key=""
    )
    return Predictor(Brightness(), promised(checkpoint), device="cpu")


@pytest.fixture(scope="module")
def answers(videos, tmp_path_factory):
    names = ("face.mp4", "broken.mp4", "text.mp4", "gone.mp4")
    crops = tmp_path_factory.mktemp("crops") / "new"
    paths = [videos / name for name in names]
    found = list(analyse(predictor(EASY), paths, crops_dir=crops, moments=8))
    assert [answer.path for answer in found] == paths
    return dict(zip(names, found, strict=True)) | {"crops": crops}


def test_an_answer_is_that_of_the_stages(videos, answers, tmp_path):
    [row] = crop_chunk(
        [("face", videos / "face.mp4")], tmp_path / "faces", params.load().faces, workers=1
    )
    [expected] = predictor(EASY).score_videos(tmp_path / "faces", [row])
    answer = answers["face.mp4"]
    [face] = answer.faces
    assert answer.probability == expected.probability == face.probability
    assert (face.score,) == expected.tracks
    [track] = row.tracks
    assert face.track == replace(track, file="0_0.mp4")
    kept, cropped = answers["crops"] / "0_0.mp4", tmp_path / "faces" / track.file
    assert kept.read_bytes() == cropped.read_bytes()
    assert (answer.verdict, answer.doubts, answer.reason) == (Verdict.REAL, (), None)
    assert answer.duration_s == pytest.approx(6)


def test_a_timeline_is_denser_where_asked_and_the_worst_moments_are_its_own(answers):
    answer = answers["face.mp4"]
    [face] = answer.faces
    assert face.score.clip_starts_s == pytest.approx([0, 2.35, 4.7])
    # Of 5.9 s: pictures stand for 0.4 s on either side, so 0.35 are not seen after each clip.
    assert face.quality.looked_at_ratio == pytest.approx(5.2 / 5.9)
    starts_s = [moment.time_s for moment in face.timeline]
    assert starts_s == pytest.approx(np.linspace(0, 4.7, 4))  # 1.2 s each in 5.9, 0.37 apart
    chances = sorted((moment.probability for moment in face.timeline), reverse=True)
    assert [moment.probability for _, moment in answer.worst] == chances[:3]
    assert all(face.timeline.index(moment) >= 0 and place == 0 for place, moment in answer.worst)
    assert answer.clip_s == pytest.approx(1.2)


def test_what_broke_off_is_not_called_real(answers):
    answer = answers["broken.mp4"]
    assert [face.verdict for face in answer.faces] == [Verdict.REAL]
    assert answer.probability == answer.faces[0].probability
    assert (answer.verdict, answer.doubts) == (Verdict.INCONCLUSIVE, (Doubt.BROKEN_OFF,))
    assert answer.reason == Reason.TRUNCATED
    assert "broken.mp4" in answer.detail


@pytest.mark.parametrize(
    ("name", "reason"), [("text.mp4", Reason.NOT_A_VIDEO), ("gone.mp4", Reason.MISSING)]
)
def test_a_file_without_an_answer_has_its_reason(answers, name, reason):
    answer = answers[name]
    assert (answer.probability, answer.reason) == (None, reason)
    assert (answer.verdict, answer.doubts) == (Verdict.INCONCLUSIVE, (Doubt.NO_SCORE,))
    assert (answer.faces, answer.worst, answer.duration_s) == ((), (), None)
    assert (answer.sha256 is None) == (name == "gone.mp4")


def test_a_face_beyond_the_limits_is_in_doubt_and_crops_are_gone(videos):
    limits = replace(EASY, min_face_px=300.0, max_brightness=0.0)
    [answer] = analyse(predictor(limits), [videos / "face.mp4"])
    doubts = (Doubt.FACE_TOO_SMALL, Doubt.OUT_OF_TRAINED_RANGE)
    assert (answer.verdict, answer.doubts) == (Verdict.INCONCLUSIVE, doubts)
    [face] = answer.faces
    assert face.doubts == doubts
    assert 50 < face.quality.face_px < 240
    clips = zip(face.score.clip_starts_s, face.score.clip_logits, strict=True)
    assert [(moment.time_s, moment.probability) for moment in face.timeline] == [
        (start_s, probability(logit, 2.0)) for start_s, logit in clips
    ]


def test_without_a_face_the_net_is_not_loaded(tmp_path):
    """There is none in this folder: loading it would say so."""
    unloaded = Predictor(tmp_path / "nowhere", predictor(NOTHING_LEARNED).checkpoint)
    found = VideoFaces("a", "", (), Reason.NO_FACE, "none in any picture")
    clip = Cropped(0, tmp_path / "a.mp4", tmp_path, found, None, None)
    assert answer(unloaded, clip, None).reason is Reason.NO_FACE


def test_a_face_that_hardly_ever_changes_is_not_scored(tmp_path):
    paint = faces_over_noise((STILL.name, 40, 20))
    slow = make_video_file(
        tmp_path / "slow.mp4", frames=6, rate_fps=1, size=(320, 240), paint=paint
    )
    moving = faces_over_noise((STILL.name, 40, 20), speed_px=3)
    fast = make_video_file(
        tmp_path / "fast.mp4", frames=40, rate_fps=10, size=(320, 240), paint=moving
    )
    still, scored = analyse(predictor(EASY), [slow, fast])
    assert (still.verdict, still.doubts) == (Verdict.INCONCLUSIVE, (Doubt.NO_SCORE,))
    assert (still.probability, still.reason) == (None, Reason.TOO_FEW_FRAMES)
    assert re.match(rf"{slow}: .* found a face of 1 different frames/s.* 4 in 1\.2 s", still.detail)
    assert scored.verdict is Verdict.REAL


def test_a_face_that_was_not_scored_keeps_a_video_from_real(videos, tmp_path):
    cropped = crop_file(videos / "face.mp4", predictor(EASY).checkpoint.faces, crops_dir=tmp_path)
    [track] = cropped.found.tracks
    moving = replace(
        track, same_T=()
    )  # the made video is of one picture, whose noise is its coding
    still = replace(track, track=1, same_T=tuple(range(1, len(track.times_T))))
    both = replace(cropped, found=replace(cropped.found, tracks=(moving, still)))
    found = answer(predictor(EASY), both, None)
    assert (found.verdict, found.doubts) == (Verdict.INCONCLUSIVE, (Doubt.TOO_FEW_FRAMES,))
    assert found.reason is None
    assert len(found.faces) == 1
    assert "a face of" in found.detail


@pytest.mark.parametrize(
    ("doubt", "verdict"),
    [
        (FileDoubt.NOT_ALL_SEEN, Verdict.FAKE),
        (FileDoubt.COLOUR_NOT_UNDERSTOOD, Verdict.INCONCLUSIVE),
    ],
)
def test_doubts_of_the_file_reach_its_answer(videos, tmp_path, doubt, verdict):
    cropped = crop_file(videos / "face.mp4", predictor(EASY).checkpoint.faces, crops_dir=tmp_path)
    [track] = cropped.found.tracks
    found = replace(cropped.found, doubts=(doubt,), tracks=(replace(track, same_T=()),))
    doubted = replace(cropped, found=found)
    real = answer(predictor(EASY), doubted, None)
    assert (real.verdict, real.doubts) == (Verdict.INCONCLUSIVE, (Doubt(doubt),))
    all_fake = predictor(replace(NOTHING_LEARNED, fake_from=0.5, real_to=0.001))
    fake = answer(all_fake, doubted, None)
    assert fake.verdict is verdict


def dim_then_bright(folder, *levels):
    """Return the answer for faces whose crops have these levels, a tenth of a second each."""
    settings = params.load()
    clips = settings.clips.model_copy(update={"side_px": 64, "brightness": None})
    limits = replace(NOTHING_LEARNED, fake_from=0.95, real_to=0.9)
    checkpoint = Checkpoint(
        settings.faces, clips, settings.model, temperature=2.0, limits=limits, run_key=""
    )
    tracks = tuple(write_track(folder, number, own) for number, own in enumerate(levels))
    found = VideoFaces("v", "", tracks)
    cropped = Cropped(0, folder / "v.mp4", folder, found, None, None)
    return answer(Predictor(Brightness(), promised(checkpoint), device="cpu"), cropped, None)


def test_three_forged_seconds_after_twelve_real_ones_are_found_and_told(tmp_path):
    # A clip's logit is that of its last frame: 2 for dim ones, 8 for bright ones. Nine clips begin
    # every 1.725 s in 15 s; those from 12.075 s on are bright. 30 / 9 / 2 = 1.667 as a whole.
    dim, bright = [51] * 121, [204] * 30
    whole = dim_then_bright(tmp_path, dim)
    assert (whole.verdict, whole.doubts) == (Verdict.REAL, ())
    found = dim_then_bright(tmp_path, dim + bright, dim)
    assert (found.verdict, found.doubts) == (Verdict.INCONCLUSIVE, (Doubt.SUSPICIOUS_STRETCH,))
    assert found.probability == pytest.approx(0.841, abs=0.01)
    face, other = found.faces
    assert (face.part.start_s, face.part.end_s) == pytest.approx((12.075, 15.0))
    assert face.part.probability == pytest.approx(0.982, abs=0.003)
    # 8 stretches of this face and 6 of the other's 7 clips.
    assert (face.part.count, other.part.count) == (14, 14)
    assert (other.verdict, face.quality.looked_at_ratio) == (Verdict.REAL, pytest.approx(1.0))
    row = to_row(found, None, RunInfo("m", "1"))
    assert {"face": 0, "start_s": 12.075, "end_s": 15.0}.items() <= row["stretch"].items()
    assert "suspicious stretch, from 0:12.1 to 0:15.0 0.98" in human_line(row, width=5)


def test_real_seconds_before_and_after_never_hide_them(tmp_path):
    for before, after in ((60, 60), (10, 300), (400, 7)):
        levels = [51] * before + [204] * 30 + [51] * after
        found = dim_then_bright(tmp_path, levels)
        assert found.doubts == (Doubt.SUSPICIOUS_STRETCH,)
        [face] = found.faces
        begin_s, end_s = before / 10, before / 10 + 3
        assert face.part.start_s < end_s
        assert face.part.end_s > begin_s
