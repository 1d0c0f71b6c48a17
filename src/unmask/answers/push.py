"""A model's folder for a repository of the Hub: what goes there, and whether it may."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unmask.answers.hub_model import FILES, README, check_weights
from unmask.errors import UnmaskError, WeightsError
from unmask.hub import client, refusals
from unmask.hub.address import Address
from unmask.hub.client import Listing, Remote
from unmask.models import checkpoint, looks
from unmask.models.adopt.card import head_of
from unmask.models.card_head import read_head, split_head, with_head
from unmask.models.checkpoint import Checkpoint
from unmask.models.model_card import plain
from unmask.models.net_file import read_net
from unmask.runtime.digests import CARD, NET, SETTINGS, WEIGHTS, model_digest
from unmask.runtime.disk import content_digest, read_regular

PASSED_ON = "## Passed on"  # the card's chapter on weights that are not for everybody
# What a repository may hold besides, where it has no model of ours yet.
_HARMLESS = {".gitattributes", ".gitignore", README, "LICENSE", "LICENSE.txt", "LICENSE.md"}


class PushError(UnmaskError):
    """A model can't be pushed, or may not be."""


@dataclass(frozen=True)
class Parcel:
    """What of a model's folder goes to a repository."""

    files: Mapping[str, Path | bytes]  # by their names there
    sizes: Mapping[str, int]
    left_out: tuple[str, ...]  # names of what else lies in the folder
    digest: str  # of the model, as answers show it
    terms: str | None  # of weights that are not for everybody
    told: str | None  # the command that calibrated it, which everybody will read


@dataclass(frozen=True)
class Pushed:
    """Where a model is now."""

    address: Address  # with its commit
    is_new: bool  # else the repository held all of it already


def pack(folder: Path, *, may_pass_on: bool) -> Parcel:
    """Return what of a model's folder would be pushed. Nothing is sent, and the Hub is not asked.

    Raises:
        WeightsError: the folder holds no whole model of this version.
        PushError: it has no card; or its weights are not for everybody, and nobody said that they
            may be passed on.
    """
    _refuse_links(folder)
    settings = checkpoint.read_settings(folder)
    check_weights(folder / WEIGHTS, f"Asked to push {folder}; its {WEIGHTS}")
    checkpoint.check_promise(folder, settings)
    if settings.net and content_digest(folder / WEIGHTS) != settings.net.weights_sha256:
        raise WeightsError(
            f"Asked to push {folder}; its {NET} was made of other weights than those beside it. "
            "Run `dvc checkout`, or train or adopt it again."
        )
    read_net(folder, settings.net)
    if settings.promise and settings.promise.looks_sha256:
        looks.read(folder, settings.promise.looks_sha256)
    if settings.promise and (folder / looks.FOLDER / SETTINGS).is_file():
        checkpoint.read_settings(folder / looks.FOLDER)
    terms = terms_of(settings)
    if terms and not may_pass_on:
        raise PushError(
            f"Asked to push {folder}; its weights may not be passed on by everybody: {terms}. If "
            "you may pass them on under these terms, add --may-pass-on."
        )
    files: dict[str, Path | bytes] = {README: _readme(folder, settings, terms)}
    added = [name for name in FILES if name.startswith(f"{looks.FOLDER}/")]
    for name in [SETTINGS, WEIGHTS, *[NET] * (settings.net is not None),
                 *added * (settings.promise is not None)]:  # fmt: skip
        if (path := folder / FILES[name][0]).is_file():
            files[name] = path
    taken = {FILES[name][0] for name in files}
    sizes = {
        name: len(content) if isinstance(content, bytes) else content.stat().st_size
        for name, content in files.items()
    }
    for name, size in sizes.items():
        if size > FILES[name][1]:
            raise PushError(
                f"Asked to push {folder}; {name} has {size:,} bytes, more than the "
                f"{FILES[name][1]:,} that it may have."
            )
    return Parcel(
        files, sizes,
        tuple(sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*")
            if not path.is_dir() and path.relative_to(folder).as_posix() not in taken
        )),
        model_digest(folder), terms, settings.promise.command if settings.promise else None,
    )  # fmt: skip


def _refuse_links(folder: Path) -> None:
    """Pass if no file that would go is a link to a place that nobody named, such as a key's."""
    for here, _ in FILES.values():
        if not (folder / here).resolve().is_relative_to(folder.resolve()):
            raise PushError(
                f"Asked to push {folder}; {here} is a link to another place. Copy the folder with "
                f"what its links lead to (`cp -rL {folder} COPY`), and push the copy."
            )


