"""`unmask crop --on sagemaker`: jobs for what is missing, then each chunk as they make it."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unmask import params
from unmask.cli import common
from unmask.cli.crop_folders import Folders
from unmask.errors import UnmaskError
from unmask.faces import crops, shards
from unmask.faces.crops import Job
from unmask.faces.detector import detector_of_worker
from unmask.records import VideoFaces
from unmask.runtime import terminal
from unmask.sagemaker import crop_request
from unmask.sagemaker.checks import sign_in
from unmask.sagemaker.config import read_crop_config
from unmask.sagemaker.crop import Crops
from unmask.sagemaker.crop_request import Submission
from unmask.video.pictures import read_tracks


def crop(
    found: Sequence[Folders], settings: params.Faces, given: Mapping[str, Any], *, dry_run: bool
) -> None:
    """Crop what is missing of chunks by jobs, or say which jobs would start.

    Raises:
        UnmaskError: the jobs can't be had, or one failed; what is done is kept.
    """
    missing = {folders: _find_missing(folders, settings) for folders in found}
    readable = [job for jobs in missing.values() for job in jobs if job.key]
    elsewhere = None
    if readable:
        elsewhere, submissions = _prepare(found, readable, given, dry_run=dry_run)
        if dry_run:
            _describe(submissions, elsewhere)
    if dry_run:
        for folders, jobs in missing.items():
            terminal.echo(f"{folders.name}: {len(jobs):,} videos are missing")
        return
    try:
        if elsewhere is not None:
            for submission in submissions:
                _start(submission, elsewhere)
        _take_in(found, settings, elsewhere)
    except KeyboardInterrupt as interrupt:
        raise _words_on_interrupt(elsewhere) from interrupt
    terminal.echo("`dvc repro faces` takes them as they are.", err=True)


def _find_missing(folders: Folders, settings: params.Faces) -> list[Job]:
    return crops.find_missing(
        crops.find_videos(folders.videos), folders.faces, settings,
        workers=common.workers(), tracks=read_tracks(folders.videos),
    )  # fmt: skip


def _prepare(
    found: Sequence[Folders], readable: Sequence[Job], given: Mapping[str, Any], *, dry_run: bool
) -> tuple[Crops, list[Submission]]:
    job_config = read_crop_config(os.environ, given)
    account = sign_in(job_config.region)
    place = crop_request.find_place(account, job_config, Path.cwd())
    elsewhere = Crops(place, sleep=time.sleep)
    left = elsewhere.find(readable, fetches=not dry_run)
    stages = {folders.videos: folders.stage for folders in found}
    return elsewhere, list(crop_request.prepare(place, left, stages)) if left else []


def _describe(submissions: Sequence[Submission], elsewhere: Crops) -> None:
    for name in elsewhere.running:
        terminal.echo(f"{name} runs, and would be waited for")
    for submission in submissions:
        work, unsent = submission.work, submission.unsent
        hours = work.size_bytes / shards.ASSUMED_BYTES_PER_HOUR
        machine = elsewhere.place.job_config.instance_type
        terminal.echo(
            f"{submission.name} would crop {len(work.videos):,} videos, "
            f"{work.size_bytes / 1e9:,.3f} GB, on {machine}: about {hours:,.2f} core-hours, "
            f"assuming {shards.ASSUMED_BYTES_PER_HOUR / 1e9:g} GB a core-hour, as clips in 1080p; "
            f"{len(unsent):,} files, {sum(file.size_bytes for file in unsent) / 1e9:,.3f} GB, "
            "would be sent"
        )


def _start(submission: Submission, elsewhere: Crops) -> None:
    sent = submission.send_files()
    for _ in common.progress(sent, total=len(submission.unsent), label="upload"):
        pass
    started = submission.start()
    work = submission.work
    elsewhere.add(work.key, frozenset(video.result for video in work.videos), started)
    terminal.echo(f"started {started.name}: {len(work.videos):,} videos", err=True)


def _take_in(found: Sequence[Folders], settings: params.Faces, elsewhere: Crops | None) -> None:
    """Crop each chunk; one that lacks results does not keep those of the others out.

    Raises:
        UnmaskError: some lack results.
    """
    failures = []
    for folders in found:

        def crop_missing(jobs: Sequence[Job]) -> Iterator[VideoFaces]:
            # What can't be read here is not sent: its row says why.
            if unreadable := [job for job in jobs if not job.key]:
                yield from crops.crop_jobs(unreadable, common.workers(), detector_of_worker)
            if sent := [job for job in jobs if job.key]:
                if elsewhere is None:
                    raise UnmaskError(
                        f"{sent[0].path} has changed since it was looked at. Type the same again."
                    )
                yield from elsewhere.crop(sent)

        videos = crops.find_videos(folders.videos)
        rows = crops.crop_chunk(
            videos, folders.faces, settings,
            workers=common.workers(), tracks=read_tracks(folders.videos), crop_missing=crop_missing,
        )  # fmt: skip
        try:
            for _ in common.progress(rows, total=len(videos), label=f"faces of {folders.name}"):
                pass
        except UnmaskError as error:
            failures.append(str(error))
    if failures:
        raise UnmaskError("\n".join(dict.fromkeys(failures)))


def _words_on_interrupt(elsewhere: Crops | None) -> UnmaskError:
    running = elsewhere.running if elsewhere else []
    if elsewhere is None or not running:
        return UnmaskError(
            "Asked for crops; you stopped it, and no job runs. What is there is kept: type the "
            "same again to go on."
        )
    terminal.echo(f"Running: {', '.join(running)}", err=True)  # some, perhaps, for somebody else
    if common.ask_to_stop():
        told, failures = elsewhere.stop()
        done = f"{', '.join(told)}: told to stop" if told else "No job was told to stop"
        return UnmaskError(
            "\n".join([*failures, f"{done}. What is done is kept: type the same again to go on."])
        )
    return UnmaskError(
        f"{', '.join(running)}: not waited for any longer, and still running. The same command "
        f"waits again; `unmask sagemaker stop {running[0]}` stops it."
    )
