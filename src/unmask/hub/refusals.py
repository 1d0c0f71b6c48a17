"""What the Hub refuses, or why it can't be had, in one line each and without a token."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from unmask.errors import MALFORMED, UnmaskError, WeightsError
from unmask.hub.address import Address
from unmask.runtime.addresses import public, redacted

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
ANSWER_S = 30.0  # for a listing
_STALL_S = 120.0  # in which some of a file, or an answer to one, has to come
_MOST_WORDS = 200  # characters of what the Hub says
_TOKEN = re.compile(r"hf_\w+|(?<=Bearer )[^\s'\"]+")


class HubError(WeightsError):
    """The Hub refused, or what came from it is not what was asked for."""


class UnreachableError(HubError):
    """The Hub can't be reached, or may not be asked."""


class NotThereError(HubError):
    """The Hub knows no such repository, or does not show it to whoever asks."""


def library() -> Any:
    """Return huggingface_hub, which then tells nobody what program asks, or where it runs.

    Raises:
        ModuleNotFoundError: the extra `hub` is not installed.
        HubError: HF_ENDPOINT names an address on the way to which others could read the token.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    if not sys.stderr.isatty():
        with quiet():
            disable_progress_bars()
    try:
        endpoint = urlsplit(constants.ENDPOINT)
        is_private = endpoint.scheme == "https" or endpoint.hostname in _LOOPBACK
        is_address = endpoint.scheme in ("http", "https") and (endpoint.port or 1) > 0
    except ValueError:
        is_private = is_address = False
    if not (is_private and is_address):
        raise HubError(
            f"Asked the Hub at {public(constants.ENDPOINT)} (HF_ENDPOINT); that is no address by "
            "https, and whoever sits on the way could read a token. Name one, or unset it."
        )
    return huggingface_hub


def has_token() -> bool:
    """Say whether the environment, or the file that it names, has a token for the Hub.

    Raises:
        HubError: the file can't be read, or what is there can't be a token.
    """
    hub = library()
    try:
        with quiet():
            token = hub.get_token()
    except (OSError, ValueError) as error:
        raise HubError(
            f"Asked for the token of the Hub; its file can't be read ({type(error).__name__}). Set "
            "HF_TOKEN, correct HF_TOKEN_PATH, or run `hf auth login`."
        ) from error
    if token and not re.fullmatch(r"[!-~]+", token):  # it would be repeated by an error of HTTP
        raise HubError(
            "Asked for the token of the Hub; what HF_TOKEN or its file holds has characters that "
            "no token has. Set it anew."
        )
    return bool(token)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep huggingface_hub's retries and advice out of what the user is told."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub.setLevel(level)


@contextmanager
def asking(address: Address) -> Iterator[None]:
    """Turn what huggingface_hub raises meanwhile into one line.

    Raises:
        UnreachableError: the Hub can't be reached.
        NotThereError: it shows no such repository.
        HubError: it refused otherwise, broke off, or answered what nobody understands.
        OSError: of the disk, as it came.
    """
    has_token()  # what is wrong with it is said before it is used
    from huggingface_hub import errors, get_session

    asked = f"Asked the Hub for {address}"
    try:
        with quiet():
            get_session().timeout = _STALL_S
            yield
    except UnmaskError:
        raise
    except errors.GatedRepoError as error:
        raise HubError(
            f"{asked}; its owner gives it only to those who asked. Ask for access on its page, "
            f"then {_sign_in()}."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise NotThereError(
            f"{asked}; it knows no such repository, or shows it only to those who may see it. "
            f"Correct the name, or {_sign_in()}."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"{asked}; the repository has no such commit, branch or tag. Correct what follows the "
            "@, or leave it out."
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(asked, error) from error
    except (errors.OfflineModeIsEnabled, errors.OIDCError) as error:
        raise UnreachableError(
            f"{asked}; HF_HUB_OFFLINE forbids to ask it, or no token can be had. Unset it, or name "
            "a folder."
        ) from error
    except errors.HTTPError as error:  # type: ignore[attr-defined]  # of its library of HTTP
        if _is_half(error):
            raise _broke_off(asked, str(error)) from error
        raise UnreachableError(
            f"{asked}; it can't be reached ({_in_short(error)}). Try again where there is a "
            "network."
        ) from error
    except RuntimeError as error:  # of one of several uploads, which names its file
        inner = error.__cause__
        if isinstance(inner, errors.HfHubHTTPError):
            raise _refused(asked, inner) from error
        raise _broke_off(asked, str(inner or error)) from error
    except OSError as error:
        if "onsistency" in str(error):  # of the size that the Hub said with what came
            raise _broke_off(asked, "it ends too early") from error
        raise
    except MALFORMED as error:
        raise HubError(
            f"{asked}; it answered what this version does not understand ({_in_short(error)}). "
            "Check HF_ENDPOINT, or update huggingface_hub."
        ) from error


def _refused(asked: str, error: Any) -> HubError:
    status = error.response.status_code
    said = _in_short(error.server_message or error.response.headers.get("X-Error-Message") or "")
    if status == 401:
        return HubError(
            f"{asked}; it does not accept the token. Set HF_TOKEN to one that holds, or run `hf "
            "auth login`."
        )
    if status == 403:
        return HubError(
            f"{asked}; the token may not do that{f' ({said})' if said else ''}. Use one of an "
            "account that may, with the right to write where something is pushed."
        )
    if status in (409, 412):
        return HubError(
            f"{asked}; somebody else has changed the repository meanwhile, or has one of that name "
            "that the token may not see. Type the same again, or name another one."
        )
    if status == 429 or status >= 500:
        return UnreachableError(
            f"{asked}; it does not answer now (status {status}). Try again in some minutes."
        )
    return HubError(f"{asked}; it refused with status {status}{f' ({said})' if said else ''}.")


def _sign_in() -> str:
    if has_token():
        return "use the token of an account that may see it"
    return "set HF_TOKEN or run `hf auth login`"


def _is_half(error: Exception) -> bool:
    """Say whether an answer began to come: by its name, as two libraries of HTTP have that."""
    return type(error).__name__ in ("RemoteProtocolError", "ReadError", "DecodingError")


def _broke_off(asked: str, said: str) -> HubError:
    return HubError(
        f"{asked}; not all of it went through ({_in_short(said)}). Type the same again: what has "
        "arrived is kept."
    )


def _in_short(said: object) -> str:
    """Return the first line of an error, without what may be a secret."""
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    first = lines[0] if lines else "no answer"
    return _TOKEN.sub("…", redacted(first))[:_MOST_WORDS]
