"""What a probability lets one say: fake, real, or neither, and why not. Plain numbers.

The limits are learned on validation videos and stored with the model. They say what the model saw:
a face beyond them may well be scored rightly, but nothing shows that it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What an answer says of a face, or of a video."""

    FAKE = "fake"
    REAL = "real"
    INCONCLUSIVE = "inconclusive"


class Doubt(StrEnum):
    """Why an answer is inconclusive, or, beside `fake`, what else may be wrong with a video."""

    NO_SCORE = "no_score"  # no face, or no video that can be read: the answer's reason says which
    BETWEEN_THRESHOLDS = "between_thresholds"  # neither low nor high enough to tell
    FACE_TOO_SMALL = "face_too_small"  # these compare a face with those the model was made with
    TOO_SHORT = "too_short"
    TOO_BLURRED = "too_blurred"
    OUT_OF_TRAINED_RANGE = "out_of_trained_range"  # darker, brighter or grainier
    BROKEN_OFF = "broken_off"  # the file ends before its video does: what follows was not seen
    FACE_IN_DOUBT = "face_in_doubt"  # of a video: a face of it is inconclusive, none is fake


@dataclass(frozen=True)
class Look:
    """How a face looks over its track: what says whether the model knows such faces."""

    face_px: float  # longer side of the detected box in the video's own pixels; the median
    track_s: float  # from the track's first frame to its last
    sharpness: float  # variance of the crops' Laplacian over that of their grey; the median
    brightness: float  # mean grey of the crops, in [0, 1]; the median


@dataclass(frozen=True)
class Limits:
    """Where a model's answers begin and end: learned by learn, applied by judge."""

    fake_from: float | None  # a probability at or above it says fake; None: nothing does
    real_to: float | None  # one at or below it says real; None: nothing does
    min_face_px: float
    min_track_s: float
    min_sharpness: float
    max_sharpness: float
    min_brightness: float
    max_brightness: float
    max_error_ratio: float  # of each class: what the two thresholds were learned for
    reals: int  # validation videos that they were learned from
    fakes: int
    tracks: int  # faces that the other limits were learned from


