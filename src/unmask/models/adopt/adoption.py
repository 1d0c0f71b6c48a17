"""A published detector becomes a model's folder: all of it, or nothing."""

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from unmask.errors import DiskError, WeightsError
from unmask.models import backbones, checkpoint
from unmask.models.adopt import card, nets
from unmask.models.adopt.adapter import Adapter, Converted, ConvertedStart, Published
from unmask.models.adopt.published_file import read_config, read_tensors
from unmask.models.adopt.record import Adopted, Start, read_origin
from unmask.models.adopt.source import Found, find
from unmask.models.checkpoint import Checkpoint
from unmask.runtime import system
from unmask.runtime.disk import sole_writer, write_atomically, writing
from unmask.scoring.verdicts import NOTHING_LEARNED

if TYPE_CHECKING:
    import torch

# Nothing learned, in numbers that JSON has.
NO_LIMITS = replace(NOTHING_LEARNED, max_sharpness=sys.float_info.max)
_SHOWN = 3  # names of tensors in a message


def adopt(
    source: str,
    adapter: Adapter,
    folder: Path,
    *,
    sha256: str | None,
    accept_licence: bool,
    cache: Path,
) -> Adopted | Start:
    """Make folder a model of the weights that source names, and return where they came from.

    Weights of another task, that only a training can start from, are no model: what is asked of the
    folder as of one is refused.

    sha256 is what the published file must have, besides what the adapter asks. An adoption of the
    same file by the same adapter that is there already is left as it is.

    Raises:
        WeightsError: the licence was not accepted; the weights can't be had or are not what the
            adapter was made for; something else is in folder.
        DiskError: the disk takes no more.
    """
    check_licence(adapter, accept_licence=accept_licence)
    _refuse_what_is_there(folder)
    if None not in (sha256, adapter.sha256) and sha256 != adapter.sha256:
        raise WeightsError(
            f"--sha256 asks for {sha256}, the description of {adapter.name} for {adapter.sha256}. "
            "Leave one out."
        )
    found = find(
        source, files=adapter.files, configs=adapter.configs, sha256=sha256 or adapter.sha256,
        cache=cache,
    )  # fmt: skip
    if (standing := _standing(folder)) is not None:
        if (standing.adapter, standing.sha256) == (adapter.name, found.sha256):
            return standing
        raise _taken(folder)
    converted = _convert(adapter, found)
    origin: dict[str, Any] = {
        "adapter": adapter.name, "title": adapter.title, "source": found.source,
        "commit": found.commit, "file": found.name, "sha256": found.sha256,
        "licence": adapter.licence, "licence_accepted": accept_licence,
        "trained_on": adapter.trained_on,
    }  # fmt: skip
    if isinstance(converted, ConvertedStart):
        start = Start(**origin, backbone=converted.backbone)
        with _new_folder(folder) as whole:
            checkpoint.save_start(whole, converted.tensors, start)
            write_atomically(whole / checkpoint.CARD, card.write_start(adapter, start))
        return start
    adopted = Adopted(**origin, architecture=converted.architecture)
    net = nets.with_weights(
        converted.architecture,
        {f"image.{name}": value for name, value in converted.tensors.items()},
    )
    with _new_folder(folder) as whole:
        checkpoint.save(whole, net, _settings(converted, adopted))
        parameters = sum(parameter.numel() for parameter in net.parameters())
        text = card.write(adapter, adopted, converted, parameters=parameters)
        write_atomically(whole / checkpoint.CARD, text)
    return adopted


def check_licence(adapter: Adapter, *, accept_licence: bool) -> None:
    """Pass if anybody may use the weights for anything, or whoever asks has accepted their terms.

    Raises:
        WeightsError: neither is so.
    """
    licence = adapter.licence
    if licence.free or accept_licence:
        return
    raise WeightsError(
        f"Asked to adopt {adapter.title}; its weights are under: {licence.weights}. {licence.why} "
        "If you may use them under these terms, add --accept-licence."
    )


def _settings(converted: Converted, adopted: Adopted) -> Checkpoint:
    return Checkpoint(
        faces=converted.crop.faces(),
        clips=converted.crop.clips(),
        model=checkpoint.adopted_model(adopted),
        temperature=1.0,
        limits=NO_LIMITS,
        # Another description of the same file is another model.
        run_key=f"adopted-{sha256(adopted.model_dump_json().encode()).hexdigest()[:16]}",
        adopted=adopted,
    )


