"""Masks that follow a person's own face: hulls of points of a face mesh.

The outline of blend.py is one mean face's. Self-blended images (Shiohara & Yamasaki, CVPR 2022,
section 3) draw the mask's shape among hulls of a person's own landmarks. Here these are the
points of MediaPipe's face mesh (468 points; Kartynnik et al., arXiv:1907.06724), found beforehand:
a file holds those of the pictures that pretraining knows, by the digest of the picture's file.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from unmask.errors import DatasetError
from unmask.forgeries.blend import FIVE_POINTS_52, OUTLINE_P2, Floats, Recipe

# Numbers of the mesh's points. The oval runs from the middle of the forehead clockwise.
_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_BROWS = (70, 63, 105, 66, 107, 46, 52, 336, 296, 334, 293, 300, 276, 282)
_EYES = (33, 130, 226, 247, 263, 359, 446, 467)
_MOUTH = (61, 185, 40, 37, 0, 267, 270, 409, 291, 375, 405, 314, 17, 84, 181, 146)
_BELOW_THE_BROWS = _OVAL[6:31]  # from temple to temple by way of the chin
HULLS: tuple[tuple[int, ...], ...] = (
    _OVAL, (*_BELOW_THE_BROWS, *_BROWS), (*_BROWS, *_EYES, *_MOUTH)
)  # fmt: skip
POINTS = tuple(sorted({point for hull in HULLS for point in hull}))
STEP_PX = 2  # the file holds whole steps in a byte, so that it stays small: a mask is never exact


def read_mesh_points(path: Path) -> dict[str, Floats]:
    """Return the points (len(POINTS), 2), in pixels, of each picture by its file's SHA-256.

    Raises:
        DatasetError: the file is missing, or is not what write_mesh_points writes.
    """
    if not path.is_file():
        raise DatasetError(f"Asked for {path}; there is no such file. Take it from Git.")
    try:
        with path.open("rb") as file:
            # np.load gives other things for files that are no archives.
            archive = NpzFile(file, allow_pickle=False)
            digests, points = archive["sha256_N32"], archive["steps_NP2"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DatasetError(
            f"{path} should hold the mesh points of pictures; found: {error}. Take it from Git."
        ) from error
    wanted = (len(digests), len(POINTS), 2)
    if digests.dtype != np.uint8 or points.dtype != np.uint8 or points.shape != wanted:
        raise DatasetError(
            f"{path} should hold {len(POINTS)} points of each picture, as bytes; found "
            f"{points.dtype} of the shape {points.shape}. Take it from Git."
        )
    return {
        digest.tobytes().hex(): steps.astype(np.float32) * STEP_PX
        for digest, steps in zip(digests, points, strict=True)
    }


def write_mesh_points(path: Path, points_by_digest: Mapping[str, Floats]) -> None:
    """Write the points (len(POINTS), 2), in pixels, of each picture by its file's SHA-256."""
    digests = sorted(points_by_digest)
    steps = np.stack([points_by_digest[digest] for digest in digests]) / STEP_PX
    np.savez_compressed(
        path,
        sha256_N32=np.array([list(bytes.fromhex(digest)) for digest in digests], np.uint8),
        steps_NP2=np.clip(np.round(steps), 0, 255).astype(np.uint8),
    )


def draw_hull(points_P2: Floats, rng: np.random.Generator) -> Floats:
    """Return the points of one of HULLS, drawn at random, out of all POINTS."""
    chosen = HULLS[rng.integers(len(HULLS))]
    return points_P2[np.isin(POINTS, chosen)]


def follow_hull(recipe: Recipe, hull_N2: Floats, points_52: Floats) -> Recipe:
    """Return the recipe with the mask drawn along the convex hull, deformed as the recipe says.

    hull_N2 and points_52 are pixels of the frame that is forged. A recipe's outline is a distance
    along each ray of OUTLINE_P2, so the hull is cut by these rays. A hull without the face's
    centre, as of a head in profile, can't be: the recipe stays as it is.
    """
    known = np.concatenate([FIVE_POINTS_52, np.ones((5, 1), np.float32)], axis=1)
    face_to_frame, *_ = np.linalg.lstsq(known, points_52.astype(np.float64), rcond=None)
    in_face_N2 = (hull_N2 - face_to_frame[2]) @ np.linalg.inv(face_to_frame[:2])
    radius_P = _distances_to_hull(in_face_N2, OUTLINE_P2.astype(np.float64))
    if radius_P is None:
        return recipe
    scale_P = radius_P / np.linalg.norm(OUTLINE_P2, axis=1) * recipe.outline_scale_P
    return replace(recipe, outline_scale_P=tuple(float(s) for s in scale_P), brow_cut=float("-inf"))


def _distances_to_hull(
    points_N2: npt.NDArray[np.float64], rays_R2: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64] | None:
    """Return how far the hull's edge is from the origin along each ray; None where 0 is outside."""
    hull_E2 = cv2.convexHull(points_N2.astype(np.float32))[:, 0].astype(np.float64)
    along_E2 = np.roll(hull_E2, -1, axis=0) - hull_E2
    outward_E2 = np.stack([along_E2[:, 1], -along_E2[:, 0]], axis=1)
    reach_E = (outward_E2 * hull_E2).sum(axis=1)
    if (reach_E < 0).all():  # the corners come the other way round
        outward_E2, reach_E = -outward_E2, -reach_E
    if len(hull_E2) < 3 or not (reach_E > 0).all():
        return None
    unit_R2 = rays_R2 / np.linalg.norm(rays_R2, axis=1, keepdims=True)
    facing_RE = unit_R2 @ outward_E2.T
    with np.errstate(divide="ignore"):
        distance_RE = np.where(facing_RE > 0, reach_E / facing_RE, np.inf)
    nearest: npt.NDArray[np.float64] = distance_RE.min(axis=1)
    return nearest
