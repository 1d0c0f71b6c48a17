"""A checkout's missing crops by jobs on SageMaker: started once, followed, and taken in."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from unmask.faces import crops, shard_store, shards
from unmask.faces.crops import Job
from unmask.faces.shards import Shard
from unmask.records import VideoFaces
from unmask.sagemaker import crop_contract, crop_jobs
from unmask.sagemaker.contract import JobError
from unmask.sagemaker.crop_jobs import Watched
from unmask.sagemaker.crop_request import Place
from unmask.storage import s3 as storage_s3
from unmask.storage.blobs import MAX_CONNECTIONS, StorageError
from unmask.storage.s3 import asking

log = logging.getLogger(__name__)

_MAX_WORK_BYTES = 2**30
_AT_ONCE = 64  # results that are fetched before the first of them is taken in


@dataclass(frozen=True)
class Attempt:
    """A job at some work, and the names of the results that it was asked for."""

    key: str
    names: frozenset[str]
    watched: Watched

    @property
    def number(self) -> int:
        """Return which of the work's jobs it is."""
        return self.watched.job.number


@dataclass
class Crops:
    """What jobs make, or have made, of a checkout's videos."""

    place: Place
    sleep: Callable[[float], Any]
    awaited: list[Attempt] = field(default_factory=list)  # of this call, or running when it began

    def find(self, jobs: Sequence[Job], *, fetches: bool) -> list[Job]:
        """Find jobs that were asked for some of these videos; return the videos that are left.

        Left are those that no running job is asked for, and that have no whole result. Results are
        fetched to where crop takes them in; or, without fetches, only listed. What failed in a way
        that may pass is left, too.

        Raises:
            UnmaskError: AWS does not answer.
            DiskError: the disk here takes no more.
        """
        named = {shard_store.name_of(job): job for job in jobs if job.key}
        ended = []
        for key, names in self._works(named).items():
            for found in crop_jobs.of_work(self.place.account, key):
                attempt = Attempt(key, names, Watched(self.place.account, found))
                if found.is_running:
                    log.info("%s is asked for some of these videos: no second job", found.name)
                    self.awaited.append(attempt)
                    for name in names:
                        named.pop(name, None)
                else:
                    ended.append(attempt)
        for attempt in ended:
            results = self.place.results(attempt.key, attempt.number)
            wanted = [named[name] for name in sorted(attempt.names & named.keys())]
            there = results.there(wanted, passing=False) if wanted else []
            for job in self._fetch_whole(results, there) if fetches else there:
                named.pop(shard_store.name_of(job), None)
        return list(named.values())

    def _fetch_whole(self, results: shard_store.Results, there: Sequence[Job]) -> Iterator[Job]:
        """Yield the videos whose results are whole, and lie where crop takes them in."""
        for chunk, found in groupby(there, key=lambda job: job.faces_dir.name):
            some = list(found)
            shards_dir = self.place.root / shards.SHARDS_DIR / chunk
            folder = shards.new_folder(shards_dir, Shard(tuple(some)))
            results.fetch(some, folder, passing=False)
            rows = crops.read_rows(folder)
            yield from (job for job in some if job.video_id in rows)

    def _works(self, named: Mapping[str, Job]) -> dict[str, frozenset[str]]:
        """Return the works in the bucket that ask for any of these results, by their keys."""
        s3, start = self.place.account.client("s3"), f"{self.place.folder}/"
        with asking(f"for what s3://{self.place.bucket}/{start} holds", "s3:ListBucket"):
            pages = s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.place.bucket, Prefix=start, Delimiter="/"
            )
            folders = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]
        keys = [folder.removeprefix(start).rstrip("/") for folder in folders]
        # One client for all threads: a client may be shared, the session that makes it may not.
        with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
            works = zip(keys, pool.map(partial(self._names, s3), keys), strict=True)
            return {key: names for key, names in works if names & named.keys()}

    def _names(self, s3: Any, key: str) -> frozenset[str]:
        bucket, name = self.place.bucket, self.place.asked(key)
        text = storage_s3.read(s3, bucket, name, most_bytes=_MAX_WORK_BYTES)
        if text is None:
            return frozenset()
        try:
            work = crop_contract.read_work(text, f"s3://{bucket}/{name}")
        except JobError as error:
            log.warning("left out: %s", error)
            return frozenset()
        return frozenset(video.result for video in work.videos)

    def add(self, key: str, names: frozenset[str], started: crop_jobs.CropJob) -> None:
        """Take note of a job that was started."""
        self.awaited.append(Attempt(key, names, Watched(self.place.account, started)))

    @property
    def running(self) -> list[str]:
        """Return the names of the jobs that are waited for and still run."""
        return [each.watched.job.name for each in self.awaited if each.watched.job.is_running]

    def stop(self) -> tuple[list[str], list[str]]:
        """Tell each running job to stop; return the told ones' names, and why others were not told.

        A job that can't be told does not keep the next one running, which costs money. A job that
        has ended meanwhile, which the service refuses to stop, is in neither list.
        """
        told, failures = [], []
        for name in self.running:
            try:
                crop_jobs.stop(self.place.account, name)
                told.append(name)
            except StorageError as error:
                if self._may_run(name):
                    failures.append(f"{name} still runs: {error}")
        return told, failures

    def _may_run(self, name: str) -> bool:
        try:
            return crop_jobs.describe(self.place.account, name).is_running
        except StorageError:
            return True

    # ------------------------------------------------------------ taken in

    def crop(self, jobs: Sequence[Job]) -> Iterator[VideoFaces]:
        """Yield a row for each of a chunk's videos once its crop files are there.

        It is crops.CropMissing, for videos that can be read.

        Raises:
            UnmaskError: a job failed, and some videos have no result; the message says why.
            DiskError: the disk here takes no more.
        """
        left = {shard_store.name_of(job): job for job in jobs}
        shards_dir = self.place.root / shards.SHARDS_DIR / jobs[0].faces_dir.name
        leftovers = shards.attempts_at(shards_dir)
        yield from _forget(left, shards.take_in_leftovers(leftovers, jobs))
        failures = []
        waiting = [each for each in self.awaited if each.names & left.keys()]
        while waiting and left:
            for attempt in list(waiting):
                job = attempt.watched.look()
                if not job.is_running:
                    waiting.remove(attempt)
                    failures += [job.failure] if job.failure else []
                passing = not job.is_running
                yield from self._take_in(attempt, left, shards_dir, passing=passing)
            if waiting and left:
                self.sleep(self.place.job_config.poll_s)
        shards.discard(shards_dir)
        with suppress(OSError):  # it is not there, or holds other chunks' shards
            shards_dir.parent.rmdir()
        if left:
            raise JobError(_words_on(list(left.values()), failures))

    def _take_in(
        self, attempt: Attempt, left: dict[str, Job], shards_dir: Path, *, passing: bool
    ) -> Iterator[VideoFaces]:
        """Yield the rows of the results that are there, and take their videos out of left."""
        results = self.place.results(attempt.key, attempt.number)
        wanted = [left[name] for name in sorted(attempt.names & left.keys())]
        is_over = not attempt.watched.job.is_running
        there = results.there(wanted, passing=passing) if wanted else []
        for start in range(0, len(there), _AT_ONCE):
            some = there[start : start + _AT_ONCE]
            folder = shards.new_folder(shards_dir, Shard(tuple(some)))
            digests = results.fetch(some, folder, passing=passing, is_final=is_over)
            found = crops.read_rows(folder)
            whole = Shard(tuple(job for job in some if job.video_id in found))
            yield from _forget(left, shards.take_in(folder, whole, digests))
            shards.discard(folder)


def _forget(left: dict[str, Job], rows: Iterator[VideoFaces]) -> Iterator[VideoFaces]:
    """Yield the rows, and take each one's video out of left."""
    names = {job.video_id: name for name, job in left.items()}
    for row in rows:
        del left[names[row.video_id]]
        yield row


def _words_on(left: Sequence[Job], failures: Sequence[str]) -> str:
    named = ", ".join(str(job.path) for job in left[:3])
    asked = f"Asked for the crops of {len(left)} more video(s) ({named} ...)"
    if failures:
        return (
            f"{asked}; {'; '.join(failures)}. Mend that and type the same again: what is done is "
            "kept, and is not done twice."
        )
    return (
        f"{asked}; the jobs completed without them, or left half of their results (see above). "
        "Type the same again: a new job crops these alone."
    )
