"""Clips from crop files: which times, which pixels, and what training does to them."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, Sampler

from unmask.errors import DatasetError
from unmask.forgeries.blend import draw_recipe, forge_frame
from unmask.geometry import Geometry
from unmask.models.frame_net import DEVIATION, MEAN
from unmask.params import Augment
from unmask.records import Box, Chunk, FaceTrack, ForgedPart, Points, Split
from unmask.video.decode import read_frames

Image = npt.NDArray[np.uint8]

log = logging.getLogger(__name__)
DARK = 0.8  # of the brightness that a clip should have: darker than all that training saw
MAX_GAIN = 4.0  # a clip is brightened by no more: what is darker is mostly noise
# Share of a clip's frames that are different at least: all of x3d_xs's four, which takes 2.5
# frames/s, and 12 of x3d_s's 13. Among three of four there may be three photos of a slide show.
_MOVING = 0.9


@dataclass(frozen=True)
class ClipItem:
    """One face's crop file with its label, and what it takes to forge it."""

    crop: Path
    times_T: tuple[float, ...]
    label: int
    video_id: str
    boxes_T4: tuple[Box, ...] = ()
    points_T52: tuple[Points, ...] = ()
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
                items.append(
                    ClipItem(
                        chunk.faces_dir / track.file, track.times_T, record.label, record.video_id,
                        track.boxes_T4, track.points_T52, 0.0 if record.label else self_blend,
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
    """Return real tracks, then each one's twin, whose clip is always a self-blended fake."""
    return [*items, *(replace(item, label=1, self_blend=1.0) for item in items)]


def count_classes(items: Sequence[ClipItem]) -> tuple[float, float]:
    """Return how many clips are real and how many fake, on average over epochs."""
    fakes = sum(max(item.label, item.self_blend) for item in items)
    return len(items) - fakes, fakes


def spread_starts(track: FaceTrack, geometry: Geometry, *, most: int) -> list[float]:
    """Return the start times, in seconds, of clips that cover the whole track evenly.

    They lie side by side, at most `most` of them; a track shorter than a clip gives one.
    """
    first, last = track.times_T[0], track.times_T[-1]
    spare = max(last - first - geometry.span_s, 0.0)
    count = count_clips(last - first, geometry, most=most)
    if count == 1:
        return [first + spare / 2]
    return [first + spare * index / (count - 1) for index in range(count)]


def count_clips(track_s: float, geometry: Geometry, *, most: int) -> int:
    """Return how many clips a track of that length is scored by: 1 to `most`.

    As many as fit side by side, and one more where those would leave out more than a frame of
    the clips' own rate between two of them, or before the first and after the last.
    """
    # One step further on than the last frame, so that neighbours do not share a frame.
    step_s = geometry.span_s + geometry.interval_s
    spare_s = max(track_s - geometry.span_s, 0.0)
    count = 1 + int(spare_s / step_s + 1e-6)
    gap_s = spare_s / 2 if count == 1 else spare_s / (count - 1) - geometry.span_s
    return min(count + (gap_s > 2 * geometry.interval_s + 1e-6), most)


def shortest_alike_s(track_s: float, geometry: Geometry, *, most: int) -> float:
    """Return how long the shortest track is that holds as many clips as one of that length.

    One clip may be longer than its track: then it is that track's length.
    """
    count = count_clips(track_s, geometry, most=most)
    if count == 1:
        return min(track_s, geometry.span_s)
    side_by_side_s = (count - 1) * (geometry.span_s + geometry.interval_s)
    # Beyond this one clip less would leave out too much.
    reach_s = 2 * geometry.interval_s
    apart_s = 2 * reach_s if count == 2 else (count - 2) * (geometry.span_s + reach_s)
    return geometry.span_s + min(side_by_side_s, apart_s)


def looked_at_ratio(track: FaceTrack, starts_s: Sequence[float], geometry: Geometry) -> float:
    """Return the share of a track's time that its clips show, in (0, 1].

    A moment is shown where a picture of a clip lies no further from it than the time between two
    pictures of a clip.
    """
    first, last = track.times_T[0], track.times_T[-1]
    if last == first:
        return 1.0
    shown_s, until_s = 0.0, first
    for start_s in starts_s:
        begin_s = max(start_s - geometry.interval_s, until_s)
        until_s = max(min(start_s + geometry.span_s + geometry.interval_s, last), until_s)
        shown_s += max(until_s - begin_s, 0.0)
    return min(shown_s / (last - first), 1.0)


def frame_indices(times_T: npt.ArrayLike, start_s: float, geometry: Geometry) -> list[int]:
    """Return which frames of the crop file make the clip: the nearest to each asked time.

    Beyond the track's end its last frame is repeated.
    """
    asked = start_s + np.arange(geometry.frames) * geometry.interval_s
    times = np.asarray(times_T)
    right = np.clip(np.searchsorted(times, asked), 1, max(len(times) - 1, 1))
    left = right - 1
    if len(times) == 1:
        return [0] * geometry.frames
    # A tick half-way between two frames takes the earlier one, whatever the rounding.
    nearer_right = times[right] - asked + 1e-6 < asked - times[left]
    return [int(index) for index in np.where(nearer_right, right, left)]


def moving_starts(
    track: FaceTrack, starts_s: Sequence[float], geometry: Geometry, rate_fps: float
) -> list[float]:
    """Return the starts of clips that move, as many as were asked for where there are so many.

    A clip moves where enough of its frames look different: _MOVING of those that it could have at
    the crops' rate. In place of starts whose clips stand still, others of the track are taken,
    spread evenly over those that move. Nothing is returned for a face that hardly ever changes.
    """
    groups_T = np.arange(len(track.times_T))
    for place in track.same_T:
        groups_T[place] = groups_T[place - 1]

    def moves(start_s: float) -> bool:
        asked = start_s + np.arange(geometry.frames) * geometry.interval_s
        inside = int((asked <= track.end_s + 1e-6).sum())
        possible = min(inside, 1 + math.floor(geometry.interval_s * (inside - 1) * rate_fps + 1e-6))
        seen = {int(groups_T[i]) for i in frame_indices(track.times_T, start_s, geometry)}
        return len(seen) >= _MOVING * possible

    moving = [start_s for start_s in starts_s if moves(start_s)]
    if len(moving) == len(starts_s):
        return moving
    last_s = max(track.times_T[0], track.times_T[-1] - geometry.span_s)
    others = [time_s for time_s in track.times_T if time_s <= last_s and moves(time_s)]
    places = np.linspace(0, len(others) - 1, min(len(starts_s), len(others)))
    return [others[place] for place in dict.fromkeys(places.round().astype(int).tolist())]


def different_fps(track: FaceTrack) -> float:
    """Return how many different pictures of a face are shown in a second of its track."""
    different = len(track.times_T) - len(track.same_T)
    return different / max(track.end_s - track.times_T[0], 1e-6)


def read_clips(
    crop: Path, times_T: Sequence[float], starts_s: Sequence[float], geometry: Geometry
) -> Iterator[Image]:
    """Yield each clip's frames (T, H, W, C) as stored, reading the file once and no further than
    needed.

    Raises:
        DatasetError: the file holds fewer frames than its row says.
    """
    times = np.asarray(times_T)  # once: an hour has thousands of clips and of frames
    wanted = [frame_indices(times, start_s, geometry) for start_s in starts_s]
    last_use = {index: clip for clip, indices in enumerate(wanted) for index in indices}
    kept: dict[int, Image] = {}
    clip = 0
    for index, frame in enumerate(read_frames(crop)):
        if index in last_use:
            kept[index] = frame.rgb_HWC()
        while clip < len(wanted) and max(wanted[clip]) <= index:
            yield np.stack([kept[i] for i in wanted[clip]])
            clip += 1
            kept = {i: image for i, image in kept.items() if last_use[i] >= clip}
        if clip == len(wanted):
            return
    raise DatasetError(
        f"{crop} should hold {len(times_T)} frames and ends before. Delete it and run `dvc repro`."
    )


def to_input(frames_THWC: Image, side_px: int, brightness: float | None = None) -> torch.Tensor:
    """Return the clip (C, T, side, side), float32, normalised.

    A clip whose mean is below DARK times brightness, of 0 to 1, is brought to it by one factor,
    MAX_GAIN at most: so a forgery in the dark looks as it does in the light of training.
    """
    if frames_THWC.shape[1] != side_px:
        shrinks = frames_THWC.shape[1] > side_px
        mode = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        frames_THWC = np.stack(
            [cv2.resize(frame, (side_px, side_px), interpolation=mode) for frame in frames_THWC]
        )
    clip = torch.from_numpy(frames_THWC).permute(3, 0, 1, 2).float().div_(255)
    if brightness is not None:
        mean = float(frames_THWC.mean()) / 255
        if mean < DARK * brightness:
            clip.mul_(brightness / max(mean, brightness / MAX_GAIN))
    return clip.sub_(MEAN).div_(DEVIATION)


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
        return to_input(frames, self.geometry.side_px, self.geometry.brightness), float(label)


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
