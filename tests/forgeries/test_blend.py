"""Forgeries of two committed stills: where they touch the picture, how far off, how well hidden."""

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.forgeries import blend
from unmask.forgeries.blend import FIVE_POINTS_52, OUTLINE_P2, Recipe, draw_recipe, forge_frame

STILLS = Path(__file__).parents[2] / "data/sources/stills"

# What MTCNN finds on 001_neutral.jpg and 005_neutral.jpg, rounded to half a pixel.
POINTS_52 = np.array(
    [[196.5, 222.5], [310.5, 217.0], [250.5, 277.5], [207.5, 333.5], [303.5, 329.5]], np.float32
)
DONOR_POINTS_52 = np.array(
    [[205.0, 201.0], [310.0, 207.0], [253.5, 261.0], [208.0, 319.0], [293.5, 324.0]], np.float32
)
EYES_PX = math.dist(POINTS_52[0], POINTS_52[1])  # 114.1

# A forger who changes nothing: the face goes back where it was, as it was.
IDENTITY = Recipe(
    method="self_blend", gain_RGB=(1.0, 1.0, 1.0), bias=0.0, face_px=10_000, sharpen=0.0,
    scale_xy=(1.0, 1.0), shift_xy=(0.0, 0.0), rotation_deg=0.0,
    outline_scale_P=(1.0,) * len(OUTLINE_P2), brow_cut=-1.3, feather=0.05, opacity=1.0,
    colour_match=1.0, tremble=0.0,
)  # fmt: skip


def read(name):
    return cv2.imread(str(STILLS / name), cv2.IMREAD_COLOR_RGB)


@pytest.fixture(scope="module")
def still():
    return read("001_neutral.jpg")


@pytest.fixture(scope="module")
def donor():
    return read("005_neutral.jpg"), DONOR_POINTS_52


def forge(frame, points_52, recipe, *, seed=0, donor=None):
    rng = np.random.default_rng(seed)
    with_donor = donor if recipe.method == "face_swap" else None
    return forge_frame(frame, points_52, recipe, rng, donor=with_donor)


def differences(one, other):
    return np.abs(one.astype(int) - other.astype(int))


def points_at(centre_xy, eyes_px):
    """Return the template's five points, upright, around a place in the picture."""
    return (FIVE_POINTS_52 * eyes_px + np.asarray(centre_xy)).astype(np.float32)


# ---------------------------------------------------------------- the template


def test_the_five_points_have_their_mean_at_0_and_the_eyes_1_apart():
    assert FIVE_POINTS_52.mean(axis=0) == pytest.approx([0, 0], abs=5e-4)
    assert math.dist(FIVE_POINTS_52[0], FIVE_POINTS_52[1]) == pytest.approx(1)


@pytest.mark.parametrize("template", [FIVE_POINTS_52, OUTLINE_P2], ids=["points", "outline"])
def test_the_template_is_its_own_mirror_image(template):
    mirrored = {(-x, y) for x, y in template.tolist()}
    assert mirrored == {(x, y) for x, y in template.tolist()}


def test_the_outline_goes_once_around_the_five_points_clockwise():
    angles = np.unwrap(np.arctan2(OUTLINE_P2[:, 1], OUTLINE_P2[:, 0]))
    assert np.all(np.diff(angles) > 0)  # y points down
    assert angles[-1] - angles[0] < 2 * np.pi
    for x, y in FIVE_POINTS_52.tolist():
        assert cv2.pointPolygonTest(OUTLINE_P2, (x, y), True) > 0.3


# ---------------------------------------------------------------- the recipe


@pytest.mark.parametrize("method", blend.METHODS)
def test_a_recipe_is_drawn_within_its_ranges(method):
    recipes = [draw_recipe(method, np.random.default_rng(seed)) for seed in range(300)]
    swap = method == "face_swap"
    low, high = (0.94, 1.07) if swap else (0.88, 1.14)
    ranges = {
        "bias": (-12, 12), "face_px": (56, 128), "sharpen": (-0.4, 0.8),
        "rotation_deg": (-2.5, 2.5), "feather": (0.02, 0.09), "colour_match": (0.75, 1.0),
        "tremble": (0.004, 0.015),
    }  # fmt: skip
    for recipe in recipes:
        assert recipe.method == method
        assert all(low <= gain <= high for gain in recipe.gain_RGB)
        assert all(0.95 <= scale <= 1.05 for scale in recipe.scale_xy)
        assert all(abs(shift) <= 0.06 for shift in recipe.shift_xy)
        assert recipe.brow_cut in (-1.3, -0.95)
        assert recipe.opacity in ((1.0,) if swap else (0.8, 0.9, 1.0))
        # Three harmonics of at most about three deviations each, and the size.
        assert len(recipe.outline_scale_P) == len(OUTLINE_P2)
        assert all(0.55 < scale < 1.35 for scale in recipe.outline_scale_P)
    for name, (lowest, highest) in ranges.items():
        values = [getattr(recipe, name) for recipe in recipes]
        assert lowest <= min(values) < max(values) <= highest
        # They fill the range: 300 draws leave no tenth of it empty at an end.
        assert max(values) - min(values) > 0.8 * (highest - lowest)