def terms_of(settings: Checkpoint) -> str | None:
    """Return the terms of weights that not everybody may pass on; None of any other."""
    others = settings.adopted or settings.began_as
    if others is not None:
        licence = others.licence
        why = f" ({licence.why.rstrip('.')})" if licence.why else ""
        return None if licence.free else f"{licence.weights}{why}"
    if settings.model.weights == "kinetics400":  # the same as adopt's x3d-*-kinetics
        return "the training began with PyTorchVideo's X3D, which names no licence of its weights"
    return None


def _readme(folder: Path, settings: Checkpoint, terms: str | None) -> bytes:
    """Return the card as the Hub reads it: with a head, and with the terms of weights of others."""
    path = folder / CARD
    try:
        card = read_regular(path, FILES[README][1]).decode()
        head = read_head(card)
    except FileNotFoundError as error:
        raise PushError(
            f"Asked to push {folder}; it has no {CARD}, without which nobody knows what the model "
            "is. `dvc checkout` brings that of the pipeline; else write one."
        ) from error
    except (OSError, ValueError) as error:
        raise PushError(
            f"Asked to push {folder}; its {CARD} can't be read: {error!s:.300}. Correct it."
        ) from error
    body = split_head(card)[1]
    others = settings.adopted or settings.began_as
    if not head:
        tags = ["deepfake-detection", "face-forgery-detection", "unmask", settings.model.backbone]
        head = {
            "library_name": "unmask", "pipeline_tag": "video-classification", "tags": tags
        }  # fmt: skip
    if others is not None and (terms or "license" not in head):
        named = head_of(others, [])
        head = {**{name: value for name, value in named.items() if "licen" in name}, **head}
    if terms and PASSED_ON not in body:
        body = (
            f"{body.rstrip()}\n\n{PASSED_ON}\n\nThe weights are not for everybody: {plain(terms)}. "
            "Whoever pushed them here said that they may pass them on (`--may-pass-on`). Whoever "
            "takes them is bound by the same terms.\n"
        )
    return with_head(head, body).encode()


# ---------------------------------------------------------------- sending


def push(parcel: Parcel, address: Address, *, private: bool, message: str) -> Pushed:
    """Put the model into the repository's branch main, in one commit; make the repository first.

    Where the repository holds the same already, nothing is committed.

    Raises:
        PushError: there is no token; the repository is of something else, or public where a private
            one was asked for; or it does not hold afterwards what was sent.
        HubError: the Hub refused, can't be reached or broke off.
    """
    if not refusals.has_token():
        raise PushError(
            f"Asked to push to {address}; there is no token. Set HF_TOKEN to one that may write, "
            "or run `hf auth login`."
        )
    try:
        found = client.listing(address)
    except refusals.NotThereError:
        client.create(address, private=private)
        found = client.listing(address)
    else:
        _check_target(found, address, private=private)
    gone = sorted(name for name in FILES if name in found.files and name not in parcel.files)
    if not gone and _holds(found, parcel):
        return Pushed(address.at(found.commit), is_new=False)
    commit = client.commit(address, parcel.files, gone, parent=found.commit, message=message)
    after = client.listing(address.at(commit))
    if not _holds(after, parcel):
        raise PushError(
            f"Pushed to {address.at(commit)}, which does not hold all that was sent: a .gitignore "
            "there may leave files out. Don't use that commit; correct it there, and push again."
        )
    return Pushed(address.at(commit), is_new=True)


def _check_target(found: Listing, address: Address, *, private: bool) -> None:
    foreign = sorted(name for name in found.files if name not in {*FILES, *_HARMLESS})
    if SETTINGS not in found.files and foreign:
        raise PushError(
            f"Asked to push to {address}; it holds {foreign[0]!r:.80} and no model of unmask's. "
            "Nothing was changed: name another repository."
        )
    if private and not found.is_private:
        raise PushError(
            f"Asked to push to {address} as a private repository; it is there and public. Make it "
            "private on its page first, or leave --private out."
        )


def _holds(found: Listing, parcel: Parcel) -> bool:
    return all(
        (remote := found.files.get(name)) is not None and _is_same(remote, content)
        for name, content in parcel.files.items()
    )


def _is_same(remote: Remote, content: Path | bytes) -> bool:
    return remote.is_of(content) if isinstance(content, Path) else remote.is_content(content)
