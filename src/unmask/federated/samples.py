"""Data samples of a federated benchmark: the videos of one source, in a folder of their own.

An owner of videos makes them (`make_samples`), Substra registers the folders, and the opener reads
in a task what it is given of them (`read_videos`). A manifest says of each sample what a plan is
checked by, in digests, so that it can be shown to others without the videos or their names.
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from unmask.data.words import join_spellings, key_of
from unmask.errors import MALFORMED, DatasetError, UnmaskError
from unmask.records import SPLITS, Chunk, VideoFaces, VideoRecord
from unmask.runtime.disk import content_digest, write_atomically, writing
from unmask.runtime.record_files import faces_line, read_faces, read_index, write_index

Side = Literal["train", "test"]
SIDES: tuple[Side, ...] = ("train", "test")
FORMAT = 1
# In a sample's folder: what it is, its rows, and a folder of crops or whole videos.
ABOUT, INDEX, FACES, FILES = "sample.json", "index.csv", "faces.jsonl", "files"
PAINTED = {"painted": True}  # in the place of the params that crops were made by: any will do
MANIFEST = "manifest.json"  # in an organisation's folder


class FederatedError(UnmaskError):
    """A benchmark's plan, archive, model or prediction is refused, or a task of it failed."""


@dataclass(frozen=True)
class Material:
    """A chunk of which samples are made: cropped, or as whole videos where crops is None."""

    chunk: str
    records: Sequence[VideoRecord]
    folder: Path  # of the crops, or of the videos
    crops: Mapping[str, VideoFaces] | None
    faces: Mapping[str, Any] | None  # the section of params.yaml that the crops were made by

    def files_of(self, record: VideoRecord) -> list[str]:
        """Return the names in the folder of a video's files: none where it is missing."""
        if self.crops is not None:
            return [track.file for track in self.crops[record.video_id].tracks]
        return [record.file] if (self.folder / record.file).is_file() else []


@dataclass(frozen=True)
class Sample:
    """What a manifest says of a sample."""

    name: str  # the folder's, made of its content: Substra takes two of one name for one
    side: Side
    reals: int
    fakes: int
    identities: tuple[str, ...]  # digests of everybody its videos show
    contents: tuple[str, ...]  # SHA-256 of its files


@dataclass(frozen=True)
class Row:
    """One video of a sample."""

    chunk: str
    record: VideoRecord
    paths: tuple[Path, ...]  # of its crops, or of itself; none where no face was found
    crops: VideoFaces | None  # None where the sample holds whole videos
    faces: Mapping[str, Any] | None


@dataclass(frozen=True)
class Videos:
    """The videos of some samples in the order of (chunk, id), whatever order those came in."""

    rows: tuple[Row, ...]

    @property
    def names(self) -> list[str]:
        """Return each video's name, which no other video has."""
        return [f"{row.chunk}/{row.record.video_id}" for row in self.rows]

    @property
    def paths(self) -> list[tuple[Path, ...]]:
        """Return each video's files: its crops, or itself."""
        return [row.paths for row in self.rows]

    @property
    def labels(self) -> list[int]:
        """Return each video's label; 1 is fake."""
        return [row.record.label for row in self.rows]

    @property
    def source_ids(self) -> list[str]:
        """Return each video's source: videos that share it show the same recording."""
        return [row.record.source_id for row in self.rows]


# ---------------------------------------------------------------- from chunks to samples


def cropped(chunk: Chunk, faces: Mapping[str, Any]) -> Material:
    """Return a chunk whose faces were cropped, by that section of params.yaml."""
    return Material(chunk.name, chunk.records, chunk.faces_dir, chunk.faces, dict(faces))


def uncropped(chunk: str, raw_dir: Path) -> Material:
    """Return a chunk as the raw stage leaves it: tasks will crop its videos themselves.

    Raises:
        DatasetError: there is no index.csv in raw_dir, or it does not parse.
    """
    return Material(chunk, read_index(raw_dir / "index.csv"), raw_dir / "videos", None, None)


