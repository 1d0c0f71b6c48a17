"""What organisations hand each other: a model's weights and settings in a zip, and their mean.

Such a zip comes from a stranger's machine. Nothing in it is unpickled or run: two kinds of file,
JSON and safetensors, of bounded size and checked values. Plain numpy: a mean needs no torch, whose
import takes longer than it.
"""

import hashlib
import json
import math
import os
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from unmask.errors import MALFORMED
from unmask.federated.samples import FederatedError
from unmask.scoring.verdicts import limits_from, strictest

FORMAT = 1
WEIGHTS, SETTINGS, ABOUT = "weights.safetensors", "checkpoint.json", "state.json"
# x3d_l has 25 MB, a ViT-L 1.2 GB.
MOST_BYTES = {WEIGHTS: 3 * 2**29, SETTINGS: 2**20, ABOUT: 2**12}
_MOST_LISTING_BYTES = 2**12
MOST_TRACKS, MOST_ROUNDS = 10**9, 10**6
MODEL = "model.zip"  # in the archive of `publish`: a state
# What says where the weights that a training began with came from: it differs from round to round.
ORIGIN = ("weights", "weights_sha256")
# What a checkpoint records of the net beside params: see models/checkpoint.
RECORDED = ("colours", "unit_features")
ORIGIN_KEY = "unmask.origin"  # as models/adopt/record has it, which needs pydantic


@dataclass(frozen=True)
class About:
    """What a mean needs to know of a model beside its weights."""

    tracks: int  # face tracks that it was trained on: its weight in a mean
    rounds: int  # trainings in a row that led to it
    format: int = FORMAT


# Of a model that no plan trained. It is in no mean, so how much it was trained on never counts.
UNTRAINED = About(tracks=1, rounds=1)


@dataclass(frozen=True)
class State:
    """A model as it travels."""

    weights: dict[str, NDArray[Any]]
    settings: dict[str, Any]  # checkpoint.json
    about: About


def write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    """Write a zip whose bytes depend on the members alone: not on the time, order or zlib."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        for name, content in sorted(members.items()):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o100644 << 16  # substra gives the files these rights
            info.create_system = 3  # Unix, whatever this is
            packed.writestr(info, content)


def pack(model_dir: Path, path: Path, about: About) -> None:
    """Write the state of a model's folder: its weights and settings, not its card or history.

    Those say how many videos of which kind the organisation has.
    """
    members = {name: (model_dir / name).read_bytes() for name in (WEIGHTS, SETTINGS)}
    _write(path, members, about)


def _write(path: Path, members: Mapping[str, bytes], about: About) -> None:
    text = json.dumps(asdict(about), sort_keys=True)
    write_zip(path, {**members, ABOUT: text.encode()})


def unpack(path: Path, model_dir: Path) -> State:
    """Fill a model's folder from a state, once all of it is checked; return the state.

    Raises:
        FederatedError: it is not what pack and average write.
    """
    state = read(path)
    model_dir.mkdir(parents=True, exist_ok=True)
    for name, content in _members(path).items():
        if name != ABOUT:
            (model_dir / name).write_bytes(content)
    return state


def read(path: Path) -> State:
    """Return a state once it is checked.

    Raises:
        FederatedError: it is not what pack and average write, or holds a number that is none.
    """
    members = _members(path)
    try:
        weights = load(members[WEIGHTS])
        settings, about = json.loads(members[SETTINGS]), About(**json.loads(members[ABOUT]))
        if about.format != FORMAT:
            raise ValueError(f"format {about.format}, this version reads {FORMAT}")
        for name, value, most in (
            ("tracks", about.tracks, MOST_TRACKS), ("rounds", about.rounds, MOST_ROUNDS),
        ):  # fmt: skip
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{name} should be a whole number from 1 to {most}")
        own = settings["model"] if settings["model"] is not None else settings["adopted"]
        if not isinstance(settings, dict) or not isinstance(own, dict):
            raise ValueError(f"{SETTINGS} is no model's settings")
        temperature = settings["temperature"]
        if type(temperature) is not float or not 0 < temperature < math.inf:
            raise ValueError("the temperature should be a number above 0")
        limits_from(settings["limits"])
        if broken := [name for name, value in weights.items() if not np.isfinite(value).all()]:
            raise ValueError(f"{broken[0]} holds what is no finite number")
    except (SafetensorError, *MALFORMED) as error:
        raise _refused(path, str(error)) from error
    return State(weights, settings, about)


def _members(path: Path) -> dict[str, bytes]:
    """Return the content of the zip's three members; nothing is taken that was not announced."""
    try:
        _check_listing(path)
        with zipfile.ZipFile(path) as packed:
            infos = packed.infolist()
            names = [info.filename for info in infos]
            if sorted(names) != sorted(MOST_BYTES):
                raise _refused(path, f"it holds {names[:5]!a}")
            content = {}
            for info in infos:
                # Stored, as pack stores: so no small file grows into a large one.
                if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
                    raise _refused(path, f"{info.filename} is compressed or encrypted")
                if info.file_size > MOST_BYTES[info.filename]:
                    raise _refused(path, f"{info.filename} has {info.file_size:,} bytes")
                content[info.filename] = packed.read(info)
            return content
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, *MALFORMED) as error:
        raise _refused(path, str(error)) from error


