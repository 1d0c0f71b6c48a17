"""How videos reach the nodes of a cluster, and crops come back: by a shared folder, or by S3."""

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unmask.errors import UnmaskError
from unmask.faces import shard_store, shards
from unmask.faces.crops import Job
from unmask.faces.detector import LoadDetector
from unmask.faces.shards import Shard
from unmask.runtime.disk import content_digest, create, delete_stale, new_name, writing
from unmask.runtime.scratch import private_folder
from unmask.storage import blobs, dvc_files
from unmask.storage import s3 as storage_s3
from unmask.storage.blobs import LAYOUT, StoredFile
from unmask.storage.s3 import Remote

_MARKER = "marker"  # the ending of its name
_RESULTS = "crop_shards"  # beside a remote's files; DVC looks at those alone
_FEW = 200  # videos whose results are asked for one by one, rather than listed


class OnNode(Protocol):
    """What a node does with files. It travels there: it holds no secret."""

    def fault(self) -> str:
        """Return why the node can't get files or hand in crops; empty if it can."""

    def crop(
        self, shard: Shard, folder: Path, *, workers: int, load_detector: LoadDetector
    ) -> Mapping[str, str]:
        """Crop a shard, and return the SHA-256 of each crop file."""


class Files(Protocol):
    """The same where shards are dealt."""

    def to_probe(self) -> OnNode:
        """Return what shows whether a node can work."""

    def of(self, shard: Shard) -> OnNode:
        """Return what a node needs for a shard."""

    def collect(self, jobs: Sequence[Job], folder: Path, *, passing: bool) -> None:
        """Bring what nodes made of these videos into an attempt's folder.

        passing says whether failures that may pass are taken, too.
        """

    def close(self) -> None:
        """Take away what only a run needs."""


# ---------------------------------------------------------------- a shared folder


class SharedFolder:
    """A checkout that all nodes see at the same place."""

    def __init__(self, root: Path) -> None:
        # A file by which nodes show that they see root, of this driver alone: another one, which
        # crops another chunk here, may end first. No chunk has a name with such a beginning.
        self.root = root
        self.marker = new_name(root / shards.SHARDS_DIR / "shared", _MARKER)
        self._lock: int | None = None

    def to_probe(self) -> "SeenFolder":
        """Return what shows whether a node sees the folder."""
        if self._lock is None:
            with writing(self.marker):
                self.marker.parent.mkdir(parents=True, exist_ok=True)
                delete_stale(self.marker.with_name("shared"), _MARKER)  # of killed drivers
                self._lock = create(self.marker)
                os.write(self._lock, secrets.token_hex(16).encode())
        written = self.marker.read_text(encoding="utf-8")
        return SeenFolder(str(self.root), str(self.marker), written)

    def of(self, shard: Shard) -> "SeenFolder":  # noqa: ARG002  # it is the same for all
        """Return what a node needs for a shard."""
        return self.to_probe()

    def collect(self, jobs: Sequence[Job], folder: Path, *, passing: bool) -> None:
        """Do nothing: nodes fill the folder themselves."""

    def close(self) -> None:
        """Take the marker away; folders of shards that a next run takes in stay."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            self.marker.unlink(missing_ok=True)
            with suppress(OSError):  # it holds other drivers' markers, or shards
                self.marker.parent.rmdir()


@dataclass(frozen=True)
class SeenFolder:
    """That checkout, as a node sees it."""

    root: str
    marker: str
    written: str  # what the marker holds

    def fault(self) -> str:
        """Return why the node can't work there; empty if it can."""
        path = Path(self.marker)
        if path.is_file() and path.read_text(encoding="utf-8") == self.written:
            return ""
        return (
            f"it does not see {self.root}, which this machine has just written to. Put the "
            "checkout on a disk that all nodes mount at the same place, or have the DVC remote "
            "carry files (--files remote)."
        )

    def crop(
        self, shard: Shard, folder: Path, *, workers: int, load_detector: LoadDetector
    ) -> Mapping[str, str]:
        """Crop a shard into a folder of the checkout."""
        os.chdir(self.root)  # rows name their videos from here
        return shards.crop(shard, folder, workers=workers, load_detector=load_detector)


# ---------------------------------------------------------------- a DVC remote


