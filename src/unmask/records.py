"""Typed rows: what the wings hand to each other."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, overload

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
DONOR_SEPARATOR = "|"  # between donors in index.csv; no identity holds it
# What a list of videos and index.csv may say of a fake, as ForgedPart's fields.
FORGED_COLUMNS = ("fake_box", "fake_from_s", "fake_to_s")
Epoch = Mapping[str, float | int | None]  # a training's numbers, by EPOCH_COLUMNS
EPOCH_COLUMNS = ("epoch", "train_loss", "val_loss", "val_auc", "lr_head", "lr_top")
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the upright frame
Points = tuple[tuple[float, float], ...]  # left eye, right eye, nose, mouth left and right


class Reason(StrEnum):
    """Why a video has no score, or why its tracks end before it does."""

    MISSING = "missing"  # no file of that name, or a link to none
    FORBIDDEN = "forbidden"  # it may not be read
    EMPTY = "empty"  # zero bytes
    NOT_A_VIDEO = "not_a_video"  # another kind of file, or nothing but sound
    UNREADABLE = "unreadable"  # a video of which no frame decodes
    CRASHED = "crashed"  # the process that read it, which memory may have failed
    OUT_OF_MEMORY = "out_of_memory"  # it asks for more than one file may have
    TIMED_OUT = "timed_out"  # no new frame for faces.stall_s
    TRUNCATED = "truncated"  # the file ends before its video does
    INCOMPLETE = "incomplete"  # some of what it shows can't be decoded: the detail counts it
    NO_FACE = "no_face"
    TOO_SHORT = "too_short"
    TOO_FEW_FRAMES = "too_few_frames"  # a face is there for long enough, but hardly ever changes


class FileDoubt(StrEnum):
    """Why an answer about all of a file can't be relied on, whatever its faces look like."""

    NOT_ALL_SEEN = "not_all_seen"  # then it is never called real
    COLOUR_NOT_UNDERSTOOD = "colour_not_understood"  # then neither fake nor real


# What the next run may not meet again: memory ran out, or a disk was busy.
PASSING = frozenset({Reason.CRASHED, Reason.OUT_OF_MEMORY, Reason.TIMED_OUT})


@dataclass(frozen=True)
class ForgedPart:
    """Where in a fake the forged face is; what is None, nobody says."""

    box_xyxy: Box | None = None  # in pixels of the upright frame: holds the face's centre
    from_s: float | None = None  # from the first frame
    to_s: float | None = None

    def holds(self, time_s: float, box_xyxy: Box) -> bool:
        """Say whether a face that is seen in that box at that time is the forged one."""
        x0, y0, x1, y1 = self.box_xyxy or (-math.inf, -math.inf, math.inf, math.inf)
        x, y = (box_xyxy[0] + box_xyxy[2]) / 2, (box_xyxy[1] + box_xyxy[3]) / 2
        from_s = 0.0 if self.from_s is None else self.from_s
        to_s = math.inf if self.to_s is None else self.to_s
        return x0 <= x <= x1 and y0 <= y <= y1 and from_s <= time_s <= to_s


@dataclass(frozen=True)
class VideoRecord:
    """One labelled video of a chunk."""

    video_id: str  # the file's name without its extension
    file: str  # relative to the chunk's videos folder
    label: int  # 1 is fake
    source_id: str  # videos that share it show the same recording or person: never split them
    method: str  # how a fake was made; "real" for a real one, "unknown" where nobody says
    split: Split
    donors: tuple[str, ...] = ()  # whose faces a swap pasted in: they too stay on one side
    forged: ForgedPart | None = None  # None: all faces of a fake are taken for forged

    @property
    def identities(self) -> tuple[str, ...]:
        """Return everybody the video shows a face of: its source, then its donors."""
        return self.source_id, *self.donors


@dataclass(frozen=True)
class Fingerprint:
    """What tells a video from others: its file's content, and what some of its frames look like."""

    video_id: str
    sha256: str
    recipe: str  # digest of the code that took it; empty where it should be taken again
    pictures: tuple[str, ...]  # perceptual hashes, 256 bits in hex; none where nothing decodes
    stream: str = ""  # SHA-256 of the coded pictures, whatever container holds them


@dataclass(frozen=True)
class FaceTrack:
    """One face followed through a video, and the crop file that shows it."""

    track: int
    file: str  # relative to the chunk's faces folder
    times_T: tuple[float, ...]  # seconds from the first frame, one per frame of the crop file
    boxes_T4: tuple[Box, ...]  # the square that was cut out
    scores_T: tuple[float, ...]  # detection scores, carried over between detections
    points_T52: tuple[Points, ...] = ()  # pixels of the upright frame
    same_T: tuple[int, ...] = ()  # places in times_T of frames that look as the one before
    held_s: float = 0.0  # how much longer than a tick of the crops the last frame is shown

    @property
    def end_s(self) -> float:
        """Return when the face is last seen: at its last frame, or while that is held."""
        return self.times_T[-1] + self.held_s


@dataclass(frozen=True)
class VideoFaces:
    """What the cropper found in one video; with a reason where it found less than hoped.

    detail says the reason in a sentence, then what else is to be said of the file.
    """

    video_id: str
    key: str  # digest of the video's content, the params and the code that cropped it
    tracks: tuple[FaceTrack, ...]
    reason: Reason | None = None
    detail: str = ""
    doubts: tuple[FileDoubt, ...] = ()


@dataclass(frozen=True)
class TrackScore:
    """The scores of one face over time."""

    track: int
    logit: float  # mean over its clips, before temperature
    clip_starts_s: tuple[float, ...]
    clip_logits: tuple[float, ...]


@dataclass(frozen=True)
class VideoScore:
    """A video's answer: the probability that it is fake, or the reason there is none."""

    video_id: str
    probability: float | None
    reason: Reason | None
    tracks: tuple[TrackScore, ...]

    @property
    def worst(self) -> TrackScore | None:
        """Return the most suspicious face, whose score is the video's."""
        return max(self.tracks, key=lambda track: track.logit, default=None)


@dataclass(frozen=True)
class Chunk:
    """One chunk's index and its cropped faces."""

    name: str
    records: list[VideoRecord]
    faces: Mapping[str, VideoFaces]
    faces_dir: Path

    def of(self, split: Split) -> "SplitVideos":
        """Return the split's videos with what was found in each."""
        return SplitVideos([r for r in self.records if r.split == split], self.faces)


class SplitVideos(Sequence[tuple[VideoRecord, VideoFaces]]):
    """A split's videos, each with what was found in it, which is looked up when it is asked for.

    So a loop over them has one video's faces in memory.
    """

    def __init__(self, records: Sequence[VideoRecord], faces: Mapping[str, VideoFaces]) -> None:
        self.records = records
        self._faces = faces

    def __len__(self) -> int:
        return len(self.records)

    def faces(self) -> Iterator[VideoFaces]:
        """Yield what was found in each video, in order."""
        return (self._faces[record.video_id] for record in self.records)

    @overload
    def __getitem__(self, place: int) -> tuple[VideoRecord, VideoFaces]: ...

    @overload
    def __getitem__(self, place: slice) -> "SplitVideos": ...

    def __getitem__(self, place: int | slice) -> "tuple[VideoRecord, VideoFaces] | SplitVideos":
        if isinstance(place, slice):
            return SplitVideos(self.records[place], self._faces)
        record = self.records[place]
        return record, self._faces[record.video_id]
