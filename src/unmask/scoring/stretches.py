"""The stretches of a face's track: what tells against it in a part of a video alone.

Plain numbers. A stretch is a few clips in a row, about clips.stretch_s together: long enough that
one odd clip does not make it, short enough that a forged part is not lost in the mean of a long
video. It has as many clips as a video of that length, so that its mean is as sure as the mean of a
whole short video, and what a model has learned of these holds for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unmask.geometry import Geometry


@dataclass(frozen=True)
class Stretch:
    """The most suspicious stretch of a face's track."""

    first: int  # its first clip, counted from 0
    last: int  # its last clip
    logit: float  # mean over its clips, before temperature
    count: int  # how many stretches the track has: this one is the worst of so many


def clips_in(stretch_s: float, geometry: Geometry) -> int:
    """Return how many clips, side by side, come nearest to that length; at least one."""
    return max(1, round(stretch_s / (geometry.span_s + geometry.interval_s)))


def means(logits: Sequence[float], width: int) -> list[float]:
    """Return the mean of every `width` neighbours; of all, where they are no more than that."""
    width = min(width, len(logits))
    return [math.fsum(logits[n : n + width]) / width for n in range(len(logits) - width + 1)]


def worst(logits: Sequence[float], width: int) -> Stretch:
    """Return the stretch of `width` clips with the highest mean; the first of several equal ones.

    >>> worst([0.0, -2.0, 3.0, 5.0, 1.0], 2)
    Stretch(first=2, last=3, logit=4.0, count=4)
    """
    found = means(logits, width)
    logit = max(found)
    first = found.index(logit)
    return Stretch(first, first + min(width, len(logits)) - 1, logit, len(found))
