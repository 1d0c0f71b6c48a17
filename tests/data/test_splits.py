"""Sides and draws of made-up chunks: lone sources, pairs, and everybody swapped with everybody."""

import random
from collections import Counter, defaultdict
from itertools import permutations

import pytest

from unmask.data import splits
from unmask.data.copies import Listing
from unmask.data.layouts.entry import Entry
from unmask.data.leakage import find_leaks
from unmask.errors import DatasetError
from unmask.params import Raw
from unmask.records import SPLITS, Fingerprint, VideoRecord


def raw(**changes):
    values = {
        "max_real": None, "fakes_per_real": 1.0, "honour_split": False,
        "validation_ratio": 0.15, "test_ratio": 0.15, "alike_ratio": 0.08,
        "contradictions": "refuse", "copies": "drop", "seed": 1,
    }  # fmt: skip
    return Raw(**(values | changes))


def real(name, *, source=None, split="train"):
    return Entry(f"{name}.mp4", 0, source or name, "real", split)


def fake(name, source, *, method="blend", split="train", donors=()):
    return Entry(f"{name}.mp4", 1, source, method, split, donors=donors)


def sources_with_both(count, *, fakes=1, first=0):
    """Return one real video and some fakes for each of count sources."""
    return [
        entry
        for number in range(first, first + count)
        for entry in [
            real(f"r{number:03}"),
            *(fake(f"f{number:03}_{each}", f"r{number:03}") for each in range(fakes)),
        ]
    ]


def pairs(count):
    """Return FaceForensics++'s way: two people, swapped into each other's video."""
    return [
        entry
        for number in range(count)
        for own, other in permutations((f"{number:03}a", f"{number:03}b"))
        for entry in (real(own), fake(f"{own}_{other}", own, donors=(other,)))
    ]


def everybody_with_everybody(people, *, real_each=3):
    """Return Celeb-DF's way: every person swapped into the videos of every other."""
    names = [f"id{number}" for number in range(people)]
    entries = [real(f"{name}_{take}", source=name) for name in names for take in range(real_each)]
    return entries + [fake(f"{a}_{b}", a, donors=(b,)) for a, b in permutations(names, 2)]


def records_of(entries, settings):
    return splits.draw(entries, splits.assign(entries, settings), settings)


def drawn_in_train(entries, absent=(), **changes):
    """Return what is drawn where all videos stand in train."""
    sides = splits.Sides({entry.file: "train" for entry in entries}, {}, own=False)
    return splits.draw(entries, sides, raw(**changes), absent)


def leaks(records, settings):
    return find_leaks([Listing("chunk", records)], settings).describe()


def sides_of_sources(records):
    sides = defaultdict(set)
    for record in records:
        sides[record.source_id].add(record.split)
    return {source: min(found) for source, found in sides.items() if len(found) == 1}


def warnings_in(caplog):
    return [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]


# Sides


@pytest.mark.parametrize("seed", range(100))
def test_a_source_stands_on_one_side_and_each_side_has_both_classes(seed):
    rng = random.Random(seed)
    entries = [
        (real if label == 0 else fake)(f"v{source}_{number}", source=f"s{source}")
        for source in range(rng.randint(6, 60))
        for number, label in enumerate(rng.choice([[0], [1], [0, 1], [0, 0, 1], [1, 1]]))
    ]
    entries += [real(f"r{n}") for n in range(3)] + [fake(f"f{n}", f"x{n}") for n in range(3)]
    ratios = {"validation_ratio": rng.uniform(0.05, 0.4), "test_ratio": rng.uniform(0.05, 0.4)}
    settings = raw(seed=seed, fakes_per_real=1000.0, **ratios)

    records = records_of(entries, settings)

    assert leaks(records, settings) == ""
    assert {record.file: record.label for record in records} == {
        entry.file: entry.label for entry in entries
    }
    shuffled = rng.sample(entries, len(entries))
    assert records_of(shuffled, settings) == records


@pytest.mark.parametrize("seed", range(100))
def test_no_identity_of_a_random_graph_stands_on_two_sides(seed):
    rng = random.Random(seed)
    people = [f"p{number}" for number in range(rng.randint(12, 80))]
    entries = [real(f"{name}_{take}", source=name) for name in people for take in range(2)]
    for number in range(rng.randint(len(people), 6 * len(people))):
        source, *donors = rng.sample(people, rng.choice([1, 2, 2, 3]))
        entries.append(fake(f"f{number}", source, donors=tuple(donors)))
    entries += sources_with_both(3)  # so that each side can have both classes
    settings = raw(seed=seed, fakes_per_real=1000.0)

    sides = splits.assign(entries, settings)
    records = splits.draw(entries, sides, settings)

    assert leaks(records, settings) == ""
    for name, group in sides.groups.items():
        assert name in group
        stands = {r.split for r in records if not group.isdisjoint(r.identities)}
        assert len(stands) == 1  # whole groups are in one place
    left_out = {entry.file for entry in entries} - {record.file for record in records}
    assert all(len(entry.donors) for entry in entries if entry.file in left_out)


