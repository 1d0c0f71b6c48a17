"""The answer about a video whose crops are there already: the one that predict gives, in short."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.answers import analysis
from unmask.faces.files import Cropped, bits_per_px
from unmask.models.predict import Predictor
from unmask.records import VideoFaces, VideoRecord, VideoScore
from unmask.runtime.confinement import Confinement
from unmask.runtime.processes import run_jobs
from unmask.video.decode import probe
from unmask.video.failures import DecodeError

_STALL_S = 60.0

Opinion = tuple[VideoScore, str, tuple[str, ...]]  # score, verdict, doubts


@dataclass(frozen=True)
class _Job:
    video_id: str
    path: Path


@dataclass(frozen=True)
class _Facts:
    video_id: str
    codec: str = ""
    bits_per_px: float | None = None


def asker(
    predictor: Predictor,
    records: Sequence[VideoRecord],
    videos_dir: Path,
    faces_dir: Path,
    *,
    workers: int,
) -> Callable[[VideoRecord, VideoFaces], Opinion]:
    """Return a function that answers for one of the videos, whose crops lie in faces_dir.

    A model without a promise gives no verdict: it is empty then. One with a promise judges by the
    file, too, so worker processes read each file's codec and bitrate first.
    """
    if predictor.checkpoint.promise is None:

        def score(_: VideoRecord, found: VideoFaces) -> Opinion:
            [answer] = predictor.score_videos(faces_dir, [found])
            return answer, "", ()

        return score
    jobs = [_Job(record.video_id, videos_dir / record.file) for record in records]
    facts = {found.video_id: found for found in _read_facts(jobs, workers)}

    def judge(record: VideoRecord, found: VideoFaces) -> Opinion:
        return _judge(predictor, videos_dir / record.file, found, faces_dir, facts)

    return judge


def _judge(
    predictor: Predictor,
    path: Path,
    found: VideoFaces,
    faces_dir: Path,
    facts: Mapping[str, _Facts],
) -> Opinion:
    known = facts.get(found.video_id, _Facts(found.video_id))
    cropped = Cropped(0, path, faces_dir, found, None, None, known.codec, known.bits_per_px)
    answer = analysis.answer(predictor, cropped, None)
    tracks = tuple(face.score for face in answer.faces)
    score = VideoScore(found.video_id, answer.probability, answer.reason, tracks)
    return score, str(answer.verdict), tuple(map(str, answer.doubts))


def _read_facts(jobs: Sequence[_Job], workers: int) -> Iterator[_Facts]:
    yield from run_jobs(
        jobs, _read, _nothing, workers,
        crashed=_unknown, exhausted=_unknown, stalled=_unknown, stall_s=_STALL_S,
        confined=Confinement(),
    )  # fmt: skip


def _nothing() -> None:
    """Start a worker: there is nothing to load."""


def _read(job: _Job) -> _Facts:
    try:
        info = probe(job.path)
    except DecodeError:
        return _unknown(job)
    return _Facts(job.video_id, info.codec, bits_per_px(job.path, info))


def _unknown(job: _Job) -> _Facts:
    return _Facts(job.video_id)
