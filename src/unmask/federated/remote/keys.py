"""assets_keys.json: what a network calls what was registered there, by a digest of what it is.

It is written after each registration, so an interrupted one goes on; and before each, so that one
whose answer was lost is looked for on the network instead of being sent twice. There are no
secrets in it: an owner of videos gives it to whoever submits.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.errors import MALFORMED
from unmask.federated.samples import FederatedError
from unmask.runtime.disk import write_atomically

FORMAT = 1
NAME = "assets_keys.json"


@dataclass(frozen=True)
class SentPlan:
    """A plan as it was sent: what its results will be written down with."""

    plan: dict[str, Any]  # federated_plans.Plan
    node: str  # the submitter's id and address
    key: str  # the network's, chosen here
    tasks: dict[str, str]  # each one's key by name, chosen here
    functions: dict[str, str]  # SHA-256 of the archives
    samples: str  # SHA-256 of all samples' names
    videos: dict[str, int]  # test videos by organisation
    is_sent: bool = False  # False: it may be there in part


class AssetKeys:
    """A file of keys and what it holds; every change is on the disk when a method returns."""

    def __init__(self, path: Path) -> None:
        """Read the file; there is none before the first registration.

        Raises:
            FederatedError: it is damaged.
        """
        self.path = path
        self.assets: dict[str, str] = {}
        self.plans: dict[str, SentPlan] = {}
        self.pending = ""  # the digest of what was being sent
        if not path.exists():
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise ValueError(f"format {found['format']}, this version reads {FORMAT}")
            self.assets = {str(digest): checked_key(key) for digest, key in found["assets"].items()}
            self.plans = {key: SentPlan(**plan) for key, plan in found["plans"].items()}
            self.pending = str(found["pending"])
        except (OSError, *MALFORMED) as error:
            raise FederatedError(
                f"Asked for the keys in {path}; it holds none of this version ({error!r}). Restore "
                "it; without it everything would be registered again."
            ) from error

    def announce(self, digest: str) -> None:
        """Write down that this is about to be sent."""
        self.pending = digest
        self._write()

    def add(self, digest: str, key: str) -> None:
        """Write down what the network calls it."""
        self.assets[digest] = checked_key(key)
        self.pending = ""
        self._write()

    def add_plan(self, digest: str, plan: SentPlan) -> None:
        """Write a plan down, before it is sent and after."""
        self.plans[digest] = plan
        self._write()

    def _write(self) -> None:
        plans = {digest: vars(plan) for digest, plan in self.plans.items()}
        values = {
            "format": FORMAT, "assets": self.assets, "plans": plans, "pending": self.pending,
        }  # fmt: skip
        write_atomically(self.path, json.dumps(values, indent=1, sort_keys=True) + "\n")


def checked_key(key: object) -> str:
    """Return a network's key.

    Raises:
        ValueError: it is none: the SDK passes on what a node answers, whatever that is.
    """
    text = str(key)
    if not re.fullmatch("[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}", text):
        raise ValueError(f"{text[:40]!r} is no key")
    return text
