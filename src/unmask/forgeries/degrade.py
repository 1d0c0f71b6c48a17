"""What happens to a video on its way to us, done on purpose: re-encoded, shrunk, blurred, cut.

Worker processes import this, so it knows nothing of the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
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


def degrade(
    source: Path, target: Path, passes: Sequence[Pass], rng: np.random.Generator
) -> Reason | None:
    """Write a degraded copy of a video; return why it shows less than the original, or None.

    Each pass decodes what the one before wrote, changes the pictures in the order of params.STEPS
    and encodes them by H.264 at its crf. Frames are upright and come at a constant rate, so the
    copy of a telephone's video with a changing rate has some of them twice. The same arguments
    give the same bytes. It has the memory of a few frames, and beside target one file more.

    Raises:
        DecodeError: the source has no frame that decodes.
        DiskError: the disk takes no more.
    """
    reason: Reason | None = None
    for number, steps in enumerate(passes):
        is_last = number == len(passes) - 1
        written = target if is_last else target.with_name(f"{number}-{target.name}")
        broken = _encode(source, written, steps, rng)
        reason = reason or broken
        if number:
            source.unlink()
        source = written
    return reason


def _encode(source: Path, target: Path, steps: Pass, rng: np.random.Generator) -> Reason | None:
    rate_fps = min(probe(source).rate_fps or _RATE_FPS, steps.get("rate_fps", _MAX_RATE_FPS))
    account = Account()
    size: tuple[int, ...] = ()
    frames = read_ahead(read_frames(source, rate_fps=rate_fps, account=account))
    with closing(frames), VideoWriter(target, rate_fps=rate_fps, crf=steps["crf"]) as writer:
        try:
            for picture_HWC in _hold(frames, rate_fps):
                heartbeat()
                altered_HWC = alter(picture_HWC, steps, rng)
                size = size or altered_HWC.shape[1::-1]
                if altered_HWC.shape[1::-1] != size:  # the size changed midway
                    altered_HWC = cv2.resize(altered_HWC, size, interpolation=cv2.INTER_AREA)
                writer.write(altered_HWC)
        except TruncatedError as error:
            return error.reason
    return Reason.INCOMPLETE if account.left_out else None


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
        noise = rng.standard_normal(picture_HWC.shape, dtype=np.float32) * np.float32(levels)
        picture_HWC = np.clip(np.rint(picture_HWC + noise), 0, 255).astype(np.uint8)
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

    Worker processes make, search and crop a copy, then delete it. A video that can't be read, or
    that crashes or stalls its worker, has no faces and a reason.

    Raises:
        DiskError: the disk takes no more.
    """
    if not copies:
        return
    folders = {copy.folder.parent for copy in copies}
    yield from crop_in_workers(
        copies, _crop, _row_of_failure, copies[0].settings, folders, workers, load_detector
    )


def _crop(load_detector: LoadDetector, copy: Copy) -> tuple[Copy, VideoFaces]:
    copy.folder.mkdir()
    path = copy.folder / "copy.mp4"
    try:
        reason = degrade(copy.path, path, copy.passes, np.random.default_rng(copy.seed))
    except DecodeError as error:
        return copy, VideoFaces(copy.video_id, "", (), error.reason, str(error))
    detector = load_detector(copy.settings.detect)
    faces = crop_video(path, copy.video_id, copy.folder, copy.settings, detector, key="")
    path.unlink()
    return copy, replace(faces, reason=faces.reason or reason)


def _row_of_failure(reason: Reason, words: str, copy: Copy) -> tuple[Copy, VideoFaces]:
    detail = f"{copy.path}: asked to degrade it, but {words}"
    return copy, VideoFaces(copy.video_id, "", (), reason, detail)
