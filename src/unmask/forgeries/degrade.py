"""What happens to a video on its way to us, done on purpose: re-encoded, shrunk, blurred, cut.

Worker processes import this, so it knows nothing of the model.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unmask import params
from unmask.faces.cropper import crop_in_workers, crop_video
from unmask.faces.detector import LoadDetector
from unmask.records import Reason, VideoFaces
from unmask.runtime.child import heartbeat
from unmask.video.ahead import read_ahead
from unmask.video.decode import Account, probe, read_frames
from unmask.video.encode import VideoWriter
from unmask.video.failures import DecodeError, TruncatedError
from unmask.video.frame import Frame

Picture = NDArray[np.uint8]
Pass = Mapping[str, float]  # by params.STEPS; without a step it is not done

RECIPE = 1  # raise it when the same passes make other pictures: older figures can't be compared
_RATE_FPS, _MAX_RATE_FPS = 25.0, 60.0  # of a file that names none; of one that names 90000
_MAX_HOLD_S = 10.0  # a longer pause between two frames is a damaged clock's
_TOLERANCE_S = 0.0005  # as the decoder's
_KEPT_BYTES = 64 * 2**20  # most memory that a video's pictures take until its next copy is made


class Originals:
    """Decodes videos for their copies, and keeps the pictures of the latest one if they are few.

    So copies of a short video, made one after the other, cost one decoding. The file must not
    change meanwhile.
    """

    def __init__(self, most_bytes: int = _KEPT_BYTES) -> None:
        self.reason: Reason | None = None  # why the pictures that came last are not all
        self._most_bytes = most_bytes
        self._kept_of: tuple[Path, float] | None = None
        self._kept: list[Picture] = []
        self._named: tuple[Path, float | None] | None = None

    def rate_fps(self, source: Path) -> float | None:
        """Return the rate that a video names, if it names one.

        Raises:
            DecodeError: no frame decodes.
        """
        if self._named is None or self._named[0] != source:
            self._named = source, probe(source).rate_fps
        return self._named[1]

    def pictures(self, source: Path, rate_fps: float) -> Generator[Picture]:
        """Yield what a video shows at each tick k / rate_fps; then `reason` says what is missing.

        Raises:
            DecodeError: no frame decodes.
        """
        if self._kept_of == (source, rate_fps):
            yield from self._kept
            return
        self.reason, self._kept_of, self._kept = None, None, []
        account, room_bytes = Account(), self._most_bytes
        frames = read_ahead(read_frames(source, rate_fps=rate_fps, account=account))
        with closing(frames):
            try:
                for picture_HWC in _hold(frames, rate_fps):
                    room_bytes -= picture_HWC.nbytes
                    if room_bytes >= 0:
                        self._kept.append(picture_HWC)
                    else:
                        self._kept.clear()
                    yield picture_HWC
            except TruncatedError as error:
                self.reason = error.reason
        if account.left_out and self.reason is None:
            self.reason = Reason.INCOMPLETE
        if room_bytes >= 0:
            self._kept_of = source, rate_fps


def degrade(
    source: Path,
    target: Path,
    passes: Sequence[Pass],
    rng: np.random.Generator,
    originals: Originals | None = None,
) -> Reason | None:
    """Write a degraded copy of a video; return why it shows less than the original, or None.

    Each pass decodes what the one before wrote, changes the pictures in the order of params.STEPS
    and encodes them by H.264 at its crf. Frames are upright and come at a constant rate, so the
    copy of a telephone's video with a changing rate has some of them twice. The same arguments
    give the same bytes. It has the memory of a few frames, of what originals keep, and beside
    target one file more.

    Raises:
        DecodeError: the source has no frame that decodes.
        DiskError: the disk takes no more.
    """
    reason: Reason | None = None
    for number, steps in enumerate(passes):
        is_last = number == len(passes) - 1
        written = target if is_last else target.with_name(f"{number}-{target.name}")
        reader = Originals(0) if number or originals is None else originals
        broken = _encode(reader, source, written, steps, rng)
        reason = reason or broken
        if number:
            source.unlink()
        source = written
    return reason


def _encode(
    originals: Originals, source: Path, target: Path, steps: Pass, rng: np.random.Generator
) -> Reason | None:
    own_fps = originals.rate_fps(source) or _RATE_FPS
    rate_fps = min(own_fps, steps.get("rate_fps", _MAX_RATE_FPS))
    size: tuple[int, ...] = ()
    pictures = originals.pictures(source, rate_fps)
    with closing(pictures), VideoWriter(target, rate_fps=rate_fps, crf=steps["crf"]) as writer:
        for picture_HWC in pictures:
            heartbeat()
            altered_HWC = alter(picture_HWC, steps, rng)
            size = size or altered_HWC.shape[1::-1]
            if altered_HWC.shape[1::-1] != size:  # the size changed midway
                altered_HWC = cv2.resize(altered_HWC, size, interpolation=cv2.INTER_AREA)
            writer.write(altered_HWC)
    return originals.reason


def _hold(frames: Iterator[Frame], rate_fps: float) -> Iterator[Picture]:
    """Yield the picture that is shown at each tick k / rate_fps."""
    tick, skipped_s, end_s = 0, 0.0, 0.0
    shown: Picture | None = None
    broken: TruncatedError | None = None
    try:
        for frame in frames:
            skipped_s += max(0.0, frame.time_s - skipped_s - tick / rate_fps - _MAX_HOLD_S)
            while shown is not None and tick / rate_fps < frame.time_s - skipped_s - _TOLERANCE_S:
                yield shown
                tick += 1
            shown, end_s = frame.rgb_HWC(), frame.time_s - skipped_s + frame.duration_s
    except TruncatedError as error:  # comes after the last frame, which is still to be shown
        broken = error
    assert shown is not None, "read_frames gives a frame or raises"
    while not tick or tick / rate_fps < end_s - _TOLERANCE_S:
        yield shown
        tick += 1
    if broken:
        raise broken


def alter(picture_HWC: Picture, steps: Pass, rng: np.random.Generator) -> Picture:
    """Return the picture after the steps of a pass that change pictures, its sides even."""
    if cut := steps.get("cut"):
        height, width, _ = picture_HWC.shape
        down, across = int(height * cut), int(width * cut)
        picture_HWC = picture_HWC[down : height - down, across : width - across]
    if scale := steps.get("scale"):
        height, width = (max(2, round(side * scale)) for side in picture_HWC.shape[:2])
        picture_HWC = cv2.resize(picture_HWC, (width, height), interpolation=cv2.INTER_AREA)
    if brightness := steps.get("brightness"):
        picture_HWC = cv2.convertScaleAbs(picture_HWC, alpha=brightness)
    if blur_px := steps.get("blur_px"):
        picture_HWC = cv2.GaussianBlur(picture_HWC, (0, 0), blur_px)
    if levels := steps.get("noise_levels"):
        noisy = rng.standard_normal(picture_HWC.shape, dtype=np.float32)
        noisy *= np.float32(levels)
        noisy += picture_HWC
        picture_HWC = np.clip(np.rint(noisy, out=noisy), 0, 255, out=noisy).astype(np.uint8)
    height, width, _ = picture_HWC.shape
    if height % 2 or width % 2:
        edges = 0, height % 2, 0, width % 2
        picture_HWC = cv2.copyMakeBorder(picture_HWC, *edges, cv2.BORDER_REPLICATE)
    return picture_HWC


# ---------------------------------------------------------------- copies and their faces


@dataclass(frozen=True)
class Copy:
    """A degraded copy to be made, and where its crops go."""

    video_id: str
    path: Path  # of the original
    passes: Sequence[Pass]
    seed: tuple[int, ...]  # of the noise
    settings: params.Faces
    folder: Path  # its own, not there yet


def crop_copies(
    copies: Sequence[Copy], workers: int, load_detector: LoadDetector
) -> Iterator[tuple[Copy, VideoFaces]]:
    """Yield the faces of each copy, in the order they are done; its folder holds their crops.

    Worker processes make, search and crop a copy, then delete it. Copies of one video follow one
    another, so that a worker may decode it once; of these, those of another rate come last. A
    video that can't be read, or that crashes or stalls its worker, has no faces and a reason.

    Raises:
        DiskError: the disk takes no more.
    """
    if not copies:
        return
    folders = {copy.folder.parent for copy in copies}
    in_turn = sorted(copies, key=lambda copy: (copy.path, copy.passes[0].get("rate_fps", 0.0)))
    yield from crop_in_workers(
        in_turn, _crop, _row_of_failure, copies[0].settings, folders, workers, load_detector
    )


@cache
def _originals_of_worker() -> Originals:
    return Originals()


def _crop(load_detector: LoadDetector, copy: Copy) -> tuple[Copy, VideoFaces]:
    copy.folder.mkdir()
    path = copy.folder / "copy.mp4"
    try:
        rng = np.random.default_rng(copy.seed)
        reason = degrade(copy.path, path, copy.passes, rng, _originals_of_worker())
    except DecodeError as error:
        return copy, VideoFaces(copy.video_id, "", (), error.reason, str(error))
    detector = load_detector(copy.settings.detect)
    faces = crop_video(path, copy.video_id, copy.folder, copy.settings, detector, key="")
    path.unlink()
    return copy, replace(faces, reason=faces.reason or reason)


def _row_of_failure(reason: Reason, words: str, copy: Copy) -> tuple[Copy, VideoFaces]:
    detail = f"{copy.path}: asked to degrade it, but {words}"
    return copy, VideoFaces(copy.video_id, "", (), reason, detail)