def test_a_recipe_depends_on_the_generator_alone():
    first, again, other = (
        draw_recipe("self_blend", np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_outline_is_deformed_smoothly():
    # 22 points, harmonics up to 3: neighbours can't differ by much.
    for seed in range(100):
        scales = np.array(draw_recipe("self_blend", np.random.default_rng(seed)).outline_scale_P)
        assert np.abs(np.diff(np.append(scales, scales[0]))).max() < 0.15


# ---------------------------------------------------------------- the mask


def test_the_mask_is_1_inside_and_0_far_outside(still):
    _, mask = forge(still, POINTS_52, IDENTITY)
    assert mask.shape == still.shape[:2]
    assert mask.dtype == np.float32
    assert mask.min() == 0
    for x, y in POINTS_52.astype(int):
        assert mask[y, x] == pytest.approx(1, abs=1e-3)
    assert not mask[:, :100].any()
    assert not mask[:, 412:].any()
    assert not mask[:40].any()
    assert not mask[470:].any()


@pytest.mark.parametrize("feather", [0.02, 0.05, 0.09])
def test_the_mask_s_edge_is_as_soft_as_asked(still, feather):
    # Across a straight edge a blurred step rises from Phi(-1) to Phi(1) in 2 deviations.
    _, mask = forge(still, POINTS_52, replace(IDENTITY, feather=feather))
    row = mask[round(float(POINTS_52[:, 1].mean()))][: round(float(POINTS_52[2, 0]))]
    rise_px = np.interp([0.1587, 0.8413], row, np.arange(len(row)))
    assert rise_px[1] - rise_px[0] == pytest.approx(2 * feather * EYES_PX, rel=0.15, abs=0.5)


def test_opacity_is_the_mask_s_height(still):
    _, mask = forge(still, POINTS_52, replace(IDENTITY, opacity=0.8))
    assert mask.max() == pytest.approx(0.8, abs=1e-3)


def test_the_brow_cut_ends_the_mask(still):
    points = points_at((256, 256), 100)
    _, whole = forge(still, points, IDENTITY)
    _, cut = forge(still, points, replace(IDENTITY, brow_cut=-0.95))
    # The outline's top lies at 256 - 120 = 136, the cut at 256 - 95 = 161; 3 deviations are 15.
    assert whole[145, 256] > 0.9
    assert cut[145, 256] < 0.01
    assert cut[177, 256] > 0.99
    assert np.array_equal(whole[200:], cut[200:])


@pytest.mark.parametrize("method", blend.METHODS)
def test_pixels_outside_the_mask_are_untouched(still, donor, method):
    for seed in range(4):
        recipe = draw_recipe(method, np.random.default_rng(seed))
        before = still.copy()
        forged, mask = forge(still, POINTS_52, recipe, donor=donor)
        outside = mask == 0
        assert 0.3 < outside.mean() < 0.95
        assert np.array_equal(forged[outside], still[outside])
        assert np.array_equal(still, before)
        assert differences(forged, still)[mask > 0.5].mean() > 1  # and it is a forgery


# ---------------------------------------------------------------- self-blending


def test_a_forger_who_changes_nothing_leaves_the_picture(still):
    forged, mask = forge(still, POINTS_52, IDENTITY)
    assert mask.max() > 0.99
    assert differences(forged, still).max() <= 1


def test_gain_and_bias_are_those_of_the_recipe():
    grey = np.full((256, 256, 3), 100, np.uint8)
    recipe = replace(IDENTITY, gain_RGB=(1.1, 1.0, 0.9), bias=5.0)
    forged, mask = forge(grey, points_at((128, 128), 60), recipe)
    assert forged[128, 128].tolist() == [115, 105, 95]
    half = replace(recipe, opacity=0.8)
    forged, _ = forge(grey, points_at((128, 128), 60), half)
    assert forged[128, 128].tolist() == [112, 104, 96]
    # On the edge the blend is in proportion to the mask.
    edge = (mask > 0.2) & (mask < 0.8)
    forged, _ = forge(grey, points_at((128, 128), 60), recipe)
    assert np.abs(forged[edge][:, 0] - (100 + 15 * mask[edge])).max() <= 0.51


def dot_at(picture_HWC):
    """Return the bright dot's centre, x and y."""
    weight = picture_HWC[..., 0].astype(float) - 50
    rows, columns = np.indices(weight.shape)
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def with_dot(centre_xy):
    picture = np.full((320, 320, 3), 50, np.uint8)
    cv2.circle(picture, tuple(map(round, centre_xy)), 6, (200, 200, 200), -1)
    return picture


@pytest.mark.parametrize(
    ("changes", "expected_xy"),
    [
        # The dot lies 20 right of and 10 above the centre (160, 160) of a face with eyes 100 apart.
        ({}, (180, 150)),
        ({"shift_xy": (0.1, -0.05)}, (190, 145)),
        ({"scale_xy": (1.5, 2.0)}, (190, 140)),
        ({"rotation_deg": 90.0}, (170, 180)),  # clockwise, as y points down
        ({"rotation_deg": 90.0, "shift_xy": (-0.1, 0.0), "scale_xy": (2.0, 1.0)}, (160, 200)),
    ],
)
def test_the_face_is_placed_as_the_recipe_says(changes, expected_xy):
    forged, _ = forge(
        with_dot((180, 150)), points_at((160, 160), 100), replace(IDENTITY, **changes)
    )
    assert dot_at(forged) == pytest.approx(expected_xy, abs=0.5)


def test_a_recipe_holds_for_the_video_while_the_placement_trembles():
    recipe = replace(IDENTITY, shift_xy=(0.04, 0.0), tremble=0.015)
    frame, points = with_dot((160, 160)), points_at((160, 160), 100)
    rng = np.random.default_rng(5)
    forged = [forge_frame(frame, points, recipe, rng) for _ in range(60)]
    places = np.array([dot_at(picture) for picture, _ in forged])
    assert all(np.array_equal(mask, forged[0][1]) for _, mask in forged)
    # Around 4 px off, by 1.5 px: 60 draws tell the mean within 0.6 and the deviation within 30 %.
    assert places.mean(axis=0) == pytest.approx([164, 160], abs=0.6)
    assert places.std(axis=0) == pytest.approx([1.5, 1.5], rel=0.3)

    still_forger = replace(recipe, tremble=0.0)
    one, other = (forge_frame(frame, points, still_forger, rng)[0] for _ in range(2))
    assert np.array_equal(one, other)


def test_a_small_face_px_blurs_and_a_positive_sharpen_sharpens(still):
    def detail(**changes):
        forged, mask = forge(still, POINTS_52, replace(IDENTITY, **changes))
        grey = cv2.cvtColor(forged, cv2.COLOR_RGB2GRAY).astype(np.float32)
        return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F))[mask > 0.99].mean())

    coarse = [detail(face_px=face_px) for face_px in (56, 100, 200)]
    assert coarse == sorted(coarse)
    # Three levels of sharpness around the picture's own.
    own = detail()
    assert coarse[-1] < own
    assert detail(sharpen=-0.4) < 0.9 * own
    assert detail(sharpen=0.8) > 1.1 * own


