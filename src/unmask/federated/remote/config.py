"""organisations.yaml: who takes part on a real network, and who may use what. No secrets in it.

Those come from the environment, by the names that Substra's own client gives them.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from unmask.federated.plans import Organisation
from unmask.federated.samples import FederatedError, Sample, read_manifest
from unmask.params import Section, read_yaml
from unmask.runtime.addresses import hides

MAX_NAMED = 8  # problems of one file that a message names


class Member(Section):
    """An organisation: its node, its samples, and who may compute on them."""

    id: str = Field(min_length=1)  # what the network calls it
    url: str  # of its backend
    client: str = Field(pattern="^[0-9A-Za-z][0-9A-Za-z_-]*$")  # names its environment variables
    tls: bool = True  # False: plain HTTP, or a certificate that nobody vouches for
    # A folder by `unmask federated samples`; of another owner, its manifest.json is enough.
    samples: Path | None = Field(default=None, strict=False)
    keys: Path | None = Field(default=None, strict=False)  # assets_keys.json of another owner
    open_to: tuple[str, ...] = Field(default=(), strict=False)  # who else may use its samples

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if "@" in url or "%40" in url:
            raise ValueError("has a name or password in it; those come from the environment")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("is no https://host address")
        if hides(url):
            raise ValueError("goes on after its host and path; give the address alone")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _is_private(self) -> "Member":
        if self.tls and not self.url.startswith("https://"):
            raise ValueError("url is not https, by which a password could be read; or say tls: no")
        return self

    @property
    def variables(self) -> tuple[str, str, str]:
        """Return the environment's names of its token, user name and password."""
        name = re.sub("[^0-9A-Z]+", "_", self.client.upper()).strip("_")
        return f"SUBSTRA_{name}_TOKEN", f"SUBSTRA_{name}_USERNAME", f"SUBSTRA_{name}_PASSWORD"


class Network(Section):
    """All of organisations.yaml; the first organisation with train samples makes the means."""

    submitter: str
    functions_open_to: tuple[str, ...] = Field(strict=False)  # who may run the functions
    organisations: dict[str, Member] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> "Network":
        named = {"submitter": [self.submitter], "functions_open_to": self.functions_open_to}
        named |= {f"{name}.open_to": own.open_to for name, own in self.organisations.items()}
        problems = [
            f"{where} names {name}, which is not in organisations"
            + _meant(name, self.organisations)
            for where, names in named.items()
            for name in names
            if name not in self.organisations
        ]
        if strange := [name for name in self.organisations if not re.fullmatch(r"[\w.-]+", name)]:
            problems.append(f"organisations names {strange[0]!r}; use letters, digits and dashes")
        for what in ("id", "client"):
            values = [getattr(own, what) for own in self.organisations.values()]
            if len(set(values)) < len(values):
                problems.append(f"two organisations have the same {what}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def ids(self, names: Iterable[str]) -> list[str]:
        """Return what the network calls these organisations, sorted."""
        return sorted(self.organisations[name].id for name in set(names))


@dataclass(frozen=True)
class Secret:
    """What opens a node: a token, or a name and a password. Never shown, not by repr either."""

    token: str = field(default="", repr=False)
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def hide(self, text: str) -> str:
        """Return the text without its words that are secret."""
        for secret in (self.token, self.password):
            text = text.replace(secret, "***") if secret else text
        return text


def read_secret(member: Member, environment: Mapping[str, str]) -> Secret | None:
    """Return what the environment has to open an organisation's node; None where it has nothing."""
    token, username, password = (environment.get(name, "") for name in member.variables)
    if token:
        return Secret(token=token)
    if username and password:
        return Secret(username=username, password=password)
    return None


def read_network(path: Path) -> Network:
    """Return what the file says.

    Raises:
        FederatedError: it is missing, no YAML, or says what can't be; values are not repeated.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FederatedError(
            f"Asked for the organisations in {path}; it can't be read ({error}). Write it: "
            "docs/federated.md has one to start from. Nothing was run or sent."
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        # The parser's own words repeat the line, which might have a secret in it.
        raise FederatedError(f"{path}{line}: not YAML. Mend it; nothing was sent.") from None
    try:
        return Network.model_validate(values)
    except ValidationError as error:
        problems = [_explain(dict(problem)) for problem in error.errors(include_input=False)]
        named = problems[:MAX_NAMED]
        raise FederatedError(
            "\n".join([f"{path} has {len(problems)} problem(s); nothing was sent:", *named])
        ) from None


def check_name(network: Network, name: str) -> None:
    """Pass if there is an organisation of that name.

    Raises:
        FederatedError: there is none.
    """
    if name not in network.organisations:
        raise FederatedError(
            f"Asked for the organisation {name}; it is not in organisations.yaml"
            f"{_meant(name, network.organisations)}. Nothing was sent."
        )


def _explain(problem: dict[str, Any]) -> str:
    place = problem["loc"]
    where = ".".join(str(part) for part in place) or "the file"
    if problem["type"] == "extra_forbidden":
        section = Member if place[0] == "organisations" else Network
        return f"  {where}: unknown key{_meant(str(place[-1]), section.model_fields)}"
    if problem["type"] == "value_error":
        return f"  {where}: {problem['ctx']['error']}"
    return f"  {where}: {problem['msg']}"


def _meant(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def read_members(network: Network) -> dict[str, Organisation]:
    """Return those who take part, with what their manifests say.

    Raises:
        DatasetError: a manifest is missing or damaged.
    """
    found = {}
    for name, member in network.organisations.items():
        samples: tuple[Sample, ...] = ()
        if member.samples is not None:
            samples = tuple(read_manifest(member.samples))
        found[name] = Organisation(name, samples, member.open_to)
    return found
