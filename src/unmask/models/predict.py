"""From a video to the probability that a face in it is fake."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import cv2
import numpy as np

from unmask.models import checkpoint as checkpoints
from unmask.models.checkpoint import Checkpoint
from unmask.records import FaceTrack, Reason, TrackScore, VideoFaces, VideoScore
from unmask.scoring.scores import sigmoid
from unmask.scoring.stretches import Stretch, clips_in, worst
from unmask.scoring.unlike import Look
from unmask.scoring.verdicts import FaceQuality

if TYPE_CHECKING:  # importing torch takes seconds: in these, workers already look for faces
    import torch
    from torch import nn

    from unmask.models.clips import Image

CLIPS_AT_ONCE = 16
# The difference of two Laplacians: blind to what changes slowly.
_NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


class Predictor:
    """A trained model with the crop settings it was trained with."""

    def __init__(
        self, net: "nn.Module | Path", checkpoint: Checkpoint, *, device: str | None = None
    ) -> None:
        """Take a net, or the model's folder that holds it, for when it is needed.

        It works on CUDA where there is one, if not told.
        """
        self.checkpoint = checkpoint
        self._net, self._device = net, device
        self._folder = net if isinstance(net, Path) else None

    @classmethod
    def load(cls, model_dir: Path, *, device: str | None = None) -> "Predictor":
        """Return the predictor of a model's folder; its weights are read when they are needed.

        Raises:
            WeightsError: the folder does not hold a model of this version, or its promise was
                learned with other weights.
        """
        checkpoint = checkpoints.read_settings(model_dir)
        checkpoints.check_promise(model_dir, checkpoint)
        return cls(model_dir, checkpoint, device=device)

    @cached_property
    def device(self) -> "torch.device":
        """Return what the net works on."""
        import torch

        return torch.device(self._device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @cached_property
    def net(self) -> "nn.Module":
        """Return the net, loaded and on its device.

        Raises:
            WeightsError: the weights are missing, damaged or another backbone's.
        """
        from unmask.models import backbones

        net = self._net
        if isinstance(net, Path):
            net = checkpoints.load_net(net, self.checkpoint)
        net = net.eval().to(self.device)
        if self.device.type == "cpu":
            backbones.lay_out_for_cpu(net)
        return net

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
        from unmask.models.clips import spread_starts

        most = most or self.checkpoint.clips.max_per_track
        return spread_starts(track, self.checkpoint.geometry, most=most)

    def _moving(self, track: FaceTrack, starts_s: Sequence[float]) -> list[float]:
        from unmask.models.clips import moving_starts

        rate_fps = self.checkpoint.faces.rate_fps
        return moving_starts(track, starts_s, self.checkpoint.geometry, rate_fps)

    def score_tracks(self, faces_dir: Path, tracks: Sequence[FaceTrack]) -> list[TrackScore]:
        """Return every track's scores: its logit is the mean over clips spread over all of it."""
        return [score for score, _ in self.study_tracks(faces_dir, tracks)]

    def study_tracks(
        self, faces_dir: Path, tracks: Sequence[FaceTrack]
    ) -> list[tuple[TrackScore, FaceQuality]]:
        """Return every track's scores, and how its face looks in the clips that are scored."""
        from unmask.models.clips import to_input

        geometry = self.checkpoint.geometry
        starts = [self.starts(track) for track in tracks]
        measured: list[list[tuple[float, ...]]] = [[] for _ in tracks]

        def clips() -> Iterator["torch.Tensor"]:
            for track, starts_s, own in zip(tracks, starts, measured, strict=True):
                for frames_THWC in self._read(faces_dir, track, starts_s):
                    own += map(measure, frames_THWC)
                    yield to_input(frames_THWC, geometry.side_px, geometry.brightness)

        logits = self.score_clips(clips())
        found = []
        for track, starts_s, seen in zip(tracks, starts, measured, strict=True):
            own = tuple(next(logits) for _ in starts_s)
            score = TrackScore(track.track, math.fsum(own) / len(own), tuple(starts_s), own)
            found.append((score, self._look(track, starts_s, seen)))
        return found

    def stretch_of(self, score: TrackScore) -> Stretch:
        """Return the most suspicious stretch of a track that was scored."""
        checkpoint = self.checkpoint
        return worst(score.clip_logits, clips_in(checkpoint.clips.stretch_s, checkpoint.geometry))

    def score_moments(
        self, faces_dir: Path, track: FaceTrack, *, most: int
    ) -> list[tuple[float, float]]:
        """Return (start in seconds, logit) of at most so many clips, spread over the track."""
        from unmask.models.clips import to_input

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
    ) -> Iterator["Image"]:
        from unmask.models.clips import read_clips

        return read_clips(faces_dir / track.file, track.times_T, starts_s, self.checkpoint.geometry)

    def _look(
        self, track: FaceTrack, starts_s: Sequence[float], measured: Sequence[tuple[float, ...]]
    ) -> FaceQuality:
        from unmask.models.clips import looked_at_ratio

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

    def score_clips(self, clips: Iterable["torch.Tensor"]) -> Iterator[float]:
        """Yield the logit of each clip (C, T, side, side)."""
        batch: list[torch.Tensor] = []
        for clip in clips:
            batch.append(clip)
            if len(batch) == CLIPS_AT_ONCE:
                yield from self._forward(batch)
                batch = []
        if batch:
            yield from self._forward(batch)

    def _forward(self, batch: "list[torch.Tensor]") -> list[float]:
        import torch

        from unmask.models.backbones import clip_logits

        with torch.inference_mode():
            clips_BCTHW = torch.stack(batch).to(self.device)
            logits: list[float] = clip_logits(self.net, clips_BCTHW).double().tolist()
        return logits


def measure(frame_HWC: "Image") -> tuple[float, float, float]:
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
