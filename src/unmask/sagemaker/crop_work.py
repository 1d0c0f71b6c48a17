"""A cropping job's work, done on its machine: videos by content to crops, a result for each."""

import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path

from unmask.faces import shard_store, shards
from unmask.faces.crops import Job
from unmask.faces.detector import LoadDetector, detector_of_worker
from unmask.faces.shards import Shard
from unmask.records import VideoFaces
from unmask.sagemaker.contract import JobError, find_blob
from unmask.sagemaker.crop_contract import STORES, Video, Work

_log = logging.getLogger(__name__)


def crop(
    work: Work,
    inputs: Path,
    output: Path,
    scratch: Path,
    *,
    workers: int,
    load_detector: LoadDetector = detector_of_worker,
) -> Iterator[VideoFaces]:
    """Yield the row of each video once its result is in the output.

    inputs holds the stores, each a folder. What the output holds whole already, of a job that was
    taken back, is kept. scratch is a folder for what is not finished; the current folder becomes
    one in it, as rows name their videos from a checkout.

    Raises:
        JobError: this machine would give other crops, or a video is not what it should be.
        DiskError: the disk takes no more.
    """
    _refuse_others(work.facts, shards.this_machine(work.settings))
    with ThreadPoolExecutor(workers) as pool:  # hashing leaves Python's lock
        names = [video.result for video in work.videos]
        are_done = list(pool.map(partial(shard_store.is_whole, output), names))
    left = [video for video, is_done in zip(work.videos, are_done, strict=True) if not is_done]
    _log.info("%d videos to crop, %d done before", len(left), len(work.videos) - len(left))
    checkout = scratch / "checkout"
    checkout.mkdir(parents=True, exist_ok=True)
    stores = [inputs / name for name in STORES]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(partial(_lay_out, stores, checkout), left))
    os.chdir(checkout)
    for chunk, found in groupby(sorted(left, key=_in_order), key=lambda video: video.chunk):
        videos = list(found)
        folder = scratch / "crops" / chunk
        rows = shards.crop_each(
            _shard(work, videos), folder, workers=workers, load_detector=load_detector
        )
        named = {video.video_id: video.result for video in videos}
        for row in rows:
            shard_store.put(row, folder, named[row.video_id], output)
            yield row


def _in_order(video: Video) -> tuple[str, str]:
    return video.chunk, video.video_id


def _shard(work: Work, videos: Sequence[Video]) -> Shard:
    return Shard(
        tuple(
            Job(
                video.video_id, Path(video.file.path), Path(video.chunk), work.settings, "",
                video.is_track,
            )
            for video in videos
        )
    )  # fmt: skip


def _refuse_others(asked: Mapping[str, str], here: Mapping[str, str]) -> None:
    other = [
        f"{name} {here.get(name, 'none')} in place of {value}"
        for name, value in asked.items() if here.get(name) != value
    ]  # fmt: skip
    if other:
        raise JobError(
            f"Asked for the crops that the asking machine makes; this one has {', '.join(other)}: "
            "crops would differ. Build the image from the commit that asks "
            "(containers/build_and_push), and ask with the packages of its lock."
        )


def _lay_out(stores: Sequence[Path], root: Path, video: Video) -> None:
    """Make a link to a video's content, which is on another disk perhaps, at its path."""
    file = video.file
    source = find_blob(file, stores, command="unmask crop --on sagemaker")
    target = root / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(source.resolve())


def end_on_sigterm() -> None:
    """Have SIGTERM, by which SageMaker stops a job, end this process as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
