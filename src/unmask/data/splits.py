"""Which split every video of a chunk belongs to, and which videos are drawn.

Splits are assigned first, to all that the chunk lists, so drawing more videos moves none of them.
"""

import hashlib
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from unmask.data.archive import first_few, shorten
from unmask.data.copies import Listing
from unmask.data.layouts.entry import Entry
from unmask.data.leakage import find_twins
from unmask.errors import DatasetError
from unmask.params import Raw
from unmask.records import SPLITS, Split, VideoRecord

OWN_SPLITS: dict[str, Split] = {
    "train": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "test": "test",
}  # fmt: skip
PRIORITY: tuple[Split, ...] = ("train", "test", "validation")  # who goes without if few are there

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sides:
    """The side of each video, by its file; one that joins people of two sides has none.

    groups holds the identities that were assigned together, by each of their names. It has none
    where the chunk's own splits were kept, or where people of one group stand on several sides.
    """

    splits: Mapping[str, Split]
    groups: Mapping[str, frozenset[str]]
    own: bool  # whether the chunk itself named them


@dataclass(frozen=True)
class _Group:
    """Identities that get one side together."""

    identities: frozenset[str]
    classes: frozenset[int]
    share: float  # of the videos of the class of which it holds most


# ---------------------------------------------------------------- sides


def assign(entries: Iterable[Entry], settings: Raw) -> Sides:
    """Return the sides of all videos: the chunk's own, or people assigned by seed.

    The chunk's own are taken where settings.honour_split asks for it and all three are named; then
    a video without a word is left out, as are actors beside FaceForensics++'s official lists.
    Otherwise everybody whom videos join, a source and the donors of its fakes, gets one side; the
    sides share the identities by the ratios, and each gets both classes if there are enough. The
    order of the entries does not matter, and new sources move few of the others.

    Where videos join so many that no such sides exist (in Celeb-DF nearly everybody is swapped with
    everybody), the largest groups are taken apart: their people get sides one by one, or with those
    of one video, and a video that joins people of two sides gets none.

    Raises:
        DatasetError: the chunk's own splits are asked for and hold a word that is none.
    """
    entries = list(entries)
    words = {entry.split.lower() for entry in entries}
    meant = {OWN_SPLITS[word] for word in words if word in OWN_SPLITS}
    if settings.honour_split and meant == set(SPLITS):
        log.info("splits: the chunk's own")
        return Sides(_own_splits(entries), {}, own=True)
    named = sorted(shorten(word) for word in words - {""})
    # DFDC calls all of its public chunks train.
    if settings.honour_split and words - {"", "train"}:
        log.warning(
            "splits: drawn, because the videos' own words (%s) do not name all of %s; known are %s",
            first_few(named), ", ".join(SPLITS), ", ".join(OWN_SPLITS),
        )  # fmt: skip
    else:
        log.info("splits: drawn (the videos' own: %s)", first_few(named) or "none")
    ratios: dict[Split, float] = {
        "train": 1 - settings.validation_ratio - settings.test_ratio,
        "validation": settings.validation_ratio,
        "test": settings.test_ratio,
    }
    return _draw_sides(entries, ratios, settings.seed)


def _own_splits(entries: Sequence[Entry]) -> dict[str, Split]:
    strange = [entry for entry in entries if entry.split.lower() not in {"", *OWN_SPLITS}]
    if strange:
        named = first_few([f"{entry.file} ({entry.split})" for entry in strange])
        raise DatasetError(
            f"Asked for the chunk's own splits; {len(strange)} video(s) have another word than "
            f"{', '.join(OWN_SPLITS)}: {named}. Mend them or set raw.honour_split to false."
        )
    if blank := sorted(entry.file for entry in entries if not entry.split):
        log.warning(
            "splits: %d of %d videos have none among the chunk's own and are left out: %s",
            len(blank), len(entries), first_few(blank),
        )  # fmt: skip
    return {entry.file: OWN_SPLITS[entry.split.lower()] for entry in entries if entry.split}


