import numpy as np
import pytest

from unmask.faces.tracks import Detection, Linker, Track, align_square, link_boxes, square_around
from unmask.records import Box, Points


def box(left: float, top: float = 0.0, side: float = 100.0) -> Box:
    return left, top, left + side, top + side


def seen(left: float, top: float = 0.0, side: float = 100.0, score: float = 1.0) -> Detection:
    return Detection(box(left, top, side), score, points_of(box(left, top, side)))


def points_of(where: Box) -> Points:
    """Return a box's corners and its centre, in the place of a face's five points."""
    left, top, right, bottom = where
    centre = (left + right) / 2, (top + bottom) / 2
    return (left, top), (right, top), centre, (left, bottom), (right, bottom)


def follow(times_s: list[float], boxes: list[Box]) -> Track:
    track = Track(times_s[0], Detection(boxes[0], 1.0, points_of(boxes[0])))
    for time_s, where in zip(times_s[1:], boxes[1:], strict=True):
        track.add(time_s, Detection(where, 1.0, points_of(where)))
    return track


# ---------------------------------------------------------------- linking


@pytest.mark.parametrize(
    ("shift", "links"),
    [
        ((50, 0), True),  # intersection 5000, union 15000: a third
        ((55, 0), False),  # 4500 of 15500, and centres farther apart than half a box
        ((35, 35), True),  # 4225 of 15775, but centres 49.5 apart
        ((36, 36), False),  # centres 50.9 apart
        ((300, 0), False),
    ],
)
def test_boxes_link_by_overlap_or_by_near_centres(shift: tuple[float, float], links: bool) -> None:
    pairs = link_boxes([box(0)], [box(*shift)], min_overlap=0.3)
    assert pairs == ([(0, 0)] if links else [])


def test_the_better_overlap_takes_a_box_and_each_is_taken_once() -> None:
    before = [box(0), box(30)]
    assert link_boxes(before, [box(28), box(200)], 0.3) == [(1, 0)]
    assert link_boxes(before, [box(28), box(5)], 0.3) == [(1, 0), (0, 1)]


def test_nothing_links_to_nothing() -> None:
    assert link_boxes([], [box(0)], 0.3) == []
    assert link_boxes([box(0)], [], 0.3) == []


def test_two_people_are_two_tracks_whatever_the_order_of_detections() -> None:
    linker = Linker(min_overlap=0.3, max_gap_s=0.7)
    first = linker.add(0.0, [seen(0), seen(300)])
    assert linker.add(0.3, [seen(310), seen(10)]) == []
    assert [track.last_box for track in first] == [box(10), box(310)]


def test_a_gap_up_to_the_longest_is_bridged_and_a_longer_one_ends_the_track() -> None:
    linker = Linker(min_overlap=0.3, max_gap_s=0.6)
    (track,) = linker.add(0.1, [seen(0)])
    assert linker.add(0.4, []) == []
    assert linker.add(0.7, [seen(0)]) == []  # 0.7 - 0.1 is 0.6 and a little in floating point
    assert linker.add(1.0, []) == []
    assert linker.active == [track]
    assert linker.add(1.4, []) == []
    assert linker.active == []
    (again,) = linker.add(1.7, [seen(0)])
    assert again is not track
    assert (track.first_s, track.last_s) == (0.1, 0.7)


def test_a_face_is_there_while_its_frame_is_held() -> None:
    linker = Linker(min_overlap=0.3, max_gap_s=0.7, tick_s=0.1)
    (track,) = linker.add(0.0, [seen(0)], shown_s=0.1)
    assert track.last_s == 0.0
    linker.add(0.1, [seen(0)], shown_s=2.0)
    assert track.last_s == pytest.approx(2.0)  # the last tick that shows it: the next one is 2.1
    assert track.last_box == box(0)
    assert track.place_at(1.5, 0.3)[0] == pytest.approx(box(0))
    linker.add(2.1, [], shown_s=0.5)  # the held frame here does not show it
    linker.add(2.6, [seen(10)], shown_s=0.19)  # no second tick falls into 0.19 s
    assert linker.active == [track]
    assert track.last_s == 2.6
    linker.add(3.4, [], shown_s=0.1)
    assert linker.active == []


# ---------------------------------------------------------------- smoothing


def test_a_track_lasts_from_its_first_to_its_last_detection() -> None:
    track = follow([0.3, 0.5, 0.7], [box(0)] * 3)
    assert track.lasts(0.4)  # 0.7 - 0.3 is less in floating point
    assert not track.lasts(0.41)


