"""The pictures that pretraining sees: rendered pairs of a real face crop and its forgery.

They are rendered once, into files; training cuts and flips them at random. Beside each pair lies
a mask of where its forgery was pasted (Li et al., "Face X-ray", CVPR 2020, section 3).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from unmask.errors import DatasetError
from unmask.forgeries.blend import METHODS, Floats, Image, draw_recipe, forge_frame
from unmask.forgeries.mesh_hulls import draw_hull, follow_hull
from unmask.forgeries.sample import CameraPath, draw_camera_path, film
from unmask.models.frame_net import DEVIATION, MEAN
from unmask.models.pretrain_faces import BaseFace
from unmask.runtime.processes import run_jobs
from unmask.video.codec_pass import Codec, recode_last

BANK_PX = 176  # pictures are kept this large, and cut to the training side at random
MASK_STEP = 4  # the bank keeps one mask value for 4 x 4 pixels
MASK_STRIDE = 16  # of X3D's fourth stage, where the mask is predicted
RENDERED_AT_ONCE = 50  # pairs in one job

# A pair. Training crops vary in all of this, and what the net should not go by must not differ
# between classes: both pictures of a pair get the same draw.
VIDEO_RATIO = 0.25  # pairs from genuine videos' frames: those show few people, stills many
PORTRAIT_RATIO = 0.35  # pairs from portraits, where there are any; the others are from stills
DARK_GAIN = (0.3, 0.9)  # of a dark pair's light, before the sensor's noise
FILMED_S = 3.0  # a still is filmed at a moment of its camera path: the sample's videos last as long
SIZE_JITTER = (0.94, 1.08)  # of the crop's side: a detector's boxes differ from frame to frame
SHIFT_RATIO = 0.02  # deviation of the crop's centre, in its sides: so do their places
VIDEO_QUALITY = (50, 93)  # JPEG's, of the whole picture: from heavily to hardly compressed videos
H264_RATIO = 0.7  # of the pairs that a codec re-encodes; the others go through MPEG-4
H264_CRF = (28, 43)  # 23 is the encoder's own choice, 51 the worst
MPEG4_QUANTISER = (6, 25)  # 31 is the worst
CODED_FRAMES = 3  # the last one is kept: it is predicted from the ones before
DRIFT_PX = 1.0  # deviation of how far the picture moves from frame to frame
CROP_QUALITY = (80, 97)  # JPEG's, of the crop: crops are stored with little loss
SOFTENED_BELOW = 0.85  # scale: warpAffine averages nothing, so a picture made smaller is blurred
SOFTENING_PX = 0.4  # the blur's deviation for a picture that is halved, in its own pixels


@dataclass(frozen=True)
class Shares:
    """Shares of the pairs whose two pictures have gone through this."""

    dark: float  # taken with less light
    coded: float  # re-encoded heavily by a video codec
    hulls: float  # of those with a mesh: pasted along the hull of the person's own points


SHARES = Shares(dark=0.3, coded=0.4, hulls=0.5)

# ---------------------------------------------------------------- rendering


def render_pair(
    faces: Sequence[BaseFace], margin_ratio: float, rng: np.random.Generator, shares: Shares
) -> tuple[Image, Floats]:
    """Return a real crop and its forgery (2, BANK_PX, BANK_PX, 3), and the forgery's mask."""
    base = draw_base(faces, rng)
    donors = [f for f in faces if f.person != base.person and not f.portrait]
    if base.still:
        path, time_s = draw_camera_path(rng), float(rng.uniform(0, FILMED_S))
        centre = base.points_52.mean(axis=0)
        matrix = path.matrix((float(centre[0]), float(centre[1])), time_s)
        real = film(base.picture_HWC, matrix)
    else:
        path, time_s, matrix = None, 0.0, np.eye(3)[:2]
        real = base.picture_HWC
    points = _move(base.points_52, matrix)
    box = _move(base.box_xyxy.reshape(2, 2), matrix).reshape(4)
    swaps = bool(donors) and not base.portrait
    method = METHODS[rng.integers(len(METHODS))] if swaps else "self_blend"
    donor = donors[rng.integers(len(donors))] if method == "face_swap" else None
    recipe = draw_recipe(method, rng)
    if base.mesh_P2 is not None and rng.random() < shares.hulls:
        recipe = follow_hull(recipe, draw_hull(_move(base.mesh_P2, matrix), rng), points)
    fake, mask = forge_frame(
        real, points, recipe, rng,
        donor=None if donor is None else (donor.picture_HWC, donor.points_52),
    )  # fmt: skip

    centre_xy = (box[:2] + box[2:]) / 2
    side = float(max(box[2] - box[0], box[3] - box[1])) * (1 + 2 * margin_ratio)
    side *= float(rng.uniform(*SIZE_JITTER))
    centre_xy = centre_xy + rng.normal(0, SHIFT_RATIO, 2) * side
    scale = BANK_PX / side
    to_bank = np.array(
        [
            [scale, 0, BANK_PX / 2 - scale * centre_xy[0]],
            [0, scale, BANK_PX / 2 - scale * centre_xy[1]],
        ]
    )
    treat = _draw_treatment(path, time_s, shares, rng)
    crop_quality = int(rng.integers(*CROP_QUALITY))
    crops = np.empty((2, BANK_PX, BANK_PX, 3), np.uint8)
    for index, frame in enumerate((real, fake)):
        shot = treat(frame, rng)
        if scale < SOFTENED_BELOW:
            shot = cv2.GaussianBlur(shot, (0, 0), SOFTENING_PX * (1 / scale - 1))
        crop = cv2.warpAffine(
            shot, to_bank, (BANK_PX, BANK_PX),
            flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT,
        )  # fmt: skip
        crops[index] = _jpeg(crop, crop_quality)
    mask_px = BANK_PX // MASK_STEP
    small = cv2.warpAffine(mask, to_bank, (BANK_PX, BANK_PX))
    return crops, cv2.resize(small, (mask_px, mask_px), interpolation=cv2.INTER_AREA)