def _draw_sides(entries: Sequence[Entry], ratios: Mapping[Split, float], seed: int) -> Sides:
    groups = join(entries)
    whole = _describe(groups, entries)
    units = _take_apart(whole, entries, ratios, seed)
    sides = _share_out(units, ratios, seed)
    splits = {}
    for entry in entries:
        met = {sides[identity] for identity in _identities(entry)}
        if len(met) == 1:
            splits[entry.file] = met.pop()
    if left_out := sorted(entry.file for entry in entries if entry.file not in splits):
        log.warning(
            "splits: %d of %d videos join people of two sides and are left out: %s",
            len(left_out), len(entries), first_few(left_out),
        )  # fmt: skip
    kept = {unit.identities for unit in units} & {group.identities for group in whole}
    return Sides(splits, {name: group for group in kept for name in group}, own=False)


def _identities(entry: Entry | VideoRecord) -> tuple[str, ...]:
    return entry.source_id, *entry.donors


def join(entries: Iterable[Entry | VideoRecord]) -> dict[str, frozenset[str]]:
    """Return for each identity all those whom videos join with it, directly or through others."""
    neighbours: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        for identity in _identities(entry):
            neighbours[identity].update(_identities(entry))
    groups: dict[str, frozenset[str]] = {}
    for identity in neighbours:
        if identity in groups:
            continue
        group, waiting = {identity}, [identity]
        while waiting:
            new = neighbours[waiting.pop()] - group
            group |= new
            waiting += new
        groups |= dict.fromkeys(group, frozenset(group))
    return groups


def _describe(groups: Mapping[str, frozenset[str]], entries: Iterable[Entry]) -> list[_Group]:
    """Return the groups with what they hold: videos that show nobody else."""
    totals: Counter[int] = Counter()
    counts: dict[frozenset[str], Counter[int]] = {group: Counter() for group in groups.values()}
    for entry in entries:
        totals[entry.label] += 1
        group = groups.get(entry.source_id, frozenset())
        if group.issuperset(_identities(entry)):
            counts[group][entry.label] += 1
    return [
        _Group(group, frozenset(held), max((held[c] / totals[c] for c in held), default=0.0))
        for group, held in counts.items()
    ]


def _take_apart(
    groups: Iterable[_Group], entries: Sequence[Entry], ratios: Mapping[Split, float], seed: int
) -> list[_Group]:
    """Return the groups, with those that stand in the way of the splits taken apart.

    A group does if it holds a larger share of a class than train should have, or if it holds a
    class that too few groups hold for each split to get one.
    """
    units, whole = list(groups), set(groups)
    while True:
        holders = Counter(label for unit in units for label in unit.classes)
        rare = {label for label, count in holders.items() if count < len(ratios)}
        hindering = [
            unit for unit in units
            if unit in whole and len(unit.identities) > 1
            and (unit.share > ratios["train"] or unit.classes & rare)
        ]  # fmt: skip
        if not hindering:
            return units
        largest = max(hindering, key=lambda unit: (unit.share, min(unit.identities)))
        whole.remove(largest)
        units.remove(largest)
        units += _describe(_match(largest.identities, entries, seed), entries)


def _match(
    people: frozenset[str], entries: Iterable[Entry], seed: int
) -> dict[str, frozenset[str]]:
    """Return for each person whom they stay with: the people of one video, or nobody else.

    So each split gets fakes even if few pairs of people share more than one video.
    """
    joining = [entry for entry in entries if entry.donors and people.issuperset(_identities(entry))]
    parts: dict[str, frozenset[str]] = {}
    for entry in sorted(joining, key=lambda entry: _chance("match", seed, entry.file)):
        if parts.keys().isdisjoint(_identities(entry)):
            parts |= dict.fromkeys(_identities(entry), frozenset(_identities(entry)))
    return parts | {name: frozenset([name]) for name in people - parts.keys()}


