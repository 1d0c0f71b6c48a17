"""Which of many perceptual hashes differ in a few bits, without comparing all with all.

Multi-index hashing: M. Norouzi, A. Punjani and D. J. Fleet, Fast Search in Hamming Space with
Multi-Index Hashing, CVPR 2012, section 3. The bits are dealt to a number of parts. Two hashes that
differ in a few bits have a part in which they differ in hardly any, so the candidates are found in
tables of the parts' values. Each candidate is then compared in full, so the answer is that of a
full comparison.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from unmask.records import Fingerprint

PICTURE_BITS = 256  # of a perceptual hash
NONE = 2**62  # more than any number that find_closest compares

_TILE = 256, 2048  # hashes compared at once: what is between the steps stays in the CPU's cache
_MOST_PART_BITS = 24  # a table of a part's values has 2**24 entries of 4 bytes at most
_MOST_PARTS = 64
_PROBES, _CANDIDATES = 2**18, 2**19  # handled at once: a few dozen MB
# Nanoseconds, measured on one core of a Xeon: a comparison among all with all, a look into a
# table, a candidate compared, an entry of a table.
_COMPARE_NS, _PROBE_NS, _CANDIDATE_NS, _ENTRY_NS = 6.0, 15.0, 40.0, 3.0
_CROWD = 16  # a hash with more candidates in a part than this share of all is compared with all

Hashes = NDArray[np.uint64]  # N rows of four words
Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint16]]


def find_closest(
    fingerprints: Sequence[Fingerprint], others: Sequence[Fingerprint], limit: int
) -> dict[int, tuple[int, int]]:
    """Return, by video number, the smallest difference in bits to another video, and its number.

    Only videos with a difference of at most limit bits are included. Of several others that are
    equally close the first is taken.
    """
    first_owner: dict[str, int] = {}
    for number, other in enumerate(others):
        for picture in other.pictures:
            first_owner.setdefault(picture, number)
    owners_M = np.fromiter(first_owner.values(), np.int64, len(first_owner))
    pictures = list(dict.fromkeys(each for found in fingerprints for each in found.pictures))
    best_N = np.full(len(pictures), NONE)
    for rows_P, columns_P, bits_P in near_pairs(
        stack_hashes(pictures), stack_hashes(list(first_owner)), limit
    ):
        np.minimum.at(best_N, rows_P, bits_P.astype(np.int64) << 32 | owners_M[columns_P])
    best = dict(zip(pictures, best_N.tolist(), strict=True))
    closest = {}
    for number, found in enumerate(fingerprints):
        nearest = min((best[picture] for picture in found.pictures), default=NONE)
        if nearest < NONE:
            closest[number] = divmod(nearest, 2**32)
    return closest


def stack_hashes(pictures: Sequence[str]) -> Hashes:
    """Return hashes in hex as four words each."""
    words = np.frombuffer(bytes.fromhex("".join(pictures)), np.uint64)
    return words.reshape(-1, PICTURE_BITS // 64)


def near_pairs(hashes_N4: Hashes, others_M4: Hashes, limit: int) -> Iterator[Pairs]:
    """Yield all pairs that differ in at most limit bits: rows, rows of others, bits.

    They come in blocks, in no particular order, and a pair may come several times. How long it
    takes grows with the number of hashes, and with the number of pairs that are alike in a part.
    A limit above a tenth of the bits leaves little to save: there all are compared with all.
    """
    count = _choose_parts(len(hashes_N4), len(others_M4), limit)
    if count is None:
        yield from _compare_all(hashes_N4, others_M4, np.arange(len(hashes_N4)), limit)
    else:
        yield from _look_up(hashes_N4, others_M4, limit, count)


def _look_up(hashes_N4: Hashes, others_M4: Hashes, limit: int, count: int) -> Iterator[Pairs]:
    """Yield the same pairs by tables of so many parts."""
    left_N = np.ones(len(hashes_N4), bool)  # those that no part was too crowded for
    for part, reach in enumerate(_reaches(limit, count)):
        # Neighbouring bits of a hash go together more often than bits that are far apart.
        places = range(part, PICTURE_BITS, count)
        table = _Table(_values(others_M4, places), len(places), reach)
        values_N = _values(hashes_N4, places)
        for rows in np.array_split(
            np.flatnonzero(left_N), 1 + len(hashes_N4) * len(table.flips) // _PROBES
        ):
            starts, ends = table.look_up(values_N[rows])
            is_crowded = (ends - starts).sum(axis=1) > max(_TILE[1], len(others_M4) // _CROWD)
            left_N[rows[is_crowded]] = False
            few = rows[~is_crowded]
            for near, columns in table.candidates(starts[~is_crowded], ends[~is_crowded]):
                yield from _keep(hashes_N4, others_M4, few[near], columns, limit)
    yield from _compare_all(hashes_N4, others_M4, np.flatnonzero(~left_N), limit)


def count_differing(hashes_N4: Hashes, others_M4: Hashes) -> NDArray[np.uint16]:
    """Return in how many bits each hash differs from each of the others."""
    bits_NM = np.zeros((len(hashes_N4), len(others_M4)), np.uint16)  # 256 would be 0 in a byte
    for word in range(hashes_N4.shape[1]):
        bits_NM += np.bitwise_count(hashes_N4[:, None, word] ^ others_M4[None, :, word])
    return bits_NM


def _compare_all(
    hashes_N4: Hashes, others_M4: Hashes, rows_R: NDArray[np.int64], limit: int
) -> Iterator[Pairs]:
    for row in range(0, len(rows_R), _TILE[0]):
        rows = rows_R[row : row + _TILE[0]]
        for column in range(0, len(others_M4), _TILE[1]):
            bits_NM = count_differing(hashes_N4[rows], others_M4[column : column + _TILE[1]])
            near_R, near_C = np.nonzero(bits_NM <= limit)
            if len(near_R):
                yield rows[near_R], column + near_C, bits_NM[near_R, near_C]


def _keep(
    hashes_N4: Hashes,
    others_M4: Hashes,
    rows_P: NDArray[np.int64],
    columns_P: NDArray[np.int64],
    limit: int,
) -> Iterator[Pairs]:
    differing = np.bitwise_count(hashes_N4[rows_P] ^ others_M4[columns_P])
    bits_P = differing.sum(axis=1, dtype=np.uint16)
    kept = bits_P <= limit
    if kept.any():
        yield rows_P[kept], columns_P[kept], bits_P[kept]


# ---------------------------------------------------------------- parts


def _choose_parts(count: int, others: int, limit: int) -> int | None:
    """Return the number of parts that takes the least time; None for all with all."""
    least, chosen = count * others * _COMPARE_NS, None
    for parts in range(-(-PICTURE_BITS // _MOST_PART_BITS), _MOST_PARTS + 1):
        width = PICTURE_BITS / parts
        needed = 0.0
        for reach in _reaches(limit, parts):
            probes = sum(comb(round(width), flipped) for flipped in range(reach + 1))
            each_ns = _PROBE_NS + others / 2**width * _CANDIDATE_NS
            needed += (2**width + others * 20) * _ENTRY_NS + count * probes * each_ns
        if needed < least:
            least, chosen = needed, parts
    return chosen


def _reaches(limit: int, parts: int) -> list[int]:
    """Return in how many bits each part that is looked at may differ.

    Hashes that differ in more bits than that in every part differ in more than limit bits: with
    limit = whole * parts + rest, in (rest + 1) * (whole + 1) + (parts - rest - 1) * whole bits or
    more, which is limit + 1.
    """
    whole, rest = divmod(limit, parts)
    return [whole] * (rest + 1) + ([whole - 1] * (parts - rest - 1) if whole else [])


def _values(hashes_N4: Hashes, places: Sequence[int]) -> NDArray[np.int32]:
    """Return the bits at some places of each hash as one number."""
    values_N = np.zeros(len(hashes_N4), np.int32)
    for number, place in enumerate(places):
        word, shift = divmod(place, 64)
        bit_N = (hashes_N4[:, word] >> np.uint64(shift)) & np.uint64(1)
        values_N |= bit_N.astype(np.int32) << number
    return values_N


class _Table:
    """Hashes by the value of one part, and how far around a value is looked."""

    def __init__(self, values_M: NDArray[np.int32], width: int, reach: int) -> None:
        self._order = np.argsort(values_M)
        sizes = np.bincount(values_M, minlength=2**width)
        self._starts = np.zeros(2**width + 1, np.int32)
        np.cumsum(sizes, out=self._starts[1:])
        self.flips = np.array(
            [
                sum(1 << place for place in places)
                for flipped in range(reach + 1)
                for places in combinations(range(width), flipped)
            ],
            np.int32,
        )

    def look_up(self, values_N: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return where the candidates of each value begin and end, for each flip of its bits."""
        near_NF = values_N[:, None] ^ self.flips
        return self._starts[near_NF], self._starts[near_NF + 1]

    def candidates(
        self, starts_NF: NDArray[np.int32], ends_NF: NDArray[np.int32]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the rows of the values and of the hashes in the table that look_up found."""
        rows, flips = np.nonzero(ends_NF > starts_NF)
        starts = starts_NF[rows, flips].astype(np.int64)
        sizes = ends_NF[rows, flips] - starts
        before = np.cumsum(sizes) - sizes
        if not len(rows):
            return
        for some in np.split(
            np.arange(len(rows)), np.flatnonzero(np.diff(before // _CANDIDATES)) + 1
        ):
            offsets = np.repeat(starts[some] - (before[some] - before[some[0]]), sizes[some])
            places = offsets + np.arange(len(offsets))
            yield np.repeat(rows[some], sizes[some]), self._order[places]
