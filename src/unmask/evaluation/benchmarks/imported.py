"""Any detector's scores, as it wrote them: a CSV read by the columns that the user names.

Nothing is guessed: neither which column is which, nor what a number means, nor which of two rows
counts. What is not clear is an error that names the rows.
"""

import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from unmask.data.archive import MAX_NAMED, first_few, shorten
from unmask.data.layouts.rows import with_label
from unmask.errors import DatasetError
from unmask.evaluation.benchmarks.matching import Matcher
from unmask.evaluation.benchmarks.score_table import Cells, Columns, Hashed, open_table, read_cells
from unmask.evaluation.benchmarks.scores_file import FrameScores, Scale, ScoreRow
from unmask.records import VideoRecord
from unmask.scoring.scores import sigmoid

MOST_ROWS = 5_000_000  # frames of 5,000 videos, 1,000 of each
NOT_GIVEN = "not_given"  # the file has no row, or a row without a score
_MOST_KEPT = 10_000  # rows of no video, of which the first few are shown


@dataclass(frozen=True)
class Meaning:
    """What a file's numbers mean."""

    scale: Scale
    higher: Literal["fake", "real"]  # what a higher number means
    pool: Literal["mean", "max"] = "mean"  # frames to their video: the mean, or the most suspicious
    threshold: float | None = None  # from this number on the detector itself calls a video fake

    def turned(self, number: float) -> float:
        """Return a number of the file as one that is higher for a fake."""
        if self.higher == "fake":
            return number
        return 1 - number if self.scale == "probability" else -number


@dataclass(frozen=True, eq=False)
class Imported:
    """What a file says of a benchmark's videos."""

    rows: list[ScoreRow]  # one for each video of the benchmark
    frames: dict[str, FrameScores]
    row_count: int  # of the file
    unmatched: list[str]  # what the first few rows of no video are called
    unmatched_count: int
    missing: list[str]  # ids of the videos without a score
    sha256: str  # of the file


# ---------------------------------------------------------------- reading


def read(
    path: Path,
    matcher: Matcher,
    records: Sequence[VideoRecord],
    columns: Columns,
    meaning: Meaning,
    *,
    delimiter: str = ",",
    allow_missing: bool = False,
) -> Imported:
    """Return what a file of scores says of the benchmark's videos.

    Raises:
        DatasetError: the file is too large, no UTF-8, no CSV, or has no such columns; a number is
            not what it is said to be; a row's name is that of two videos; a video is there twice;
            a label is not the benchmark's; or videos have no score and allow_missing is not set.
    """
    reader = _Reader(path, matcher, {record.video_id: record for record in records}, meaning)
    with open_table(path) as file:
        hashed = Hashed(file)
        text = io.TextIOWrapper(io.BufferedReader(hashed, 2**16), encoding="utf-8-sig", newline="")
        for number, cells in read_cells(text, path, columns, delimiter):
            reader.take(number, cells)
    reader.check()
    rows = [reader.row_of(record) for record in sorted(records, key=lambda r: r.video_id)]
    missing = [row.video_id for row in rows if row.rank is None]
    frames = reader.frames() if columns.frame else {}
    found = Imported(
        rows, frames, reader.row_count, reader.unmatched[:MAX_NAMED], reader.unmatched_count,
        missing, hashed.digest.hexdigest(),
    )  # fmt: skip
    if len(missing) == len(rows) or (missing and not allow_missing):
        raise IncompleteError(path, found, reader.unmatched)
    return found


def said_unmatched(found: Imported) -> str:
    """Return in words how many rows name no video of the benchmark, and the first few."""
    names = [shorten(name) for name in found.unmatched]
    more = found.unmatched_count - len(names)
    return (
        f"{found.unmatched_count:,} row(s) name no video of the benchmark: {', '.join(names)}"
        f"{f' and {more:,} more' if more else ''}."
    )


class IncompleteError(DatasetError):
    """A file has no score of some or all of the benchmark's videos."""

    def __init__(self, path: Path, found: Imported, unmatched: Sequence[str]) -> None:
        """Say how many, and which."""
        self.unmatched = unmatched
        scored = len(found.rows) - len(found.missing)
        said = (
            f"Asked for a score of each of the benchmark's {len(found.rows):,} videos; {path} has "
            f"one for {scored:,} of them in {found.row_count:,} rows. Without one: "
            f"{first_few([shorten(name) for name in found.missing])}."
        )
        if found.unmatched_count:
            said += f" {said_unmatched(found)}"
        todo = "Name the column of the ids or paths that it has" + (
            ", or pass --allow-missing: coverage is then said beside the metrics."
            if scored
            else "."
        )
        super().__init__(f"{said} {todo}")


@dataclass
class _Found:
    """What was read of one video."""

    numbers: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of the frames
    compression: str = ""
    generator: str = ""