def _share_out(
    units: Iterable[_Group], ratios: Mapping[Split, float], seed: int
) -> dict[str, Split]:
    """Return the side of each identity, units with both classes first.

    Units of one kind stand in a line, shuffled; test takes the first, validation the next, train
    the others. So new ones push only those over that stand at a border. Large ones stand at the
    end, where train is: what is left of a small side's share is too small for them.
    """
    units = list(units)
    sides: dict[str, Split] = {}
    given: Counter[Split] = Counter()  # identities
    held: dict[Split, set[int]] = {split: set() for split in ratios}
    for kind in ({0, 1}, {0}, {1}, set[int]()):  # the last: donors without a video of their own
        line = sorted(
            (unit for unit in units if unit.classes == kind),
            key=lambda unit: (unit.share > min(ratios.values()), _place(unit, seed)),
        )
        total = given.total() + sum(len(unit.identities) for unit in line)
        needy = [split for split in PRIORITY if kind - held[split]]
        needy = needy[: len(line)]
        for split in ("test", "validation", "train"):
            least = needy.count(split)
            needy = [other for other in needy if other != split]
            count = _count_up_to(ratios[split] * total - given[split], line)
            count = min(max(count, least), len(line) - len(needy))
            if split == "train":  # the others have theirs
                count = len(line)
            for unit in line[:count]:
                sides |= dict.fromkeys(unit.identities, split)
                given[split] += len(unit.identities)
                held[split] |= unit.classes
            line = line[count:]
    return sides


def _place(unit: _Group, seed: int) -> bytes:
    return min(_chance("split", seed, identity) for identity in unit.identities)


def _count_up_to(wanted: float, line: Sequence[_Group]) -> int:
    """Return how many units make up so many identities; one counts if half of it fits."""
    count, identities = 0, 0
    while count < len(line) and identities + len(line[count].identities) / 2 < wanted:
        identities += len(line[count].identities)
        count += 1
    return count


def _chance(purpose: str, seed: int, name: str) -> bytes:
    """Return a key to sort by: a shuffle in which a new name leaves the others' order alone."""
    return hashlib.sha256(f"{purpose} {seed} {name}".encode()).digest()


# ---------------------------------------------------------------- drawing


def draw(
    entries: Iterable[Entry], sides: Sides, settings: Raw, absent: Collection[str] = ()
) -> list[VideoRecord]:
    """Return at most max_real real videos, and about fakes_per_real as many fakes on each side.

    The sides share the real videos as they share those of the chunk; each gets one at least. Every
    source of a drawn real video gives one fake before any gives a second; only when they have no
    more do the side's other sources follow. Of a source's fakes comes the one whose method was
    drawn least so far. The order of the entries does not matter.

    absent names files that the chunk lists and does not hold. They are drawn, to be accounted for,
    only where the others are fewer than asked for, and give no fakes a place.

    Raises:
        DatasetError: the chunk lacks a class that is asked for.
    """
    by_chance = sorted(
        (entry for entry in entries if entry.file in sides.splits),
        key=lambda entry: _chance("draw", settings.seed, entry.file),
    )
    labels = Counter(entry.label for entry in by_chance)
    if not labels[0] or (settings.fakes_per_real and not labels[1]):
        raise DatasetError(
            f"Asked for a draw of real and fake videos; one class only: the chunk lists "
            f"{labels[0]} real and {labels[1]} fake. Add the other class, or set "
            "raw.fakes_per_real to 0 if only real videos are wanted."
        )
    real, fakes = (
        {split: [e for e in by_chance if (sides.splits[e.file], e.label) == (split, label)]
         for split in SPLITS}
        for label in (0, 1)
    )  # fmt: skip
    drawn = []
    for split, chosen in _draw_real(real, settings.max_real, absent).items():
        there = [entry for entry in chosen if entry.file not in absent]
        wanted = max(1, round(settings.fakes_per_real * len(there))) if chosen else 0
        if settings.fakes_per_real:
            chosen += _draw_fakes(split, fakes[split], chosen, wanted, absent)
        drawn += chosen
    return [
        record_of(entry, sides.splits[entry.file])
        for entry in sorted(drawn, key=lambda entry: entry.file)
    ]


def record_of(entry: Entry, split: Split) -> VideoRecord:
    """Return the row of a video that stands in a split."""
    return VideoRecord(
        video_id=PurePosixPath(entry.file).stem, file=entry.file, label=entry.label,
        source_id=entry.source_id, method=entry.method, split=split,
        donors=entry.donors, forged=entry.forged,
    )  # fmt: skip