# ---------------------------------------------------------------- weights


def _convert(adapter: Adapter, found: Found) -> Converted | ConvertedStart:
    """Return the net that the adapter makes of the file, all tensors in their places."""
    configs = {name: read_config(path) for name, path in found.configs.items()}
    published = Published(read_tensors(found.path), configs)
    try:
        converted = adapter.convert(published)
    except (ValidationError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{found.name} of {found.source} is not what {adapter.name} was made for: "
            f"{str(error).splitlines()[0]:.300}. Choose another --adapter, or use --spec."
        ) from error
    if isinstance(converted, ConvertedStart):
        wanted = backbones.shapes_without_head(converted.backbone)
    else:
        wanted = nets.shapes_of(converted.architecture)
    _add_counts(converted.tensors, wanted)
    what = f"{found.name} of {found.source}"
    check_fit(converted.tensors, wanted, what=what, adapter=adapter.name)
    return converted


def _add_counts(tensors: "dict[str, torch.Tensor]", wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Add what files of old versions of torch lack: how many batches a normalisation has met.

    Only training reads it.
    """
    import torch

    for name in wanted:
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, torch.tensor(0))


def check_fit(
    tensors: "Mapping[str, torch.Tensor]",
    wanted: Mapping[str, tuple[int, ...]],
    *,
    what: str,
    adapter: str,
) -> None:
    """Pass if these are all tensors of the net, in its shapes, and no others.

    Raises:
        WeightsError: they are not; the message names some.
    """
    missing = sorted(name for name in wanted if name not in tensors)
    unknown = sorted(name for name in tensors if name not in wanted)
    odd = sorted(
        f"{name} {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in wanted.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    )
    found = [
        f"{len(listed)} {kind} ({', '.join(listed[:_SHOWN])}{', ...' * (len(listed) > _SHOWN)})"
        for kind, listed in (("missing", missing), ("unknown", unknown), ("of another shape", odd))
        if listed
    ]
    if found:
        raise WeightsError(
            f"{what} does not fit the adapter {adapter}; of {len(wanted)} tensors are "
            f"{'; '.join(found)}. It is of another net, or its names were changed: choose another "
            "--adapter, or use --spec."
        )


# ---------------------------------------------------------------- the folder


def _refuse_what_is_there(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    is_own = folder.is_dir() and not folder.is_symlink()
    if is_own and (not any(folder.iterdir()) or _standing(folder) is not None):
        return
    raise _taken(folder)


def _standing(folder: Path) -> Adopted | Start | None:
    if not all((folder / name).is_file() for name in (checkpoint.WEIGHTS, checkpoint.SETTINGS)):
        return None
    with suppress(WeightsError):
        return read_origin(folder / checkpoint.WEIGHTS)
    return None


def _taken(folder: Path) -> WeightsError:
    return WeightsError(
        f"Asked to adopt into {folder}; something else is there. Name another place by --as, or "
        "move it away."
    )


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder beside folder that takes its place once it is whole.

    It is deleted if anything fails; what a killed run left is deleted by the next.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    _delete_abandoned(folder)
    partial = folder.with_name(f".{folder.name[:100]}.{secrets.token_hex(8)}.partial")
    try:
        with sole_writer(partial):
            yield partial
            with writing(folder):
                if folder.is_dir() and not folder.is_symlink():
                    with suppress(OSError):  # not empty: then the next line fails
                        folder.rmdir()
                try:
                    partial.rename(folder)
                except FileExistsError as error:
                    raise _taken(folder) from error
                except OSError as error:
                    if os.path.lexists(folder):
                        raise _taken(folder) from error
                    raise DiskError(
                        f"Asked to write {folder}; the system said: {error.strerror}."
                    ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _delete_abandoned(folder: Path) -> None:
    ours = re.compile(rf"\.{re.escape(folder.name[:100])}\.[0-9a-f]{{16}}\.partial")
    for stale in [each for each in folder.parent.iterdir() if ours.fullmatch(each.name)]:
        if stale.is_symlink() or not stale.is_dir():  # another's; a pipe would be waited for
            continue
        with suppress(OSError):  # one that is being written, or gone by now
            handle = system.open_folder(stale)
            try:
                system.lock(handle)
                shutil.rmtree(stale)
            finally:
                os.close(handle)
