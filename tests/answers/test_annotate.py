"""Clips with boxes drawn, checked to the frame."""

from dataclasses import replace

import av
import numpy as np
import pytest

from tests.answers.test_messages import FACE, NOTHING
from unmask.answers import annotate
from unmask.answers.analysis import Moment
from unmask.answers.drawing import COLOURS
from unmask.records import FaceTrack, Reason
from unmask.scoring.verdicts import Verdict
from unmask.video.decode import probe, read_frames
from unmask.video.failures import DecodeError

# Moves 40 px to the right between its two ticks, at 0.2 and 0.6 s.
TRACK = FaceTrack(
    0, "v_0.mp4", (0.2, 0.6), ((20, 40, 80, 100), (60, 40, 120, 100)), (1.0, 1.0)
)  # fmt: skip
SEEN = replace(
    FACE, track=TRACK, probability=0.9, verdict=Verdict.FAKE, doubts=(),
    timeline=(Moment(0.0, 0.25), Moment(0.4, 0.75)),
)  # fmt: skip


def test_boxes_move_between_ticks_and_hold_for_one():
    assert annotate.box_at(SEEN, 0.4) == pytest.approx((40, 40, 100, 100))
    assert annotate.box_at(SEEN, 0.1) == (20, 40, 80, 100)
    assert annotate.box_at(SEEN, 0.9) == (60, 40, 120, 100)
    assert annotate.box_at(SEEN, 1.2) is None
    assert annotate.label(1, SEEN, 0.1, 0.2) == "1 FAKE 0.90, now 0.25"
    assert annotate.label(1, SEEN, 0.5, 0.2) == "1 FAKE 0.90, now 0.75"


def test_a_clip_keeps_its_frames_size_rate_and_sound(make_video, tmp_path):
    source = make_video(tmp_path / "in.mp4", frames=30, size=(160, 120), rate_fps=25, sound_s=1.2)
    out = tmp_path / "out.mp4"
    answer = replace(NOTHING, path=source, faces=(SEEN,), clip_s=0.2)
    done_s = list(annotate.write(out, answer))
    assert len(done_s) == 30
    assert done_s[-1] == pytest.approx(1.2)
    info = probe(out)
    assert (info.width, info.height, info.rate_fps) == (160, 120, 25)
    frames = [frame.rgb_HWC() for frame in read_frames(out)]
    assert len(frames) == 30
    # The box's left edge, 20 at 0.2 s and 40 at 0.4 s; the lower right quarter has no label.
    for index, left in ((5, 20), (10, 40)):
        edge = frames[index][90, left - 1 : left + 2].astype(int)
        assert np.abs(edge - COLOURS[Verdict.FAKE]).sum(axis=1).min() < 120
    with av.open(str(out)) as container:
        [heard] = container.streams.audio
        assert float(heard.duration * heard.time_base) == pytest.approx(1.2, abs=0.05)
    assert list(tmp_path.glob(".*")) == []


def test_nothing_is_left_of_a_clip_that_can_not_be_read_or_was_given_up(make_video, tmp_path):
    out = tmp_path / "out" / "out.mp4"
    out.parent.mkdir()
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(DecodeError):
        list(annotate.write(out, replace(NOTHING, path=tmp_path / "bad.mp4")))
    writing = annotate.write(out, replace(NOTHING, path=make_video(tmp_path / "in.mp4", frames=30)))
    next(writing)
    writing.close()
    assert list(out.parent.iterdir()) == []


def test_a_clip_that_breaks_off_is_drawn_as_far_as_it_goes(make_video, tmp_path):
    source = make_video(tmp_path / "in.mkv", frames=100, rate_fps=25)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    answer = replace(NOTHING, path=source, reason=Reason.TRUNCATED)
    list(annotate.write(tmp_path / "out.mp4", answer))
    assert 10 < len(list(read_frames(tmp_path / "out.mp4"))) < 90


def test_a_turned_clip_of_odd_size_and_uneven_times_stays_in_time(make_video, tmp_path):
    times_s = [index / 25 for index in range(25)] + [1.4 + index / 25 for index in range(25)]
    source = make_video(
        tmp_path / "in.mkv", frames=50, size=(97, 129), rotation_deg=90, rate_fps=25,
        times_s=times_s, pix_fmt="yuv444p",
    )  # fmt: skip
    list(annotate.write(tmp_path / "out.mp4", replace(NOTHING, path=source)))
    info, out = probe(source), probe(tmp_path / "out.mp4")
    assert (info.width, info.height) == (97, 129)
    assert (out.width, out.height, out.rotation_deg) == (98, 130, 0)
    assert out.duration_s == pytest.approx(2.4, abs=0.15)


def test_joined_recordings_are_drawn_with_each_face_on_its_own_frames(make_video, tmp_path):
    parts = [
        make_video(tmp_path / f"{width}.ts", frames=25, rate_fps=25, size=(width, 120))
        for width in (160, 240)
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    box = (20, 40, 80, 100)
    second = replace(SEEN, track=replace(TRACK, times_T=(1.2, 1.6), boxes_T4=(box, box)))
    answer = replace(NOTHING, path=source, faces=(second,), clip_s=0.2)
    list(annotate.write(tmp_path / "out.mp4", answer))
    frames = [frame.rgb_HWC() for frame in read_frames(tmp_path / "out.mp4")]
    assert len(frames) == 50
    away = [
        np.abs(frame_HWC[90, 12:21].astype(int) - COLOURS[Verdict.FAKE]).sum(axis=1).min()
        for frame_HWC in frames
    ]
    # From 0.2 s before its first tick at 1.2 s to a tick after its last; the wider frames of the
    # second part shrink to two thirds, and so does the box's left edge: to 13.
    assert [index for index, value in enumerate(away) if value < 150] == list(range(25, 50))
