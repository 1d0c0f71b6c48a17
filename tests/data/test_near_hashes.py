"""The index of hashes against a comparison of all with all, by Python's own integers."""

import random
from itertools import product

import numpy as np
import pytest

from unmask.data import near_hashes
from unmask.data.near_hashes import find_closest, near_pairs, stack_hashes
from unmask.records import Fingerprint


def flip(picture, bits, rng):
    """Return a hash that differs in some bits."""
    return f"{int(picture, 16) ^ sum(1 << place for place in rng.sample(range(256), bits)):064x}"


def made_up(seed, count, *, kinds=20, most_bits=30):
    """Return hashes, each of which differs from one of a few in no more than so many bits."""
    rng = random.Random(seed)
    kinds = [random.Random(f"kind {number}").randbytes(32).hex() for number in range(kinds)]
    return [flip(rng.choice(kinds), rng.randrange(most_bits + 1), rng) for _ in range(count)]


def plain_pairs(hashes, others, limit):
    numbers = [[int(each, 16) for each in group] for group in (hashes, others)]
    return {
        (row, column, (one ^ other).bit_count())
        for (row, one), (column, other) in product(*map(enumerate, numbers))
        if (one ^ other).bit_count() <= limit
    }


def found_pairs(blocks):
    return {
        triple
        for block in blocks
        for triple in zip(*(each.tolist() for each in block), strict=True)
    }


@pytest.mark.parametrize("limit", [0, 1, 5, 12, 20, 25, 40])
@pytest.mark.parametrize("parts", [11, 13, 21, 32, 64])
def test_tables_find_all_that_a_full_comparison_finds(limit, parts):
    hashes, others = made_up(limit, 150), made_up(parts, 200)
    others[7] = hashes[3]
    others[8] = f"{int(hashes[3], 16) ^ (2**256 - 1):064x}"  # its negative: all bits differ
    stacks = stack_hashes(hashes), stack_hashes(others)
    found = found_pairs(near_hashes._look_up(*stacks, limit, parts))
    assert found == plain_pairs(hashes, others, limit)
    assert (3, 7, 0) in found
    assert found == found_pairs(near_pairs(*stacks, limit))


@pytest.mark.parametrize("parts", [11, 20, 21])
def test_bits_that_differ_may_lie_anywhere(parts):
    """The worst spread: as evenly over the parts as it goes, and all in one part."""
    one = random.Random(1).randbytes(32).hex()
    for places in (range(20), range(0, 20 * parts, parts), range(0, 256, 13)):
        other = f"{int(one, 16) ^ sum(1 << place % 256 for place in places):064x}"
        stacks = stack_hashes([one]), stack_hashes([other])
        for limit in (19, 20):
            found = found_pairs(near_hashes._look_up(*stacks, limit, parts))
            assert found == ({(0, 0, 20)} if limit == 20 else set())


def test_hashes_that_all_look_alike_are_compared_with_all(monkeypatch):
    """Where tables save nothing, they are left: the answer stays, and the time is bounded."""
    hashes, others = (made_up(seed, 300, kinds=1, most_bits=8) for seed in (1, 2))
    monkeypatch.setattr(near_hashes, "_TILE", (32, 64))
    looked = []
    compare_all = near_hashes._compare_all

    def watched(hashes_N4, others_M4, rows_R, limit):
        looked.extend(rows_R.tolist())
        return compare_all(hashes_N4, others_M4, rows_R, limit)

    monkeypatch.setattr(near_hashes, "_compare_all", watched)
    stacks = stack_hashes(hashes), stack_hashes(others)
    found = found_pairs(near_hashes._look_up(*stacks, 10, 11))
    assert found == plain_pairs(hashes, others, 10)
    assert len(looked) == len(set(looked)) > 200


def test_blocks_do_not_cut_an_answer(monkeypatch):
    monkeypatch.setattr(near_hashes, "_PROBES", 64)
    monkeypatch.setattr(near_hashes, "_CANDIDATES", 3)
    hashes, others = made_up(3, 120), made_up(4, 120)
    found = found_pairs(near_hashes._look_up(*map(stack_hashes, (hashes, others)), 20, 11))
    assert found == plain_pairs(hashes, others, 20)


@pytest.mark.parametrize(("count", "other_count"), [(0, 0), (0, 5), (5, 0)])
def test_nothing_is_near_nothing(count, other_count):
    stacks = [stack_hashes(made_up(n, size)) for n, size in enumerate((count, other_count))]
    assert not list(near_pairs(*stacks, 20))
    assert not list(near_hashes._look_up(*stacks, 20, 11))


# Videos


def prints(hashes, rng):
    """Deal hashes to videos: of some videos nothing could be decoded."""
    found, left = [], list(hashes)
    while left:
        size = rng.randrange(4)
        pictures = tuple(dict.fromkeys(left[:size]))
        found.append(Fingerprint(f"v{len(found)}", "", "", pictures))
        left = left[size:]
    return found


def plain_closest(videos, others, limit):
    found = {}
    for number, video in enumerate(videos):
        pairs = [
            ((int(mine, 16) ^ int(theirs, 16)).bit_count(), place)
            for mine in video.pictures
            for place, other in enumerate(others)
            for theirs in other.pictures
        ]
        nearest = min(pairs, default=(257, 0))
        if nearest[0] <= limit:
            found[number] = nearest
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("chosen", [None, 11, 21])
def test_the_closest_video_is_that_of_a_plain_loop(seed, chosen, monkeypatch):
    """Few kinds of hashes: many videos are equally close, and the first of them is asked for."""
    monkeypatch.setattr(near_hashes, "_choose_parts", lambda *_: chosen)
    rng = random.Random(seed)
    most_bits, limit = rng.choice([(0, 0), (2, 1), (12, 5), (20, 20), (40, 20), (40, 51)])
    groups = [
        prints(made_up(seed + 100 * n, 60, kinds=rng.choice([2, 30]), most_bits=most_bits), rng)
        for n in range(2)
    ]
    assert find_closest(*groups, limit) == plain_closest(*groups, limit)


def test_ten_thousand_videos_are_not_compared_all_with_all():
    rng = np.random.default_rng(0)
    hashes, others = (rng.integers(0, 2**64, (n, 4), dtype=np.uint64) for n in (30_000, 70_000))
    others[123] = hashes[45] ^ np.array([1, 2, 4, 2**63], np.uint64)
    assert near_hashes._choose_parts(30_000, 70_000, 20) is not None
    assert found_pairs(near_pairs(hashes, others, 20)) == {(45, 123, 4)}