def deal(
    materials: Sequence[Material], organisations: Sequence[str]
) -> dict[str, list[tuple[Material, list[VideoRecord]]]]:
    """Return for each organisation its samples-to-be: a chunk, and its videos of one source.

    All who appear together in a video stay with one organisation. Of each split everyone gets
    about as many videos; who gets what depends on names alone.

    Raises:
        DatasetError: somebody stands on two sides, or an organisation lacks a class of a split.
    """
    rows = [(material, record) for material in materials for record in material.records]
    meant = join_spellings(who for _, record in rows for who in record.identities)
    leader = _link([[meant[who] for who in record.identities] for _, record in rows])
    people: dict[str, list[tuple[Material, VideoRecord]]] = defaultdict(list)
    for material, record in rows:
        people[leader[meant[record.source_id]]].append((material, record))
    for name, own in people.items():
        if len(splits := {record.split for _, record in own}) > 1:
            raise DatasetError(
                f"Asked for samples that each stand on one side; {name} and who appears with it "
                f"are in {', '.join(sorted(splits))}. Run `unmask check` and mend the split."
            )
    counts: Counter[tuple[str, str]] = Counter()
    dealt: dict[str, list[tuple[Material, list[VideoRecord]]]] = {org: [] for org in organisations}
    for name in sorted(people, key=lambda name: (-len(people[name]), _digest(name))):
        own = people[name]
        split = own[0][1].split
        to = min(organisations, key=lambda org: (counts[org, split], organisations.index(org)))
        counts[to, split] += len(own)
        groups: dict[tuple[str, str], tuple[Material, list[VideoRecord]]] = {}
        for material, record in own:
            groups.setdefault((material.chunk, meant[record.source_id]), (material, []))[1].append(
                record
            )
        dealt[to] += groups.values()
    for organisation, samples in dealt.items():
        _check_classes(organisation, [record for _, own in samples for record in own])
    return dealt


