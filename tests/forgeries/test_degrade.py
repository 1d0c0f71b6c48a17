"""What becomes of pictures and of time."""

import math

import numpy as np
import pytest

from unmask.forgeries.degrade import Originals, alter, degrade
from unmask.records import Reason
from unmask.video.decode import probe, read_frames
from unmask.video.failures import DecodeError


def rng():
    return np.random.default_rng(7)


def copy_of(path, *passes):
    """Return the degraded copy of a video, the only thing in a folder of its own."""
    folder = path.parent / f"degraded {path.name}"
    folder.mkdir(exist_ok=True)
    copy = folder / "copy.mp4"
    assert degrade(path, copy, passes, rng()) is None
    assert [left.name for left in folder.iterdir()] == ["copy.mp4"]
    return copy


# ---------------------------------------------------------------- a picture

HALVES = np.zeros((40, 60, 3), np.uint8)
HALVES[:, 30:] = 200


def test_brightness_is_a_factor_that_ends_at_white():
    darker, brighter = (alter(HALVES, {"brightness": by}, rng()) for by in (0.5, 1.5))
    assert np.unique(darker).tolist() == [0, 100]
    assert np.unique(brighter).tolist() == [0, 255]


def test_a_cut_leaves_the_middle():
    found = alter(HALVES, {"cut": 0.1}, rng())
    assert np.array_equal(found, HALVES[4:36, 6:54])


def test_a_picture_is_shrunk_to_even_sides():
    assert alter(HALVES, {"scale": 0.5}, rng()).shape == (20, 30, 3)
    assert alter(HALVES, {"scale": 0.25}, rng()).shape == (10, 16, 3)  # 15 and one more


def test_a_blur_has_its_width():
    # A step under a Gaussian of 2 pixels: one standard deviation away it has 84 % of its height.
    row = alter(HALVES, {"blur_px": 2.0}, rng())[20, :, 0]
    for away_px in (-2.5, -0.5, 0.5, 2.5):
        share = (1 + math.erf(away_px / 2 / math.sqrt(2))) / 2
        assert row[int(29.5 + away_px)] == pytest.approx(200 * share, abs=2)


def test_noise_has_its_strength_and_comes_from_the_generator():
    grey = np.full((200, 200, 3), 128, np.uint8)
    found = alter(grey, {"noise_levels": 10.0}, rng())
    assert found.std() == pytest.approx(10, abs=0.2)
    assert found.mean() == pytest.approx(128, abs=0.2)
    assert np.array_equal(found, alter(grey, {"noise_levels": 10.0}, rng()))
    assert not np.array_equal(found, alter(grey, {"noise_levels": 10.0}, np.random.default_rng(8)))


def test_steps_are_done_in_one_order_however_they_are_written():
    steps = {"cut": 0.1, "scale": 0.5, "blur_px": 1.0, "noise_levels": 5.0}
    other = dict(reversed(steps.items()))
    assert np.array_equal(alter(HALVES, steps, rng()), alter(HALVES, other, rng()))


# ---------------------------------------------------------------- a video


def test_every_other_frame_is_left_out(tmp_path, make_video, read_index):
    path = make_video(tmp_path / "a.mp4", frames=30, rate_fps=30)
    frames = list(read_frames(copy_of(path, {"rate_fps": 15.0, "crf": 18})))
    assert [read_index(frame.rgb_HWC()) for frame in frames] == list(range(0, 30, 2))
    assert [frame.time_s for frame in frames] == pytest.approx([k / 15 for k in range(15)])


def test_a_pause_is_filled_with_what_is_on_screen(tmp_path, make_video, read_index):
    times_s = [0.0, 0.1, 0.2, 0.6, 0.7]
    path = make_video(tmp_path / "a.mp4", frames=5, rate_fps=10, times_s=times_s)
    rate_fps = probe(path).rate_fps
    frames = list(read_frames(copy_of(path, {"crf": 18})))
    shown = [sum(time_s <= frame.time_s + 1e-3 for time_s in times_s) - 1 for frame in frames]
    assert [read_index(frame.rgb_HWC()) for frame in frames] == shown
    assert len(frames) == pytest.approx(0.8 * rate_fps, abs=1)


def test_a_damaged_clock_makes_no_endless_video(tmp_path, make_video):
    path = make_video(
        tmp_path / "a.mkv", frames=4, rate_fps=10, times_s=[0.0, 0.1, 50_000.0, 50_000.1]
    )
    frames = sum(1 for _ in read_frames(copy_of(path, {"crf": 40})))
    assert frames <= 60 * 11


