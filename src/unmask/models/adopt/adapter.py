"""What an adapter is: all that turns a published file into a model's folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unmask.models.adopt.record import Architecture, Licence, X3d
from unmask.params import Clips, Detect, Faces

if TYPE_CHECKING:  # takes seconds
    import torch

State = Mapping[str, "torch.Tensor"]

# How faces are found and cropped, but for side and margin: as in the sample's params.yaml, which a
# test compares. Whoever adopts a model may have no params.yaml.
_DETECT = Detect(max_side_px=640, min_face_px=24, thresholds=(0.6, 0.7, 0.7), min_score=0.9)


@dataclass(frozen=True)
class Crop:
    """The picture of a face that a net is shown."""

    side_px: int
    margin_ratio: float  # added on every side, as a share of the detected box's longer side

    def faces(self) -> Faces:
        """Return how faces are cropped for it: at the side that the net takes, never blown up."""
        return Faces(
            rate_fps=10.0, side_px=self.side_px + self.side_px % 2,
            margin_ratio=self.margin_ratio, crf=14, detect=_DETECT, detect_every_s=1.0,
            smooth_s=0.3, min_track_s=1.2, max_gap_s=0.7, min_overlap=0.3, max_failed_ratio=0.5,
            stall_s=60.0,
        )  # fmt: skip

    def clips(self) -> Clips:
        """Return its clips: four frames, 0.4 s apart, side by side, so that all of a track is seen.

        Of ten seconds that is 28 frames, where most of the originals take 32. Beyond two minutes
        clips are spread over the track.
        """
        return Clips(
            frames=4, interval_s=0.4, side_px=self.side_px, brightness=None, max_per_track=75,
            stretch_s=3.0, max_padding_ratio=0.6,
        )  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A published file: its tensors, by their own names, and the JSON files beside it."""

    tensors: dict[str, "torch.Tensor"]
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def config(self, name: str) -> Mapping[str, Any]:
        """Return a JSON file beside the weights; empty where there is none."""
        return self.configs.get(name, {})


@dataclass(frozen=True)
class Converted:
    """A net, its weights by the names of that net, and the picture that it is shown."""

    architecture: Architecture
    tensors: dict[str, "torch.Tensor"]
    crop: Crop


@dataclass(frozen=True)
class ConvertedStart:
    """Weights for a training to start from, by the names of the backbone's net, without a head."""

    backbone: X3d
    tensors: dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Reference:
    """A picture that the original's repository names, with what it prints for it, if anything."""

    url: str
    sha256: str
    probability: float | None  # of being fake; None where the repository prints none
    is_fake: bool


@dataclass(frozen=True)
class Check:
    """What the published answers were computed from."""

    references: tuple[Reference, ...]
    resize_px: int  # of the shorter side, bilinear with antialiasing, as PIL does
    crop_px: int  # the middle of that
    tolerance: float
    source: str  # where the answers are printed


@dataclass(frozen=True)
class Adapter:
    """A published detector: where it is, what it is, and whose names its file uses."""

    name: str  # small letters, digits, -
    title: str
    repositories: tuple[str, ...]  # of the Hub, owner/name, this adapter's by default
    files: tuple[str, ...]  # names of the weights in a repository; the first that is there
    licence: Licence
    trained_on: str
    published: str  # numbers, with their source
    read: str  # what the adapter was written from
    differs: str  # what our crops do otherwise than the original
    untried: str
    convert: Callable[[Published], Converted | ConvertedStart]
    configs: tuple[str, ...] = ()  # JSON files beside the weights that convert reads, if there
    check: Check | None = None
    sha256: str | None = None  # what the file must have; None: pinned at the first adoption
