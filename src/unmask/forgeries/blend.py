"""Pseudo-fakes made from real faces: self-blending and face swap.

Self-blending pastes a transformed copy of a face onto itself (Shiohara & Yamasaki, "Detecting
Deepfakes with Self-Blended Images", CVPR 2022, arXiv:2204.08376, section 3). A face swap pastes
another person's face, aligned by landmarks and matched in colour (Rossler et al.,
"FaceForensics++", ICCV 2019, section 3.1, FaceSwap). Both leave what a detector must find: a
blending boundary, a colour or resolution mismatch, and a placement that trembles over time.

Face units: the five landmarks (eyes, nose tip, mouth corners; left and right as seen in the
picture) have their mean at 0 and the eyes are 1 apart.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Method = Literal["self_blend", "face_swap"]

METHODS: tuple[Method, ...] = ("self_blend", "face_swap")

# Means over the 102 neutral stills of the Face Research Lab London Set (DeBruine & Jones 2017),
# made symmetric. The five points are what MTCNN returns on them; the outline follows the
# hand-placed landmarks of the jaw and, above the brows, halfway from brow to hairline.
FIVE_POINTS_52: Floats = np.array(
    [[-0.5, -0.533], [0.5, -0.533], [0.0, -0.019], [-0.401, 0.542], [0.401, 0.542]], np.float32
)
_RIGHT_HALF = [
    [0.277, -1.225], [0.557, -1.242], [0.764, -1.157], [0.887, -0.976], [0.978, -0.742],
    [1.030, 0.291], [0.975, 0.536], [0.870, 0.779], [0.638, 1.031], [0.344, 1.195],
]  # fmt: skip
OUTLINE_P2: Floats = np.array(
    [[0.0, -1.2], *_RIGHT_HALF, [0.0, 1.259], *[[-x, y] for x, y in reversed(_RIGHT_HALF)]],
    np.float32,
)


@dataclass(frozen=True)
class Recipe:
    """One forger's settings, kept for a whole video: what he pastes and how well he hides it."""

    method: Method
    gain_RGB: tuple[float, float, float]
    bias: float  # levels of 255
    face_px: int  # width at which the pasted face is rendered before it is scaled to fit
    sharpen: float  # unsharp amount; negative blurs
    scale_xy: tuple[float, float]
    shift_xy: tuple[float, float]  # face units
    rotation_deg: float
    outline_scale_P: tuple[float, ...]  # radial deformation of the mask's outline
    brow_cut: float  # face units; the mask ends here at the top
    feather: float  # face units; standard deviation of the mask's edge
    opacity: float
    colour_match: float  # 0..1, share of the colour difference that is removed (swap only)
    tremble: float  # face units; standard deviation of the placement from frame to frame


def draw_recipe(method: Method, rng: np.random.Generator) -> Recipe:
    """Return a random recipe; kinds of change after Shiohara & Yamasaki, section 3.2."""
    swap = method == "face_swap"
    gain = rng.uniform(0.88, 1.14, 3) if not swap else rng.uniform(0.94, 1.07, 3)
    # Smooth around the outline: a few low harmonics, so that the mask stays one soft shape.
    angle_P = np.linspace(0, 2 * np.pi, len(OUTLINE_P2), endpoint=False)
    deform_P = np.ones(len(OUTLINE_P2))
    for k in (1, 2, 3):
        deform_P += rng.normal(0, 0.045 / k) * np.cos(k * angle_P + rng.uniform(0, 2 * np.pi))
    return Recipe(
        method=method,
        gain_RGB=(float(gain[0]), float(gain[1]), float(gain[2])),
        bias=float(rng.uniform(-12, 12)),
        face_px=int(rng.integers(56, 129)),
        sharpen=float(rng.uniform(-0.4, 0.8)),
        scale_xy=(float(rng.uniform(0.95, 1.05)), float(rng.uniform(0.95, 1.05))),
        shift_xy=(float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.06, 0.06))),
        rotation_deg=float(rng.uniform(-2.5, 2.5)),
        outline_scale_P=tuple(float(s) for s in deform_P * rng.uniform(0.82, 1.0)),
        brow_cut=float(rng.choice([-1.3, -1.3, -0.95])),
        feather=float(rng.uniform(0.02, 0.09)),
        opacity=float(rng.choice([0.8, 0.9, 1.0, 1.0, 1.0])) if not swap else 1.0,
        colour_match=float(rng.uniform(0.75, 1.0)),
        tremble=float(rng.uniform(0.004, 0.015)),
    )


