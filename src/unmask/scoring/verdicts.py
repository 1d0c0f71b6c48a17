"""From probabilities to verdicts: fake, real or inconclusive, and why. Plain numbers only.

The limits are learned when a model is trained, and stored with it. They describe the faces that
the model knows: the score of a face beyond them may be right, but nothing shows that it is.
"""

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What an answer says of a face, or of a video."""

    FAKE = "fake"
    REAL = "real"
    INCONCLUSIVE = "inconclusive"


class Doubt(StrEnum):
    """Why an answer is inconclusive."""

    NO_SCORE = "no_score"  # no face, or no video that can be read: the answer's reason says which
    STILL_PICTURE = "still_picture"  # nothing moves in it, and no promise is about pictures
    NOT_CALIBRATED = "not_calibrated"  # the model has no promise: see promises
    UNLIKE_CALIBRATION = "unlike_calibration"  # unlike the videos that its promise is about
    BETWEEN_THRESHOLDS = "between_thresholds"  # the probability is neither low nor high enough
    SUSPICIOUS_STRETCH = "suspicious_stretch"  # the face looks real as a whole, but not throughout
    PARTLY_SEEN = "partly_seen"  # the track is so long that its clips leave out too much of it
    FACE_TOO_SMALL = "face_too_small"  # this and the next three: than training and validation faces
    TOO_SHORT = "too_short"
    TOO_BLURRED = "too_blurred"
    OUT_OF_TRAINED_RANGE = "out_of_trained_range"  # darker, brighter or grainier
    BROKEN_OFF = "broken_off"  # the file ends before its video does: what follows was not seen
    NOT_ALL_SEEN = "not_all_seen"  # some of what the file shows can't be decoded
    TOO_FEW_FRAMES = "too_few_frames"  # a face was not scored: its picture hardly ever changes
    COLOUR_NOT_UNDERSTOOD = "colour_not_understood"  # no score of such pixels can be trusted


LEAST_LOOKED_AT = 0.7  # share of a track that its clips must show before a face is called real


@dataclass(frozen=True)
class Part:
    """The most suspicious stretch and the most suspicious clip of a face's track."""

    start_s: float  # time of the stretch's first frame
    end_s: float  # time of its last frame
    probability: float  # from the mean over its clips, calibrated like that of a whole track
    # How many stretches the video has, over all of its tracks that are longer than a stretch. 1 if
    # the stretch is the whole track.
    count: int
    moment: float  # the probability of the most suspicious single clip


@dataclass(frozen=True)
class FaceQuality:
    """Measures of a face over its track, compared with the faces that the model knows."""

    face_px: float  # longer side of the detected box in the video's own pixels; the median
    track_s: float  # from the track's first frame to its last
    sharpness: float  # variance of the crops' Laplacian over that of their grey; the median
    brightness: float  # mean grey of the crops, in [0, 1]; the median
    looked_at_ratio: float = 1.0  # share of the track's time that its clips show
    grain: float = 0.0  # noise of the crops in grey levels, as a deviation; the median


@dataclass(frozen=True)
class Limits:
    """The thresholds and limits of a model's verdicts: `learn` learns, `judge` applies them."""

    fake_from: float | None  # fake from this probability on; None: no probability is enough
    real_to: float | None  # real up to this probability; None: no probability is low enough
    min_face_px: float
    min_track_s: float
    min_sharpness: float
    max_sharpness: float
    min_brightness: float
    max_brightness: float
    max_error_ratio: float  # the share of wrong verdicts in each class that was allowed
    reals: int  # validation videos that the thresholds were learned from (or validation clips, if
    fakes: int  # the fakes are self-blended)
    tracks: int  # tracks that the other limits were learned from
    # (count, probability): in a video of up to `count` stretches, one stretch of that probability
    # or more makes its face fake. Both numbers rise. Empty: a stretch alone is never enough.
    stretches: tuple[tuple[int, float], ...] = ()

    def stretch_from(self, count: int) -> float | None:
        """Return the probability at which the worst of `count` stretches makes a face fake."""
        return next((chance for most, chance in self.stretches if count <= most), None)


NOTHING_LEARNED = Limits(None, None, 0.0, 0.0, 0.0, math.inf, 0.0, 1.0, 0.0, 0, 0, 0)


