"""What of a benchmark the training has seen: a file, its pictures, or somebody in them.

A benchmark asks how a detector does on videos that it knows nothing of. Where the chunks that it
was trained on hold the same file, the same pictures encoded anew, or the same people, the answer is
too good, and nothing else would show it.
"""

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from unmask.data.copies import Listing, Video
from unmask.data.leakage import MAX_NAMED, Twins, find_twins
from unmask.data.words import key_of
from unmask.errors import DatasetError
from unmask.params import Benchmark
from unmask.records import Split, VideoRecord
from unmask.runtime.disk import write_atomically
from unmask.runtime.plain_text import plain_cell

Kind = Literal["file", "pictures", "identity"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TRAINED_ON: tuple[Split, ...] = ("train", "validation")  # validation chose the epoch
COLUMNS = ("video_id", "file", "shares", "with")
_WORDS: dict[Kind, str] = {
    "file": "video(s) are files that were trained on",
    "pictures": "video(s) look like one that was trained on",
    "identity": "video(s) show a person or recording that was trained on",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shared:
    """A video of a benchmark, and the closest thing of it that the training has seen."""

    record: VideoRecord
    kind: Kind
    other: str  # the video of a training chunk, or who is shown and in which of its splits

    def __str__(self) -> str:
        return f"{self.record.file} = {self.other}"


def find_shared(trained: Sequence[Listing], benchmark: Listing, alike_ratio: float) -> list[Shared]:
    """Return the videos of a benchmark of which training or validation has seen something.

    That is the same file; or pictures whose hashes differ by alike_ratio of their bits at most; or
    a source or donor of the same name. A video that shares several of these stands there once, by
    the first of them. They come in the order of the benchmark.
    """
    seen = [
        replace(listing, records=[r for r in listing.records if r.split in TRAINED_ON])
        for listing in trained
    ]
    twins = {twin.first.record.video_id: twin for twin in _find_twins(seen, benchmark, alike_ratio)}
    people: dict[str, str] = {}
    for listing in seen:
        for record in listing.records:
            for who in record.identities:
                people.setdefault(key_of(who), f"{who} ({listing.chunk}: {record.split})")
    originals = {Video(one.chunk, r).place: r for one in seen for r in one.records}
    found = []
    for record in benchmark.records:
        known = next((people[key_of(w)] for w in record.identities if key_of(w) in people), None)
        if twin := twins.get(record.video_id):
            kind: Kind = "file" if twin.differing_bits is None else "pictures"
            found.append(Shared(record, kind, _say(twin, originals)))
        elif known:
            found.append(Shared(record, "identity", known))
    return found


def _find_twins(seen: Sequence[Listing], benchmark: Listing, alike_ratio: float) -> Iterator[Twins]:
    # find_twins compares sides, and passes over what shares an identity: so the training is one
    # side, the benchmark another, and everybody gets a name of their own.
    sides: list[tuple[Listing, Split]] = [*((one, "train") for one in seen), (benchmark, "test")]
    yield from find_twins(
        [
            replace(listing, records=[
                replace(r, source_id=f"{place}/{r.video_id}", donors=(), split=side)
                for r in listing.records
            ])
            for place, (listing, side) in enumerate(sides)
        ],
        alike_ratio,
    )  # fmt: skip


def _say(twin: Twins, originals: Mapping[tuple[str, str], VideoRecord]) -> str:
    """Return the training video with the split that it really stands in."""
    differing = f", {twin.differing_bits} bits differ" if twin.differing_bits else ""
    return f"{Video(twin.second.chunk, originals[twin.second.place])}{differing}"


def settle(
    shared: Sequence[Shared], benchmark: Listing, wanted: Benchmark, *, table: Path
) -> list[VideoRecord]:
    """Return the benchmark's videos without those of which the training has seen something.

    table is where their whole list stands.

    Raises:
        DatasetError: there are some and benchmark.shared is refuse; or no video is left.
    """
    if not shared:
        return list(benchmark.records)
    said = "\n".join(_describe(shared))
    if wanted.shared == "refuse":
        raise DatasetError(
            f"Asked for the benchmark {benchmark.chunk}, of which training has seen nothing; "
            f"found\n{said}\n  {table} lists all of them. Take them out of one of the two, or set "
            "benchmark.shared to leave_out, which counts them. Where different people only have "
            "one name, rename them; where they only look alike, lower raw.alike_ratio."
        )
    gone = {each.record.video_id for each in shared}
    kept = [record for record in benchmark.records if record.video_id not in gone]
    log.warning(
        "%s: %d of %d videos left out, as training has seen something of them:\n%s",
        benchmark.chunk, len(gone), len(benchmark.records), said,
    )  # fmt: skip
    if not kept:
        raise DatasetError(
            f"Asked for the benchmark {benchmark.chunk} without what training has seen; of its "
            f"{len(gone)} videos none is left. {table} lists them. Name another benchmark."
        )
    return kept


def _describe(shared: Sequence[Shared]) -> Iterator[str]:
    for kind in KINDS:
        found = [each for each in shared if each.kind == kind]
        if found:
            more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
            yield f"  {len(found)} {_WORDS[kind]}: {'; '.join(map(str, found[:MAX_NAMED]))}{more}"


def write_shared(path: Path, shared: Iterable[Shared]) -> None:
    """Write a row for each video: what it shares, and with what."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    for each in shared:
        words = each.record.video_id, each.record.file, each.kind, each.other
        rows.writerow([plain_cell(word) for word in words])
    write_atomically(path, out.getvalue())


def count_shared(path: Path) -> dict[str, int]:
    """Return how many videos share each of KINDS, by a table that write_shared wrote.

    Raises:
        DatasetError: there is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            counts = Counter(row["shares"] for row in csv.DictReader(lines))
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DatasetError(
            f"Asked for {path}, which says what was left out of a benchmark; found {error!r}. Run "
            "`dvc repro`."
        ) from error
    return {kind: counts[kind] for kind in KINDS}
