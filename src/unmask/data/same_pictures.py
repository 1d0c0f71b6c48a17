"""Whether a fake shows anything else than a real video: copies that were encoded anew.

A perceptual hash does not tell: a fake differs from its original in the face alone, and of the
sample's 100 pairs eight have frames whose hashes are equal. So the pictures are compared, block by
block. Encoding changes all blocks a little, a forger changes those of a face a lot.
"""

import heapq
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat, zip_longest
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask.data.copies import MAX_NAMED, RECODED, Copies, Listing, Video
from unmask.data.near_hashes import PICTURE_BITS, near_pairs, stack_hashes
from unmask.errors import DatasetError
from unmask.params import Raw
from unmask.records import Fingerprint
from unmask.runtime.child import heartbeat
from unmask.runtime.confinement import Confinement
from unmask.runtime.processes import run_jobs
from unmask.video.decode import read_frames
from unmask.video.failures import DecodeError, TruncatedError

_log = logging.getLogger(__name__)

_CANDIDATES = 3  # real videos that a fake is compared with: those with the closest hashes
_RATE_FPS = 2.0  # frames compared, over the whole length: a forgery may last a second
_SIDE_PX, _BLOCK_PX, _LEAST_BLOCKS = 640, 16, 8
_MOST_APART_S = 0.25  # two frames that are compared
_MOST_ASPECT = 0.02  # the aspect ratios' difference, as a share
_MOST_GAIN = 2.0  # a copy may be brighter or have more contrast
# What the means of a block differ by, in grey levels, and how often as much as the median block.
# Of the sample's 100 fakes none stays below 5.8 levels and 10 times in all frames; copies of its
# real videos by H.264 reach 2.1 and 4.6 at crf 18, 3.6 and 6.1 at crf 23, 4.6 and 6.5 at half size.
_MOST_LEVELS, _MOST_RATIO, _NOISE_LEVELS = 4.0, 7.0, 0.3
_STALL_S = 60.0


@dataclass(frozen=True)
class _Job:
    fake: Video
    real: Video
    paths: tuple[Path, Path]


def find_recoded(
    listings: Sequence[Listing],
    folders: Mapping[str, Path],
    alike_ratio: float,
    *,
    workers: int,
    across: bool = False,
) -> Iterator[Copies]:
    """Yield each fake with a real video that shows the same pictures, encoded anew.

    folders holds the videos of each chunk; one that is not there is passed over. Compared are
    pictures whose hashes differ by alike_ratio of their bits at most; with across, only those of
    two chunks. What is one file or one stream is copies.find_copies' to find.
    """
    jobs: list[_Job] = []
    if across and len(listings) < 2:
        return
    for fake, real in _pair_up(listings, int(alike_ratio * PICTURE_BITS), across):
        paths = tuple(folders[video.chunk] / video.record.file for video in (fake, real))
        if all(path.is_file() for path in paths):
            jobs.append(_Job(fake, real, (paths[0], paths[1])))
    done = run_jobs(
        jobs, _compare, _use_one_thread, workers,
        crashed=_give_up, stalled=_give_up, stall_s=_STALL_S,
        confined=Confinement(),
    )  # fmt: skip
    found = {(job.fake.place, job.real.place) for job, is_same in done if is_same}
    # In the order of the jobs, whichever was done first.
    for job in jobs:
        if (job.fake.place, job.real.place) in found:
            yield Copies((job.real, job.fake), RECODED)


def check_across(listings: Sequence[Listing], raw_dir: Path, settings: Raw) -> None:
    """Pass if no fake of one chunk is a real video of another that was encoded anew.

    Without the chunks' videos, as in a training elsewhere, there is nothing to compare.

    Raises:
        DatasetError: one is. Neither is left out by raw.contradictions, as stages that do not read
            the videos could not know of it.
    """
    folders = {listing.chunk: raw_dir / listing.chunk / "videos" for listing in listings}
    found = list(find_recoded(listings, folders, settings.alike_ratio, workers=1, across=True))
    if found:
        named = "; ".join(str(group) for group in found[:MAX_NAMED])
        more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
        raise DatasetError(
            f"Asked for one data set of {', '.join(folders)}; {len(found)} video(s) are labelled "
            f"both REAL and FAKE: {named}{more}. Correct the labels, or take one of each out of "
            "its chunk."
        )


def shows_nothing_else(fake: Path, real: Path) -> bool:
    """Say whether each picture of a fake is one of the real video, up to what encoding changes.

    Brightness, contrast and size may differ, and the real video may go on longer. A copy that
    begins at another moment, was turned, slowed or encoded badly is not taken for one; nor is a
    fake, unless what was changed is smaller than a block: 16 pixels where the longest side has 640.

    Raises:
        DecodeError: one of them is not a video.
    """
    pairs = extra = 0
    for one, other in zip_longest(_read_grey(fake), _read_grey(real)):
        heartbeat()
        if one is None:
            return pairs > 0
        if other is None:
            extra += 1
            if extra > 1:  # one more at the end is a matter of rounding
                return False
        elif abs(one[0] - other[0]) > _MOST_APART_S or not _are_same(one[1], other[1]):
            return False
        else:
            pairs += 1
    return pairs > 0


