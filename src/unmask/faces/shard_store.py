"""What was cropped elsewhere, by each video's content: put into a folder or a bucket, and fetched.

A video's result is a file of JSON with its row and the SHA-256 of its crop files, which lie in a
folder of the same name beside it. It is written last, so a killed job leaves whole results. The
result of a video that failed in a way that may pass has another ending: it holds for one call.
"""

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unmask.errors import MALFORMED
from unmask.faces import shards
from unmask.faces.crops import Job
from unmask.records import VideoFaces
from unmask.runtime.disk import content_digest, write_atomically, writing
from unmask.runtime.record_files import faces_from_line, faces_line
from unmask.storage import s3 as storage_s3
from unmask.storage.blobs import MAX_CONNECTIONS, encryption, sizes

_log = logging.getLogger(__name__)

RESULT, PASSING = ".json", ".passing.json"
_INDEX = "index.jsonl"  # as crops.read_rows reads it
_MAX_ROW_BYTES = 256 * 2**20  # an hour of many faces has a tenth of that


def name_of(job: Job) -> str:
    """Return the name of a video's result: by its content, the settings, the code and its path."""
    chunk = job.faces_dir.name
    digest = hashlib.sha256(os.fsencode(f"{job.key}\0{job.path.as_posix()}")).hexdigest()
    return f"{chunk}/{digest[:32]}"


def ending_of(row: VideoFaces) -> str:
    """Return what the file of a result ends with, behind its name."""
    return RESULT if row.key else PASSING


def text_of(row: VideoFaces, folder: Path) -> str:
    """Return a result's JSON. The row's crop files lie in the folder."""
    digests = {track.file: content_digest(folder / track.file) for track in row.tracks}
    return json.dumps({"row": faces_line(row), "digests": digests})


def put(row: VideoFaces, folder: Path, name: str, target: Path) -> None:
    """Move a row's crop files from the folder they were made in to a folder of results.

    Raises:
        DiskError: the disk takes no more.
    """
    text = text_of(row, folder)
    for track in row.tracks:
        place = target / name / track.file
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            # Through a copy: the folder of results may be on another disk.
            beside = place.with_name(f".{secrets.token_hex(8)}.part")
            shutil.copyfile(folder / track.file, beside)
            os.replace(beside, place)
            (folder / track.file).unlink()
    write_atomically(target / f"{name}{ending_of(row)}", text)


def is_whole(folder: Path, name: str) -> bool:
    """Say whether a folder of results holds a video's row, and each of its crop files as made.

    A copy of such a folder may have got the row without them: whoever copies keeps no order.
    """
    try:
        row, digests = _read((folder / f"{name}{RESULT}").read_bytes())
        return shards.has_plain_names(row) and all(
            content_digest(folder / name / track.file) == digests.get(track.file)
            for track in row.tracks
        )
    except (OSError, *MALFORMED):
        return False


def _read(text: bytes) -> tuple[VideoFaces, dict[str, str]]:
    """Return the row and the digests of a result's JSON; raises as MALFORMED where it is none."""
    found = json.loads(text)
    return faces_from_line(found["row"]), dict(found["digests"])


