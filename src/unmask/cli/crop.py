"""`unmask crop`: crops before `dvc repro faces`, here or by the nodes of a cluster."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from unmask import extras, params
from unmask.cli import crop_folders
from unmask.cli.crop_folders import Folders
from unmask.cli.job_options import given_ones, with_job_options
from unmask.errors import UnmaskError
from unmask.records import VideoFaces
from unmask.runtime import terminal
from unmask.sagemaker import config

if TYPE_CHECKING:
    from unmask.cluster.dealer import Nodes
    from unmask.cluster.files import Files
    from unmask.faces.crops import Job


@click.command()
@click.argument("chunks", nargs=-1, metavar="[CHUNK]...")
@click.option(
    "--on", "place", type=click.Choice(["here", "ray", "sagemaker"]), default="here",
    show_default=True, help="This machine, the nodes of a Ray cluster, or jobs on SageMaker.",
)  # fmt: skip
@click.option(
    "--address", metavar="HOST:PORT",
    help="The cluster's, with --on ray. Without it, one of this machine alone is started.",
)  # fmt: skip
@click.option(
    "--files", type=click.Choice(["shared", "remote"]), default="shared", show_default=True,
    help="With --on ray: nodes see the checkout, or read and write DVC's remote in S3.",
)  # fmt: skip
@click.option(
    "--gpus", is_flag=True,
    help="With --on ray: a GPU for each shard, which searches for its workers.",
)  # fmt: skip
@click.option(
    "--shard", "shard_videos", type=click.IntRange(1, 10_000), default=64, show_default=True,
    help="Most videos that a task of the cluster crops.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what is missing, and crop nothing.")
@with_job_options(config.CropConfig, before="SageMaker: ")
def crop(
    chunks: tuple[str, ...],
    place: Literal["here", "ray", "sagemaker"],
    address: str | None,
    files: Literal["shared", "remote"],
    gpus: bool,
    shard_videos: int,
    dry_run: bool,
    **job_options: Any,
) -> None:
    """Crop what is missing of CHUNKs, by default of all chunks and benchmarks in params.yaml.

    `dvc repro faces` then finds every video cropped, and only notes that. Crops that are there are
    kept; interrupted, the next call goes on. Run `dvc repro raw` first.

    On a Ray cluster each node needs this version of unmask, and sees the checkout at the same place
    or may read and write DVC's remote by its own credentials. SageMaker crops in the image of
    training jobs; what jobs have made, or are at, is not asked for twice.
    """
    from unmask.cli import common

    common.set_up_logging()
    if address is not None and place != "ray":
        raise UnmaskError(f"--address {address} is a Ray cluster's: add --on ray.")
    if files != "shared" and place != "ray":
        raise UnmaskError(f"--files {files} is for the nodes of a Ray cluster: add --on ray.")
    if gpus and place != "ray":
        raise UnmaskError("--gpus is for the nodes of a Ray cluster: add --on ray.")
    given = given_ones(job_options)
    if given and place != "sagemaker":
        option = next(iter(given)).replace("_", "-")
        raise UnmaskError(f"--{option} is for jobs on SageMaker: add --on sagemaker.")
    settings = params.load()
    found = [
        crop_folders.find(name, settings)
        for name in chunks or (*settings.chunks, *settings.benchmarks)
    ]
    if place == "sagemaker":
        extras.check("unmask crop --on sagemaker", "aws", "dvc")
        from unmask.cli import crop_on_sagemaker

        crop_on_sagemaker.crop(found, settings.faces, given, dry_run=dry_run)
        return
    if dry_run:
        for folders in found:
            _describe(folders, settings.faces, shard_videos)
        return
    if place == "ray":
        extras.check("unmask crop --on ray", "ray", *(["dvc"] if files == "remote" else []))
    done = 0
    with ExitStack() as stack:
        cluster = _Cluster(stack, address, files, settings.faces, shard_videos, gpus=gpus)
        try:
            for folders in found:
                for _ in _crop(folders, settings.faces, cluster if place == "ray" else None):
                    done += 1
        except KeyboardInterrupt as interrupt:
            raise UnmaskError(
                f"Asked for crops; you stopped it after {done} video(s). They are kept: type the "
                "same again to go on."
            ) from interrupt
    terminal.echo("`dvc repro faces` takes them as they are.", err=True)


def _describe(folders: Folders, settings: params.Faces, shard_videos: int) -> None:
    from unmask.cli import common
    from unmask.faces import crops, shards
    from unmask.video.pictures import read_tracks

    videos = crops.find_videos(folders.videos)
    missing = crops.find_missing(
        videos, folders.faces, settings,
        workers=common.workers(), tracks=read_tracks(folders.videos),
    )  # fmt: skip
    said = shards.describe(shards.cut(missing, shard_videos))
    terminal.echo(f"{folders.name}: of {len(videos):,} videos {said}")


def _crop(
    folders: Folders, settings: params.Faces, cluster: "_Cluster | None"
) -> Iterator[VideoFaces]:
    from unmask.cli import common
    from unmask.faces import crops, shards
    from unmask.faces.shared_detector import best_detector
    from unmask.video.pictures import read_tracks

    videos = crops.find_videos(folders.videos)
    crop_chunk: Callable[..., Iterator[VideoFaces]] = partial(
        crops.crop_chunk, videos, folders.faces, settings,
        workers=common.workers(), tracks=read_tracks(folders.videos),
    )  # fmt: skip
    label = f"faces of {folders.name}"
    if cluster is not None:
        rows = crop_chunk(crop_missing=partial(cluster.crop, stage=folders.stage))
        yield from common.progress(rows, total=len(videos), label=label)
        return
    with best_detector(settings.detect, on_gpu=common.has_gpu()) as load_detector:
        crop_here = partial(
            shards.crop_here, shards_dir=Path(shards.SHARDS_DIR, folders.name),
            workers=common.workers(), load_detector=load_detector,
        )  # fmt: skip
        rows = crop_chunk(crop_missing=crop_here)
        yield from common.progress(rows, total=len(videos), label=label)


class _Cluster:
    """A Ray cluster that is joined, or started, once something is missing."""

    def __init__(
        self,
        stack: ExitStack,
        address: str | None,
        files: Literal["shared", "remote"],
        settings: params.Faces,
        shard_videos: int,
        *,
        gpus: bool,
    ) -> None:
        self._gpus = gpus
        self._stack, self._address, self._settings = stack, address, settings
        self._by_remote, self._shard_videos = files == "remote", shard_videos
        self._files: Files | None = None
        self._nodes: Nodes | None = None

    def crop(self, jobs: "Sequence[Job]", *, stage: str) -> Iterator[VideoFaces]:
        """Yield a row for each job, as crops.CropMissing. stage makes the videos."""
        from unmask.cli import common
        from unmask.cluster.dealer import crop_on
        from unmask.cluster.files import RemoteFiles, SharedFolder
        from unmask.faces import crops
        from unmask.faces.detector import detector_of_worker

        if self._files is None:
            self._files = (RemoteFiles if self._by_remote else SharedFolder)(Path.cwd())
        if isinstance(self._files, RemoteFiles):
            # What can't be read here is in no remote: its row says why.
            if unreadable := [job for job in jobs if not job.key]:
                yield from crops.crop_jobs(unreadable, common.workers(), detector_of_worker)
            jobs = [job for job in jobs if job.key]
            if not jobs:
                return
            self._files.find(jobs, stage)
        if self._nodes is None:
            self._nodes = self._open(self._files)
        yield from crop_on(
            self._nodes, jobs, Path.cwd(),
            shard_videos=self._shard_videos, collect=self._files.collect,
        )  # fmt: skip

    def _open(self, files: "Files") -> "Nodes":
        from unmask.cli import common
        from unmask.cluster import hardware, ray_cluster

        found = hardware.of_gpus() if self._gpus else hardware.of_cores()
        return self._stack.enter_context(
            ray_cluster.opened(
                self._address, files, self._settings, cores=common.workers(), hardware=found
            )
        )
