"""The clips that backbones eat: plain numbers, so that params can be checked without torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """The clip a backbone eats."""

    frames: int
    interval_s: float
    side_px: int

    @property
    def span_s(self) -> float:
        """Return the time from the first frame to the last."""
        return (self.frames - 1) * self.interval_s


# Frames x sampling rate at 30 frames/s and side: Feichtenhofer, "X3D", CVPR 2020, table 3, as in
# PyTorchVideo's hub (crop side at test time).
GEOMETRIES = {
    "x3d_xs": Geometry(4, 12 / 30, 182),
    "x3d_s": Geometry(13, 6 / 30, 182),
    "x3d_m": Geometry(16, 5 / 30, 256),
    "x3d_l": Geometry(16, 5 / 30, 312),
}


def clip_geometry(
    backbone: str, *, frames: int | None, interval_s: float | None, side_px: int | None
) -> Geometry:
    """Return the backbone's own geometry, but where a value is given."""
    own = GEOMETRIES[backbone]
    return Geometry(frames or own.frames, interval_s or own.interval_s, side_px or own.side_px)
