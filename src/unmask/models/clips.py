"""Clips that a net is trained on: of which tracks, and what training does to their pixels."""

import logging
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, Sampler

from unmask.forgeries.blend import draw_recipe, forge_frame
from unmask.geometry import Geometry
from unmask.models.clip_times import Image, frame_indices, read_clips, to_input
from unmask.params import Augment
from unmask.records import Box, Chunk, FaceTrack, ForgedPart, Points, Split

log = logging.getLogger(__name__)

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClipItem:
    """One face's crop file with its label, and what it takes to forge it.

    A training holds all items at once: clip_items gives them arrays, which take a tenth of the
    memory of Python's tuples.
    """

    crop: Path
    times_T: Sequence[float]
    label: int
    video_id: str
    # Only where a clip of it may be forged.
    boxes_T4: Sequence[Box] | Numbers = field(default=(), compare=False)
    points_T52: Sequence[Points] | Numbers = field(default=(), compare=False)
    self_blend: float = 0.0  # chance that a clip of it is turned into a self-blended fake
    part_s: tuple[float, float] | None = None  # from when to when it is forged; None: all of it

    def start_s(self, span_s: float, share: float) -> float:
        """Return where a clip of that length starts, at a share of all places that it can have.

        Of a face that is forged for a part of the time it lies in that part, or holds all of it.
        """
        first, last = self.times_T[0], self.times_T[-1]
        from_s, to_s = (first, last) if self.part_s is None else self.part_s
        start_s = from_s + max(to_s - from_s - span_s, 0.0) * share
        return start_s if self.part_s is None else max(first, min(start_s, last - span_s))


def clip_items(chunks: Sequence[Chunk], split: Split, *, self_blend: float = 0.0) -> list[ClipItem]:
    """Return every face track of the split with its video's label.

    Of a fake whose record says where its forged face is only that face is there. The others are
    left out rather than taken for real ones: the mark may be incomplete, and they went through the
    forger's encoder, which real videos did not.

    self_blend is the chance that a real track's clip is turned into a fake.
    """
    items, untouched = [], 0
    for chunk in chunks:
        for record, found in chunk.of(split):
            for track in found.tracks:
                part_s = None
                if record.forged is not None:
                    part_s = _forged_s(track, record.forged)
                    if part_s is None:
                        untouched += 1
                        continue
                is_forgeable = not record.label and self_blend > 0
                items.append(
                    ClipItem(
                        chunk.faces_dir / track.file, array("d", track.times_T), record.label,
                        record.video_id,
                        np.array(track.boxes_T4) if is_forgeable else (),
                        np.array(track.points_T52) if is_forgeable else (),
                        self_blend if is_forgeable else 0.0,
                        part_s,
                    )
                )  # fmt: skip
    if untouched:
        log.info("%s: %d face(s) of fakes left out, as others are marked there", split, untouched)
    return items


def _forged_s(track: FaceTrack, part: ForgedPart) -> tuple[float, float] | None:
    """Return from when to when a face is the forged one, or None if it never is."""
    frames = zip(track.times_T, track.boxes_T4, strict=True)
    seen = [time_s for time_s, box_xyxy in frames if part.holds(time_s, box_xyxy)]
    return (seen[0], seen[-1]) if seen else None


def add_twins(items: Sequence[ClipItem]) -> list[ClipItem]:
    """Return real tracks, then each one's twin, whose clip is always a self-blended fake.

    items are real tracks that clip_items gave with a self_blend above 0.
    """
    reals = [replace(item, self_blend=0.0) for item in items]
    return [*reals, *(replace(item, label=1, self_blend=1.0) for item in items)]


def count_classes(items: Sequence[ClipItem]) -> tuple[float, float]:
    """Return how many clips are real and how many fake, on average over epochs."""
    fakes = sum(max(item.label, item.self_blend) for item in items)
    return len(items) - fakes, fakes