class RemoteFiles:
    """A DVC remote in S3, which holds the videos, and takes their crops in."""

    def __init__(self, root: Path) -> None:
        """Find the remote of a checkout.

        Raises:
            UnmaskError: it has none in S3.
        """
        found = dvc_files.remote(root)
        if found is None:
            raise UnmaskError(
                "Asked for files by the DVC remote; the checkout's default remote is no folder in "
                "S3. Set one (`dvc remote add --default NAME s3://BUCKET/FOLDER`), or share a "
                "folder (--files shared)."
            )
        self.root, self.remote = root, found
        self._s3 = found.client()
        self._files: dict[Path, StoredFile] = {}

    def find(self, jobs: Sequence[Job], stage: str) -> None:
        """Find the content of videos, all of one folder, in the remote.

        stage is what makes the folder.

        Raises:
            UnmaskError: dvc.lock does not have the videos as they are, the remote lacks some of
                them, or it can't be asked.
        """
        paths = [job.path for job in jobs]
        found = dvc_files.files_at(self.root, paths, {paths[0].parent: stage})
        wanted = list(found.values())
        with storage_s3.asking(f"for what {self.remote.store.uri} holds", "s3:ListBucket"):
            missing = blobs.missing(self._s3, self.remote.store, wanted)
        if missing:
            raise UnmaskError(
                f"Asked for {len(wanted)} videos in {self.remote.store.uri}; it lacks "
                f"{len(missing)} of them, such as {missing[0].path}. Run `dvc push {stage}`."
            )
        self._files |= found

    def to_probe(self) -> "FromRemote":
        """Return what shows whether a node may read and write in the remote."""
        return FromRemote(self.remote, tuple(list(self._files.values())[:1]))

    def of(self, shard: Shard) -> "FromRemote":
        """Return what a node needs for a shard."""
        return FromRemote(self.remote, tuple(self._files[job.path] for job in shard.jobs))

    def collect(self, jobs: Sequence[Job], folder: Path, *, passing: bool) -> None:
        """Fetch what nodes made of these videos into a folder."""
        results = results_in(self.remote, self._s3)
        there = jobs if len(jobs) <= _FEW else results.there(jobs, passing=passing)
        results.fetch(there, folder, passing=passing)

    def close(self) -> None:
        """Leave what is in the remote: a next run may take it in."""


def results_in(remote: Remote, s3: object) -> shard_store.Results:
    """Return the results beside a remote's files."""
    prefix = remote.store.prefix.removesuffix(LAYOUT) + _RESULTS
    return shard_store.Results(s3, remote.store.bucket, prefix)


@dataclass(frozen=True)
class FromRemote:
    """A remote, and the files in it that a node needs, by the node's own credentials."""

    remote: Remote
    files: tuple[StoredFile, ...]

    def fault(self) -> str:
        """Return why the node can't read there, or not write; empty if it can."""
        try:
            s3 = self.remote.client(attempts=2)
            results = results_in(self.remote, s3)
            for file in self.files:
                name = self.remote.store.object_name(file)
                storage_s3.read(s3, self.remote.store.bucket, name, most_bytes=0)
            results.try_to_write()
        except UnmaskError as error:
            return str(error)
        except ModuleNotFoundError as error:
            return f"it has no {error.name}, which reads S3: pip install 'unmask[ray]' there"
        return ""

    def crop(
        self,
        shard: Shard,
        folder: Path,  # noqa: ARG002  # where results come to on the driver's machine
        *,
        workers: int,
        load_detector: LoadDetector,
    ) -> Mapping[str, str]:
        """Fetch a shard's videos, crop them, and send each result as it is made."""
        s3 = self.remote.client()
        results = results_in(self.remote, s3)
        named = {job.video_id: shard_store.name_of(job) for job in shard.jobs}
        digests: dict[str, str] = {}
        with private_folder("crop") as scratch:
            checkout, crops = scratch / "checkout", scratch / "crops"
            checkout.mkdir()
            storage_s3.download(s3, self.remote.store, self.files, checkout)
            before = Path.cwd()
            os.chdir(checkout)  # rows name their videos from here
            try:
                for row in shards.crop_each(
                    shard, crops, workers=workers, load_detector=load_detector
                ):
                    results.send(row, crops, named[row.video_id])
                    digests |= {t.file: content_digest(crops / t.file) for t in row.tracks}
            finally:
                os.chdir(before)
        return digests
