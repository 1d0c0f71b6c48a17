"""Addresses without the secrets in them, for messages, logs and what others may read."""

import re
from urllib.parse import parse_qsl, quote, unquote

# Where a secret may begin or end in a way that can't be told, nothing of the rest is shown.
_HIDDEN = "…"
# The look back keeps a long word from being read again from each of its letters.
_ADDRESS = re.compile(r"(?:(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*:)?//[^\s'\"<>`]+")
_HTTP = re.compile(r"(https?):[/\\]*", re.IGNORECASE)
_SCHEME = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?//")
_MOST = 10_000  # characters of a text in which addresses are looked for one by one
_BARE_USER = re.compile(r"[^\s/:@]+:(?!/)[^\s@]+@(?!sha256:)")  # and no image by digest


def public(address: str) -> str:
    """Return an address without user, password, query and fragment, each of which may be a secret.

    Passwords hold characters against the rules, too: the user ends at the last @ before a path, or
    later where what stands before is no host. "…" takes the place of what can't be told apart.

    >>> public("https://ann:secret@mlflow.example.org/team#token")
    'https://mlflow.example.org/team'
    >>> public("postgresql://db/runs?user=ann&password=secret")
    'postgresql://db/runs'
    >>> public("//ann:se/cr?et@host/a"), public("https://ann:secret%40host/a")
    ('//host/a', 'https://…')
    >>> public("models:/unmask@champion"), public("sqlite:////a@b/mlflow.db")
    ('models:/unmask@champion', 'sqlite:////a@b/mlflow.db')
    """
    text = "".join(address.split()) if _HTTP.match(address.strip()) else address
    if found := _HTTP.match(text):  # browsers and clients take any number of slashes
        begin = f"{found[1].lower()}://"
    elif found := _SCHEME.match(text):
        begin = found[0]
    elif _BARE_USER.match(text):
        return public(f"//{text}").removeprefix("//")
    else:  # a path, or models:/name@alias
        return text
    rest = text[found.end() :]
    if rest.startswith("/"):  # no host, so nobody who signs in there
        return begin + _up_to(rest, "?#")
    host, path = _split(rest)
    if host is None:
        return begin + _HIDDEN
    return begin + host + _up_to(path, "?#;")


def hides(address: str) -> bool:
    """Say whether an address holds what may be a secret."""
    return public(address) != address.strip()


def holds_secret(text: str) -> bool:
    """Say whether any word of a text is an address with what may be a secret.

    >>> holds_secret("http://a.example,http://ann:secret@b.example"), holds_secret("a.example:80")
    (True, False)
    """
    if len(text) > _MOST and ("//" in text or "@" in text):
        return True  # what follows takes the square of its length
    # From each // to the end: a password may hold what else divides addresses.
    begins = [match.start() for match in re.finditer(r"(?:(?<![\w+.-])\w[\w+.-]*:)?//+", text)]
    if any(public(text[begin:]) != text[begin:] for begin in begins):
        return True
    return bool(("@" in text and _BARE_USER.search(text)) or hides(text))


def redacted(text: str, address: str = "") -> str:
    """Return a text without the secrets of all addresses in it, and without those of `address`.

    Errors repeat parts of an address: its user and password alone, decoded or encoded.
    """
    if address:
        text = text.replace(address, public(address))
    secrets = _secrets(address)
    text = _ADDRESS.sub(lambda found: _redacted_word(found[0]), text)
    for secret in sorted(secrets, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", _HIDDEN, text)
    return text


def _redacted_word(word: str) -> str:
    """Return one address amid a text, where punctuation may follow it."""
    bare = word.rstrip(".,;:!)]}")
    return public(bare) + word[len(bare) :]


def _up_to(text: str, ends: str) -> str:
    return re.split(f"[{re.escape(ends)}]", text, maxsplit=1)[0]


def _split(rest: str) -> tuple[str | None, str]:
    """Return the host, with port, and the path of what follows //; None where it can't be told."""
    before = _up_to(rest, "?#")
    _, at, after = before.rpartition("@")
    if not at and "@" in rest:
        # Behind the first ? or #: a query's value, or a password that holds one of them.
        beyond = rest[len(before) :]
        is_query = "=" in beyond[: beyond.index("@")] or beyond.startswith("#")
        if is_query and "/" in before and _is_host(_up_to(before, "/")):
            after = before
        elif is_query and _is_host(_up_to(before, "/")):
            return None, ""
        else:
            after = rest.rpartition("@")[2]
    elif at and _is_host(_up_to(before, "/\\")):
        return None, ""  # an @ in the path of a host, or a password with a slash and no colon
    host = _up_to(after, "/\\?#")
    return (host, after[len(host) :]) if _is_host(host) else (None, "")


def _is_host(host: str) -> bool:
    """Say whether this can be a host, perhaps with a port: a password seldom can."""
    return bool(re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:@%\[\]]+)?(:\d{0,5})?", host))


def _secrets(address: str) -> set[str]:
    """Return all parts of an address that may be secrets, as errors may repeat them."""
    shown = public(address)
    if shown == address:
        return set()
    rest = address.partition("//")[2] or address
    before, _, fragment = rest.partition("#")
    address_part, _, query = before.partition("?")
    user = rest.rpartition("@")[0] if "@" in address_part or "=" not in query else ""
    found = {user, fragment, *user.split(":", 1), *user.partition("/")[2].split("@")}
    found |= {item.partition("=")[2] for item in query.split("&")}
    found |= {value for _, value in parse_qsl(query)}
    found |= {unquote(secret) for secret in found} | {quote(secret, safe="") for secret in found}
    return {secret for secret in found if secret}
