"""A data set that is never trained on: its videos in use, each of them a test video."""

import json
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.data import archive, copies, datasets, raw, splits
from unmask.data.layouts.entry import Entry
from unmask.data.protocols.selection import select
from unmask.errors import DatasetError
from unmask.params import Benchmark, Raw
from unmask.records import VideoRecord
from unmask.runtime.disk import sole_writer, write_atomically
from unmask.runtime.record_files import write_index

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """The videos of a data set that a benchmark is about, and by whose word they are."""

    entries: tuple[Entry, ...]
    facts: Mapping[str, str | int]  # as JSON has them: by, taken, of, and those of a protocol


def fill(
    chunk_path: Path,
    raw_dir: Path,
    settings: Raw,
    wanted: Benchmark,
    *,
    workers: int,
    watch: raw.Watch,
) -> None:
    """Draw a benchmark's videos: fill videos/, write fingerprints.csv, listed.csv, chosen.json.

    settings says what becomes of copies, wanted which videos are taken; chosen.json says by
    whose word these are its test videos. What an interrupted run put into videos/ is kept. watch
    sees the long loops go by.

    Raises:
        DatasetError: the chunk is not what its layout promises, or a class is lacking of which
            a part was asked for.
        DiskError: another run fills that folder, or the disk takes no more.
    """
    with sole_writer(raw_dir):
        videos_dir, listed = raw_dir / "videos", raw_dir / "listed.csv"
        listed.unlink(missing_ok=True)
        with archive.open_chunk(chunk_path) as files:
            chosen = read_chosen(files, wanted, where=raw_dir.name)
            entries = chosen.entries
            records = draw(entries, settings, wanted, raw.find_absent(files, entries))
            raw.place(files, entries, records, videos_dir, watch=watch)
        listing = raw.fingerprint(records, raw_dir, workers=workers, watch=watch)
        listing = raw.without_contradictions(listing, videos_dir, settings, workers=workers)
        listing = raw.without_repeats(listing, settings)
        raw.delete_dropped(records, listing, videos_dir)
        words = json.dumps(chosen.facts, indent=2)
        write_atomically(raw_dir / "chosen.json", words + "\n")
        write_index(listed, listing.records)
        _tell(listing)


def read_chosen(files: archive.ChunkFiles, wanted: Benchmark, *, where: str) -> Chosen:
    """Return the test videos of a chunk: by its official protocol, if it has one, else as choose.

    where is what the log calls the data set.

    Raises:
        DatasetError: the chunk is not what its layout promises, or its official list is missing,
            bad, or names no video that is there.
    """
    entries = datasets.read(files)
    if wanted.videos != "test":
        return choose(entries, wanted, where=where)
    try:
        official = select(files, entries)
    except DatasetError as error:
        raise DatasetError(f"{error} Or set benchmark.videos to all.") from error
    if official is None:
        return choose(entries, wanted, where=where)
    protocol = official.protocol
    log.info(
        "%s: %d test videos by %s, version %d, of %d", where, len(official.entries),
        protocol.name, protocol.version, len(entries),
    )  # fmt: skip
    facts: dict[str, str | int] = {
        "protocol": protocol.name, "version": protocol.version, "named": official.named,
        "missing": len(official.missing), "list_sha256": official.list_sha256,
    }  # fmt: skip
    return Chosen(
        official.entries, {**_facts("official protocol", official.entries, entries), **facts}
    )


def choose(entries: Sequence[Entry], wanted: Benchmark, *, where: str) -> Chosen:
    """Return the videos that the data set calls its test videos; all if it names none.

    All of them, too, where wanted.videos is all. where is what the log calls the data set.

    Raises:
        DatasetError: some are called test, and others by a word that is no split's.
    """
    strange = sorted({e.split for e in entries if e.split.lower() not in {"", *splits.OWN_SPLITS}})
    own = [e for e in entries if splits.OWN_SPLITS.get(e.split.lower()) == "test"]
    if wanted.videos == "test" and own and strange:
        raise DatasetError(
            f"Asked for the test videos of {where}; it calls {len(own)} test, and others "
            f"{archive.first_few([archive.shorten(word) for word in strange])}, which may mean the "
            f"same. Known are {', '.join(splits.OWN_SPLITS)}. Mend them or set benchmark.videos to "
            "all."
        )
    if wanted.videos == "test" and own:
        log.info("%s: its own %d test videos, of %d", where, len(own), len(entries))
        return Chosen(tuple(own), _facts("its own test videos", own, entries))
    words = sorted({entry.split for entry in entries} - {""})
    named = f" (its own splits: {archive.first_few(words)})" if words else ""
    log.info("%s: all %d videos are taken%s", where, len(entries), named)
    return Chosen(tuple(entries), _facts("all videos", entries, entries))


def _facts(by: str, taken: Sequence[Entry], entries: Sequence[Entry]) -> dict[str, str | int]:
    return {"by": by, "taken": len(taken), "of": len(entries)}


def draw(
    entries: Sequence[Entry], settings: Raw, wanted: Benchmark, absent: Collection[str] = ()
) -> list[VideoRecord]:
    """Return the videos as test videos: all of them, or what wanted leaves of each class.

    absent names files that are listed and not there, as in splits.draw, which draws a part.

    Raises:
        DatasetError: a part is asked for, and a class is lacking.
    """
    if wanted.max_real is None and wanted.fakes_per_real is None:
        ordered = sorted(entries, key=lambda entry: entry.file)
        return [splits.record_of(entry, "test") for entry in ordered]
    counts = Counter(entry.label for entry in entries)
    if not counts[0] or (wanted.fakes_per_real and not counts[1]):
        raise DatasetError(
            "Asked for a part of a benchmark, so many fakes for each real video; it has "
            f"{counts[0]} real and {counts[1]} fake videos. Set benchmark.max_real and "
            "benchmark.fakes_per_real to null."
        )
    sides = splits.Sides({entry.file: "test" for entry in entries}, {}, own=True)
    ratio = wanted.fakes_per_real
    if ratio is None:  # so many that all fakes are drawn
        reals = sum(entry.label == 0 and entry.file not in absent for entry in entries)
        drawn = min(reals, wanted.max_real or reals)
        ratio = sum(entry.label == 1 for entry in entries) / max(drawn, 1)
    update = {"max_real": wanted.max_real, "fakes_per_real": ratio}
    return splits.draw(entries, sides, settings.model_copy(update=update), absent)


def _tell(listing: copies.Listing) -> None:
    counts = Counter(record.label for record in listing.records)
    log.info(
        "%s: %d real and %d fake videos of %d sources",
        listing.chunk, counts[0], counts[1], len({r.source_id for r in listing.records}),
    )  # fmt: skip
    if not (counts[0] and counts[1]):
        log.warning(
            "%s holds one class: %d real and %d fake videos. It has no AUC, nor any other metric "
            "that compares the two.", listing.chunk, counts[0], counts[1],
        )  # fmt: skip