def _draw_real(
    real: Mapping[Split, Sequence[Entry]], seats: int | None, absent: Collection[str]
) -> dict[Split, list[Entry]]:
    drawn: dict[Split, list[Entry]] = {split: [] for split in SPLITS}
    for is_absent in (False, True):
        group = {
            split: [entry for entry in real[split] if (entry.file in absent) == is_absent]
            for split in SPLITS
        }
        left = seats if seats is None else seats - sum(map(len, drawn.values()))
        limits = _share_seats({split: len(group[split]) for split in SPLITS}, left)
        for split in SPLITS:
            drawn[split] += group[split][: limits[split]]
    return drawn


def _share_seats(there: Mapping[Split, int], seats: int | None) -> Counter[Split]:
    """Return how many videos each side draws of those there, one at least, seats in all.

    By Sainte-Laguë's method, in which nobody loses a seat when there are more.
    """
    if seats is None or seats >= sum(there.values()):
        return Counter(there)
    given: Counter[Split] = Counter()
    for _ in range(seats):
        given[max(PRIORITY, key=lambda split: _claim(there[split], given[split]))] += 1
    return given


def _claim(there: int, given: int) -> float:
    if given >= there:
        return 0.0
    return there / (2 * given + 1) if given else float("inf")


def _draw_fakes(
    split: Split,
    fakes: Sequence[Entry],
    real: Sequence[Entry],
    wanted: int,
    absent: Collection[str],
) -> list[Entry]:
    sources = {entry.source_id for entry in real}
    drawn: list[Entry] = []
    used: Counter[str] = Counter()
    for turn in ((False, True), (False, False), (True, True), (True, False)):
        group = [e for e in fakes if (e.file in absent, e.source_id in sources) == turn]
        drawn += _draw_evenly(group, wanted - len(drawn), used)
    if len(drawn) < wanted:
        log.warning(
            "%s: asked for %d fakes, the chunk has %d: all are used", split, wanted, len(drawn)
        )
    return drawn


def _draw_evenly(fakes: Iterable[Entry], wanted: int, used: Counter[str]) -> list[Entry]:
    """Return wanted fakes, one a source in each round, and count their methods into used."""
    queues: dict[str, dict[str, deque[Entry]]] = defaultdict(lambda: defaultdict(deque))
    for fake in fakes:
        queues[fake.source_id][fake.method].append(fake)
    drawn: list[Entry] = []
    while queues and len(drawn) < wanted:
        for source in list(queues)[: wanted - len(drawn)]:
            methods = queues[source]
            # Dicts keep their order, which is chance's: it decides between equals.
            method = min(methods, key=lambda method: used[method])
            drawn.append(methods[method].popleft())
            used[method] += 1
            if not methods[method]:
                del methods[method]
            if not methods:
                del queues[source]
    return drawn


# ---------------------------------------------------------------- twins


def gather_twins(listing: Listing, sides: Sides, alike_ratio: float) -> list[VideoRecord]:
    """Return the videos after those that are the same as one on another side went to train.

    With a video goes its whole group. Where people of one group stand on several sides that would
    tear others apart: there the video alone is left out.
    """
    records, moved, left_out = list(listing.records), set[str](), set[str]()
    # What came to train may have a twin where it came from, so look again.
    while twins := list(find_twins([replace(listing, records=records)], alike_ratio)):
        for pair in twins:
            log.info("%s: %s", listing.chunk, pair)
            record = pair.first.record
            if record.source_id in sides.groups:
                moved |= sides.groups[record.source_id]
            else:
                left_out.add(record.file)
        records = [
            replace(record, split="train") if record.source_id in moved else record
            for record in records if record.file not in left_out
        ]  # fmt: skip
    if moved or left_out:
        log.warning(
            "%s: the same pictures on two sides: %d source(s) moved to train: %s; %d video(s) left "
            "out: %s",
            listing.chunk, len(moved), first_few(sorted(moved)) or "-",
            len(left_out), first_few(sorted(left_out)) or "-",
        )  # fmt: skip
    return records
