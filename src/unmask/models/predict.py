"""From a video to the probability that a face in it is fake."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask.engine import on_cpu
from unmask.engine.cores import usable_cores
from unmask.engine.net import Net, Outputs, Values
from unmask.errors import NoMapError, WeightsError
from unmask.models import checkpoint as checkpoints
from unmask.models.checkpoint import Checkpoint
from unmask.models.clip_times import (
    Image,
    looked_at_ratio,
    moving_starts,
    read_clips,
    spread_starts,
    to_input,
)
from unmask.models.features import Features, shortened
from unmask.models.net_file import read_net
from unmask.records import FaceTrack, Reason, TrackScore, VideoFaces, VideoScore
from unmask.scoring.scores import sigmoid
from unmask.scoring.stretches import Stretch, clips_in, worst
from unmask.scoring.unlike import Look
from unmask.scoring.verdicts import FaceQuality

if TYPE_CHECKING:  # torch may not be installed
    from torch import nn

# The difference of two Laplacians: blind to what changes slowly.
_NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


logger = logging.getLogger(__name__)


class StudiedTrack(NamedTuple):
    """What the net makes of a track, and how its face looks in the clips that are scored."""

    score: TrackScore
    quality: FaceQuality
    features: list[Features]  # of each clip; empty of a net that has none


class Predictor:
    """A trained model with the crop settings it was trained with."""

    def __init__(
        self,
        net: "nn.Module | Path",
        checkpoint: Checkpoint,
        *,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Take a net, or the model's folder that holds it, for when it is needed.

        It works on CUDA where there is one, if not told; threads is how many of the processor's
        cores it keeps busy, by default all that this process may use. They change no result.
        """
        self.checkpoint = checkpoint
        self._net, self._device, self._threads = net, device, threads or usable_cores()
        self._folder = net if isinstance(net, Path) else None

    @classmethod
    def load(
        cls, model_dir: Path, *, device: str | None = None, threads: int | None = None
    ) -> "Predictor":
        """Return the predictor of a model's folder; its weights are read when they are needed.

        Raises:
            WeightsError: the folder does not hold a model of this version, or its promise was
                learned with other weights.
        """
        checkpoint = checkpoints.read_settings(model_dir)
        checkpoints.check_promise(model_dir, checkpoint)
        return cls(model_dir, checkpoint, device=device, threads=threads)

    @cached_property
    def net(self) -> Net:
        """Return what gives the logits: the portable net on a CPU; torch's on a GPU, or as a last
        resort.

        Raises:
            WeightsError: the weights are missing, damaged or another backbone's.
        """
        device = self._device or _best_device()
        if device == "cpu" and on_cpu.library() and (content := self.portable) is not None:
            own = self.checkpoint.geometry
            shape = (3, own.frames, own.side_px, own.side_px)
            return on_cpu.portable_net(content, shape, threads=self._threads)
        torch_net = self.torch_net  # first: it says what to do where torch is missing
        from unmask.engine.torch_net import TorchNet
        from unmask.models.portable import Portable

        module = Portable(torch_net, self.checkpoint.geometry)
        return TorchNet(module, module.outputs, device=device, threads=self._threads)

    @cached_property
    def portable(self) -> bytes | None:
        """Return the net in the ONNX format; None of a net that has no such form.

        Raises:
            WeightsError: as torch_net raises it; or the file is not the one that the settings name.
        """
        if self._folder is not None:
            content = read_net(self._folder, self.checkpoint.net)
            if content is not None:
                return content
            logger.info(
                "%s has no net that runs without torch: it is made for this run. Train or adopt "
                "the model again to keep one.", self._folder
            )  # fmt: skip
        torch_net = self.torch_net  # first: it says what to do where torch is missing
        from unmask.models.portable import export

        return export(torch_net, self.checkpoint.geometry)

    @cached_property
    def torch_net(self) -> "nn.Module":
        """Return torch's net, loaded, in eval mode.

        Raises:
            WeightsError: the weights are missing, damaged or another backbone's; or torch is not
                installed.
        """
        net = self._net
        if not isinstance(net, Path):
            return net.eval()
        try:
            return checkpoints.load_net(net, self.checkpoint)
        except ModuleNotFoundError as error:
            remedy = "`pip install 'unmask[train]'`" if on_cpu.library() else on_cpu.INSTALL
            raise WeightsError(
                f"Asked for the net in {net} by torch; {error.name} is not installed. Run {remedy}."
            ) from error

    @cached_property
    def looks(self) -> list[Look]:
        """Return what the videos look like that the model's promise is about; none without one.

        Raises:
            WeightsError: the model's folder does not hold what it says.
        """
        promise = self.checkpoint.promise
        if promise is None or promise.looks_sha256 is None:
            return []
        assert self._folder is not None, "a calibrated model is loaded from its folder"
        from unmask.models import looks

        return looks.read(self._folder, promise.looks_sha256)

    def score_videos(self, faces_dir: Path, videos: Iterable[VideoFaces]) -> Iterator[VideoScore]:
        """Yield the answer for videos whose faces were cropped before."""
        for found in videos:
            moving = [track for track in found.tracks if self.moves(track)]
            reason = found.reason
            if found.tracks and not moving:
                reason = reason or Reason.TOO_FEW_FRAMES
            tracks = self.score_tracks(faces_dir, moving)
            yield pool(found.video_id, tracks, reason, self.checkpoint.temperature)

    def moves(self, track: FaceTrack) -> bool:
        """Return whether a face has a clip of enough different frames, so that it can be scored."""
        return bool(self._moving(track, self._spread(track)))

    def _spread(self, track: FaceTrack, *, most: int | None = None) -> list[float]:
        most = most or self.checkpoint.clips.max_per_track
        return spread_starts(track, self.checkpoint.geometry, most=most)

    def _moving(self, track: FaceTrack, starts_s: Sequence[float]) -> list[float]:
        rate_fps = self.checkpoint.faces.rate_fps
        return moving_starts(track, starts_s, self.checkpoint.geometry, rate_fps)

    def score_tracks(self, faces_dir: Path, tracks: Sequence[FaceTrack]) -> list[TrackScore]:
        """Return every track's scores: its logit is the mean over clips spread over all of it."""
        return [studied.score for studied in self.study_tracks(faces_dir, tracks)]

    def study_tracks(self, faces_dir: Path, tracks: Sequence[FaceTrack]) -> list[StudiedTrack]:
        """Return every track's scores, how its face looks, and what the net makes of its clips."""
        geometry = self.checkpoint.geometry
        starts = [self.starts(track) for track in tracks]
        measured: list[list[tuple[float, ...]]] = [[] for _ in tracks]

        def clips() -> Iterator[Values]:
            for track, starts_s, own in zip(tracks, starts, measured, strict=True):
                for frames_THWC in self._read(faces_dir, track, starts_s):
                    own += map(measure, frames_THWC)
                    yield to_input(frames_THWC, geometry.side_px, geometry.brightness)

        outputs = self.net.run(clips())
        found = []
        for track, starts_s, seen in zip(tracks, starts, measured, strict=True):
            of_clips = [next(outputs) for _ in starts_s]
            own = tuple(float(made["logit"]) for made in of_clips)
            score = TrackScore(track.track, math.fsum(own) / len(own), tuple(starts_s), own)
            features = _features_of(of_clips)
            found.append(StudiedTrack(score, self._look(track, starts_s, seen), features))
        return found

    def stretch_of(self, score: TrackScore) -> Stretch:
        """Return the most suspicious stretch of a track that was scored."""
        checkpoint = self.checkpoint
        return worst(score.clip_logits, clips_in(checkpoint.clips.stretch_s, checkpoint.geometry))

    def score_moments(
        self, faces_dir: Path, track: FaceTrack, *, most: int
    ) -> list[tuple[float, float]]:
        """Return (start in seconds, logit) of at most so many clips, spread over the track."""
        starts_s, geometry = self.starts(track, most=most), self.checkpoint.geometry
        frames = self._read(faces_dir, track, starts_s)
        logits = self.score_clips(
            to_input(frames_THWC, geometry.side_px, geometry.brightness) for frames_THWC in frames
        )
        return list(zip(starts_s, logits, strict=True))

    def measure_quality(self, faces_dir: Path, track: FaceTrack) -> FaceQuality:
        """Return how a face looks in the clips that would be scored."""
        starts_s = self.starts(track)
        clips = self._read(faces_dir, track, starts_s)
        measured = [measure(frame_HWC) for clip in clips for frame_HWC in clip]
        return self._look(track, starts_s, measured)

    def starts(self, track: FaceTrack, *, most: int | None = None) -> list[float]:
        """Return the start times of the clips that score a track; `most` asks for more or fewer.

        Clips in which the picture moves are preferred.
        """
        starts_s = self._spread(track, most=most)
        return self._moving(track, starts_s) or starts_s

    def _read(
        self, faces_dir: Path, track: FaceTrack, starts_s: Sequence[float]
    ) -> Iterator[Image]:
        return read_clips(faces_dir / track.file, track.times_T, starts_s, self.checkpoint.geometry)

    def _look(
        self, track: FaceTrack, starts_s: Sequence[float], measured: Sequence[tuple[float, ...]]
    ) -> FaceQuality:
        sides_px = median(right - left for left, _, right, _ in track.boxes_T4)
        sharpness, brightness, grain = zip(*measured, strict=True)
        return FaceQuality(
            face_px=sides_px / (1 + 2 * self.checkpoint.faces.margin_ratio),
            track_s=track.end_s - track.times_T[0],
            sharpness=median(sharpness),
            brightness=median(brightness),
            looked_at_ratio=looked_at_ratio(track, starts_s, self.checkpoint.geometry),
            grain=median(grain),
        )

    def score_clips(self, clips: Iterable[Values]) -> Iterator[float]:
        """Yield the logit of each clip (C, T, side, side)."""
        for made in self.net.run(clips):
            yield float(made["logit"])

    def heat_of(self, clip_CTHW: Values) -> NDArray[np.float32]:
        """Return heat_THW of a clip: Grad-CAM on the net's last stage, zero or more, without unit.

        Raises:
            NoMapError: the net's features have no places in the picture; or only torch can find
                them, and it is not installed.
        """
        net = self.net
        if "heat_THW" in net.outputs:
            (made,) = net.run([clip_CTHW])
            return np.asarray(made["heat_THW"])
        try:
            from unmask.models.grad_cam import heat_of
        except ModuleNotFoundError as error:
            raise NoMapError(
                f"The maps of {self.checkpoint.model.backbone} are made by torch; it is not "
                "installed. Run `pip install 'unmask[train]'`."
            ) from error
        return heat_of(self.torch_net, clip_CTHW)

    @property
    def maps_tokens(self) -> bool:
        """Return whether the maps are of a transformer's tokens, as they enter its last block."""
        return "heat_THW" not in self.net.outputs and bool(
            getattr(self.torch_net, "has_tokens", False)
        )