# ---------------------------------------------------------------- face swap


def test_a_swap_takes_on_the_target_s_colours(still, donor):
    recipe = replace(IDENTITY, method="face_swap")
    for tint in ((1.0, 1.0, 1.0), (0.6, 0.8, 1.0)):  # a donor under other light
        tinted = np.round(donor[0] * tint).astype(np.uint8), donor[1]
        forged, mask = forge(still, POINTS_52, recipe, donor=tinted)
        inside = mask > 0.99
        wanted = still[inside].mean(axis=0)
        assert forged[inside].mean(axis=0) == pytest.approx(wanted, abs=4)
        raw, _ = forge(still, POINTS_52, replace(recipe, colour_match=0.0), donor=tinted)
        off = np.abs(raw[inside].mean(axis=0) - wanted).max()
        assert off > 4
        # Half the share leaves about half the difference.
        half, _ = forge(still, POINTS_52, replace(recipe, colour_match=0.5), donor=tinted)
        left = np.abs(half[inside].mean(axis=0) - wanted).max()
        assert 0.25 * off < left < 0.75 * off


def test_a_swap_brings_the_donor_s_face_onto_the_target_s():
    # The donor's mouth is marked; it lands on the target's, however far apart and large they are.
    donor = np.full((400, 400, 3), 120, np.uint8)
    donor_points = points_at((150, 220), 90)
    mouth = donor_points[3:].mean(axis=0)
    cv2.circle(donor, tuple(map(round, mouth.tolist())), 8, (240, 240, 240), -1)
    target = np.full((320, 320, 3), 50, np.uint8)
    recipe = replace(IDENTITY, method="face_swap", colour_match=0.0)
    points = points_at((170, 140), 60)
    forged, _ = forge(target, points, recipe, donor=(donor, donor_points))
    bright = np.argwhere(forged[..., 0] > 180).mean(axis=0)[::-1]
    assert bright == pytest.approx(points[3:].mean(axis=0), abs=1)


