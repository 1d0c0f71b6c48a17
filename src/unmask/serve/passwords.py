"""How often a password may be tried, so that it can't be guessed and nobody is locked out."""

import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE = 5  # wrong passwords before the first wait; typing errors cost nothing
_FREE_UNDER_ATTACK = 1
_ATTACK_FAILURES, _ATTACK_S = 100, 60.0  # so many from all addresses together are no typing errors
_LONGEST_WAIT_S = 300.0
_FORGET_S = 3600.0  # without a wrong password
_MOST_KEPT = 50_000  # clients that are remembered, of a few hundred bytes each


@dataclass
class _Record:
    failures: int
    last_s: float


class Throttle:
    """Counts wrong passwords for each client, and says how long it has to wait.

    The wait doubles with each further failure. A client is an address, or a browser that signed in
    before and bears a mark of that: so whoever guesses from an address, behind a shared proxy for
    example, doesn't lock out those who are signed in, and never anybody at another address.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._window_s, self._in_window = clock(), 0
        self._key = secrets.token_bytes(32)

    def wait_s(self, client: str) -> float:
        """Return the seconds until the client may try a password; 0 if it may now."""
        record = self._records.get(client)
        if record is None:
            return 0.0
        now_s = self._clock()
        if now_s - record.last_s > _FORGET_S:
            del self._records[client]
            return 0.0
        over = record.failures - (_FREE_UNDER_ATTACK if self._is_attacked(now_s) else FREE)
        # Before the exponent grows beyond what a float holds.
        wait_s = min(2.0 ** min(over, 20), _LONGEST_WAIT_S) if over >= 0 else 0.0
        return max(record.last_s + wait_s - now_s, 0.0)

    def fail(self, client: str) -> None:
        """Count a wrong password."""
        now_s = self._clock()
        self._is_attacked(now_s)  # begins a new window where the last one is over
        self._in_window += 1
        record = self._records.pop(client, None) or _Record(0, now_s)
        if now_s - record.last_s > _FORGET_S:
            record.failures = 0
        record.failures, record.last_s = record.failures + 1, now_s
        self._records[client] = record
        if len(self._records) > _MOST_KEPT:
            self._records.popitem(last=False)

    def succeed(self, client: str) -> None:
        """Forget the client's wrong passwords."""
        self._records.pop(client, None)

    def _is_attacked(self, now_s: float) -> bool:
        if now_s - self._window_s > _ATTACK_S:
            self._window_s, self._in_window = now_s, 0
        return self._in_window >= _ATTACK_FAILURES

    # ------------------------------------------------------------ marks of browsers that signed in

    def mark(self) -> str:
        """Return a new mark for a browser that has signed in."""
        name = secrets.token_hex(12)
        return f"{name}.{self._sign(name)}"

    def client(self, address: str, mark: str) -> str:
        """Return whose wrong passwords count: the mark's, if it is ours, or the address's."""
        name, _, signature = mark.partition(".")
        if hmac.compare_digest(signature.encode(), self._sign(name).encode()):
            return f"mark {name}"
        return address

    def _sign(self, name: str) -> str:
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()


def given(authorization: str) -> bytes | None:
    """Return the password of an Authorization header; None where it holds none.

    >>> given("Basic " + base64.b64encode(b"ann:secret").decode())
    b'secret'
    """
    scheme, _, words = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        _, colon, password = base64.b64decode(words, validate=True).partition(b":")
    except ValueError:
        return None
    return password if colon else None