def learn(
    labels_N: Sequence[int],
    probabilities_N: Sequence[float],
    qualities: Sequence[FaceQuality],
    *,
    max_error_ratio: float,
    outlier_ratio: float,
    real_stretches: Sequence[Sequence[float]] = (),
    stretch_error_ratio: float = 0.0,
) -> Limits:
    """Return the limits learned from scored validation videos and from the quality of known faces.

    Label 1 is fake. real_stretches has the probabilities of all stretches of each real video.
    stretch_error_ratio is the part of max_error_ratio that is spent on stretches: the thresholds
    of whole tracks are learned for the rest of it, so that a real video is called fake with a
    chance of at most max_error_ratio in all.

    Each of the other limits is set so that at most a share of outlier_ratio of the known faces,
    but at least one, lies at or beyond it. With few faces it is the smallest or largest value seen
    (conformal p-value of an outlier: Bates et al., 2023, arXiv:2104.08279, section 2.1).
    """
    lower = max(1, math.floor(outlier_ratio * (len(qualities) + 1) + 1e-9)) - 1
    upper = -1 - lower
    sharpness = sorted(quality.sharpness for quality in qualities)
    brightness = sorted(quality.brightness for quality in qualities)
    reals = [p for p, label in zip(probabilities_N, labels_N, strict=True) if label == 0]
    fakes = [p for p, label in zip(probabilities_N, labels_N, strict=True) if label == 1]
    fake_from, real_to = thresholds(reals, fakes, max_error_ratio - stretch_error_ratio)
    return Limits(
        fake_from=fake_from,
        real_to=real_to,
        min_face_px=sorted(quality.face_px for quality in qualities)[lower],
        min_track_s=sorted(quality.track_s for quality in qualities)[lower],
        min_sharpness=sharpness[lower],
        max_sharpness=sharpness[upper],
        min_brightness=brightness[lower],
        max_brightness=brightness[upper],
        max_error_ratio=max_error_ratio,
        reals=len(reals),
        fakes=len(fakes),
        tracks=len(qualities),
        stretches=tuple(
            (count, max(chance, fake_from))
            for count, chance in stretch_thresholds(real_stretches, stretch_error_ratio)
            if fake_from is not None
        ),
    )


def stretch_thresholds(
    real_stretches: Sequence[Sequence[float]], max_error_ratio: float
) -> list[tuple[int, float]]:
    """Return pairs (count, probability), as Limits.stretches has them.

    real_stretches has the probabilities of all stretches of each real video, one sequence a video.
    The p-value of a stretch of a new video is (1 + s) / (n + 1), where s sums, over the n real
    videos, the share of their stretches with at least its probability: hierarchical conformal
    prediction (Lee, Barber & Willett, 2023, arXiv:2306.06342, section 3), in which a video counts
    once, however long it is. The worst of m stretches makes its face fake if m times its p-value
    is at most max_error_ratio (Bonferroni's correction). So a real video like the known ones is
    called fake because of a stretch with at most that chance, however long it is and however alike
    its stretches are. m stretches need m / max_error_ratio - 1 real videos. Counts are powers of
    two: a number in between takes the next of them.

    >>> stretch_thresholds([[0.1, 0.2]] * 39, 0.05)  # for 2, no known stretch may be as probable
    [(2, 0.5)]
    >>> stretch_thresholds([[0.1, 0.2]] * 38 + [[0.1, 0.9]], 0.05)
    [(2, 0.9000000000000001)]
    >>> stretch_thresholds([[0.1, 0.2]] * 38, 0.05)  # 2 / 39 is more than 0.05
    []
    """
    weighed = sorted(
        ((chance, 1 / len(video)) for video in real_stretches for chance in video), reverse=True
    )
    found: list[tuple[int, float]] = []
    count = 2
    while True:
        allowed = max_error_ratio * (len(real_stretches) + 1) / count - 1 + 1e-9
        if allowed < 0:
            return found
        above, highest = 0.0, 0.0
        for chance, weight in weighed:
            above += weight
            if above > allowed:
                highest = math.nextafter(chance, math.inf)
                break
        if highest > 1:
            return found
        found.append((count, max(highest, 0.5)))
        count *= 2