def test_sources_are_shared_out_by_the_ratios_kind_by_kind():
    entries = sources_with_both(100)
    entries += [real(f"only{n}") for n in range(40)] + [fake(f"x{n}", f"x{n}") for n in range(60)]
    settings = raw(validation_ratio=0.2, test_ratio=0.1, fakes_per_real=1000.0)
    sides = sides_of_sources(records_of(entries, settings))
    for start, count in (("r", 100), ("o", 40), ("x", 60)):
        kind = Counter(side for source, side in sides.items() if source.startswith(start))
        assert kind == {
            "train": 0.7 * count, "validation": 0.2 * count, "test": 0.1 * count
        }  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_new_sources_move_few_of_the_others(seed):
    settings = raw(seed=seed)
    before = sides_of_sources(records_of(sources_with_both(200), settings))
    more = sources_with_both(200) + sources_with_both(10, first=500)
    after = sides_of_sources(records_of(more, settings))
    assert sum(after[source] != side for source, side in before.items()) <= 8


def test_another_seed_gives_other_sides():
    found = [sides_of_sources(records_of(sources_with_both(40), raw(seed=s))) for s in range(5)]
    assert all(first != second for first, second in permutations(found, 2))


def test_sides_do_not_depend_on_the_draw():
    entries = sources_with_both(40, fakes=3)
    whole = splits.assign(entries, raw(fakes_per_real=3.0)).splits
    for draw in ({"max_real": 12}, {"fakes_per_real": 0.0}, {"fakes_per_real": 2.0}):
        settings = raw(**draw)
        for record in records_of(entries, settings):
            assert whole[record.file] == record.split


def test_small_chunks_serve_train_then_test_then_validation():
    def classes(entries):
        found = defaultdict(set)
        for record in records_of(entries, raw(fakes_per_real=1000.0)):
            found[record.split].add(record.label)
        return found

    assert classes(sources_with_both(1)) == {"train": {0, 1}}
    assert classes(sources_with_both(2)) == {"train": {0, 1}, "test": {0, 1}}
    # Three: one each, although 15 % of three is not half a source.
    assert classes(sources_with_both(3)) == {split: {0, 1} for split in SPLITS}
    # No source has both classes, but pairs of sources do.
    apart = [real("a"), real("b"), fake("c", "c"), fake("d", "d")]
    assert classes(apart) == {"train": {0, 1}, "test": {0, 1}}
    assert classes([*sources_with_both(2), real("z")])["validation"] == {0}


def test_a_source_with_much_of_a_class_goes_to_train():
    entries = sources_with_both(40) + [real(f"star{n}", source="star") for n in range(20)]
    for seed in range(20):
        assert sides_of_sources(records_of(entries, raw(seed=seed)))["star"] == "train"


# People who are joined


@pytest.mark.parametrize("count", [3, 5, 20, 100])
def test_swapped_pairs_stay_together_and_none_is_lost(count):
    settings = raw()
    sides = splits.assign(pairs(count), settings)
    records = splits.draw(pairs(count), sides, settings)
    assert len(records) == len(pairs(count))
    assert leaks(records, settings) == ""
    shares = Counter(record.split for record in records)
    least = max(1, int(0.15 * count))
    assert shares["test"] >= 4 * least
    assert shares["validation"] >= 4 * least
    assert sides.groups["000a"] == {"000a", "000b"}


@pytest.mark.parametrize("seed", range(10))
def test_where_all_are_joined_people_are_assigned_one_by_one(seed, caplog):
    entries = everybody_with_everybody(40) + [real(f"youtube{n}") for n in range(60)]
    settings = raw(seed=seed, fakes_per_real=1000.0)
    sides = splits.assign(entries, settings)
    records = splits.draw(entries, sides, settings)

    assert leaks(records, settings) == ""
    celebrities = Counter(
        side for name, side in sides_of_sources(records).items() if name.startswith("id")
    )
    assert celebrities == {"train": 28, "validation": 6, "test": 6}
    # 28 people make 28 * 27 pairs, 6 make 6 * 5; all others join two sides.
    fakes = Counter(record.split for record in records if record.label)
    assert fakes == {"train": 756, "validation": 30, "test": 30}
    assert warnings_in(caplog)[0].startswith("splits: 744 of 1740 videos join people of two sides")
    assert not any(name.startswith("id") for name in sides.groups)
    assert sides.groups["youtube0"] == {"youtube0"}


