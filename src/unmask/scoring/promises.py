"""What a model promises of videos like some that it was calibrated on, and what follows from it.

Plain numbers. A promise is about a whole video's answer: of genuine videos like the known ones, at
most a stated share are called fake. It is learned from one number a video, the statistic that makes
the verdict: the highest probability of any of its faces, or of any stretch of one. Without a
promise nothing is called fake or real.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter

from unmask.scoring.unlike import Likeness
from unmask.scoring.verdicts import (
    Doubt,
    FaceQuality,
    Limits,
    Part,
    Verdict,
    judge,
    thresholds,
)

UNLIKE = 0.05  # share of videos like the known ones that are told to be unlike them
CONFIDENCE = 0.95  # of the interval of a share of fakes that are found
_MOST_CUTS = 4  # between a stratum and all videos: at most 16 strata
# Without a promise there are no thresholds that these could compare with.
_OF_THRESHOLDS = (Doubt.BETWEEN_THRESHOLDS, Doubt.SUSPICIOUS_STRETCH)

_Count = Annotated[int, Field(ge=0, le=10**9)]
_Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Size = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Line = Annotated[str, Field(max_length=1000)]
_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Stratum:
    """Videos whose worst face is of a certain size and sharpness, and what makes one a fake.

    A bound of None is open. A face at the upper bound lies in the next stratum.
    """

    __pydantic_config__ = _STRICT

    min_face_px: _Size | None
    max_face_px: _Size | None
    min_sharpness: _Size | None
    max_sharpness: _Size | None
    genuine: _Count  # videos that the threshold was learned from
    fake_from: _Ratio | None  # a statistic at or above it says fake; None: nothing does

    def holds(self, quality: FaceQuality) -> bool:
        """Say whether a video lies in it whose worst face looks like that."""
        return _between(self.min_face_px, quality.face_px, self.max_face_px) and _between(
            self.min_sharpness, quality.sharpness, self.max_sharpness
        )


@dataclass(frozen=True)
class Promise:
    """What a model's verdicts rest on: stored with it, told with each answer."""

    __pydantic_config__ = _STRICT

    kind: _Line  # of video, in the words of whoever calibrated
    genuine: _Count  # different videos that it was learned on
    fakes: _Count  # known fakes that were given
    max_false_alarms: Annotated[float, Field(gt=0, lt=1)]  # share of genuine videos called fake
    left_out: _Count  # genuine videos that were judged by a promise learned on all others
    false_alarms: _Count  # how many of those were called fake
    unlike_to: _Ratio  # a face of that likeness or less gets no verdict
    found: _Count  # fakes that are called fake
    silenced: _Count  # fakes whose scores are as high, but which get no verdict as they are unlike
    power: _Ratio | None  # found / fakes; None where no fake was given
    power_low: _Ratio | None  # its interval: Clopper & Pearson, at CONFIDENCE
    power_high: _Ratio | None
    made: _Line  # when, in UTC
    command: _Line
    version: _Line  # of unmask
    genuine_sha256: _Digest  # of the list of the genuine videos' digests
    fakes_sha256: _Digest | None
    weights_sha256: _Digest  # of the weights whose scores it was learned from
    looks_sha256: _Digest | None  # of the file that says what the genuine videos look like
    strata: tuple[Stratum, ...] = ()  # none: limits.fake_from holds for all

    def limits_for(self, worst: FaceQuality, limits: Limits) -> Limits:
        """Return the limits by which a video is judged whose worst face looks like that."""
        for stratum in self.strata:
            if stratum.holds(worst):
                fake_from = stratum.fake_from
                stretches = () if fake_from is None else tuple(
                    (count, fake_from) for count, _ in limits.stretches
                )  # fmt: skip
                return replace(limits, fake_from=fake_from, stretches=stretches)
        return limits


@dataclass(frozen=True)
class Judged:
    """What is known of one face once it was scored."""

    probability: float  # of its whole track
    part: Part
    quality: FaceQuality
    likeness: Likeness | None = None  # to the calibration's videos; None: not measured

    @property
    def statistic(self) -> float:
        """Return the highest probability that the verdict looks at."""
        return max(self.probability, self.part.probability)


def judge_faces(
    faces: Sequence[Judged], limits: Limits, promise: Promise | None
) -> tuple[list[tuple[Verdict, tuple[Doubt, ...]]], Limits]:
    """Return each face's verdict with its doubts, and the limits that were applied to all.

    A video's stratum is that of its worst face, so that a face is called fake exactly where the
    video's statistic asks for it. Without a promise every face is inconclusive.
    """
    if promise is None or not faces:
        limits = replace(limits, fake_from=None, real_to=None, stretches=())
    else:
        limits = promise.limits_for(worst_of(faces).quality, limits)
    found = []
    for face in faces:
        verdict, doubts = judge(face.probability, face.part, face.quality, limits)
        if promise is None:
            kept = [doubt for doubt in doubts if doubt not in _OF_THRESHOLDS]
            verdict, doubts = Verdict.INCONCLUSIVE, (Doubt.NOT_CALIBRATED, *kept)
        elif face.likeness is not None and face.likeness.p_value <= promise.unlike_to:
            verdict, doubts = Verdict.INCONCLUSIVE, (Doubt.UNLIKE_CALIBRATION, *doubts)
        found.append((verdict, doubts))
    return found, limits


def worst_of(faces: Sequence[Judged]) -> Judged:
    """Return the face that gives the video its statistic; the first of several equal ones."""
    return max(faces, key=lambda face: face.statistic)


# ---------------------------------------------------------------- learned from videos