def thresholds(
    reals: Sequence[float], fakes: Sequence[float], max_error_ratio: float
) -> tuple[float | None, float | None]:
    """Return the lowest probability that is called fake and the highest that is called real.

    Class-conditional split-conformal prediction (Angelopoulos & Bates, 2021, arXiv:2107.07511,
    section 4.2): a class is ruled out where its conformal p-value, the rank of the probability
    among the n known ones of that class over n + 1, is at most max_error_ratio. So a new video
    like the known ones is given the wrong verdict with at most that chance, whatever the scores'
    distribution and the share of fakes. A class of fewer than 1 / max_error_ratio - 1 videos can't
    be ruled out: the other one's threshold is None.

    If every probability rules out at least one class, some rule out both. The ratio is then
    lowered as far as that stays true, which gives the narrowest inconclusive band and the fewest
    errors. No threshold crosses 0.5: nothing is called real that is more probably fake, or fake
    that is more probably real.

    >>> thresholds([0.1] * 8 + [0.6], [0.4] + [0.9] * 8, 0.1)  # the classes overlap
    (0.6000000000000001, 0.39999999999999997)
    >>> thresholds([0.1] * 8 + [0.3], [0.7] + [0.9] * 8, 0.1)  # the classes do not overlap
    (0.7, 0.3)
    >>> thresholds([0.1] * 8, [0.9] * 9, 0.1)  # 8 real ones are too few to rule real out
    (None, 0.49999999999999994)
    """
    reals, fakes = sorted(reals, reverse=True), sorted(fakes)
    ratios = [rank / (len(some) + 1) for some in (reals, fakes) for rank in range(1, len(some) + 1)]
    for ratio in (*sorted(ratio for ratio in ratios if ratio < max_error_ratio), max_error_ratio):
        highest_real, lowest_fake = _at_rank(reals, ratio), _at_rank(fakes, ratio)
        if highest_real is not None and lowest_fake is not None and highest_real < lowest_fake:
            return max(lowest_fake, 0.5), min(highest_real, math.nextafter(0.5, 0))
    # highest_real and lowest_fake are now those at max_error_ratio, the last ratio of the loop.
    fake_from = None if highest_real is None else math.nextafter(highest_real, math.inf)
    real_to = None if lowest_fake is None else math.nextafter(lowest_fake, -math.inf)
    return (
        None if fake_from is None or fake_from > 1 else max(fake_from, 0.5),
        None if real_to is None or real_to < 0 else min(real_to, math.nextafter(0.5, 0)),
    )


def _at_rank(ordered: Sequence[float], ratio: float) -> float | None:
    """Return the last probability that may be an error at that ratio; None if none may be."""
    rank = math.floor(ratio * (len(ordered) + 1) + 1e-9)  # 0.29 * 100 is a little less than 29
    return ordered[rank - 1] if rank else None


def judge(
    probability: float, part: Part, quality: FaceQuality, limits: Limits
) -> tuple[Verdict, tuple[Doubt, ...]]:
    """Return a face's verdict, and the doubts that make it inconclusive.

    probability is that of the whole track. A face is fake if that or its worst stretch says so. It
    is real only if its worst stretch would also be called real and no single clip looks fake.
    """
    sharpness, brightness = quality.sharpness, quality.brightness
    is_known = (
        sharpness <= limits.max_sharpness
        and limits.min_brightness <= brightness <= limits.max_brightness
    )
    fake_from = math.inf if limits.fake_from is None else limits.fake_from
    stretch_from = limits.stretch_from(part.count) if part.count > 1 else None
    fake = probability >= fake_from or (
        stretch_from is not None and part.probability >= stretch_from
    )
    looks_real = limits.real_to is not None and probability <= limits.real_to
    is_real_throughout = (
        limits.real_to is not None
        and part.probability <= limits.real_to
        and part.moment < fake_from
    )
    found = {
        Doubt.BETWEEN_THRESHOLDS: not (fake or looks_real),
        Doubt.SUSPICIOUS_STRETCH: looks_real and not fake and not is_real_throughout,
        Doubt.PARTLY_SEEN: not fake and quality.looked_at_ratio < LEAST_LOOKED_AT,
        Doubt.FACE_TOO_SMALL: quality.face_px < limits.min_face_px,
        Doubt.TOO_SHORT: quality.track_s < limits.min_track_s - 1e-6,  # times have four digits
        Doubt.TOO_BLURRED: sharpness < limits.min_sharpness,
        Doubt.OUT_OF_TRAINED_RANGE: not is_known,
    }
    doubts = tuple(doubt for doubt, is_there in found.items() if is_there)
    if doubts:
        return Verdict.INCONCLUSIVE, doubts
    return (Verdict.FAKE if fake else Verdict.REAL), ()