def test_the_donor_goes_with_the_method(still, donor):
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError):
        forge_frame(still, POINTS_52, IDENTITY, rng, donor=donor)
    with pytest.raises(AssertionError):
        forge_frame(still, POINTS_52, replace(IDENTITY, method="face_swap"), rng)


# ---------------------------------------------------------------- invariants


@pytest.mark.parametrize("method", blend.METHODS)
@pytest.mark.parametrize("move_xy", [(17, 0), (0, -23), (-31, 12)])
def test_a_moved_face_is_forged_alike(still, donor, method, move_xy):
    # Two windows of one picture: in the second everything lies move_xy further.
    recipe = draw_recipe(method, np.random.default_rng(11))
    x, y = move_xy
    here = still[40:472, 60:452]
    there = still[40 - y : 472 - y, 60 - x : 452 - x]
    points = POINTS_52 - [60, 40]
    forged, mask = forge(here, points.astype(np.float32), recipe, seed=3, donor=donor)
    moved, moved_mask = forge(
        there, (points + move_xy).astype(np.float32), recipe, seed=3, donor=donor
    )
    near = (slice(40, 390), slice(50, 340))  # holds the whole mask in both
    far = (slice(40 + y, 390 + y), slice(50 + x, 340 + x))
    assert not np.delete(mask, np.s_[50:340], axis=1).any()
    assert moved_mask[far] == pytest.approx(mask[near], abs=0.01)
    off = differences(moved[far], forged[near])
    # Warps place pixels to 1/32 px: some round to the other side.
    assert off.max() <= 4
    assert off.mean() < 0.05


@pytest.mark.parametrize("method", blend.METHODS)
def test_a_forgery_depends_on_the_generator_alone(still, donor, method):
    recipe = draw_recipe(method, np.random.default_rng(4))
    first, again, other = (
        forge(still, POINTS_52, recipe, seed=seed, donor=donor)[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("method", blend.METHODS)
@pytest.mark.parametrize(
    ("centre_xy", "touched"),
    [
        ((0, 256), True),
        ((512, 256), True),
        ((256, 0), True),
        ((256, 512), True),
        ((511, 511), True),
        ((-300, 256), False),
        ((812, 256), False),
        ((256, -300), False),
        ((256, 900), False),
        ((9000, 9000), False),
    ],
)
def test_a_face_at_the_edge_or_outside_is_no_trouble(still, donor, method, centre_xy, touched):
    recipe = draw_recipe(method, np.random.default_rng(8))
    forged, mask = forge(still, points_at(centre_xy, 100), recipe, donor=donor)
    assert forged.shape == still.shape
    assert (mask.max() > 0.5) == touched
    assert np.array_equal(forged[mask == 0], still[mask == 0])
    assert touched or np.array_equal(forged, still)


@pytest.mark.parametrize("method", ["self_blend", pytest.param("face_swap")])
def test_a_face_just_outside_is_left_alone(still, donor, method):
    # Its outline ends 12 px left of the picture: only the mask's soft edge reaches in.
    recipe = replace(IDENTITY, method=method, feather=0.09)
    forged, mask = forge(still, points_at((-115, 256), 100), recipe, donor=donor)
    assert mask.max() < 0.15
    assert differences(forged, still).max() <= 12
