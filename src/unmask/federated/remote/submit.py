"""A submission to a real network: what is registered, in which order, and what is there already.

An owner registers its own samples (`register`), so no submitter needs another one's password.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace

from substra.sdk import exceptions, models, schemas

from unmask.federated import leaderboard, specs
from unmask.federated.archives import Assets
from unmask.federated.plans import Organisation, Plan
from unmask.federated.remote.assets import (
    Wanted,
    check,
    node_of,
    plan_digest,
    wanted_by,
    wanted_data,
    wanted_functions,
)
from unmask.federated.remote.client import Node, check_known, opened
from unmask.federated.remote.config import Network, Secret
from unmask.federated.remote.keys import AssetKeys, SentPlan, checked_key
from unmask.federated.samples import FederatedError, Side

Secrets = Mapping[str, Secret | None]  # by organisation; None where there is none here


def sent_from(network: Network, keys: AssetKeys) -> dict[str, SentPlan]:
    """Return the plans that the submitter sent to this network, by digest.

    Raises:
        FederatedError: there is none.
    """
    here = node_of(network)
    plans = {digest: sent for digest, sent in keys.plans.items() if sent.node == here}
    if not plans:
        raise FederatedError(
            f"Asked for the plans of {network.submitter}; {keys.path} has none that was sent to "
            f"{here}. Send one: `unmask federated submit`."
        )
    return plans


def read_others_keys(network: Network, keys: AssetKeys) -> None:
    """Take what owners registered themselves into the keys."""
    for name, member in network.organisations.items():
        if member.keys is not None:
            if not member.keys.exists():
                raise FederatedError(
                    f"Asked for what {name} registered, in {member.keys}; it is not there. Ask "
                    f"{name} for it: `unmask federated register` writes it."
                )
            keys.assets = AssetKeys(member.keys).assets | keys.assets


@dataclass(frozen=True)
class Sent:
    """What a submission says while it goes on."""

    owner: str
    name: str
    is_new: bool  # False: it was there


def preview(
    network: Network, plans: Sequence[Plan], members: Mapping[str, Organisation], assets: Assets,
    keys: AssetKeys,
) -> list[Sent]:  # fmt: skip
    """Return what would be sent, in order; sends nothing."""
    wanted = wanted_by(network, plans, members, assets)
    found = [Sent(each.owner, each.name, each.digest not in keys.assets) for each in wanted]
    for plan in plans:
        known = keys.plans.get(plan_digest(network, plan, members, assets))
        name = f"plan {plan.name}, {len(plan.tasks)} tasks"
        found.append(Sent(network.submitter, name, known is None or not known.is_sent))
    return found


def check_sendable(wanted: Sequence[Wanted], keys: AssetKeys, secrets: Secrets) -> None:
    """Pass if all that is not registered yet can be, from here.

    Raises:
        FederatedError: its owner's secret or a sample's folder is not here.
    """
    for each in wanted:
        if each.digest in keys.assets:
            continue
        if secrets.get(each.owner) is None:
            raise FederatedError(
                f"Asked for {each.name} of {each.owner}; it is in no {keys.path.name} here, and "
                f"nothing here opens {each.owner}'s node. Ask {each.owner} to `unmask federated "
                "register` with the same organisations.yaml and this version, and name its file "
                "as keys; or set its variables. Nothing was sent."
            )
        if each.folder is not None and not each.folder.is_dir():
            raise FederatedError(
                f"Asked to register {each.name}; {each.folder} is not there. Make it: `unmask "
                "federated samples`. Nothing was sent."
            )


def register(
    network: Network, wanted: Sequence[Wanted], keys: AssetKeys, secrets: Secrets
) -> Iterator[Sent]:
    """Yield each asset when it is on the network; those that are in keys are not sent.

    Raises:
        FederatedError: something can't be sent, or a node did not take it: then go on later.
    """
    check_sendable(wanted, keys, secrets)
    owners = {each.owner for each in wanted if each.digest not in keys.assets}
    with ExitStack() as stack:
        nodes = {name: _open(stack, network, name, secrets) for name in sorted(owners)}
        yield from _register(nodes, wanted, keys)


@contextmanager
def submitter_node(network: Network, secrets: Secrets) -> Iterator[Node]:
    """Open the submitter's node.

    Raises:
        FederatedError: its secret is not here, or is refused.
    """
    with ExitStack() as stack:
        yield _open(stack, network, network.submitter, secrets)


def _open(stack: ExitStack, network: Network, name: str, secrets: Secrets) -> Node:
    member, secret = network.organisations[name], secrets.get(name)
    if secret is None:
        token, username, password = member.variables
        raise FederatedError(
            f"Asked for {name}'s node at {member.url}; nothing here opens it. Set {token}, or "
            f"{username} and {password}, in the environment."
        )
    node = stack.enter_context(opened(name, member, secret))
    check_known(node, [each.id for each in network.organisations.values()])
    return node


def _register(
    nodes: Mapping[str, Node], wanted: Sequence[Wanted], keys: AssetKeys
) -> Iterator[Sent]:
    for each in wanted:
        is_new = each.digest not in keys.assets
        if is_new:
            node, key = nodes[each.owner], None
            if keys.pending == each.digest:  # it was sent, and the answer lost: is it there?
                key = _find(node, each, keys)
            if key is None:
                keys.announce(each.digest)
                key = _send(node, each, keys)
            keys.add(each.digest, key)
        yield Sent(each.owner, each.name, is_new)


def _send(node: Node, each: Wanted, keys: AssetKeys) -> str:
    with node.asking(f"take the {each.name}"):
        match each.spec:
            case schemas.FunctionSpec():
                return checked_key(node.client.add_function(each.spec))
            case schemas.DatasetSpec():
                return checked_key(node.client.add_dataset(each.spec))
            case _:
                assert each.folder is not None
                spec = schemas.DataSampleSpec(
                    path=each.folder, data_manager_keys=[keys.assets[each.dataset]]
                )
                # One a request: so it is known which of them a lost answer was about.
                return checked_key(node.client.add_data_sample(spec))


def _find(node: Node, each: Wanted, keys: AssetKeys) -> str | None:
    """Return the key of what was sent without an answer; None where it did not arrive."""
    with node.asking(f"look for the {each.name}"):
        if each.spec is None:
            dataset = node.client.get_dataset(keys.assets[each.dataset])
            found = set(dataset.data_sample_keys) - set(keys.assets.values())
        else:
            many: Sequence[models.Function | models.Dataset] = (
                node.client.list_function({"owner": [node.member.id]})
                if isinstance(each.spec, schemas.FunctionSpec)
                else node.client.list_dataset({"owner": [node.member.id]})
            )
            found = {one.key for one in many if one.metadata.get("asset") == each.digest}
        if each.spec is not None:
            return min(found, default=None)  # copies of one archive: any will do
    if len(found) > 1:
        raise FederatedError(
            f"Asked {node.name}'s node which sample of its dataset is {each.name}, whose answer "
            f"was lost; {len(found)} are there that {keys.path} does not know. Who else registers "
            "into this dataset? Restore their assets_keys.json."
        )
    return min(found, default=None)


def submit(
    network: Network,
    plans: Sequence[Plan],
    members: Mapping[str, Organisation],
    assets: Assets,
    keys: AssetKeys,
    secrets: Secrets,
) -> Iterator[Sent]:
    """Yield each asset and plan when it is on the network; what is there is not sent again.

    Raises:
        FederatedError: a plan is refused, before anything is sent; or a node did not take
            something: then go on later.
    """
    check(plans, network, members)
    wanted = wanted_by(network, plans, members, assets)
    check_sendable(wanted, keys, secrets)
    owners = {each.owner for each in wanted if each.digest not in keys.assets}
    with ExitStack() as stack:
        # All are opened first: a wrong password is found before anything is registered.
        names = sorted({network.submitter, *owners})
        nodes = {name: _open(stack, network, name, secrets) for name in names}
        yield from _register(nodes, wanted, keys)
        for plan in plans:
            digest = plan_digest(network, plan, members, assets)
            known = keys.plans.get(digest)
            if known is None or not known.is_sent:
                sent = known or _new_plan(network, plan, members, assets)
                keys.add_plan(digest, sent)  # its keys are ours: sent twice, it is one plan
                _send_plan(
                    nodes[network.submitter], plan, sent,
                    _keys_of(network, plan, members, assets, keys, sent),
                )  # fmt: skip
                keys.add_plan(digest, replace(sent, is_sent=True))
            yield Sent(network.submitter, f"plan {plan.name}", known is None or not known.is_sent)


def _new_plan(
    network: Network, plan: Plan, members: Mapping[str, Organisation], assets: Assets
) -> SentPlan:
    tested = {task.organisation for task in plan.tasks if task.reads == "test"}
    return SentPlan(
        plan=json.loads(json.dumps(asdict(plan))), node=node_of(network), key=str(uuid.uuid4()),
        tasks={task.name: str(uuid.uuid4()) for task in plan.tasks},
        functions=assets.digests_for(plan),
        samples=leaderboard.samples_digest(s.name for m in members.values() for s in m.samples),
        videos={
            name: sum(s.reals + s.fakes for s in members[name].samples if s.side == "test")
            for name in sorted(tested)
        },
    )  # fmt: skip


def _keys_of(
    network: Network, plan: Plan, members: Mapping[str, Organisation], assets: Assets,
    keys: AssetKeys, sent: SentPlan,
) -> specs.Keys:  # fmt: skip
    datasets: dict[tuple[str, Side], str] = {}
    samples: dict[tuple[str, Side], list[str]] = {}
    for name, side in {(task.organisation, task.reads) for task in plan.tasks if task.reads}:
        dataset, *own = wanted_data(network, members[name], assets.opener, [side])
        datasets[name, side] = keys.assets[dataset.digest]
        samples[name, side] = [keys.assets[each.digest] for each in own]
    functions = {
        each.name.removeprefix("function "): keys.assets[each.digest]
        for each in wanted_functions(network, [plan], assets)
    }
    ids = {name: member.id for name, member in network.organisations.items()}
    return specs.Keys(ids, functions, datasets, samples, sent.tasks)


def _send_plan(node: Node, plan: Plan, sent: SentPlan, keys: specs.Keys) -> None:
    tasks = [specs.task_spec(task, keys) for task in plan.tasks]
    with node.asking(f"take the plan {plan.name}"):
        # Asked first, as the SDK stumbles over the answer that a plan is there already.
        try:
            node.client.get_compute_plan(sent.key)
        except exceptions.NotFound:
            spec = schemas.ComputePlanSpec(key=sent.key, name=plan.name, tag="unmask", tasks=tasks)
            node.client.add_compute_plan(spec)
        else:  # tasks that are there are left as they are
            more = schemas.UpdateComputePlanTasksSpec(key=sent.key, tasks=tasks)
            node.client.add_compute_plan_tasks(sent.key, more)