def test_every_pass_encodes_anew_and_the_same_arguments_give_the_same_bytes(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", frames=20, size=(128, 96))
    passes = [{"scale": 0.75, "noise_levels": 8.0, "crf": 28}, {"scale": 0.5, "crf": 33}]
    once = copy_of(path, *passes).read_bytes()
    assert copy_of(path, *passes).read_bytes() == once
    assert (probe(copy_of(path, *passes)).width, probe(path).width) == (48, 128)
    assert copy_of(path, passes[0]).read_bytes() != once


def test_a_video_that_breaks_off_is_degraded_up_to_there(tmp_path, make_video, read_index):
    path = make_video(tmp_path / "a.mp4", frames=90, rate_fps=30)
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])
    *_, last = frames_until_broken(path)
    assert degrade(path, tmp_path / "copy.mp4", [{"crf": 30}], rng()) == Reason.TRUNCATED
    *_, copied = read_frames(tmp_path / "copy.mp4")
    assert read_index(copied.rgb_HWC()) == read_index(last.rgb_HWC())
    assert copied.time_s == pytest.approx(last.time_s, abs=0.04)
    assert 0 < last.time_s < 2.9


def test_joined_recordings_of_two_sizes_become_one_copy(tmp_path, make_video, read_index):
    parts = [
        make_video(tmp_path / f"{width}.ts", frames=30, rate_fps=30, size=(width, 96))
        for width in (128, 192)
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert degrade(path, tmp_path / "copy.mp4", [{"crf": 20}], rng()) is None
    frames = list(read_frames(tmp_path / "copy.mp4"))
    assert {(frame.width, frame.height) for frame in frames} == {(128, 96)}
    assert [read_index(frame.rgb_HWC()) for frame in frames] == [*range(30), *range(30)]


def test_what_a_copy_lacks_is_told(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", frames=90, options={"g": "10", "bf": "0"})
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + len(content) // 10] = bytes(len(content) // 10)
    path.write_bytes(content)
    assert degrade(path, tmp_path / "copy.mp4", [{"crf": 30}], rng()) == Reason.INCOMPLETE


def test_copies_of_one_video_cost_one_decoding(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", frames=20, size=(128, 96))
    passes = [{"scale": 0.75, "noise_levels": 8.0, "crf": 28}, {"scale": 0.5, "crf": 33}]
    alone = [copy_of(path, *some).read_bytes() for some in (passes[:1], passes)]
    originals = Originals()
    assert degrade(path, tmp_path / "1.mp4", passes[:1], rng(), originals) is None
    path.unlink()  # and still there is what it showed
    assert degrade(path, tmp_path / "2.mp4", passes, rng(), originals) is None
    assert [(tmp_path / name).read_bytes() for name in ("1.mp4", "2.mp4")] == alone


def test_another_rate_is_decoded_anew(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", frames=30, rate_fps=30)
    originals = Originals()
    for number, steps in enumerate(({"crf": 20}, {"rate_fps": 15.0, "crf": 20}, {"crf": 20})):
        copy = tmp_path / f"{number}.mp4"
        assert degrade(path, copy, [steps], rng(), originals) is None
        assert copy.read_bytes() == copy_of(path, steps).read_bytes()


def test_the_pictures_of_a_large_video_are_not_kept(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", frames=20, rate_fps=25, size=(128, 96))
    enough = 20 * 128 * 96 * 3
    for most_bytes, kept in ((enough, 20), (enough - 1, 0)):
        originals = Originals(most_bytes)
        assert len(list(originals.pictures(path, 25.0))) == 20
        moved = path.rename(tmp_path / "elsewhere.mp4")
        if kept:
            assert len(list(originals.pictures(path, 25.0))) == 20
        else:
            with pytest.raises(DecodeError):
                list(originals.pictures(path, 25.0))
        moved.rename(path)


def test_pictures_that_were_not_all_taken_are_not_taken_for_all(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", frames=20, rate_fps=25)
    originals = Originals()
    some = originals.pictures(path, 25.0)
    next(some)
    some.close()
    assert len(list(originals.pictures(path, 25.0))) == 20


def test_what_is_missing_is_told_of_each_copy(tmp_path, make_video):
    whole = make_video(tmp_path / "whole.mp4", frames=90, rate_fps=30)
    part = tmp_path / "part.mp4"
    content = whole.read_bytes()
    part.write_bytes(content[: 2 * len(content) // 3])
    originals, told = Originals(), []
    for number, path in enumerate((part, part, whole)):
        copy = tmp_path / f"copy{number}.mp4"
        told.append(degrade(path, copy, [{"crf": 30}], rng(), originals))
    assert told == [Reason.TRUNCATED, Reason.TRUNCATED, None]


def frames_until_broken(path):
    try:
        yield from read_frames(path)
    except DecodeError:
        return


def test_what_is_no_video_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "a.mp4").write_text("<html>404</html>")
    with pytest.raises(DecodeError) as caught:
        degrade(tmp_path / "a.mp4", tmp_path / "copy.mp4", [{"crf": 30}], rng())
    assert caught.value.reason == Reason.NOT_A_VIDEO
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