def _best_device() -> str:
    if not Path("/proc/driver/nvidia").exists():
        return "cpu"
    try:
        import torch  # takes seconds, which machines without a GPU need not wait
    except ModuleNotFoundError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def _features_of(outputs: Sequence[Outputs]) -> list[Features]:
    if not outputs or "features_F" not in outputs[0]:
        return []
    rows_NF = np.stack([made["features_F"] for made in outputs]).astype(np.float64)
    return shortened(rows_NF, outputs[0]["decision_F"].astype(np.float64))


def measure(frame_HWC: Image) -> tuple[float, float, float]:
    """Return a crop's sharpness, brightness and grain, by its middle: the face alone.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al., ICPR 2000), here over that of
    the grey itself, so that contrast does not count; brightness is the mean grey, in [0, 1]. Grain
    is the deviation of the noise in grey levels (Immerkaer, Computer Vision and Image
    Understanding 64 (1996), 300-302, equation 4).
    """
    height, width = frame_HWC.shape[0] // 4, frame_HWC.shape[1] // 4
    middle = frame_HWC[height:-height, width:-width]
    grey = cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY)
    # A picture without any contrast has none of a pixel's rounding either.
    contrast = max(float(grey.var()), 1.0)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var()) / contrast
    noise_HW = np.abs(cv2.filter2D(grey, cv2.CV_32F, _NOISE)[1:-1, 1:-1])
    grain = math.sqrt(math.pi / 2) / 6 * float(noise_HW.mean())
    return sharpness, float(grey.mean()) / 255, grain


def pool(
    video_id: str, tracks: Sequence[TrackScore], reason: Reason | None, temperature: float
) -> VideoScore:
    """Return the video's answer: its most suspicious face's logit, as a probability."""
    if not tracks:
        return VideoScore(video_id, None, reason, ())
    logit = max(track.logit for track in tracks)
    return VideoScore(video_id, probability(logit, temperature), reason, tuple(tracks))


def probability(logit: float, temperature: float) -> float:
    """Return the calibrated probability that a logit stands for."""
    return float(sigmoid(logit / temperature))