def _link(groups: Iterable[Sequence[str]]) -> dict[str, str]:
    """Return for each member the first name, in order, of all that groups link it to."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for group in groups:
        first, *others = sorted({find(name) for name in group})
        leader.update(dict.fromkeys(others, first))
    return {name: find(name) for name in leader}


def _check_classes(organisation: str, records: Sequence[VideoRecord]) -> None:
    found = Counter((record.split, record.label) for record in records)
    lacking = [
        f"{split} has {found[split, 0]} real and {found[split, 1]} fake"
        for split in SPLITS if not (found[split, 0] and found[split, 1])
    ]  # fmt: skip
    if lacking:
        raise DatasetError(
            f"Asked for both classes in each split of {organisation}; {'; '.join(lacking)}. Add "
            "videos, or deal them to fewer organisations."
        )


def make_samples(
    organisation: str, dealt: Sequence[tuple[Material, Sequence[VideoRecord]]], folder: Path
) -> list[Sample]:
    """Fill folder/<organisation>/{train,test}/ and its manifest; return what that says.

    Files are hard links where that is possible. A sample that is there is kept: its name is made of
    its content. One that is not asked for any more is left alone, but out of the manifest.

    Raises:
        DatasetError: two samples are the same, a crop is missing, or the organisation's name is no
            plain one.
        DiskError: the disk takes no more.
    """
    if not re.fullmatch("[0-9A-Za-z][0-9A-Za-z._-]*", organisation):
        raise DatasetError(
            f"Asked for samples of {organisation!r}; a name is made of letters, digits, dots and "
            "dashes, as it names a folder. Give it another one."
        )
    home = folder / organisation
    samples = [_make_sample(material, records, home) for material, records in dealt]
    names = [sample.name for sample in samples]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DatasetError(
            f"Asked for samples of {organisation}; {', '.join(twice)} would be there twice, which "
            "Substra takes for one. Name each chunk once."
        )
    samples.sort(key=lambda sample: (sample.side, sample.name))
    rows = {"format": FORMAT, "samples": [asdict(sample) for sample in samples]}
    write_atomically(home / MANIFEST, json.dumps(rows, indent=1) + "\n")
    return samples


def _make_sample(material: Material, records: Sequence[VideoRecord], home: Path) -> Sample:
    records = sorted(records, key=lambda record: record.video_id)
    files = {
        name: material.folder / name for record in records for name in material.files_of(record)
    }
    if missing := [str(path) for path in files.values() if not path.is_file()]:
        raise DatasetError(
            f"Asked for samples of {material.chunk}; {missing[0]} is listed and not there. Run "
            "`dvc repro`, or `dvc checkout` to take it from the cache."
        )
    contents = {name: content_digest(path) for name, path in sorted(files.items())}
    about = {"format": FORMAT, "chunk": material.chunk, "faces": material.faces}
    rows = [repr(record) for record in records]
    if material.crops is not None:
        rows += [faces_line(material.crops[record.video_id]) for record in records]
    digest = _digest(json.dumps([about, rows, sorted(contents.items())], sort_keys=True))
    chunk = re.sub("[^0-9A-Za-z]+", "-", material.chunk)
    sample = Sample(
        name=f"{chunk}-{digest[:16]}",
        side="test" if records[0].split == "test" else "train",
        reals=sum(record.label == 0 for record in records),
        fakes=sum(record.label == 1 for record in records),
        # Of what all spellings share: another owner may write a name in another way.
        identities=tuple(sorted({_digest(key_of(who)) for r in records for who in r.identities})),
        contents=tuple(sorted(contents.values())),
    )
    target = home / sample.side / sample.name
    if not target.exists():
        _write_sample(material, records, files, about, target)
    return sample


def _write_sample(
    material: Material, records: Sequence[VideoRecord], files: Mapping[str, Path],
    about: Mapping[str, Any], target: Path,
) -> None:  # fmt: skip
    part = target.with_name(f".{target.name}.partial")
    with writing(target):
        if part.exists():  # an interrupted run's
            shutil.rmtree(part)
        (part / FILES).mkdir(parents=True)
        for name, path in files.items():
            _link_file(path, part / FILES / name)
        write_index(part / INDEX, records)
        if material.crops is not None:
            lines = [faces_line(material.crops[record.video_id]) for record in records]
            write_atomically(part / FACES, "".join(f"{line}\n" for line in lines))
        write_atomically(part / ABOUT, json.dumps(about, indent=1) + "\n")
        part.rename(target)


def _link_file(source: Path, target: Path) -> None:
    source = source.resolve()  # DVC may have put a symbolic link there
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without hard links
        shutil.copyfile(source, target)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read_manifest(home: Path) -> list[Sample]:
    """Return what the manifest in an organisation's folder says of its samples.

    Raises:
        DatasetError: it is missing or damaged.
    """
    path = home / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}, this version reads {FORMAT}")
        samples = [
            Sample(**row | {name: tuple(row[name]) for name in ("identities", "contents")})
            for row in found["samples"]
        ]
        for each in samples:
            words = (each.name, each.side, *each.identities, *each.contents)
            if not all(type(word) is str for word in words) or each.side not in SIDES:
                raise TypeError(
                    f"a sample's words are not words, or its side no side: {words!r:.200}"
                )
            if not all(type(n) is int and 0 <= n < 2**32 for n in (each.reals, each.fakes)):
                raise TypeError(f"{each.name!r:.80} has no whole numbers of videos")
    except (OSError, *MALFORMED) as error:
        raise DatasetError(
            f"Asked for the samples that {path} lists; found none ({error!r}). Make them: "
            "`unmask federated samples`."
        ) from error
    if strange := [each.name for each in samples if not re.fullmatch("[0-9A-Za-z-]+", each.name)]:
        raise DatasetError(f"{path} names {strange[0]!r}, which is no sample's name. Refused.")
    return samples


# ---------------------------------------------------------------- in a task


def read_videos(folders: Collection[str | Path]) -> Videos:
    """Return the videos of the samples' folders, in an order that those' names don't change.

    Raises:
        DatasetError: a folder is no sample, two hold one video, or crops and whole videos are
            mixed.
    """
    rows = [row for folder in folders for row in _read_sample(Path(folder))]
    rows.sort(key=lambda row: (row.chunk, row.record.video_id))
    names = Counter((row.chunk, row.record.video_id) for row in rows)
    if twice := [f"{chunk}/{video}" for (chunk, video), count in names.items() if count > 1]:
        raise DatasetError(
            f"Asked for the videos of {len(folders)} samples; {', '.join(twice[:3])} stand in two "
            "of them. Register each sample once."
        )
    if len({row.crops is None for row in rows}) > 1:
        raise DatasetError(
            f"Asked for the videos of {len(folders)} samples; some hold crops, others whole "
            "videos. Make all of a dataset's samples in one way."
        )
    return Videos(tuple(rows))


def _read_sample(folder: Path) -> list[Row]:
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, this version reads {FORMAT}")
        chunk, faces = str(about["chunk"]), about["faces"]
    except (OSError, *MALFORMED) as error:
        raise DatasetError(
            f"Asked for the sample in {folder}; {ABOUT} says nothing of it ({error!r}). Make it by "
            "`unmask federated samples`."
        ) from error
    crops = None if faces is None else read_faces(folder / FACES)
    rows = []
    for record in read_index(folder / INDEX):
        if crops is None:
            paths = [folder / FILES / record.file]
            paths = [path for path in paths if path.is_file()]
        elif record.video_id in crops:
            paths = [folder / FILES / track.file for track in crops[record.video_id].tracks]
        else:
            raise DatasetError(
                f"{folder / FACES} should say what was found in {record.video_id}; it does not. "
                "Make the sample again: `unmask federated samples`."
            )
        own = None if crops is None else crops[record.video_id]
        rows.append(Row(chunk, record, tuple(paths), own, faces))
    return rows
