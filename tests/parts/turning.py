"""Two people beside each other who turn their heads, one of them half covered: made from stills."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from painted import Picture, still

SIDE_PX = 260  # of a person's picture
_HEAD = 0.36  # the head's radius as a share of it
_PERIOD_S = 4.0  # of looking to one side, to the other and back


def turned(picture_HWC: Picture, turn_deg: float) -> Picture:
    """Return a portrait whose head has turned about its upright axis, to the right if above 0.

    The head is a cylinder on which the portrait was painted from the front: near an edge of the
    face the picture shrinks together, and what was beyond its edge repeats the last that was seen.
    """
    side = picture_HWC.shape[0]
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    radius = _HEAD * side
    across = (columns - side / 2) / radius
    inside = np.abs(across) < 1
    depth = np.sqrt(np.where(inside, 1 - across**2, 0))
    turn = math.radians(turn_deg)
    # Where this point of the surface was when it was painted; what was behind is not known.
    before = across * math.cos(turn) - depth * math.sin(turn)
    was_seen = across * math.sin(turn) + depth * math.cos(turn) > 0
    before = np.where(was_seen, before, np.sign(-turn_deg) * 1.0)
    from_columns = np.where(inside, before * radius + side / 2, columns).astype(np.float32)
    found: Picture = cv2.remap(picture_HWC, from_columns, rows, cv2.INTER_LINEAR)
    return found


def two_turning(
    one: str, other: str, *, most_deg: float, rate_fps: float
) -> Callable[[int, tuple[int, int]], Picture]:
    """Return a painter of two people who turn to either side, while a hand passes the second one.

    Only the first one turns so far as most_deg; the second one half of that.
    """
    people = [still(name, SIDE_PX) for name in (one, other)]
    skin = people[1][SIDE_PX // 2, SIDE_PX // 2].astype(np.uint8)

    def paint(index: int, size: tuple[int, int]) -> Picture:
        rng = np.random.default_rng(1)
        picture_HWC = rng.integers(90, 110, (size[1], size[0], 3), dtype=np.uint8)
        phase = 2 * math.pi * index / rate_fps / _PERIOD_S
        for place, (person, share) in enumerate(zip(people, (1.0, 0.5), strict=True)):
            head = turned(person, share * most_deg * math.sin(phase + place))
            if place == 1:
                _cover(head, skin, phase)
            left = size[0] * (2 * place + 1) // 4 - SIDE_PX // 2 + round(12 * math.sin(2 * phase))
            top = (size[1] - SIDE_PX) // 2 + round(6 * math.sin(3 * phase + place))
            picture_HWC[top : top + SIDE_PX, left : left + SIDE_PX] = head
        return picture_HWC

    return paint


def _cover(head_HWC: Picture, colour_3: NDArray[np.uint8], phase: float) -> None:
    """Cover the lower face by a hand that comes and goes."""
    reach = max(0.0, math.sin(1.5 * phase))
    top = round(SIDE_PX * (1.05 - 0.42 * reach))
    centre = SIDE_PX // 2 + round(20 * math.cos(phase))
    cv2.ellipse(
        head_HWC, (centre, top + 60), (55, 60), 0, 0, 360, tuple(map(int, colour_3)), cv2.FILLED
    )