@dataclass(frozen=True)
class Results:
    """The folder of a bucket that results are in."""

    s3: Any
    bucket: str
    prefix: str
    kms_key: str | None = None

    def send(self, row: VideoFaces, folder: Path, name: str) -> None:
        """Send a row and its crop files, which lie in the folder.

        Raises:
            StorageError: the bucket does not take them.
        """
        start = f"{self.prefix}/{name}"
        encrypted = encryption(self.kms_key)
        with storage_s3.asking(f"to write {start} into {self.bucket}", "s3:PutObject"):
            for track in row.tracks:
                self.s3.upload_file(
                    str(folder / track.file), self.bucket, f"{start}/{track.file}",
                    ExtraArgs=encrypted,
                )  # fmt: skip
            self.s3.put_object(
                Bucket=self.bucket, Key=f"{start}{ending_of(row)}",
                Body=text_of(row, folder).encode(), **encrypted,
            )  # fmt: skip

    def try_to_write(self) -> None:
        """Write an object without content.

        Raises:
            StorageError: who asks may not.
        """
        place = f"s3://{self.bucket}/{self.prefix}/"
        with storage_s3.asking(f"to write into {place}", "s3:PutObject"):
            self.s3.put_object(
                Bucket=self.bucket, Key=f"{self.prefix}/.probe", Body=b"",
                **encryption(self.kms_key),
            )  # fmt: skip

    def there(self, jobs: Iterable[Job], *, passing: bool) -> list[Job]:
        """Return the videos whose results are there; passing says whether those of failures count.

        Raises:
            StorageError: S3 does not answer.
        """
        named = {name_of(job): job for job in jobs}
        found: set[str] = set()
        for chunk in sorted({name.partition("/")[0] for name in named}):
            start = f"{self.prefix}/{chunk}/"
            with storage_s3.asking(f"for what s3://{self.bucket}/{start} holds", "s3:ListBucket"):
                found |= set(sizes(self.s3, self.bucket, start))
        endings = (RESULT, PASSING) if passing else (RESULT,)
        return [
            job for name, job in named.items()
            if any(f"{self.prefix}/{name}{ending}" in found for ending in endings)
        ]  # fmt: skip

    def fetch(
        self, jobs: Sequence[Job], folder: Path, *, passing: bool, is_final: bool = True
    ) -> dict[str, str]:
        """Put the whole results of these videos into a folder, as a chunk's crops and rows.

        passing says whether results of failures that may pass are taken, too. A result that is not
        whole is left out; if no more of it will come, a line names it. Returns the SHA-256 of each
        crop file.

        Raises:
            StorageError: S3 does not answer.
            DiskError: the disk takes no more.
        """
        digests: dict[str, str] = {}
        rows: list[VideoFaces] = []
        fetch = partial(self._fetch, folder, passing=passing, is_final=is_final)
        with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
            for found in pool.map(fetch, jobs):
                if found is not None:
                    rows.append(found[0])
                    digests |= found[1]
        if rows:
            lines = "".join(faces_line(row) + "\n" for row in rows)
            write_atomically(folder / _INDEX, lines)
        return digests

    def _fetch(
        self, folder: Path, job: Job, *, passing: bool, is_final: bool
    ) -> tuple[VideoFaces, Mapping[str, str]] | None:
        start = f"{self.prefix}/{name_of(job)}"
        text = None
        for ending in (RESULT, PASSING) if passing else (RESULT,):
            name = f"{start}{ending}"
            text = storage_s3.read(self.s3, self.bucket, name, most_bytes=_MAX_ROW_BYTES)
            if text is not None:
                break
        if text is None:
            return None
        fault = ""
        try:
            row, digests = _read(text)
        except MALFORMED:
            fault = "it is no row of a video"
        else:
            if row.video_id != job.video_id or not shards.has_plain_names(row):
                fault = "it is another video's, or names files elsewhere"
            elif row.key != (job.key if ending == RESULT else ""):
                # Not left to who takes it in: refused there, it would be found here ever again.
                fault = "it is of other content, or by other code"
            for track in () if fault else row.tracks:
                path = folder / track.file
                is_there = storage_s3.save(self.s3, self.bucket, f"{start}/{track.file}", path)
                if not is_there or content_digest(path) != digests.get(track.file):
                    fault = f"its crop {track.file} is {'another' if is_there else 'not there'}"
                    break
        if fault:
            if is_final:
                _log.warning(
                    "%s: asked for its crops, s3://%s/%s; %s. It is cropped again.",
                    job.path, self.bucket, name, fault,
                )  # fmt: skip
            return None
        return row, {track.file: digests[track.file] for track in row.tracks}
