"""From a video to the probability that a face in it is fake."""

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from unmask import checkpoint as checkpoints
from unmask.backbones import lay_out_for_cpu
from unmask.checkpoint import Checkpoint
from unmask.classifier import clip_logits
from unmask.clips import read_clips, spread_starts, to_input
from unmask.detector import Detector
from unmask.faces import crop_video
from unmask.records import FaceTrack, Reason, TrackScore, VideoFaces, VideoScore
from unmask.scores import sigmoid

CLIPS_AT_ONCE = 16


class Predictor:
    """A trained model with the crop settings it was trained with."""

    def __init__(
        self, net: nn.Module, checkpoint: Checkpoint, *, device: str | None = None
    ) -> None:
        """Move the net to the device; to CUDA where there is one, if not told."""
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.net = net.eval().to(self.device)
        if self.device.type == "cpu":
            lay_out_for_cpu(self.net)
        self.checkpoint = checkpoint
        self._detector: Detector | None = None

    @classmethod
    def load(cls, model_dir: Path, *, device: str | None = None) -> "Predictor":
        """Return the predictor of a model's folder.

        Raises:
            WeightsError: the folder does not hold a model of this version.
        """
        net, checkpoint = checkpoints.load(model_dir)
        return cls(net, checkpoint, device=device)

    def predict_files(self, paths: Sequence[Path]) -> Iterator[VideoScore]:
        """Yield each file's answer, in order; a bad file's answer is its reason."""
        if self._detector is None:
            self._detector = Detector(self.checkpoint.faces.detect, str(self.device))
        for number, path in enumerate(paths):
            with tempfile.TemporaryDirectory(prefix="unmask-") as folder:
                found = crop_video(
                    path, str(number), Path(folder), self.checkpoint.faces, self._detector, key=""
                )
                tracks = self.score_tracks(Path(folder), found.tracks)
            yield pool(path.name, tracks, found.reason, self.checkpoint.temperature)

    def score_videos(self, faces_dir: Path, videos: Iterable[VideoFaces]) -> Iterator[VideoScore]:
        """Yield the answer for videos whose faces were cropped before."""
        for found in videos:
            tracks = self.score_tracks(faces_dir, found.tracks)
            yield pool(found.video_id, tracks, found.reason, self.checkpoint.temperature)

    @torch.inference_mode()
    def score_tracks(self, faces_dir: Path, tracks: Sequence[FaceTrack]) -> list[TrackScore]:
        """Return every track's scores: its logit is the mean over clips spread over all of it."""
        geometry = self.checkpoint.geometry
        most = self.checkpoint.clips.max_per_track
        starts = [spread_starts(track, geometry, most=most) for track in tracks]
        clips = (
            to_input(frames_THWC, geometry.side_px)
            for track, starts_s in zip(tracks, starts, strict=True)
            for frames_THWC in read_clips(faces_dir / track.file, track.times_T, starts_s, geometry)
        )
        logits = self.score_clips(clips)
        scores = []
        for track, starts_s in zip(tracks, starts, strict=True):
            own = tuple(next(logits) for _ in starts_s)
            scores.append(TrackScore(track.track, math.fsum(own) / len(own), tuple(starts_s), own))
        return scores

    @torch.inference_mode()
    def score_clips(self, clips: Iterable[torch.Tensor]) -> Iterator[float]:
        """Yield the logit of each clip (C, T, side, side)."""
        batch: list[torch.Tensor] = []
        for clip in clips:
            batch.append(clip)
            if len(batch) == CLIPS_AT_ONCE:
                yield from self._forward(batch)
                batch = []
        if batch:
            yield from self._forward(batch)

    def _forward(self, batch: list[torch.Tensor]) -> list[float]:
        clips_BCTHW = torch.stack(batch).to(self.device)
        logits: list[float] = clip_logits(self.net, clips_BCTHW).double().tolist()
        return logits


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
