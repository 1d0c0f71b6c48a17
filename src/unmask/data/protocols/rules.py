"""How test videos are told from a data set's own list: a function for each rule of a protocol."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from unmask.data.archive import ChunkFiles, shorten
from unmask.data.layouts.celeb_df import read_testing_list
from unmask.data.layouts.deeperforensics import MANIPULATED, needed_list, read_split_lists
from unmask.data.layouts.entry import Entry, read_json
from unmask.data.layouts.faceforensics import pairs_path
from unmask.data.protocols.protocol import Protocol
from unmask.data.words import key_of
from unmask.errors import DatasetError


@dataclass(frozen=True)
class Named:
    """What a list names, and which of a chunk's entries that is.

    A listed name stands for one video, or for one in each compression that the chunk has.
    """

    listed: tuple[str, ...]  # the entries of the list itself, for its digest and its length
    wanted: Mapping[str, tuple[Entry, ...]]  # videos by the list's names; empty: not in the chunk


def digest_of(listed: Iterable[str]) -> str:
    """Return the SHA-256 over a list's entries, sorted, each with a line feed."""
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(listed)).encode()).hexdigest()


def name_videos(protocol: Protocol, files: ChunkFiles, entries: Sequence[Entry]) -> Named:
    """Return the test videos that a protocol names.

    Raises:
        DatasetError: the data set's list is missing, or is not what it should be.
    """
    return _RULES[protocol.rule](protocol, files, entries)


def _by_celeb_df_list(_: Protocol, files: ChunkFiles, entries: Sequence[Entry]) -> Named:
    labels = read_testing_list(files)
    by_name = {f"{entry.path.split('/')[0]}/{_name(entry)}": entry for entry in entries}
    return Named(
        tuple(f"{1 - label} {name}" for name, label in labels.items()),
        {name: tuple(filter(None, [by_name.get(name)])) for name in labels},
    )


def _by_faceforensics_pairs(
    protocol: Protocol, files: ChunkFiles, entries: Sequence[Entry]
) -> Named:
    path = pairs_path(files, "test")
    if path not in files.sizes:
        raise DatasetError(
            f"Asked for the test pairs of {files.where}; there is no splits/test.json. Take it "
            "from dataset/splits/ of the data set's repository."
        )
    pairs = read_json(files, path)
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(n, str) for n in pair)
        for pair in pairs
    ):
        raise DatasetError(
            f"Asked for the pairs of {path} of {files.where}; found {shorten(pairs)} where "
            '[["000", "003"], ...] should stand. Take a fresh copy.'
        )
    names = [f"youtube/{number}" for pair in pairs for number in pair]
    for method in protocol.methods:
        names += [f"{method}/{a}_{b}" for a, b in pairs] + [f"{method}/{b}_{a}" for a, b in pairs]
    held: dict[str, list[Entry]] = {name: [] for name in names}
    for entry in entries:
        name = f"{entry.path.split('/')[1]}/{_name(entry)}"
        if name in held:
            held[name].append(entry)
    return Named(
        tuple(f"{a} {b}" for a, b in pairs), {name: tuple(found) for name, found in held.items()}
    )


def _by_deeperforensics_lists(
    protocol: Protocol, files: ChunkFiles, entries: Sequence[Entry]
) -> Named:
    needed_list(files)
    names = [name for name, split in read_split_lists(files).items() if split == "test"]
    held: dict[str, list[Entry]] = {
        f"{variant}/{name}": [] for variant in protocol.methods for name in names
    }
    held |= {f"target/{name[:3]}": [] for name in names}
    for entry in entries:
        is_fake = entry.path.startswith(MANIPULATED)
        name = f"{entry.method if is_fake else 'target'}/{_name(entry)}"
        if name in held:
            held[name].append(entry)
    return Named(tuple(names), {name: tuple(found) for name, found in held.items()})


def _by_split(_: Protocol, files: ChunkFiles, entries: Sequence[Entry]) -> Named:
    """Return the videos that the layout's reader calls test: by a column, a list or a folder."""
    chosen = [entry for entry in entries if key_of(entry.split) == "test"]
    if not chosen:
        raise DatasetError(
            f"Asked for the test videos of {files.where}; none of its {len(entries)} videos is "
            "called test. Take a fresh copy of the data set's own list."
        )
    return _all(chosen)


def _by_all(_: Protocol, __: ChunkFiles, entries: Sequence[Entry]) -> Named:
    return _all(entries)


def _all(entries: Sequence[Entry]) -> Named:
    named = {_listed_name(entry): (entry,) for entry in entries}
    return Named(tuple(f"{entry.label} {_listed_name(entry)}" for entry in entries), named)


def _listed_name(entry: Entry) -> str:
    return entry.path


def _name(entry: Entry) -> str:
    name = entry.path.rsplit("/", 1)[-1]
    return name if entry.frames else name.rpartition(".")[0] or name


_RULES: dict[str, Callable[[Protocol, ChunkFiles, Sequence[Entry]], Named]] = {
    "celeb_df_list": _by_celeb_df_list,
    "faceforensics_pairs": _by_faceforensics_pairs,
    "deeperforensics_lists": _by_deeperforensics_lists,
    "split": _by_split,
    "all": _by_all,
}
