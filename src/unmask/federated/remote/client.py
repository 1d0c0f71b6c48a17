"""Substra's client on a real network: never a local one, patient only so far, silent on secrets."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import requests
import substra
from substra.sdk import exceptions, schemas

from unmask.federated.remote.config import Member, Secret
from unmask.federated.samples import FederatedError

TIMEOUT_S = 120.0  # without a word from the node
AGAIN = "Run the same command again: what is registered is not sent twice."


@dataclass(frozen=True)
class Node:
    """An organisation's node, open."""

    name: str
    member: Member
    client: substra.Client
    secret: Secret

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Turn what a node may answer into an error that says what was asked of whom.

        Raises:
            FederatedError: the node refused, did not answer, or answered something else.
        """
        with _asking(self.name, self.member, self.secret, what):
            yield


@contextmanager
def opened(
    name: str, member: Member, secret: Secret, *, timeout_s: float = TIMEOUT_S
) -> Iterator[Node]:
    """Open an organisation's node; a session that a password began ends with it.

    Raises:
        FederatedError: it can't be opened, or is another organisation's.
    """
    # The SDK logs what a node answers, whatever that repeats; ours say it without the secrets.
    logging.getLogger("substra").setLevel(logging.CRITICAL)
    # All is given, so the SDK reads neither its variables, of which "false" is true, nor a file.
    # Without a name it would; without a backend type it would run everything on this machine.
    client = substra.Client(
        backend_type=schemas.BackendType.REMOTE, url=member.url, token=secret.token or None,
        insecure=not member.tls, configuration_file="", retry_timeout=300,
    )  # fmt: skip
    if client.backend_mode != schemas.BackendType.REMOTE:
        raise FederatedError(
            f"Asked for {name}'s node at {member.url}; Substra's client would run everything on "
            "this machine. Use substra 1.0."
        )
    # The SDK sets no limit: a node that stops answering would hold it for ever.
    client._backend._client._default_kwargs["timeout"] = timeout_s
    node = Node(name, member, client, secret)
    with client:
        if not secret.token:
            with node.asking("log in"):
                client.login(secret.username, secret.password)
        with node.asking("say who it is"):
            found = client.organization_info().organization_id
        if found != member.id:
            raise FederatedError(
                f"Asked for {member.id} at {member.url}; that is {found}. Mend url or id of {name} "
                "in organisations.yaml; nothing was sent."
            )
        yield node


def check_known(node: Node, ids: Sequence[str]) -> None:
    """Pass if the network knows all organisations.

    Raises:
        FederatedError: it does not.
    """
    with node.asking("list the organisations"):
        known = sorted(each.id for each in node.client.list_organization())
    if strange := sorted(set(ids) - set(known)):
        raise FederatedError(
            f"Asked {node.name}'s network for {', '.join(strange)}; it knows "
            f"{', '.join(known)}. Mend id in organisations.yaml; nothing was sent."
        )


@contextmanager
def _asking(name: str, member: Member, secret: Secret, what: str) -> Iterator[None]:
    try:
        yield
    except (
        exceptions.SDKException,
        requests.exceptions.RequestException,
        ValueError,  # an answer that is no JSON, or not what the SDK expects of it
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        found, remedy = _explain(error, member, secret)
        # Without the cause: a node may answer with what it was sent, password included.
        raise FederatedError(
            f"Asked {name}'s node at {member.url} to {what}; {secret.hide(found)} {remedy}"
        ) from None


def _explain(error: Exception, member: Member, secret: Secret) -> tuple[str, str]:
    """Return what was found and what to do."""
    token, username, password = member.variables
    ours = token if secret.token else f"{username} and {password}"
    words = " ".join(str(error).split())[:300]
    match error:
        case exceptions.BadLoginException():
            return "it refused the user name or the password.", f"Set {ours} to the right ones."
        case exceptions.UsernamePasswordLoginDisabledException():
            return "it takes tokens only.", f"Make one on its website and set {token}."
        case exceptions.AuthenticationError():
            return "it does not know who asks, or no longer: 401.", f"Renew {ours}. {AGAIN}"
        case exceptions.AuthorizationError():
            return f"it may not: {words}.", "Ask its owner for the right to, or for open_to."
        case exceptions.NotFound():
            return f"it has no such thing: {words}.", "Check url; was the network set up anew?"
        case exceptions.GatewayUnavailable():
            return f"it was not available for minutes: {words}.", AGAIN
        case exceptions.Timeout() | exceptions.RequestTimeout() | requests.exceptions.Timeout():
            return f"no answer came in time: {words}.", AGAIN
        case exceptions.ConnectionError() | requests.exceptions.ConnectionError():
            return f"the connection failed or was cut: {words}.", f"Check url and network. {AGAIN}"
        case exceptions.RequestException():
            return f"it answered {error.status_code}: {words}.", AGAIN
        case _:
            kind = type(error).__name__
            return f"its answer was not Substra 1.0's ({kind}: {words}).", "Check url."
