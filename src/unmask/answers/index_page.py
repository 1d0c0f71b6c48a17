"""Many videos' answers as one page of thumbnails: to be looked through, sorted and filtered.

The page has no script: it sorts and filters by CSS, which follows its buttons by `:has()`.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from unmask.answers import messages, thumbnails, timeline
from unmask.answers.answers_file import NO_ANSWER, OUTCOMES, Row, RunInfo, outcome
from unmask.answers.drawing import Picture, as_jpeg_uri
from unmask.answers.provenance import INDEX_MARK
from unmask.errors import MALFORMED, UnmaskError
from unmask.runtime.disk import create, delete_stale, give_name, new_name, writing
from unmask.runtime.plain_text import shown_name
from unmask.runtime.templates import read_template
from unmask.scoring.verdicts import Doubt, Verdict

TEMPLATE = Path(__file__).with_name("index_page.html")
_JPEG_QUALITY = 70
_KINDS = dict(zip(OUTCOMES, ("fake", "real", "inconclusive", "none"), strict=True))  # in the CSS


@dataclass(frozen=True)
class Entry:
    """What the page says of one video."""

    path: Path
    outcome: str  # one of OUTCOMES
    probability: float | None
    doubts: tuple[Doubt, ...]
    reason: str | None
    worst_s: float | None  # where the most suspicious clip begins
    duration_s: float | None
    faces: int
    report: Path | None  # its page

    @classmethod
    def of(cls, row: Row, report: Path | None) -> "Entry":
        """Return the entry of a row, which may come from a file of answers.

        Raises:
            UnmaskError: the row was damaged.
        """
        try:
            Verdict(row["verdict"])
            faces = row["faces"]
            return cls(
                Path(row["path"]), outcome(row), _number(row["probability"]),
                tuple(Doubt(each) for each in row["doubts"]), row["reason"],
                _number(row["worst"][0]["time_s"]) if row["worst"] else None,
                _number(row["duration_s"]), faces if isinstance(faces, int) else len(faces), report,
            )  # fmt: skip
        except MALFORMED as error:
            raise UnmaskError(
                f"{row['path']}: asked to list its answer, found a row that was damaged: "
                f"{error!r:.200}. Begin the file of answers anew by --again."
            ) from error


@dataclass(frozen=True)
class _Card:
    """A video as it is shown, and its place in each order."""

    entry: Entry
    kind: str
    name: str
    picture: str | None  # with all of it in it
    href: str | None
    places: dict[str, int]

    @property
    def remarks(self) -> list[str]:
        """Return what stands in the way of a better answer, in a few words each."""
        words = [str(doubt) for doubt in self.entry.doubts if doubt is not Doubt.NO_SCORE]
        if self.entry.reason and self.entry.reason not in words:
            words.append(self.entry.reason)
        return [word.replace("_", " ") for word in words]


def write(
    out: Path, entries: Sequence[Entry], run_info: RunInfo, *, made_utc: str, workers: int
) -> None:
    """Write the page; workers is how many processes decode videos for their thumbnails.

    It is written as thumbnails come: they are never held together.

    Raises:
        DiskError: the disk takes no more.
    """
    pictures = thumbnails.take(
        [(entry.path, entry.worst_s or 0.0) for entry in entries], _uri, workers=workers
    )
    names = _names([entry.path for entry in entries])
    orders = _orders(entries, names)
    cards = (
        _Card(
            entry, _KINDS[entry.outcome], name, picture, _href(out, entry.report),
            {key: order[place] for key, order in orders.items()},
        )
        for place, (entry, name, picture) in enumerate(zip(entries, names, pictures, strict=True))
    )  # fmt: skip
    doubts = Counter(doubt for entry in entries for doubt in entry.doubts)
    pieces = read_template(TEMPLATE).generate(
        mark=INDEX_MARK,
        cards=cards,
        count=len(entries),
        kinds={
            name: (kind, sum(e.outcome == name for e in entries)) for name, kind in _KINDS.items()
        },
        doubts={doubt: doubts[doubt] for doubt in Doubt if doubts[doubt]},
        clear=sum(not entry.doubts for entry in entries),
        is_calibrated=not doubts[Doubt.NOT_CALIBRATED],
        no_answer=NO_ANSWER,
        run=run_info,
        made_utc=made_utc,
        caution=messages.CAUTION,
        percent=messages.percent,
        clock=timeline.clock,
    )
    partial = new_name(out, "partial")
    with writing(out), closing(pictures):
        delete_stale(out, "partial")
        try:
            with os.fdopen(create(partial), "w", encoding="utf-8", newline="") as file:
                file.writelines(pieces)
            give_name(partial, out)
        finally:
            partial.unlink(missing_ok=True)


def _uri(picture_HWC: Picture) -> str:
    return as_jpeg_uri(picture_HWC, _JPEG_QUALITY)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.40} is no number")
    return float(value)


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the paths from the folder on that all of them lie in: where it lies is nobody's."""
    whole = [os.path.abspath(path) for path in paths]
    folder = os.path.commonpath([os.path.dirname(path) for path in whole]) if whole else ""
    return [shown_name(os.path.relpath(path, folder)) for path in whole]


def _href(out: Path, report: Path | None) -> str | None:
    """Return a link to a file from where the page lies: never one with a scheme or a host."""
    if report is None:
        return None
    way = os.path.relpath(os.path.abspath(report), os.path.dirname(os.path.abspath(out)))
    return "./" + quote(os.fsencode(way))


def _orders(entries: Sequence[Entry], names: Sequence[str]) -> dict[str, list[int]]:
    """Return each video's place in each order; one without a value comes last."""
    count = range(len(entries))

    def by(value: Callable[[int], Any], *, down: bool = False) -> list[int]:
        known = sorted((p for p in count if value(p) is not None), key=value, reverse=down)
        return _inverse(known + [p for p in count if value(p) is None])

    return {
        "suspicion": by(lambda p: entries[p].probability, down=True),
        "innocence": by(lambda p: entries[p].probability),
        "name": by(lambda p: names[p].casefold()),
        "length": by(lambda p: entries[p].duration_s, down=True),
        "asked": list(count),
    }


def _inverse(ranked: Sequence[int]) -> list[int]:
    found = [0] * len(ranked)
    for rank, place in enumerate(ranked):
        found[place] = rank
    return found
