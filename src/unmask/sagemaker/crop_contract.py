"""What both ends of a cropping job agree on: which videos, made by what, and under which names."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unmask import params
from unmask.errors import MALFORMED
from unmask.sagemaker.contract import FILES, REMOTE, JobError, check_paths
from unmask.storage.blobs import StoredFile

ASKED, ASKED_NAME = "asked", "asked.json"  # an input of a job: the work it is asked for
STORES = (FILES, REMOTE)  # inputs with videos by their content; a job has one or both
# Below /opt/ml: of a Processing job, and of a training job, which crops where spot is asked for.
PROCESSING_INPUTS, PROCESSING_OUTPUT = "processing/input", "processing/output"
TRAINING_INPUTS, TRAINING_OUTPUT = "input/data", "checkpoints"


@dataclass(frozen=True)
class Video:
    """A video of a job, and the name of its result."""

    file: StoredFile  # at its path in a checkout: rows name it
    video_id: str
    chunk: str  # its folder of crops in a checkout, such as faces/part_00
    is_track: bool
    result: str  # shard_store.name_of


@dataclass(frozen=True)
class Work:
    """What a job is asked for."""

    facts: Mapping[str, str]  # shards.this_machine of who asks: crops depend on it
    settings: params.Faces
    videos: tuple[Video, ...]

    @property
    def text(self) -> str:
        """Return it as JSON in ASCII: the same text for the same work."""
        videos = sorted((asdict(video) for video in self.videos), key=lambda row: row["result"])
        found = {
            "facts": dict(sorted(self.facts.items())),
            "settings": self.settings.model_dump(mode="json"),
            "videos": videos,
        }
        return json.dumps(found, indent=0)

    @property
    def key(self) -> str:
        """Return a digest of all of it."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Return how much a job fetches: each content once."""
        return sum({video.file.md5: video.file.size_bytes for video in self.videos}.values())


def read_work(text: str | bytes, where: str) -> Work:
    """Return the work of a JSON text.

    Raises:
        JobError: it is damaged, of another version of unmask, or names a path outside of the
            checkout.
    """
    try:
        found = json.loads(text)
        videos = [_video(row) for row in found["videos"]]
        work = Work(
            {str(name): str(value) for name, value in found["facts"].items()},
            params.Faces.model_validate_json(json.dumps(found["settings"])),
            tuple(videos),
        )
    except MALFORMED as error:
        raise JobError(
            f"Asked for a cropping job's work, {where}; found none of this version of unmask "
            f"({str(error)[:200]!r}). Start the job by `unmask crop --on sagemaker` of the image's "
            "version."
        ) from error
    check_paths(where, [video.file.path for video in videos])
    check_paths(where, [video.chunk for video in videos])
    check_paths(where, [video.result for video in videos])
    return work


def _video(row: Any) -> Video:
    video = Video(StoredFile(**row.pop("file")), **row)
    words = video.file.path, video.file.md5, video.video_id, video.chunk, video.result
    if any(type(word) is not str for word in words) or type(video.is_track) is not bool:
        raise TypeError(f"words expected: {words!r:.200}")
    if "/" in video.video_id or video.video_id in ("", ".", ".."):  # crop files are named after it
        raise ValueError(f"no name of a video: {video.video_id!r:.200}")
    return video


def read_work_file(path: Path) -> Work:
    """Return the work of a file, as read_work does.

    Raises:
        JobError: as read_work, or there is no such file.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise JobError(
            f"Asked for a cropping job's work, {path}; found no file ({error.strerror}). Start the "
            "job by `unmask crop --on sagemaker`, which sends it."
        ) from error
    return read_work(text, str(path))