def test_of_too_few_groups_the_largest_is_taken_apart():
    # Two circles of people: three sides can't have one each.
    circles = [
        entry
        for circle, size in (("a", 16), ("b", 6))
        for entry in everybody_with_everybody(size)
        for entry in [
            Entry(f"{circle}{entry.file}", entry.label, circle + entry.source_id, entry.method, "",
                  donors=tuple(circle + donor for donor in entry.donors))
        ]
    ]  # fmt: skip
    settings = raw(fakes_per_real=1000.0)
    sides = splits.assign(circles, settings)
    assert leaks(splits.draw(circles, sides, settings), settings) == ""
    assert {name[0] for name in sides.groups} == {"b"}


# The chunk's own


def own_split_chunk(validation="validation"):
    return [
        entry
        for number, split in enumerate(["train", "train", validation, "test"])
        for entry in (
            real(f"r{number}", split=split),
            fake(f"f{number}", f"r{number}", split=split),
        )
    ]


@pytest.mark.parametrize("word", ["validation", "val", "valid", "Validation"])
def test_the_chunk_s_own_split_is_kept(word):
    for seed in range(5):
        sides = splits.assign(own_split_chunk(word), raw(honour_split=True, seed=seed))
        assert sides.own
        assert sides.splits == {
            "r0.mp4": "train", "f0.mp4": "train", "r1.mp4": "train", "f1.mp4": "train",
            "r2.mp4": "validation", "f2.mp4": "validation", "r3.mp4": "test", "f3.mp4": "test",
        }  # fmt: skip


def test_the_chunk_s_own_split_is_passed_over_when_asked():
    found = {str(splits.assign(own_split_chunk(), raw(seed=seed)).splits) for seed in range(20)}
    assert len(found) > 5


def test_an_own_split_without_all_three_is_drawn_anew(caplog):
    entries = own_split_chunk(validation="train")
    sides = splits.assign(entries, raw(honour_split=True))
    assert set(sides.splits.values()) == set(SPLITS)
    assert sides == splits.assign(entries, raw())
    assert warnings_in(caplog) == [
        "splits: drawn, because the videos' own words ('test', 'train') do not name all of train, "
        "validation, test; known are train, validation, valid, val, test"
    ]


def test_an_own_split_with_other_words_is_refused():
    entries = [*own_split_chunk(), real("odd", split="public"), real("none", split="")]
    with pytest.raises(DatasetError, match=r"1 video.* odd.mp4 \(public\)[.]"):
        splits.assign(entries, raw(honour_split=True))
    splits.assign(entries, raw())


@pytest.mark.parametrize("words", [("training", "testing", "val"), ("test",), ("training",)])
def test_own_words_that_are_passed_over_are_named(words, caplog):
    entries = [real(f"r{number}", split=word) for number, word in enumerate(words)]
    splits.assign(entries, raw(honour_split=True))
    [said] = warnings_in(caplog)
    assert f"own words ({', '.join(repr(word) for word in sorted(words))}) do not name" in said


def test_dfdc_s_lone_train_is_passed_over_quietly(caplog):
    splits.assign([real("a"), real("b", split="")], raw(honour_split=True))
    splits.assign([real("a", split="training")], raw(honour_split=False))
    assert not warnings_in(caplog)


def test_videos_without_an_own_split_are_left_out(caplog):
    """FaceForensics++'s lists say nothing of the actors of DeepFakeDetection."""
    actors = [real(f"actor{number}", split="") for number in range(7)]
    sides = splits.assign([*own_split_chunk(), *actors], raw(honour_split=True))
    assert sides == splits.assign(own_split_chunk(), raw(honour_split=True))
    [said] = warnings_in(caplog)
    assert said.startswith("splits: 7 of 15 videos have none among the chunk's own and are left")
    assert said.endswith("actor3.mp4, actor4.mp4 and 2 more")
    records = splits.draw([*own_split_chunk(), *actors], sides, raw())
    assert not any(record.file.startswith("actor") for record in records)