def videos_needed(max_false_alarms: float) -> int:
    """Return how many genuine videos a threshold for that rate takes: 1 / rate - 1, rounded up.

    >>> videos_needed(0.05), videos_needed(0.1), videos_needed(0.03)
    (19, 9, 33)
    """
    return math.ceil(1 / max_false_alarms - 1e-9) - 1


def unlike_from_count(known: int) -> float:
    """Return the p-value down to which a face is told to be unlike so many known ones.

    It is UNLIKE; of fewer than 19 videos, the lowest that there is: that of a face which is farther
    off than all of them.

    >>> unlike_from_count(34), unlike_from_count(9)
    (0.05, 0.1)
    """
    return max(UNLIKE, 1 / (known + 1))


def learn_strata(genuine: Sequence[Judged], max_false_alarms: float) -> tuple[Stratum, ...]:
    """Return strata of face size and sharpness, each with its own threshold; they hold all videos.

    genuine has the worst face of each video. In a stratum at most max_false_alarms of genuine
    videos like those in it are called fake (class-conditional conformal prediction by categories,
    Mondrian: Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World, 2005, section 4.5).
    All videos are cut in two again and again, by size and by sharpness in turn, as long as both
    halves have the videos_needed. The cuts are powers of the square root of 2, chosen for even
    halves and without a look at any score.
    """
    everything = Stratum(None, None, None, None, 0, None)
    return tuple(
        replace(
            stratum,
            genuine=len(own),
            fake_from=thresholds([face.statistic for face in own], [], max_false_alarms)[0],
        )
        for stratum, own in _cut(everything, list(genuine), videos_needed(max_false_alarms), 0)
    )


def _cut(
    stratum: Stratum, videos: list[Judged], needed: int, cuts: int
) -> list[tuple[Stratum, list[Judged]]]:
    axes: list[tuple[str, Callable[[Judged], float]]] = [
        ("face_px", lambda video: video.quality.face_px),
        ("sharpness", lambda video: video.quality.sharpness),
    ]
    for name, value in axes[cuts % 2 :] + axes[: cuts % 2] if cuts < _MOST_CUTS else ():
        place = _even_cut([value(video) for video in videos])
        if place is None:
            continue
        below = [video for video in videos if value(video) < place]
        above = [video for video in videos if value(video) >= place]
        if min(len(below), len(above)) < needed:
            continue
        lower, upper = (
            (replace(stratum, max_face_px=place), replace(stratum, min_face_px=place))
            if name == "face_px"
            else (replace(stratum, max_sharpness=place), replace(stratum, min_sharpness=place))
        )
        return _cut(lower, below, needed, cuts + 1) + _cut(upper, above, needed, cuts + 1)
    return [(stratum, videos)]


def _even_cut(values: Sequence[float]) -> float | None:
    """Return the power of the square root of 2 that cuts most evenly; None where none cuts."""
    ordered = sorted(values)
    if not ordered or ordered[0] <= 0:
        return None
    lowest, highest = (math.floor(2 * math.log2(value)) for value in (ordered[0], ordered[-1]))
    places = [2 ** (power / 2) for power in range(lowest + 1, highest + 1)]
    half = len(ordered) / 2
    return min(places, key=lambda at: abs(bisect_left(ordered, at) - half), default=None)


def leave_one_out(genuine: Sequence[Judged], max_false_alarms: float) -> tuple[int, int]:
    """Return how many genuine videos the others can judge, and how many of those they call fake.

    Each is judged by strata learned without it; one that is unlike the others is not called fake.
    Where one video fewer is too few for the asked rate, none can be judged.
    """
    judged = alarms = 0
    unlike_to = unlike_from_count(len(genuine) - 1)
    for place, face in enumerate(genuine):
        others = [*genuine[:place], *genuine[place + 1 :]]
        if len(others) < videos_needed(max_false_alarms):
            continue
        judged += 1
        strata = learn_strata(others, max_false_alarms)
        fake_from = next(each.fake_from for each in strata if each.holds(face.quality))
        is_like = face.likeness is None or face.likeness.p_value > unlike_to
        alarms += fake_from is not None and is_like and face.statistic >= fake_from
    return judged, alarms


def share_interval(found: int, count: int) -> tuple[float, float]:
    """Return the interval of a share of which `found` of `count` were seen, at CONFIDENCE.

    Exact, whatever the share: Clopper & Pearson, Biometrika 26 (1934), 404-413.

    >>> [round(end, 4) for end in share_interval(0, 10)]
    [0.0, 0.3085]
    """
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if found == 0 else _solve(lambda share: _at_least(found, count, share) - tail)
    high = 1.0
    if found < count:
        high = _solve(lambda share: tail - (1 - _at_least(found + 1, count, share)))
    return low, high


def _at_least(found: int, count: int, share: float) -> float:
    """Return the chance of so many or more of count, each with the chance share in (0, 1)."""
    return math.fsum(
        math.exp(
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
            + k * math.log(share) + (count - k) * math.log1p(-share)
        )
        for k in range(found, count + 1)
    )  # fmt: skip


def _solve(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def _between(least: float | None, value: float, below: float | None) -> bool:
    return (least is None or value >= least) and (below is None or value < below)


# ---------------------------------------------------------------- stored with a model


def promise_from(values: Mapping[str, Any] | None) -> Promise | None:
    """Return the promise that a model's settings hold, if they hold one; a stranger's values.

    Raises:
        ValueError: it is no such object.
    """
    if values is None:
        return None
    found = TypeAdapter(Promise).validate_json(json.dumps(values, allow_nan=False))
    if found.false_alarms > found.left_out or found.found + found.silenced > found.fakes:
        raise ValueError("promise counts more errors or finds than videos")
    if (found.power is None) != (found.fakes == 0):
        raise ValueError("promise has a power without fakes, or fakes without a power")
    return found
