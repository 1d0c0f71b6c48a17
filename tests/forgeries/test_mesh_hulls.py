"""Masks along hulls of mesh points: the file of points, and the recipe that follows a hull."""

import numpy as np
import pytest

from unmask.errors import DatasetError
from unmask.forgeries import mesh_hulls
from unmask.forgeries.blend import FIVE_POINTS_52, draw_recipe, forge_frame
from unmask.forgeries.mesh_hulls import HULLS, POINTS, draw_hull, follow_hull, read_mesh_points

EYES_PX = 60.0
PLACE_52 = FIVE_POINTS_52 * EYES_PX + np.array([160, 160], np.float32)  # of a face in a frame


def undeformed(method="self_blend"):
    """A recipe whose mask is the outline itself: hard, opaque, in its place."""
    from dataclasses import replace

    recipe = draw_recipe(method, np.random.default_rng(0))
    return replace(
        recipe, outline_scale_P=(1.0,) * len(recipe.outline_scale_P), feather=0.001, opacity=1.0
    )


def mask_of(recipe):
    frame = np.full((320, 320, 3), 128, np.uint8)
    _, mask = forge_frame(frame, PLACE_52, recipe, np.random.default_rng(0))
    return mask


def test_the_mask_is_the_hull():
    """A rectangle from 80 px left to 50 px right of the face's centre, 70 up, 60 down."""
    corners = np.array([[80, 90], [210, 90], [210, 220], [80, 220]], np.float32)
    mask = mask_of(follow_hull(undeformed(), corners, PLACE_52))
    rows, columns = np.nonzero(mask > 0.5)
    # Its edges are cut by 22 rays, so corners are rounded and edges are where they should be.
    assert columns.min() == pytest.approx(80, abs=2)
    assert columns.max() == pytest.approx(210, abs=2)
    assert rows.min() == pytest.approx(90, abs=2)
    assert rows.max() == pytest.approx(220, abs=2)
    assert 0.9 * 130 * 130 < len(rows) <= 131 * 131


def test_it_follows_a_face_that_is_turned_and_stretched():
    """The five points and the hull are mapped alike, so the mask's area grows by the map's."""
    turn = np.array([[0.8, -0.3], [0.4, 0.9]])
    placed = ((PLACE_52 - 160) @ turn.T + 160).astype(np.float32)
    corners = np.array([[100, 100], [220, 100], [220, 220], [100, 220]], np.float32)
    frame = np.full((320, 320, 3), 128, np.uint8)
    areas = []
    for points, hull in (
        (PLACE_52, corners),
        (placed, ((corners - 160) @ turn.T + 160).astype(np.float32)),
    ):
        recipe = follow_hull(undeformed(), hull, points)
        areas.append(forge_frame(frame, points, recipe, np.random.default_rng(0))[1].sum())
    assert areas[1] / areas[0] == pytest.approx(0.8 * 0.9 + 0.3 * 0.4, rel=0.02)


def test_what_the_recipe_deforms_stays_deformed():
    from dataclasses import replace

    corners = np.array([[100, 100], [220, 100], [220, 220], [100, 220]], np.float32)
    recipe = undeformed()
    half = replace(recipe, outline_scale_P=(0.5,) * len(recipe.outline_scale_P))
    whole_area = mask_of(follow_hull(recipe, corners, PLACE_52)).sum()
    assert mask_of(follow_hull(half, corners, PLACE_52)).sum() == pytest.approx(
        whole_area / 4, rel=0.05
    )


def test_a_hull_beside_the_centre_is_not_followed():
    recipe = undeformed()
    beside = np.array([[200, 100], [240, 100], [240, 220]], np.float32)
    assert follow_hull(recipe, beside, PLACE_52) == recipe
    on_a_line = np.array([[100, 100], [150, 150], [200, 200]], np.float32)
    assert follow_hull(recipe, on_a_line, PLACE_52) == recipe


def test_each_hull_is_drawn_and_has_its_points():
    points = np.arange(2 * len(POINTS), dtype=np.float32).reshape(-1, 2)
    drawn = {
        len(draw_hull(points, np.random.default_rng(seed))) for seed in range(40)
    }  # fmt: skip
    assert drawn == {len(set(hull)) for hull in HULLS}
    assert all(len(set(hull)) == len(hull) for hull in HULLS)
    assert {36, 39, 38} == {len(hull) for hull in HULLS}


# ---------------------------------------------------------------- the file


def test_points_are_read_as_they_were_written(tmp_path):
    points = {
        digest * 64: np.full((len(POINTS), 2), value, np.float32)
        for digest, value in (("a", 100.0), ("0", 33.0))
    }
    mesh_hulls.write_mesh_points(tmp_path / "points.npz", points)
    found = read_mesh_points(tmp_path / "points.npz")
    assert sorted(found) == ["0" * 64, "a" * 64]
    assert np.unique(found["a" * 64]).tolist() == [100]
    assert np.unique(found["0" * 64]).tolist() == [32]  # whole steps of two pixels


def broken_files(folder):
    (folder / "text.npz").write_text("no archive")
    (folder / "empty.npz").write_bytes(b"")
    np.savez(folder / "other.npz", other=np.zeros(3))
    np.savez(
        folder / "shape.npz", sha256_N32=np.zeros((2, 32), np.uint8),
        steps_NP2=np.zeros((2, 5, 2), np.uint8),
    )  # fmt: skip
    np.savez(
        folder / "object.npz", sha256_N32=np.zeros((1, 32), np.uint8),
        steps_NP2=np.array([{}], object),
    )  # fmt: skip
    np.save(folder / "array.npy", np.zeros(3))
    return sorted(folder.iterdir())


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    paths = broken_files(tmp_path)
    assert len(paths) == 6
    for path in paths:
        with pytest.raises(DatasetError, match=r"should hold .*Take it from Git"):
            read_mesh_points(path)
    with pytest.raises(DatasetError, match="there is no such file"):
        read_mesh_points(tmp_path / "none.npz")
