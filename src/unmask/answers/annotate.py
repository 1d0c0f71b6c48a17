"""A clip with each face's box and score drawn into its frames."""

import logging
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from unmask.answers import content_marks
from unmask.answers.analysis import Answer, FaceAnswer
from unmask.answers.certificates import Certificate
from unmask.answers.drawing import WORDS, Marked, Picture, draw
from unmask.answers.provenance import ANNOTATED
from unmask.records import Box
from unmask.runtime.disk import new_name
from unmask.video import sound, still
from unmask.video.ahead import read_ahead
from unmask.video.decode import Account, probe, read_frames
from unmask.video.encode import VideoWriter
from unmask.video.failures import TruncatedError

_log = logging.getLogger(__name__)

_CRF, _PRESET = 18, "veryfast"
_UNKNOWN_RATE_FPS = 25.0
_RATES_FPS = (1.0, 120.0)  # beyond these a header is damaged


def write(out: Path, answer: Answer) -> Iterator[float]:
    """Write the clip with boxes and scores to out, an MP4, and yield how many seconds are done.

    Of a still picture, out is a PNG of all its pixels.

    Upright, of the clip's own size (an odd side grows by a pixel) and rate; where frames come at
    changing intervals, at their mean rate. Memory does not grow with the clip. out gets its name
    when it is whole. Sound is the clip's own, where an MP4 can hold it.

    Raises:
        DecodeError: no frame can be read.
        DiskError: the disk takes no more.
    """
    if answer.still:
        _write_still(out, answer)
        yield 0.0
        return
    silent = new_name(out, "silent")
    try:
        yield from _write_pictures(silent, answer)
        sound.add(silent, answer.path, out)
    finally:
        silent.unlink(missing_ok=True)


def write_signed(out: Path, answer: Answer, certificate: Certificate) -> None:
    """Write the same with content credentials that name the video as what it was made of.

    Raises:
        CertificateError: it could not be signed; then out is not written.
        DecodeError, DiskError: as write.
    """
    unsigned = new_name(out, "unsigned")
    try:
        for _ in write(unsigned, answer):
            pass
        content_marks.sign(unsigned, out, answer.path, content_marks.ANNOTATED, certificate)
    finally:
        unsigned.unlink(missing_ok=True)


def _write_pictures(out: Path, answer: Answer) -> Iterator[float]:
    rate_fps = min(
        max(probe(answer.video).rate_fps or _UNKNOWN_RATE_FPS, _RATES_FPS[0]), _RATES_FPS[1]
    )
    account = Account()
    frames = read_ahead(read_frames(answer.video, account=account))
    size: tuple[int, int] | None = None
    with VideoWriter(
        out, rate_fps=rate_fps, crf=_CRF, preset=_PRESET, metadata={"comment": ANNOTATED}
    ) as writer:
        try:
            for frame in frames:
                picture_HWC = draw(frame.rgb_HWC(), marks_at(answer, frame.time_s))
                size = size or (frame.width, frame.height)
                picture_HWC = _fit(picture_HWC, size)
                # As often as its time asks for: once, where frames come evenly.
                due = max(1, round((frame.time_s + frame.duration_s) * rate_fps))
                for _ in range(due - writer.frames_written):
                    writer.write(picture_HWC)
                yield frame.time_s + frame.duration_s
        except TruncatedError as error:
            _log.warning("%s", error)
        else:
            if account.left_out:
                _log.warning("%s: %s are not shown", answer.path, account.left_out_words)
        finally:
            frames.close()


def _write_still(out: Path, answer: Answer) -> None:
    frame = next(read_frames(answer.video))
    still.write_png(out, draw(frame.rgb_HWC(), marks_at(answer, 0.0)), {"Comment": ANNOTATED})


def marks_at(answer: Answer, time_s: float) -> list[Marked]:
    """Return the faces to draw at a time, the most suspicious last, over the others."""
    faces = sorted(enumerate(answer.faces, start=1), key=lambda pair: pair[1].probability)
    return [
        Marked(box, _words(answer, number, face, time_s), face.verdict)
        for number, face in faces
        if (box := box_at(face, time_s)) is not None
    ]


def _words(answer: Answer, number: int, face: FaceAnswer, time_s: float) -> str:
    if answer.still:
        return f"{number} {WORDS[face.verdict]} {face.probability:.2f}"
    return label(number, face, time_s, answer.clip_s)


def label(number: int, face: FaceAnswer, time_s: float, clip_s: float) -> str:
    """Return the words of a face's label: verdict and score of all of it, then of the moment."""
    now = score_at(face, time_s, clip_s)
    return f"{number} {WORDS[face.verdict]} {face.probability:.2f}, now {now:.2f}"


def score_at(face: FaceAnswer, time_s: float, clip_s: float) -> float:
    """Return the probability of the clip whose middle is nearest to a time."""
    nearest = min(face.timeline, key=lambda moment: abs(moment.time_s + clip_s / 2 - time_s))
    return nearest.probability


def box_at(face: FaceAnswer, time_s: float) -> Box | None:
    """Return a face's box at a time, between its two nearest ticks; None where it is not seen.

    A tick's box holds for as long as a tick lasts, after the last one too.
    """
    times, boxes = face.track.times_T, face.track.boxes_T4
    tick_s = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    if not times[0] - tick_s / 2 <= time_s <= times[-1] + tick_s:
        return None
    right = bisect_right(times, time_s)
    if right == 0 or right == len(times):
        return boxes[min(right, len(times) - 1)]
    share = (time_s - times[right - 1]) / (times[right] - times[right - 1])
    before, after = boxes[right - 1], boxes[right]
    left, top, x1, y1 = (a + share * (b - a) for a, b in zip(before, after, strict=True))
    return left, top, x1, y1


def _fit(picture_HWC: Picture, size: tuple[int, int]) -> Picture:
    """Return the picture in the first frame's size, its sides made even by repeating the edge."""
    height, width, _ = picture_HWC.shape
    fitted: Picture = picture_HWC
    if (width, height) != size:
        fitted = cv2.resize(fitted, size, interpolation=cv2.INTER_AREA)
    return np.pad(fitted, ((0, size[1] % 2), (0, size[0] % 2), (0, 0)), mode="edge")