def test_an_own_split_is_never_changed_where_it_leaks():
    entries = [*own_split_chunk(), fake("leak", "r3", split="train")]
    settings = raw(honour_split=True, fakes_per_real=1000.0)
    records = records_of(entries, settings)
    assert len(records) == len(entries)
    assert "1 source(s) or identities on two sides: r3 (train, test)" in leaks(records, settings)


# Drawing


def test_a_draw_is_balanced_on_every_side_one_fake_a_source():
    entries = sources_with_both(40, fakes=5)
    records = records_of(entries, raw())
    fakes = Counter(record.source_id for record in records if record.label)
    assert fakes == Counter({entry.source_id: 1 for entry in entries})
    assert {record.file for record in records if not record.label} == {
        entry.file for entry in entries if not entry.label
    }

    records = records_of(entries, raw(max_real=20, fakes_per_real=2.5))
    counts = Counter((record.split, record.label) for record in records)
    assert counts == {
        ("train", 0): 14, ("train", 1): 35, ("test", 0): 3, ("test", 1): 8,
        ("validation", 0): 3, ("validation", 1): 8,
    }  # fmt: skip
    assert {r.source_id for r in records if r.label} == {
        r.source_id for r in records if not r.label
    }


def test_more_of_the_same_chunk_keeps_what_was_drawn():
    entries = sources_with_both(60)
    drawn = set()
    for max_real in range(3, 61):
        real_files = {r.file for r in records_of(entries, raw(max_real=max_real)) if not r.label}
        assert len(real_files) == max_real
        assert drawn < real_files
        drawn = real_files


@pytest.mark.parametrize("max_real", range(1, 5))
def test_each_side_draws_a_real_video_while_there_are_enough(max_real):
    records = records_of(sources_with_both(60), raw(max_real=max_real))
    order = ["train", "test", "validation"]
    assert {r.split for r in records if not r.label} == set(order[:max_real])


def test_methods_are_drawn_alike():
    entries = sources_with_both(30, fakes=0) + [
        fake(f"{method}{number}", f"r{number:03}", method=method)
        for number in range(30)
        for method in ("blend", "swap", "voice")
        if method == "blend" or number % 2  # the others are rarer
    ]
    methods = Counter(r.method for r in drawn_in_train(entries) if r.label)
    assert methods["blend"] >= 15  # the even sources have nothing else
    assert methods.total() == 30
    assert abs(methods["swap"] - methods["voice"]) <= 1

    methods = Counter(r.method for r in drawn_in_train(entries, fakes_per_real=2.0) if r.label)
    assert methods == {"blend": 30, "swap": 15, "voice": 15}


def test_other_fakes_follow_when_those_of_the_drawn_run_out(caplog):
    entries = [real("r0"), real("r1"), fake("f0", "r0"), fake("x0", "x"), fake("x1", "x")]
    drawn = {record.file for record in drawn_in_train(entries)}
    assert "f0.mp4" in drawn
    assert len(drawn) == 4
    assert not warnings_in(caplog)
    assert len(drawn_in_train(entries, fakes_per_real=3.0)) == 5
    assert warnings_in(caplog) == ["train: asked for 6 fakes, the chunk has 3: all are used"]


def test_what_has_no_file_is_drawn_only_where_nothing_else_is_left():
    entries = sources_with_both(20, fakes=3)
    absent = {f"{kind}{n:03}{end}.mp4" for n in range(10) for kind, end in (("r", ""), ("f", "_0"))}

    records = drawn_in_train(entries, absent, max_real=8, fakes_per_real=2.0)
    assert Counter(record.label for record in records) == {0: 8, 1: 16}
    assert absent.isdisjoint(record.file for record in records)
    # More real videos than are there: the others follow, and ask for no fakes.
    records = drawn_in_train(entries, absent, max_real=12)
    assert Counter((r.label, r.file in absent) for r in records) == {
        (0, False): 10, (0, True): 2, (1, False): 10
    }  # fmt: skip
    # All are wanted, so all are accounted for.
    records = drawn_in_train(entries, absent, fakes_per_real=6.0)
    assert {record.file for record in records} == {entry.file for entry in entries}


def test_each_side_draws_videos_that_are_there():
    entries = sources_with_both(60)
    sides = splits.assign(entries, raw())
    absent = {entry.file for entry in entries if int(entry.file[1:4]) % 2}
    records = splits.draw(entries, sides, raw(max_real=12), absent)
    assert absent.isdisjoint(record.file for record in records)
    assert leaks(records, raw()) == ""