def _check_listing(path: Path) -> None:
    """Pass if a zip ends as write_zip ends one: zipfile makes an object of all that is listed.

    A gigabyte of members without content would take 12 GB of memory. The format is that of PKWARE's
    APPNOTE 6.3.10, sections 4.3.15 and 4.3.16.

    Raises:
        FederatedError: it lists more than a few members, or more than a few bytes of them.
        ValueError: it does not end like a zip without a comment.
    """
    locator, end = struct.Struct("<4s16x"), struct.Struct("<4s6xH2L2x")
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - locator.size - end.size))
        tail = file.read().rjust(locator.size + end.size)
    (large,) = locator.unpack_from(tail)
    mark, count, listing_bytes, _ = end.unpack_from(tail, locator.size)
    if mark != b"PK\5\6" or large == b"PK\6\7":
        raise ValueError("it does not end like a zip of three small entries")
    if count != len(MOST_BYTES) or listing_bytes > _MOST_LISTING_BYTES:
        raise _refused(path, f"it holds {count:,} members, listed in {listing_bytes:,} bytes")


def _refused(path: Path, why: str) -> FederatedError:
    return FederatedError(
        f"Asked for the model in {path}, a zip of {', '.join(sorted(MOST_BYTES))}; refused, as "
        f"{why}. Nothing of it was used. Ask the organisation that made it to train again."
    )


def comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a checkpoint's settings that all models of a plan must share."""
    own = settings["model"] or {}  # of a model that others trained `adopted` says what it is
    model = {name: value for name, value in own.items() if name not in ORIGIN}
    names = ("format", "faces", "clips", "adopted", "began_as")
    return {**{name: settings.get(name) for name in names}, "model": model}


def check_start(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Pass if a training with our sections faces, clips and model can go on from a checkpoint.

    Raises:
        FederatedError: it was made with others.
    """
    own = theirs["model"] or {}
    clips = {**theirs["clips"]}
    if "colours" in own and ours["clips"]["side_px"] is None:
        clips["side_px"] = None  # recorded with the colours of a net of timm's
    model = {name: value for name, value in own.items() if name not in RECORDED}
    asked_by = "Training goes on from a model, which"
    check_alike(asked_by, ours, {"faces": theirs["faces"], "clips": clips, "model": model})


def check_alike(asked_by: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Pass if two checkpoints' settings make and eat the same clips.

    Raises:
        FederatedError: they don't.
    """
    mine, theirs = comparable(one), comparable(other)
    if differing := [name for name in mine if mine[name] != theirs[name]]:
        raise FederatedError(
            f"{asked_by} needs models of the same settings; they differ in {', '.join(differing)}. "
            "Give all organisations one archive of `train`."
        )


def hand_on(path: Path, out: Path) -> None:
    """Write a state to out, byte for byte, once it is checked.

    Raises:
        FederatedError: it is not what pack writes.
    """
    read(path)
    out.write_bytes(path.read_bytes())


def average(paths: Sequence[Path], out: Path) -> None:
    """Write the mean of states, weighted by the tracks each was trained on.

    Federated averaging: McMahan et al., 2017, arXiv:1602.05629, algorithm 1. The running statistics
    of batch normalisation are weights like the others; a whole number, such as its count of
    batches, becomes the largest. The temperature is a mean too; of
    the limits the strictest count. Each sum is made in the order of the files' content, so that who
    comes first does not count.

    Raises:
        FederatedError: a state is refused, or they don't fit together.
    """
    contents = sorted((hashlib.sha256(path.read_bytes()).digest(), path) for path in paths)
    states = [read(path) for _, path in contents]
    if not states:
        raise FederatedError("Asked for the mean of models; found none. Give at least one.")
    first = states[0]
    shapes = _shapes(first)
    for state in states[1:]:
        check_alike("A mean", first.settings, state.settings)
        if _shapes(state) != shapes:
            raise FederatedError(
                "A mean needs models with the same tensors; their names, shapes or types differ. "
                "Give all organisations one archive of `train`."
            )
    tracks = [state.about.tracks for state in states]
    weights = {
        name: _mean([state.weights[name] for state in states], tracks) for name in sorted(shapes)
    }
    temperatures = [state.settings["temperature"] for state in states]
    # Nobody calibrated the mean, and it is another net than each of theirs.
    own = {name: value for name, value in first.settings.items() if name not in ("promise", "net")}
    settings = own | {
        "temperature": math.fsum(np.multiply(temperatures, tracks)) / sum(tracks),
        "limits": asdict(strictest([limits_from(state.settings["limits"]) for state in states])),
        "run_key": hashlib.sha256(b"".join(digest for digest, _ in contents)).hexdigest(),
    }
    origin = settings.get("adopted") or settings.get("began_as")
    metadata = {ORIGIN_KEY: json.dumps(origin)} if origin else None
    members = {
        WEIGHTS: save(weights, metadata),
        SETTINGS: (json.dumps(settings, indent=2) + "\n").encode(),
    }
    rounds = max(state.about.rounds for state in states)
    _write(out, members, About(min(sum(tracks), MOST_TRACKS), rounds))


def _shapes(state: State) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (value.shape, str(value.dtype)) for name, value in state.weights.items()}


def _mean(values: Sequence[NDArray[Any]], tracks: Sequence[int]) -> NDArray[Any]:
    if not np.issubdtype(values[0].dtype, np.floating):
        return np.asarray(np.maximum.reduce(values))
    total = np.zeros(values[0].shape, np.float64)
    for value, count in zip(values, tracks, strict=True):
        total += count * value.astype(np.float64)
    return np.asarray((total / sum(tracks)).astype(values[0].dtype))