def augment(frames_THWC: Image, settings: Augment, rng: np.random.Generator) -> Image:
    """Return the clip changed at random; every frame by the same draw."""
    side = frames_THWC.shape[1]
    cut = int(rng.uniform(0, settings.shift_ratio) * side)
    top, left = rng.integers(0, cut + 1, 2)
    frames = frames_THWC[:, top : side - cut + top, left : side - cut + left]
    if rng.random() < settings.flip:
        frames = frames[:, :, ::-1]
    changes: list[Callable[[Image], Any]] = []
    if rng.random() < settings.colour:
        gain = rng.uniform(0.9, 1.1) * rng.uniform(0.95, 1.05, 3)
        levels = np.arange(256)[:, None] * gain + rng.uniform(-10, 10)
        table = np.clip(np.round(levels), 0, 255).astype(np.uint8)[None]
        changes.append(lambda frame: cv2.LUT(frame, table))
    if rng.random() < settings.resize:
        small = int(side * rng.uniform(0.5, 0.9))
        changes.append(
            lambda frame: cv2.resize(frame, (small, small), interpolation=cv2.INTER_AREA)
        )
    if rng.random() < settings.blur:
        sigma = rng.uniform(0.3, 1.2)
        changes.append(lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma))
    if rng.random() < settings.compress:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))]
        changes.append(
            lambda frame: cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR)
        )
    out = []
    for frame in frames:
        changed = np.ascontiguousarray(frame)
        for change in changes:
            changed = change(changed)
        out.append(cv2.resize(changed, (side, side), interpolation=cv2.INTER_LINEAR))
    return np.stack(out)


def forge_clip(
    frames_THWC: Image, item: ClipItem, indices: Sequence[int], rng: np.random.Generator
) -> Image:
    """Return the clip as a self-blended fake: one forger, whose hand trembles between frames.

    indices say which frames of the item's crop file the clip holds.
    """
    recipe = draw_recipe("self_blend", rng)
    forged: dict[int, Image] = {}  # once for each frame: one that is held does not tremble
    for frame_HWC, index in zip(frames_THWC, indices, strict=True):
        if index not in forged:
            left, top, right, _ = item.boxes_T4[index]
            scale = frame_HWC.shape[0] / (right - left)
            points_52 = (np.array(item.points_T52[index]) - (left, top)) * scale
            forged[index], _ = forge_frame(frame_HWC, points_52.astype(np.float32), recipe, rng)
    return np.stack([forged[index] for index in indices])


class ClipDataset(Dataset[tuple[torch.Tensor, float]]):
    """Clips of face tracks: (clip_CTHW, label), label 1.0 = fake.

    Indexed by (epoch, item): the draw depends on (seed, epoch, item) alone, so batches are the
    same whatever the number of worker processes. augment None takes each track's middle clip and
    forges it, where it is to be forged, alike in every epoch.
    """

    def __init__(
        self, items: Sequence[ClipItem], geometry: Geometry, *, augment: Augment | None, seed: int
    ) -> None:
        self.items = list(items)
        self.geometry = geometry
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: tuple[int, int]) -> tuple[torch.Tensor, float]:
        epoch, index = place
        item = self.items[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        share = 0.5 if self.augment is None else rng.random()
        start_s = item.start_s(self.geometry.span_s, share)
        frames = next(read_clips(item.crop, item.times_T, [start_s], self.geometry))
        label = item.label
        # A generator of its own: with and without self-blending the other draws are the same.
        forger = np.random.default_rng([self.seed, 0 if self.augment is None else epoch, index, 1])
        if forger.random() < item.self_blend:
            indices = frame_indices(item.times_T, start_s, self.geometry)
            frames, label = forge_clip(frames, item, indices, forger), 1
        if self.augment is not None:
            frames = augment(frames, self.augment, rng)
        clip = to_input(frames, self.geometry.side_px, self.geometry.brightness)
        return torch.from_numpy(clip), float(label)


class EpochSampler(Sampler[tuple[int, int]]):
    """(epoch, item) pairs: shuffled by (seed, epoch) or in order, shared out among DDP's ranks.

    Lightning calls set_epoch, and leaves a sampler alone where it may not replace it.
    """

    def __init__(
        self, count: int, *, shuffle_seed: int | None, rank: int = 0, ranks: int = 1
    ) -> None:
        self.count, self.shuffle_seed, self.rank, self.ranks = count, shuffle_seed, rank, ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.ranks)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.count)
        if self.shuffle_seed is not None:
            order = np.random.default_rng([self.shuffle_seed, self.epoch]).permutation(self.count)
        padded = np.resize(order, len(self) * self.ranks)
        return iter([(self.epoch, int(index)) for index in padded[self.rank :: self.ranks]])

    def join(self, shares_RXN: torch.Tensor) -> torch.Tensor:
        """Return in order what the ranks made of their shares, (X, count): once for each item."""
        return shares_RXN.movedim(0, -1).flatten(-2)[..., : self.count]