def test_no_fakes_are_drawn_where_none_are_wanted():
    entries = sources_with_both(20) + pairs(10)
    records = records_of(entries, raw(fakes_per_real=0.0))
    assert {record.label for record in records} == {0}
    assert len(records) == 40
    assert leaks(records, raw(fakes_per_real=0.0)) == ""
    only_real = [entry for entry in entries if not entry.label]
    records = records_of(only_real, raw(fakes_per_real=0.0))
    assert {record.split for record in records} == set(SPLITS)


@pytest.mark.parametrize(
    ("entries", "fakes_per_real"),
    [([], 1.0), ([real("a")], 1.0), ([fake("a", "b")], 1.0), ([fake("a", "b")], 0.0)],
)
def test_a_chunk_of_one_class_cannot_be_drawn(entries, fakes_per_real):
    with pytest.raises(DatasetError, match="one class only"):
        records_of(entries, raw(fakes_per_real=fakes_per_real))


def test_donors_reach_the_records():
    [swapped] = [r for r in records_of(pairs(3), raw()) if r.video_id == "001a_001b"]
    assert swapped.identities == ("001a", "001b")


# Twins


def fingerprint(record, *, content=None, picture=None):
    """Return a fingerprint of a content, by default the video's own, and of one picture."""
    rng = random.Random(picture or record.video_id)
    hashes = () if picture == "" else (rng.randbytes(32).hex(),)
    sha256 = random.Random(content or record.video_id).randbytes(32).hex()
    return Fingerprint(record.video_id, sha256, "", hashes)


def gathered(entries, settings, **twins):
    """Return the videos before and after, where twins gives videos (or files) a common picture."""
    sides = splits.assign(entries, settings)
    records = splits.draw(entries, sides, settings)
    fingerprints = {r.video_id: fingerprint(r, picture=twins.get(r.video_id)) for r in records}
    listing = Listing("chunk", records, fingerprints)
    after = splits.gather_twins(listing, sides, settings.alike_ratio)
    found = find_leaks([Listing("chunk", after, fingerprints)], settings)
    assert not found.pictures
    assert not found.identities
    return records, after


def one_of_each(records):
    """Return the id of a real video of each side."""
    return {record.split: record.video_id for record in records if not record.label}


def test_twins_come_to_train_with_all_their_group(caplog):
    entries, settings = pairs(30), raw()
    ids = one_of_each(records_of(entries, settings))
    before, after = gathered(entries, settings, **dict.fromkeys(ids.values(), "same room"))
    moved = {r.video_id for r in set(before) - set(after)}
    assert {name[:3] for name in moved} == {ids["validation"][:3], ids["test"][:3]}
    assert len(moved) == 8  # two pairs of people, each with two real videos and two fakes
    assert {r.split for r in after if r.video_id in moved} == {"train"}
    assert len(before) == len(after)
    [said] = warnings_in(caplog)
    assert "4 source(s) moved to train" in said
    assert ids["test"] in said


def test_what_comes_to_train_is_compared_again():
    """A group of test has one video like one of train's and another like one that stays in test."""
    entries, settings = pairs(40), raw()
    records = records_of(entries, settings)
    trained = one_of_each(records)["train"]
    tested = [r.video_id for r in records if r.split == "test" and not r.label]
    first, partner = tested[0], tested[1]
    assert first[:3] == partner[:3]
    room = {trained: "room", first: "room", partner: "hall", tested[2]: "hall"}
    before, after = gathered(entries, settings, **room)
    moved = {r.video_id[:3] for r in set(before) - set(after)}
    assert moved == {first[:3], tested[2][:3]}


def test_twins_of_a_group_that_was_taken_apart_are_left_out(caplog):
    entries, settings = everybody_with_everybody(40), raw()
    ids = one_of_each(records_of(entries, settings))
    before, after = gathered(entries, settings, **{ids["train"]: "same", ids["test"]: "same"})
    [gone] = set(before) - set(after)
    assert gone.video_id == ids["test"]
    assert f"1 video(s) left out: {ids['test']}.mp4" in warnings_in(caplog)[-1]


def test_nothing_moves_where_nothing_is_alike(caplog):
    before, after = gathered(pairs(30), raw())
    assert before == after
    assert not warnings_in(caplog)


def test_the_records_say_what_the_entries_said():
    entries = [real("b"), fake("a", "b", method="swap", donors=("c",))]
    assert drawn_in_train(entries) == [
        VideoRecord("a", "a.mp4", 1, "b", "swap", "train", ("c",)),
        VideoRecord("b", "b.mp4", 0, "b", "real", "train"),
    ]