def judge_video(
    faces: Sequence[tuple[Verdict, Sequence[Doubt]]],
    *,
    is_whole: bool,
    of_file: Collection[Doubt] = (),
) -> tuple[Verdict, tuple[Doubt, ...]]:
    """Return a video's verdict from those of its faces, and the doubts that make it inconclusive.

    One fake face makes the video fake. It is real only if all of it was seen and every face is
    real. of_file are doubts about the whole file: with any of them the video is not called real,
    and if its colours are not understood, it is not called fake either.
    """
    verdicts = {verdict for verdict, _ in faces}
    if Verdict.FAKE in verdicts and Doubt.COLOUR_NOT_UNDERSTOOD not in of_file:
        return Verdict.FAKE, ()
    found = {doubt for _, doubts in faces for doubt in doubts} | set(of_file)
    if not faces:
        found.add(Doubt.NO_SCORE)
    if not is_whole:
        found.add(Doubt.BROKEN_OFF)
    if found:
        return Verdict.INCONCLUSIVE, tuple(doubt for doubt in Doubt if doubt in found)
    return Verdict.REAL, ()


# ---------------------------------------------------------------- stored with a model


def limits_from(values: Mapping[str, Any]) -> Limits:
    """Return the limits that a model's settings hold; values are untrusted.

    Raises:
        KeyError: one is missing.
        ValueError: one is unknown, or not such a number.
    """
    names = {field.name for field in fields(Limits)}
    if unknown := sorted(set(values) - names):
        raise ValueError(f"limits has an unknown key {unknown[0]!r}")
    limits = Limits(
        **{name: values[name] for name in names if name != "stretches"},
        stretches=_stretches_from(values["stretches"]),
    )
    for name, value in vars(limits).items():
        if (value is None and name in ("fake_from", "real_to")) or name == "stretches":
            continue
        kinds = (int,) if name in ("reals", "fakes", "tracks") else (int, float)
        # JSON allows integers of any size; one beyond a float's range breaks arithmetic later.
        if type(value) not in kinds or not 0 <= value <= sys.float_info.max:
            raise ValueError(f"limits.{name} should be a number from 0 on; found {value!r}")
    fake_from, real_to = limits.fake_from, limits.real_to
    if fake_from is not None and real_to is not None and fake_from <= real_to:
        raise ValueError(f"limits.fake_from {fake_from} should be above real_to {real_to}")
    return limits


def _stretches_from(values: Any) -> tuple[tuple[int, float], ...]:
    """Return Limits.stretches from JSON.

    Raises:
        ValueError: values are not pairs of a count and a probability, both rising.
    """
    if not isinstance(values, list | tuple):
        raise ValueError(f"limits.stretches should be a list of pairs; found {values!r:.60}")
    pairs = []
    before = (1, 0.5)
    for pair in values:
        is_pair = (
            isinstance(pair, list | tuple)
            and [type(value) for value in pair] in ([int, float], [int, int])
            and pair[0] > before[0]
            and before[1] <= pair[1] <= 1
        )
        if not is_pair:
            raise ValueError(
                "limits.stretches should be pairs of a count and a probability, both rising; "
                f"found {pair!r:.60}"
            )
        before = pair[0], float(pair[1])
        pairs.append(before)
    return tuple(pairs)


def strictest(several: Sequence[Limits]) -> Limits:
    """Return the strictest of several models' limits, for the mean of these models.

    Nobody validated the mean, so it gives no verdict that one of the models would not give. If the
    models know no faces in common, every verdict is inconclusive.
    """
    stretches = []
    for count in sorted({count for limits in several for count, _ in limits.stretches}):
        chances = [limits.stretch_from(count) for limits in several]
        known = [chance for chance in chances if chance is not None]
        if len(known) == len(several):
            stretches.append((count, max(known)))
    fakes_from = [limits.fake_from for limits in several]
    reals_to = [limits.real_to for limits in several]
    return Limits(
        fake_from=None if None in fakes_from else max(f for f in fakes_from if f is not None),
        real_to=None if None in reals_to else min(r for r in reals_to if r is not None),
        min_face_px=max(limits.min_face_px for limits in several),
        min_track_s=max(limits.min_track_s for limits in several),
        min_sharpness=max(limits.min_sharpness for limits in several),
        max_sharpness=min(limits.max_sharpness for limits in several),
        min_brightness=max(limits.min_brightness for limits in several),
        max_brightness=min(limits.max_brightness for limits in several),
        max_error_ratio=max(limits.max_error_ratio for limits in several),
        reals=sum(limits.reals for limits in several),
        fakes=sum(limits.fakes for limits in several),
        tracks=sum(limits.tracks for limits in several),
        stretches=tuple(stretches),
    )
