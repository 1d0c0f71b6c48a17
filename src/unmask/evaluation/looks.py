"""What can be told of a video without a detector: how it was filmed, coded, and what it shows.

Plain quantities of its file and of its main face, and the features of an image net that has never
seen a forgery.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask.geometry import GEOMETRIES, Geometry
from unmask.models.predict import measure
from unmask.records import FaceTrack, ForgedPart, VideoFaces
from unmask.runtime.confinement import Confinement
from unmask.runtime.processes import run_jobs
from unmask.video.decode import probe
from unmask.video.failures import DecodeError

if TYPE_CHECKING:  # importing torch takes seconds, which the workers that probe files need not wait
    from unmask.models.clip_times import Image

# By name: what a table calls them.
QUANTITIES = {
    "face_px": "face width (px)",
    "sharpness": "sharpness",
    "grain": "grain (grey levels)",
    "saturation": "saturation",
    "file_bytes": "file size (bytes)",
    "bits_per_s": "bitrate (bits/s)",
}
FROZEN_NET = "efficientnet_lite0"
PICTURES = 4  # of a face, spread over its track
_STALL_S = 60.0
# Immerkaer 1996: the difference of two masks of the Laplacian, blind to edges that are straight.
_NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64)


@dataclass(frozen=True)
class FileFacts:
    """What a video's file is, apart from its pictures; None where it can't be read."""

    size_bytes: int | None
    duration_s: float | None  # as it declares it


@dataclass(frozen=True, eq=False)
class Look:
    """What a video looks like to somebody who knows nothing of forgeries."""

    quantities: Mapping[str, float]  # by QUANTITIES; what could not be measured is not there
    features_FD: NDArray[np.float32]  # of FROZEN_NET, one row a picture


class FrozenNet:
    """An image net with its ImageNet weights, up to the features that its head reads."""

    def __init__(self, cache_dir: Path) -> None:
        """Load the net.

        Raises:
            WeightsError: the package that brings its weights is missing, or holds other ones.
        """
        import torch

        from unmask.models import backbones

        net = backbones.build(FROZEN_NET, dropout=0.0)
        backbones.load_weights(net, "imagenet", FROZEN_NET, sha256=None, cache_dir=cache_dir)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net: Any = net.eval().to(self.device)
        if self.device.type == "cpu":
            backbones.lay_out_for_cpu(net)

    def features(self, frames_THWC: "Image") -> NDArray[np.float32]:
        """Return a row of features for each picture."""
        import torch

        from unmask.models.clip_times import to_input

        clip_CTHW = torch.from_numpy(to_input(frames_THWC, GEOMETRIES[FROZEN_NET].side_px))
        pictures_TCHW: torch.Tensor = clip_CTHW.transpose(0, 1).to(self.device)
        with torch.inference_mode():
            scaled = pictures_TCHW * self.net.scale_CHW + self.net.shift_CHW
            maps = self.net.image.forward_features(scaled)
            features: torch.Tensor = self.net.image.forward_head(maps, pre_logits=True)
        return np.asarray(features.float().cpu().numpy())


def main_face(found: VideoFaces, forged: ForgedPart | None = None) -> FaceTrack | None:
    """Return the face that is seen longest, of two the wider one; None where there is no face.

    Of a training fake whose record says where the forged face is, it is the longest of those.
    """
    tracks = list(found.tracks)
    if forged is not None:
        tracks = [
            track for track in tracks
            if any(map(forged.holds, track.times_T, track.boxes_T4))
        ]  # fmt: skip
    return max(tracks, key=lambda t: (t.end_s - t.times_T[0], _side_px(t)), default=None)


def look_at(
    faces_dir: Path, track: FaceTrack, facts: FileFacts, margin_ratio: float, net: FrozenNet
) -> Look:
    """Return what a video looks like, by its main face and its file.

    margin_ratio is that of the crops: the face's width is its detected box's.

    Raises:
        DatasetError: the crop file holds fewer frames than its row says.
    """
    from unmask.models.clip_times import read_clips

    times = track.times_T
    places = np.unique(np.linspace(0, len(times) - 1, PICTURES + 2).round().astype(int)[1:-1])
    starts_s = [times[place] for place in places]
    one = Geometry(frames=1, interval_s=0.0, side_px=GEOMETRIES[FROZEN_NET].side_px)
    frames = np.concatenate(list(read_clips(faces_dir / track.file, times, starts_s, one)))
    quantities = {
        "face_px": _side_px(track) / (1 + 2 * margin_ratio),
        "sharpness": median(measure(frame)[0] for frame in frames),
        "grain": median(measure_grain(frame) for frame in frames),
        "saturation": fmean(measure_saturation(frame) for frame in frames),
    }
    if facts.size_bytes is not None:
        quantities["file_bytes"] = float(facts.size_bytes)
        if facts.duration_s:
            quantities["bits_per_s"] = 8 * facts.size_bytes / facts.duration_s
    return Look(quantities, net.features(frames))


def measure_grain(frame_HWC: "Image") -> float:
    """Return the deviation of a picture's noise in grey levels, by its middle.

    Immerkaer, Fast Noise Variance Estimation, Computer Vision and Image Understanding 64 (1996).
    """
    grey = cv2.cvtColor(_middle(frame_HWC), cv2.COLOR_RGB2GRAY)
    inner = cv2.filter2D(grey.astype(np.float64), -1, _NOISE_MASK)[1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(inner).mean())


def measure_saturation(frame_HWC: "Image") -> float:
    """Return the mean saturation of a picture's middle, in [0, 1]: (max - min) / max of RGB."""
    middle = _middle(frame_HWC).astype(np.float64)
    most, least = middle.max(2), middle.min(2)
    return float(np.mean((most - least) / np.maximum(most, 1.0)))


def _middle(frame_HWC: "Image") -> "Image":
    height, width = frame_HWC.shape[0] // 4, frame_HWC.shape[1] // 4
    return frame_HWC[height:-height, width:-width]


def _side_px(track: FaceTrack) -> float:
    return median(right - left for left, _, right, _ in track.boxes_T4)


# ---------------------------------------------------------------- files


@dataclass(frozen=True)
class _Job:
    place: int
    path: Path


@dataclass(frozen=True)
class _Found:
    place: int
    duration_s: float | None


def file_facts(paths: Sequence[Path], *, workers: int) -> list[FileFacts]:
    """Return each file's size and declared length, asked for by worker processes."""
    durations = {found.place: found.duration_s for found in _probe_all(paths, workers)}
    return [FileFacts(_size(path), durations[place]) for place, path in enumerate(paths)]


def _probe_all(paths: Sequence[Path], workers: int) -> Iterator[_Found]:
    jobs = [_Job(place, path) for place, path in enumerate(paths)]
    yield from run_jobs(
        jobs, _probe, _start_worker, workers,
        crashed=_unknown, exhausted=_unknown, stalled=_unknown, stall_s=_STALL_S,
        confined=Confinement(),
    )  # fmt: skip


def _start_worker() -> None:
    cv2.setNumThreads(1)


def _probe(job: _Job) -> _Found:
    try:
        return _Found(job.place, probe(job.path).duration_s)
    except DecodeError:
        return _unknown(job)


def _unknown(job: _Job) -> _Found:
    return _Found(job.place, None)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
