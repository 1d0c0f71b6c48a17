"""What finds a face where each frame is one already: the frame itself.

Data sets that are shared as face crops were searched by whoever made them. To search them again
would lose those that our detector misses, and measure it instead of the model.
"""

from collections.abc import Sequence

from unmask.faces.detector import Picture
from unmask.faces.tracks import Detection
from unmask.records import Box
from unmask.video.frame import Frame

# Where the eyes, the nose and the corners of the mouth lie, as shares of a crop's side: the mean of
# the sample's crops, in which they differ by 0.02 (one standard deviation).
_POINTS = ((0.36, 0.41), (0.65, 0.41), (0.51, 0.56), (0.39, 0.72), (0.64, 0.71))


class WholeFrame:
    """A face detector to which each frame is a face that fills it, once the margin is added.

    A frame that is no square is taken whole, with black beside its shorter side.
    """

    batch = 1

    def __init__(self, margin_ratio: float) -> None:
        self._share = 1 / (1 + 2 * margin_ratio)  # of the frame's longer side

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        """Return one face for each upright RGB picture."""
        return [[self._face(picture.shape[1], picture.shape[0])] for picture in pictures]

    def follow(self, frame: Frame, boxes: Sequence[Box]) -> list[Detection | None]:
        """Return the same face for each box."""
        return [self._face(frame.width, frame.height) for _ in boxes]

    def _face(self, width: int, height: int) -> Detection:
        side = max(width, height)
        left, top, half = width / 2 - side / 2, height / 2 - side / 2, side * self._share / 2
        points_52 = tuple((left + x * side, top + y * side) for x, y in _POINTS)
        box = width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half
        return Detection(box, 1.0, points_52)