def draw_base(faces: Sequence[BaseFace], rng: np.random.Generator) -> BaseFace:
    """Return a random face; which kind of picture it comes from is drawn first."""
    pools = [
        (share, [f for f in faces if f.still is still and f.portrait is portrait])
        for share, still, portrait in (
            (VIDEO_RATIO, False, False),
            (PORTRAIT_RATIO, True, True),
            (1 - VIDEO_RATIO - PORTRAIT_RATIO, True, False),
        )
    ]
    there = [(share, pool) for share, pool in pools if pool]
    edges = np.cumsum([share for share, _ in there])
    _, pool = there[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))]
    return pool[rng.integers(len(pool))]


def _move(points_N2: Floats, matrix_23: npt.NDArray[np.float64]) -> Floats:
    return (points_N2 @ matrix_23[:, :2].T + matrix_23[:, 2]).astype(np.float32)


def _draw_treatment(
    path: CameraPath | None, time_s: float, shares: Shares, rng: np.random.Generator
) -> Callable[[Image, np.random.Generator], Image]:
    """Return what happens to a picture between the scene and the crop, the same for a pair's two.

    Only noise is drawn when a picture is treated. Path is None where a camera has been at work.
    """
    gain = float(rng.uniform(*DARK_GAIN)) if rng.random() < shares.dark else 1.0
    codec: Codec | None = None
    if rng.random() < shares.coded:
        codec = "h264" if rng.random() < H264_RATIO else "mpeg4"
        level = int(rng.integers(*(H264_CRF if codec == "h264" else MPEG4_QUANTISER)))
        drift_xy = rng.normal(0, DRIFT_PX, 2)
    else:
        level = int(rng.integers(*VIDEO_QUALITY))

    def shoot(frame_HWC: Image, noise: np.random.Generator) -> Image:
        lit = frame_HWC if gain == 1.0 else cv2.convertScaleAbs(frame_HWC, alpha=gain)
        return lit if path is None else path.expose(lit, time_s, noise)

    def treat(frame_HWC: Image, noise: np.random.Generator) -> Image:
        if codec is None:
            return _jpeg(shoot(frame_HWC, noise), level)
        height, width = frame_HWC.shape[:2]
        even = cv2.copyMakeBorder(
            frame_HWC, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE
        )  # fmt: skip
        shots = []
        for before in range(CODED_FRAMES - 1, -1, -1):
            away = np.array([[1, 0, before * drift_xy[0]], [0, 1, before * drift_xy[1]]])
            seen = even if not before else cv2.warpAffine(
                even, away, even.shape[1::-1], flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            shots.append(shoot(np.asarray(seen, np.uint8), noise))
        return recode_last(shots, codec, level)[:height, :width]

    return treat


def _jpeg(picture_HWC: Image, quality: int) -> Image:
    # Where no codec is asked for it stands in for H.264 within a frame, at a third of the cost.
    _, data = cv2.imencode(".jpg", picture_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


_FACES: list[BaseFace] = []


def _start_worker(faces: Sequence[BaseFace]) -> None:
    cv2.setNumThreads(1)
    _FACES[:] = faces


def _render_many(
    margin_ratio: float, seed: int, shares: Shares, indices: range
) -> tuple[int, Image, npt.NDArray[np.uint8]]:
    crops, masks = [], []
    for index in indices:
        rng = np.random.default_rng([seed, index])
        crop, mask = render_pair(_FACES, margin_ratio, rng, shares)
        crops.append(crop)
        masks.append(np.clip(np.round(mask * 255), 0, 255).astype(np.uint8))
    return indices.start, np.stack(crops), np.stack(masks)


def _refuse_crash(indices: range) -> tuple[int, Image, npt.NDArray[np.uint8]]:
    raise DatasetError(
        f"Asked for the pairs {indices.start} to {indices.stop - 1}, but the process that renders "
        "them was killed. Memory may have run out: close other programs, and run it again."
    )


def render_bank(
    faces: Sequence[BaseFace],
    folder: Path,
    *,
    pairs: int,
    margin_ratio: float,
    seed: int,
    workers: int,
    shares: Shares = SHARES,
) -> Iterator[int]:
    """Write folder/crops.npy (pairs, 2, H, W, 3) and masks.npy; yield after every RENDERED_AT_ONCE.

    Pair i depends on (seed, i) alone, so the bank is the same whatever the workers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mask_px = BANK_PX // MASK_STEP
    crops = np.lib.format.open_memmap(
        folder / "crops.npy", "w+", np.uint8, (pairs, 2, BANK_PX, BANK_PX, 3)
    )
    masks = np.lib.format.open_memmap(
        folder / "masks.npy", "w+", np.uint8, (pairs, mask_px, mask_px)
    )
    jobs = [
        range(first, min(first + RENDERED_AT_ONCE, pairs))
        for first in range(0, pairs, RENDERED_AT_ONCE)
    ]
    rendered = run_jobs(
        jobs, partial(_render_many, margin_ratio, seed, shares), partial(_start_worker, faces),
        workers, crashed=_refuse_crash,
    )  # fmt: skip
    for first, some_crops, some_masks in rendered:
        crops[first : first + len(some_crops)] = some_crops
        masks[first : first + len(some_masks)] = some_masks
        yield first


# ---------------------------------------------------------------- reading


class Bank:
    """Random batches, cut and flipped, from a rendered bank held in memory-mapped files."""

    def __init__(self, folder: Path, *, side_px: int) -> None:
        self.crops = np.load(folder / "crops.npy", mmap_mode="r")
        self.masks = np.load(folder / "masks.npy", mmap_mode="r")
        self.side_px = side_px

    def batch(
        self, pairs: npt.NDArray[np.int64], rng: np.random.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return normalised pictures (2B, 3, H, W), labels (2B,) and masks (2B, H/16, W/16).

        Both pictures of a pair are cut and flipped alike; rng None takes the centre, unflipped.
        """
        spare = (BANK_PX - self.side_px) // MASK_STEP
        pictures, masks = [], []
        for pair in pairs:
            top, left = (spare // 2, spare // 2) if rng is None else rng.integers(0, spare + 1, 2)
            flip = rng is not None and rng.random() < 0.5
            y, x, side = top * MASK_STEP, left * MASK_STEP, self.side_px
            crop = self.crops[pair, :, y : y + side, x : x + side]
            mask = self.masks[pair, top : top + side // MASK_STEP, left : left + side // MASK_STEP]
            pictures.append(crop[:, :, ::-1] if flip else crop)
            masks.append(mask[:, ::-1] if flip else mask)
        frames = torch.from_numpy(np.concatenate(pictures)).permute(0, 3, 1, 2)
        frames_BCHW = (frames.float() / 255 - MEAN) / DEVIATION
        fine = torch.from_numpy(np.stack(masks)).float()[:, None] / 255
        coarse = nn.functional.avg_pool2d(fine, MASK_STRIDE // MASK_STEP)[:, 0]
        masks_BHW = torch.stack([torch.zeros_like(coarse), coarse], dim=1).flatten(0, 1)
        labels_B = torch.tensor([0.0, 1.0]).repeat(len(pairs))
        return frames_BCHW.contiguous(memory_format=torch.channels_last), labels_B, masks_BHW