@pytest.mark.parametrize("smooth_s", [0.0, 0.1, 0.3, 2.0])
def test_steady_motion_and_growth_are_followed_up_to_the_ends(smooth_s: float) -> None:
    def where(time_s: float) -> Box:
        return box(10 + 80 * time_s, 5 - 30 * time_s, 100 + 20 * time_s)

    times_s = [0.0, 0.3, 0.6, 1.2, 1.5]  # one detection is missing
    track = follow(times_s, [where(time_s) for time_s in times_s])
    for time_s in np.arange(0, 1.51, 0.1):
        assert track.place_at(min(time_s, 1.5), smooth_s)[0] == pytest.approx(
            where(min(time_s, 1.5))
        )


@pytest.mark.parametrize("smooth_s", [0.0, 0.3])
def test_points_move_as_their_box_does(smooth_s: float) -> None:
    rng = np.random.default_rng(5)
    times_s = [0.0, 0.3, 0.6, 1.2, 1.5]
    boxes = [box(*rng.normal(100, 20, 2), side=rng.uniform(80, 120)) for _ in times_s]
    track = follow(times_s, boxes)
    for time_s in (0.0, 0.3, 0.45, 0.8, 1.5):
        expected_52 = np.array(points_of(track.place_at(time_s, smooth_s)[0]))
        assert np.array(track.place_at(time_s, smooth_s)[1]) == pytest.approx(expected_52)


def test_without_smoothing_a_box_is_linear_between_detections() -> None:
    track = follow([0.0, 0.3, 0.6], [box(0), box(30), box(0)])
    assert track.place_at(0.1, 0.0)[0] == pytest.approx(box(10))
    assert track.place_at(0.5, 0.0)[0] == pytest.approx(box(10))
    assert track.place_at(0.3, 0.0)[0] == pytest.approx(box(30))


def test_jitter_of_the_detector_is_smoothed_away() -> None:
    rng = np.random.default_rng(3)
    times_s = [0.3 * n for n in range(40)]
    noise = rng.normal(0, 3, 40)
    track = follow(times_s, [box(100 + shift) for shift in noise])
    left = np.array([track.place_at(0.1 * n, 0.3)[0][0] for n in range(117)])
    assert np.abs(np.diff(left)).mean() < 0.5 * np.abs(np.diff(noise)).mean() / 3


def test_a_moved_face_moves_its_smoothed_box() -> None:
    rng = np.random.default_rng(4)
    times_s, lefts = [0.0, 0.3, 0.6, 0.9], rng.normal(100, 9, 4)
    one = follow(times_s, [box(left) for left in lefts])
    other = follow(times_s, [box(left + 40, 7) for left in lefts])
    for time_s in (0.0, 0.25, 0.9):
        moved = np.subtract(other.place_at(time_s, 0.3)[0], one.place_at(time_s, 0.3)[0])
        assert moved == pytest.approx([40, 7, 40, 7])


def test_a_single_detection_is_where_it_was() -> None:
    assert follow([2.0], [box(7)]).place_at(2.0, 0.3)[0] == box(7)


def test_a_settled_box_does_not_depend_on_what_comes_later() -> None:
    times_s, boxes = [0.0, 0.3, 0.6, 0.9], [box(0), box(5), box(2), box(9)]
    track = follow(times_s, boxes)
    settled = [n / 10 for n in range(10) if track.settles(n / 10, 0.3)]
    assert settled == [0.0, 0.1, 0.2, 0.3]
    early = [track.place_at(time_s, 0.3)[0] for time_s in settled]
    track.add(1.2, seen(90))
    assert [track.place_at(time_s, 0.3)[0] for time_s in settled] == early


def test_a_score_is_carried_to_the_next_detection() -> None:
    track = Track(0.0, seen(0, score=0.91))
    track.add(0.3, seen(0, score=0.99))
    assert [track.score_at(time_s) for time_s in (0.0, 0.2, 0.3, 0.9)] == [0.91, 0.91, 0.99, 0.99]


# ---------------------------------------------------------------- squares


def test_the_square_has_the_longer_side_and_its_margin_about_the_same_centre() -> None:
    assert square_around((10, 20, 50, 120), 0.0) == (-20, 20, 80, 120)
    assert square_around((10, 20, 50, 120), 0.1) == pytest.approx((-30, 10, 90, 130))


def test_a_square_that_shrinks_lies_on_whole_pixels_and_another_on_tenths() -> None:
    assert align_square((10.26, 20.61, 110.52, 120.87), 64) == (10, 21, 110, 121)
    assert align_square((10.26, 20.61, 40.52, 50.87), 64) == (10.3, 20.6, 40.6, 50.9)
    assert align_square((3.0, 3.0, 3.2, 3.2), 64) == (3, 3, 4, 4)  # never empty
