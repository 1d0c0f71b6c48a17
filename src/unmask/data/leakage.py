"""The leakage check: nothing that the training has seen may stand in validation or test.

A detector can learn to know a person, a room or a file again. Scores of a split that shares one
of them with the training are too good, and nothing else would show it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.data.copies import EMPTY, Listing, Video
from unmask.data.near_hashes import PICTURE_BITS, find_closest
from unmask.data.words import key_of
from unmask.errors import DatasetError
from unmask.params import Raw
from unmask.records import SPLITS, Fingerprint, Split, VideoRecord
from unmask.runtime.record_files import read_fingerprints, read_index

MAX_NAMED = 5  # leaks of one kind that a message names


@dataclass(frozen=True)
class Twins:
    """Two videos on different sides that are one file, or show nearly one picture."""

    first: Video
    second: Video
    differing_bits: int | None  # of PICTURE_BITS, between their closest frames; None: one file

    def __str__(self) -> str:
        differing = f", {self.differing_bits} bits differ" if self.differing_bits else ""
        return f"{self.first} and {self.second}{differing}"


@dataclass(frozen=True)
class Leaks:
    """What stands on two sides, and which classes are lacking."""

    identities: tuple[str, ...] = ()
    files: tuple[Twins, ...] = ()
    pictures: tuple[Twins, ...] = ()
    classes: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return a line for each kind of leak; empty where there is none."""
        kinds: list[tuple[str, Sequence[object], str]] = [
            ("source(s) or identities on two sides", self.identities, ", "),
            ("file(s) on two sides", self.files, "; "),
            ("video(s) that look like one on another side", self.pictures, "; "),
            ("split(s) that lack a class", self.classes, "; "),
        ]
        return "\n".join(
            f"  {len(found)} {kind}: {_name_some(found, separator)}"
            for kind, found, separator in kinds if found
        )  # fmt: skip


