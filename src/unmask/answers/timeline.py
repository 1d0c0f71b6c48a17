"""A face's scores over time as the places of marks on a picture: numbers for a drawing in SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unmask.answers.analysis import Answer, FaceAnswer, Moment
from unmask.answers.evidence import Evidence
from unmask.scoring.verdicts import Limits

WIDTH, HEIGHT = 720, 372
LEFT, RIGHT, TOP = 68, 594, 16
SCORES_BOTTOM = 216  # of the panel of scores; below it the panel of heat
HEAT_TOP, HEAT_BOTTOM = 254, 318
MOST_MARKS = 60  # that can be told apart
_MOST_TICKS = 7
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)


@dataclass(frozen=True)
class Mark:
    """One clip: from x0 to x1, at the height of its score."""

    x0: float
    x1: float
    y: float
    kind: str  # fake, real or inconclusive: what its score alone would be called
    words: str

    @property
    def x(self) -> float:
        """Return its middle."""
        return round((self.x0 + self.x1) / 2, 1)


@dataclass(frozen=True)
class Timeline:
    """Where everything goes, in units of a picture of WIDTH x HEIGHT."""

    marks: tuple[Mark, ...]
    line: str  # through the marks' middles, as SVG takes points
    heat: str  # the outline of the heat, empty where there is none
    seconds: tuple[tuple[float, str], ...]  # ticks: x and words
    scores: tuple[tuple[float, str], ...]  # ticks: y and words
    fake_y: float | None
    real_y: float | None


def lay_out(
    answer: Answer, face: FaceAnswer, limits: Limits, evidence: Evidence | None
) -> Timeline:
    """Return the places of a face's scores, of the thresholds, and of the heat over time."""
    end_s = max(face.track.times_T[-1], answer.duration_s or 0, 0.1)

    def x(time_s: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * min(max(time_s / end_s, 0), 1), 1)

    def y(score: float) -> float:
        return round(SCORES_BOTTOM - (SCORES_BOTTOM - TOP) * score, 1)

    fake_from, real_to = limits.fake_from, limits.real_to
    marks = tuple(
        Mark(
            x(moment.time_s), x(moment.time_s + answer.clip_s), y(moment.probability),
            _kind(moment.probability, fake_from, real_to),
            f"{moment.time_s:.1f} to {moment.time_s + answer.clip_s:.1f} s: score "
            f"{moment.probability:.2f}",
        )
        for moment in _thinned(face.timeline)
    )  # fmt: skip
    return Timeline(
        marks=marks,
        line=" ".join(f"{mark.x},{mark.y}" for mark in marks),
        heat=_outline(evidence, x),
        seconds=tuple((x(time_s), clock(time_s)) for time_s in _ticks(end_s)),
        scores=tuple((y(score), f"{score:.0%}") for score in (0, 0.25, 0.5, 0.75, 1)),
        fake_y=None if fake_from is None else y(fake_from),
        real_y=None if real_to is None else y(real_to),
    )


def group(count: int) -> int:
    """Return how many neighbours share a mark, of which there are MOST_MARKS at most.

    >>> group(60), group(61), group(2400)
    (1, 2, 40)
    """
    return -(-count // MOST_MARKS)


def _thinned(moments: Sequence[Moment]) -> list[Moment]:
    """Return the worst of each group of neighbours."""
    step = group(len(moments))
    groups = [moments[start : start + step] for start in range(0, len(moments), step)]
    return [max(each, key=lambda moment: moment.probability) for each in groups]


def clock(time_s: float) -> str:
    """Return a time as a player shows it.

    >>> clock(7.25), clock(30), clock(83), clock(4000)
    ('7.2 s', '30 s', '1:23', '1:06:40')
    """
    if time_s < 60:
        return f"{time_s:.1f}".removesuffix(".0") + " s"
    minutes, seconds = divmod(int(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _kind(score: float, fake_from: float | None, real_to: float | None) -> str:
    if fake_from is not None and score >= fake_from:
        return "fake"
    return "real" if real_to is not None and score <= real_to else "inconclusive"


def _ticks(end_s: float) -> list[float]:
    step_s = next((step for step in _STEPS_S if end_s / step <= _MOST_TICKS), _STEPS_S[-1])
    return [step_s * index for index in range(int(end_s / step_s + 1e-6) + 1)]


def _outline(evidence: Evidence | None, x: Callable[[float], float]) -> str:
    """Return the heat as a filled shape that ends at its own maximum."""
    if evidence is None or not (most := max(evidence.heat_N, default=0.0)):
        return ""
    tall = HEAT_BOTTOM - HEAT_TOP
    points = [
        (x(time_s), round(HEAT_BOTTOM - tall * heat / most, 1))
        for time_s, heat in zip(evidence.times_N, evidence.heat_N, strict=True)
    ]
    ends = [(points[0][0], HEAT_BOTTOM), *points, (points[-1][0], HEAT_BOTTOM)]
    return " ".join(f"{left},{top}" for left, top in ends)
