"""Boxes and words on pictures: how a verdict looks, told by word and line as well as colour."""

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask.records import Box
from unmask.scoring.verdicts import Verdict

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
_Place = tuple[int, int, int, int]  # left, top, right, bottom of a label, in pixels

# Okabe & Ito, "Color universal design", 2008. Each is light enough for black letters.
COLOURS: dict[Verdict, Colour] = {
    Verdict.FAKE: (0xE6, 0x75, 0x1A),  # their vermillion, a little lighter
    Verdict.REAL: (0x56, 0xB4, 0xE9),
    Verdict.INCONCLUSIVE: (0xF0, 0xE4, 0x42),
}
WORDS = {Verdict.FAKE: "FAKE", Verdict.REAL: "REAL", Verdict.INCONCLUSIVE: "UNCLEAR"}
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LETTER_RATIO = 1 / 28  # of the picture's shorter side
_MIN_LETTER_PX = 10.0
_FONT_PX = 21.0  # height of this font's capitals at scale 1
_CORNER_RATIO = 0.2


@dataclass(frozen=True)
class Marked:
    """A face as it is drawn: where, what is said of it, and in which look."""

    box_xyxy: Box  # in pixels of the picture
    words: str  # in ASCII: OpenCV's font has no more
    verdict: Verdict


def draw(picture_HWC: Picture, faces: list[Marked]) -> Picture:
    """Return a copy of the picture with the faces' boxes, the labels over all boxes."""
    drawn = np.ascontiguousarray(picture_HWC).copy()
    letter_px = max(_MIN_LETTER_PX, min(drawn.shape[:2]) * _LETTER_RATIO)
    line_px = max(2, round(letter_px / 6))
    for face in faces:
        _draw_box(drawn, face, line_px)
    taken: list[_Place] = []
    for face in faces:
        _draw_label(drawn, face, letter_px, line_px, taken)
    return drawn


def as_jpeg_uri(picture_HWC: Picture, quality: int) -> str:
    """Return the picture as a `data:` address with all of it in it; quality is 1 to 100."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    is_coded, coded = cv2.imencode(".jpg", picture_HWC[..., ::-1], options)
    assert is_coded
    return f"data:image/jpeg;base64,{base64.b64encode(coded.tobytes()).decode()}"


def _draw_box(picture_HWC: Picture, face: Marked, line_px: int) -> None:
    """Draw all of the frame for a fake, else its corners: also seen without colours."""
    left, top, right, bottom = (round(side) for side in face.box_xyxy)
    lines = [((left, top), (right, top)), ((left, bottom), (right, bottom)),
             ((left, top), (left, bottom)), ((right, top), (right, bottom))]  # fmt: skip
    if face.verdict is not Verdict.FAKE:
        lines = [part for line in lines for part in _ends(*line)]
    # Black beneath, so that it is seen on a ground of its own colour.
    for colour, width in (((0, 0, 0), line_px + 2), (COLOURS[face.verdict], line_px)):
        for start, end in lines:
            cv2.line(picture_HWC, start, end, colour, width, cv2.LINE_AA)


def _ends(
    start: tuple[int, int], end: tuple[int, int]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    reach_x = round((end[0] - start[0]) * _CORNER_RATIO)
    reach_y = round((end[1] - start[1]) * _CORNER_RATIO)
    return [
        (start, (start[0] + reach_x, start[1] + reach_y)),
        ((end[0] - reach_x, end[1] - reach_y), end),
    ]


def _draw_label(
    picture_HWC: Picture, face: Marked, letter_px: float, line_px: int, taken: list[_Place]
) -> None:
    """Write above the box, inside its upper edge where there is no room above, over no other."""
    height, width, _ = picture_HWC.shape
    scale, stroke = letter_px / _FONT_PX, max(1, round(letter_px / 9))
    (text_width, text_height), below = cv2.getTextSize(face.words, _FONT, scale, stroke)
    pad = max(3, line_px)
    wide, tall = text_width + 2 * pad, text_height + below + 2 * pad
    left, top, *_ = (round(side) for side in face.box_xyxy)
    left = max(0, min(left, width - wide))
    first = max(0, min(top - tall if top >= tall else top, height - tall))
    tops = (at for at in range(first, height - tall + 1) if _is_free(left, at, wide, tall, taken))
    top = next(tops, first)  # where others leave no room, it stands over them
    taken.append((left, top, left + wide, top + tall))
    corner = left + wide, top + tall
    cv2.rectangle(picture_HWC, (left, top), corner, COLOURS[face.verdict], cv2.FILLED)
    place = left + pad, top + pad + text_height
    cv2.putText(
        picture_HWC, face.words, place, _FONT, scale, (0, 0, 0), stroke, cv2.LINE_AA
    )  # fmt: skip


def _is_free(left: int, top: int, wide: int, tall: int, taken: list[_Place]) -> bool:
    return all(
        left >= right or left + wide <= other or top >= bottom or top + tall <= above
        for other, above, right, bottom in taken
    )