def forge_frame(
    frame_HWC: Image,
    points_52: Floats,
    recipe: Recipe,
    rng: np.random.Generator,
    *,
    donor: tuple[Image, Floats] | None = None,
) -> tuple[Image, Floats]:
    """Return the frame with its face manipulated, and the mask (H, W) in 0..1 of what was pasted.

    points_52 are pixels of the frame. donor is (picture, its five points) for a face swap, None
    for self-blending. rng draws only the frame's placement error (recipe.tremble).
    """
    assert (donor is None) == (recipe.method == "self_blend")
    face_to_frame = _fit_affine(FIVE_POINTS_52, points_52)
    height, width = frame_HWC.shape[:2]
    outline_P2 = OUTLINE_P2 * np.array(recipe.outline_scale_P, np.float32)[:, None]
    outline_P2[:, 1] = np.maximum(outline_P2[:, 1], recipe.brow_cut)
    polygon_P2 = _apply(face_to_frame, outline_P2)
    eyes_px = float(np.linalg.norm(points_52[1] - points_52[0]))

    # Only the face's surroundings are touched: the rest of the frame costs nothing.
    pad = 3 * recipe.feather * eyes_px + 4
    x0, y0 = np.maximum(np.floor(polygon_P2.min(axis=0) - pad), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(polygon_P2.max(axis=0) + pad), [width, height]).astype(int)
    mask_HW = np.zeros((height, width), np.float32)
    if x1 - x0 < 8 or y1 - y0 < 8:
        return frame_HWC, mask_HW
    window = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]], np.float64)

    place = _placement(recipe, rng)
    if donor is None:
        source_HWC, source_from_face = frame_HWC, face_to_frame
    else:
        source_HWC, source_from_face = donor[0], _fit_affine(FIVE_POINTS_52, donor[1])
    warp = window @ face_to_frame @ place @ np.linalg.inv(source_from_face)
    pasted = cv2.warpAffine(
        source_HWC, warp[:2], (int(x1 - x0), int(y1 - y0)),
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip

    mask = np.zeros(pasted.shape[:2], np.float32)
    cv2.fillPoly(mask, [np.round(polygon_P2 - [x0, y0]).astype(np.int32)], 1.0, cv2.LINE_AA)
    mask = np.clip(mask, 0, 1)
    if not (mask > 0.5).any():  # the outline lies outside; only its soft edge would reach in
        return frame_HWC, mask_HW
    target = frame_HWC[y0:y1, x0:x1].astype(np.float32)
    pasted_f = _render_at(pasted, recipe, eyes_px).astype(np.float32)
    if donor is not None:
        pasted_f = _match_colour(pasted_f, target, mask > 0.5, recipe.colour_match)
    pasted_f = pasted_f * np.array(recipe.gain_RGB, np.float32) + recipe.bias
    mask = cv2.GaussianBlur(mask, (0, 0), max(recipe.feather * eyes_px, 0.5)) * recipe.opacity
    blended = target + (pasted_f - target) * mask[..., None]
    forged = frame_HWC.copy()
    forged[y0:y1, x0:x1] = np.clip(np.round(blended), 0, 255).astype(np.uint8)
    mask_HW[y0:y1, x0:x1] = mask
    return forged, mask_HW


def _fit_affine(from_N2: Floats, to_N2: Floats) -> npt.NDArray[np.float64]:
    """Return the 3x3 least-squares affine map; six unknowns, so it follows a turned head too."""
    ones = np.concatenate([from_N2, np.ones((len(from_N2), 1))], axis=1)
    solution, *_ = np.linalg.lstsq(ones, to_N2.astype(np.float64), rcond=None)
    return np.vstack([solution.T, [0.0, 0.0, 1.0]])


def _apply(matrix: npt.NDArray[np.float64], points_N2: Floats) -> Floats:
    return (points_N2 @ matrix[:2, :2].T + matrix[:2, 2]).astype(np.float32)


def _placement(recipe: Recipe, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the 3x3 map, in face units, by which the pasted face is off its place."""
    shift = np.array(recipe.shift_xy) + rng.normal(0, recipe.tremble, 2)
    angle = np.deg2rad(recipe.rotation_deg) + rng.normal(0, recipe.tremble / 2)
    scale = np.array(recipe.scale_xy) * (1 + rng.normal(0, recipe.tremble / 2))
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array(
        [
            [cos * scale[0], -sin * scale[1], shift[0]],
            [sin * scale[0], cos * scale[1], shift[1]],
            [0, 0, 1],
        ]
    )


def _render_at(face_HWC: Image, recipe: Recipe, eyes_px: float) -> Image:
    """Return the face as a generator of face_px width would have drawn it, then sharpened."""
    ratio = recipe.face_px / max(2.06 * eyes_px, 1.0)  # the outline is 2.06 face units wide
    if ratio < 1:
        height, width = face_HWC.shape[:2]
        small = cv2.resize(
            face_HWC,
            (max(round(width * ratio), 2), max(round(height * ratio), 2)),
            interpolation=cv2.INTER_AREA,
        )
        face_HWC = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(face_HWC, (0, 0), 1.2)
    return np.asarray(
        cv2.addWeighted(face_HWC, 1 + recipe.sharpen, soft, -recipe.sharpen, 0), np.uint8
    )


def _match_colour(
    pasted: Floats, target: Floats, inside: npt.NDArray[np.bool_], share: float
) -> Floats:
    """Return pasted with its mean and deviation per Lab channel moved towards target's.

    Reinhard et al., "Color Transfer between Images", IEEE CG&A 2001, section 3, in CIE Lab.
    """
    lab = cv2.cvtColor(np.clip(pasted, 0, 255) / 255.0, cv2.COLOR_RGB2LAB)
    goal = cv2.cvtColor(target / 255.0, cv2.COLOR_RGB2LAB)[inside]
    mean, deviation = lab[inside].mean(axis=0), lab[inside].std(axis=0) + 1e-3
    ratio = np.clip(goal.std(axis=0) / deviation, 0.6, 1.6)
    matched = (lab - mean) * (1 + share * (ratio - 1)) + mean + share * (goal.mean(axis=0) - mean)
    rgb: Floats = cv2.cvtColor(matched.astype(np.float32), cv2.COLOR_LAB2RGB) * 255.0
    return rgb
