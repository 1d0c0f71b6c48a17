"""The pictures that pretraining sees: rendered pairs of a real face crop and its forgery.

They are rendered once, into files; training cuts and flips them at random. Beside each pair lies
a mask of where its forgery was pasted (Li et al., "Face X-ray", CVPR 2020, section 3).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from unmask.errors import DatasetError
from unmask.faces.detector import Detector
from unmask.forgeries.blend import METHODS, Floats, Image, draw_recipe, forge_frame
from unmask.forgeries.sample import draw_camera_path, film, largest, read_sources, read_still
from unmask.models.frame_net import DEVIATION, MEAN
from unmask.params import Detect
from unmask.runtime.processes import run_jobs
from unmask.video.decode import read_frames

BANK_PX = 176  # pictures are kept this large, and cut to the training side at random
MASK_STEP = 4  # the bank keeps one mask value for 4 x 4 pixels
MASK_STRIDE = 16  # of X3D's fourth stage, where the mask is predicted
RENDERED_AT_ONCE = 50  # pairs in one job
VIDEO_STEP = 6  # of a genuine video every sixth frame is used: its neighbours look the same

# A pair. Training crops vary in all of this, and what the net should not go by must not differ
# between classes: both pictures of a pair get the same draw.
VIDEO_RATIO = 0.25  # pairs from genuine videos' frames: those show few people, stills many
FILMED_S = 3.0  # a still is filmed at a moment of its camera path: the sample's videos last as long
SIZE_JITTER = (0.94, 1.08)  # of the crop's side: a detector's boxes differ from frame to frame
SHIFT_RATIO = 0.02  # deviation of the crop's centre, in its sides: so do their places
VIDEO_QUALITY = (50, 93)  # JPEG's, of the whole picture: from heavily to hardly compressed videos
CROP_QUALITY = (80, 97)  # JPEG's, of the crop: crops are stored with little loss
SOFTENED_BELOW = 0.85  # scale: warpAffine averages nothing, so a picture made smaller is blurred
SOFTENING_PX = 0.4  # the blur's deviation for a picture that is halved, in its own pixels


@dataclass(frozen=True)
class BaseFace:
    """A real picture with one face: what forgeries are made from."""

    picture_HWC: Image
    points_52: Floats
    box_xyxy: Floats
    person: str
    still: bool


# ---------------------------------------------------------------- rendering


def collect_faces(sources_dir: Path, split: str, detect: Detect) -> list[BaseFace]:
    """Return the split's stills, and every VIDEO_STEP-th frame of its videos, with their faces."""
    detector = Detector(detect)
    faces = []
    for source in read_sources(sources_dir):
        if source.split != split:
            continue
        path = sources_dir / source.file
        pictures = (
            [read_still(path)]
            if source.is_still
            else [f.rgb_HWC() for i, f in enumerate(read_frames(path)) if i % VIDEO_STEP == 0]
        )
        for picture in pictures:
            [found] = detector.detect([picture])
            if found:
                face = largest(found)
                points = np.asarray(face.points_52, np.float32)
                box = np.asarray(face.box_xyxy, np.float32)
                faces.append(BaseFace(picture, points, box, source.person, source.is_still))
    return faces


def render_pair(
    faces: list[BaseFace], margin_ratio: float, rng: np.random.Generator
) -> tuple[Image, Floats]:
    """Return a real crop and its forgery (2, BANK_PX, BANK_PX, 3), and the forgery's mask."""
    stills = [f for f in faces if f.still]
    others = [f for f in faces if not f.still]
    pool = others if others and (not stills or rng.random() < VIDEO_RATIO) else stills
    base = pool[rng.integers(len(pool))]
    donors = [f for f in faces if f.person != base.person]
    if base.still:
        path, time_s = draw_camera_path(rng), float(rng.uniform(0, FILMED_S))
        centre = base.points_52.mean(axis=0)
        matrix = path.matrix((float(centre[0]), float(centre[1])), time_s)
        real = film(base.picture_HWC, matrix)
        points = (base.points_52 @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        corners = base.box_xyxy.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
        box = corners.reshape(4).astype(np.float32)
    else:
        path, time_s = None, 0.0
        real, points, box = base.picture_HWC, base.points_52, base.box_xyxy
    method = METHODS[rng.integers(len(METHODS))]
    donor = donors[rng.integers(len(donors))] if method == "face_swap" else None
    fake, mask = forge_frame(
        real, points, draw_recipe(method, rng), rng,
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
    qualities = [int(rng.integers(*VIDEO_QUALITY)), int(rng.integers(*CROP_QUALITY))]
    crops = np.empty((2, BANK_PX, BANK_PX, 3), np.uint8)
    for index, frame in enumerate((real, fake)):
        shot = frame if path is None else path.expose(frame, time_s, rng)
        if scale < SOFTENED_BELOW:
            soft = cv2.GaussianBlur(shot, (0, 0), SOFTENING_PX * (1 / scale - 1))
        else:
            soft = shot
        crop = cv2.warpAffine(
            _jpeg(soft, qualities[0]), to_bank, (BANK_PX, BANK_PX),
            flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT,
        )  # fmt: skip
        crops[index] = _jpeg(crop, qualities[1])
    mask_px = BANK_PX // MASK_STEP
    small = cv2.warpAffine(mask, to_bank, (BANK_PX, BANK_PX))
    return crops, cv2.resize(small, (mask_px, mask_px), interpolation=cv2.INTER_AREA)


def _jpeg(picture_HWC: Image, quality: int) -> Image:
    # Stands in for H.264 within a frame: the bank has no neighbours to predict from.
    _, data = cv2.imencode(".jpg", picture_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


_FACES: list[BaseFace] = []


def _start_worker(faces: list[BaseFace]) -> None:
    cv2.setNumThreads(1)
    _FACES[:] = faces


def _render_many(
    margin_ratio: float, seed: int, indices: range
) -> tuple[int, Image, npt.NDArray[np.uint8]]:
    crops, masks = [], []
    for index in indices:
        crop, mask = render_pair(_FACES, margin_ratio, np.random.default_rng([seed, index]))
        crops.append(crop)
        masks.append(np.clip(np.round(mask * 255), 0, 255).astype(np.uint8))
    return indices.start, np.stack(crops), np.stack(masks)


def _refuse_crash(indices: range) -> tuple[int, Image, npt.NDArray[np.uint8]]:
    raise DatasetError(
        f"Asked for the pairs {indices.start} to {indices.stop - 1}, but the process that renders "
        "them was killed. Memory may have run out: close other programs, and run it again."
    )


def render_bank(
    faces: list[BaseFace], folder: Path, *, pairs: int, margin_ratio: float, seed: int, workers: int
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
        jobs, partial(_render_many, margin_ratio, seed), partial(_start_worker, faces), workers,
        crashed=_refuse_crash,
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