class _Reader:
    """Takes in rows, and keeps what is wrong with them until all were seen."""

    def __init__(
        self,
        path: Path,
        matcher: Matcher,
        records: Mapping[str, VideoRecord],
        meaning: Meaning,
    ) -> None:
        self.path, self.matcher, self.records, self.meaning = path, matcher, records, meaning
        self.row_count = 0
        self.unmatched: list[str] = []
        self.unmatched_count = 0
        self._found: dict[str, _Found] = {}
        self._lines: dict[tuple[str, str], int] = {}
        self._flaws: dict[str, list[str]] = defaultdict(list)
        self._flaw_counts: dict[str, int] = defaultdict(int)

    def take(self, number: int, cells: Cells) -> None:
        self.row_count += 1
        if self.row_count > MOST_ROWS:
            raise DatasetError(
                f"{self.path} has more than {MOST_ROWS:,} rows. Leave out those of other data, or "
                "take fewer frames of each video."
            )
        match = self.matcher.by_path if cells.by_path else self.matcher.by_id
        videos = match(cells.key)
        if len(videos) > 1:
            names = first_few(sorted(map(shorten, videos)))
            self._flaw("two videos", number, f"{shorten(cells.key)} is {names}")
        elif not videos:
            self.unmatched_count += 1
            if len(self.unmatched) < _MOST_KEPT:
                self.unmatched.append(cells.key)
        else:
            self._take_video(number, videos.pop(), cells)

    def _take_video(self, number: int, video_id: str, cells: Cells) -> None:
        before = self._lines.setdefault((video_id, cells.frame), number)
        if before != number:
            name = f"{shorten(video_id)} frame {shorten(cells.frame)}" if cells.has_frames else (
                shorten(video_id)
            )  # fmt: skip
            self._flaw("twice", number, f"{name} (and in line {before})")
            return
        found = self._found.setdefault(video_id, _Found())
        self._check_label(number, video_id, cells.label)
        for name, value in (("compression", cells.compression), ("generator", cells.generator)):
            known = getattr(found, name)
            if known and value and known != value:
                self._flaw("two words", number, f"{name} {shorten(value)}, before {shorten(known)}")
            setattr(found, name, known or value)
        score = self._number(number, cells.score)
        if score is not None:
            found.numbers.append(self.meaning.turned(score))
            found.names.append(cells.frame)

    def _number(self, number: int, text: str) -> float | None:
        text = text.strip()
        if not text:
            return None
        try:
            # Python reads 1_000, its own spelling of a thousand, where a list may hold two words.
            value = float(text.replace("_", "?"))
        except ValueError:
            self._flaw("no number", number, shorten(text))
            return None
        if not math.isfinite(value):
            self._flaw("no number", number, shorten(text))
        elif self.meaning.scale == "probability" and not 0 <= value <= 1:
            self._flaw("no probability", number, shorten(text))
        else:
            return value
        return None

    def _check_label(self, number: int, video_id: str, text: str) -> None:
        if not text:
            return
        wanted = ("REAL", "FAKE")[self.records[video_id].label]
        if with_label({"label": text})["label"] != wanted:
            said = f"{shorten(video_id)} is {wanted}, the file says {shorten(text)}"
            self._flaw("label", number, said)

    def _flaw(self, kind: str, number: int, words: str) -> None:
        self._flaw_counts[kind] += 1
        if len(self._flaws[kind]) < 5:
            self._flaws[kind].append(f"line {number}: {words}")

    def check(self) -> None:
        """Raise DatasetError where a row was not what it should be."""
        if not self.row_count:
            raise DatasetError(f"Asked for the scores in {self.path}; it has a header and no row.")
        for kind, words in _FLAWS.items():
            if count := self._flaw_counts[kind]:
                more = f" and {count - 5:,} more" if count > 5 else ""
                raise DatasetError(
                    f"{self.path}: {words[0]}: {'; '.join(self._flaws[kind])}{more}. {words[1]}"
                )

    def row_of(self, record: VideoRecord) -> ScoreRow:
        found = self._found.get(record.video_id, _Found())
        plain = ScoreRow(
            record.video_id, record.label, record.source_id, record.method,
            found.compression, found.generator,
        )  # fmt: skip
        words = dict(vars(plain))
        if not found.numbers:
            return ScoreRow(**words | {"reason": NOT_GIVEN})
        # Divided before they are added: the sum of large logits may have no end.
        mean = math.fsum(number / len(found.numbers) for number in found.numbers)
        pooled = max(found.numbers) if self.meaning.pool == "max" else mean
        if self.meaning.scale == "logit":
            words |= {"logit": pooled, "probability": float(sigmoid(pooled))}
        else:
            words["probability" if self.meaning.scale == "probability" else "score"] = pooled
        if self.meaning.threshold is not None:
            limit = self.meaning.turned(self.meaning.threshold)
            words["verdict"] = "fake" if pooled >= limit else "real"
        return ScoreRow(**words)

    def frames(self) -> dict[str, FrameScores]:
        return {
            video_id: FrameScores(tuple(found.names), tuple(found.numbers))
            for video_id, found in self._found.items()
            if found.numbers
        }


# What is wrong, and what to do, in the order in which it is said.
_FLAWS = {
    "two videos": (
        "rows whose name is that of two videos", "Give paths with more of their folders, or ids.",
    ),
    "twice": (
        "videos with more than one score", "Take one out, or name the column that tells a video's "
        "frames apart with --frame-column.",
    ),
    "label": (
        "labels that are not the benchmark's",
        "It is a list of other videos, or of other labels (0 and real, 1 and fake are understood).",
    ),
    "two words": ("frames of one video that do not agree", "A video has one of each."),
    "no number": (
        "scores that are no finite numbers",
        "Write them with a point, as 0.25; leave a cell empty where there is no score.",
    ),
    "no probability": (
        "scores outside [0, 1], which are no probabilities",
        "Say what they are: --logits, or --ranking for any other number.",
    ),
}  # fmt: skip
