"""Content credentials (C2PA) of a file: who signed it, and what that says of how it was made.

Source: https://spec.c2pa.org/specifications/specifications/2.2/specs/C2PA_Specification.html. Files
come from strangers: call this in a confined process. Nothing is asked of the network.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from unmask.answers.file_says import MOST, Action, Credentials, Ingredient, State, short
from unmask.errors import MALFORMED, UnmaskError
from unmask.runtime.child import heartbeat


class Reader:
    """Reads files by one list of trusted certificates."""

    def __init__(self, trusted_pem: str | None) -> None:
        """Take certificates in PEM; a signature that leads to one of them is called trusted."""
        settings: dict[str, Any] = {
            "verify": {
                "verify_trust": trusted_pem is not None,
                "remote_manifest_fetch": False,
                "ocsp_fetch": False,
            }
        }
        if trusted_pem is not None:
            settings["trust"] = {"user_anchors": trusted_pem}
        self._settings = json.dumps(settings)

    def read(self, path: Path) -> Credentials:
        """Return the credentials of a file.

        Raises:
            OSError: it can't be read.
        """
        try:
            import c2pa  # type: ignore[import-untyped]
        except ModuleNotFoundError:
            return Credentials(state=State.NOT_READ, detail="The extra c2pa is not installed.")
        try:
            with path.open("rb") as file, c2pa.Context.from_json(self._settings) as context:
                reader = c2pa.Reader.try_create(None, _Telling(file), context=context)
                if reader is None:
                    return Credentials(state=State.ABSENT)
                with reader:
                    return _describe(reader)
        except c2pa.C2paError.NotSupported:
            return Credentials(state=State.ABSENT, detail="Files of this kind carry none.")
        except (c2pa.C2paError, *MALFORMED) as error:
            # The library has a class for manifests elsewhere, and raises its base class instead.
            is_elsewhere = str(error).startswith("Remote")
            state = State.ELSEWHERE if is_elsewhere else State.UNREADABLE
            return Credentials(state=state, detail=short(error))


class SigningError(UnmaskError):
    """The library could not sign a file; the message has its words."""


def sign(
    path: Path,
    kind: str,
    out: Path,
    manifest: str,
    parent: tuple[Path, str, str],
    *,
    chain_pem: bytes,
    key_pem: bytes,
    algorithm: str,
) -> None:
    """Write a file with credentials to out, a new file, by a manifest as c2pa takes it.

    kind is its media type. parent is the file that it was made of, with media type and title; its
    own credentials go along.

    Raises:
        SigningError: the library could not.
        OSError: a file can't be read or written.
    """
    import c2pa

    settings = {
        "verify": {
            "verify_trust": False, "verify_after_sign": False,
            "remote_manifest_fetch": False, "ocsp_fetch": False,
        },
        "builder": {"thumbnail": {"enabled": False}},
    }  # fmt: skip
    info = c2pa.C2paSignerInfo(algorithm.encode(), chain_pem, key_pem, None)
    try:
        with (
            c2pa.Context.from_json(json.dumps(settings)) as context,
            c2pa.Builder.from_json(manifest, context=context) as builder,
            c2pa.Signer.from_info(info) as signer,
            path.open("rb") as file,
            out.open("x+b") as written,
        ):
            original, its_kind, title = parent
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)  # so its first action is c2pa.opened
            told = json.dumps({"title": title, "relationship": "parentOf"})
            with original.open("rb") as content:
                builder.add_ingredient(told, its_kind, _Telling(content))
            builder.sign(signer, kind, _Telling(file), written)
    except (c2pa.C2paError, *MALFORMED) as error:
        raise SigningError(f"c2pa says: {str(error) or repr(error):.200}") from error


class _Telling:
    """A file that tells the parent of this process that its reader gets on."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek: Callable[..., int] = file.seek
        self.tell: Callable[[], int] = file.tell
        self.write: Callable[..., int] = file.write  # c2pa asks whether it is there
        self.flush: Callable[[], None] = file.flush

    def read(self, count: int = -1) -> bytes:
        heartbeat()
        return self._file.read(count)


def _describe(reader: Any) -> Credentials:
    manifest = reader.get_active_manifest() or {}
    signed = _object(manifest.get("signature_info"))
    results = _object(_object(reader.get_validation_results()).get("activeManifest"))
    ingredients = [
        Ingredient(title=short(_text(each.get("title"))), relation=short(each.get("relationship")))
        for each in _objects(manifest.get("ingredients"))
    ]
    actions = [
        Action(
            action=short(each.get("action")),
            source=short(_last(each.get("digitalSourceType"))),
            agent=short(_named(each.get("softwareAgent"))),
        )
        for assertion in _objects(manifest.get("assertions"))
        if str(assertion.get("label")).startswith("c2pa.actions")
        for each in _objects(_object(assertion.get("data")).get("actions"))
    ]
    generators = [
        short(_named(each)) for each in _objects(manifest.get("claim_generator_info"))
    ] or [short(_text(manifest.get("claim_generator")))]
    faults = [short(each.get("code")) for each in _objects(results.get("failure"))]
    lists = (ingredients, actions, generators, faults)
    return Credentials(
        state=_STATES.get(str(reader.get_validation_state()), State.UNREADABLE),
        signer=short(_text(signed.get("common_name"))),
        organisation=short(_text(signed.get("issuer"))),
        signed_at=short(_text(signed.get("time"))),
        generators=[each for each in generators if each][:MOST],
        actions=actions[:MOST],
        ingredients=ingredients[:MOST],
        faults=faults[:MOST],
        left_out=sum(max(0, len(each) - MOST) for each in lists),
    )


_STATES = {"Trusted": State.TRUSTED, "Valid": State.VALID, "Invalid": State.INVALID}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _last(value: Any) -> str:
    """Return the name in an address such as .../digitalsourcetype/trainedAlgorithmicMedia."""
    return _text(value).rpartition("/")[2]


def _named(value: Any) -> str:
    """Return a program as its name and version."""
    if isinstance(value, str):
        return value
    found = _object(value)
    return " ".join(filter(None, (_text(found.get("name")), _text(found.get("version")))))
