"""A video's answer as one can act on it: verdict, doubts, each face over time, worst moments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.predict import Predictor
from unmask.records import FaceTrack, Reason, TrackScore
from unmask.verdicts import Doubt, Look, Verdict


@dataclass(frozen=True)
class Moment:
    """One clip's probability."""

    time_s: float  # where the clip begins, from the video's first frame; it lasts Answer.clip_s
    probability: float  # calibrated, in [0, 1]


@dataclass(frozen=True)
class FaceAnswer:
    """What the model says of one face of a video."""

    track: FaceTrack  # its crop file lies in the analysis's crops_dir, where one was given
    score: TrackScore  # by the clips that evaluate takes
    probability: float  # of score.logit
    verdict: Verdict
    doubts: tuple[Doubt, ...]  # why it is inconclusive; none beside fake and real
    timeline: tuple[Moment, ...]  # in order of time; those of score, or denser where asked
    look: Look

    @property
    def face_px(self) -> float:
        """Return the longer side of the face's box, in pixels of the video."""
        return self.look.face_px

    @property
    def sharpness(self) -> float:
        """Return how much fine detail its crops hold."""
        return self.look.sharpness


@dataclass(frozen=True)
class Answer:
    """What the model says of one file."""

    path: Path
    sha256: str | None  # of the file's content; None where it can't be read
    duration_s: float | None  # as the file declares it
    clip_s: float  # from a clip's first frame to its last
    probability: float | None  # the most suspicious face's; None where there is no face
    verdict: Verdict
    doubts: tuple[Doubt, ...]
    faces: tuple[FaceAnswer, ...]  # by first appearance
    worst: tuple[tuple[int, Moment], ...]  # place in faces, and when: the most suspicious first
    reason: Reason | None  # why there is no probability, or why the tracks end before the video
    detail: str  # the reason in a sentence


def analyse(
    predictor: Predictor,
    paths: Sequence[Path],
    *,
    crops_dir: Path | None = None,
    moments: int | None = None,
    workers: int = 1,
) -> Iterator[Answer]:
    """Yield each file's answer, in order; a bad file's answer has its reason.

    Cropping runs in worker processes, so that a file that crashes or stalls one costs itself alone,
    and while one video is scored the next is cropped. crops_dir keeps the crop files, each named
    in its FaceTrack, in a folder for each file: crops_dir/<place in paths>. moments is how many
    clips a timeline has at most; by default those that score the face.
    """
    raise NotImplementedError