def read_listing(chunk: str, folder: Path) -> Listing:
    """Return what the raw stage wrote of a chunk.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    fingerprints = read_fingerprints(folder / "fingerprints.csv")
    return Listing(chunk, read_index(folder / "index.csv"), fingerprints)


def check(listings: Sequence[Listing], settings: Raw) -> None:
    """Pass if the splits of all the chunks together are free of leaks.

    Raises:
        DatasetError: they are not; up to five leaks of each kind are named, the others counted.
    """
    if found := find_leaks(listings, settings).describe():
        raise DatasetError(
            f"Asked for splits of {', '.join(listing.chunk for listing in listings)} that share "
            f"nothing and hold both classes; found\n{found}\n"
            "  Mend the chunk's own splits or its metadata, or set raw.honour_split to false; add "
            "videos of more sources. Where different people only look alike, lower "
            "raw.alike_ratio."
        )


def find_leaks(listings: Sequence[Listing], settings: Raw) -> Leaks:
    """Return everything that the splits of all the chunks together share, and what they lack.

    Each class is asked of each split of each chunk, but for fakes where raw.fakes_per_real is 0.
    Once there are fingerprints, a video without one, whose file is missing, does not count.
    """
    twins = list(find_twins(listings, settings.alike_ratio))
    return Leaks(
        identities=tuple(_find_identities(listings)),
        files=tuple(pair for pair in twins if pair.differing_bits is None),
        pictures=tuple(pair for pair in twins if pair.differing_bits is not None),
        classes=tuple(_find_lacking(listings, settings)),
    )


def _find_identities(listings: Sequence[Listing]) -> Iterator[str]:
    places: dict[str, set[tuple[str, Split]]] = defaultdict(set)
    names: dict[str, str] = {}  # as they are spelled where they come first
    for listing in listings:
        for record in listing.records:
            for identity in record.identities:
                key = key_of(identity)
                places[names.setdefault(key, identity)].add((listing.chunk, record.split))
    for identity, found in sorted(places.items()):
        if len({split for _, split in found}) > 1:
            named = [
                f"{listing.chunk}: {split}" if len(listings) > 1 else split
                for listing in listings for split in SPLITS if (listing.chunk, split) in found
            ]  # fmt: skip
            yield f"{identity} ({', '.join(named)})"


def _find_lacking(listings: Iterable[Listing], settings: Raw) -> Iterator[str]:
    for listing in listings:
        prints = listing.fingerprints
        counts = Counter(
            (record.split, record.label)
            for record in listing.records if prints is None or record.video_id in prints
        )  # fmt: skip
        for split in SPLITS:
            real, fake = counts[split, 0], counts[split, 1]
            is_whole = real and (fake or not settings.fakes_per_real)
            if not is_whole:
                there = "" if prints is None else " whose file is there"
                yield f"{listing.chunk}, {split}: {real} real and {fake} fake{there}"


def _name_some(leaks: Sequence[object], separator: str) -> str:
    # Not archive's first_few: archive would become a dependency of training, and retrain.
    more = len(leaks) - MAX_NAMED
    named = separator.join(str(leak) for leak in leaks[:MAX_NAMED])
    return named + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------- twins


def find_twins(listings: Iterable[Listing], alike_ratio: float) -> Iterator[Twins]:
    """Yield each video of validation and test with one on another side that is the same.

    That is the same file, or else the one with the closest frame, if the hashes of both frames
    differ by alike_ratio of their bits at most. One that shares an identity is passed over: a fake
    looks like the video it was made from.
    """
    videos: dict[Split, list[tuple[Video, Fingerprint]]] = {split: [] for split in SPLITS}
    for listing in listings:
        prints = listing.fingerprints or {}
        for record in listing.records:
            if found := prints.get(record.video_id):
                videos[record.split].append((Video(listing.chunk, record), found))
    limit = int(alike_ratio * PICTURE_BITS)
    # A pair of validation and test is found once, with validation's video first.
    others = videos["train"]
    for split in ("test", "validation"):
        yield from _find_twins_among(videos[split], others, limit)
        others = others + videos[split]


def _find_twins_among(
    videos: Sequence[tuple[Video, Fingerprint]],
    others: Sequence[tuple[Video, Fingerprint]],
    limit: int,
) -> Iterator[Twins]:
    by_content: dict[str, list[Video]] = defaultdict(list)
    for video, fingerprint in others:
        if fingerprint.sha256 != EMPTY:
            by_content[fingerprint.sha256].append(video)
    prints, other_prints = ([each for _, each in group] for group in (videos, others))
    closest = find_closest(prints, other_prints, limit)
    for number, (video, fingerprint) in enumerate(videos):
        same = (o for o in by_content[fingerprint.sha256] if not _are_related(video, o))
        if other := next(same, None):
            yield Twins(video, other, None)
        elif number in closest:
            bits, index = closest[number]
            if not _are_related(video, others[index][0]):
                yield Twins(video, others[index][0], bits)


def _are_related(first: Video, second: Video) -> bool:
    people = {key_of(identity) for identity in first.record.identities}
    return not people.isdisjoint(map(key_of, second.record.identities))


# ---------------------------------------------------------------- the table


def table(records: Iterable[VideoRecord]) -> str:
    """Return a text table: videos, sources and videos of each method, per split and in all.

    >>> print(table([VideoRecord("a", "a.mp4", 0, "p1", "real", "train"),
    ...              VideoRecord("b", "b.mp4", 1, "p1", "blend", "train"),
    ...              VideoRecord("c", "c.mp4", 1, "p2", "blend", "test")]))
                      train  validation        test         all
    videos                2           0           1           3
    sources               1           0           1           2
    real                  1           0           0           1
    fake: blend           1           0           1           2
    """
    records = list(records)
    columns = {split: [r for r in records if r.split == split] for split in SPLITS}
    groups = [*columns.values(), records]
    kinds = sorted({(record.label, record.method) for record in records})
    rows: list[tuple[str, list[int]]] = [
        ("videos", [len(group) for group in groups]),
        ("sources", [len({record.source_id for record in group}) for group in groups]),
    ]
    for label, method in kinds:
        name = method if (label, method) == (0, "real") else f"{['real', 'fake'][label]}: {method}"
        of_kind = [sum((r.label, r.method) == (label, method) for r in group) for group in groups]
        rows.append((name, of_kind))
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{name:>12}" for name in [*columns, "all"])]
    for name, numbers in rows:
        lines.append(f"{name:<{width}}" + "".join(f"{number:>12}" for number in numbers))
    return "\n".join(lines)