def _read_grey(path: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    try:
        for frame in read_frames(path, rate_fps=_RATE_FPS):
            rgb_HWC = frame.reduced_rgb_HWC(_SIDE_PX)
            yield frame.time_s, cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY)
    except TruncatedError:
        pass  # what comes before the break is compared


def _are_same(one_HW: NDArray[np.uint8], other_HW: NDArray[np.uint8]) -> bool:
    height = min(one_HW.shape[0], other_HW.shape[0])
    width = min(one_HW.shape[1], other_HW.shape[1])
    ratios = [picture.shape[1] / picture.shape[0] for picture in (one_HW, other_HW)]
    if abs(ratios[0] / ratios[1] - 1) > _MOST_ASPECT:
        return False
    block_px = max(1, min(_BLOCK_PX, min(height, width) // _LEAST_BLOCKS))
    size = max(1, width // block_px), max(1, height // block_px)
    one, other = (
        cv2.resize(picture.astype(np.float64), size, interpolation=cv2.INTER_AREA)
        for picture in (one_HW, other_HW)
    )
    spread = one.var()
    gain = float(((one - one.mean()) * (other - other.mean())).mean() / spread) if spread else 1.0
    if not 1 / _MOST_GAIN <= gain <= _MOST_GAIN:
        return False
    apart = np.abs(other - other.mean() - gain * (one - one.mean())) / min(gain, 1.0)
    most, middle = float(apart.max()), float(np.median(apart))
    return most <= _MOST_LEVELS and most <= _MOST_RATIO * (middle + _NOISE_LEVELS)


# ---------------------------------------------------------------- which videos are compared


def _pair_up(
    listings: Sequence[Listing], limit: int, across: bool
) -> Iterator[tuple[Video, Video]]:
    videos: tuple[list[tuple[Video, Fingerprint]], ...] = [], []  # real, fake
    for listing in listings:
        prints = listing.fingerprints or {}
        for record in sorted(listing.records, key=lambda record: record.file):
            if (found := prints.get(record.video_id)) and found.pictures:
                videos[record.label].append((Video(listing.chunk, record), found))
    reals, fakes = videos
    if not reals:
        return
    owners: dict[str, list[int]] = defaultdict(list)
    for number, (_, real_print) in enumerate(reals):
        for picture in real_print.pictures:
            owners[picture].append(number)
    near = _find_near([found for _, found in fakes], list(owners), limit)
    for (fake, fake_print), pictures in zip(fakes, near, strict=True):
        # Those with the fewest bits first, and of these the first in order.
        closest = heapq.merge(
            *(zip(repeat(bits), owners[picture]) for picture, bits in pictures.items())
        )
        others = (
            number for number in _each_once(number for _, number in closest)
            if not _is_one(fake_print, reals[number][1])
            and not (across and reals[number][0].chunk == fake.chunk)
        )  # fmt: skip
        for number in islice(others, _CANDIDATES):
            yield fake, reals[number][0]


def _each_once(numbers: Iterable[int]) -> Iterator[int]:
    seen: set[int] = set()
    for number in numbers:
        if number not in seen:
            seen.add(number)
            yield number


def _find_near(
    fingerprints: Sequence[Fingerprint], pictures: Sequence[str], limit: int
) -> Iterator[dict[str, int]]:
    """Yield for each video which of the pictures are close to one of its own, and by how many bits.

    Of several pictures of a video the closest counts.
    """
    own = list(dict.fromkeys(each for found in fingerprints for each in found.pictures))
    near: dict[str, dict[str, int]] = defaultdict(dict)
    for rows_P, columns_P, bits_P in near_pairs(stack_hashes(own), stack_hashes(pictures), limit):
        for row, column, bits in zip(
            rows_P.tolist(), columns_P.tolist(), bits_P.tolist(), strict=True
        ):
            near[own[row]][pictures[column]] = bits
    for found in fingerprints:
        of_video: dict[str, int] = {}
        for picture in found.pictures:
            for other, bits in near.get(picture, {}).items():
                of_video[other] = min(bits, of_video.get(other, bits))
        yield of_video


def _is_one(first: Fingerprint, second: Fingerprint) -> bool:
    return first.sha256 == second.sha256 or ("" != first.stream == second.stream)


# ---------------------------------------------------------------- processes


def _compare(job: _Job) -> tuple[_Job, bool]:
    try:
        return job, shows_nothing_else(*job.paths)
    except DecodeError as error:
        _log.warning("%s", error)
        return job, False


def _use_one_thread() -> None:
    cv2.setNumThreads(1)


def _give_up(job: _Job) -> tuple[_Job, bool]:
    _log.warning(
        "%s and %s: asked whether they show the same pictures; the decoder crashed or gave no "
        "frame for %g s. They are taken for different videos.", job.fake, job.real, _STALL_S,
    )  # fmt: skip
    return job, False
